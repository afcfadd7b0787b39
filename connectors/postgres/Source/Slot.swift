import WeirCore
import WeirPostgresClient

/// What `pg_replication_slots` says about one slot.
struct Slot: Sendable, Equatable {
    var plugin: String
    var kind: String
    var database: String
    var activePID: String?
    var confirmed: LSN?
    var walStatus: String
    var safeBytes: Int64?
    var retainedBytes: Int64?
    /// Why the server gave it up, from PostgreSQL 17 on. Before, `wal_status` says that it did.
    var invalidation: String?

    /// The end of the log. On a standby it is what was replayed.
    private static let head =
        "CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_lsn() END"
    static let headQuery = "SELECT \(head)"

    /// Nil rows of older servers are filled in by version.
    static func query(_ name: String, serverVersion: Int) -> String {
        let reason = serverVersion >= 170000 ? "invalidation_reason" : "NULL"
        return "SELECT coalesce(plugin, ''), slot_type, coalesce(database, ''), active_pid, "
            + "confirmed_flush_lsn, coalesce(wal_status, 'lost'), safe_wal_size, "
            + "pg_wal_lsn_diff(\(head), restart_lsn)::bigint, \(reason) "
            + "FROM pg_catalog.pg_replication_slots "
            + "WHERE slot_name = \(PostgresConnection.literal(name))"
    }

    static let columnCount = 9

    init?(row: TextRow?) {
        guard let row, row.count == Self.columnCount else { return nil }
        plugin = row[0] ?? ""
        kind = row[1] ?? ""
        database = row[2] ?? ""
        activePID = row[3]
        confirmed = row[4].flatMap(LSN.init(parsing:))
        walStatus = row[5] ?? ""
        safeBytes = row[6].flatMap { Int64($0) }
        retainedBytes = row[7].flatMap { Int64($0) }
        invalidation = row[8]
    }
}

/// What `IDENTIFY_SYSTEM` and the session say about a server.
struct ServerFacts: Sendable, Equatable {
    var system: String
    var timeline: String
    var flushed: LSN
    var database: String

    func identity(slot: String) -> SourceIdentity {
        SourceIdentity([
            ("system", system), ("database", database.escapedIdentity), ("slot", slot),
            ("timeline", timeline),
        ])
    }
}

extension String {
    /// Identities are kept as words separated by blanks.
    fileprivate var escapedIdentity: String { escaped(besides: []) }
}

/// The position check of every start (CORRECTNESS 4, 10, 11, 12). Pure: facts in, verdict out.
struct PositionCheck {
    let pipeline: String
    let slotName: String
    let place: String

    /// - Throws: whatever makes going on at `stored` wrong; never lets a gap pass.
    func check(
        _ slot: Slot?, of server: ServerFacts, against stored: StoredPosition
    ) throws(WeirError) {
        try checkIdentity(server, stored.identity)
        guard let slot else {
            throw WeirError(
                .slotMissing, .positionLost,
                "replication slot \"\(slotName)\" does not exist at \(place)",
                detail: "Weir delivered everything up to \(text(stored.position)); later changes "
                    + "were kept only by the slot.",
                hint: restart)
        }
        try checkFit(slot, of: server)
        guard let own = stored.position.lsn else {
            throw WeirError(.bug, .bug, "stored position \(stored.position) is no LSN")
        }
        if let confirmed = slot.confirmed, own < confirmed {
            throw WeirError(
                .slotAdvanced, .positionLost,
                "replication slot \"\(slotName)\" at \(place) was confirmed up to \(confirmed), "
                    + "but Weir delivered only up to \(own)",
                detail: "Someone else advanced or recreated the slot. The changes between the two "
                    + "positions cannot be read any more.",
                hint:
                    "Go on there and declare the gap: weir position set \(pipeline) confirmed --yes"
            )
        }
        if server.flushed < own {
            throw ahead(of: stored, "ends at \(server.flushed), before the stored position")
        }
    }

    /// - Parameter what: what the server's log does, up to the position.
    func ahead(of stored: StoredPosition, _ what: String) -> WeirError {
        WeirError(
            .positionAhead, .positionLost,
            "the log of \(place) \(what) \(text(stored.position))",
            detail: "The server was restored or lost its newest changes in a failover.",
            hint:
                "Compare the sinks with the source, then: weir position set \(pipeline) now --yes")
    }

    /// Whether a slot that is confirmed up to `confirmed` still has everything behind `stored`.
    func isPlace(_ stored: StoredPosition, _ confirmed: LSN, _ server: ServerFacts) -> Bool {
        guard let own = stored.position.lsn,
            (try? checkIdentity(server, stored.identity)) != nil
        else { return false }
        return confirmed <= own && own <= server.flushed
    }

    /// Whether the slot is one that we might have made, healthy or not.
    func checkOwn(_ slot: Slot, database: String) throws(WeirError) {
        guard slot.kind == "logical", slot.plugin == "pgoutput" else {
            throw WeirError(
                .slotUnfit, .blocked,
                "replication slot \"\(slotName)\" at \(place) is a \(slot.kind) slot"
                    + (slot.plugin.isEmpty ? "" : " of plugin \"\(slot.plugin)\"")
                    + ", not a logical one of pgoutput",
                hint: unfitHint(in: slot.database))
        }
        guard slot.database == database else {
            throw WeirError(
                .slotUnfit, .blocked,
                "replication slot \"\(slotName)\" belongs to database \"\(slot.database)\", not "
                    + "\"\(database)\"",
                hint: unfitHint(in: slot.database))
        }
    }

    /// Whether the slot can serve us at all.
    func checkFit(_ slot: Slot, of server: ServerFacts) throws(WeirError) {
        try checkOwn(slot, database: server.database)
        if slot.walStatus == "lost" || slot.invalidation != nil {
            let reason = slot.invalidation.map { " (\($0))" } ?? ""
            throw WeirError(
                .slotInvalidated, .positionLost,
                "replication slot \"\(slotName)\" at \(place) was invalidated\(reason)",
                detail: "The server gave it up; later changes cannot be read any more.",
                hint: restart)
        }
    }

    /// - Parameter database: only there may a logical slot be dropped; empty for others.
    private func unfitHint(in database: String) -> String {
        let place = database.isEmpty ? "" : ", in database \"\(database)\""
        return
            "Name another \"slot\" in the configuration; or, where nothing uses that one\(place): "
            + "SELECT pg_drop_replication_slot(\(PostgresConnection.literal(slotName)));"
    }

    private func checkIdentity(
        _ server: ServerFacts, _ stored: SourceIdentity
    ) throws(WeirError) {
        let now = server.identity(slot: slotName)
        for name in ["system", "database", "slot"] where stored[name] != now[name] {
            throw WeirError(
                .identityChanged, .positionLost,
                "\(place) is not where the stored position comes from: \(name) is "
                    + "\"\(now[name] ?? "")\", it was \"\(stored[name] ?? "")\"",
                hint: "Correct the configuration, or start anew there: "
                    + "weir position set \(pipeline) now --yes")
        }
    }

    private var restart: String {
        "Start a new slot and declare the gap: weir position set \(pipeline) now --yes"
    }

    private func text(_ position: Position) -> String {
        PostgresSource.notation.display(position)
    }
}
