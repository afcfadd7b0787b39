import Testing
import WeirCore
import WeirPostgresClient
import WeirTesting

@testable import WeirPostgresSink

/// What the sink says of a target that is not where it left it, and what is delivered again.
struct SinkLossTests {
    /// Whatever is delivered twice shows.
    private static let log = TableSchema.test(
        "log", version: 21, ["n int4"], key: [0], isKeyUnique: false)

    private func expectError(
        _ code: ErrorCode, _ disposition: Disposition, _ body: () async throws -> Void
    ) async {
        let error = await #expect(throws: WeirError.self) { try await body() }
        #expect(error?.code == code, "\(error.map { "\($0)" } ?? "")")
        #expect(error?.disposition == disposition)
    }

    private func rows(_ database: TestDatabase) throws -> String {
        try database.run("SELECT coalesce(string_agg(n::text, ' ' ORDER BY n), '') FROM log")
    }

    private func insert(
        _ number: Int, _ sink: PostgresSink
    ) async throws -> WriteOutcome {
        try await sink.write(
            [.insert([Field("\(number)")])], of: Self.log, commit: UInt64(number * 16))
    }

    /// As the engine does: what may pass is tried again.
    private func retrying(_ body: () async throws -> Void) async throws {
        for _ in 0..<3 {
            do { return try await body() } catch let error as WeirError {
                guard error.disposition == .transient else { throw error }
            }
        }
        try await body()
    }

    // MARK: Starts

    @Test func aStartFindsOutWhatTheTargetIs() async throws {
        let database = try await TestDatabase()
        let harness = SinkHarness(database)
        let sink = try harness.sink(tables: ["public.log"])
        await expectError(.bug, .bug) { _ = try await sink.write([]) }
        await expectError(.bug, .bug) { _ = try await sink.open(at: SinkMark("no mark")) }
        let first = try await sink.open(at: nil)
        #expect(first == SinkMark("100 "))
        #expect(try await sink.open(at: first) == first)
        // It stands there and nothing was written: as good as new.
        #expect(try await sink.open(at: nil) == first)
        let written = try await insert(1, sink).mark
        #expect(written == SinkMark("100 0000000000000018:00000000"))
        // Behind what was written, as after a crash; then the state is lost.
        #expect(try await sink.open(at: first) == written)
        await expectError(.targetForgotten, .positionLost) { _ = try await sink.open(at: nil) }
        await expectError(.targetRestored, .positionLost) {
            _ = try await sink.open(at: SinkMark("100 0000000000000020:00000000"))
        }
        try database.run("UPDATE weir_position SET source = 'system=9 database=shop'")
        await expectError(.otherWriter, .blocked) { _ = try await sink.open(at: nil) }
        #expect(try await sink.open(at: written) == written)
        try database.run("DELETE FROM weir_position")
        await expectError(.targetRestored, .positionLost) { _ = try await sink.open(at: written) }
        // An operator's word.
        harness.epoch = 101
        #expect(try await sink.open(at: written) == SinkMark("101 "))
        harness.epoch = 100
        await expectError(.otherWriter, .blocked) { _ = try await sink.open(at: written) }
        await sink.close()
    }

    @Test func oneSessionWritesAtATime() async throws {
        let database = try await TestDatabase()
        let harness = SinkHarness(database)
        let one = try harness.sink(tables: ["public.log"])
        let mark = try await one.open(at: nil)
        // Of another state directory: a session of its own it would end.
        let two = try harness.sink(tables: ["public.log"], notes: MemoryNotes())
        await expectError(.otherWriter, .transient) { _ = try await two.open(at: mark) }
        _ = try await insert(1, one)
        await one.close()
        _ = try await two.open(at: mark)
        // The first comes back after the second has written.
        _ = try await insert(2, two)
        await two.close()
        await expectError(.otherWriter, .blocked) {
            // What it took for its own position has moved; the connection is its own.
            _ = try await one.open(at: mark)
            try database.run("UPDATE weir_position SET position = '0000000000000FFF:00000000'")
            _ = try await insert(3, one)
        }
        #expect(try rows(database) == "1 2")
        await one.close()
    }

    @Test(arguments: [false, true])
    func aPositionThatMovedMeanwhileStopsTheWrite(isMany: Bool) async throws {
        let database = try await TestDatabase()
        let sink = try SinkHarness(database).sink(tables: ["public.log"])
        _ = try await sink.open(at: nil)
        _ = try await insert(1, sink)
        try database.run("UPDATE weir_position SET position = '0000000000000FFF:00000000'")
        await expectError(.otherWriter, .blocked) {
            try await sink.write(
                [RowChange](repeating: .insert([2]), count: isMany ? 200 : 1), of: Self.log,
                commit: 32)
        }
        #expect(try rows(database) == "1")
        await sink.close()
    }

    // MARK: Lost connections

    @Test func aConnectionThatEndsBetweenWritesIsMadeAnew() async throws {
        let database = try await TestDatabase()
        let harness = SinkHarness(database)
        let sink = try harness.sink(tables: ["public.log"])
        _ = try await sink.open(at: nil)
        let observer = try database.connect()
        for number in 1...4 {
            try await retrying { _ = try await insert(number, sink) }
            try harness.disconnect(observer)
        }
        try await retrying { try await sink.flush() }
        #expect(try rows(database) == "1 2 3 4")
        await sink.close()
    }

    @Test func aConnectionThatEndsInsideALongTransactionIsGoneBackOver() async throws {
        let database = try await TestDatabase()
        let harness = SinkHarness(database)
        let sink = try harness.sink(tables: ["public.log"])
        let mark = try await sink.open(at: nil)
        var part = RowBatch()
        part.add(.insert([1]), to: Self.log, commit: 16, ordinal: 0)
        _ = try await sink.write([part.seal(resume: nil)])
        try harness.disconnect(database.connect())
        var rest = RowBatch()
        rest.add(.insert([2]), to: Self.log, commit: 16, ordinal: 1)
        let end = rest.seal(resume: Position(high: 24))
        let first = await #expect(throws: WeirError.self) { try await sink.write([end]) }
        #expect(first?.disposition == .rewind)
        await expectError(.acceptedLost, .rewind) { _ = try await sink.write([end]) }
        await expectError(.acceptedLost, .rewind) { try await sink.flush() }
        _ = try await sink.open(at: mark)
        _ = try await sink.write([
            RowBatch.transaction([.insert([1]), .insert([2])], of: Self.log, commit: 16)
        ])
        #expect(try rows(database) == "1 2")
        await sink.close()
    }

    /// The server is gone with commits that were in its memory only.
    @Test func commitsThatWereNotDurableAreDeliveredAgain() async throws {
        let server = try await PostgresServer.start(settings: ["wal_writer_delay": "10s"])
        let database = try await TestDatabase(server: server)
        let sink = try SinkHarness(database).sink(tables: ["public.log"])
        _ = try await sink.open(at: nil)
        let durable = try await insert(1, sink).mark
        try await sink.flush()
        // On a page of the log of their own: one that is full is written whoever waits for it.
        try database.run("SELECT pg_switch_wal()")
        for number in 2...5 { _ = try await insert(number, sink) }
        #expect(try rows(database) == "1 2 3 4 5")
        try await server.restart(.immediate)
        #expect(try rows(database) == "1", "the server has lost nothing: this proves nothing")
        await expectError(.acceptedLost, .rewind) {
            try await retrying { _ = try await insert(6, sink) }
        }
        await expectError(.acceptedLost, .rewind) { try await sink.flush() }
        #expect(try await sink.open(at: durable) == durable)
        for number in 1...6 { _ = try await insert(number, sink) }
        try await sink.flush()
        try await server.restart(.immediate)
        try await retrying { try await sink.flush() }
        #expect(try rows(database) == "1 2 3 4 5 6")
        // What had been durable is another matter.
        try database.run("DELETE FROM weir_position")
        try await server.restart(.fast)
        await expectError(.targetRestored, .positionLost) {
            try await retrying { _ = try await insert(7, sink) }
        }
        await sink.close()
    }

    /// While a transaction is open, nothing else can make durable what was accepted before it.
    @Test(arguments: [false, true])
    func theBeginningOfALongTransactionMakesDurableWhatLiesBefore(isOneWrite: Bool) async throws {
        let server = try await PostgresServer.start(settings: ["wal_writer_delay": "10s"])
        let database = try await TestDatabase(server: server)
        let sink = try SinkHarness(database).sink(tables: ["public.log"])
        _ = try await sink.open(at: nil)
        _ = try await insert(1, sink)
        let whole = RowBatch.transaction([.insert([9])], of: Self.log, commit: 24)
        var part = RowBatch()
        part.add(.insert([2]), to: Self.log, commit: 32, ordinal: 0)
        let beginning = part.seal(resume: nil)
        let mark: SinkMark?
        if isOneWrite {
            mark = try await sink.write([whole, beginning]).mark
        } else {
            mark = try await sink.write([whole]).mark
            #expect(try await sink.write([beginning]).mark == nil)
        }
        // A checkpoint now counts on both.
        try await sink.flush()
        try await server.restart(.immediate)
        #expect(try rows(database) == "1 9")
        #expect(try await sink.open(at: mark) == mark)
        await sink.close()
    }

    // MARK: Epochs

    /// A failover changes the epoch while the sink goes on; what it wrote since the last checkpoint
    /// comes again after a crash.
    @Test func aFailoverAndACrashDeliverEachChangeOnce() async throws {
        let database = try await TestDatabase()
        let harness = SinkHarness(database)
        let sink = try harness.sink(tables: ["public.log"])
        _ = try await sink.open(at: nil)
        _ = try await insert(1, sink)
        harness.epoch = 101
        let checkpoint = try await insert(2, sink).mark
        try await sink.flush()
        _ = try await insert(3, sink)
        await sink.close()

        let next = try harness.sink(tables: ["public.log"])
        _ = try await next.open(at: checkpoint)
        for number in 3...4 { _ = try await insert(number, next) }
        #expect(try rows(database) == "1 2 3 4")
        await next.close()
    }

    /// An operator moved the position back: what comes again is written again.
    @Test func aPositionThatWasSetBackIsDeliveredFromThere() async throws {
        let database = try await TestDatabase()
        let harness = SinkHarness(database)
        let sink = try harness.sink(tables: ["public.log"])
        _ = try await sink.open(at: nil)
        for number in 1...3 { _ = try await insert(number, sink) }
        try await sink.flush()
        harness.epoch = 101
        let mark = try await sink.open(at: SinkMark("100 0000000000000038:00000000"))
        #expect(mark == SinkMark("101 "))
        _ = try await insert(2, sink)
        #expect(try rows(database) == "1 2 2 3")
        await sink.close()
    }

    /// Moving the position clears the mark; what the state noted says that it knew this sink.
    @Test func aMovedPositionOutlivesAStartThatFailed() async throws {
        let database = try await TestDatabase()
        let harness = SinkHarness(database)
        let sink = try harness.sink(tables: ["public.log"])
        _ = try await sink.open(at: nil)
        _ = try await insert(1, sink)
        try await sink.flush()
        harness.epoch = 101
        try database.run("ALTER DATABASE \(database.name) SET default_transaction_read_only = on")
        await expectError(.readOnly, .transient) { _ = try await sink.open(at: nil) }
        try database.run(
            """
            SET default_transaction_read_only = off;
            ALTER DATABASE \(database.name) RESET default_transaction_read_only
            """)
        #expect(try await sink.open(at: nil) == SinkMark("101 "))
        await sink.close()
    }

    /// The engine flushes beside its writes.
    @Test func flushesBesideWritesDoNotDisturbThem() async throws {
        let database = try await TestDatabase()
        let sink = try SinkHarness(database).sink(tables: ["public.log"])
        _ = try await sink.open(at: nil)
        try await withThrowingTaskGroup(of: Void.self) { group in
            for _ in 0..<4 {
                group.addTask { for _ in 0..<20 { try await sink.flush() } }
            }
            for number in 1...60 { _ = try await insert(number, sink) }
            try await group.waitForAll()
        }
        #expect(try database.run("SELECT count(*), count(DISTINCT n) FROM log") == "60|60")
        await sink.close()
    }
}
