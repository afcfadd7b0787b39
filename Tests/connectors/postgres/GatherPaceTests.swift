import Testing

@testable import WeirPostgresSource

struct GatherPaceTests {
    private let start = ContinuousClock.now

    /// What the pace says after each look, given microseconds and events.
    private func gathering(_ looks: [(at: Int, events: Int)]) -> [Bool] {
        var pace = GatherPace()
        return looks.map { look in
            pace.found(look.events, at: start + .microseconds(look.at))
            return pace.isGathering
        }
    }

    @Test func aThousandTransactionsASecondAreHandedOverAtOnce() {
        let looks = (0..<100).map { (at: $0 * 1000, events: 1) }
        #expect(gathering(looks).allSatisfy { !$0 })
    }

    @Test func handfulsInQuickSuccessionAreFullSpeed() {
        #expect(gathering([(0, 5), (100, 5), (200, 5), (300, 5)]) == [false, false, false, true])
    }

    @Test func theSameHandfulsFarApartAreNot() {
        #expect(gathering([(0, 5), (1100, 5), (2200, 5), (3300, 5)]).allSatisfy { !$0 })
    }

    @Test func oneLargeTransactionGathersUntilALookFindsLittle() {
        #expect(
            gathering([(0, 500), (500, 40), (1000, 4), (1500, 3), (1600, 3)])
                == [true, true, true, false, false])
    }
}
