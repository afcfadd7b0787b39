import Testing
import WeirCore

struct PositionTests {
    @Test func positionsAreOrderedByCommitThenOrdinal() {
        let positions = [
            Position(commit: 0), Position(commit: 0x9), Position(commit: 0x10),
            Position(commit: 0x10, ordinal: 1), Position(commit: 0x10, ordinal: 0xFFFF_FFFF),
            Position(commit: 0x11), Position(commit: .max, ordinal: .max),
        ]
        #expect(positions == positions.shuffled().sorted())
    }

    @Test(arguments: [(UInt64(0), UInt32(0)), (0x16_B374_D848, 7), (.max, .max)])
    func theTokenGivesItsNumbersBack(commit: UInt64, ordinal: UInt32) {
        let numbers = Position(commit: commit, ordinal: ordinal).commitAndOrdinal
        #expect(numbers?.commit == commit)
        #expect(numbers?.ordinal == ordinal)
    }

    @Test(arguments: [
        "", "82deadbeef", "0:0", "00000000000000GG:00000000", "+000000000000001:00000000",
    ])
    func anotherKindOfTokenHasNoNumbers(token: String) {
        #expect(Position(token: token).commitAndOrdinal == nil)
    }

    @Test func anIdentitySurvivesTheStore() {
        let identity = SourceIdentity([
            ("system", "7431"), ("database", "a%20b"), ("slot", "weir_x"),
        ])
        let read = SourceIdentity(parsing: identity.description)
        #expect(read == identity)
        #expect(read["database"] == "a%20b")
        #expect(read["timeline"] == nil)
    }
}

struct EventBatchTests {
    private func batch(_ places: [(UInt64, UInt32)], resume: Position? = nil) -> EventBatch {
        var builder = BatchBuilder(reusing: EventBatch(), eventLimit: 100, byteLimit: 1000)
        for (commit, ordinal) in places {
            builder.append(
                Event(
                    operation: .truncate, table: 0, commit: commit, ordinal: ordinal,
                    transaction: 1, change: commit, commitMicros: 0))
        }
        return builder.seal(resume: resume, end: resume)
    }

    @Test func droppingLeavesExactlyWhatThePositionDoesNotCover() {
        let places: [(UInt64, UInt32)] = [(5, 0), (5, 1), (9, 0), (9, 1), (12, 0)]
        for (commit, ordinal, left) in [
            (UInt64(0), UInt32(0), 5), (5, 0, 5), (5, 1, 4), (9, 0, 3), (9, 1, 2), (10, 0, 1),
            (12, 0, 1), (12, 1, 0), (99, 0, 0),
        ] {
            var batch = batch(places)
            batch.drop(through: Position(commit: commit, ordinal: ordinal))
            #expect(batch.events.count == left)
        }
    }

    @Test func aReusedBatchStartsEmptyAndLeavesCopiesIntact() {
        let first = batch([(1, 0), (2, 0)], resume: Position(commit: 3))
        let kept = first
        let builder = BatchBuilder(reusing: first, eventLimit: 2, byteLimit: 10)
        let isEmpty = builder.isEmpty
        #expect(isEmpty)
        let second = builder.seal(resume: nil, end: nil)
        #expect(second.events.isEmpty)
        #expect(second.resume == nil)
        #expect(kept.events.count == 2)
    }

    @Test func aBuilderIsFullAtEitherLimit() {
        var byEvents = BatchBuilder(reusing: EventBatch(), eventLimit: 1, byteLimit: 1000)
        byEvents.append(
            Event(
                operation: .insert, table: 0, commit: 1, ordinal: 0, transaction: 0, change: 0,
                commitMicros: 0))
        let isFull = byEvents.isFull
        #expect(isFull)
        var byBytes = BatchBuilder(reusing: EventBatch(), eventLimit: 10, byteLimit: 4)
        let bytes: [UInt8] = [1, 2, 3, 4]
        let start = unsafe bytes.withUnsafeBytes { unsafe byBytes.append($0) }
        #expect(start == 0)
        let isFullOfBytes = byBytes.isFull
        #expect(isFullOfBytes)
    }
}
