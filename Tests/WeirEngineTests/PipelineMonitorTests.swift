import Testing
import WeirCore

@testable import WeirEngine

@Suite struct PipelineMonitorTests {
    private static let now: Int64 = 1_000_000_000
    private static let at = Position(token: "5")

    /// - Parameter marks: position and age in seconds of each.
    private func lag(
        _ marks: [(String, Double)], waiting: Double? = nil, delivered: Double? = nil
    ) -> Double {
        func micros(_ age: Double) -> Int64 { Self.now - Int64(age * 1_000_000) }
        var facts = PipelineMonitor.Facts()
        facts.marks = marks.map {
            PipelineMonitor.Mark(position: Position(token: $0.0), micros: micros($0.1))
        }
        return facts.lagSeconds(
            at: Self.at, oldestMicros: waiting.map(micros),
            lastCommitMicros: delivered.map(micros) ?? 0, nowMicros: Self.now)
    }

    @Test func nothingWaitsAndNoMarkerIsAheadSoThereIsNoLag() {
        #expect(lag([]) == 0)
        #expect(lag([("4", 90), ("5", 50)], delivered: 100) == 0)
    }

    @Test func aMarkerAheadIsSoOldAndWhatWasDeliveredBehindItOlder() {
        #expect(lag([("4", 90), ("6", 30), ("7", 20)]) == 30)
        #expect(lag([("6", 30)], delivered: 40) == 40)
        #expect(lag([("6", 30)], waiting: 50, delivered: 40) == 50)
    }

    /// Otherwise a quiet pipeline would be hours behind for as long as the marker takes.
    @Test func aMarkerThatIsOnlyUnderWaySaysNothingOfWhatWasDeliveredBefore() {
        #expect(lag([("6", 0.2)], delivered: 7200) == 0.2)
        #expect(lag([("6", 0.2)], waiting: 3, delivered: 7200) == 3)
    }

    @Test func aClockThatIsAheadAndATimeThatIsNoneMakeNoNegativeLag() {
        #expect(lag([], waiting: -5) == 0)
        var facts = PipelineMonitor.Facts()
        facts.marks = []
        #expect(
            facts.lagSeconds(
                at: Self.at, oldestMicros: .max, lastCommitMicros: 0, nowMicros: .min) == 0)
    }
}
