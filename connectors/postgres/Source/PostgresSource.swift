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
        let pipeline: String
        /// Of the publication, as it was when streaming began.
        let fingerprint: String
        let statusInterval: Duration
        var decoder: PgOutputDecoder
        /// Where a restart may resume: the last boundary, or the end of a log without news.
        var resume: LSN
        /// What `open` was given: reading stands there until it has passed it.
        let start: Position
        /// Received at all, and durable everywhere: what feedback reports.
        var received: LSN
        var durable: LSN
        var nextStatus: ContinuousClock.Instant
        var pace = GatherPace()
        var silence: StreamSilence
        /// Bytes of the largest message: the client library keeps that much memory.
        var largestMessage = 0
        /// The followed tables as they were when streaming began.
        let tables: TableView
        /// Names under which changes of an unknown table came.
        var strangers: Set<TableName> = []
        /// Why reading cannot go on, where it is neither the server nor the connection.
        var refusal: WeirError?
    }
    private var stream: Stream?
    private var nextSchemaVersion: UInt32 = 1
    /// Origins to leave out that the server was not seen to know, and when to ask for them.
    var awaitedOrigins: [String] = []
    /// `postgres.stream_silent` stands.
    var isSilenceSaid = false
    var originsDue = ContinuousClock.Instant.now
    /// Where to connect anew before the next read, to get rid of the memory of a huge row.
    var renewal: StoredPosition?
    /// The findings that stand, and those of the connection before.
    var raised: [Finding] = []
    var formerlyRaised: [Finding] = []
    /// Of the followed tables and the publication, when last looked at.
    var watched = ""

    package init(_ config: PostgresSourceConfig, _ context: ConnectorContext) throws(WeirError) {
        self.config = config
        self.context = context
        executor = context.executor
    }

    var failures: FailureMap { FailureMap(config, pipeline: context.pipeline) }

    package func close() {
        renewal = nil
        guard let stream = stream.take() else { return }
        nextSchemaVersion = stream.decoder.nextSchemaVersion
        stream.replication.endCopy()
    }

    // MARK: Opening

    package func open(at stored: StoredPosition?) async throws(WeirError) -> SourceStart {
        close()
        beginFindings()
        let sql = try connect(.sql)
        let replication = try connect(.replication)
        let server = try serverFacts(replication)
        try checkSettings(sql)
        let (start, tables) = try await prepare(stored, server, sql, replication)
        let fingerprint = try await rememberFingerprint(sql, isFresh: stored == nil)
        try await rememberInstance(sql)
        expectOrigins()
        let interval = try statusInterval(sql)

        guard let lsn = start.lsn else {
            throw WeirError(.bug, .bug, "stored position \(start) is no LSN")
        }
        let command = startCommand(at: lsn, serverVersion: sql.serverVersion)
        _ = try run(command, on: replication, to: "start replication")
        let catalogue = RelationCatalogue(
            database: server.database, tables: Set(config.tables), followed: tables.followed,
            checksAllText: sql.parameter("server_encoding") == "SQL_ASCII",
            firstVersion: nextSchemaVersion)
        stream = Stream(
            replication: replication, sql: sql, server: server, pipeline: context.pipeline,
            fingerprint: fingerprint,
            statusInterval: interval,
            decoder: PgOutputDecoder(
                from: start, catalogue: catalogue,
                origins: OriginSieve(config.origins)),
            // Nothing is durable until `acknowledge` says so: after a lost connection the engine
            // opens where it read to, which may be in memory only. The server ignores a zero.
            resume: lsn, start: start, received: lsn, durable: LSN(0), nextStatus: .now,
            silence: StreamSilence(limit: config.silenceLimit, at: .now), tables: tables)
        isSilenceSaid = false
        return SourceStart(
            identity: server.identity(slot: config.slot), position: start, keepalive: interval,
            server: "PostgreSQL "
                + (sql.parameter("server_version")?.prefix { $0 != " " } ?? ""))
    }

    /// Protocol 1: the server sends whole transactions in commit order (CORRECTNESS 16, 20).
    private func startCommand(at lsn: LSN, serverVersion: Int) -> String {
        // The replication grammar knows neither E'' nor backslash escapes.
        let names = PostgresConnection.doubled(
            PostgresConnection.identifier(config.publication), [UInt8(ascii: "'")])
        var options = "proto_version '1', messages 'true', publication_names '\(names)'"
        if OriginSieve.serverLeavesOut(config.origins, version: serverVersion) {
            options += ", origin 'none'"
        }
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
        _ sql: String, on connection: PostgresConnection, to work: String, columns: Int = 0,
        within limit: Duration = .seconds(15)
    ) throws(WeirError) -> [TextRow] {
        do { return try connection.query(sql, columns: columns, within: limit) } catch {
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
        let level =
            try run("SHOW wal_level", on: sql, to: "read settings", columns: 1).first?[0] ?? ""
        guard level == "logical" else {
            throw WeirError(
                .walLevel, .blocked,
                "PostgreSQL at \(place) has wal_level=\(level); logical replication needs \"logical\"",
                detail: "Managed service? RDS: rds.logical_replication=1 · "
                    + "Cloud SQL: cloudsql.logical_decoding=on",
                hint: "Run as superuser, then restart PostgreSQL: "
                    + "ALTER SYSTEM SET wal_level = logical;")
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
        try await renewIfHuge()
        var batch: BatchBuilder? = consume batch
        var strangers: Set<TableName> = []
        var silence: StreamSilence?
        let failures = failures
        let slot = config.slot
        var place: StoredPosition?
        let sealed = try withStream { (stream) throws(WeirError) -> EventBatch in
            guard var builder = batch.take() else {
                throw WeirError(.bug, .bug, "a batch was read into twice")
            }
            try stream.read(into: &builder, within: limit, failures)
            strangers = stream.strangers
            stream.strangers = []
            silence = stream.silence
            let sealed = stream.seal(builder)
            place = stream.placeToRenew(behind: sealed, slot: slot)
            return sealed
        }
        renewal = place
        report(silence)
        // Without an end: a transaction that is read again is no other gap.
        for name in strangers { try await declareReplaced(name, [], upTo: "") }
        return sealed
    }

    package func acknowledge(_ durable: Position?) async throws(WeirError) {
        let failures = failures
        try withStream { (stream) throws(WeirError) in
            if let lsn = durable?.lsn?.value, lsn > stream.durable.value {
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

    /// What is remembered of the tables of the open stream.
    var remembered: TableMemory? {
        guard let stream = self.stream.take() else { return nil }
        let memory = stream.tables.memory
        self.stream = consume stream
        return memory
    }

    /// What was acknowledged on the open stream.
    var acknowledged: Position? {
        guard let stream = self.stream.take() else { return nil }
        let durable = stream.durable
        self.stream = consume stream
        return durable.value == 0 ? nil : Position(durable)
    }
}
