import Foundation
import GRDB
import Testing
import WeirCore
import WeirTesting

@testable import WeirEngine

@Suite(.timeLimit(.minutes(1))) struct StateStoreTests {
    private let state: TestState
    init() throws { state = try TestState() }

    private func row(
        _ sink: String = "a", at commit: UInt64 = 16, mark: String? = nil,
        spill: Spill.Extent? = nil
    ) -> CheckpointRow {
        CheckpointRow(
            pipeline: "p", sink: sink, position: Position(high: commit),
            mark: mark.map(SinkMark.init(_:)), spill: spill, updatedMicros: 5)
    }

    private static let identity = SourceIdentity([("system", "7"), ("slot", "weir_p")])

    /// Changes the file behind the store's back.
    private func edit(_ sql: String) throws {
        let queue = try DatabaseQueue(path: state.directory.databasePath)
        try queue.write { try $0.execute(sql: sql) }
        try queue.close()
    }

    // MARK: Round trips

    @Test func rowsComeBackAsTheyWereSaved() async throws {
        let rows = [
            row("a", mark: "a mark: 100%"),
            row("b", at: 24, spill: Spill.Extent(end: Position(high: 80), length: 1234)),
            row("c", mark: ""),
        ]
        try await state.withStore { store in
            try await store.begin(
                PipelineRow(name: "p", identity: Self.identity, epoch: 3), checkpoints: rows)
        }
        try await state.withStore { store in
            #expect(try await store.checkpoints(of: "p") == rows)
            #expect(
                try await store.pipeline("p")
                    == PipelineRow(name: "p", identity: Self.identity, epoch: 3))
            #expect(try await store.pipeline("q") == nil)
            #expect(rows[1].covered == Position(high: 80))
            try await store.save([row("a", at: 40, mark: "new")])
            #expect(try await store.checkpoints(of: "p").first == row("a", at: 40, mark: "new"))
            try await store.remove("p")
            #expect(try await store.checkpoints(of: "p").isEmpty)
            #expect(try await store.pipeline("p") == nil)
        }
    }

    /// Until 2026-12-01 a position of a change stream was kept as its resume token.
    @Test func positionsOfTheVersionBeforeAreRead() async throws {
        try await state.withStore { store in
            try await store.begin(
                PipelineRow(name: "p", identity: Self.identity, epoch: 3), checkpoints: [row("a")])
        }
        let values: [String?] = [
            "p", "a", "826B01850A000000142B04+81", nil, "826B01850A000000152B04+", "7", "5",
        ]
        try edit(
            """
            UPDATE checkpoint SET position = '826B01850A000000142B04+81',
            spill_end = '826B01850A000000152B04+', spill_length = '7',
            checksum = '\(Checksum.of(values))'
            """)
        try await state.withStore { store in
            let row = try #require(try await store.checkpoints(of: "p").first)
            #expect(row.position == Position(high: 0x6B01_850A_0000_0014, tail: "2B04+81"))
            #expect(row.covered == Position(high: 0x6B01_850A_0000_0015, tail: "2B04+"))
        }
    }

    @Test func aPositionThatIsNoneStopsLoudly() async throws {
        try await state.withStore { store in
            try await store.begin(
                PipelineRow(name: "p", identity: Self.identity, epoch: 3), checkpoints: [row("a")])
        }
        let values: [String?] = ["p", "a", "here", nil, nil, nil, "5"]
        try edit("UPDATE checkpoint SET position = 'here', checksum = '\(Checksum.of(values))'")
        try await state.withStore { store in
            let error = await #expect(throws: WeirError.self) {
                try await store.checkpoints(of: "p")
            }
            #expect(error?.code == .stateDamaged)
        }
    }

    @Test func aMarkIsStoredWithoutTouchingTheRest() async throws {
        let extent = Spill.Extent(end: Position(high: 80), length: 1234)
        try await state.withStore { store in
            try await store.save([row("a", at: 24, spill: extent)])
            try await store.setMark(SinkMark("7"), of: "p", sink: "a")
            let stored = try await store.checkpoints(of: "p")
            #expect(stored == [row("a", at: 24, mark: "7", spill: extent)])
            // A checkpoint that was under way before the sink was opened knows no mark yet.
            try await store.save([row("a", at: 32)])
            #expect(try await store.checkpoints(of: "p") == [row("a", at: 32, mark: "7")])
        }
    }

    @Test func notesAndFailuresAreKept() async throws {
        try await state.withStore { store in
            #expect(try await store.note("k", of: "p") == nil)
            try await store.setNote("k", "one", of: "p")
            try await store.setNote("k", "two", of: "p")
            try await store.setLastSeen(99)
            for micros in [10, 20] as [Int64] {
                try await store.record(
                    FailureRow(
                        pipeline: "p", component: "a", code: "x.y", message: "m\(micros)",
                        firstMicros: micros, lastMicros: micros, count: 1))
            }
        }
        try await state.withStore(isReadOnly: true) { store in
            #expect(try await store.note("k", of: "p") == "two")
            #expect(try await store.lastSeen() == 99)
            let failures = try await store.failures(of: "p", sinceMicros: 0)
            #expect(failures.map(\.message) == ["m20"])
            #expect(failures.map(\.count) == [2])
            #expect(failures.map(\.firstMicros) == [10])
        }
    }

    @Test func aCommitIsOnDiskBeforeSaveReturns() async throws {
        try await state.withStore { store in
            let database = await store.database
            // FULL: the log is synced at every commit.
            let level = try await database.read { try Int.fetchOne($0, sql: "PRAGMA synchronous") }
            #expect(level == 2)
            let mode = try await database.read {
                try String.fetchOne($0, sql: "PRAGMA journal_mode")
            }
            #expect(mode == "wal")
        }
    }

    // MARK: Saving together

    @Test func callsThatWaitTogetherAreAllStored() async throws {
        try await state.withStore { store in
            try await withThrowingTaskGroup(of: Void.self) { group in
                for number in 0..<50 {
                    group.addTask { try await store.save([row("s\(number)", at: 8)]) }
                }
                try await group.waitForAll()
            }
            #expect(try await store.checkpoints(of: "p").count == 50)
        }
    }

    /// Nobody is told that rows are stored which went down with another caller's transaction.
    @Test func aFailedCommitFailsEveryCallThatWasPartOfIt() async throws {
        try await state.withStore { store in
            try await store.save([row("a", at: 16), row("b", at: 16)])
            try edit(
                "CREATE TRIGGER broken BEFORE INSERT ON checkpoint "
                    + "BEGIN SELECT RAISE(ABORT, 'disk full'); END")
            let results = await withTaskGroup(of: (String, Bool).self) { group in
                for sink in ["a", "b", "c", "d"] {
                    group.addTask {
                        do {
                            try await store.save([row(sink, at: 800)])
                            return (sink, true)
                        } catch { return (sink, false) }
                    }
                }
                return await group.reduce(into: [:]) { $0[$1.0] = $1.1 }
            }
            try edit("DROP TRIGGER broken")
            let stored = try await store.checkpoints(of: "p")
                .filter { $0.position == Position(high: 800) }
            #expect(stored.isEmpty)
            for (sink, isTold) in results {
                #expect(isTold == stored.contains { $0.sink == sink }, "sink \(sink)")
            }
            try await store.save([row("a", at: 24)])
            #expect(try await store.checkpoints(of: "p").first == row("a", at: 24))
        }
    }

    // MARK: Damage

    private func expectDamaged(
        sourceLocation: SourceLocation = #_sourceLocation,
        _ body: (StateStore) async throws -> Void
    ) async {
        do {
            try await state.withStore(body)
            Issue.record("damage went unnoticed", sourceLocation: sourceLocation)
        } catch let error as WeirError {
            #expect(error.code.name == "state.damaged", sourceLocation: sourceLocation)
            #expect(error.disposition == .blocked, sourceLocation: sourceLocation)
        } catch {
            Issue.record(error, sourceLocation: sourceLocation)
        }
    }

    @Test(arguments: [
        "UPDATE checkpoint SET position = '0000000000000020:00000000' WHERE sink = 'a'",
        "UPDATE checkpoint SET mark = '1' WHERE sink = 'a'",
        "UPDATE checkpoint SET mark = NULL WHERE sink = 'a'",
        "UPDATE checkpoint SET sink = 'x' WHERE sink = 'a'",
        "UPDATE checkpoint SET updated = CAST(x'ff' AS TEXT)",
        "UPDATE checkpoint SET checksum = ''",
    ])
    func anEditedCheckpointIsRefused(sql: String) async throws {
        try await state.withStore { try await $0.save([row(mark: "100")]) }
        try edit(sql)
        await expectDamaged { _ = try await $0.checkpoints(of: "p") }
    }

    @Test func anEditedPipelineOrNoteIsRefused() async throws {
        try await state.withStore { store in
            try await store.begin(
                PipelineRow(name: "p", identity: Self.identity, epoch: 1), checkpoints: [])
            try await store.setNote("k", "v", of: "p")
        }
        try edit("UPDATE pipeline SET epoch = '2'; UPDATE note SET value = 'w'")
        await expectDamaged { _ = try await $0.pipeline("p") }
        await expectDamaged { _ = try await $0.note("k", of: "p") }
    }

    @Test func aFileThatIsNoDatabaseIsRefused() async throws {
        try Data("not a database, but long enough to look at".utf8)
            .write(to: URL(fileURLWithPath: state.directory.databasePath))
        await expectDamaged { _ = try await $0.checkpoints(of: "p") }
    }

    /// Whatever bytes are on disk, the rows are right or the store says so.
    @Test func everyDamagedFileIsRightOrRefused() async throws {
        let rows = [row("a", at: 24, mark: "100"), row("b", at: 80)]
        let pipeline = PipelineRow(name: "p", identity: Self.identity, epoch: 1)
        try await state.withStore { try await $0.begin(pipeline, checkpoints: rows) }
        try edit("PRAGMA user_version = 1")
        let path = state.directory.databasePath
        let queue = try DatabaseQueue(path: path)
        _ = try await queue.writeWithoutTransaction { try $0.checkpoint(.truncate) }
        try queue.close()
        let bytes = try Data(contentsOf: URL(fileURLWithPath: path))
        var generator = SeededGenerator(seed: 11)
        var refused = 0
        for round in 0..<150 {
            var damaged = bytes
            if round % 4 == 0 {
                damaged = damaged.prefix(Int.random(in: 1..<bytes.count, using: &generator))
            } else {
                let bit = Int.random(in: 0..<bytes.count * 8, using: &generator)
                damaged[bit / 8] ^= 1 << (bit % 8)
            }
            for name in ["", "-wal", "-shm"] {
                try? FileManager.default.removeItem(atPath: path + name)
            }
            try damaged.write(to: URL(fileURLWithPath: path))
            do {
                try await state.withStore { store in
                    let found = try await store.checkpoints(of: "p")
                    let known = try await store.pipeline("p")
                    _ = try await store.failures(of: "p", sinceMicros: 0)
                    #expect(found.isEmpty || found == rows || found.allSatisfy(rows.contains))
                    #expect(known == nil || known == pipeline)
                }
            } catch is WeirError { refused += 1 }
        }
        #expect(refused > 10)
    }

    @Test func aNewerSchemaIsRefused() async throws {
        try await state.withStore { try await $0.save([row()]) }
        try edit("INSERT INTO grdb_migrations (identifier) VALUES ('99')")
        await #expect { try await state.withStore { _ in } } throws: { error in
            (error as? WeirError)?.code.name == "state.newer"
        }
        // Nothing was changed: the newer program finds its own.
        try edit("DELETE FROM grdb_migrations WHERE identifier = '99'")
        #expect(try await state.rows() == [row()])
    }
}
