import WeirCore
import WeirPostgresClient

// The statements that read rows beside the stream, made from what the catalogue says. Pure.

/// A table as it is now, for finding rows by their keys.
struct TableNow: Sendable, Equatable {
    struct Column: Sendable, Equatable {
        /// As SQL, without length or precision; below a domain the type it is made of.
        let type: String
        /// Its array type can take the text of values. Not of an array: there are no arrays of
        /// arrays.
        let hasArray: Bool
        /// The equality of an index on it. With an empty `search_path` that of an extension's type
        /// would not be found by its name.
        let equality: String
    }
    let columns: [String: Column]

    static func query(_ table: TableName) -> String {
        let equality =
            "LEFT JOIN LATERAL (SELECT opn.nspname, op.oprname FROM pg_catalog.pg_index i, "
            + "unnest(i.indkey::pg_catalog.int2[], i.indclass::pg_catalog.oid[]) k(attnum, class) "
            + "JOIN pg_catalog.pg_opclass oc ON oc.oid = k.class "
            + "JOIN pg_catalog.pg_am m ON m.oid = oc.opcmethod AND m.amname = 'btree' "
            // The third strategy of a B-tree is equality.
            + "JOIN pg_catalog.pg_amop ao ON ao.amopfamily = oc.opcfamily AND ao.amopstrategy = 3 "
            + "AND ao.amoplefttype = oc.opcintype AND ao.amoprighttype = oc.opcintype "
            + "JOIN pg_catalog.pg_operator op ON op.oid = ao.amopopr "
            + "JOIN pg_catalog.pg_namespace opn ON opn.oid = op.oprnamespace "
            + "WHERE i.indrelid = c.oid AND i.indisvalid AND k.attnum = a.attnum "
            + "ORDER BY i.indisprimary DESC, i.indisunique DESC, i.indexrelid LIMIT 1) e ON true "
        // With -1 and not NULL: `character` would be one of length 1.
        return "SELECT a.attname, pg_catalog.format_type(b.oid, -1), "
            + "b.typcategory <> 'A' AND b.typarray <> 0 AND b.typdelim = ',', "
            + "e.nspname, e.oprname \(CatalogueSQL.source) \(CatalogueSQL.baseType) \(equality)"
            + "WHERE \(CatalogueSQL.isNamed([table])) AND c.relkind IN ('r', 'p')"
    }

    /// Nil when there is no such table.
    init?(rows: [TextRow]) {
        if rows.isEmpty { return nil }
        var columns: [String: Column] = [:]
        for row in rows where row.count == 5 {
            guard let name = row[0], let type = row[1] else { continue }
            let equality = row[4].map { oprname in
                "OPERATOR(\(PostgresConnection.identifier(row[3] ?? "pg_catalog")).\(oprname))"
            }
            columns[name] = Column(type: type, hasArray: row[2] == "t", equality: equality ?? "=")
        }
        self.columns = columns
    }
}

/// One statement that finds the rows of many keys. It takes one array literal per key column.
struct KeyedRead: Sendable, Equatable {
    enum Comparison {
        /// By the column's own type, so that its index is used.
        case byType
        /// By the text the server writes: for types without an equality, and for keys that the
        /// column's type of today refuses, of which there is no row. Reads the whole table.
        case byText
    }

    let sql: String
    /// For each column of the schema its place in the statement's result; nil when it is gone.
    let places: [Int?]

    /// Nil when the table has lost a column of the key: then no row has such a key any more.
    init?(_ table: TableNow, _ schema: TableSchema, comparing comparison: Comparison) {
        let key = schema.key.map { schema.columns[$0].name }
        let types = key.compactMap { table.columns[$0] }
        guard types.count == key.count, !key.isEmpty else { return nil }
        var selected: [String] = []
        places = schema.columns.map { column in
            guard table.columns[column.name] != nil else { return nil }
            selected.append("t." + PostgresConnection.identifier(column.name))
            return selected.count - 1
        }
        let name = TableName(schema: schema.schema, name: schema.name).sql
        // Rows of what merely inherits from the table are not its own, those of a partition are.
        // ONLY would do, but for the moment when an ordinary table gives way to a partitioned one.
        let isOwn =
            "(t.tableoid = \(PostgresConnection.literal(name))::pg_catalog.regclass OR (SELECT "
            + "c.relispartition FROM pg_catalog.pg_class c WHERE c.oid = t.tableoid))"
        sql =
            "SELECT \(selected.joined(separator: ", ")) FROM \(name) t "
            + "WHERE \(Self.hasKey(key, types, comparison)) AND \(isOwn)"
    }

    private static func hasKey(
        _ key: [String], _ types: [TableNow.Column], _ comparison: Comparison
    ) -> String {
        let columns = key.map { "t." + PostgresConnection.identifier($0) }
        let isByType = comparison == .byType
        if isByType, key.count == 1, types[0].hasArray {
            return "\(columns[0]) \(types[0].equality) ANY ($1::\(types[0].type)[])"
        }
        var lists: [String] = []
        var conditions: [String] = []
        for (index, type) in types.enumerated() {
            let element = "k.k\(index)"
            lists.append(
                "$\(index + 1)::" + (isByType && type.hasArray ? type.type : "pg_catalog.text")
                    + "[]")
            conditions.append(
                isByType
                    ? "\(columns[index]) \(type.equality) \(element)"
                        + (type.hasArray ? "" : "::\(type.type)")
                    : "pg_catalog.format('%s', \(columns[index])) "
                        + "COLLATE pg_catalog.\"C\" = \(element)")
        }
        let names = types.indices.map { "k\($0)" }.joined(separator: ", ")
        return "EXISTS (SELECT FROM unnest(\(lists.joined(separator: ", "))) k(\(names)) "
            + "WHERE \(conditions.joined(separator: " AND ")))"
    }

    /// The array literal of one column of `keys`. Every element is quoted, so that none is taken
    /// for NULL, a brace or nothing.
    static func arrayLiteral(_ column: Int, of keys: [[[UInt8]]]) -> [UInt8] {
        let (quote, backslash) = (UInt8(ascii: "\""), UInt8(ascii: "\\"))
        var literal = [UInt8(ascii: "{")]
        for (index, key) in keys.enumerated() {
            if index > 0 { literal.append(UInt8(ascii: ",")) }
            literal.append(quote)
            for byte in key[column] {
                if byte == quote || byte == backslash { literal.append(backslash) }
                literal.append(byte)
            }
            literal.append(quote)
        }
        literal.append(UInt8(ascii: "}"))
        return literal
    }
}

/// A table as the stream would describe it, for reading all its rows.
struct ScannedTable: Sendable, Equatable {
    let table: CatalogueTable
    let message: RelationMessage

    /// PostgreSQL's FirstGenbkiObjectId: pgoutput names only types numbered from here.
    private static let firstNamedType: UInt32 = 10000

    init(_ table: CatalogueTable) {
        self.table = table
        message = RelationMessage(
            oid: table.oid, schema: table.name.schema, name: table.name.name,
            replicaIdentity: table.replicaIdentity,
            columns: table.columns.map {
                RelationMessage.Column(
                    isIdentity: $0.isIdentity, name: $0.name, type: $0.type, modifier: $0.modifier)
            })
    }

    /// Made as the stream makes it, so that both have the same columns, types and key.
    ///
    /// - Parameter memory: what is remembered of it, for names of other versions.
    func relation(
        checksAllText: Bool, version: UInt32, memory: TableMemory.Table? = nil
    ) -> Relation {
        var catalogue = RelationCatalogue(
            database: table.database, tables: nil, checksAllText: checksAllText,
            firstVersion: version)
        for column in table.columns where column.type >= Self.firstNamedType {
            catalogue.addType(column.type, schema: column.typeSchema, name: column.typeName)
        }
        return catalogue.relation(message, table: table, memory: memory, isNow: true)
    }

    /// Takes the snapshot after the lock: a table that is rewritten or truncated in between would
    /// look empty.
    static func begin(_ table: TableName) -> String {
        "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET LOCAL statement_timeout = 0; "
            + "LOCK TABLE \(table.sql) IN ACCESS SHARE MODE; "
    }

    /// All rows that the publication sends, with the columns of `message`.
    var sql: String {
        let columns = message.columns.map { PostgresConnection.identifier($0.name) }
        return "SELECT \(columns.joined(separator: ", ")) "
            + "FROM \(table.kind == "p" ? "" : "ONLY ")\(table.name.sql)"
            + (table.rowFilter.map { " WHERE (\($0))" } ?? "")
    }
}
