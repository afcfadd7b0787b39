import Testing
import WeirCore
import WeirPostgresClient
import WeirTesting

@testable import WeirPostgresSink

/// A stream of random transactions, handed to one sink as the engine would: batches of any size,
/// writes of several, checkpoints now and then, and a new start at the last one after a loss.
///
/// The target is compared with what it must be after each step.
struct SinkReplay {
    private static let firstCommit: UInt64 = 16

    private let harness: SinkHarness
    private let observer: PostgresConnection
    private let comment: String
    private var random: SeededGenerator

    private var transactions: [[SinkWorld.Change]] = []
    /// The target at each position, by its token; "" before the first.
    private var states: [String: String] = [:]

    private var sink: PostgresSink
    /// What the state store has: where to read from, and the sink's mark.
    private var stored = 0
    private var storedMark: SinkMark?
    /// What the next checkpoint would store.
    private var reached = 0
    private var mark: SinkMark?
    /// Where reading stands: a transaction, and a change of it.
    private var next = (transaction: 0, change: 0)
    private var waiting: [EventBatch] = []
    /// The sink has a transaction open.
    private var isInside = false
    /// Changes it took and has not yet counted.
    private var owed = 0
    /// How often each thing happened.
    private(set) var counts: [String: Int] = [:]
    /// What the sink said when it failed.
    private var problems: [String] = []

    init(
        _ harness: SinkHarness, _ world: SinkWorld, transactions count: Int, seed: UInt64,
        comment: String
    ) async throws {
        self.harness = harness
        self.comment = comment
        random = SeededGenerator(seed: seed)
        observer = try harness.database.connect()
        _ = try observer.query("SET search_path = public; SET lock_timeout = 100")
        var world = world
        states[""] = world.description
        for index in 0..<count {
            transactions.append(world.transaction(&random))
            states[Self.end(of: index).text] = world.description
            // The beginning of the next, before which a target may stand as well.
            states[Position(high: Self.firstCommit * UInt64(index + 2)).text] = world.description
        }
        sink = try harness.sink(tables: SinkWorld.tables.map { "public.\($0.name)" })
        storedMark = try await sink.open(at: nil)
        mark = storedMark
    }

    /// Behind a transaction; before the first for -1.
    private static func end(of index: Int) -> Position {
        Position(high: firstCommit * UInt64(index + 1) + 8)
    }

    private mutating func count(_ name: String) { counts[name, default: 0] += 1 }

    // MARK: Reading

    /// The next batch, up to some hundred changes, perhaps with parts of transactions.
    private mutating func read() {
        var batch = RowBatch()
        let limit = random.below(5) == 0 ? 1 + random.below(400) : 1 + random.below(30)
        let isCut = random.below(3) == 0
        while next.transaction < transactions.count {
            if batch.count >= limit, next.change == 0 || isCut { break }
            let changes = transactions[next.transaction]
            if next.change < changes.count {
                let change = changes[next.change]
                batch.add(
                    change.change, to: change.table,
                    commit: Self.firstCommit * UInt64(next.transaction + 1),
                    ordinal: UInt32(next.change))
                next.change += 1
            }
            if next.change == changes.count { next = (next.transaction + 1, 0) }
        }
        let isBoundary = next.change == 0 && next.transaction > 0
        waiting.append(
            batch.seal(resume: isBoundary ? Self.end(of: next.transaction - 1) : nil))
    }

    // MARK: Steps

    /// Everything; `fault` runs before each write, and may end sessions or lay bombs.
    mutating func run(
        _ fault: (inout SeededGenerator, SinkHarness, PostgresConnection) async throws -> Void
    ) async throws {
        var steps = 0
        while next.transaction < transactions.count || !waiting.isEmpty {
            steps += 1
            guard steps < 600 else {
                throw TestingError(
                    "\(comment): it does not come to an end: \(counts) \(problems.suffix(3))")
            }
            for _ in 0..<(1 + random.below(3)) where next.transaction < transactions.count {
                read()
            }
            try await fault(&random, harness, observer)
            try await write(waiting.count == 1 ? 1 : 1 + random.below(waiting.count))
            switch random.below(16) {
            case 0..<3: try await checkpoint()
            case 3 where random.below(2) == 0: try await startAgain("crash")
            default: break
            }
        }
        try await checkpoint()
        // A checkpoint may have failed and gone back.
        if next.transaction < transactions.count || !waiting.isEmpty { return try await run(fault) }
        #expect(stored == transactions.count, "\(comment)")
        try check()
        await sink.close()
    }

    private mutating func write(_ count: Int) async throws {
        let batches = Array(waiting[..<count])
        do {
            let outcome = try await sink.write(batches)
            self.count("write")
            owed += batches.reduce(0) { $0 + $1.events.count }
            owed -= outcome.delivered + outcome.filtered
            waiting.removeFirst(count)
            isInside = batches.last?.resume == nil
            if isInside { self.count("inside") }
            if isInside, owed > 0 { self.count("held back") }
            #expect(owed == 0 || isInside && owed > 0, "\(comment)")
            #expect(outcome.late == 0, "\(comment)")
            let boundary = batches.compactMap(\.resume).last
            #expect((outcome.mark == nil) == (boundary == nil), "\(comment)")
            if let boundary { reached = try index(behind: boundary.text) }
            mark = outcome.mark ?? mark
            let found = try check()
            if outcome.mark != nil, let found {
                #expect(found == outcome.mark, "\(comment): the mark is not the target's position")
                let token = Self.token(of: found)
                // What changes nothing need not move it.
                let isReached = try index(behind: token) >= reached
                #expect(
                    isReached || states[token] == states[Self.end(of: reached - 1).text],
                    "\(comment): less is there than was taken")
            }
        } catch let error as WeirError {
            self.count(error.disposition.rawValue)
            problems.append("\(error)")
            try check()
            switch error.disposition {
            case .transient: return
            case .rewind: try await startAgain("rewound")
            default: throw error
            }
        }
    }

    private mutating func checkpoint() async throws {
        do {
            try await sink.flush()
            (stored, storedMark) = (reached, mark)
            count("checkpoint")
        } catch {
            guard error.disposition == .transient || error.disposition == .rewind else {
                throw error
            }
            try await startAgain("flush failed")
        }
        try check()
    }

    /// The process is gone, and with it what it read.
    private mutating func startAgain(_ why: String) async throws {
        count(why)
        await sink.close()
        isInside = false
        sink = try harness.sink(tables: SinkWorld.tables.map { "public.\($0.name)" })
        storedMark = try await sink.open(at: storedMark)
        (mark, reached, owed) = (storedMark, stored, 0)
        next = (stored, 0)
        waiting = []
        try check()
    }

    // MARK: The target

    private static func token(of mark: SinkMark?) -> String {
        mark.map { String($0.text.split(separator: " ").dropFirst().joined()) } ?? ""
    }

    /// How many transactions lie before a position.
    private func index(behind token: String) throws -> Int {
        if token.isEmpty { return 0 }
        guard let commit = Position(text: token)?.high else {
            throw TestingError(token)
        }
        return Int((commit - 1) / Self.firstCommit)
    }

    /// The target is what its position says, whole transactions each once. Returns the position.
    ///
    /// Nil when a TRUNCATE of an open transaction keeps everybody else from looking.
    @discardableResult
    private func check() throws -> SinkMark? {
        let row: TextRow
        do {
            row = try observer.queryRow(
                "SELECT epoch || ' ' || position, \(SinkWorld.query) FROM weir_position")
        } catch {
            guard error.sqlState == "55P03", isInside else { throw error }
            return nil
        }
        let mark = SinkMark(row[0] ?? "")
        let expected = states[Self.token(of: mark)]
        guard row[1] == expected else {
            throw TestingError(
                """
                \(comment): at \(mark.text) after \(counts) the target holds
                \(row[1] ?? "")
                instead of
                \(expected ?? "(no boundary)")
                """)
        }
        return mark
    }
}
