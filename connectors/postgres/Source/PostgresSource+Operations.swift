package import WeirCore
import WeirPostgresClient

// What a source can do beside streaming: markers, facts for `status`, moving the position, removal.

extension PostgresSource: SourceMarker {
    /// A transactional message: its commit is flushed at once, arrives like any other, and moves a
    /// quiet database's slot (CORRECTNESS 7).
    package func mark() async throws(WeirError) -> Position? {
        guard let (connection, fingerprint) = ordinary else {
            throw WeirError(.connectionFailed, .transient, "the source is not open")
        }
        try lookForOrigins(connection)
        let rows: [TextRow]
        do {
            rows = try connection.query(
                "SELECT pg_catalog.pg_logical_emit_message(true, "
                    + "\(PostgresConnection.literal(PgOutputDecoder.markerPrefix)), ''), "
                    + Publication.fingerprintQuery(config.publication), columns: 2)
        } catch {
            // A standby or a role that may not write: lag is then measured without markers.
            if ["25006", "42501"].contains(error.sqlState) { return nil }
            throw failures.error(error, doing: "write a heartbeat")
        }
        // PostgreSQL 18 passes over a missing publication in silence, so we look ourselves.
        if (rows.first.flatMap { $0[1] } ?? "") != fingerprint {
            throw WeirError(
                .publicationChanged, .transient,
                "publication \"\(config.publication)\" was altered while Weir was streaming")
        }
        return rows.first?[0].flatMap(LSN.init(parsing:)).map(Position.init)
    }
}

extension PostgresSource: SourceProbe {
    package func probe(held: Position?) async throws(WeirError) -> SourceRetention {
        let connection = try ordinaryConnection()
        if ordinary != nil { try await watch(connection) }
        guard let slot = try slot(connection) else {
            return SourceRetention(
                .slot, name: config.slot, active: false, status: "missing", head: "", confirmed: "")
        }
        let head = try run(
            "SELECT CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() "
                + "ELSE pg_current_wal_lsn() END, "
                + "(SELECT setting::bigint * 1048576 FROM pg_catalog.pg_settings "
                + "WHERE name = 'max_slot_wal_keep_size')",
            on: connection, to: "read the server's position"
        ).first
        let headLSN = head?[0].flatMap(LSN.init(parsing:))
        var retention = SourceRetention(
            .slot, name: config.slot, active: slot.activePID != nil, status: slot.walStatus,
            head: headLSN?.description ?? "", confirmed: slot.confirmed?.description ?? "")
        retention.retainedBytes = slot.retainedBytes
        retention.safeBytes = slot.safeBytes
        if let limit = head?[1].flatMap({ Int64($0) }), limit >= 0 { retention.limitBytes = limit }
        if let headLSN, let confirmed = slot.confirmed {
            retention.lagBytes = Int64(headLSN.value) - Int64(confirmed.value)
        }
        return retention
    }
}

extension PostgresSource: SourceCleanup {
    package func describeCleanUp(
        leaving others: Set<String>
    ) async throws(WeirError) -> [String] {
        let sql = try connect(.sql)
        let place = config.connection.place
        let earlier = ", of an earlier configuration"
        let kept = try await kept(sql)
        let left = "another pipeline uses it."
        return kept.slots.map { slot in
            let name = "replication slot \"\(slot.name)\" at \(place)"
            if config.isUsed(slot: slot.name, by: others) { return "Leave \(name): \(left)" }
            let bytes = slot.retainedBytes.map { " It keeps \($0) bytes of WAL." } ?? ""
            return "Drop \(name)\(slot.name == config.slot ? "" : earlier).\(bytes)"
        }
            + kept.publications.map { publication in
                let name = "publication \"\(publication)\" at \(place)"
                if config.isUsed(publication: publication, by: others) {
                    return "Leave \(name): \(left)"
                }
                return "Drop \(name)\(publication == config.publication ? "" : earlier)."
            }
    }

    package func cleanUp(leaving others: Set<String>) async throws(WeirError) -> [String] {
        let sql = try connect(.sql)
        let kept = try await kept(sql)
        var done: [String] = []
        for slot in kept.slots {
            let name = "replication slot \"\(slot.name)\""
            if config.isUsed(slot: slot.name, by: others) {
                done.append("left \(name): another pipeline uses it")
            } else {
                try dropSlot(slot.name, sql)
                done.append("dropped \(name)")
            }
        }
        for publication in kept.publications {
            let name = "publication \"\(publication)\""
            if config.isUsed(publication: publication, by: others) {
                done.append("left \(name): another pipeline uses it")
            } else {
                _ = try run(
                    LeftBehind.drop(publication: publication), on: sql, to: "drop a publication")
                done.append("dropped \(name)")
            }
        }
        _ = try await leftBehind(sql)
        return done
    }

    /// What there is of ours at the server: of this configuration, then of earlier ones.
    private func kept(
        _ sql: PostgresConnection
    ) async throws(WeirError) -> LeftBehind {
        var kept = try await leftBehind(sql)
        if let slot = try ownSlot(sql) {
            let own = LeftBehind.Slot(name: config.slot, retainedBytes: slot.retainedBytes)
            kept.slots.insert(own, at: 0)
        }
        if try await isPublicationOurs(sql) { kept.publications.insert(config.publication, at: 0) }
        return kept
    }

    /// Slots are named for the whole server: one of another database, kind or plugin belongs to
    /// another pipeline or program.
    private func ownSlot(_ sql: PostgresConnection) throws(WeirError) -> Slot? {
        guard let slot = try slot(sql) else { return nil }
        let database = try run(
            "SELECT pg_catalog.current_database()", on: sql, to: "look at the database"
        ).first?[0]
        let isOwn = (try? positionCheck.checkOwn(slot, database: database ?? "")) != nil
        return isOwn ? slot : nil
    }

    private func isPublicationOurs(_ sql: PostgresConnection) async throws(WeirError) -> Bool {
        guard try await context.notes.get("publication") == config.publication else { return false }
        let query = Publication.query(config.publication, serverVersion: sql.serverVersion)
        return try !run(query, on: sql, to: "look at the publication").isEmpty
    }

    private func dropSlot(_ name: String, _ sql: PostgresConnection) throws(WeirError) {
        let deadline = ContinuousClock.now + .seconds(2)
        while true {
            do throws(WeirError) {
                _ = try run(
                    "SELECT pg_catalog.pg_drop_replication_slot("
                        + "\(PostgresConnection.literal(name)))",
                    on: sql, to: "drop replication slot \"\(name)\"")
                return
            } catch {
                // The server holds a stream that was just closed for a moment longer.
                guard error.code == .slotActive, ContinuousClock.now < deadline else { throw error }
                _ = try run("SELECT pg_catalog.pg_sleep(0.05)", on: sql, to: "wait for the slot")
            }
        }
    }
}

extension PostgresSource: SourceSeek {
    package func planSeek(
        to target: String, from stored: StoredPosition?
    ) async throws(WeirError) -> SeekPlan {
        let sql = try connect(.sql)
        let server = try serverFacts(connect(.replication))
        let slot = try checkedSlot(sql, server)
        let own = stored?.position.lsn?.description ?? "an unknown position"
        switch target {
        case "now":
            let drop = slot == nil ? "" : "Drop replication slot \"\(config.slot)\", then create"
            return SeekPlan(
                target: "now",
                effects: [
                    (drop.isEmpty ? "Create" : drop) + " replication slot \"\(config.slot)\" anew.",
                    "Changes between \(own) and now are not delivered: a gap.",
                ])
        case "confirmed":
            let here = try healthy(slot, server)
            let confirmed = here.description
            if let stored, positionCheck.isPlace(stored, here, server) {
                return SeekPlan(
                    target: own,
                    effects: [
                        "Go on at \(own), where the pipeline stands: nothing is skipped, and each "
                            + "sink goes on with what its target holds."
                    ], isInPlace: true)
            }
            return SeekPlan(
                target: confirmed,
                effects: [
                    "Go on at \(confirmed), where the slot stands.",
                    "Changes between \(own) and \(confirmed) are not delivered: a gap.",
                ])
        default:
            guard let lsn = LSN(parsing: target) else {
                throw WeirError(
                    .commandFailed, .blocked, "\"\(target)\" is no position",
                    hint: "Use now, confirmed, or an LSN such as 0/16B3748.")
            }
            let confirmed = try healthy(slot, server)
            guard lsn >= confirmed, lsn <= server.flushed else {
                throw WeirError(
                    .commandFailed, .blocked,
                    "\(lsn) is not between \(confirmed), where the slot stands, and "
                        + "\(server.flushed), where the log ends")
            }
            return SeekPlan(
                target: lsn.description,
                effects: [
                    "Go on at \(lsn) instead of \(own): changes before it are skipped, changes "
                        + "after it that were delivered come again."
                ])
        }
    }

    package func seek(_ plan: SeekPlan) async throws(WeirError) -> StoredPosition {
        let sql = try connect(.sql)
        let replication = try connect(.replication)
        let server = try serverFacts(replication)
        let identity = server.identity(slot: config.slot)
        let exists = try checkedSlot(sql, server) != nil
        if let lsn = LSN(parsing: plan.target) {
            try await rememberFingerprint(sql, isFresh: true)
            let intent = "\(server.system) \(config.slot)"
            if try await context.notes.get("slot") != intent {
                // Another server: what is remembered of tables is not of its tables.
                try await context.notes.set("tables", "")
                try await rememberMade(slot: config.slot, on: server.system)
                try await context.notes.set(Self.writesNote, "")
                try await context.notes.set("slot", intent)
            }
            return StoredPosition(position: Position(lsn), identity: identity)
        }
        if exists { try dropSlot(config.slot, sql) }
        _ = try await ensurePublication(sql, from: nil, isFirstStart: true)
        try await rememberFingerprint(sql, isFresh: true)
        try await rememberMade(slot: config.slot, on: server.system)
        try await context.notes.set("slot", "\(server.system) \(config.slot)")
        let lsn = try createSlot(replication, sql)
        return StoredPosition(position: Position(lsn), identity: identity)
    }

    /// - Throws: when there is one under the name that is not ours to drop or to read.
    private func checkedSlot(
        _ sql: PostgresConnection, _ server: ServerFacts
    ) throws(WeirError) -> Slot? {
        guard let slot = try slot(sql) else { return nil }
        try positionCheck.checkOwn(slot, database: server.database)
        return slot
    }

    private func healthy(_ slot: Slot?, _ server: ServerFacts) throws(WeirError) -> LSN {
        guard let slot, let confirmed = slot.confirmed else {
            throw WeirError(
                .slotMissing, .positionLost, "replication slot \"\(config.slot)\" does not exist",
                hint: failures.restartHint)
        }
        try positionCheck.checkFit(slot, of: server)
        return confirmed
    }
}
