import WeirCore
import WeirPostgresClient

// What must be there, and in which state, before streaming begins.

extension PostgresSource {
    /// Publication, then slot, then position (CORRECTNESS 1).
    func prepare(
        _ stored: StoredPosition?, _ server: ServerFacts, _ sql: PostgresConnection,
        _ replication: PostgresConnection
    ) async throws(WeirError) -> (Position, [String]) {
        let slot = try slot(sql)
        let check = positionCheck
        guard let stored else {
            let start = try await makeSlot(slot, server, sql, replication)
            return start
        }
        try check.check(slot, of: server, against: stored)
        let warnings = try await ensurePublication(sql, isFirstStart: false)
        var all = warnings
        if let timeline = stored.identity["timeline"], timeline != server.timeline {
            all.append(
                "the server is on timeline \(server.timeline), it was on \(timeline): a failover "
                    + "happened; the stored position was checked against the new primary")
        }
        return (stored.position, all)
    }

    var positionCheck: PositionCheck {
        PositionCheck(
            pipeline: context.pipeline, slotName: config.slot, place: config.connection.place)
    }

    func slot(_ sql: PostgresConnection) throws(WeirError) -> Slot? {
        let query = Slot.query(config.slot, serverVersion: sql.serverVersion)
        return Slot(row: try run(query, on: sql, to: "look at the replication slot").first)
    }

    /// The first start: the slot is made, or taken up if an earlier first start was cut short.
    private func makeSlot(
        _ existing: Slot?, _ server: ServerFacts, _ sql: PostgresConnection,
        _ replication: PostgresConnection
    ) async throws(WeirError) -> (Position, [String]) {
        let intent = "\(server.system) \(config.slot)"
        if let existing {
            guard try await context.notes.get("slot") == intent, let confirmed = existing.confirmed
            else {
                throw WeirError(
                    .slotUnknown, .blocked,
                    "replication slot \"\(config.slot)\" exists at \(config.connection.place), but "
                        + "Weir's state knows nothing of it",
                    detail: "It may belong to another daemon, or the state directory was lost.",
                    hint: "Take it over where it stands: weir position set \(context.pipeline) "
                        + "confirmed --yes. Or remove it: weir drop \(context.pipeline) --yes")
            }
            try positionCheck.checkFit(existing, of: server)
            let warnings = try await ensurePublication(sql, isFirstStart: false)
            return (Position(commit: confirmed.value), warnings)
        }
        let warnings = try await ensurePublication(sql, isFirstStart: true)
        // The intent is on disk before the slot exists, so that a crash between the two leaves a
        // slot we recognise.
        try await context.notes.set("slot", intent)
        return (Position(commit: try createSlot(replication).value), warnings)
    }

    /// Waits for transactions that are running now to end, as the server must.
    func createSlot(_ replication: PostgresConnection) throws(WeirError) -> LSN {
        let name = PostgresConnection.identifier(config.slot)
        let row = try run(
            "CREATE_REPLICATION_SLOT \(name) LOGICAL pgoutput NOEXPORT_SNAPSHOT", on: replication,
            to:
                "create replication slot \"\(config.slot)\" (the server waits for open transactions)",
            within: .seconds(600)
        ).first
        guard let row, row.count > 1, let lsn = row[1].flatMap(LSN.init(parsing:)) else {
            throw WeirError(
                .protocolError, .transient, "the server did not say where the slot begins")
        }
        context.log(.info, "created replication slot \"\(config.slot)\" at \(lsn)")
        return lsn
    }

    func ensurePublication(
        _ sql: PostgresConnection, isFirstStart: Bool
    ) async throws(WeirError) -> [String] {
        let name = config.publication
        let row = try run(
            Publication.query(name, serverVersion: sql.serverVersion), on: sql,
            to: "look at the publication"
        ).first
        let tables = try run(
            Publication.tablesQuery(name), on: sql, to: "look at the publication")
        let facts = try run(
            TableFacts.query(config.tables, serverVersion: sql.serverVersion), on: sql,
            to: "look at the tables")
        // One of the same name that we did not make is the operator's.
        let noted = try await context.notes.get("publication")
        let isOurs = !config.isPublicationNamed && (row == nil || noted == name)
        let plan = try PublicationPlan(
            name: name, ownership: isOurs ? .ours : .operators,
            existing: Publication(row: row, tables: tables), wanted: config.tables,
            facts: facts.map(TableFacts.init(row:)), isFirstStart: isFirstStart,
            restartHint: failures.restartHint)
        if isOurs && noted != name { try await context.notes.set("publication", name) }
        for statement in plan.statements {
            _ = try run(statement, on: sql, to: "set up publication \"\(name)\"")
            context.log(.info, statement)
        }
        return plan.warnings
    }

    /// CORRECTNESS 36: a changed publication changes ordinals, so its fingerprint is kept.
    ///
    /// - Parameter isFresh: reading begins anew, so that what was before does not matter.
    @discardableResult
    func rememberFingerprint(
        _ sql: PostgresConnection, isFresh: Bool
    ) async throws(WeirError) -> String {
        let query = Publication.fingerprintQuery(config.publication)
        let now = try run("SELECT \(query)", on: sql, to: "look at the publication").first?[0] ?? ""
        let before = isFresh ? nil : try await context.notes.get("fingerprint")
        if before != now {
            // The server decodes a change with the publication of its time. For what was written
            // without one, PostgreSQL 18 sends nothing and says nothing.
            if let before, Publication.isRecreated(before, now) {
                throw WeirError(
                    .publicationMissing, .positionLost,
                    "publication \"\(config.publication)\" was dropped and created again",
                    detail: "Changes written in between cannot be decoded.",
                    hint: failures.restartHint)
            }
            if before != nil {
                context.log(
                    .warning,
                    "publication \"\(config.publication)\" changed: what it left out until now was "
                        + "not sent, and events delivered again may carry other ids")
            }
            try await context.notes.set("fingerprint", now)
        }
        return now
    }
}
