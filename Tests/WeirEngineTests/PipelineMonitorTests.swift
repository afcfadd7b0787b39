import Testing
import WeirCore
import WeirTesting

@testable import WeirEngine

@Suite struct PipelineMonitorTests {
    private static let now: Int64 = 1_000_000_000
    private static let at = Position(token: "5")

    /// - Parameter marks: position and age in seconds of each.
    private func lag(
        _ marks: [(String, Double)], waiting: Double? = nil, delivered: Double? = nil,
        read: Double? = 0.1
    ) -> Double? {
        func micros(_ age: Double) -> Int64 { Self.now - Int64(age * 1_000_000) }
        var facts = PipelineMonitor.Facts()
        facts.lastReadMicros = read.map(micros)
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
        facts.lastReadMicros = Self.now
        #expect(
            facts.lagSeconds(
                at: Self.at, oldestMicros: .max, lastCommitMicros: 0, nowMicros: .min) == 0)
    }

    @Test func cutOffFromTheSourceItIsAtLeastTheTimeSinceTheLastRead() {
        #expect(lag([], read: 1.9) == 0, "a read that takes its time")
        #expect(lag([], read: 90) == 90)
        #expect(lag([("6", 30)], read: 90) == 90)
        #expect(lag([("6", 120)], read: 90) == 120)
        #expect(lag([], waiting: 200, read: 90) == 200)
    }

    @Test func beforeTheFirstReadItIsNotKnown() {
        #expect(lag([], read: nil) == nil)
        #expect(lag([("6", 30)], waiting: 50, read: nil) == nil)
    }

    private static func failure(of sink: String?) -> LaneStatistics.LaneFailure {
        var error = WeirError.fault("a test", .transient)
        error.component = sink
        return LaneStatistics.LaneFailure(error, after: nil, attempt: 1, retryIn: .zero)
    }

    private func failing(_ sink: String?) -> PipelineMonitor {
        let monitor = PipelineMonitor()
        monitor.passed(Position(token: "5"))
        monitor.update {
            $0.state = .failing
            $0.failure = Self.failure(of: sink)
        }
        return monitor
    }

    @Test func anErrorOfTheSourceIsOverWhenSomethingWasRead() {
        let monitor = failing(nil)
        #expect(!monitor.recovered(.nothing))
        #expect(monitor.now.failure != nil && monitor.now.state == .failing)
        monitor.passed(Position(token: "6"))
        #expect(monitor.now.failure != nil, "what is safe says nothing of the source")
        #expect(monitor.recovered(.progress))
        #expect(monitor.now.failure == nil && monitor.now.state == .streaming)
    }

    @Test func anErrorOfASinkIsOverWhenMoreIsSafeOrAllIsCalm() {
        var monitor = failing("a")
        #expect(!monitor.recovered(.progress))
        monitor.passed(Position(token: "5"))
        #expect(monitor.now.failure != nil, "no further than before")
        monitor.passed(Position(token: "6"))
        #expect(monitor.now.failure == nil && monitor.now.state == .streaming)
        monitor = failing("a")
        #expect(monitor.recovered(.calm))
    }
}
