import Foundation
import Synchronization
import Testing
import WeirCore
import WeirTesting

@testable import WeirEngine

/// Random transactions, faults, lost connections and crashes; then everything heals, and every sink
/// must hold every event exactly once, in order.
@Suite(.timeLimit(.minutes(5))) struct SimulationTests {
    /// WEIR_SIMULATION_SEEDS=7 repeats one seed, WEIR_SIMULATION_SEEDS=1000-9000 goes on looking.
    static let seeds: ClosedRange<UInt64> = {
        let chosen = ProcessInfo.processInfo.environment["WEIR_SIMULATION_SEEDS"] ?? ""
        let numbers = chosen.split(separator: "-").compactMap { UInt64($0) }
        guard let first = numbers.first, let last = numbers.last, first <= last else {
            return 1...240
        }
        return first...last
    }()
    private static let width = 6

    @Test func everySinkHoldsEveryEventOnceWhateverHappened() async throws {
        let totals = Totals()
        try await withThrowingTaskGroup(of: Void.self) { group in
            for (index, seed) in Self.seeds.enumerated() {
                if index >= Self.width { try await group.next() }
                group.addTask {
                    let simulation = try Simulation(seed: seed)
                    do { try await simulation.run() } catch { Issue.record(error, "seed \(seed)") }
                    totals.add(simulation)
                }
            }
            try await group.waitForAll()
        }
        guard Self.seeds.count >= 200 else { return }
        // A simulation in which nothing happens proves nothing.
        let sum = totals.sum.withLock { $0 }
        #expect(sum.events > 5000)
        #expect(sum.acknowledged > 500)
        #expect(sum.reopened > 300)
        #expect(sum.repeated > 500)
        #expect(sum.spilled > 10)
    }

    /// What happened in all simulations together.
    private final class Totals: Sendable {
        struct Sum {
            var events = 0
            var acknowledged = 0
            var reopened = 0
            var repeated = 0
            var spilled = 0
        }
        let sum = Mutex(Sum())

        func add(_ simulation: Simulation) {
            sum.withLock { sum in
                sum.events += simulation.server.ids.count
                sum.acknowledged += simulation.server.acknowledged.count
                sum.spilled += simulation.spilledLives.withLock { $0 }
                for disk in simulation.disks {
                    sum.reopened += disk.calls.count { $0.isOpen }
                    let written = disk.calls.reduce(0) { count, call in
                        if case .write(let ids) = call { count + ids.count } else { count }
                    }
                    sum.repeated += written - disk.kept.count
                }
            }
        }
    }
}

/// One seed.
private final class Simulation: Sendable {
    let seed: UInt64
    let server: ScriptedServer
    let disks: [SinkDisk]
    let spilledLives = Mutex(0)
    private let state: TestState
    private let pipeline: TestPipeline
    private let generator: Mutex<SeededGenerator>

    init(seed: UInt64) throws {
        var generator = SeededGenerator(seed: seed)
        self.seed = seed
        let state = try TestState()
        self.state = state
        let disks = (0..<Int.random(in: 1...3, using: &generator)).map { _ in SinkDisk() }
        self.disks = disks
        let watch = try InvariantWatch(
            state, Dictionary(uniqueKeysWithValues: zip(["a", "b", "c"], disks)))
        server = ScriptedServer(batchEventsMax: Int.random(in: 1...8, using: &generator)) {
            watch.fault($0, $1)
        }
        pipeline = TestPipeline(
            server: server, disks: disks,
            queueBytes: [300, 1000, 8 << 20][Int.random(in: 0...2, using: &generator)],
            spillBytes: [0, 2000, 1 << 20][Int.random(in: 0...2, using: &generator)])
        self.generator = Mutex(generator)
    }

    private func random(_ range: ClosedRange<Int>) -> Int {
        generator.withLock { Int.random(in: range, using: &$0) }
    }

    func run() async throws {
        for _ in 0..<random(1...5) { try await live() }
        for disk in disks { disk.heal() }
        server.crash()
        try await heal()
        for (index, disk) in disks.enumerated() {
            #expect(disk.kept == server.ids, "sink \(index), seed \(seed)")
        }
        #expect(server.violations == [], "seed \(seed)")
    }

    /// One life of the process, which ends in a crash.
    private func live() async throws {
        try await state.withStore { store in
            let running = pipeline.make(store, state)
            let task = Task { await running.run(isOnce: false) }
            for _ in 0..<random(1...12) {
                happen()
                try await Task.sleep(for: .microseconds(random(0...2500)))
            }
            if running.lanes.contains(where: { $0.snapshot().isSpilling }) {
                spilledLives.withLock { $0 += 1 }
            }
            for disk in disks { disk.crash { random(0...$0) } }
            server.crash()
            task.cancel()
            _ = await task.value
        }
    }

    private func happen() {
        switch random(0...9) {
        case 0...4: for _ in 0..<random(1...4) { server.commit(random(0...12)) }
        case 5: server.cut(afterReads: random(0...4), refusingOpens: random(0...2))
        case 6: disks[random(0...disks.count - 1)].heal()
        default: breakSink(disks[random(0...disks.count - 1)])
        }
    }

    private func breakSink(_ disk: SinkDisk) {
        let disposition: Disposition = random(0...19) == 0 ? .blocked : .transient
        let faults = (0..<random(1...6)).map { _ -> SinkFault in
            switch random(0...6) {
            case 0: .hold
            case 1: .slow(.microseconds(random(0...2000)))
            case 2: .failHalfway(disposition)
            case 3: .failAfterWrite(disposition)
            case 4: .lose
            default: .reject(disposition)
            }
        }
        switch random(0...5) {
        case 0: disk.fail(open: faults)
        case 1: disk.fail(flush: Array(faults.prefix(1)))
        default: disk.fail(write: faults)
        }
    }

    /// Runs until all is delivered: once for the source's goal, and on for what spills still hold.
    private func heal() async throws {
        let ending = try await pipeline.runOnce(in: state)
        if let error = ending.error { throw error }
    }
}
