import WeirCore
import WeirPostgresClient

/// Decides what must happen to a publication before streaming (CORRECTNESS 1, 30, 72 to 77). Pure.
struct PublicationPlan: Equatable {
    /// SQL to run, in order.
    var statements: [String] = []
    /// What works but leaves something out, or fails later.
    var findings: [Finding] = []
    /// What a publication of ours left out because somebody altered it. Declare them before the
    /// statements run.
    var gaps: [DeclaredGap] = []

    enum Ownership: Equatable { case ours, operators }

    /// What the plan is made from.
    struct Facts {
        var name: String
        var ownership: Ownership
        var existing: Publication?
        var wanted: [TableName]
        var tables: [TableFacts]
        /// The tables with columns and the identities of their partitions.
        var catalogue: [CatalogueTable]
        /// Tables by the number they had when they were last followed.
        var followed: Set<UInt32>
        var isFirstStart: Bool
        /// Where reading goes on, in the server's notation.
        var position: String
        var restartHint: String
    }

    private let facts: Facts
    private let byName: [TableName: TableFacts]
    private var quoted: String { PostgresConnection.identifier(facts.name) }

    static func == (left: PublicationPlan, right: PublicationPlan) -> Bool {
        left.statements == right.statements && left.findings == right.findings
            && left.gaps == right.gaps
    }

    init(_ facts: Facts) throws(WeirError) {
        self.facts = facts
        byName = Dictionary(facts.tables.map { ($0.name, $0) }) { first, _ in first }
        try checkTables()
        let wanted = Set(facts.wanted)
        findings =
            facts.tables.flatMap(Self.unsent)
            + facts.tables.compactMap { Self.children($0, besides: wanted) }
        if facts.existing?.sendsOldRows ?? true { try checkPartitions() }
        guard let existing = facts.existing else {
            try create()
            return
        }
        if existing.sendsOldRows {
            findings += facts.tables.filter { !$0.exposed.isEmpty }.map {
                Self.publishedExposed($0)
            }
        }
        switch facts.ownership {
        case .ours: try mend(existing)
        case .operators: try compare(existing)
        }
    }

    // MARK: Tables

    private func checkTables() throws(WeirError) {
        for table in facts.wanted {
            guard let found = byName[table] else {
                throw WeirError(
                    .tableMissing, .blocked, "table \"\(table)\" does not exist",
                    hint: "Correct \"tables\" of the source, or create the table.")
            }
            guard found.kind == "r" || found.kind == "p", found.isPermanent else {
                throw WeirError(
                    .tableMissing, .blocked,
                    "\"\(table)\" cannot be replicated: it is a view, foreign, temporary or "
                        + "unlogged table",
                    hint: "Name the tables behind it.")
            }
        }
    }

    /// CORRECTNESS 74: the key must be in every old row.
    private mutating func checkPartitions() throws(WeirError) {
        for table in facts.catalogue {
            if let leaf = table.misfit { throw Self.misfit(leaf, of: table) }
            if table.replicaIdentity == UInt8(ascii: "f"),
                let leaf = table.leaves.first(where: \.hasKey)
            {
                findings.append(
                    Finding(
                        .partitionIdentity, .warning, table.name.description,
                        "partition \"\(leaf.partition)\" has another replica identity than its "
                            + "root \"\(table.name)\": whole old rows of it are not sent",
                        hint: "ALTER TABLE \(leaf.partition.sql) REPLICA IDENTITY FULL;"))
            } else if table.hasKeyPerPartition {
                findings.append(
                    Finding(
                        .partitionIdentity, .warning, table.name.description,
                        "\"\(table.name)\" has no key of its own; the key of its partitions stands "
                            + "for it",
                        detail: "That key is unique within each partition only: rows with the same "
                            + "key in two partitions are taken for one row."))
            }
        }
    }

    static func misfit(_ leaf: LeafIdentity, of table: CatalogueTable) -> WeirError {
        let hasKey = !table.primaryKey.isEmpty
        return WeirError(
            .partitionIdentity, .blocked,
            "partition \"\(leaf.partition)\" has another replica identity than its root "
                + "\"\(table.name)\" or the other partitions",
            detail: "Its old rows would come without the columns that name a row.",
            hint: "ALTER TABLE \(leaf.partition.sql) REPLICA IDENTITY "
                + (hasKey && table.replicaIdentity == UInt8(ascii: "d") ? "DEFAULT;" : "FULL;"))
    }

    /// CORRECTNESS 75: such partitions are accepted; the server never sends their changes.
    private static func unsent(_ table: TableFacts) -> [Finding] {
        guard table.kind == "p" else { return [] }
        let silent = table.parts.filter { !$0.isSent }
        guard let first = silent.first else { return [] }
        let rest = silent.count == 1 ? "" : " and \(silent.count - 1) more"
        let kind = first.kind == "f" ? "a foreign table" : "unlogged"
        return [
            Finding(
                .partitionNotSent, .warning, table.name.description,
                "changes of partition \"\(first.name)\"\(rest) of \"\(table.name)\" are not sent: "
                    + "it is \(kind)",
                hint: first.kind == "f"
                    ? "Follow the table behind it at its own server."
                    : "ALTER TABLE \(first.name.sql) SET LOGGED;")
        ]
    }

    /// CORRECTNESS 73.
    private static func children(
        _ table: TableFacts, besides wanted: Set<TableName>
    ) -> Finding? {
        let children = table.children.filter { !wanted.contains($0) }
        guard let first = children.first else { return nil }
        let rest = children.count == 1 ? "" : " and \(children.count - 1) more"
        return Finding(
            .childrenNotRead, .warning, table.name.description,
            "rows of \"\(first)\"\(rest), which inherits from \"\(table.name)\", are not read with "
                + "it",
            hint: "Add it to \"tables\" of the source to follow it as a table of its own.")
    }

    // MARK: Our own

    private mutating func create() throws(WeirError) {
        let list = facts.tables.map(\.listed).joined(separator: ", ")
        let create =
            "CREATE PUBLICATION \(quoted) FOR TABLE \(list) "
            + "WITH (publish_via_partition_root = true)"
        if !facts.isFirstStart {
            throw WeirError(
                .publicationMissing, .positionLost, "publication \"\(facts.name)\" does not exist",
                detail: "It did when the slot was made; changes written without it cannot be "
                    + "decoded, also after creating it again.",
                hint: facts.restartHint)
        }
        if facts.ownership == .operators {
            throw WeirError(
                .publicationUnfit, .blocked, "publication \"\(facts.name)\" does not exist",
                hint: create + ";")
        }
        // CORRECTNESS 30: publishing such a table would break the application's updates.
        if let table = facts.tables.first(where: { !$0.exposed.isEmpty }) {
            throw Self.noIdentity(table)
        }
        statements = [create]
    }

    /// CORRECTNESS 77: it is made again what we made, and what it left out meanwhile is said.
    private mutating func mend(_ existing: Publication) throws(WeirError) {
        let entries = Set(existing.entries.map(\.oid))
        let isCut = existing.entries.contains { $0.hasFilter || $0.hasColumnList }
        if entries != Set(facts.tables.map(\.oid)) || isCut || existing.publishesSchemas {
            let new = facts.tables.first { !$0.exposed.isEmpty && !entries.contains($0.oid) }
            if let new { throw Self.noIdentity(new) }
            let list = facts.tables.map(\.listed).joined(separator: ", ")
            statements = ["ALTER PUBLICATION \(quoted) SET TABLE \(list)"]
        }
        var options: [String] = []
        if !existing.missingOperations.isEmpty {
            options.append("publish = 'insert, update, delete, truncate'")
        }
        if !existing.publishesViaRoot { options.append("publish_via_partition_root = true") }
        if !options.isEmpty {
            statements.append(
                "ALTER PUBLICATION \(quoted) SET (\(options.joined(separator: ", ")))")
        }
        gaps = leftOut(by: existing, entries)
    }

    private func leftOut(by existing: Publication, _ entries: Set<UInt32>) -> [DeclaredGap] {
        var gaps: [DeclaredGap] = []
        let missing = existing.missingOperations
        if !missing.isEmpty {
            let names = missing.map { $0.uppercased() }.joined(separator: " and ")
            let removes = missing.contains("delete") || missing.contains("truncate")
            gaps.append(gap(nil, "\(names) of all tables", leavesRows: removes))
        }
        let byNumber = Dictionary(existing.entries.map { ($0.oid, $0) }) { first, _ in first }
        for table in facts.tables {
            let entry = byNumber[table.oid]
            let name = table.name.description
            if let entry, entry.hasFilter {
                let what = "rows of \"\(name)\" outside of a row filter"
                gaps.append(gap(table.name, what, leavesRows: true))
            }
            if let entry, entry.hasColumnList {
                gaps.append(gap(table.name, "columns of \"\(name)\" outside of a column list"))
            }
            if entry == nil, facts.followed.contains(table.oid), !existing.isForAllTables {
                gaps.append(gap(table.name, "\"\(name)\"", leavesRows: true))
            } else if table.kind == "p", !existing.publishesViaRoot {
                let what = "\"\(name)\", whose partitions it sent as tables"
                gaps.append(gap(table.name, what, leavesRows: true))
            }
        }
        return gaps
    }

    /// - Parameters:
    ///   - table: nil for all of them.
    ///   - leavesRows: deletes may be among what was left out.
    private func gap(
        _ table: TableName?, _ what: String, leavesRows: Bool = false
    ) -> DeclaredGap {
        DeclaredGap(
            .publicationAltered, table?.description ?? "", from: facts.position,
            "publication \"\(facts.name)\" was altered: it left out \(what) until Weir put it "
                + "right",
            hint: (leavesRows ? GapHint.deletedRows : "")
                + GapHint.reload(
                    all: table.map { [$0] } ?? facts.tables.map(\.name), facts.catalogue))
    }

    // MARK: The operator's

    private mutating func compare(_ existing: Publication) throws(WeirError) {
        let sent = Set(existing.tables.map(\.name))
        let missing = facts.tables.filter { !sent.contains($0.name) }
        if !missing.isEmpty { throw doesNotPublish(missing, existing) }
        let operations = existing.missingOperations
        if !operations.isEmpty {
            findings.append(
                Finding(
                    .publicationPartial, .warning, facts.name,
                    "publication \"\(facts.name)\" does not publish "
                        + "\(operations.joined(separator: ", ")): such changes never reach the "
                        + "targets",
                    hint: "If that is not meant: ALTER PUBLICATION \(quoted) "
                        + "SET (publish = 'insert, update, delete, truncate');"))
        }
        for table in existing.tables {
            let listed = byName[table.name]?.listed ?? table.name.sql
            let again =
                "If that is not meant: ALTER PUBLICATION \(quoted) DROP TABLE \(listed); "
                + "ALTER PUBLICATION \(quoted) ADD TABLE \(listed);"
            if let filter = table.filter {
                findings.append(
                    Finding(
                        .publicationPartial, .warning, table.name.description + " rows",
                        "publication \"\(facts.name)\" has a row filter for \"\(table.name)\": "
                            + "only rows with \(filter) are published",
                        hint: again))
            }
            if let columns = table.missingColumns {
                findings.append(
                    Finding(
                        .publicationPartial, .warning, table.name.description + " columns",
                        "publication \"\(facts.name)\" has a column list for \"\(table.name)\": "
                            + "it does not publish \(columns)",
                        hint: again))
            }
        }
    }

    private func doesNotPublish(
        _ missing: [TableFacts], _ existing: Publication
    ) -> WeirError {
        let names = missing.map { "\"\($0.name)\"" }.joined(separator: ", ")
        // Without the option a publication holds partitions, but never their root.
        let entries = Set(existing.entries.map(\.oid))
        let isRootMissing = missing.contains {
            $0.kind == "p" && (entries.contains($0.oid) || existing.isForAllTables)
                && !existing.publishesViaRoot
        }
        let list = missing.map(\.listed).joined(separator: ", ")
        return WeirError(
            .publicationUnfit, .blocked, "publication \"\(facts.name)\" does not publish \(names)",
            hint: "ALTER PUBLICATION \(quoted) "
                + (isRootMissing
                    ? "SET (publish_via_partition_root = true);" : "ADD TABLE \(list);")
        )
    }

    // MARK: Identity

    private static func publishedExposed(_ table: TableFacts) -> Finding {
        let error = noIdentity(table)
        return Finding(
            .noReplicaIdentity, .warning, table.name.description,
            "\(error.message): UPDATE and DELETE of it fail in the application while it is "
                + "published",
            hint: error.hint)
    }

    /// CORRECTNESS 30, 72: with a cure that the server takes, also for many partitions.
    static func noIdentity(_ table: TableFacts) -> WeirError {
        let exposed = table.exposed
        guard let first = exposed.first else {
            return WeirError(.bug, .bug, "\"\(table.name)\" has an identity")
        }
        let others = exposed.count == 1 ? "" : " (and \(exposed.count - 1) more of its partitions)"
        let message: String
        if first.isGenerated && first.replicaIdentity == "f" {
            message =
                "table \"\(first.name)\"\(others) has generated columns in its replica identity"
        } else if first.isKeyDeferrable && first.replicaIdentity == "d" {
            message =
                "the primary key of table \"\(first.name)\"\(others) is DEFERRABLE, and such a key "
                + "is no replica identity"
        } else {
            message = "table \"\(first.name)\"\(others) has no primary key or replica identity"
        }
        let cures =
            exposed.count > statementsMax
            ? wholeRows(of: table)
            : exposed.map { part in
                let identity = part.isGenerated ? "DEFAULT" : "FULL"
                return "ALTER TABLE \(part.name.sql) REPLICA IDENTITY \(identity);"
            }.joined(separator: " ")
        let before =
            if first.isGenerated {
                "With a primary key: "
            } else if first.hasPrimaryKey {
                ""
            } else {
                "Add a primary key, or: "
            }
        return WeirError(
            .noReplicaIdentity, .blocked, message,
            detail: "Publishing it would make UPDATE and DELETE fail in your application.",
            hint: before + cures)
    }

    /// Beyond it one statement does for all partitions.
    private static let statementsMax = 10

    private static func wholeRows(of table: TableFacts) -> String {
        let root = PostgresConnection.literal(table.name.sql)
        return "DO $$ DECLARE t regclass; BEGIN FOR t IN SELECT c.oid FROM pg_class c "
            + "JOIN pg_partition_tree(\(root)) p ON p.relid = c.oid WHERE p.isleaf "
            + "AND c.relkind = 'r' AND c.relpersistence = 'p' AND c.relreplident <> 'f' LOOP "
            + "EXECUTE format('ALTER TABLE %s REPLICA IDENTITY FULL', t); END LOOP; END $$;"
    }
}

/// How to make targets whole again after a gap.
enum GapHint {
    /// Beyond it a list helps less than words.
    private static let tablesMax = 10

    /// The same for several tables, one statement for each.
    static func reload(all tables: [TableName], _ catalogue: [CatalogueTable]) -> String {
        if tables.count == 1 { return reload(tables.first, catalogue) }
        guard tables.count <= tablesMax else {
            return "Send every row of the \(tables.count) tables again, at the source, with an "
                + "UPDATE of each that changes nothing. \(close)"
        }
        let updates = catalogue.filter { tables.contains($0.name) }.compactMap { update($0) }
        guard updates.count == tables.count, !updates.isEmpty else { return reload(nil, catalogue) }
        return "\(sends)\(updates.joined(separator: " ")) \(close)"
    }

    /// An UPDATE that changes nothing sends every row again.
    ///
    /// - Parameter partition: the only one of the table's whose rows are to be sent.
    static func reload(
        _ table: TableName?, _ catalogue: [CatalogueTable], of partition: TableName? = nil
    ) -> String {
        guard
            let update = catalogue.first(where: { $0.name == table }).flatMap({
                update($0, of: partition)
            })
        else {
            return "Bring the targets in step with the source. \(close)"
        }
        return "\(sends)\(update) \(close)"
    }

    /// No UPDATE at the source reaches them.
    static let deletedRows =
        "Rows that were deleted meanwhile stay in the targets until they are removed there. "
    static let oldKeys =
        "Rows under old values of the key stay in the targets until they are removed there. "

    private static let sends =
        "This sends every row again, at the source, in parts where there are many: "
    private static let close = "Then: weir gap resolve ID."

    private static func update(
        _ table: CatalogueTable, of partition: TableName? = nil
    ) -> String? {
        let columns = table.columns.filter(\.isAssignable)
        guard let column = columns.first(where: \.isNotNull) ?? columns.first else { return nil }
        let name = PostgresConnection.identifier(column.name)
        // CORRECTNESS 29: a value that lies outside of its row is sent only where it is written
        // anew, and its text, put together, is.
        let outside = table.hasOutsideValues ? columns.filter(\.isToastable) : []
        let values =
            outside.isEmpty
            ? ["\(name) = \(name)"]
            : outside.map { column in
                let name = PostgresConnection.identifier(column.name)
                return "\(name) = (\(name)::text || '')::\(column.declaredType)"
            }
        let digits = outside.isEmpty ? "" : "SET extra_float_digits = 3; "
        return "\(digits)UPDATE \((partition ?? table.name).sql) "
            + "SET \(values.joined(separator: ", "));"
    }
}
