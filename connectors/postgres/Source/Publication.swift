import WeirCore
import WeirPostgresClient

/// What the catalogue says about a publication (CORRECTNESS 77).
struct Publication: Sendable, Equatable {
    /// One entry of its list of tables.
    struct Entry: Sendable, Equatable {
        let oid: UInt32
        let hasFilter: Bool
        let hasColumnList: Bool
    }

    /// One configured table that it sends, however it came into it.
    struct Table: Sendable, Equatable {
        let name: TableName
        /// SQL.
        let filter: String?
        /// Columns that are left out, as SQL; nil when none is.
        let missingColumns: String?
    }

    var isForAllTables: Bool
    var publishesViaRoot: Bool
    /// Of insert, update, delete, truncate.
    var operations: [String]
    var publishesSchemas: Bool
    var entries: [Entry]
    var tables: [Table]

    static let allOperations = ["insert", "update", "delete", "truncate"]

    var sendsOldRows: Bool { operations.contains("update") || operations.contains("delete") }

    var missingOperations: [String] { Self.allOperations.filter { !operations.contains($0) } }

    static func query(_ name: String, serverVersion: Int) -> String {
        let schemas =
            serverVersion >= 150000
            ? "EXISTS (SELECT FROM pg_catalog.pg_publication_namespace n WHERE n.pnpubid = p.oid)"
            : "false"
        return "SELECT puballtables, pubviaroot, pubinsert, pubupdate, pubdelete, pubtruncate, "
            + "\(schemas) FROM pg_catalog.pg_publication p "
            + "WHERE pubname = \(PostgresConnection.literal(name))"
    }

    static func entriesQuery(_ name: String, serverVersion: Int) -> String {
        let parts =
            serverVersion >= 150000
            ? "r.prqual IS NOT NULL, r.prattrs IS NOT NULL" : "false, false"
        return "SELECT r.prrelid, \(parts) FROM pg_catalog.pg_publication p "
            + "JOIN pg_catalog.pg_publication_rel r ON r.prpubid = p.oid "
            + "WHERE p.pubname = \(PostgresConnection.literal(name)) ORDER BY 1"
    }

    static func tablesQuery(
        _ name: String, _ tables: [TableName], serverVersion: Int
    ) -> String {
        let missing =
            "(SELECT pg_catalog.string_agg(pg_catalog.quote_ident(a.attname), ', ' "
            + "ORDER BY a.attnum) FROM pg_catalog.pg_attribute a WHERE a.attrelid = c.oid "
            + "AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = '' "
            + "AND a.attname <> ALL (p.attnames))"
        let parts = serverVersion >= 150000 ? "p.rowfilter, \(missing)" : "NULL, NULL"
        return "SELECT n.nspname, c.relname, \(parts) FROM pg_catalog.pg_publication_tables p "
            + "JOIN pg_catalog.pg_namespace n ON n.nspname = p.schemaname "
            + "JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname = p.tablename "
            + "WHERE p.pubname = \(PostgresConnection.literal(name)) "
            + "AND \(CatalogueSQL.isNamed(tables)) ORDER BY 1, 2"
    }

    /// One text that changes whenever the publication does (CORRECTNESS 36): its number, a digest
    /// of its options, tables, column lists and row filters, and its name. Not of the tables'
    /// columns.
    static func fingerprintQuery(_ name: String) -> String {
        "(SELECT p.oid || ' ' || md5(p::text "
            + "|| coalesce((SELECT string_agg(schemaname || '.' || tablename, ',' "
            + "ORDER BY schemaname, tablename) FROM pg_catalog.pg_publication_tables t "
            + "WHERE t.pubname = p.pubname), '') "
            + "|| coalesce((SELECT string_agg(r::text, ',' ORDER BY r.oid) "
            + "FROM pg_catalog.pg_publication_rel r WHERE r.prpubid = p.oid), '')) "
            + "|| ' ' || p.pubname FROM pg_catalog.pg_publication p "
            + "WHERE p.pubname = \(PostgresConnection.literal(name)))"
    }

    /// One text that changes with the publication or with a followed table: names, numbers, files,
    /// identities, columns, partitions, enums, also when it was changed back. Cheap enough for
    /// every other second, and without a lock.
    static func watchQuery(
        _ name: String, _ tables: [TableName], serverVersion: Int
    ) -> String {
        let schemas =
            serverVersion >= 150000
            ? "|| coalesce((SELECT string_agg(s::text, ',' ORDER BY s.oid) "
                + "FROM pg_catalog.pg_publication_namespace s WHERE s.pnpubid = p.oid), '')" : ""
        let columns =
            "coalesce((SELECT string_agg(a.attrelid || ':' || a.attnum || ':' || a.xmin, ',' "
            + "ORDER BY a.attrelid, a.attnum) FROM pg_catalog.pg_class c "
            + "JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace "
            + "JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 "
            + "WHERE \(CatalogueSQL.isNamed(tables))), '')"
        return "SELECT md5(coalesce((SELECT p::text || p.xmin "
            + "|| coalesce((SELECT string_agg(r::text || r.xmin, ',' ORDER BY r.oid) "
            + "FROM pg_catalog.pg_publication_rel r WHERE r.prpubid = p.oid), '') \(schemas) "
            + "FROM pg_catalog.pg_publication p "
            + "WHERE p.pubname = \(PostgresConnection.literal(name))), '') || \(columns) || "
            + "coalesce((SELECT string_agg(f::text, ';' ORDER BY f::text) FROM ("
            + TableFacts.query(tables, serverVersion: serverVersion) + ") f), '') || "
            + "coalesce((SELECT string_agg(e.oid || ':' || e.xmin, ',' ORDER BY e.oid) "
            + "FROM pg_catalog.pg_enum e), '') || "
            + "coalesce((SELECT string_agg(a.attrelid || ':' || a.attnum || ':' || a.xmin, ',' "
            + "ORDER BY a.attrelid, a.attnum) FROM pg_catalog.pg_class c "
            + "JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 "
            + "WHERE c.relkind = 'c'), ''))"
    }

    /// Whether two fingerprints are of one name, but of two publications.
    static func isRecreated(_ before: String, _ now: String) -> Bool {
        let before = before.split(separator: " ", maxSplits: 2)
        let now = now.split(separator: " ", maxSplits: 2)
        return before.count == 3 && now.count == 3 && before[2] == now[2] && before[0] != now[0]
    }

    init?(row: TextRow?, entries: [TextRow], tables: [TextRow]) {
        guard let row, row.count == 7 else { return nil }
        isForAllTables = row[0] == "t"
        publishesViaRoot = row[1] == "t"
        operations = Self.allOperations.indices.filter { row[$0 + 2] == "t" }
            .map { Self.allOperations[$0] }
        publishesSchemas = row[6] == "t"
        self.entries = entries.compactMap { row in
            guard row.count == 3, let oid = row[0].flatMap({ UInt32($0) }) else { return nil }
            return Entry(oid: oid, hasFilter: row[1] == "t", hasColumnList: row[2] == "t")
        }
        self.tables = tables.compactMap { row in
            guard row.count == 4 else { return nil }
            return Table(
                name: TableName(schema: row[0] ?? "", name: row[1] ?? ""), filter: row[2],
                missingColumns: row[3])
        }
    }
}
