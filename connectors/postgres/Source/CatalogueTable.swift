import WeirCore
import WeirPostgresClient

/// A table as the catalogue has it now: what the stream's description leaves out, and all that the
/// stream would say of it.
struct CatalogueTable: Sendable, Equatable {
    struct Column: Sendable, Equatable {
        /// `pg_attribute.attnum`.
        let number: Int
        let name: String
        let type: UInt32
        let modifier: Int32
        /// With length or precision; a domain under its own name.
        let declaredType: String
        let isNotNull: Bool
        /// Belongs to the replica identity.
        let isIdentity: Bool
        /// The type as the stream names it: below a domain the one it is made of.
        let typeSchema: String
        let typeName: String
        /// Its place in the primary key.
        let keyPlace: Int?
        /// The table is partitioned by it.
        let isPartitionKey: Bool
        /// An UPDATE may set it to what it is.
        let isAssignable: Bool
        /// Its collation takes texts that differ for equal.
        let isLoose: Bool
        let isGenerated: Bool
        /// Its values may lie outside of the row, and an UPDATE sends those only that it changes.
        let isToastable: Bool
    }

    let database: String
    let name: TableName
    let oid: UInt32
    /// `r` table, `p` partitioned table; rows of others are never streamed.
    let kind: String
    let replicaIdentity: UInt8
    let isPublished: Bool
    /// SQL, where the publication has one.
    let rowFilter: String?
    let columns: [Column]
    /// The different identities of its partitions; empty when it has none.
    var leaves: [LeafIdentity] = []
    /// Some of its values lie outside of their rows.
    var hasOutsideValues = false

    /// The primary key in its own order.
    var primaryKey: [String] {
        columns.filter { $0.keyPlace != nil }.sorted { ($0.keyPlace ?? 0) < ($1.keyPlace ?? 0) }
            .map(\.name)
    }

    /// The partition whose identity fits neither its root's nor the other partitions': no columns
    /// would name a row of all of them (CORRECTNESS 74).
    var misfit: LeafIdentity? {
        let keyed = leaves.filter(\.hasKey)
        guard let first = keyed.first else { return nil }
        if let key = rootKey {
            return keyed.first { leaf in !key.allSatisfy(leaf.columns.contains) }
        }
        return keyed.first { Set($0.columns) != Set(first.columns) }
    }

    /// Its partitions have a key and it has none, and that key is unique within each partition
    /// only.
    var hasKeyPerPartition: Bool {
        guard rootKey == nil, let keyed = leaves.first(where: \.hasKey) else { return false }
        return !columns.filter(\.isPartitionKey).allSatisfy { keyed.columns.contains($0.number) }
    }

    /// By `attnum`: its own primary key, or other identity but that of the whole row.
    private var rootKey: [Int]? {
        let primaryKey = columns.filter { $0.keyPlace != nil }.map(\.number)
        let identity = columns.filter(\.isIdentity).map(\.number)
        if !primaryKey.isEmpty, primaryKey.allSatisfy(identity.contains) { return primaryKey }
        return identity.isEmpty || replicaIdentity == UInt8(ascii: "f") ? nil : identity
    }

    /// - Parameters:
    ///   - condition: on the table `c` of schema `n`.
    ///   - publication: asks for what it sends of the table; nil for all columns.
    static func query(
        where condition: String, publication: String? = nil, serverVersion: Int
    ) -> String {
        let hasLists = serverVersion >= 150000
        var isSent: [String] = []
        if publication != nil {
            if hasLists { isSent.append("a.attname = ANY (p.attnames)") }
            // From 18 on a publication may have generated columns, and lists them.
            if serverVersion < 180000 { isSent.append("a.attgenerated = ''") }
        }
        let published =
            publication.map {
                "LEFT JOIN pg_catalog.pg_publication_tables p ON p.schemaname = n.nspname "
                    + "AND p.tablename = c.relname "
                    + "AND p.pubname = \(PostgresConnection.literal($0)) "
            } ?? ""
        let isIdentity =
            "c.relreplident = 'f' OR EXISTS (SELECT FROM pg_catalog.pg_index i "
            + "WHERE i.indrelid = c.oid AND \(CatalogueSQL.isIdentity(of: "c")) "
            + "AND a.attnum = ANY (\(CatalogueSQL.keyColumns)))"
        let keyPlace =
            "(SELECT k.place FROM pg_catalog.pg_index i, unnest(\(CatalogueSQL.keyColumns)) "
            + "WITH ORDINALITY k(attnum, place) WHERE i.indrelid = c.oid AND i.indisprimary "
            + "AND k.attnum = a.attnum)"
        let isPartitionKey =
            "EXISTS (SELECT FROM pg_catalog.pg_partitioned_table pt WHERE pt.partrelid = c.oid "
            + "AND a.attnum = ANY (pt.partattrs::pg_catalog.int2[]))"
        let filter = publication != nil && hasLists ? "p.rowfilter" : "NULL"
        return "SELECT pg_catalog.current_database(), n.nspname, c.relname, c.oid, c.relkind, "
            + "c.relreplident, \(publication == nil ? "true" : "p.pubname IS NOT NULL"), "
            + "\(filter), a.attnum, a.attname, a.atttypid, a.atttypmod, "
            + "pg_catalog.format_type(a.atttypid, a.atttypmod), a.attnotnull, \(isIdentity), "
            + "b.nspname, b.typname, \(keyPlace), \(isPartitionKey), "
            + "a.attgenerated = '' AND a.attidentity <> 'a', "
            + "EXISTS (SELECT FROM pg_catalog.pg_collation o WHERE o.oid = a.attcollation "
            + "AND NOT o.collisdeterministic), a.attgenerated <> '', "
            + "a.attlen = -1 AND a.attstorage <> 'p' FROM pg_catalog.pg_class c "
            + "JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \(published)"
            + "\(CatalogueSQL.source(where: isSent)) \(CatalogueSQL.baseType) "
            + "WHERE \(condition) ORDER BY n.nspname, c.relname, a.attnum"
    }

    static func isNumbered(_ oid: UInt32) -> String { "c.oid = \(oid)" }

    /// The tables of which some values lie outside of their rows.
    static func outsideQuery(_ tables: [TableName]) -> String {
        "SELECT c.oid FROM pg_catalog.pg_class c "
            + "JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace "
            + "WHERE \(CatalogueSQL.isNamed(tables)) "
            + "AND EXISTS (SELECT FROM (SELECT c.oid UNION ALL "
            + "\(CatalogueSQL.leaves)) m(oid) JOIN pg_catalog.pg_class l ON l.oid = m.oid "
            + "WHERE l.reltoastrelid <> 0 AND pg_catalog.pg_relation_size(l.reltoastrelid) > 0)"
    }

    /// One for each table, in the order of the rows.
    static func tables(_ rows: [TextRow], leaves: [TextRow]) -> [CatalogueTable] {
        var leavesByRoot: [UInt32: [LeafIdentity]] = [:]
        for row in leaves {
            guard let leaf = LeafIdentity(row: row) else { continue }
            leavesByRoot[leaf.root, default: []].append(leaf)
        }
        var tables: [CatalogueTable] = []
        var start = 0
        for end in 1...max(1, rows.count)
        where end == rows.count || end < rows.count && rows[end][3] != rows[start][3] {
            if var table = CatalogueTable(rows: rows[start..<end]) {
                table.leaves = leavesByRoot[table.oid] ?? []
                tables.append(table)
            }
            start = end
        }
        return tables
    }

    /// Of what `query` asks.
    static let columnCount = 23

    /// Nil when there is no such table.
    init?(rows: ArraySlice<TextRow>) {
        guard let first = rows.first, first.count == Self.columnCount,
            let oid = first[3].flatMap({ UInt32($0) })
        else { return nil }
        database = first[0] ?? ""
        name = TableName(schema: first[1] ?? "", name: first[2] ?? "")
        self.oid = oid
        kind = first[4] ?? ""
        replicaIdentity = first[5]?.utf8.first ?? 0
        isPublished = first[6] == "t"
        rowFilter = first[7]
        columns = rows.compactMap(Column.init(row:))
    }
}

extension CatalogueTable.Column {
    fileprivate init?(row: TextRow) {
        guard let number = row[8].flatMap({ Int($0) }), let name = row[9],
            let type = row[10].flatMap({ UInt32($0) })
        else { return nil }
        self.number = number
        self.name = name
        self.type = type
        modifier = row[11].flatMap { Int32($0) } ?? -1
        declaredType = row[12] ?? ""
        isNotNull = row[13] == "t"
        isIdentity = row[14] == "t"
        typeSchema = row[15] ?? ""
        typeName = row[16] ?? ""
        keyPlace = row[17].flatMap { Int($0) }
        isPartitionKey = row[18] == "t"
        isAssignable = row[19] == "t"
        isLoose = row[20] == "t"
        isGenerated = row[21] == "t"
        isToastable = row[22] == "t"
    }
}

/// What partitions of a table write of an old row, and the first partition that does so. Only
/// partitions whose changes are sent count: not foreign or unlogged ones.
struct LeafIdentity: Sendable, Equatable {
    let root: UInt32
    let partition: TableName
    /// Every column.
    let isWhole: Bool
    /// In the identity's own order, by the root's `attnum`; empty for none.
    let columns: [Int]

    /// Some columns, and not all.
    var hasKey: Bool { !isWhole && !columns.isEmpty }

    /// - Parameter condition: on the partitioned table `c` of schema `n`.
    static func query(where condition: String) -> String {
        "SELECT DISTINCT ON (c.oid, 4, 5) c.oid, ln.nspname, l.relname, l.relreplident = 'f', "
            + "coalesce(x.numbers, '') FROM pg_catalog.pg_class c "
            + "JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace "
            + "CROSS JOIN LATERAL (\(CatalogueSQL.leaves)) t "
            + "JOIN pg_catalog.pg_class l ON l.oid = t.oid "
            + "JOIN pg_catalog.pg_namespace ln ON ln.oid = l.relnamespace "
            + "LEFT JOIN LATERAL (SELECT pg_catalog.string_agg(r.attnum::pg_catalog.text, ',' "
            + "ORDER BY k.place) AS numbers FROM pg_catalog.pg_index i, "
            + "unnest(\(CatalogueSQL.keyColumns)) WITH ORDINALITY k(attnum, place) "
            + "JOIN pg_catalog.pg_attribute la ON la.attnum = k.attnum "
            + "JOIN pg_catalog.pg_attribute r ON r.attname = la.attname "
            + "WHERE i.indrelid = l.oid AND \(CatalogueSQL.isIdentity(of: "l")) "
            + "AND la.attrelid = l.oid AND r.attrelid = c.oid) x ON true "
            + "WHERE \(condition) AND c.relkind = 'p' AND l.relkind = 'r' "
            + "AND l.relpersistence = 'p' ORDER BY c.oid, 4, 5, ln.nspname, l.relname"
    }

    static let columnCount = 5

    init?(row: TextRow) {
        guard row.count == Self.columnCount, let root = row[0].flatMap({ UInt32($0) }) else {
            return nil
        }
        self.root = root
        partition = TableName(schema: row[1] ?? "", name: row[2] ?? "")
        isWhole = row[3] == "t"
        columns = (row[4] ?? "").split(separator: ",").compactMap { Int($0) }
    }
}

/// What look-ups of tables and columns ask in the same words.
enum CatalogueSQL {
    /// The columns of a table `c`, `a`, under further conditions.
    static func source(where conditions: [String]) -> String {
        let all = ["a.attrelid = c.oid", "a.attnum > 0", "NOT a.attisdropped"] + conditions
        return "LEFT JOIN pg_catalog.pg_attribute a ON \(all.joined(separator: " AND "))"
    }

    static let source =
        "FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace "
        + source(where: [])

    /// The type `b` that a column's type is, or is a domain over.
    static let baseType =
        "LEFT JOIN LATERAL (WITH RECURSIVE d AS (SELECT t.* FROM pg_catalog.pg_type t "
        + "WHERE t.oid = a.atttypid UNION ALL SELECT t.* FROM d JOIN pg_catalog.pg_type t "
        + "ON t.oid = d.typbasetype WHERE d.typtype = 'd') SELECT d.*, tn.nspname FROM d "
        + "JOIN pg_catalog.pg_namespace tn ON tn.oid = d.typnamespace WHERE d.typtype <> 'd') b "
        + "ON true"

    static func isNamed(_ tables: [TableName]) -> String {
        let names = tables.map {
            "(\(PostgresConnection.literal($0.schema)), \(PostgresConnection.literal($0.name)))"
        }
        return "(n.nspname, c.relname) IN (\(names.joined(separator: ", ")))"
    }

    /// CORRECTNESS 72: whether an index `i` of a table is its replica identity, as the server sees
    /// it. One that is deferrable, partial or not yet valid is none, whatever it is named as.
    static func isIdentity(of table: String) -> String {
        "CASE \(table).relreplident WHEN 'd' THEN i.indisprimary "
            + "WHEN 'i' THEN i.indisreplident ELSE false END AND i.indislive AND i.indisvalid "
            + "AND i.indisunique AND i.indimmediate AND i.indpred IS NULL"
    }

    /// The leaves of a partitioned table `c`. `pg_partition_tree` would wait for whoever alters one
    /// of them.
    static let leaves =
        "WITH RECURSIVE tree(oid) AS (SELECT h.inhrelid FROM pg_catalog.pg_inherits h "
        + "WHERE h.inhparent = c.oid AND NOT h.inhdetachpending UNION ALL SELECT h.inhrelid FROM tree "
        + "JOIN pg_catalog.pg_inherits h ON h.inhparent = tree.oid "
        + "AND NOT h.inhdetachpending) "
        + "SELECT x.oid FROM tree JOIN pg_catalog.pg_class x ON x.oid = tree.oid "
        + "WHERE x.relkind <> 'p'"

    /// The numbers of the columns of an index `i`, without those it only includes.
    static let keyColumns = "(i.indkey::pg_catalog.int2[])[0:i.indnkeyatts - 1]"
}
