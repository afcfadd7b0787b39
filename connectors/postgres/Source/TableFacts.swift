import WeirCore
import WeirPostgresClient

/// A configured table as the catalogue has it, with the tables that hold its rows.
struct TableFacts: Sendable, Equatable {
    /// What holds rows: the table itself, or one of a partitioned table's leaves.
    struct Part: Sendable, Equatable {
        let oid: UInt32
        let name: TableName
        /// `r` table, `f` foreign table.
        let kind: String
        let isUnlogged: Bool
        /// `d` default, `n` nothing, `f` full, `i` index.
        let replicaIdentity: String
        /// Changes when the table's rows are written anew.
        let file: String
        /// Changes when it, or a partition it belongs to, is attached anew; empty for a table that
        /// is no partition.
        let attached: String
        /// An index that the server takes for an identity (CORRECTNESS 72).
        let hasIdentityIndex: Bool
        /// 18 refuses generated columns in an identity of the whole row.
        let isGenerated: Bool
        /// Its primary key, and whether that is deferrable.
        let hasPrimaryKey: Bool
        let isKeyDeferrable: Bool

        /// Its changes are written to the log and sent.
        var isSent: Bool { kind == "r" && !isUnlogged }

        /// Once it is published, its UPDATE and DELETE fail in the application.
        var isExposed: Bool {
            guard isSent else { return false }
            return replicaIdentity == "f" ? isGenerated : !hasIdentityIndex
        }
    }

    let oid: UInt32
    let name: TableName
    /// `r` table, `p` partitioned table, others cannot be published.
    let kind: String
    let isPermanent: Bool
    var parts: [Part]
    /// Tables that inherit from it and are no partitions.
    var children: [TableName] = []

    var exposed: [Part] { parts.filter(\.isExposed) }

    /// As a publication takes it: alone, without what inherits from it (CORRECTNESS 73).
    var listed: String { kind == "p" ? name.sql : "ONLY " + name.sql }

    /// One row for each part; takes no lock, because it is asked while others alter the tables.
    static func query(_ tables: [TableName], serverVersion: Int) -> String {
        let isGenerated =
            serverVersion >= 180000
            ? "EXISTS (SELECT FROM pg_catalog.pg_attribute a WHERE a.attrelid = l.oid "
                + "AND a.attgenerated <> '' AND NOT a.attisdropped)" : "false"
        let identityIndex =
            "EXISTS (SELECT FROM pg_catalog.pg_index i WHERE i.indrelid = l.oid "
            + "AND \(CatalogueSQL.isIdentity(of: "l")))"
        let primaryKey =
            "(SELECT NOT i.indimmediate FROM pg_catalog.pg_index i WHERE i.indrelid = l.oid "
            + "AND i.indisprimary)"
        // Not beside each table, as the leaves of one are found elsewhere: the planner takes that
        // for thousands of times the work, and compiling for it takes most of a second.
        return "WITH RECURSIVE c AS (SELECT c.*, n.nspname FROM pg_catalog.pg_class c "
            + "JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace "
            + "WHERE \(CatalogueSQL.isNamed(tables))), "
            + "tree(root, oid, attached) AS (SELECT c.oid, c.oid, '' FROM c UNION ALL "
            + "SELECT tree.root, h.inhrelid, tree.attached || '.' || h.xmin FROM tree "
            + "JOIN pg_catalog.pg_class p ON p.oid = tree.oid AND p.relkind = 'p' "
            + "JOIN pg_catalog.pg_inherits h ON h.inhparent = tree.oid "
            // Such a partition is none any more to the server, which sends nothing of it.
            + "AND NOT h.inhdetachpending) "
            + "SELECT c.oid, c.nspname, c.relname, c.relkind, c.relpersistence, l.oid AS part, "
            + "ln.nspname AS part_schema, l.relname AS part_name, l.relkind AS part_kind, "
            + "l.relpersistence AS part_persistence, l.relreplident, l.relfilenode, "
            + "\(identityIndex) AS has_index, \(isGenerated) AS is_generated, "
            + "\(primaryKey) AS is_deferrable, c.relnatts, c.relhassubclass, tree.attached "
            + "FROM c LEFT JOIN (tree "
            + "JOIN pg_catalog.pg_class l ON l.oid = tree.oid AND l.relkind <> 'p' "
            + "JOIN pg_catalog.pg_namespace ln ON ln.oid = l.relnamespace) ON tree.root = c.oid"
    }

    /// Tables that merely inherit from a configured one.
    static func childrenQuery(_ tables: [TableName]) -> String {
        "SELECT c.oid, kn.nspname, k.relname FROM pg_catalog.pg_class c "
            + "JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace "
            + "JOIN pg_catalog.pg_inherits h ON h.inhparent = c.oid "
            + "JOIN pg_catalog.pg_class k ON k.oid = h.inhrelid "
            + "JOIN pg_catalog.pg_namespace kn ON kn.oid = k.relnamespace "
            + "WHERE c.relkind = 'r' AND \(CatalogueSQL.isNamed(tables)) ORDER BY 2, 3"
    }

    static func tables(_ rows: [TextRow], children: [TextRow]) -> [TableFacts] {
        var tables: [UInt32: TableFacts] = [:]
        for row in rows {
            guard row.count == 18, let oid = row[0].flatMap({ UInt32($0) }) else { continue }
            let part = Part(row: row)
            tables[
                oid,
                default: TableFacts(
                    oid: oid, name: TableName(schema: row[1] ?? "", name: row[2] ?? ""),
                    kind: row[3] ?? "", isPermanent: row[4] == "p", parts: [])
            ].parts += part.map { [$0] } ?? []
        }
        for row in children {
            guard row.count == 3, let oid = row[0].flatMap({ UInt32($0) }) else { continue }
            tables[oid]?.children.append(TableName(schema: row[1] ?? "", name: row[2] ?? ""))
        }
        return tables.values.map { table in
            var table = table
            table.parts.sort { $0.name < $1.name }
            return table
        }.sorted { $0.name < $1.name }
    }
}

extension TableFacts.Part {
    fileprivate init?(row: TextRow) {
        guard let oid = row[5].flatMap({ UInt32($0) }) else { return nil }
        self.oid = oid
        name = TableName(schema: row[6] ?? "", name: row[7] ?? "")
        kind = row[8] ?? ""
        isUnlogged = row[9] != "p"
        replicaIdentity = row[10] ?? ""
        file = row[11] ?? ""
        attached = row[17] ?? ""
        hasIdentityIndex = row[12] == "t"
        isGenerated = row[13] == "t"
        hasPrimaryKey = row[14] != nil
        isKeyDeferrable = row[14] == "t"
    }
}
