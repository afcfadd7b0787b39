import Foundation
import Testing
import WeirCore
import WeirTesting

@testable import WeirEngine

/// What each number and word of `weir.status/1` means, from facts, connected and cut off.
@Suite struct StatusReportTests {
    private static let now: Int64 = 1_790_000_000_000_000
    private static func ago(_ seconds: Double) -> Int64 { now - Int64(seconds * 1_000_000) }
    private static func text(_ seconds: Double) -> String { ISOTime.text(ago(seconds)) }

    private static let plan = PipelinePlan(
        name: "p", sourceType: "scripted", notation: .numbers, connection: "db", warnings: ["w"],
        sinks: ["a", "b"].map { name in
            SinkPlan(name: name, type: "faulty") { (context) throws(WeirError) in
                FaultySink(FaultySink.Config(disk: SinkDisk()), context)
            }
        }
    ) { (context) throws(WeirError) in
        ScriptedSource(ScriptedSource.Config(server: ScriptedServer()), context)
    }

    private static func lane(
        waiting: Int = 0, bytes: Int = 0, inFlight: Int = 0, spilled: Int = 0,
        isSpilling: Bool = false, silent: Double? = nil, full: Double? = nil,
        bound: LaneSnapshot.SpillBound? = nil, oldest: Double? = nil,
        statistics: LaneStatistics = LaneStatistics()
    ) -> LaneSnapshot {
        LaneSnapshot(
            written: Position(high: 16), waitingEvents: waiting, waitingBytes: bytes,
            inFlightEvents: inFlight, spilledBytes: spilled, isSpilling: isSpilling,
            silentSeconds: silent, isStuck: silent.map { $0 >= 10 } ?? false,
            fullMicros: full.map(ago), spillLimit: bound, oldestMicros: oldest.map(ago),
            statistics: statistics)
    }

    /// Streaming, read just now.
    private static func facts(read: Double? = 0.1) -> PipelineMonitor.Facts {
        var facts = PipelineMonitor.Facts()
        facts.state = .streaming
        facts.lastReadMicros = read.map(ago)
        return facts
    }

    private func report(
        _ facts: PipelineMonitor.Facts = Self.facts(), _ a: LaneSnapshot? = Self.lane(),
        _ b: LaneSnapshot? = Self.lane()
    ) -> PipelineReport {
        var lanes: [String: LaneSnapshot] = [:]
        lanes["a"] = a
        lanes["b"] = b
        return PipelineReport(
            Self.plan, facts, lanes: lanes, failures: [], gaps: [], nowMicros: Self.now)
    }

    private static func failing(_ attempts: Int, _ message: String = "down") -> LaneStatistics {
        var statistics = LaneStatistics()
        for attempt in 1...attempts {
            statistics.failed(
                .fault(message, .transient), attempt: attempt, retryIn: .seconds(3600))
        }
        return statistics
    }

    // MARK: Lag and states

    @Test func allIsWell() {
        let report = report()
        #expect(report.state == .streaming)
        #expect(report.lagSeconds == 0)
        #expect(report.sinks.map(\.state) == [.ok, .ok])
        #expect(report.problems.isEmpty)
        #expect(report.warnings.isEmpty, "those of the plan come with the first opening")
    }

    @Test func lagIsTheWorstSinksAndBehindIsMoreThanFiveSeconds() {
        let behind = report(Self.facts(), Self.lane(oldest: 5.5), Self.lane(oldest: 1))
        #expect(behind.lagSeconds == 5.5)
        #expect(behind.sinks.map(\.lagSeconds) == [5.5, 1])
        #expect(behind.state == .catchingUp)
        #expect(report(Self.facts(), Self.lane(oldest: 4.5)).state == .streaming)
    }

    @Test(arguments: [PipelineState.failing, .stopped, .streaming])
    func cutOffFromTheSourceLagCountsFromTheLastContact(state: PipelineState) {
        var facts = Self.facts(read: 95)
        facts.state = state
        let report = report(facts)
        #expect(report.lagSeconds == 95)
        #expect(report.sinks.map(\.lagSeconds) == [95, 95])
        #expect(report.source.lastRead == Self.text(95))
    }

    @Test func lagIsNotKnownBeforeTheSourceWasHeard() throws {
        var facts = Self.facts(read: nil)
        facts.state = .failing
        for report in [report(facts), report(facts, nil, nil)] {
            #expect(report.lagSeconds == nil)
            #expect(report.sinks.map(\.lagSeconds) == [nil, nil])
        }
    }

    @Test func aSinkWithoutALaneHasNoLagOfItsOwn() {
        #expect(report(Self.facts(), Self.lane(), nil).lagSeconds == nil)
    }

    // MARK: The sink that fails, and its neighbours

    @Test func theSinkThatStoppedThePipelineIsNamedAndItsNeighboursWait() throws {
        var facts = Self.facts(read: 60)
        facts.state = .stopped
        var error = WeirError(.bug, .blocked, "refused", detail: "d", hint: "h")
        error.component = "b"
        facts.stopped = error
        facts.stoppedMicros = Self.ago(60)
        let report = report(facts)
        #expect(report.sinks.map(\.state) == [.stopped, .failed])
        let problem = try #require(report.problems.first)
        #expect(report.problems.count == 1)
        #expect(problem.component == "b" && problem.since == Self.text(60))
        #expect(problem.note?.contains("its other sink (\"a\") gets nothing meanwhile") == true)
        #expect(problem.note?.hasSuffix("weir stop; weir start.") == true)
    }

    @Test func aSourceThatStoppedThePipelineBlamesNoSink() {
        var facts = Self.facts()
        facts.state = .stopped
        facts.stopped = WeirError(.bug, .positionLost, "gone")
        let report = report(facts)
        #expect(report.sinks.map(\.state) == [.stopped, .stopped])
        #expect(report.problems.map(\.component) == ["source"])
    }

    @Test func aSinkThatTookThePipelineBackIsNotOk() {
        var facts = Self.facts()
        facts.state = .failing
        var error = WeirError.fault("lost", .rewind)
        error.component = "a"
        facts.failure = LaneStatistics.LaneFailure(
            error, after: nil, attempt: 1, retryIn: .seconds(9))
        let report = report(facts)
        #expect(report.sinks.map(\.state) == [.retrying, .waiting])
        #expect(report.problems.map(\.component) == ["a"])
    }

    @Test func aSinkThatFailsMakesThePipelineFail() throws {
        let report = report(Self.facts(), Self.lane(statistics: Self.failing(3)))
        #expect(report.state == .failing)
        #expect(report.sinks.map(\.state) == [.retrying, .ok])
        let problem = try #require(report.problems.first)
        #expect(problem.component == "a" && problem.attempt == 3 && problem.note == nil)
        #expect(problem.nextAttemptSeconds ?? 0 > 0)
    }

    @Test func anAnswerThatNeverChangesIsSaid() throws {
        let many = Problems.unchangedMax
        let same = report(Self.facts(), Self.lane(statistics: Self.failing(many)))
        #expect(
            same.problems.first?.note?.hasPrefix("The last \(many) attempts ended with the same")
                == true)
        #expect(same.problems.first?.note?.hasSuffix("weir explain testing.fault") == true)
        var statistics = Self.failing(many)
        statistics.failed(.fault("other", .transient), attempt: many + 1, retryIn: .zero)
        let other = report(Self.facts(), Self.lane(statistics: statistics))
        #expect(other.problems.first?.note == nil)
    }

    @Test func aSinkThatDoesNotAnswerIsAProblem() throws {
        let stuck = report(Self.facts(), Self.lane(inFlight: 7, silent: 34))
        #expect(stuck.state == .failing)
        #expect(stuck.sinks.map(\.state) == [.stuck, .ok])
        let problem = try #require(stuck.problems.first)
        #expect(problem.code == "engine.sink_silent" && problem.component == "a")
        #expect(problem.detail == "A write of 7 changes has been under way for 34 seconds.")
        #expect(problem.since == Self.text(34))
        let opening = report(Self.facts(), Self.lane(silent: 12))
        #expect(
            opening.problems.first?.detail
                == "Opening or checking it has been under way for 12 seconds.")
        #expect(report(Self.facts(), Self.lane(inFlight: 7, silent: 9)).problems.isEmpty)
    }

    @Test func aSourceThatDoesNotAnswerIsAProblem() throws {
        var facts = Self.facts()
        facts.sourceCall = (Self.ago(34), .reading)
        let silent = report(facts)
        #expect(silent.state == .failing)
        let problem = try #require(silent.problems.first)
        #expect(problem.code == "engine.source_silent" && problem.component == "source")
        #expect(problem.detail == "A read has been under way for 34 seconds.")
        #expect(problem.since == Self.text(34))
        facts.sourceCall = (Self.ago(9), .opening)
        #expect(report(facts).problems.isEmpty)
        // What it failed by last says more.
        facts.sourceCall = (Self.ago(34), .opening)
        facts.failure = Self.failing(1).failure
        #expect(report(facts).problems.map(\.code) == ["testing.fault"])
    }

    // MARK: Full spills and slow sinks

    @Test func aFullSpillIsAProblemOfItsSinkAndTheOthersWait() throws {
        let full = Self.lane(
            waiting: 5, bytes: 900, spilled: 1 << 20, isSpilling: true, full: 20,
            bound: .limit(1 << 20), statistics: Self.failing(2))
        let report = report(Self.facts(), full)
        #expect(report.sinks.map(\.state) == [.spilling, .waiting])
        #expect(report.problems.map(\.component) == ["a", "a"])
        let problem = try #require(report.problems.last)
        #expect(problem.code == "engine.spill_full")
        #expect(problem.message == "the spill is full; the pipeline waits")
        #expect(problem.since == Self.text(20))
        #expect(problem.detail?.hasPrefix("1048576 bytes wait on disk and 900 in memory;") == true)
    }

    @Test func aFullDiskAndASpillThatIsOffAreCalledThat() {
        func message(_ bound: LaneSnapshot.SpillBound) -> String? {
            report(Self.facts(), Self.lane(isSpilling: true, full: 1, bound: bound))
                .problems.last?.message
        }
        #expect(message(.disk)?.hasPrefix("the disk of the state directory has no room") == true)
        #expect(message(.limit(0))?.hasPrefix("the sink has no spill") == true)
    }

    @Test func aSinkThatSpillsWithRoomIsNoProblemByItself() {
        let report = report(Self.facts(), Self.lane(spilled: 100, isSpilling: true))
        #expect(report.sinks.map(\.state) == [.spilling, .ok])
        #expect(report.problems.isEmpty)
    }

    @Test func aSinkThatTheReaderWaitsForMostOfTheTimeIsSlow() {
        func problems(waited seconds: Double, inFlight: Int = 1) -> [ProblemReport] {
            var statistics = LaneStatistics()
            statistics.waited(.seconds(seconds))
            // The histories of a lane run on the clock of the machine.
            return PipelineReport(
                Self.plan, Self.facts(),
                lanes: [
                    "a": Self.lane(inFlight: inFlight, statistics: statistics), "b": Self.lane(),
                ], failures: [], gaps: [], nowMicros: WallClock.micros()
            ).problems
        }
        #expect(problems(waited: 4).isEmpty)
        #expect(problems(waited: 9, inFlight: 0).isEmpty, "it has caught up")
        let slow = problems(waited: 9)
        #expect(slow.map(\.code) == ["engine.sink_slow"])
        #expect(
            slow.first?.detail?.hasPrefix("The pipeline waited for it 90% of the last 10 seconds.")
                == true)
    }

    // MARK: Counts

    @Test func countsAreOfTheSinkAndQueuedIsWhatWaitsInMemory() throws {
        var statistics = LaneStatistics()
        let events = SampleBatch.transaction(16, count: 3)
        statistics.wrote(
            WriteOutcome(.durable, delivered: 3, filtered: 2, late: 1, bytes: 70),
            batches: [events], took: .milliseconds(5))
        let report = report(
            Self.facts(),
            Self.lane(
                waiting: 9, bytes: 400, inFlight: 4, spilled: 800, isSpilling: true,
                statistics: statistics),
            Self.lane(waiting: 1))
        let sink = report.sinks[0]
        #expect(sink.delivered == 3 && sink.filtered == 2 && sink.late == 1 && sink.bytes == 70)
        #expect(sink.queuedEvents == 9 && sink.queuedBytes == 400)
        #expect(sink.inFlightEvents == 4 && sink.spilledBytes == 800 && sink.retries == 0)
        #expect(sink.position == "0/10")
        for latency in [sink.p50Ms, sink.p99Ms] {
            #expect(try abs(#require(latency) - 5) < 0.2)
        }
        #expect(report.sinks[1].p50Ms == nil)
        #expect(report.queuedEvents == 10)
    }

    @Test func ratesAreOfTenSecondsAndDeliveredOfTheFastestSink() {
        let now = WallClock.micros()
        var facts = Self.facts()
        facts.lastReadMicros = now
        facts.rate.add(50, atSeconds: now / 1_000_000)
        func lane(_ count: Int) -> LaneSnapshot {
            var statistics = LaneStatistics()
            statistics.rate.add(count, atSeconds: now / 1_000_000)
            return Self.lane(statistics: statistics)
        }
        let report = PipelineReport(
            Self.plan, facts, lanes: ["a": lane(40), "b": lane(10)], failures: [], gaps: [],
            nowMicros: now)
        #expect(report.receivedPerSecond == 5)
        #expect(report.deliveredPerSecond == 4)
        #expect(report.deliveredLastMinutes.count == 10)
        #expect(report.deliveredLastMinutes.last == 40)
    }

    @Test func errorsAreOfTheLastHourAndOfWhatIsConfigured() {
        var facts = Self.facts()
        func add(_ component: String, _ ages: [Double]) {
            for age in ages {
                let second = Self.ago(age) / 1_000_000
                facts.errors[component, default: HourCount(atSeconds: second)].add(
                    atSeconds: second)
            }
        }
        add("source", [4000, 3000, 10])
        add("a", [3700, 600, 30, 2])
        // A sink of this name is not configured.
        add("gone", [5, 5])
        let report = report(facts)
        #expect(report.sinks.map(\.errorsLastHour) == [3, 0])
        #expect(report.errorsLastHour == 5)
    }

    @Test func whatTheSourceSaidIsShownWithItsTime() {
        var facts = Self.facts()
        facts.received = 12
        facts.receivedBytes = 340
        facts.filtered = 5
        facts.lastEventMicros = Self.ago(3)
        facts.lastMarkMicros = Self.ago(8)
        facts.retention = SourceRetention(
            .slot, name: "s", active: true, status: "reserved", head: "0/2", confirmed: "0/1")
        facts.retentionMicros = Self.ago(2)
        let source = report(facts).source
        #expect(source.type == "scripted" && source.connection == "db")
        #expect(source.received == 12 && source.receivedBytes == 340 && source.filtered == 5)
        #expect(source.lastEvent == Self.text(3) && source.lastHeartbeat == Self.text(8))
        #expect(source.retention?.status == "reserved" && source.retentionAsOf == Self.text(2))
    }

    // MARK: The document

    @Test func whatIsNotKnownIsNullAndNeverZero() throws {
        let offline = PipelineReport(
            offline: Self.plan, rows: [], failures: [], gaps: [], retention: nil)
        let report = StatusReport(
            version: "1", isRunning: false, pid: nil, startedMicros: nil, lastSeenMicros: nil,
            pipelines: [offline])
        let json = try report.json()
        let document = try #require(
            JSONSerialization.jsonObject(with: json) as? [String: Any])
        for key in ["pid", "started", "uptime_seconds", "last_seen"] {
            #expect(document[key] is NSNull, "\(key)")
        }
        let pipeline = try #require((document["pipelines"] as? [[String: Any]])?.first)
        for key in [
            "lag_seconds", "queued_events", "received_per_second", "delivered_per_second",
            "errors_last_hour",
        ] { #expect(pipeline[key] is NSNull, "\(key)") }
        let sink = try #require((pipeline["sinks"] as? [[String: Any]])?.first)
        for key in [
            "lag_seconds", "queued_events", "queued_bytes", "in_flight_events", "delivered",
            "filtered", "late", "bytes", "retries", "p50_ms", "p99_ms", "errors_last_hour",
        ] { #expect(sink[key] is NSNull, "\(key)") }
        #expect(sink["state"] as? String == "unknown")
        let source = try #require(pipeline["source"] as? [String: Any])
        for key in ["received", "last_read", "retention", "retention_as_of"] {
            #expect(source[key] is NSNull, "\(key)")
        }
        #expect(try StatusReport(json: json).pipelines.first?.lagSeconds == nil)
    }

    @Test func aDocumentOfAnotherVersionMayLackFields() throws {
        let report = StatusReport(
            version: "1", isRunning: true, pid: 7, startedMicros: 0, lastSeenMicros: 5_000_000,
            pipelines: [report()])
        let text = String(decoding: try report.json(), as: UTF8.self)
        #expect(report.uptimeSeconds == 5)
        let older = text.replacing(
            /"(retention_as_of|last_read|lag_seconds|pid)" : [^,\n]*,?/, with: ""
        )
        .replacing(/,(?=\s*[}\]])/, with: "")
        #expect(older != text)
        let read = try StatusReport(json: Data(older.utf8))
        #expect(read.pid == nil && read.pipelines.first?.lagSeconds == nil)
    }

    /// A command line that was upgraded before its daemon was started anew.
    @Test func theAnswerOfADaemonOfTheVersionBeforeIsUnderstood() throws {
        let report = try StatusReport(
            json: Data(
                """
                { "schema": "weir.status/1", "version": "0.1.0", "is_running": true, "pid": 7,
                  "started": "2026-11-21T02:03:04.123Z", "uptime_seconds": 5,
                  "last_seen": "2026-11-21T02:03:09.123Z",
                  "pipelines": [ {
                    "name": "shop", "state": "streaming", "lag_seconds": 0.5, "queued_events": 0,
                    "received_per_second": 1, "delivered_per_second": 1,
                    "delivered_last_minutes": [1], "errors_last_hour": 0, "warnings": [],
                    "problems": [ { "component": "s", "code": "a.b", "message": "m" } ],
                    "errors": [],
                    "source": { "type": "postgres", "connection": "db", "server": "PostgreSQL 17",
                      "received": 1, "received_bytes": 1, "filtered": 0,
                      "retention": { "kind": "slot", "name": "weir_shop", "active": true,
                        "status": "reserved", "head": "0/2", "confirmed": "0/1" } },
                    "sinks": [ { "name": "s", "type": "file", "state": "retrying",
                      "position": "0/1", "lag_seconds": 0.5, "queued_events": 0,
                      "queued_bytes": 0, "in_flight_events": 0, "spilled_bytes": 0,
                      "delivered": 1, "filtered": 0, "late": 0, "bytes": 1, "retries": 0,
                      "errors_last_hour": 0 } ] } ] }
                """.utf8))
        #expect(report.orphans.isEmpty && report.configuration == nil)
        let pipeline = try #require(report.pipelines.first)
        #expect(pipeline.gaps.isEmpty && pipeline.findings.isEmpty && !pipeline.checked)
        #expect(pipeline.sinks.map(\.state) == [.retrying])
        #expect(pipeline.sinks.first?.began == nil && pipeline.sinks.first?.p50Ms == nil)
    }
}
