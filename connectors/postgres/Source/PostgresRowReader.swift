import Glibc
import Synchronization
package import WeirCore
import WeirJSON
import WeirPostgresClient

extension PostgresSource: SourceRows {
    package static func makeRowReader(
        _ config: PostgresSourceConfig, _ context: ConnectorContext
    ) throws(WeirError) -> any RowReader {
        PostgresRowReader(config, context)
    }
}

/// Reads rows of a PostgreSQL database on an ordinary connection of its own.
///
/// The connection is made at first use and made anew after a failure. A scan keeps it in one
/// transaction; rows asked for meanwhile are read on a second one.
package actor PostgresRowReader: RowReader {
    private let config: PostgresSourceConfig
    private let pipeline: String
    private let executor: any SerialExecutor
    /// How long to wait for a transaction that others cannot see yet.
    private let visibilityLimit: Duration

    package nonisolated var unownedExecutor: UnownedSerialExecutor {
        unsafe executor.asUnownedSerialExecutor()
    }

    /// No statement runs on it and no transaction is open.
    private var free: PostgresConnection?
    /// By schema version. A spilled batch may bring a version of an earlier process, so the schema
    /// is compared.
    private var known: [UInt32: (schema: TableSchema, read: KeyedRead)] = [:]
    private var scan = ScanState.none

    /// Of scans, far above those that streams count from 1: sinks keep projections by version.
    private static let nextVersion = Atomic<UInt32>(1 << 31)

    private enum ScanState {
        case none
        case going(Scan)
        case ended
    }

    private struct Scan {
        let connection: PostgresConnection
        let table: TableName
        let rows: RowCopier
    }

    /// Above this many, what is known of tables is looked up anew: it bounds memory for sources
    /// that change their tables all day.
    private static let knownMax = 1024
    /// A batch of a scan ends at either.
    private static let scanEvents = 5000
    private static let scanBytes = 4 << 20
    /// Generous: rows may be hundreds of megabytes, and a row filter may find none for long.
    private static let readLimit: Duration = .seconds(300)
    private static let scanLimit: Duration = .seconds(1800)

    /// The server itself gives up a statement that we gave up, above all one that waits for a lock,
    /// so that tries do not pile up. A rewritten table looks empty to an older snapshot, which only
    /// the isolation level here rules out.
    private static let settings =
        "SET lock_timeout = '10s'; SET statement_timeout = '300s'; "
        + "SET default_transaction_isolation = 'read committed'"

    package init(
        _ config: PostgresSourceConfig, _ context: ConnectorContext,
        visibilityLimit: Duration = .seconds(10)
    ) {
        self.config = config
        pipeline = context.pipeline
        executor = context.executor
        self.visibilityLimit = visibilityLimit
    }

    package func close() {
        scan = .none
        free = nil
    }

    private var failures: FailureMap { FailureMap(config, pipeline: pipeline) }

    private func connect() throws(WeirError) -> PostgresConnection {
        if let free, free.isQuiet() { return free }
        free = nil
        do throws(PostgresFailure) {
            let made = try PostgresConnection(
                config.connection, mode: .sql, name: "weir \(pipeline) rows")
            _ = try made.query(Self.settings)
            free = made
            return made
        } catch {
            throw failures.error(error, doing: "connect")
        }
    }

    /// A failed statement leaves the connection free; anything else ends it.
    private func failed(_ failure: PostgresFailure, reading table: TableName) -> WeirError {
        if failure.kind != .statement { free = nil }
        return failures.error(failure, reading: table)
    }

    // MARK: Rows by key

    package func rows(
        of schema: TableSchema, keys: [[[UInt8]]], showing transactions: [UInt32]
    ) async throws(WeirError) -> EventBatch {
        guard keys.allSatisfy({ $0.count == schema.key.count }) else {
            throw WeirError(.bug, .bug, "a key has another number of columns than its table's")
        }
        if keys.isEmpty || schema.key.isEmpty { return Self.noRows(of: schema) }
        let table = TableName(schema: schema.schema, name: schema.name)
        let connection = try connect()
        try waitUntilVisible(transactions, reading: table, on: connection)
        do throws(PostgresFailure) {
            return try rows(of: schema, keys, table, on: connection)
        } catch {
            throw failed(error, reading: table)
        }
    }

    private static func noRows(of schema: TableSchema) -> EventBatch {
        var builder = BatchBuilder(reusing: EventBatch(), eventLimit: 0, byteLimit: 0)
        _ = builder.table(schema)
        return builder.seal(resume: nil, end: nil)
    }

    /// Each statement is a transaction of its own, whose snapshot is younger than the lock on the
    /// table, so that no change of the table can come between.
    private func rows(
        of schema: TableSchema, _ keys: [[[UInt8]]], _ table: TableName,
        on connection: PostgresConnection
    ) throws(PostgresFailure) -> EventBatch {
        if let entry = known[schema.version], entry.schema == schema {
            do {
                return try rows(entry.read, of: schema, keys, on: connection)
            } catch {
                if !error.mayBeOfChangedTable { throw error }
                known[schema.version] = nil
            }
        }
        let found = try connection.query(TableNow.query(table), columns: 5)
        guard let now = TableNow(rows: found),
            let read = KeyedRead(now, schema, comparing: .byType),
            let textRead = KeyedRead(now, schema, comparing: .byText)
        else { return Self.noRows(of: schema) }
        do {
            let batch = try rows(read, of: schema, keys, on: connection)
            if known.count >= Self.knownMax { known = [:] }
            known[schema.version] = (schema, read)
            return batch
        } catch {
            if !error.isOfTypes { throw error }
            return try rows(textRead, of: schema, keys, on: connection)
        }
    }

    private func rows(
        _ read: KeyedRead, of schema: TableSchema, _ keys: [[[UInt8]]],
        on connection: PostgresConnection
    ) throws(PostgresFailure) -> EventBatch {
        let deadline = ContinuousClock.now + Self.readLimit
        let rows = RowCopier(
            schema, places: read.places, checksAllText: connection.storesAnyBytes)
        var builder = BatchBuilder(
            reusing: EventBatch(), eventLimit: keys.count, byteLimit: BatchBuilder.arenaCeiling)
        _ = builder.table(schema)
        try connection.sendQuery(
            read.sql,
            parameters: schema.key.indices.map { KeyedRead.arrayLiteral($0, of: keys) },
            within: Self.readLimit)
        while let row = try connection.nextRow(columns: rows.columnCount, by: deadline) {
            rows.copy(row, into: &builder)
            if builder.arenaCount > BatchBuilder.arenaCeiling {
                // Ends the connection, where the rest of the rows is still under way. The state is
                // the server's own for a limit exceeded.
                throw PostgresFailure(
                    .connection, "the rows of \(keys.count) keys do not fit into one batch",
                    sqlState: "54000")
            }
        }
        return builder.seal(resume: nil, end: nil)
    }

    // MARK: Visibility

    /// A walsender sends a commit when it is on disk, others see it when a synchronous standby has
    /// it as well. What is visible stays so: a statement that begins after this sees it too.
    private func waitUntilVisible(
        _ transactions: [UInt32], reading table: TableName, on connection: PostgresConnection
    ) throws(WeirError) {
        if transactions.isEmpty { return }
        let deadline = ContinuousClock.now + visibilityLimit
        var pauseMicros: UInt32 = 1000
        while true {
            let text: String?
            do {
                text = try connection.queryRow(VisibleSnapshot.query)[0]
            } catch {
                throw failed(error, reading: table)
            }
            guard let snapshot = text.flatMap(VisibleSnapshot.init(parsing:)) else {
                throw WeirError(
                    .protocolError, .transient,
                    "\(config.connection.place) describes its snapshot in an unknown way")
            }
            guard let hidden = transactions.first(where: { !snapshot.shows($0) }) else { return }
            if Task.isCancelled {
                throw failures.error(
                    PostgresFailure(.cancelled, "cancelled"), reading: table)
            }
            if ContinuousClock.now >= deadline {
                throw WeirError(
                    .notVisible, .transient,
                    "could not read rows of \"\(table)\" at \(config.connection.place): "
                        + "transaction \(hidden) was sent, but others cannot see it yet",
                    hint: ErrorCode.notVisible.remedy)
            }
            usleep(pauseMicros)
            pauseMicros = min(2 * pauseMicros, 50_000)
        }
    }

    // MARK: Scan

    package func scan(
        _ table: TableName, showing transactions: [UInt32]
    ) async throws(WeirError) {
        scan = .none
        let connection = try connect()
        try waitUntilVisible(transactions, reading: table, on: connection)
        // From here on it is the scan's, and ends with it if anything fails.
        free = nil
        let scanned = try look(at: table, on: connection)
        let relation: Relation
        do throws(PostgresFailure) {
            relation = scanned.relation(
                checksAllText: connection.storesAnyBytes,
                version: Self.nextVersion.add(1, ordering: .relaxed).oldValue)
            try connection.sendQuery(scanned.sql)
        } catch {
            throw failures.error(error, reading: table)
        }
        scan = .going(Scan(connection: connection, table: table, rows: RowCopier(relation)))
    }

    /// Begins the transaction of a scan.
    private func look(
        at table: TableName, on connection: PostgresConnection
    ) throws(WeirError) -> ScannedTable {
        let found: CatalogueTable?
        do {
            let condition = CatalogueSQL.isNamed([table])
            let rows = try connection.query(
                ScannedTable.begin(table)
                    + CatalogueTable.query(
                        where: condition, publication: config.publication,
                        serverVersion: connection.serverVersion),
                columns: CatalogueTable.columnCount)
            let leaves = try connection.query(
                LeafIdentity.query(where: condition))
            found = CatalogueTable.tables(rows, leaves: leaves).first
        } catch {
            // No such table, no such schema, something that is no table.
            if ["42P01", "3F000", "42809"].contains(error.sqlState) { throw missing(table) }
            throw failures.error(error, reading: table)
        }
        guard let found, ["r", "p"].contains(found.kind) else { throw missing(table) }
        guard found.isPublished else {
            throw WeirError(
                .publicationUnfit, .blocked,
                "could not read rows of \"\(table)\" at \(config.connection.place): publication "
                    + "\"\(config.publication)\" does not publish them",
                hint: ErrorCode.publicationUnfit.remedy)
        }
        return ScannedTable(found)
    }

    private func missing(_ table: TableName) -> WeirError {
        WeirError(
            .tableMissing, .blocked,
            "could not read rows of \"\(table)\" at \(config.connection.place): it is no "
                + "table that exists",
            hint: "Correct \"tables\", or create the table.")
    }

    package func next() async throws(WeirError) -> EventBatch? {
        guard case .going(let scan) = self.scan else {
            if case .ended = self.scan { return nil }
            throw WeirError(.connectionFailed, .transient, "no scan is going on")
        }
        let deadline = ContinuousClock.now + Self.scanLimit
        var builder = BatchBuilder(
            reusing: EventBatch(), eventLimit: Self.scanEvents, byteLimit: Self.scanBytes)
        do throws(PostgresFailure) {
            while !builder.isFull {
                let columns = scan.rows.columnCount
                guard let row = try scan.connection.nextRow(columns: columns, by: deadline) else {
                    _ = try scan.connection.query("COMMIT")
                    free = free ?? scan.connection
                    self.scan = .ended
                    break
                }
                scan.rows.copy(row, into: &builder)
            }
        } catch {
            self.scan = .none
            throw failures.error(error, reading: scan.table)
        }
        return builder.isEmpty ? nil : builder.seal(resume: nil, end: nil)
    }
}

extension PostgresConnection {
    /// The database's text has no encoding (CORRECTNESS 14).
    fileprivate var storesAnyBytes: Bool { parameter("server_encoding") == "SQL_ASCII" }
}

extension PostgresFailure {
    /// What was looked up earlier may no longer hold: columns, types or the table itself.
    fileprivate var mayBeOfChangedTable: Bool {
        kind == .statement && !["42501", "55P03", "57014"].contains(sqlState)
    }

    /// A value no type takes, or an operator that does not exist.
    fileprivate var isOfTypes: Bool {
        mayBeOfChangedTable && (sqlState.hasPrefix("22") || sqlState.hasPrefix("42"))
    }
}
