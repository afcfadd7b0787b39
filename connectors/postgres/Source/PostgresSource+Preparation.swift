import WeirCore
import WeirPostgresClient

// What must be there, and in which state, before streaming begins.

extension PostgresSource {
    /// Publication, then slot, then position (CORRECTNESS 1).
    func prepare(
        _ stored: StoredPosition?, _ server: ServerFacts, _ sql: PostgresConnection,
        _ replication: PostgresConnection
    ) async throws(WeirError) -> (position: Position, tables: TableView) {
        let slot = try slot(sql)
        guard let stored else { return try await makeSlot(slot, server, sql, replication) }
        // Also where the check ends it: that is when a slot has just been changed.
        try await raiseLeftBehind(sql)
        try await check(slot, server, stored, sql)
        let tables = try await ensurePublication(sql, from: stored.position)
        if let timeline = stored.identity["timeline"], timeline != server.timeline {
            raise(
                Finding(
                    .failover, .warning, config.slot,
                    "the server is on timeline \(server.timeline), it was on \(timeline): a "
                        + "failover happened; the stored position was checked against the new "
                        + "primary"))
        }
        return (stored.position, tables)
    }

    /// A server that was restored is known by its log's end only until that has passed the stored
    /// position again. So it is remembered, until an operator moves the position.
    private func check(
        _ slot: Slot?, _ server: ServerFacts, _ stored: StoredPosition, _ sql: PostgresConnection
    ) async throws(WeirError) {
        let noteKey = "position ahead"
        let note = "\(context.epoch()) \(stored.position.text)"
        do throws(WeirError) {
            try positionCheck.check(slot, of: server, against: stored)
        } catch {
            // A standby may only lag behind.
            if error.code == .positionAhead, try ask("SELECT pg_is_in_recovery()", sql) == "f" {
                try await context.notes.set(noteKey, note)
            }
            throw error
        }
        if try await context.notes.get(noteKey) == note {
            throw positionCheck.ahead(
                of: stored, "ended at an earlier start before the stored position")
        }
    }

    private func ask(_ query: String, _ sql: PostgresConnection) throws(WeirError) -> String? {
        try run(query, on: sql, to: "look at the server").first?[0]
    }

    var positionCheck: PositionCheck {
        PositionCheck(
            pipeline: context.pipeline, slotName: config.slot, place: config.connection.place)
    }

    func slot(_ sql: PostgresConnection) throws(WeirError) -> Slot? {
        let query = Slot.query(config.slot, serverVersion: sql.serverVersion)
        let rows = try run(
            query, on: sql, to: "look at the replication slot", columns: Slot.columnCount)
        return Slot(row: rows.first)
    }

    /// The first start: the slot is made, or taken up if an earlier first start was cut short.
    private func makeSlot(
        _ existing: Slot?, _ server: ServerFacts, _ sql: PostgresConnection,
        _ replication: PostgresConnection
    ) async throws(WeirError) -> (position: Position, tables: TableView) {
        let intent = "\(server.system) \(config.slot)"
        if let existing {
            guard try await context.notes.get("slot") == intent else {
                // Slots are named for the whole server: it may be another database's.
                if existing.database != server.database {
                    try positionCheck.checkFit(existing, of: server)
                }
                throw unknownSlot()
            }
            guard let confirmed = existing.confirmed else {
                try waitForSlot(sql)
                throw halfMade(existing)
            }
            try positionCheck.checkFit(existing, of: server)
            let tables = try await ensurePublication(sql, from: nil)
            return (Position(confirmed), tables)
        }
        let tables = try await ensurePublication(sql, from: nil, isFirstStart: true)
        // The intent is on disk before the slot exists, so that a crash between the two leaves a
        // slot we recognise.
        try await rememberMade(slot: config.slot, on: server.system)
        try await context.notes.set("slot", intent)
        return (Position(high: try createSlot(replication, sql).value), tables)
    }

    private func unknownSlot() -> WeirError {
        WeirError(
            .slotUnknown, .blocked,
            "replication slot \"\(config.slot)\" exists at \(config.connection.place), but "
                + "Weir's state knows nothing of it",
            detail: "It may belong to another daemon, or the state directory was lost, and "
                + "with it the gaps it held.",
            hint: "Take it over where it stands: weir position set \(context.pipeline) "
                + "confirmed --yes. Or remove it: weir drop \(context.pipeline) --yes")
    }

    /// CORRECTNESS 78: a first start that was killed leaves a session that goes on making the slot
    /// until the transactions end that were open then. Then the slot is ours to take up.
    private func halfMade(_ slot: Slot) -> WeirError {
        WeirError(
            .slotWaits, .transient,
            "replication slot \"\(config.slot)\" at \(config.connection.place) is still being "
                + "made by a session of an earlier start"
                + (slot.activePID.map { " (process \($0))" } ?? ""),
            detail: "The server waits there for transactions that are open.",
            hint: ErrorCode.slotWaits.remedy)
    }

    /// A few seconds, so that it is taken up soon after it is made.
    private func waitForSlot(_ sql: PostgresConnection) throws(WeirError) {
        let deadline = ContinuousClock.now + .seconds(3)
        try raiseWaiting(sql)
        while ContinuousClock.now < deadline, !Task.isCancelled {
            guard let slot = try slot(sql), slot.confirmed == nil else { return }
            _ = try run("SELECT pg_catalog.pg_sleep(0.1)", on: sql, to: "wait for the slot")
        }
    }

    /// Names the transactions that keep the server from making the slot.
    private func raiseWaiting(_ sql: PostgresConnection) throws(WeirError) {
        let rows = try run(
            OpenTransaction.query(preparedSeconds: 0, runningSeconds: 0), on: sql,
            to: "look at the open transactions")
        guard let first = rows.compactMap(OpenTransaction.init(row:)).first else { return }
        let rest = rows.count == 1 ? "" : " and \(rows.count - 1) more"
        raise(
            Finding(
                .slotWaits, .warning, config.slot,
                "the server makes replication slot \"\(config.slot)\" when every transaction that "
                    + "is open has ended: it waits for \(first.words)\(rest)",
                hint: first.cure))
    }

    /// Waits for transactions that are running now to end, as the server must (CORRECTNESS 78).
    func createSlot(
        _ replication: PostgresConnection, _ sql: PostgresConnection
    ) throws(WeirError) -> LSN {
        let name = PostgresConnection.identifier(config.slot)
        let rows: [TextRow]
        do throws(PostgresFailure) {
            rows = try replication.query(
                "CREATE_REPLICATION_SLOT \(name) LOGICAL pgoutput NOEXPORT_SNAPSHOT",
                within: .seconds(600)
            ) {
                // What it waits for is only words for the operator.
                do throws(WeirError) { try raiseWaiting(sql) } catch {
                    context.log(.debug, "\(error)")
                }
            }
        } catch {
            // Else the server goes on waiting, with the slot half made.
            if [.timeout, .cancelled].contains(error.kind) { try? sql.cancel(replication) }
            throw failures.error(
                error,
                doing: "create replication slot \"\(config.slot)\" (the server waits for open "
                    + "transactions)")
        }
        settle(.slotWaits, config.slot)
        guard let row = rows.first, row.count > 1, let lsn = row[1].flatMap(LSN.init(parsing:))
        else {
            throw WeirError(
                .protocolError, .transient, "the server did not say where the slot begins")
        }
        context.log(.info, "created replication slot \"\(config.slot)\" at \(lsn)")
        return lsn
    }

    /// CORRECTNESS 36: a changed publication changes ordinals, so its fingerprint is kept.
    ///
    /// - Parameter isFresh: reading begins anew, so that what was before does not matter.
    @discardableResult
    func rememberFingerprint(
        _ sql: PostgresConnection, isFresh: Bool
    ) async throws(WeirError) -> String {
        let query = Publication.fingerprintQuery(config.publication)
        let now =
            try run("SELECT \(query)", on: sql, to: "look at the publication", columns: 1).first?[0]
            ?? ""
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
