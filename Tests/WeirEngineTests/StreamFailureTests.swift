import Synchronization
import Testing
import WeirCore
import WeirTesting

@testable import WeirEngine

/// Errors of a source that opens: what is retried, what stops, and what is shown meanwhile.
@Suite(.timeLimit(.minutes(1))) struct StreamFailureTests {
    private let state: TestState
    private let server = ScriptedServer()
    private let disk = SinkDisk()
    private var pipeline: TestPipeline { TestPipeline(server: server, disks: [disk]) }

    init() throws { state = try TestState() }

    private func report(_ running: Pipeline) -> PipelineReport {
        PipelineReport(running, failures: [], gaps: [], nowMicros: WallClock.micros())
    }

    @Test func aStreamThatBreaksAtOnePlaceStopsThePipelineWithThePlaceAndAWayOn() async throws {
        for count in [1, 2, 1] { server.commit(count) }
        server.poison(1)
        let ending = try await state.withStore { store in
            let running = pipeline.make(store, state)
            let ending = await running.run(isOnce: false)
            let report = report(running)
            #expect(report.state == .stopped)
            #expect(report.errorsLastHour == StreamPatience.failuresMax)
            #expect(report.problems.map(\.code) == ["engine.stream_stuck"])
            #expect(report.sinks.map(\.state) == [.stopped])
            return ending
        }
        #expect(disk.kept == ["16/0"], "what lies before is delivered")
        let error = try #require(ending.error)
        #expect(error.disposition == .blocked)
        #expect(error.message == "the stream breaks at position 0/18 at every attempt")
        #expect(error.detail?.contains("20 attempts since ") == true)
        #expect(error.detail?.contains("what stands there cannot be read") == true)
        #expect(error.hint?.contains("weir position set p now --yes") == true)
        // No more than the attempts that are allowed: each costs the source the same again.
        #expect(server.opens == StreamPatience.failuresMax)
    }

    @Test func anOpenStreamAloneHidesNoError() async throws {
        server.commit(1)
        server.commit(1)
        server.poison(1)
        try await pipeline.run(in: state) { running in
            try await eventually("some attempts") { server.opens > 4 }
            for _ in 0..<50 {
                let report = report(running)
                #expect(report.state == .failing)
                #expect(report.problems.map(\.code) == ["testing.fault"])
                try await Task.sleep(for: .milliseconds(1))
            }
            server.poison(nil)
            try await eventually("what stood there arrives") { disk.kept == server.ids }
            try await eventually("and the error is over") {
                report(running).state == .streaming && report(running).problems.isEmpty
            }
        }
    }

    @Test func aServerThatIsAwayIsTriedForEver() async throws {
        server.commit(1)
        try await pipeline.run(in: state) { running in
            try await eventually("delivered") { disk.kept == server.ids }
            let opens = server.opens
            server.cut(afterReads: 0, refusingOpens: 3 * StreamPatience.failuresMax)
            try await eventually("more attempts than a stream has") {
                server.opens > opens + StreamPatience.failuresMax + 5
            }
            let report = report(running)
            #expect(report.state == .failing)
            #expect(report.problems.first?.attempt ?? 0 > StreamPatience.failuresMax)
            #expect(
                report.problems.first?.note?.contains("attempts ended with the same words") == true)
            server.cut(afterReads: .max)
            server.commit(1)
            try await eventually(within: .seconds(30), "delivered") { disk.kept == server.ids }
        }
    }

    // MARK: What is shown while the source is away

    private static func kept(_ status: String) -> SourceRetention {
        SourceRetention(
            .slot, name: "weir_p", active: true, status: status, head: "0/2", confirmed: "0/1")
    }

    /// A slot that was just reported missing is not shown as it was before.
    @Test func whatTheSourceKeepsIsAskedWhileItsStreamIsDown() async throws {
        server.commit(1)
        server.keep(Self.kept("reserved"))
        try await pipeline.run(in: state) { running in
            try await eventually("asked while it streams") {
                report(running).source.retention.map { $0.active && $0.status == "reserved" }
                    == true
            }
            server.keep(Self.kept("missing"))
            server.cut(afterReads: 0, refusingOpens: 1_000_000)
            try await eventually("asked again") {
                report(running).source.retention?.status == "missing"
            }
            #expect(report(running).source.retention?.active == false)
            // Not to be asked either: what is known stays, with its age.
            server.keep(nil)
            let opens = server.opens
            try await eventually("more attempts") { server.opens > opens + 2 }
            let source = report(running).source
            #expect(source.retention?.status == "missing")
            #expect(source.retentionAsOf != nil)
            server.cut(afterReads: .max)
        }
    }

    @Test func whatTheSourceKeepsForAStoppedPipelineIsAskedUntilTheEnd() async throws {
        server.commit(1)
        server.keep(Self.kept("reserved"))
        disk.fail(write: [.reject(.blocked)])
        try await state.withStore { store in
            let running = pipeline.make(store, state)
            let ending = await running.run(isOnce: false)
            #expect(ending.error?.component == "a")
            #expect(report(running).source.retention?.active != true, "nothing reads from it")
            server.keep(Self.kept("extended"))
            let watch = Task { await running.watchRetention() }
            try await eventually("asked") {
                report(running).source.retention?.status == "extended"
            }
            #expect(report(running).source.retention?.active == false)
            running.stop()
            await watch.value
        }
    }

    // MARK: A source that does not answer

    private func silent(_ source: SilentServer) -> PipelinePlan {
        PipelinePlan(
            name: "p", sourceType: "silent", notation: .numbers, connection: "test",
            sinks: [
                SinkPlan(name: "a", type: "faulty") { [disk] context in
                    FaultySink(FaultySink.Config(disk: disk), context)
                }
            ]
        ) { SilentSource(SilentSource.Config(server: source), $0) }
    }

    @Test func aStopDoesNotWaitForASourceThatDoesNotAnswer() async throws {
        server.commit(1)
        try await pipeline.runOnce(in: state)
        let silent = SilentServer(opening: .zero)
        try await state.withStore { store in
            let running = Pipeline(
                self.silent(silent), store: store, directory: state.directory,
                logger: TestPipeline.logger, pace: TestPipeline.pace)
            let task = Task { await running.run(isOnce: false) }
            try await eventually("the source is asked what it keeps") { silent.probes > 0 }
            running.stop()
            _ = await task.value
            #expect(silent.isCancelled, "the question was given up")
        }
    }

    @Test func aSourceThatKeepsAttemptsWaitingIsNotAskedAfterEachOfThem() async throws {
        server.commit(1)
        try await pipeline.runOnce(in: state)
        let silent = SilentServer(opening: .milliseconds(200))
        try await state.withStore { store in
            let running = Pipeline(
                self.silent(silent), store: store, directory: state.directory,
                logger: TestPipeline.logger, pace: TestPipeline.pace)
            let task = Task { await running.run(isOnce: false) }
            try await eventually("some attempts") { silent.opens > 2 }
            #expect(silent.probes == 0)
            try await eventually("asked all the same after a while") { silent.probes > 0 }
            running.stop()
            _ = await task.value
        }
    }
}

/// What a `SilentSource` was asked.
private final class SilentServer: Sendable {
    private struct State {
        var opens = 0
        var probes = 0
        var isCancelled = false
    }
    private let state = Mutex(State())
    let opening: Duration

    init(opening: Duration) { self.opening = opening }

    var opens: Int { state.withLock { $0.opens } }
    var probes: Int { state.withLock { $0.probes } }
    var isCancelled: Bool { state.withLock { $0.isCancelled } }

    func opened() { state.withLock { $0.opens += 1 } }
    func probed() { state.withLock { $0.probes += 1 } }
    func cancelled() { state.withLock { $0.isCancelled = true } }
}

/// Fails to open after a while; a question is answered by nothing but the end of its task.
private actor SilentSource: SourceProbe {
    static let notation = SourceNotation.numbers

    struct Config: ConnectorConfig {
        static let fields: [ConfigField] = []
        let server: SilentServer
        init(_ scope: ConfigScope) throws(ConfigIssue) {
            throw ConfigIssue(field: nil, "only for tests")
        }
        init(server: SilentServer) { self.server = server }
    }

    private let server: SilentServer

    init(_ config: Config, _ context: ConnectorContext) { server = config.server }

    func open(at stored: StoredPosition?) async throws(WeirError) -> SourceStart {
        server.opened()
        try? await Task.sleep(for: server.opening)
        throw WeirError(.bug, .transient, "no answer in time")
    }
    func read(
        into batch: consuming BatchBuilder, within limit: Duration
    ) throws(WeirError) -> EventBatch { batch.seal(resume: nil, end: nil) }
    func acknowledge(_ durable: Position?) {}
    func close() {}
    func probe(held: Position?) async throws(WeirError) -> SourceRetention {
        server.probed()
        try? await Task.sleep(for: .seconds(600))
        if Task.isCancelled { server.cancelled() }
        throw WeirError(.bug, .transient, "no answer in time")
    }
}
