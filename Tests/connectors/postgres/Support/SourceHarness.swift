import WeirCore
import WeirJSON
import WeirPostgresSource
import WeirTesting
import WeirValues

/// A PostgreSQL source under test, what it reads as lines.
final class SourceHarness: SourceDriver<PostgresSource> {
    let database: TestDatabase
    let notes: MemoryNotes
    let log = LogLines()
    let reports: CollectedReports
    let config: PostgresSourceConfig

    private var encoder = LineEncoder(
        format: .weir, sourceKind: "postgres", sourceName: "test",
        notation: PostgresSource.notation, routing: Routing())
    private var writer = JSONWriter()

    /// - Parameters:
    ///   - config: further keys of the source.
    ///   - notes: those of an earlier harness, as after a restart.
    init(
        _ database: TestDatabase, tables: [String], config: [String: ConfigValue] = [:],
        user: String = "postgres", url: String? = nil, notes: MemoryNotes = MemoryNotes(),
        silenceLimit: Duration = .seconds(10)
    ) throws {
        self.database = database
        self.notes = notes
        let names = try tables.map { text in
            guard let name = TableName(parsing: text) else { throw TestingError(text) }
            return ConfigValue.table(name)
        }
        let url = url ?? database.server.url(database: database.name, user: user)
        let scope = ConfigScope(
            pipeline: database.pipeline, name: "source",
            values: ConfigValues(config.merging(["tables": .list(names)]) { $1 }),
            connection: ConfigValues(["url": .secret(Secret(url, origin: "test"))]),
            connectionName: "db")
        var config = try PostgresSourceConfig(scope)
        config.silenceLimit = silenceLimit
        self.config = config
        let reports = CollectedReports()
        self.reports = reports
        try super.init(PostgresSource(config, Self.context(database, notes, log, reports)))
    }

    static func context(
        _ database: TestDatabase, _ notes: MemoryNotes, _ log: LogLines,
        _ reports: CollectedReports = CollectedReports()
    ) -> ConnectorContext {
        .test("source", pipeline: database.pipeline, notes: notes, reports: reports, log: log)
    }

    /// A reader of rows beside the stream, with the same configuration.
    func makeRowReader(visibilityLimit: Duration = .seconds(10)) -> PostgresRowReader {
        PostgresRowReader(
            config, Self.context(database, notes, log, reports), visibilityLimit: visibilityLimit)
    }

    /// A source that was opened for the first time.
    static func open(
        _ database: TestDatabase, tables: [String], config: [String: ConfigValue] = [:]
    ) async throws -> SourceHarness {
        let harness = try SourceHarness(database, tables: tables, config: config)
        try await harness.open()
        return harness
    }

    /// - Parameter waits: for the slot, should somebody stream from it.
    @discardableResult
    func open(atStored at: StoredPosition?, waits: Bool) async throws -> SourceStart {
        await source.close()
        // As the engine does: what still holds is raised again.
        for finding in reports.findings { reports.settle(finding.code, finding.subject) }
        var opened: SourceStart?
        try await eventually("the slot is free") {
            do { opened = try await source.open(at: at) } catch let error as WeirError {
                // The server holds the stream of a closed source for a moment longer.
                if !waits || error.code.name != "postgres.slot_active" { throw error }
            }
            return opened != nil
        }
        guard let start = opened else { throw TestingError("not open") }
        self.opened(start)
        return start
    }

    @discardableResult
    override func open(atStored at: StoredPosition?) async throws -> SourceStart {
        try await open(atStored: at, waits: true)
    }

    /// One batch as lines.
    func read(
        within limit: Duration = .milliseconds(50), events: Int = 8192
    ) async throws -> [Line] {
        try await readBatch(within: limit, events: events)
        writer.removeAll()
        _ = try encoder.encode(batch, into: &writer)
        let text = unsafe writer.withBytes { unsafe String(decoding: $0, as: UTF8.self) }
        return try text.split(separator: "\n").map { try Line($0) }
    }

    /// Reads until all is there that `isDone` asks for.
    func read(
        until what: String, within limit: Duration = .seconds(20), events: Int = 8192,
        _ isDone: (SourceHarness, [Line]) throws -> Bool
    ) async throws -> [Line] {
        try await read(until: what, within: limit) {
            try isDone(self, $0)
        } next: {
            try await read(events: events)
        }
    }

    /// The codes of what stands and of what was declared.
    var findings: [String] { reports.findings.map(\.code.name) }
    var gaps: [String] { reports.gaps.map(\.code.name) }

    /// What the engine asks every other second.
    func probe() async throws { _ = try await source.probe(held: nil) }

    /// Everything that was committed before the call.
    func drain() async throws -> [Line] {
        let marker = try await mark()
        return try await read(until: "the marker") { harness, _ in harness.hasReached(marker) }
    }

    /// As `drain`, for so many rows that looking at each would take too long.
    func drainCount() async throws -> Int {
        let marker = try await mark()
        var count = 0
        try await eventually("the marker is read") {
            count += try await readBatch().events.count
            return hasReached(marker)
        }
        return count
    }

    /// Tells the source that everything read is durable, and waits until the server knows.
    func acknowledge() async throws {
        guard let resume, let lsn = resume.lsn else { throw TestingError("nothing to acknowledge") }
        try await source.acknowledge(resume)
        try await eventually("the slot is confirmed up to \(lsn)") {
            try database.slot("confirmed_flush_lsn >= '\(lsn)'") == "t"
        }
    }
}

extension Position {
    /// The LSN in PostgreSQL's notation.
    var lsn: String? { PostgresSource.notation.display(Position(high: high)) }
}
