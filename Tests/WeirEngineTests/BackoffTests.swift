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

    /// FLT-C1: a clock that was years ahead for a moment must not leave a rate that grows for ever.
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
