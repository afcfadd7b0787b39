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

    /// One text that changes whenever ordinals may (CORRECTNESS 36).
    static func fingerprintQuery(_ name: String, serverVersion: Int) -> String {
        let filters =
            serverVersion >= 150000
            ? "|| coalesce(attnames::text, '') || coalesce(rowfilter, '')" : ""
        let name = PostgresConnection.literal(name)
        return "(SELECT md5(p::text || coalesce((SELECT string_agg(schemaname || '.' || tablename "
            + "\(filters), ',' ORDER BY schemaname, tablename) "
            + "FROM pg_catalog.pg_publication_tables WHERE pubname = \(name)), '')) "
            + "FROM pg_catalog.pg_publication p WHERE pubname = \(name))"
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
    /// An UPDATE of it can be published.
    let hasIdentity: Bool

    static func query(_ tables: [TableName]) -> String {
        let wanted = tables.map {
            "(\(PostgresConnection.literal($0.schema)), \(PostgresConnection.literal($0.name)))"
        }
        return "SELECT n.nspname, c.relname, c.relkind, c.relpersistence <> 'p', "
            + "CASE c.relreplident WHEN 'f' THEN true WHEN 'n' THEN false "
            + "WHEN 'i' THEN EXISTS (SELECT FROM pg_catalog.pg_index i WHERE i.indrelid = c.oid "
            + "AND i.indisreplident) "
            + "ELSE EXISTS (SELECT FROM pg_catalog.pg_index i WHERE i.indrelid = c.oid "
            + "AND i.indisprimary) END "
            + "FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace "
            + "WHERE (n.nspname, c.relname) IN (\(wanted.joined(separator: ", ")))"
    }

    init(row: [String?]) {
        name = TableName(schema: row[0] ?? "", name: row[1] ?? "")
        kind = row[2] ?? ""
        isUnlogged = row[3] == "t"
        hasIdentity = row[4] == "t"
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
        let list = wanted.map(Self.quoted).joined(separator: ", ")
        let exposed = facts.filter { !$0.hasIdentity }.map(\.name).sorted()
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
            if let table = exposed.first {
                throw Self.noIdentity(table, others: exposed.count - 1)
            }
            statements = [
                "CREATE PUBLICATION \(quoted) FOR TABLE \(list) "
                    + "WITH (publish_via_partition_root = true)"
            ]
            return
        }
        if existing.operations.contains("update") || existing.operations.contains("delete") {
            warnings = exposed.filter { existing.tables.contains($0) || ownership == .ours }.map {
                "table \"\($0)\" has no primary key or replica identity: UPDATE and DELETE of it "
                    + "fail in the application while it is published"
            }
        }
        switch ownership {
        case .ours:
            if existing.tables != Set(wanted) || existing.isForAllTables {
                if let table = exposed.first(where: { !existing.tables.contains($0) }) {
                    throw Self.noIdentity(table, others: 0)
                }
                statements = ["ALTER PUBLICATION \(quoted) SET TABLE \(list)"]
            }
            if !existing.publishesViaRoot {
                statements.append(
                    "ALTER PUBLICATION \(quoted) SET (publish_via_partition_root = true)")
            }
        case .operators:
            let missing = wanted.filter { !existing.tables.contains($0) }
            if !missing.isEmpty {
                let names = missing.map { "\"\($0)\"" }.joined(separator: ", ")
                throw WeirError(
                    .publicationUnfit, .blocked,
                    "publication \"\(name)\" does not publish \(names)",
                    hint: "ALTER PUBLICATION \(quoted) ADD TABLE "
                        + "\(missing.map(Self.quoted).joined(separator: ", "));")
            }
            if !existing.publishesViaRoot {
                warnings.append(
                    "publication \"\(name)\" publishes partitions under their own names: "
                        + "ALTER PUBLICATION \(quoted) SET (publish_via_partition_root = true);")
            }
        }
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

    private static func noIdentity(_ table: TableName, others: Int) -> WeirError {
        WeirError(
            .noReplicaIdentity, .blocked,
            "table \"\(table)\" has no primary key or replica identity"
                + (others > 0 ? ", nor do \(others) more" : ""),
            detail: "Publishing it would make UPDATE and DELETE fail in your application.",
            hint: "Add a primary key, or: ALTER TABLE \(quoted(table)) REPLICA IDENTITY FULL;")
    }

    private static func quoted(_ table: TableName) -> String {
        PostgresConnection.identifier(table.schema) + "."
            + PostgresConnection.identifier(table.name)
    }
}
