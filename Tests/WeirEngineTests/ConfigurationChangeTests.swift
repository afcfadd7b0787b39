import Foundation
import GRDB
import Testing
import WeirCore
import WeirTesting

@testable import WeirEngine

/// What a start makes of a configuration that is not the one it last ran under.
@Suite(.timeLimit(.minutes(1))) struct ConfigurationChangeTests {
    private let state: TestState
    private let server = ScriptedServer()
    init() throws { state = try TestState() }

    private static func row(_ sink: String, _ commit: UInt64, spill: UInt64? = nil)
        -> CheckpointRow
    {
        CheckpointRow(
            pipeline: "p", sink: sink, position: Position(high: commit), mark: nil,
            spill: spill.map { Spill.Extent(end: Position(high: $0), length: 77) },
            updatedMicros: 5)
    }

    // MARK: Sinks that come and go

    /// By name: what a sink claims.
    private func roster(
        _ sinks: [String: String], before: [String: String], _ rows: [CheckpointRow]
    ) throws -> SinkRoster {
        func settings(_ sinks: [String: String]) -> [String: ConnectorSettings] {
            sinks.mapValues { self.settings(claims: [$0]) }
        }
        return try #require(
            SinkRoster(
                sinks: sinks.keys.sorted(), rows: rows, .numbers, settings: settings(sinks),
                before: settings(before)))
    }

    @Test func aRenamedSinkBeginsWhereTheSlowestStoodAndLosesNothing() throws {
        let rows = [Self.row("fast", 90), Self.row("slow", 10)]
        let before = ["fast": "f", "slow": "s"]
        let one = try roster(["fast": "f", "new": "s"], before: before, rows)
        #expect(one.added == ["new"])
        #expect(one.beginning == Position(high: 10))
        #expect(one.kept == [rows[0]])
        #expect(one.gone.map(\.row) == [rows[1]])
        #expect(one.gone.map(\.successor) == ["new"])
        #expect(one.gone.allSatisfy { $0.gap == nil })
        // Both at once.
        let both = try roster(["x": "s", "y": "f"], before: before, rows)
        #expect(both.added == ["x", "y"] && both.beginning == Position(high: 10))
        #expect(both.gone.map(\.successor) == ["y", "x"])
        #expect(both.gone.allSatisfy { $0.gap == nil })
    }

    @Test func aSinkThatIsAddedWhereAnotherIsRemovedDoesNotStandInForIt() throws {
        let rows = [Self.row("cache", 100), Self.row("search", 900)]
        let before = ["cache": "c", "search": "s"]
        let edited = try roster(["audit": "a", "search": "s"], before: before, rows)
        #expect(edited.beginning == Position(high: 100))
        let gone = try #require(edited.gone.first)
        #expect(gone.successor == nil)
        #expect(gone.gap?.from == "0/64" && gone.gap?.to == "0/384")
        // Of two that are gone, one is renamed.
        let two = try roster(["new": "c"], before: before, rows)
        #expect(two.gone.map(\.successor) == ["new", nil])
        #expect(two.gone.map { $0.gap == nil } == [true, true], "the fastest had all")
        let slow = try roster(["new": "s"], before: before, rows)
        #expect(slow.gone.map(\.successor) == [nil, "new"])
        #expect(slow.gone[0].gap?.to == "0/384")
        // Nothing is known of how it was configured.
        let unknown = try roster(["new": "c", "search": "s"], before: [:], rows)
        #expect(unknown.gone.map { $0.gap != nil } == [true])
        // The same claim twice, which stands in for one alone.
        let twins = try roster(["new": "c"], before: ["cache": "c", "search": "c"], rows)
        #expect(twins.gone.map(\.successor) == ["new", nil])
    }

    @Test func whatWaitedOnDiskForASinkThatIsGoneIsAGap() throws {
        let rows = [Self.row("fast", 90), Self.row("slow", 16, spill: 80)]
        let roster = try roster(
            ["fast": "f", "new": "s"], before: ["fast": "f", "slow": "s"], rows)
        // The source was told that everything before this is safe.
        #expect(roster.beginning == Position(high: 80))
        let gap = try #require(roster.gone.first?.gap)
        #expect(gap.from == "0/10" && gap.to == "0/50")
        #expect(gap.message.contains("\"slow\"") && gap.message.contains("77 bytes"))
    }

    @Test func aSinkThatIsRemovedWhileItIsBehindIsAGapAndOneThatIsNotIsNone() throws {
        let rows = [Self.row("fast", 90), Self.row("level", 90), Self.row("slow", 16)]
        let roster = try #require(SinkRoster(sinks: ["fast"], rows: rows, .numbers))
        #expect(roster.gone.map(\.row.sink) == ["level", "slow"])
        #expect(roster.gone[0].gap == nil)
        let gap = try #require(roster.gone[1].gap)
        #expect(gap.from == "0/10" && gap.to == "0/5A")
        #expect(SinkRoster(sinks: ["a"], rows: [], .numbers) == nil)
    }

    @Test func aRenamedSinkIsToldWhatTheOneBeforeLeft() throws {
        let claims = settings(claims: ["file a"])
        var rows = [Self.row("fast", 90), Self.row("slow", 16).with(mark: SinkMark("5 x y"))]
        for name in ["renamed", "again"] {
            let roster = try #require(
                SinkRoster(
                    sinks: ["fast", name], rows: rows, .numbers, settings: [name: claims],
                    before: [rows[1].sink: claims]))
            // Its place was not looked at under the name between the two.
            let mark = try #require(roster.marks[name])
            #expect(mark.renamed?.sink == "slow" && mark.renamed?.mark == SinkMark("5 x y"))
            rows[1] = Self.row(name, 16).with(mark: mark)
        }
        #expect(SinkMark("5 x y").renamed == nil)
        #expect(
            try #require(SinkRoster(sinks: ["fast", "new"], rows: rows, .numbers)).marks.isEmpty)
    }

    private func settings(
        _ entries: [String: String] = [:], place: String = "h:1", tables: [String] = [],
        type: String = "faulty", claims: [String] = []
    ) -> ConnectorSettings {
        ConnectorSettings(
            type: type, connection: "c", place: place,
            entries: entries.sorted { $0.key < $1.key }.map { .init($0.key, $0.value) },
            tables: tables, claims: claims)
    }

    private func plan(
        named name: String = "p", source: ConnectorSettings? = nil,
        _ sinks: [(name: String, disk: SinkDisk, settings: ConnectorSettings)]
    ) -> PipelinePlan {
        PipelinePlan(
            name: name, sourceType: "scripted", notation: .numbers, connection: "test",
            sinks: sinks.map { sink in
                SinkPlan(
                    name: sink.name, type: "faulty", spillBytes: 0,
                    settings: ComparedSettings(sink.settings, passingKeys: ["ttl"])
                ) { FaultySink(FaultySink.Config(disk: sink.disk), $0) }
            },
            settings: source.map { ComparedSettings($0, passingKeys: []) }
        ) { [server] in ScriptedSource(ScriptedSource.Config(server: server), $0) }
    }

    private func runOnce(
        _ plan: PipelinePlan, configured: Set<String> = ["p"]
    ) async throws -> Pipeline.Ending {
        try await state.withStore { store in
            await Pipeline(
                plan, store: store, directory: state.directory, logger: TestPipeline.logger,
                pace: TestPipeline.pace, isConfigured: { configured.contains($0) }
            ).run(isOnce: true)
        }
    }

    private func gaps() async throws -> [GapRow] {
        try await state.withStore { try await $0.openGaps() }
    }

    @Test func aReplacedSinkGetsWhatTheOneBeforeHadNotTaken() async throws {
        let (fast, slow, new) = (SinkDisk(), SinkDisk(), SinkDisk())
        server.commit(3)
        let before = plan([("fast", fast, settings()), ("slow", slow, settings())])
        #expect(try await runOnce(before).error == nil)
        let stood = try #require(try await state.rows().first { $0.sink == "slow" })
        server.commit(4)
        slow.fail(write: Array(repeating: .reject(.transient), count: 100))
        #expect(try await runOnce(before).error?.component == "slow")
        let after = plan([("fast", fast, settings()), ("renamed", new, settings())])
        #expect(try await runOnce(after).error == nil)
        #expect(new.kept.suffix(4) == server.ids.suffix(4))
        #expect(fast.kept == server.ids)
        #expect(try await state.rows().map(\.sink) == ["fast", "renamed"])
        #expect(try await gaps().isEmpty)
        let configured = try await state.withStore { try await $0.configured(of: "p") }
        #expect(configured["slow"] == nil)
        #expect(configured["renamed"]?.began?.position == stood.covered.text)
    }

    // MARK: Keys

    private func change(
        _ before: ConnectorSettings, _ now: ConnectorSettings, of component: String = "s"
    ) -> SettingsChange {
        SettingsChange(component: component, before: before, now: now, passing: ["ttl"])
    }

    @Test func changedKeysAreNamedWithWhatTheyWereAndWhatStaysBehind() throws {
        let change = change(
            settings(["key": #""a:{id}""#, "ttl": #""1h""#], claims: ["keys a:{id} of redis h:1"]),
            settings(["key": #""b:{id}""#, "ttl": #""2h""#], claims: ["keys b:{id} of redis h:1"]))
        #expect(
            change.words
                == #"configuration changed: key was "a:{id}", is "b:{id}"; ttl was "1h", is "2h""#)
        let gaps = change.gaps(at: "0/10")
        #expect(gaps.map(\.code.name) == ["engine.config_changed"])
        #expect(gaps[0].subject == "key" && gaps[0].to == "0/10")
        #expect(gaps[0].message.contains(#"key was "a:{id}", is "b:{id}""#))
        #expect(!gaps[0].message.contains("ttl"))
        #expect(gaps[0].message.contains(#"left behind: "keys a:{id} of redis h:1""#))
    }

    @Test func aSinkThatOnlyAddsGoesOnElsewhereAndTheOldPlaceStaysComplete() throws {
        func change(_ before: ConnectorSettings, _ now: ConnectorSettings) throws -> DeclaredGap {
            let change = SettingsChange(
                component: "f", before: before, now: now, passing: [], isAppendOnly: true)
            return try #require(change.gaps(at: "0/10").first)
        }
        let old = settings(["path": #""a""#], claims: ["file a"])
        let moved = try change(old, settings(["path": #""b""#], claims: ["file b"]))
        #expect(moved.code.name == "engine.config_changed" && moved.to == "0/10")
        #expect(
            moved.message == #"sink "f" was changed (path was "a", is "b"): "file a" is complete "#
                + #"up to 0/10, stays as it is and gets nothing more; from there on its lines are in "file b""#
        )
        let formed = try change(
            old, settings(["path": #""a""#, "format": #""row""#], claims: ["file a"]))
        #expect(formed.message.hasSuffix("what it wrote before 0/10 keeps its old form"))
        // Two that exchange their files.
        var exchange = SettingsChange(
            component: "f", before: old, now: settings(["path": #""b""#], claims: ["file b"]),
            passing: [], isAppendOnly: true)
        exchange.others = ["file a": "g"]
        #expect(
            exchange.gaps(at: "0/10").first?.message.hasSuffix(
                #""file a" is complete up to 0/10, goes on with the lines of sink "g"; "#
                    + #"from there on its lines are in "file b""#) == true)
        let taken = try change(
            settings(["operations": #"["insert","update"]"#], claims: ["file a"]),
            settings(["operations": #"["insert","delete"]"#], claims: ["file a"]))
        #expect(
            taken.message.hasSuffix(
                #"): it lacks each "delete" from before 0/10, which it did not take then; "#
                    + #"each "update" is left out from 0/10 on"#), "\(taken.message)")
    }

    @Test func whatLeavesNothingBehindIsOnlyLogged() {
        let ttl = change(settings(["ttl": #""1h""#]), settings())
        #expect(ttl.words == #"configuration changed: ttl was "1h", is the default"#)
        #expect(ttl.gaps(at: "x").isEmpty)
        #expect(change(settings(), settings()).words == nil)
        // The same server under another connection's name.
        var renamed = settings()
        renamed = ConnectorSettings(type: renamed.type, connection: "other", place: renamed.place)
        #expect(change(settings(), renamed).words == nil)
        #expect(change(settings(), settings(place: "h:2")).gaps(at: "x").count == 1)
    }

    @Test func tablesAreToldOneByOne() {
        let change = change(
            settings(["tables": "[1]"], tables: ["public.a", "public.b"]),
            settings(["tables": "[2]"], tables: ["public.b", "public.c"]), of: "source")
        #expect(
            change.words
                == #"configuration changed: added "public.c"; removed "public.a""#)
        let gaps = change.gaps(at: "0/10")
        #expect(gaps.map(\.code.name) == ["engine.tables_added", "engine.tables_removed"])
        #expect(gaps[0].to == "0/10" && gaps[1].from == "0/10")
        let many = (0..<2000).map { "public.t\($0)" }
        let wide = self.change(settings(tables: ["public.a"]), settings(tables: many))
        #expect(wide.gaps(at: "").allSatisfy { $0.message.count < 1000 })
    }

    @Test func aChangeIsDeclaredOnceAndOnlyWhenTheSinkWorksWithIt() async throws {
        let disk = SinkDisk()
        server.commit(2)
        let old = settings(["key": "1"])
        let new = settings(["key": "2"])
        let source = settings(tables: ["a"])
        #expect(try await runOnce(plan(source: source, [("s", disk, old)])).error == nil)
        #expect(try await gaps().isEmpty, "the first configuration changes nothing")
        for _ in 0..<2 {
            #expect(try await runOnce(plan(source: source, [("s", disk, new)])).error == nil)
            let gaps = try await gaps()
            #expect(gaps.map(\.code) == ["engine.config_changed"])
            #expect(gaps.first?.component == "s")
            #expect(gaps.first?.hint.hasSuffix("weir gap resolve \(gaps[0].id)") == true)
        }
        let wider = settings(tables: ["a", "b"])
        #expect(try await runOnce(plan(source: wider, [("s", disk, new)])).error == nil)
        #expect(try await gaps().map(\.code).last == "engine.tables_added")
        #expect(try await gaps().map(\.component).last == "source")
    }

    // MARK: Pipelines that are gone

    @Test func aNewPipelineOverTheTablesOfOneThatIsGoneSaysWhatIsMissing() async throws {
        let source = settings(tables: ["a"])
        server.commit(2)
        #expect(
            try await runOnce(plan(source: source, [("s", SinkDisk(), settings())])).error == nil)
        server.commit(2)
        let renamed = plan(named: "q", source: source, [("s", SinkDisk(), settings())])
        #expect(try await runOnce(renamed, configured: ["q"]).error == nil)
        let gaps = try await gaps()
        #expect(gaps.map(\.code) == ["engine.pipeline_replaced"])
        #expect(gaps.first?.pipeline == "q" && gaps.first?.subject == "p")
        let stood = try await state.rows().map(\.position).min()
        #expect(gaps.first?.from == stood.map(SourceNotation.numbers.display))
        // Another place, other tables, or one that is configured: another pipeline.
        for (name, other) in [
            ("r", settings(place: "h:2", tables: ["a"])), ("t", settings(tables: ["z"])),
        ] {
            let plan = plan(named: name, source: other, [("s", SinkDisk(), settings())])
            _ = try await runOnce(plan, configured: ["q", name])
        }
        let beside = plan(named: "u", source: source, [("s", SinkDisk(), settings())])
        _ = try await runOnce(beside, configured: ["p", "q", "r", "t", "u"])
        #expect(try await self.gaps().count == 1)
    }

    private func watch(
        _ store: StateStore,
        plan:
            @escaping @Sendable (String, [String: ConnectorSettings]) throws(WeirError)
            -> PipelinePlan
    ) -> OrphanWatch {
        OrphanWatch(
            store: store, configured: ["q"],
            restore: OrphanWatch.Restore(notation: { _ in .numbers }, plan: plan))
    }

    @Test func orphansAreListedWithWhatTheyHold() async throws {
        let source = settings(tables: ["a"], claims: ["slot weir_p of connection c"])
        server.commit(2)
        let plan = plan(source: source, [("s", SinkDisk(), settings())])
        #expect(try await runOnce(plan).error == nil)
        try await state.withStore { store in
            let watch = self.watch(store) { name, settings in
                #expect(name == "p" && settings["source"] == source)
                return plan
            }
            try await watch.probe()
            let orphan = try #require(watch.now.first)
            #expect(watch.now.count == 1)
            #expect(orphan.name == "p" && orphan.holds == ["slot weir_p of connection c"])
            #expect(orphan.sinks == ["s"] && orphan.problem == nil)
            #expect(
                orphan.message
                    == "pipeline \"p\" is no longer configured and still holds slot weir_p of "
                    + "connection c")
            #expect(orphan.hint.contains("weir drop p"))
            #expect(orphan.position == "0/18")
            let lost = self.watch(store) { _, _ throws(WeirError) in
                throw WeirError(.dropIncomplete, .blocked, "environment variable \"X\" is not set")
            }
            try await lost.probe()
            #expect(lost.now.first?.position == "0/18")
            #expect(lost.now.first?.problem == "environment variable \"X\" is not set")
            try await store.remove("p")
            #expect(try await watch.look().isEmpty)
            #expect(try await store.configured(of: "p").isEmpty)
        }
    }

    @Test func whatIsDamagedOfAPipelineThatIsGoneStopsNoOther() async throws {
        let source = settings(tables: ["a"])
        server.commit(2)
        let gone = plan(source: source, [("s", SinkDisk(), settings())])
        #expect(try await runOnce(gone).error == nil)
        try await state.withStore { store in
            try await store.write {
                try $0.execute(sql: "UPDATE checkpoint SET position = 'x' WHERE pipeline = 'p'")
            }
            let watch = self.watch(store) { _, _ in gone }
            try await watch.probe()
            let orphan = try #require(watch.now.first)
            #expect(orphan.name == "p")
            #expect(orphan.problem?.contains("does not match its checksum") == true)
            #expect(try await store.sinkNames(of: "p") == ["s"], "weir drop removes its spills")
        }
        let other = SinkDisk()
        let renamed = plan(named: "q", source: source, [("s", other, settings())])
        #expect(try await runOnce(renamed, configured: ["q"]).error == nil)
        // What there is of it is unknown, and null says so.
        let report = OrphanReport(
            name: "p", type: nil, connection: nil, place: nil, holds: [], sinks: [], position: "",
            stored: nil,
            spilledBytes: 0, gaps: [])
        let json = String(decoding: try JSONEncoder().encode(report), as: UTF8.self)
        for field in ["connection", "place", "stored", "retention", "problem"] {
            #expect(json.contains("\"\(field)\":null"), "\(field)")
        }
    }

    // MARK: Another type

    private func typed(_ type: String, _ disk: SinkDisk) -> PipelinePlan {
        plan([("s", disk, settings(type: type))])
    }

    /// Its settings are taken up once the source is open; its mark is its own from the first life.
    @Test func aSinkOfAnotherTypeKeepsItsOwnMarkWhileTheSourceIsDown() async throws {
        let (old, new) = (SinkDisk(), SinkDisk())
        server.commit(3)
        #expect(try await runOnce(typed("file", old)).error == nil)
        #expect(try await state.rows().first?.mark == SinkMark("3"))
        server.cut(afterReads: .max, refusingOpens: 1_000_000)
        for _ in 0..<3 {
            try await state.withStore { store in
                let opened = new.calls.count(where: \.isOpen)
                let running = Pipeline(
                    typed("redis", new), store: store, directory: state.directory,
                    logger: TestPipeline.logger, pace: TestPipeline.pace)
                let task = Task { await running.run(isOnce: false) }
                try await eventually("the sink is opened and its mark is stored") {
                    new.calls.count(where: \.isOpen) > opened
                }
                running.stop()
                _ = await task.value
                #expect(try await store.configured(of: "p")["s"]?.settings.type == "file")
            }
        }
        // The first is not asked for a mark of a file, the others are asked for its own.
        #expect(
            new.calls.filter(\.isOpen) == [.open(mark: nil), .open(mark: "0"), .open(mark: "0")])
        server.cut(afterReads: .max)
        #expect(try await runOnce(typed("redis", new)).error == nil)
        #expect(new.calls.filter(\.isOpen).last == .open(mark: "0"))
        #expect(try await gaps().map(\.code) == ["engine.config_changed"])
        let configured = try await state.withStore { try await $0.configured(of: "p") }
        #expect(configured["s"]?.settings.type == "redis" && configured["s"]?.markType == "redis")
    }
}
