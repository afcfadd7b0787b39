import Synchronization
import WeirCore
import WeirPostgresClient
import WeirTesting

@testable import WeirPostgresSink

/// One PostgreSQL sink, its target, and what the engine would give it.
final class SinkHarness: Sendable {
    let database: TestDatabase
    let log = LogLines()
    let notes = MemoryNotes()
    let reports = CollectedReports()
    private let epochBox = Mutex<UInt32>(100)
    private let reader: ScriptedReader?

    /// - Parameter rows: what the source has, for sinks that ask it; nil for a source that cannot
    ///   be asked.
    init(_ database: TestDatabase, rows: [(TableSchema, [[Field]])]? = nil) {
        self.database = database
        reader = rows.map(ScriptedReader.init)
    }

    var epoch: UInt32 {
        get { epochBox.withLock { $0 } }
        set { epochBox.withLock { $0 = newValue } }
    }

    /// The configuration as the file's loader would hand it over.
    ///
    /// - Parameter tables: what the source reads; nil for one that does not list its tables.
    static func config(
        url: String, write: String = "table", _ more: [String: ConfigValue] = [:],
        tables: [String]? = ["public.items"]
    ) throws -> PostgresSinkConfig {
        var values: [String: ConfigValue] = [
            "write": .string(write), "on_new_column": .string("ignore"),
            "truncate": .string("apply"),
            "position_table": .table(TableName(schema: "public", name: "weir_position")),
        ]
        values.merge(more) { $1 }
        let names = try tables?.map { text in
            guard let name = TableName(parsing: text) else { throw TestingError(text) }
            return name
        }
        return try PostgresSinkConfig(
            ConfigScope(
                pipeline: "test", name: "copy", values: ConfigValues(values),
                connection: ConfigValues(["url": .secret(Secret(url, origin: "test"))]),
                connectionName: "db", sourceTables: names))
    }

    /// - Parameters:
    ///   - url: another way to the database, or another role's.
    ///   - notes: those of another state directory.
    func sink(
        write: String = "table", _ more: [String: ConfigValue] = [:],
        tables: [String]? = ["public.items"], user: String = "postgres", url: String? = nil,
        notes: MemoryNotes? = nil, notation: SourceNotation = .numbers,
        source: SourceIdentity = SourceIdentity([("system", "1"), ("database", "shop")]),
        silenceLimit: Duration = .seconds(20), lookInterval: Duration = .seconds(1)
    ) throws -> PostgresSink {
        let url = url ?? database.server.url(database: database.name, user: user)
        return PostgresSink(
            try Self.config(url: url, write: write, more, tables: tables),
            .test(
                "copy", notation: notation, notes: notes ?? self.notes, reports: reports,
                epoch: { [self] in epoch },
                source: { source },
                rows: reader, log: log),
            silenceLimit: silenceLimit, lookInterval: lookInterval)
    }

    /// Ends the sink's sessions, as a network may, and waits until they are gone.
    func disconnect(_ connection: PostgresConnection) throws {
        _ = try connection.query(
            """
            SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity
            WHERE datname = '\(database.name)' AND application_name = 'weir test/copy'
            """)
    }
}

extension PostgresSink {
    /// One write of whole transactions, each of one table.
    @discardableResult
    func write(
        _ changes: [RowChange], of schema: TableSchema, commit: UInt64
    ) async throws -> WriteOutcome {
        try await write([RowBatch.transaction(changes, of: schema, commit: commit)])
    }
}

extension PostgresSink {
    /// One write of documents that changed at one cluster time.
    @discardableResult
    func write(
        _ changes: [DocumentChange], of schema: TableSchema, time: UInt64
    ) async throws -> WriteOutcome {
        try await write([DocumentBatch.transaction(changes, of: schema, time: time)])
    }
}

/// Rows in memory that stand behind the stream. The real reader has tests of its own.
actor ScriptedReader: RowReader {
    private let rows: [(TableSchema, [[Field]])]

    init(_ rows: [(TableSchema, [[Field]])]) { self.rows = rows }

    func rows(
        of schema: TableSchema, keys: [[[UInt8]]], showing transactions: [UInt32]
    ) -> EventBatch {
        var found: [RowChange] = []
        for (table, rows) in rows where table == schema {
            for row in rows
            where keys.contains(schema.key.map { Array(row[$0].string?.utf8 ?? "".utf8) }) {
                found.append(.insert(row))
            }
        }
        return RowBatch.transaction(found, of: schema, commit: 0)
    }

    func scan(_ table: TableName, showing transactions: [UInt32]) {}
    func next() -> EventBatch? { nil }
    func close() {}
}
