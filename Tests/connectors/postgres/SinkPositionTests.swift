import Testing
import WeirCore

@testable import WeirPostgresSink

/// What a target's row means beside the checkpoint's mark, without any server.
struct SinkPositionTests {
    // MARK: Marks

    private static func position(_ epoch: UInt32, _ commit: UInt64?) -> SinkPosition {
        SinkPosition(epoch: epoch, position: commit.map { Position(high: $0) })
    }

    @Test func aMarkIsReadAsItWasWritten() throws {
        for epoch in [0, 1, 1_795_226_584, UInt32.max] {
            for commit in [nil, 0, 5, UInt64.max] as [UInt64?] {
                let position = Self.position(epoch, commit)
                #expect(SinkPosition(position.mark) == position)
            }
        }
        // Other sources have tails.
        let other = SinkPosition(epoch: 3, position: Position(high: 5, tail: "2B04+81"))
        #expect(other.mark == SinkMark("3 0000000000000005:00000000:2B04+81"))
        #expect(SinkPosition(other.mark) == other)
        #expect(Self.position(3, nil).mark == SinkMark("3 "))
    }

    @Test(arguments: [
        "", " ", "3", "x 0000000000000010:00000000", "-1 a", "4294967296 a", "3 a b", " 3 a",
        "3  a",
        "3.0 a", "0x3 a", "3\ta", "3 a ",
    ])
    func whatIsNoMarkIsNotTakenForOne(text: String) {
        #expect(SinkPosition(SinkMark(text)) == nil)
    }

    @Test func aheadIsALaterEpochOrMoreOfTheSame() {
        let ordered = [
            Self.position(1, nil), Self.position(1, 5), Self.position(1, 9), Self.position(2, nil),
            Self.position(2, 5), Self.position(3, 1),
        ]
        for (index, one) in ordered.enumerated() {
            for (other, two) in ordered.enumerated() {
                #expect(one.isAhead(of: two) == (index > other), "\(one) and \(two)")
            }
        }
    }

    // MARK: Verdicts

    /// Every row a target may have, beside every mark, for events of epoch 2. Positions are written
    /// as epoch and commit, `2/-` before the first commit; without a mark the state may still have
    /// noted that it knew this sink in an epoch.
    private static let marks = [
        "none", "noted 1", "noted 2", "1/-", "1/5", "1/9", "2/-", "2/5", "2/9",
    ]
    private static let cases: [(found: String, verdicts: String)] = [
        ("none", "new       new      new       new  new  new  new  lost lost"),
        ("1/-", " next      next     next      next next next lost lost lost"),
        ("1/5", " forgotten next     forgotten next next next lost lost lost"),
        ("1/9", " forgotten next     forgotten next next next lost lost lost"),
        ("2/-", " goOn      next     goOn      goOn goOn goOn goOn lost lost"),
        ("2/5", " forgotten next     forgotten goOn goOn goOn goOn goOn lost"),
        ("2/9", " forgotten next     forgotten goOn goOn goOn goOn goOn goOn"),
        ("3/-", " later     later    later     later later later later later later"),
        ("3/5", " later     later    later     later later later later later later"),
    ]

    private static func judge(
        _ found: String, _ source: String, _ mark: String
    ) -> PositionVerdict {
        PositionVerdict.judge(
            found: parse(found).map { ($0, source) }, mark: parse(mark),
            noted: mark.hasPrefix("noted") ? UInt32(mark.suffix(1)) : nil, epoch: 2, source: "here")
    }

    private static func parse(_ text: String) -> SinkPosition? {
        let parts = text.split(separator: "/")
        guard parts.count == 2, let epoch = UInt32(parts[0]) else { return nil }
        return position(epoch, UInt64(parts[1]))
    }

    private static func name(_ verdict: PositionVerdict) -> String {
        switch verdict {
        case .new: "new"
        case .goOn: "goOn"
        case .newEpoch: "next"
        case .restored: "lost"
        case .forgotten: "forgotten"
        case .otherSource: "other source"
        case .otherWriter: "later"
        }
    }

    @Test func everyRowBesideEveryMark() {
        for (found, verdicts) in Self.cases {
            let expected = verdicts.split(separator: " ")
            #expect(expected.count == Self.marks.count)
            for (mark, expected) in zip(Self.marks, expected) {
                #expect(
                    Self.name(Self.judge(found, "here", mark)) == expected,
                    "row \(found), mark \(mark)")
            }
        }
    }

    /// A failover changes the source's name too, so that it counts only where nothing else is
    /// known.
    @Test func anotherSourceIsToldOnlyWhereTheStateKnowsNothing() {
        for (found, verdicts) in Self.cases where found != "none" {
            for (mark, expected) in zip(Self.marks, verdicts.split(separator: " ")) {
                let verdict = Self.judge(found, "there", mark)
                if ["none", "noted 2"].contains(mark), expected != "later" {
                    #expect(verdict == .otherSource("there"), "row \(found), mark \(mark)")
                } else {
                    #expect(Self.name(verdict) == expected, "row \(found), mark \(mark)")
                }
            }
        }
    }

    /// Positions are written with the epoch the row has: going on in an older one, the next start
    /// would not know what they cover.
    @Test func goingOnIsGoingOnInTheSameEpoch() {
        let positions = (1...3).flatMap { epoch in
            [nil, 5, 9].map { Self.position(epoch, $0) }
        }
        for found in positions {
            for mark in [nil] + positions.map(Optional.some) {
                for noted in [nil, 1, 2, 3] as [UInt32?] {
                    for epoch in 1...3 as ClosedRange<UInt32> {
                        let verdict = PositionVerdict.judge(
                            found: (found, "here"), mark: mark, noted: noted, epoch: epoch,
                            source: "here")
                        if verdict == .goOn {
                            #expect(
                                found.epoch == epoch,
                                "row \(found.mark.text), mark \(mark?.mark.text ?? "none")")
                        }
                    }
                }
            }
        }
    }
}
