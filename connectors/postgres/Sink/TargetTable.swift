import WeirCore
import WeirPostgresClient

/// A column of the target.
struct TargetColumn: Sendable, Equatable {
    let name: String
    /// The type's name without schema and modifiers, such as `int4`.
    let type: String
    /// The type as SQL, with schema and modifiers.
    let sqlType: String
    /// The server computes it: it cannot be written.
    let isGenerated: Bool
    /// GENERATED ALWAYS AS IDENTITY: an UPDATE cannot set it.
    let isAlwaysIdentity: Bool
    /// What a comment on it says; our own tsvector columns carry one.
    let comment: String?
    /// A row without it is refused.
    let isDemanded: Bool
}

/// A table of the target as its catalogue describes it.
struct TargetTable: Sendable, Equatable {
    let name: TableName
    let oid: UInt32
    let columns: [TargetColumn]
    /// The column names of each index that can say which row is meant: unique, complete, and
    /// checked at once.
    let uniqueKeys: [[String]]
    /// The tables its foreign keys refer to.
    let parents: [UInt32]
    /// Foreign keys or triggers would see a row go that comes again.
    let isWatched: Bool
    /// The end of a row changes or ends rows that refer to it.
    let isCascading: Bool
    /// Some constraint of it, or to it, may wait for the commit.
    let isDeferring: Bool

    func column(_ name: String) -> TargetColumn? { columns.first { $0.name == name } }

    func hasUniqueKey(on names: [String]) -> Bool {
        uniqueKeys.contains { $0.count == names.count && Set($0) == Set(names) }
    }

    // MARK: Catalogue

    static func lookUp(_ name: TableName) -> String {
        """
        SELECT c.oid, c.relkind FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n \
        ON n.oid = c.relnamespace WHERE n.nspname = \(PostgresConnection.literal(name.schema)) \
        AND c.relname = \(PostgresConnection.literal(name.name))
        """
    }

    static func columnsQuery(_ oid: UInt32) -> String {
        """
        SELECT a.attname, t.typname, pg_catalog.format_type(a.atttypid, a.atttypmod), \
        a.attgenerated, a.attidentity, pg_catalog.col_description(a.attrelid, a.attnum), \
        a.attnotnull AND NOT a.atthasdef AND a.attidentity = '' \
        FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_type t ON t.oid = a.atttypid \
        WHERE a.attrelid = \(oid) AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum
        """
    }

    /// One row per column of an index.
    static func keysQuery(_ oid: UInt32) -> String {
        """
        SELECT i.indexrelid, a.attname FROM pg_catalog.pg_index i, \
        pg_catalog.unnest((i.indkey::pg_catalog.int2[])[0:i.indnkeyatts - 1]) k(attnum) \
        JOIN pg_catalog.pg_attribute a ON a.attnum = k.attnum \
        WHERE i.indrelid = \(oid) AND a.attrelid = i.indrelid AND i.indisunique \
        AND i.indimmediate AND i.indisvalid AND i.indpred IS NULL AND i.indexprs IS NULL \
        ORDER BY i.indexrelid
        """
    }

    static func parentsQuery(_ oid: UInt32) -> String {
        """
        SELECT DISTINCT confrelid FROM pg_catalog.pg_constraint \
        WHERE contype = 'f' AND conrelid = \(oid) AND confrelid <> \(oid)
        """
    }

    /// Whether it is watched, cascading and deferring.
    static func usesQuery(_ oid: UInt32) -> String {
        """
        SELECT EXISTS (SELECT FROM pg_catalog.pg_constraint WHERE contype = 'f' \
        AND confrelid = \(oid)) OR EXISTS (SELECT FROM pg_catalog.pg_trigger \
        WHERE tgrelid = \(oid) AND NOT tgisinternal), \
        EXISTS (SELECT FROM pg_catalog.pg_constraint WHERE contype = 'f' \
        AND confrelid = \(oid) AND confdeltype IN ('c', 'n', 'd')), \
        EXISTS (SELECT FROM pg_catalog.pg_trigger WHERE tgrelid = \(oid) AND tgdeferrable)
        """
    }
}

extension TargetColumn {
    init?(_ row: TextRow) {
        guard row.count == 7, let name = row[0], let type = row[1], let sqlType = row[2] else {
            return nil
        }
        self.init(
            name: name, type: type, sqlType: sqlType, isGenerated: row[3]?.isEmpty == false,
            isAlwaysIdentity: row[4] == "a", comment: row[5], isDemanded: row[6] == "t")
    }
}

/// Reads the catalogue of the target. Blocks.
struct TargetCatalogue {
    let connection: PostgresConnection

    /// Nil when there is no such table.
    ///
    /// - Throws: `targetUnfit` when it is no table.
    func table(_ name: TableName) throws(TargetFailure) -> TargetTable? {
        guard let row = try query(TargetTable.lookUp(name)).first,
            let oid = row[0].flatMap({ UInt32($0) })
        else { return nil }
        guard ["r", "p"].contains(row[1]) else {
            throw .weir(
                WeirError(
                    .targetUnfit, .blocked, "the target \"\(name)\" is no table",
                    hint: "Name an ordinary or partitioned table."))
        }
        let columns = try query(TargetTable.columnsQuery(oid)).compactMap(TargetColumn.init)
        var keys: [(index: String, names: [String])] = []
        for row in try query(TargetTable.keysQuery(oid)) {
            guard let index = row[0], let column = row[1] else { continue }
            if keys.last?.index == index {
                keys[keys.count - 1].names.append(column)
            } else {
                keys.append((index, [column]))
            }
        }
        let parents = try query(TargetTable.parentsQuery(oid)).compactMap {
            $0[0].flatMap { UInt32($0) }
        }
        let uses = try query(TargetTable.usesQuery(oid)).first ?? [nil, nil, nil]
        return TargetTable(
            name: name, oid: oid, columns: columns, uniqueKeys: keys.map(\.names),
            parents: parents, isWatched: uses[0] == "t", isCascading: uses[1] == "t",
            isDeferring: uses[2] == "t")
    }

    /// The names of types, as SQL, that the target knows.
    func known(_ types: Set<String>) throws(TargetFailure) -> Set<String> {
        guard !types.isEmpty else { return [] }
        let list = types.sorted().map(PostgresConnection.literal).joined(separator: ", ")
        let rows = try query(
            "SELECT name FROM pg_catalog.unnest(ARRAY[\(list)]) name "
                + "WHERE pg_catalog.to_regtype(name) IS NOT NULL")
        return Set(rows.compactMap { $0[0] })
    }

    private func query(_ sql: String) throws(TargetFailure) -> [TextRow] {
        do { return try connection.query(sql) } catch { throw .server(error) }
    }
}

/// Why work at the target ended: its server said so, or we did.
enum TargetFailure: Error {
    case server(PostgresFailure)
    case weir(WeirError)
    /// A row is refused because another has its value, which it may give up later in the
    /// transaction.
    case taken(WeirError)

    /// Some row is the reason, and the session still works.
    var isOfRows: Bool {
        switch self {
        case .server: false
        case .weir, .taken: true
        }
    }
}
