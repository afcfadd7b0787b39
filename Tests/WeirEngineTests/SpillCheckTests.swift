import Synchronization
import Testing
import WeirCore
import WeirTesting

@testable import WeirEngine

/// What an earlier life spilled is written while the source is down, and not before its target was
/// looked at.
@Suite(.timeLimit(.minutes(1))) struct SpillCheckTests {
    private let state: TestState
    private let server = ScriptedServer()
    private let disks = [SinkDisk(), SinkDisk()]
    private let log = CallLog()
    private static let narrow = ErrorCode("test.narrow", meaning: "m", remedy: "r")
    init() throws { state = try TestState() }

    private func settings(_ key: String) -> ConnectorSettings {
        ConnectorSettings(type: "faulty", entries: [.init("key", key)])
    }

    /// One life in which "b" refuses all: it leaves a spill, and the source is down from then on.
    private func leaveASpill() async throws {
        for _ in 0..<40 { server.commit(3) }
        disks[1].fail(write: Array(repeating: .reject(.transient), count: 10_000))
        let pipeline = TestPipeline(server: server, disks: disks, queueBytes: 1)
        try await pipeline.run(in: state) { running in
            try await eventually("all is at one sink and in the spill of the other") {
                disks[0].kept == server.ids && running.lanes.last?.snapshot().isSpilling == true
            }
        }
        #expect(try await state.rows().last?.spill != nil)
        #expect(disks[1].kept.isEmpty)
        disks[1].heal()
        try await state.withStore { store in
            _ = try await store.adopt(
                ConfiguredComponent(component: "b", settings: settings("1")), of: "p", gaps: [],
                atMicros: 1)
        }
        server.cut(afterReads: .max, refusingOpens: 1_000_000)
    }

    private func pipeline(_ store: StateStore, finding: Finding.Severity) -> Pipeline {
        let finding = Finding(Self.narrow, finding, "t", "narrow", hint: "ALTER TABLE t;")
        let sinks = [
            SinkPlan(name: "a", type: "faulty") { [disks] context in
                FaultySink(FaultySink.Config(disk: disks[0]), context)
            },
            SinkPlan(
                name: "b", type: "faulty",
                settings: ComparedSettings(settings("2"), passingKeys: [])
            ) { [disks, log] context in
                LoggedSink(
                    FaultySink(FaultySink.Config(disk: disks[1]), context), context, log, finding)
            },
        ]
        return Pipeline(
            PipelinePlan(
                name: "p", sourceType: "scripted", notation: .numbers, connection: "test",
                sinks: sinks
            ) {
                [server] in ScriptedSource(ScriptedSource.Config(server: server), $0)
            }, store: store, directory: state.directory, logger: TestPipeline.logger,
            pace: TestPipeline.pace)
    }

    private func report(_ running: Pipeline) -> PipelineReport {
        PipelineReport(running, failures: [], gaps: [], nowMicros: WallClock.micros())
    }

    @Test func aSpillIsCheckedAndTakenUpBeforeItIsWritten() async throws {
        try await leaveASpill()
        try await state.withStore { store in
            let running = pipeline(store, finding: .warning)
            let task = Task { await running.run(isOnce: false) }
            try await eventually("the spill arrives") { disks[1].kept == server.ids }
            #expect(log.calls.first == "check 1")
            #expect(log.calls.count { $0.hasPrefix("check") } == 1, "each table once")
            #expect(try await store.openGaps(of: "p").map(\.code) == ["engine.config_changed"])
            let configured = try await store.configured(of: "p")
            #expect(configured["b"]?.settings == settings("2"))
            #expect(report(running).findings.map(\.code) == ["test.narrow"])
            #expect(!report(running).checked, "the source's own tables are not known yet")
            server.cut(afterReads: .max)
            try await eventually("all is checked") { report(running).checked }
            #expect(log.calls.filter { $0.hasPrefix("check") } == ["check 1", "check 0"])
            #expect(report(running).findings.isEmpty, "it does not hold for what the source has")
            running.stop()
            _ = await task.value
        }
    }

    @Test func aTargetThatDoesNotFitTheSpillStopsBeforeTheFirstWrite() async throws {
        try await leaveASpill()
        try await state.withStore { store in
            let ending = await pipeline(store, finding: .blocking).run(isOnce: false)
            #expect(ending.error?.code == Self.narrow && ending.error?.component == "b")
            #expect(log.calls == ["check 1"])
            #expect(disks[1].kept.isEmpty)
            let configured = try await store.configured(of: "p")
            #expect(configured["b"]?.settings == settings("1"))
        }
        #expect(try await state.rows().last?.spill != nil, "what waits is kept")
    }
}

private final class CallLog: Sendable {
    private let state = Mutex<[String]>([])
    var calls: [String] { state.withLock { $0 } }
    func add(_ call: String) { state.withLock { $0.append(call) } }
}

/// A faulty sink that has something to say of every target there is.
private actor LoggedSink: SinkCheck {
    typealias Config = FaultySink.Config
    private let sink: FaultySink
    private let log: CallLog
    private let finding: Finding?
    private let executor: any SerialExecutor
    nonisolated var unownedExecutor: UnownedSerialExecutor {
        unsafe executor.asUnownedSerialExecutor()
    }

    init(_ config: Config, _ context: ConnectorContext) {
        self.init(FaultySink(config, context), context, CallLog(), nil)
    }

    init(_ sink: FaultySink, _ context: ConnectorContext, _ log: CallLog, _ finding: Finding?) {
        self.sink = sink
        self.log = log
        self.finding = finding
        executor = context.executor
    }

    func open(at mark: SinkMark?) async throws(WeirError) -> SinkMark? {
        try await sink.open(at: mark)
    }
    func write(_ batches: [EventBatch]) async throws(WeirError) -> WriteOutcome {
        log.add("write")
        return try await sink.write(batches)
    }
    func flush() async throws(WeirError) { try await sink.flush() }
    func close() async { await sink.close() }
    func check(_ tables: [TableSchema]) async throws(WeirError) -> [Finding] {
        log.add("check \(tables.count)")
        return tables.isEmpty ? [] : [finding].compactMap(\.self)
    }
}
