import Testing

@testable import WeirEngine

@Suite struct BackoffTests {
    @Test func waitsGrowToTheCeilingAndStartAnewAfterSuccess() {
        var backoff = Backoff()
        let waits = (0..<20).map { _ in backoff.next(jitter: 0.999_999) }
        #expect(waits[0] <= Backoff.base && waits[0] > Backoff.base * 0.99)
        #expect(zip(waits, waits.dropFirst()).allSatisfy { $0 <= $1 })
        #expect(waits[19] <= Backoff.ceiling && waits[19] > Backoff.ceiling * 0.99)
        #expect(backoff.attempts == 20)
        backoff.succeed()
        #expect(backoff.attempts == 0)
        #expect(backoff.next(jitter: 0.5) == Backoff.base * 0.5)
    }

    @Test func jitterIsFullButNeverABusyLoop() {
        var backoff = Backoff()
        for _ in 0..<100 {
            let wait = backoff.next(jitter: 0)
            #expect(wait == Backoff.floor)
        }
        let waits = Set((0..<50).map { _ in backoff.next() })
        #expect(waits.count > 40)
    }
}

@Suite struct RateHistoryTests {
    @Test func countsPerMinuteAndPerSecond() {
        var history = RateHistory(atSeconds: 600)
        history.add(100, atSeconds: 600)
        history.add(20, atSeconds: 659)
        history.add(7, atSeconds: 660)
        #expect(history.lastMinutes(atSeconds: 661).suffix(2) == [120, 7])
        #expect(history.rate(atSeconds: 661) == 2.7)
        #expect(history.rate(atSeconds: 700) == 0)
        #expect(history.lastMinutes(atSeconds: 660 + 9 * 60).first == 7)
        #expect(history.lastMinutes(atSeconds: 660 + 10 * 60).allSatisfy { $0 == 0 })
    }

    @Test func aJumpForwardForgetsEverything() {
        var history = RateHistory(atSeconds: 600)
        history.add(100, atSeconds: 600)
        #expect(history.rate(atSeconds: 315_360_000) == 0)
        #expect(history.lastMinutes(atSeconds: 315_360_000).allSatisfy { $0 == 0 })
    }

    /// A clock that was years ahead for a moment must not leave a rate that grows for ever.
    @Test func aClockSetFarBackStartsAfresh() {
        var history = RateHistory(atSeconds: 600)
        history.add(100, atSeconds: 315_360_000)
        for second in 700..<800 as Range<Int64> { history.add(10, atSeconds: second) }
        #expect(history.rate(atSeconds: 799) == 10)
        #expect(history.lastMinutes(atSeconds: 799).last == 200)
    }

    @Test func aClockSetALittleBackKeepsWhatThereIs() {
        var history = RateHistory(atSeconds: 600)
        history.add(100, atSeconds: 605)
        history.add(100, atSeconds: 603)
        #expect(history.rate(atSeconds: 605) == 20)
    }
}

@Suite struct HourCountTests {
    @Test func countsTheLastHourAndNotAMinuteMore() {
        var count = HourCount(atSeconds: 6000)
        for second in [6000, 6059, 6060, 9540] as [Int64] { count.add(atSeconds: second) }
        #expect(count.sum(atSeconds: 9540) == 4)
        #expect(count.sum(atSeconds: 9599) == 4)
        // The minute of the first two is 60 minutes old.
        #expect(count.sum(atSeconds: 9600) == 2)
        #expect(count.sum(atSeconds: 9660) == 1)
        #expect(count.sum(atSeconds: 100_000) == 0)
    }
}

@Suite struct StreamPatienceTests {
    private let start = ContinuousClock.now

    private func fail(_ patience: inout StreamPatience, isRead: Bool = true) -> Duration {
        patience.failed(isRead: isRead, atMicros: 1_000_000, jitter: 0.999_999)
    }

    /// An open stream and an empty read prove nothing: the waits go on growing.
    @Test func streamsThatBreakAtOnePlaceHaveAnEnd() {
        var patience = StreamPatience()
        var waits: [Duration] = []
        for attempt in 1...StreamPatience.failuresMax {
            #expect(!patience.isSpent)
            patience.opened(at: start)
            #expect(patience.read(brought: false, at: start + .seconds(1)) == .nothing)
            waits.append(fail(&patience))
            #expect(patience.attempts == attempt)
            #expect(patience.sinceMicros == 1_000_000)
        }
        #expect(patience.isSpent)
        #expect(zip(waits, waits.dropFirst()).allSatisfy { $0 <= $1 })
        #expect(waits.last.map { $0 > .seconds(59) } == true)
    }

    @Test func whatWasReadBeginsTheCountAnew() {
        var patience = StreamPatience()
        for _ in 1..<StreamPatience.failuresMax { _ = fail(&patience) }
        patience.opened(at: start)
        #expect(patience.read(brought: true, at: start) == .progress)
        #expect(patience.attempts == 0 && patience.sinceMicros == nil)
        #expect(fail(&patience) <= Backoff.base)
        #expect(!patience.isSpent)
    }

    @Test func outagesAreTriedForEver() {
        var patience = StreamPatience()
        for _ in 0..<1000 { _ = fail(&patience, isRead: false) }
        #expect(patience.attempts == 1000)
        #expect(!patience.isSpent)
    }

    /// A network that ends idle connections is no fault of what stands there.
    @Test func aStreamThatHeldForAWhileIsCalmAndThenForgotten() {
        var patience = StreamPatience()
        for _ in 1..<StreamPatience.failuresMax { _ = fail(&patience) }
        patience.opened(at: start)
        let calm = start + StreamPatience.calmTime
        #expect(patience.read(brought: false, at: calm) == .calm)
        #expect(patience.attempts == StreamPatience.failuresMax - 1, "it may break all the same")
        let healthy = start + StreamPatience.healthyTime
        #expect(patience.read(brought: false, at: healthy) == .calm)
        #expect(patience.attempts == 0)
        _ = fail(&patience)
        #expect(!patience.isSpent)
    }
}
