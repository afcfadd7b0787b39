import WeirCore
import WeirPostgresClient

/// The followed tables as a stream needs to know them.
struct TableView: Sendable {
    /// By the number a table has now, the name the configuration has for it. Without tables that
    /// took the place of others: what they did under another name is not wanted.
    var followed: [UInt32: TableName]
    var memory: TableMemory
    /// The publication sends updates or deletes.
    var sendsOldRows: Bool
}

// The tables and the publication, compared with what they were (CORRECTNESS 76, 77, 79): when a
// stream is opened, and every other second while it runs.

extension PostgresSource {
    /// What one look at the catalogue found.
    struct Look {
        var tables: [TableFacts]
        var catalogue: [CatalogueTable]
        var publication: Publication?
        var memory: TableMemory
        var digest: String
        /// Where the log ends.
        var end: LSN
    }

    private func look(_ sql: PostgresConnection) throws(WeirError) -> Look {
        let (name, tables, version) = (config.publication, config.tables, sql.serverVersion)
        func ask(_ query: String) throws(WeirError) -> [TextRow] {
            try run(query, on: sql, to: "look at the publication and the tables")
        }
        // First, so that what changes meanwhile is looked at once more.
        let digest = try self.digest(sql)
        let facts = try TableFacts.tables(
            run(on: sql, to: "look at the tables") {
                TableFacts.query($0, serverVersion: version)
            },
            children: run(on: sql, to: "look at the tables", TableFacts.childrenQuery))
        let outside = tablesWithOutsideValues(sql)
        let catalogue = try catalogueTables(sql).map { table in
            var table = table
            table.hasOutsideValues = outside?.contains(table.oid) ?? true
            return table
        }
        return try Look(
            tables: facts, catalogue: catalogue,
            publication: Publication(
                row: ask(Publication.query(name, serverVersion: version)).first,
                entries: ask(Publication.entriesQuery(name, serverVersion: version)),
                tables: ask(Publication.tablesQuery(name, tables, serverVersion: version))),
            memory: TableMemory(
                facts,
                columns: run(on: sql, to: "look at the tables") {
                    TableMemory.columnsQuery(
                        $0, publication: name, isListHeeded: config.isPublicationNamed,
                        serverVersion: version)
                },
                labels: run(on: sql, to: "look at the tables", TableMemory.labelsQuery)),
            digest: digest,
            end: ask(Slot.headQuery).first?[0].flatMap(LSN.init(parsing:)) ?? .max)
    }

    private func digest(_ sql: PostgresConnection) throws(WeirError) -> String {
        let query = Publication.watchQuery(
            config.publication, config.tables, serverVersion: sql.serverVersion)
        return try run(query, on: sql, to: "look at the tables").first?[0] ?? ""
    }

    private func plan(
        _ look: Look, _ sql: PostgresConnection, before: TableMemory, isFirstStart: Bool,
        from position: Position?
    ) async throws(WeirError) -> PublicationPlan {
        // One of the same name that we did not make is the operator's.
        let noted = try await context.notes.get("publication")
        let isOurs =
            !config.isPublicationNamed
            && (look.publication == nil || noted == config.publication)
        let missing = Set(config.tables).subtracting(look.tables.map(\.name))
        if let gone = before.tables.first(where: { missing.contains($0.name) }) {
            try checkRenamed(gone, sql)
        }
        return try PublicationPlan(
            PublicationPlan.Facts(
                name: config.publication, ownership: isOurs ? .ours : .operators,
                existing: look.publication, wanted: config.tables, tables: look.tables,
                catalogue: look.catalogue, followed: before.numbers, isFirstStart: isFirstStart,
                position: position?.lsn?.description ?? "",
                restartHint: failures.restartHint))
    }

    /// - Throws: when the table that is missing has another name now.
    private func checkRenamed(
        _ table: TableMemory.Table, _ sql: PostgresConnection
    ) throws(WeirError) {
        let row = try run(
            "SELECT n.nspname, c.relname FROM pg_catalog.pg_class c "
                + "JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace "
                + "WHERE \(CatalogueTable.isNumbered(table.oid))", on: sql, to: "look at the tables"
        ).first
        guard let row, let schema = row[0], let name = row[1] else { return }
        let now = TableName(schema: schema, name: name)
        var back: [String] = []
        if now.name != table.name.name {
            let old = PostgresConnection.identifier(table.name.name)
            back.append("ALTER TABLE \(now.sql) RENAME TO \(old);")
        }
        if now.schema != table.name.schema {
            let renamed = TableName(schema: now.schema, name: table.name.name)
            let old = PostgresConnection.identifier(table.name.schema)
            back.append("ALTER TABLE \(renamed.sql) SET SCHEMA \(old);")
        }
        throw WeirError(
            .tableMissing, .blocked,
            "table \"\(table.name)\" does not exist: it is named \"\(now)\" now",
            detail: "Nothing is lost: what is written to it meanwhile comes when Weir goes on.",
            hint: "Write \"\(now)\" in \"tables\" of the source, and in sinks that name it; or "
                + "back: \(back.joined(separator: " "))")
    }

    // MARK: Opening

    /// Makes the publication what it must be, and says what is unusual about the tables.
    ///
    /// - Parameters:
    ///   - position: where reading goes on; nil when nothing was delivered yet.
    ///   - isFirstStart: there was no slot, so that what was before does not matter.
    func ensurePublication(
        _ sql: PostgresConnection, from position: Position?, isFirstStart: Bool = false
    ) async throws(WeirError) -> TableView {
        let name = config.publication
        let look = try look(sql)
        let before =
            isFirstStart
            ? TableMemory() : TableMemory(text: try await context.notes.get("tables") ?? "")
        let plan = try await plan(
            look, sql, before: before, isFirstStart: isFirstStart, from: position)
        for gap in plan.gaps { try await context.reports.declare(gap) }
        if try await context.notes.get("publication") != name, !config.isPublicationNamed,
            look.publication == nil
        {
            try await rememberMade(publication: name, on: system(sql))
            try await context.notes.set("publication", name)
        }
        if !isFirstStart {
            try await declarePutBack(plan, look, sql)
        }
        try await setUp(plan.statements, sql)
        report(plan.findings + look.memory.unsentFindings(config, sql.serverVersion))
        let lsn = position?.lsn
        let memory = look.memory.remembering(before, end: look.end, from: lsn)
        let replaced = try await remember(look, before, memory, sql)
        watched = try plan.statements.isEmpty ? look.digest : digest(sql)
        let followed = look.tables.filter { !replaced.contains($0.name) }
            .map { ($0.oid, $0.name) }
        return TableView(
            followed: Dictionary(followed) { first, _ in first },
            memory: memory,
            sendsOldRows: look.publication?.sendsOldRows ?? true || !plan.statements.isEmpty)
    }

    /// Declares what happened to the tables since `before`, then keeps them as they are.
    private func remember(
        _ look: Look, _ before: TableMemory, _ memory: TableMemory, _ sql: PostgresConnection
    ) async throws(WeirError) -> [TableName] {
        let replaced = look.memory.replaced(since: before)
        let end = look.end.description
        for name in replaced { try await declareReplaced(name, look.catalogue, upTo: end) }
        let writings = try writings(of: look.memory.written(since: before), sql)
        for change in look.memory.silentChanges(since: before, writings) {
            try await context.reports.declare(change.gap(look.catalogue).upTo(end))
        }
        let listed = Set((look.publication?.entries ?? []).map(\.oid))
        for move in look.memory.moves(since: before, writings, listed: listed) {
            guard let gap = try gap(of: move, look.catalogue, sql) else { continue }
            try await context.reports.declare(gap.upTo(end))
        }
        for (table, column) in memory.dropped(since: before) {
            context.log(
                .warning,
                "column \"\(column)\" of \"\(table)\" was dropped: a sink of several tables that "
                    + "names it shows nothing there from now on, one of this table alone stops")
        }
        let text = memory.text
        if text != before.text { try await context.notes.set("tables", text) }
        return replaced
    }

    func declareReplaced(
        _ name: TableName, _ catalogue: [CatalogueTable], upTo end: String
    ) async throws(WeirError) {
        try await context.reports.declare(
            DeclaredGap(
                .tableReplaced, name.description, to: end,
                "\"\(name)\" is another table than before: it was dropped and made again, or "
                    + "another one was given its name; targets keep rows of the table before and "
                    + "lack rows that the new one had before Weir followed it",
                hint: "Remove the rows of \"\(name)\" from the targets. "
                    + GapHint.reload(name, catalogue)))
    }

    // MARK: While streaming

    /// Cheap when nothing changed, which is nearly always.
    ///
    /// - Throws: what makes it necessary to open the stream anew, or to stop.
    func watch(_ sql: PostgresConnection) async throws(WeirError) {
        try raiseOldTransactions(sql)
        guard try digest(sql) != watched else { return }
        let look = try look(sql)
        let before = TableMemory(text: try await context.notes.get("tables") ?? "")
        let plan = try await plan(look, sql, before: before, isFirstStart: false, from: nil)
        if let name = look.memory.replaced(since: before).first {
            throw WeirError(
                .tableChanged, .transient,
                "table \"\(name)\" was replaced by another one while Weir was streaming")
        }
        if !plan.statements.isEmpty {
            throw WeirError(
                .publicationChanged, .transient,
                "publication \"\(config.publication)\" was altered while Weir was streaming")
        }
        try await declarePutBack(plan, look, sql)
        try await rememberWrites(sql)
        report(plan.findings + look.memory.unsentFindings(config, sql.serverVersion))
        let memory = look.memory.remembering(before, end: look.end, from: nil)
        _ = try await remember(look, before, memory, sql)
        watched = look.digest
    }

    // MARK: Findings

    func raise(_ finding: Finding) {
        raised.removeAll { $0.code == finding.code && $0.subject == finding.subject }
        raised.append(finding)
        context.reports.raise(finding)
    }

    func settle(_ code: ErrorCode, _ subject: String) {
        guard raised.contains(where: { $0.code == code && $0.subject == subject }) else { return }
        raised.removeAll { $0.code == code && $0.subject == subject }
        context.reports.settle(code, subject)
    }

    /// What passes by itself, and is no matter of the tables and the publication.
    private static let passing: [ErrorCode] = [
        .failover, .slotWaits, .oldTransaction, .leftBehind,
    ]

    /// A new connection raises what still holds. What is the same is not said again.
    func beginFindings() {
        for finding in raised where Self.passing.contains(finding.code) {
            context.reports.settle(finding.code, finding.subject)
        }
        formerlyRaised = raised.filter { !Self.passing.contains($0.code) }
        raised = []
    }

    /// What is said of the tables and the publication replaces what was said of them before.
    private func report(_ findings: [Finding]) {
        for old in formerlyRaised + raised where !Self.passing.contains(old.code) {
            let stays = findings.contains { $0.code == old.code && $0.subject == old.subject }
            if stays { continue }
            raised.removeAll { $0 == old }
            context.reports.settle(old.code, old.subject)
        }
        formerlyRaised = []
        for finding in findings where !raised.contains(finding) { raise(finding) }
    }

    /// A transaction that is open for long is most likely forgotten, a prepared one sooner.
    private func raiseOldTransactions(_ sql: PostgresConnection) throws(WeirError) {
        let rows = try run(
            OpenTransaction.query(preparedSeconds: 10, runningSeconds: 3600), on: sql,
            to: "look at the open transactions")
        let old = rows.compactMap(OpenTransaction.init(row:))
        for finding in raised
        where finding.code == .oldTransaction
            && !old.contains(where: {
                $0.subject == finding.subject
            })
        {
            settle(finding.code, finding.subject)
        }
        for transaction in old {
            let finding = Finding(
                .oldTransaction, .warning, transaction.subject,
                "\(transaction.words), holds replication slot \"\(config.slot)\" back: the server "
                    + "keeps its log from there on",
                hint: transaction.cure)
            if !raised.contains(finding) { raise(finding) }
        }
    }
}
