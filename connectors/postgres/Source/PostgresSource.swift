import Glibc
package import WeirCore
import WeirPostgresClient

/// Reads one PostgreSQL database through a logical replication slot.
///
/// Two connections: one streams, one is ordinary. The ordinary one looks things up, writes the
/// markers, and tells by its end that the server is shutting down (CORRECTNESS 9): a walsender
/// in shutdown waits for us as long as we answer, so we close the stream at once.
package actor PostgresSource: SourceConnector {
    package typealias Config = PostgresSourceConfig

    let config: PostgresSourceConfig
    let context: ConnectorContext
    private let executor: any SerialExecutor

    package nonisolated var unownedExecutor: UnownedSerialExecutor {
        unsafe executor.asUnownedSerialExecutor()
    }

    /// Everything that lives as long as one connection.
    struct Stream: ~Copyable {
        let replication: PostgresConnection
        let sql: PostgresConnection
        let server: ServerFacts
        /// Of the publication, as it was when streaming began.
        let fingerprint: String
        let statusInterval: Duration
        var decoder: PgOutputDecoder
        /// Where a restart may resume: the last boundary, or the end of a log without news.
        var resume: LSN
        /// What `open` was given: reading stands there until it has passed it.
        let start: (commit: UInt64, ordinal: UInt32)
        /// Received at all, and durable everywhere: what feedback reports.
        var received: LSN
        var durable: LSN
        var nextStatus: ContinuousClock.Instant
        var pace = GatherPace()
    }
    private var stream: Stream?
    private var nextSchemaVersion: UInt32 = 1

    package init(_ config: PostgresSourceConfig, _ context: ConnectorContext) throws(WeirError) {
        self.config = config
        self.context = context
        executor = context.executor
    }

    var failures: FailureMap {
        FailureMap(
            place: config.connection.place, pipeline: context.pipeline, slot: config.slot,
            publication: config.publication,
            role: config.connection["user"].map(PostgresConnection.identifier) ?? "…",
            database: config.connection["dbname"].map(PostgresConnection.identifier) ?? "…")
    }

    package func close() {
        guard let stream = stream.take() else { return }
        nextSchemaVersion = stream.decoder.nextSchemaVersion
        stream.replication.endCopy()
    }

    // MARK: Opening

    package func open(at stored: StoredPosition?) async throws(WeirError) -> SourceStart {
        close()
        let sql = try connect(.sql)
        let replication = try connect(.replication)
        let server = try serverFacts(replication)
        try checkSettings(sql)
        let (start, warnings) = try await prepare(stored, server, sql, replication)
        let fingerprint = try await rememberFingerprint(sql, isFresh: stored == nil)
        let interval = try statusInterval(sql)

        guard let first = start.commitAndOrdinal else {
            throw WeirError(.bug, .bug, "stored position \(start) is no LSN")
        }
        let lsn = LSN(first.commit)
        let command = startCommand(at: lsn, serverVersion: sql.serverVersion)
        _ = try run(command, on: replication, to: "start replication")
        let numbers = try run(
            TableFacts.numbersQuery(config.tables), on: sql, to: "look at the tables")
        let catalogue = RelationCatalogue(
            database: server.database, tables: Set(config.tables),
            numbers: Set(numbers.compactMap { $0[0].flatMap { UInt32($0) } }),
            checksAllText: sql.parameter("server_encoding") == "SQL_ASCII",
            firstVersion: nextSchemaVersion)
        stream = Stream(
            replication: replication, sql: sql, server: server, fingerprint: fingerprint,
            statusInterval: interval,
            decoder: PgOutputDecoder(
                from: first, catalogue: catalogue,
                skipsOrigins: config.skipsOrigins && sql.serverVersion < 160000),
            // Nothing is durable until `acknowledge` says so: after a lost connection the engine
            // opens where it read to, which may be in memory only. The server ignores a zero.
            resume: lsn, start: first, received: lsn, durable: LSN(0), nextStatus: .now)
        return SourceStart(
            identity: server.identity(slot: config.slot), position: start, keepalive: interval,
            server: "PostgreSQL "
                + (sql.parameter("server_version")?.prefix { $0 != " " } ?? ""),
            warnings: config.warnings + warnings)
    }

    /// Protocol 1: the server sends whole transactions in commit order (CORRECTNESS 16, 20).
    private func startCommand(at lsn: LSN, serverVersion: Int) -> String {
        // The replication grammar knows neither E'' nor backslash escapes.
        let names = PostgresConnection.identifier(config.publication)
            .split(separator: "'", omittingEmptySubsequences: false).joined(separator: "''")
        var options = "proto_version '1', messages 'true', publication_names '\(names)'"
        if config.skipsOrigins && serverVersion >= 160000 { options += ", origin 'none'" }
        return "START_REPLICATION SLOT \(PostgresConnection.identifier(config.slot)) LOGICAL "
            + "\(lsn) (\(options))"
    }

    func connect(_ mode: PostgresConnection.Mode) throws(WeirError) -> PostgresConnection {
        do {
            return try PostgresConnection(
                config.connection, mode: mode, name: "weir \(context.pipeline)")
        } catch {
            throw failures.error(error, doing: "connect")
        }
    }

    /// The ordinary connection of the open stream, or a new one.
    func ordinaryConnection() throws(WeirError) -> PostgresConnection {
        if let ordinary { return ordinary.connection }
        return try connect(.sql)
    }

    func run(
        _ sql: String, on connection: PostgresConnection, to work: String,
        within limit: Duration = .seconds(15)
    ) throws(WeirError) -> [[String?]] {
        do { return try connection.query(sql, within: limit) } catch {
            throw failures.error(error, doing: work)
        }
    }

    func serverFacts(_ replication: PostgresConnection) throws(WeirError) -> ServerFacts {
        let rows = try run("IDENTIFY_SYSTEM", on: replication, to: "identify the server")
        guard let row = rows.first, row.count >= 4, let system = row[0], let timeline = row[1],
            let flushed = row[2].flatMap(LSN.init(parsing:)), let database = row[3]
        else {
            throw WeirError(
                .protocolError, .transient, "\(config.connection.place) does not identify itself",
                hint: "Connect to PostgreSQL directly, not through a pooler.")
        }
        return ServerFacts(
            system: system, timeline: timeline, flushed: flushed, database: database)
    }

    private func checkSettings(_ sql: PostgresConnection) throws(WeirError) {
        let place = config.connection.place
        guard sql.serverVersion >= 140000 else {
            throw WeirError(
                .serverVersion, .blocked,
                "\(place) runs PostgreSQL \(sql.parameter("server_version") ?? "?"); Weir needs 14 "
                    + "or newer")
        }
        let level = try run("SHOW wal_level", on: sql, to: "read settings").first?[0] ?? ""
        guard level == "logical" else {
            throw WeirError(
                .walLevel, .blocked,
                "PostgreSQL at \(place) has wal_level=\(level); logical replication needs \"logical\"",
                detail: "Run as superuser, then restart PostgreSQL:   "
                    + "ALTER SYSTEM SET wal_level = logical;",
                hint: "Managed service? RDS: rds.logical_replication=1 · "
                    + "Cloud SQL: cloudsql.logical_decoding=on")
        }
    }

    /// A third of what the server tolerates, so that one late slice of time does no harm
    /// (CORRECTNESS 8).
    private func statusInterval(_ sql: PostgresConnection) throws(WeirError) -> Duration {
        let row = try run(
            "SELECT setting::bigint FROM pg_catalog.pg_settings WHERE name = 'wal_sender_timeout'",
            on: sql, to: "read settings"
        ).first
        let timeout = row?[0].flatMap { Int64($0) } ?? 60_000
        return timeout <= 0 ? .seconds(1) : min(.seconds(1), .milliseconds(max(20, timeout / 3)))
    }

    /// Publication, then slot, then position (CORRECTNESS 1).
    private func prepare(
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
        let facts = try run(TableFacts.query(config.tables), on: sql, to: "look at the tables")
        // One of the same name that we did not make is the operator's.
        let noted = try await context.notes.get("publication")
        let isOurs = !config.isPublicationNamed && (row == nil || noted == name)
        let plan = try PublicationPlan(
            name: name, ownership: isOurs ? .ours : .operators,
            existing: Publication(row: row, tables: tables), wanted: config.tables,
            facts: facts.map(TableFacts.init(row:)), isFirstStart: isFirstStart,
            restartHint: failures.restartHint)
        if isOurs { try await context.notes.set("publication", name) }
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

    // MARK: Streaming

    /// Takes the stream out for a call and puts it back, so that its parts change in place.
    private func withStream<R>(
        _ body: (inout Stream) throws(WeirError) -> R
    ) throws(WeirError) -> R {
        guard var stream = self.stream.take() else {
            throw WeirError(.connectionFailed, .transient, "the source is not open")
        }
        let result: R
        do throws(WeirError) { result = try body(&stream) } catch {
            self.stream = consume stream
            throw error
        }
        self.stream = consume stream
        return result
    }

    package func read(
        into batch: consuming BatchBuilder, within limit: Duration
    ) async throws(WeirError) -> EventBatch {
        var batch: BatchBuilder? = consume batch
        let failures = failures
        let sealed = try withStream { (stream) throws(WeirError) -> EventBatch in
            guard var builder = batch.take() else {
                throw WeirError(.bug, .bug, "a batch was read into twice")
            }
            try stream.read(into: &builder, within: limit, failures)
            return stream.seal(builder)
        }
        return sealed
    }

    package func acknowledge(_ durable: Position?) async throws(WeirError) {
        let failures = failures
        try withStream { (stream) throws(WeirError) in
            if let lsn = durable?.commitAndOrdinal?.commit, lsn > stream.durable.value {
                // Invariant 1: the caller's checkpoint is on disk.
                stream.durable = LSN(lsn)
            }
            do throws(PostgresFailure) {
                try stream.sendStatus()
                try stream.checkServerStays()
            } catch {
                throw failures.error(error, doing: "send feedback")
            }
        }
    }

    /// The ordinary connection of the open stream and the publication's fingerprint, if any.
    var ordinary: (connection: PostgresConnection, fingerprint: String)? {
        guard let stream = self.stream.take() else { return nil }
        let parts = (stream.sql, stream.fingerprint)
        self.stream = consume stream
        return parts
    }
}
