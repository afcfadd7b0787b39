import Logging
import Testing
import WeirCore
import WeirTesting

@testable import WeirEngine

/// A state directory of its own, with a store that is opened and closed as a daemon does.
final class TestState: Sendable {
    let folder: TemporaryDirectory
    let directory: StateDirectory

    init() throws {
        folder = try TemporaryDirectory()
        directory = StateDirectory(folder.file("state"))
        try directory.create()
    }

    /// Opens the store for `body` and lets go of it afterwards.
    func withStore<R>(
        isReadOnly: Bool = false, _ body: (StateStore) async throws -> R
    ) async throws -> R {
        let thread = ThreadExecutor(name: "state")
        defer { thread.stop() }
        let store = try StateStore(directory: directory, executor: thread, isReadOnly: isReadOnly)
        return try await body(store)
    }

    func rows(of pipeline: String = "p") async throws -> [CheckpointRow] {
        try await withStore { try await $0.checkpoints(of: pipeline) }
    }
}

/// A pipeline from a scripted server to faulty sinks.
struct TestPipeline {
    let server: ScriptedServer
    let disks: [SinkDisk]
    var names: [String] = ["a", "b", "c"]
    var queueBytes = 8 << 20
    var spillBytes = 1 << 30

    /// Waits short enough for tests.
    static var pace: Pace {
        var pace = Pace()
        pace.checkpoint = .milliseconds(3)
        pace.idleCheckpoint = .milliseconds(10)
        pace.retry = .milliseconds(2)
        pace.retryMax = .milliseconds(20)
        return pace
    }

    static let logger = Logger(label: "test", factory: { _ in SwiftLogNoOpLogHandler() })

    func plan() -> PipelinePlan {
        let sinks = disks.enumerated().map { index, disk in
            SinkPlan(
                name: names[index], type: "faulty", queueBytes: queueBytes, spillBytes: spillBytes
            ) { context in
                FaultySink(FaultySink.Config(disk: disk), context)
            }
        }
        let server = server
        return PipelinePlan(
            name: "p", sourceType: "scripted", notation: .numbers, connection: "test", sinks: sinks
        ) {
            ScriptedSource(ScriptedSource.Config(server: server), $0)
        }
    }

    func make(_ store: StateStore, _ state: TestState) -> Pipeline {
        Pipeline(
            plan(), store: store, directory: state.directory, logger: Self.logger, pace: Self.pace)
    }

    /// Runs the pipeline beside `body`, then stops it and says how it ended.
    @discardableResult
    func run(
        in state: TestState, _ body: (Pipeline) async throws -> Void
    ) async throws -> Pipeline.Ending {
        try await state.withStore { store in
            let pipeline = make(store, state)
            let task = Task { await pipeline.run(isOnce: false) }
            do { try await body(pipeline) } catch {
                task.cancel()
                pipeline.stop()
                for disk in disks { disk.heal() }
                _ = await task.value
                throw error
            }
            pipeline.stop()
            return await task.value
        }
    }

    /// Runs until everything committed by now has arrived.
    @discardableResult
    func runOnce(in state: TestState) async throws -> Pipeline.Ending {
        try await state.withStore { await make($0, state).run(isOnce: true) }
    }
}

extension Pipeline.Ending {
    var error: WeirError? {
        if case .failed(let error) = self { error } else { nil }
    }
}

extension PipelineReport {
    /// Of a pipeline that runs.
    init(
        _ pipeline: Pipeline, failures: [FailureRow], gaps: [GapRow],
        configured: [String: ConfiguredComponent] = [:], nowMicros: Int64
    ) {
        self.init(
            pipeline.plan, pipeline.monitor.now,
            lanes: Dictionary(
                pipeline.lanes.map { ($0.plan.name, $0.snapshot()) }, uniquingKeysWith: { $1 }),
            failures: failures, gaps: gaps, configured: configured, nowMicros: nowMicros)
    }
}
