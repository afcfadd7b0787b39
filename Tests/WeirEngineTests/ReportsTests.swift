import GRDB
import Testing
import WeirCore
import WeirTesting

@testable import WeirEngine

/// Findings, declared gaps, and the check of a target before its first write.
@Suite(.timeLimit(.minutes(1))) struct ReportsTests {
    private let state: TestState
    init() throws { state = try TestState() }

    private static let narrow = ErrorCode("test.narrow", meaning: "m", remedy: "r")
    private static let lost = ErrorCode("test.lost", meaning: "m", remedy: "r")

    private func finding(
        _ severity: Finding.Severity, _ subject: String = "public.t", _ message: String = "narrow"
    ) -> Finding {
        Finding(Self.narrow, severity, subject, message, hint: "ALTER TABLE t;")
    }

    private func plan(_ server: ScriptedServer, _ disk: SinkDisk, _ found: [Finding])
        -> PipelinePlan
    {
        PipelinePlan(
            name: "p", sourceType: "scripted", notation: .numbers, connection: "test",
            sinks: [
                SinkPlan(name: "a", type: "faulty") { context in
                    CheckedSink(FaultySink(FaultySink.Config(disk: disk), context), context, found)
                }
            ]
        ) { ScriptedSource(ScriptedSource.Config(server: server), $0) }
    }

    private func pipeline(_ plan: PipelinePlan, _ store: StateStore) -> Pipeline {
        Pipeline(
            plan, store: store, directory: state.directory, logger: TestPipeline.logger,
            pace: TestPipeline.pace)
    }

    @Test func aBlockingFindingStopsThePipelineBeforeTheFirstWrite() async throws {
        let server = ScriptedServer()
        let disk = SinkDisk()
        server.commit(3)
        try await state.withStore { store in
            let pipeline = pipeline(plan(server, disk, [finding(.blocking)]), store)
            let error = try #require(await pipeline.run(isOnce: true).error)
            #expect(error.code == Self.narrow)
            #expect(error.disposition == .blocked)
            #expect(error.component == "a")
            #expect(error.hint == "ALTER TABLE t;")
            let report = PipelineReport(pipeline, failures: [], gaps: [], nowMicros: 0)
            #expect(report.findings.map(\.code) == ["test.narrow"])
            #expect(report.findings.first?.severity == .blocking)
            #expect(report.problems.map(\.code) == ["test.narrow"])
        }
        #expect(disk.kept.isEmpty)
    }

    @Test func aWarningIsShownAndEventsGoOn() async throws {
        let server = ScriptedServer()
        let disk = SinkDisk()
        server.commit(3)
        try await state.withStore { store in
            let pipeline = pipeline(plan(server, disk, [finding(.warning)]), store)
            #expect(await pipeline.run(isOnce: true).error == nil)
            let report = PipelineReport(pipeline, failures: [], gaps: [], nowMicros: 0)
            #expect(report.findings.map(\.subject) == ["public.t"])
            #expect(report.findings.first?.component == "a")
        }
        #expect(disk.kept == server.ids)
    }

    @Test func aFindingIsReplacedSettledAndForgottenByItsIdentity() {
        let monitor = PipelineMonitor()
        #expect(monitor.raised(finding(.warning), by: "a"))
        // The same words again are not news; other words are.
        #expect(!monitor.raised(finding(.warning), by: "a"))
        #expect(monitor.raised(finding(.warning, "public.t", "narrower"), by: "a"))
        #expect(monitor.raised(finding(.warning, "public.u"), by: "a"))
        #expect(monitor.raised(finding(.warning), by: "b"))
        #expect(monitor.now.findings.map(\.finding.message) == ["narrower", "narrow", "narrow"])
        monitor.settled(Self.narrow, "public.t", by: "a")
        #expect(monitor.now.findings.map(\.component) == ["a", "b"])
        // A connection that comes and goes finds the same again: that fills no log.
        monitor.forgetFindings(of: "a")
        #expect(monitor.now.findings.map(\.component) == ["b"])
        #expect(!monitor.raised(finding(.warning, "public.u"), by: "a"))
        #expect(monitor.now.findings.map(\.component) == ["b", "a"])
    }

    @Test func aGapIsKeptOverRestartsUntilItIsResolved() async throws {
        let gap = DeclaredGap(
            Self.lost, "public.t", from: "0/10", to: "0/20", "rows are missing", hint: "load them")
        let other = DeclaredGap(Self.lost, "public.u", "rows are missing", hint: "load them")
        try await state.withStore { store in
            func declare(
                _ gap: DeclaredGap, of pipeline: String, by component: String, at micros: Int64
            ) async throws -> GapRow? {
                try await store.declare(
                    gap, of: pipeline, component: component, atMicros: micros)
            }
            let new = try #require(try await declare(gap, of: "p", by: "a", at: 5))
            #expect(new.words == "gap \(new.id) declared: test.lost: rows are missing\n  load them")
            #expect(try await declare(gap, of: "p", by: "a", at: 6) == nil)
            #expect(try await declare(gap, of: "p", by: "b", at: 7) != nil)
            #expect(try await declare(other, of: "q", by: "a", at: 8) != nil)
        }
        try await state.withStore { store in
            let open = try await store.openGaps(of: "p")
            #expect(open.map(\.component) == ["a", "b"])
            #expect(open.first?.declaredMicros == 5)
            #expect(open.first?.from == "0/10" && open.first?.to == "0/20")
            #expect(try await store.openGaps().map(\.pipeline) == ["p", "p", "q"])
            let id = try #require(open.first?.id)
            #expect(try await store.resolveGap(id, atMicros: 9))
            #expect(try await !store.resolveGap(id, atMicros: 9))
            #expect(try await store.openGaps(of: "p").map(\.component) == ["b"])
            // What happens again after it was resolved is a gap of its own.
            let again = try await store.declare(gap, of: "p", component: "a", atMicros: 10)
            #expect(again?.declaredMicros == 10)
            #expect(try await store.openGaps(of: "p").map(\.id).max() ?? 0 > id)
        }
    }

    @Test func gapsOfAnEarlierVersionAreReadAsGapsOfAMovedPosition() async throws {
        let queue = try DatabaseQueue(path: state.directory.databasePath)
        try await queue.write { database in
            try database.execute(
                sql: """
                    CREATE TABLE grdb_migrations (identifier TEXT NOT NULL PRIMARY KEY);
                    INSERT INTO grdb_migrations VALUES ('1');
                    CREATE TABLE gap (
                        pipeline TEXT NOT NULL, "from" TEXT NOT NULL, "to" TEXT NOT NULL,
                        reason TEXT NOT NULL, at INTEGER NOT NULL) STRICT;
                    INSERT INTO gap VALUES ('p', '0/10', '0/20', 'position set now', 7);
                    """)
        }
        try queue.close()
        // Read before the first start of this version too, which changes the file's layout.
        var seen: [GapRow] = []
        for isReadOnly in [true, false] {
            try await state.withStore(isReadOnly: isReadOnly) { store in
                let gap = try #require(try await store.openGaps(of: "p").first)
                #expect(gap.code == ErrorCode.positionSet.name)
                #expect(gap.component == "source")
                #expect(gap.from == "0/10" && gap.to == "0/20")
                #expect(gap.message == "position set now")
                #expect(gap.declaredMicros == 7)
                #expect(try await store.openGaps().count == 1)
                seen.append(gap)
            }
        }
        #expect(seen[0].id == seen[1].id, "weir gap resolve takes the number that was shown")
    }
}

/// A faulty sink whose check finds what it is told to.
private actor CheckedSink: SinkCheck {
    typealias Config = FaultySink.Config
    private let sink: FaultySink
    private let found: [Finding]
    private let executor: any SerialExecutor
    nonisolated var unownedExecutor: UnownedSerialExecutor {
        unsafe executor.asUnownedSerialExecutor()
    }

    init(_ config: Config, _ context: ConnectorContext) {
        self.init(FaultySink(config, context), context, [])
    }

    init(_ sink: FaultySink, _ context: ConnectorContext, _ found: [Finding]) {
        self.sink = sink
        self.found = found
        executor = context.executor
    }

    func open(at mark: SinkMark?) async throws(WeirError) -> SinkMark? {
        try await sink.open(at: mark)
    }
    func write(_ batches: [EventBatch]) async throws(WeirError) -> WriteOutcome {
        try await sink.write(batches)
    }
    func flush() async throws(WeirError) { try await sink.flush() }
    func close() async { await sink.close() }
    func check(_ tables: [TableSchema]) async throws(WeirError) -> [Finding] { found }
}
