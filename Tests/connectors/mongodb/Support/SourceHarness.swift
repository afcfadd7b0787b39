import WeirCore
import WeirJSON
import WeirTesting
import WeirValues

@testable import WeirMongoDBSource

/// A MongoDB source under test, what it reads as changes.
final class SourceHarness: SourceDriver<MongoSource> {
    let log = LogLines()
    let reports = CollectedReports()
    let notes: MemoryNotes
    let config: MongoSourceConfig
    let pipeline: String

    private var encoder = LineEncoder(
        format: .weir, sourceKind: "mongodb", sourceName: "test", notation: MongoSource.notation,
        routing: Routing())
    private var writer = JSONWriter()

    /// - Parameters:
    ///   - config: keys of the source beside its connection.
    ///   - notes: those of an earlier harness, as after a restart.
    init(
        url: String, pipeline: String, config: [String: ConfigValue],
        notes: MemoryNotes = MemoryNotes()
    ) throws {
        let scope = ConfigScope(
            pipeline: pipeline, name: "source", values: ConfigValues(config),
            connection: ConfigValues(["url": .secret(Secret(url, origin: "test"))]),
            connectionName: "db")
        let config = try MongoSourceConfig(scope)
        self.config = config
        self.pipeline = pipeline
        self.notes = notes
        try super.init(
            MongoSource(
                config,
                .test(
                    "source", pipeline: pipeline, notes: notes, reports: reports, log: log)))
    }

    /// What stands beside collections that are not there yet.
    var warnings: [String] {
        reports.findings.filter { $0.code.name != "mongodb.collection_missing" }.map(\.message)
    }

    /// A source of these collections of a test's database, or of all when nil.
    convenience init(
        _ database: TestDatabase, _ collections: [String]? = ["t"], url: String? = nil,
        config: [String: ConfigValue] = [:], notes: MemoryNotes = MemoryNotes()
    ) throws {
        let scope: [String: ConfigValue] =
            if let collections {
                ["collections": .list(collections.map { .string(database.path($0)) })]
            } else {
                ["database": .string(database.name)]
            }
        try self.init(
            url: url ?? database.set.url(), pipeline: database.pipeline,
            config: scope.merging(config) { $1 }, notes: notes)
    }

    /// One that was opened for the first time.
    static func open(
        _ database: TestDatabase, _ collections: [String]? = ["t"], url: String? = nil,
        config: [String: ConfigValue] = [:]
    ) async throws -> SourceHarness {
        let harness = try SourceHarness(database, collections, url: url, config: config)
        try await harness.open()
        return harness
    }

    /// A reader of documents beside the stream, with the same configuration.
    func makeRowReader() throws -> any RowReader {
        try MongoSource.makeRowReader(
            config, .test("source", pipeline: pipeline, log: log))
    }

    /// One batch as changes. Every one of them makes a line, and they are in the order of their
    /// positions, before the places where one may resume.
    func read(
        within limit: Duration = .milliseconds(50), events: Int = 8192, bytes: Int = 512 << 10
    ) async throws -> [Change] {
        try await readBatch(within: limit, events: events, bytes: bytes)
        writer.removeAll()
        let lines = try encoder.encode(batch, into: &writer)
        let changes = try batch.events.map { try Change($0, in: batch) }
        guard lines.delivered == changes.count else {
            throw TestingError("an event without a line")
        }
        let places = changes.map(\.position) + [batch.end].compactMap(\.self)
        for (earlier, later) in zip(places, places.dropFirst()) where earlier >= later {
            throw TestingError("\(earlier) comes before \(later)")
        }
        return changes
    }

    /// Reads until all is there that `isDone` asks for.
    func read(
        until what: String, within limit: Duration = .seconds(20), events: Int = 8192,
        bytes: Int = 512 << 10, _ isDone: (SourceHarness, [Change]) throws -> Bool
    ) async throws -> [Change] {
        try await read(until: what, within: limit) {
            try isDone(self, $0)
        } next: {
            try await read(events: events, bytes: bytes)
        }
    }

    /// So many changes.
    func read(_ count: Int, within limit: Duration = .seconds(20)) async throws -> [Change] {
        try await read(until: "\(count) changes", within: limit) { $1.count >= count }
    }

    /// So many changes, read as the engine reads: it opens again after every transient error.
    func survive(
        _ count: Int, within limit: Duration = .seconds(30)
    ) async throws -> (changes: [Change], errors: [WeirError]) {
        var changes: [Change] = []
        var errors: [WeirError] = []
        var isOpen = true
        try await eventually(within: limit, "\(count) changes in spite of errors") {
            do throws(any Error) {
                if !isOpen { try await open() }
                isOpen = true
                changes += try await read()
            } catch let error as WeirError where error.disposition == .transient {
                errors.append(error)
                isOpen = false
            }
            return changes.count >= count
        }
        return (changes, errors)
    }

    /// Everything that was committed before the call.
    func drain(events: Int = 8192) async throws -> [Change] {
        let marker = try await mark()
        return try await read(until: "the marker", events: events) { harness, _ in
            harness.hasReached(marker)
        }
    }
}
