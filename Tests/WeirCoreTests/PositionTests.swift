import Testing
import WeirCore

struct PositionTests {
    @Test func positionsAreOrderedByCommitThenOrdinal() {
        let positions = [
            Position(high: 0), Position(high: 0x9), Position(high: 0x10),
            Position(high: 0x10, low: 1), Position(high: 0x10, low: 0xFFFF_FFFF),
            Position(high: 0x11), Position(high: .max, low: .max),
        ]
        #expect(positions == positions.shuffled().sorted())
    }

    @Test func tailsOrderPositionsOfEqualNumbers() {
        let positions = [
            Position(high: 7), Position(high: 7, tail: "2B04"), Position(high: 7, tail: "2B04+"),
            Position(high: 7, tail: "2B04+81"), Position(high: 7, tail: "2C"),
            Position(high: 7, low: 1), Position(high: 8),
        ]
        #expect(positions == positions.shuffled().sorted())
    }

    @Test(arguments: [
        (Position(high: 0), "0000000000000000:00000000"),
        (Position(high: 0x16_B374_D848, low: 7), "00000016B374D848:00000007"),
        (Position(high: .max, low: .max), "FFFFFFFFFFFFFFFF:FFFFFFFF"),
        (Position(high: 7, low: 1, tail: "2B:04+"), "0000000000000007:00000001:2B:04+"),
    ])
    func theTextGivesThePositionBack(position: Position, text: String) {
        #expect(position.text == text)
        #expect(Position(text: text) == position)
    }

    @Test func aLongTailIsCutInMessagesOnly() {
        let position = Position(high: 7, tail: String(repeating: "A", count: 5000))
        #expect(position.text.count == 5026)
        #expect("\(position)".count == 161)
    }

    /// As versions before 2026-12-01 kept them.
    @Test func aResumeTokenIsReadAsAPosition() {
        #expect(
            Position(text: "826B01850A000000142B042C+81")
                == Position(high: 0x6B01_850A_0000_0014, tail: "2B042C+81"))
        #expect(Position(text: "826B01850A00000014") == Position(high: 0x6B01_850A_0000_0014))
    }

    @Test(arguments: [
        "", "82deadbeef", "0:0", "00000000000000GG:00000000", "+000000000000001:00000000",
        "0000000000000007:0000001", "0000000000000007:00000001:", "0000000000000007:000000012B",
        "0000000000000007:00000001:a b", "0000000000000007:00000001:\u{E9}",
        "82\u{E9}\u{E9}\u{E9}\u{E9}\u{E9}\u{E9}\u{E9}\u{E9}", "826B01850A0000001g",
        "826B01850A000000142B 04", "8\u{301}000000000000007:00000001",
    ])
    func otherTextIsNoPosition(text: String) {
        #expect(Position(text: text) == nil)
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
            batch.drop(through: Position(high: commit, low: ordinal))
            #expect(batch.events.count == left)
        }
    }

    @Test func aReusedBatchStartsEmptyAndLeavesCopiesIntact() {
        let first = batch([(1, 0), (2, 0)], resume: Position(high: 3))
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
