import Foundation
import GRDB
import Testing
import WeirCore
import WeirTesting

@testable import WeirEngine

/// An operator moves a pipeline's position.
@Suite(.timeLimit(.minutes(1))) struct SeekTests {
    private let state: TestState
    private static let identity = SourceIdentity([("system", "7")])
    init() throws { state = try TestState() }

    private func row(_ sink: String, _ commit: UInt64, spill: UInt64? = nil) -> CheckpointRow {
        CheckpointRow(
            pipeline: "p", sink: sink, position: Position(high: commit),
            mark: SinkMark("mark of \(sink)"),
            spill: spill.map { Spill.Extent(end: Position(high: $0), length: 77) },
            updatedMicros: 5)
    }

    private func plan() -> PipelinePlan {
        TestPipeline(server: ScriptedServer(), disks: [SinkDisk(), SinkDisk()]).plan()
    }

    /// Answers with a place it was given.
    private actor Seeker: SourceSeek {
        typealias Config = ScriptedSource.Config
        static let notation = SourceNotation.numbers
        private var moved: StoredPosition?

        init(_ config: Config, _ context: ConnectorContext) {}
        init(to moved: StoredPosition) { self.moved = moved }

        func planSeek(to target: String, from stored: StoredPosition?) -> SeekPlan {
            SeekPlan(target: target, effects: [])
        }
        func seek(_ plan: SeekPlan) throws(WeirError) -> StoredPosition {
            guard let moved else { throw WeirError(.bug, .bug, "no place") }
            return moved
        }
        func open(at stored: StoredPosition?) throws(WeirError) -> SourceStart {
            throw WeirError(.bug, .bug, "not opened")
        }
        func read(
            into batch: consuming BatchBuilder, within limit: Duration
        ) throws(WeirError) -> EventBatch { batch.seal(resume: nil, end: nil) }
        func acknowledge(_ durable: Position?) {}
        func close() {}
    }

    /// Stores rows, moves to a place, and says what is stored then.
    private func move(
        _ rows: [CheckpointRow], to commit: UInt64, inPlace: Bool = false
    ) async throws -> (rows: [CheckpointRow], gaps: [GapRow], epochs: [Int], isContinuous: Bool) {
        try await state.withStore { store in
            try await store.begin(
                PipelineRow(name: "p", identity: Self.identity, epoch: 3), checkpoints: rows)
            let moved = StoredPosition(
                position: Position(high: commit), identity: Self.identity)
            _ = try await Seek(plan: plan(), store: store, directory: state.directory).apply(
                Seeker(to: moved), SeekPlan(target: "x", effects: [], isInPlace: inPlace))
            let epoch = try #require(try await store.pipeline("p")?.epoch)
            return (
                try await store.checkpoints(of: "p"), try await store.openGaps(of: "p"),
                [3, epoch], try await store.isContinuous("p", epoch: epoch)
            )
        }
    }

    @Test func goingOnInPlaceSkipsNothingAndLeavesEachSinkWhereItIs() async throws {
        let rows = [row("a", 90), row("b", 16, spill: 40)]
        let after = try await move(rows, to: 40, inPlace: true)
        #expect(after.rows == rows)
        #expect(after.gaps.isEmpty)
        #expect(after.isContinuous)
        #expect(after.epochs[1] > after.epochs[0], "what a target holds is taken as it is")
    }

    @Test func whatIsSkippedIsAGapOfEachSinkThatLacksIt() async throws {
        let after = try await move([row("a", 90), row("b", 16, spill: 40)], to: 64)
        #expect(after.rows.map(\.position) == [64, 64].map { Position(high: $0) })
        #expect(after.rows.allSatisfy { $0.mark == nil && $0.spill == nil })
        #expect(after.gaps.map(\.component) == ["b"])
        #expect(after.gaps.first?.from == "0/10" && after.gaps.first?.to == "0/40")
        #expect(!after.isContinuous)
    }

    @Test func whatAllLackIsOneGap() async throws {
        let after = try await move([row("a", 16), row("b", 16)], to: 64)
        #expect(after.gaps.map(\.component) == ["source"])
        #expect(after.gaps.first?.from == "0/10")
    }

    @Test func goingBackSkipsNothing() async throws {
        let after = try await move([row("a", 90), row("b", 80)], to: 16)
        #expect(after.gaps.isEmpty && after.isContinuous)
        #expect(after.rows.allSatisfy { $0.position == Position(high: 16) && $0.mark == nil })
    }

    @Test func aSinkThatIsNotConfiguredLeavesItsGapAndNoRow() async throws {
        let after = try await move([row("a", 64), row("b", 64), row("gone", 16)], to: 64)
        #expect(after.rows.map(\.sink) == ["a", "b"])
        #expect(after.gaps.map(\.component) == ["gone"])
    }

    private func configure(_ component: String) async throws {
        let settings = ConnectorSettings(type: "faulty")
        _ = try await state.withStore {
            try await $0.adopt(
                ConfiguredComponent(component: component, settings: settings), of: "p", gaps: [],
                atMicros: 1)
        }
    }

    /// The next start then says what it lacks, and a renamed sink goes on where it stood.
    @Test func goingOnInPlaceKeepsWhatIsKnownOfASinkThatIsNotConfigured() async throws {
        try await configure("gone")
        let rows = [row("a", 90), row("b", 90), row("gone", 16, spill: 40)]
        let after = try await move(rows, to: 40, inPlace: true)
        #expect(after.rows == rows && after.gaps.isEmpty)
        let roster = try #require(SinkRoster(sinks: ["a", "b"], rows: after.rows, .numbers))
        #expect(roster.gone.map(\.gap?.from) == ["0/10"])
        try await state.withStore { store in
            let configured = try await store.configured(of: "p")
            #expect(configured["gone"]?.settings.type == "faulty")
        }
    }

    @Test func movingForgetsASinkThatIsNotConfiguredWithItsSpill() async throws {
        for sink in ["source", "a", "gone"] { try await configure(sink) }
        let spill = state.directory.spillPath(pipeline: "p", sink: "gone")
        #expect(FileManager.default.createFile(atPath: spill, contents: nil))
        let after = try await move([row("a", 64), row("b", 64), row("gone", 16)], to: 64)
        #expect(after.gaps.map(\.component) == ["gone"])
        #expect(!FileManager.default.fileExists(atPath: spill))
        try await state.withStore { store in
            let names = try await store.configured(of: "p").keys.sorted()
            #expect(names == ["a", "b", "source"])
        }
    }

    @Test func aDamagedStateIsLeftByMovingThePosition() async throws {
        let moved = StoredPosition(position: Position(high: 64), identity: Self.identity)
        try await state.withStore { store in
            try await store.begin(
                PipelineRow(name: "p", identity: Self.identity, epoch: 3),
                checkpoints: [row("a", 16), row("b", 16)])
            try await store.write {
                try $0.execute(sql: "UPDATE checkpoint SET position = 'x' WHERE sink = 'b'")
            }
            await #expect(throws: WeirError.self) { try await store.checkpoints(of: "p") }
            let seek = Seek(plan: plan(), store: store, directory: state.directory)
            #expect(try await seek.stored() == nil)
            _ = try await seek.apply(
                Seeker(to: moved), SeekPlan(target: "confirmed", effects: [], isInPlace: true))
            #expect(
                try await store.checkpoints(of: "p").map(\.position)
                    == [64, 64].map { .init(high: $0) })
            #expect(try await store.openGaps(of: "p").map(\.from) == [""])
        }
    }
}
