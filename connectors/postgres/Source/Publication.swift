import WeirCore
import WeirPostgresClient

/// What the catalogue says about a publication and the tables it should hold.
struct Publication: Sendable, Equatable {
    var isForAllTables: Bool
    var publishesViaRoot: Bool
    /// Of insert, update, delete, truncate.
    var operations: Set<String>
    /// Tables listed by name, or all it publishes when it is not a plain list.
    var tables: Set<TableName>
    var publishesSchemas: Bool

    static func query(_ name: String, serverVersion: Int) -> String {
        let schemas =
            serverVersion >= 150000
            ? "EXISTS (SELECT FROM pg_catalog.pg_publication_namespace n WHERE n.pnpubid = p.oid)"
            : "false"
        return "SELECT puballtables, pubviaroot, pubinsert, pubupdate, pubdelete, pubtruncate, "
            + "\(schemas) FROM pg_catalog.pg_publication p "
            + "WHERE pubname = \(PostgresConnection.literal(name))"
    }

    static func tablesQuery(_ name: String) -> String {
        "SELECT schemaname, tablename FROM pg_catalog.pg_publication_tables "
            + "WHERE pubname = \(PostgresConnection.literal(name))"
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

    /// Whether two fingerprints are of one name, but of two publications.
    static func isRecreated(_ before: String, _ now: String) -> Bool {
        let before = before.split(separator: " ", maxSplits: 2)
        let now = now.split(separator: " ", maxSplits: 2)
        return before.count == 3 && now.count == 3 && before[2] == now[2] && before[0] != now[0]
    }

    init?(row: [String?]?, tables: [[String?]]) {
        guard let row, row.count == 7 else { return nil }
        isForAllTables = row[0] == "t"
        publishesViaRoot = row[1] == "t"
        operations = []
        for (index, name) in ["insert", "update", "delete", "truncate"].enumerated()
        where row[index + 2] == "t" {
            operations.insert(name)
        }
        publishesSchemas = row[6] == "t"
        self.tables = Set(
            tables.map { TableName(schema: ($0[0] ?? ""), name: ($0[1] ?? "")) })
    }
}

/// A configured table as the catalogue has it.
struct TableFacts: Sendable, Equatable {
    let name: TableName
    /// `r` table, `p` partitioned table, others cannot be published.
    let kind: String
    let isUnlogged: Bool
    /// The table, or the first of its partitions, of which no UPDATE can be published.
    let exposed: TableName?
    /// It has the whole row for its identity, and generated columns, which are not published.
    let isGenerated: Bool
    /// The first partition that does not write whole old rows though the table promises them.
    let partial: TableName?

    static func query(_ tables: [TableName], serverVersion: Int) -> String {
        // CORRECTNESS 30: a partition has an identity of its own; its root's does not count.
        let leaves =
            "(SELECT ln.nspname, l.relname, l.relreplident FROM pg_catalog.pg_class l "
            + "JOIN pg_catalog.pg_namespace ln ON ln.oid = l.relnamespace "
            + "WHERE l.oid IN (SELECT c.oid WHERE c.relkind <> 'p' UNION "
            + "SELECT relid FROM pg_catalog.pg_partition_tree(c.oid) WHERE isleaf) AND "
        let isGenerated =
            serverVersion >= 180000
            ? "EXISTS (SELECT FROM pg_catalog.pg_attribute a WHERE a.attrelid = l.oid "
                + "AND a.attgenerated <> '' AND NOT a.attisdropped)" : "false"
        let isExposed =
            "CASE l.relreplident WHEN 'f' THEN \(isGenerated) "
            + "ELSE NOT EXISTS (SELECT FROM pg_catalog.pg_index i "
            + "WHERE i.indrelid = l.oid AND CASE l.relreplident WHEN 'i' THEN i.indisreplident "
            + "WHEN 'd' THEN i.indisprimary ELSE false END) END ORDER BY 1, 2 LIMIT 1)"
        return "SELECT n.nspname, c.relname, c.relkind, c.relpersistence <> 'p', "
            + "e.nspname, e.relname, e.relreplident = 'f', p.nspname, p.relname \(source) "
            + "LEFT JOIN LATERAL \(leaves) \(isExposed) e ON true "
            + "LEFT JOIN LATERAL \(leaves) c.relreplident = 'f' AND l.relreplident <> 'f' "
            + "ORDER BY 1, 2 LIMIT 1) p ON true WHERE \(condition(tables))"
    }

    /// The numbers of the tables that have these names now.
    static func numbersQuery(_ tables: [TableName]) -> String {
        "SELECT c.oid \(source) WHERE \(condition(tables))"
    }

    private static let source =
        "FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"

    private static func condition(_ tables: [TableName]) -> String {
        let names = tables.map {
            "(\(PostgresConnection.literal($0.schema)), \(PostgresConnection.literal($0.name)))"
        }
        return "(n.nspname, c.relname) IN (\(names.joined(separator: ", ")))"
    }

    init(row: [String?]) {
        name = TableName(schema: row[0] ?? "", name: row[1] ?? "")
        kind = row[2] ?? ""
        isUnlogged = row[3] == "t"
        exposed = row[5].map { TableName(schema: row[4] ?? "", name: $0) }
        isGenerated = row[6] == "t"
        partial = row[8].map { TableName(schema: row[7] ?? "", name: $0) }
    }
}

/// Decides what must happen to a publication before streaming (CORRECTNESS 1, 30). Pure.
struct PublicationPlan: Equatable {
    /// SQL to run, in order.
    var statements: [String] = []
    var warnings: [String] = []

    enum Ownership: Equatable { case ours, operators }

    init(
        name: String,
        ownership: Ownership,
        existing: Publication?,
        wanted: [TableName],
        facts: [TableFacts],
        isFirstStart: Bool,
        restartHint: String
    ) throws(WeirError) {
        try Self.checkTables(wanted, facts)
        let quoted = PostgresConnection.identifier(name)
        let list = wanted.map(\.sql).joined(separator: ", ")
        let exposed = facts.filter { $0.exposed != nil }.sorted { $0.name < $1.name }
        warnings = facts.compactMap(\.partial).map {
            "partition \"\($0)\" has another replica identity than its root: whole old rows of it "
                + "are not sent; ALTER TABLE \($0.sql) REPLICA IDENTITY FULL;"
        }
        guard let existing else {
            if !isFirstStart {
                throw WeirError(
                    .publicationMissing, .positionLost, "publication \"\(name)\" does not exist",
                    detail: "It did when the slot was made; changes written without it cannot be "
                        + "decoded, also after creating it again.",
                    hint: restartHint)
            }
            if ownership == .operators {
                throw WeirError(
                    .publicationUnfit, .blocked, "publication \"\(name)\" does not exist",
                    hint: "CREATE PUBLICATION \(quoted) FOR TABLE \(list) "
                        + "WITH (publish_via_partition_root = true);")
            }
            // CORRECTNESS 30: publishing such a table would break the application's updates.
            if let table = exposed.first { throw Self.noIdentity(table) }
            statements = [
                "CREATE PUBLICATION \(quoted) FOR TABLE \(list) "
                    + "WITH (publish_via_partition_root = true)"
            ]
            return
        }
        if existing.operations.contains("update") || existing.operations.contains("delete") {
            warnings += exposed.map { Self.noIdentity($0) }.map {
                "\($0.message): UPDATE and DELETE of it fail in the application while it is "
                    + "published"
            }
        }
        switch ownership {
        case .ours:
            if existing.tables != Set(wanted) || existing.isForAllTables {
                let new = exposed.first { !existing.tables.contains($0.name) }
                if let new { throw Self.noIdentity(new) }
                statements = ["ALTER PUBLICATION \(quoted) SET TABLE \(list)"]
            }
            if !existing.publishesViaRoot {
                statements.append(
                    "ALTER PUBLICATION \(quoted) SET (publish_via_partition_root = true)")
            }
        case .operators:
            let missing = facts.filter { !existing.tables.contains($0.name) }
            if !missing.isEmpty { throw Self.doesNotPublish(missing, name, existing) }
        }
    }

    private static func doesNotPublish(
        _ missing: [TableFacts], _ name: String, _ existing: Publication
    ) -> WeirError {
        let names = missing.map { "\"\($0.name)\"" }.joined(separator: ", ")
        let alter = "ALTER PUBLICATION \(PostgresConnection.identifier(name)) "
        // Without the option a publication holds partitions, but never their root.
        let isRootMissing = missing.contains { $0.kind == "p" } && !existing.publishesViaRoot
        return WeirError(
            .publicationUnfit, .blocked, "publication \"\(name)\" does not publish \(names)",
            hint: isRootMissing
                ? alter + "SET (publish_via_partition_root = true);"
                : alter + "ADD TABLE \(missing.map { $0.name.sql }.joined(separator: ", "));")
    }

    private static func checkTables(
        _ wanted: [TableName], _ facts: [TableFacts]
    ) throws(WeirError) {
        for table in wanted {
            guard let fact = facts.first(where: { $0.name == table }) else {
                throw WeirError(
                    .tableMissing, .blocked, "table \"\(table)\" does not exist",
                    hint: "Correct \"tables\" of the source, or create the table.")
            }
            guard (fact.kind == "r" || fact.kind == "p") && !fact.isUnlogged else {
                throw WeirError(
                    .tableMissing, .blocked,
                    "\"\(table)\" cannot be replicated: it is a view, foreign, temporary or "
                        + "unlogged table",
                    hint: "Name the tables behind it.")
            }
        }
    }

    private static func noIdentity(_ facts: TableFacts) -> WeirError {
        let table = facts.exposed ?? facts.name
        return WeirError(
            .noReplicaIdentity, .blocked,
            facts.isGenerated
                ? "table \"\(table)\" has generated columns in its replica identity"
                : "table \"\(table)\" has no primary key or replica identity",
            detail: "Publishing it would make UPDATE and DELETE fail in your application.",
            hint: facts.isGenerated
                ? "With a primary key: ALTER TABLE \(table.sql) REPLICA IDENTITY DEFAULT;"
                : "Add a primary key, or: ALTER TABLE \(table.sql) REPLICA IDENTITY FULL;")
    }
}
