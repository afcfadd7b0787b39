import Testing
import WeirTesting

@testable import WeirEngine

@Suite(.timeLimit(.minutes(1))) struct DoorbellTests {
    @Test func aRingIsKeptForTheNextWait() async {
        let bell = Doorbell()
        bell.ring()
        bell.ring()
        await bell.wait()
        // Several rings were one.
        let start = ContinuousClock.now
        await bell.wait(upTo: .milliseconds(20))
        #expect(ContinuousClock.now - start >= .milliseconds(20))
    }

    @Test func aKeptRingEndsABoundedWaitAtOnce() async {
        let bell = Doorbell()
        bell.ring()
        await bell.wait(upTo: .seconds(60))
    }

    @Test func aRingEndsABoundedWait() async {
        let bell = Doorbell()
        let waiter = Task { await bell.wait(upTo: .seconds(60)) }
        await Task.yield()
        bell.ring()
        await waiter.value
    }

    @Test func cancellingEndsTheWait() async {
        let bell = Doorbell()
        let waiter = Task { await bell.wait() }
        await Task.yield()
        waiter.cancel()
        await waiter.value
        let bounded = Task { await bell.wait(upTo: .seconds(60)) }
        bounded.cancel()
        await bounded.value
    }

    @Test func aCancelledTaskDoesNotWait() async {
        let bell = Doorbell()
        let task = Task {
            while !Task.isCancelled { await Task.yield() }
            await bell.wait()
            await bell.wait(upTo: .seconds(60))
        }
        task.cancel()
        await task.value
    }

    /// Two tasks hand a token to and fro; one lost wake-up and it hangs.
    @Test func noRingIsLost() async {
        let there = Doorbell()
        let back = Doorbell()
        let rounds = 20_000
        let echo = Task {
            for _ in 0..<rounds {
                await there.wait()
                back.ring()
            }
        }
        for round in 0..<rounds {
            there.ring()
            if round % 3 == 0 { await back.wait() } else { await back.wait(upTo: .seconds(60)) }
        }
        await echo.value
    }
}

@Suite(.timeLimit(.minutes(1))) struct ThreadExecutorTests {
    private actor Counter {
        private let executor: ThreadExecutor
        nonisolated var unownedExecutor: UnownedSerialExecutor {
            unsafe executor.asUnownedSerialExecutor()
        }
        private var count = 0
        init(_ executor: ThreadExecutor) { self.executor = executor }
        func add() -> Int {
            executor.checkIsolated()
            count += 1
            return count
        }
    }

    @Test func runsEveryJobAndEnds() async {
        let executor = ThreadExecutor(name: "weir/test")
        let counter = Counter(executor)
        await withTaskGroup(of: Void.self) { group in
            for _ in 0..<2000 { group.addTask { _ = await counter.add() } }
        }
        #expect(await counter.add() == 2001)
        executor.stop()
        executor.stop()
    }

    @Test func stoppingRunsTheJobsThatAreQueued() async {
        for _ in 0..<100 {
            let executor = ThreadExecutor(name: "weir/test")
            let counter = Counter(executor)
            let tasks = (0..<5).map { _ in
                Task(executorPreference: executor) { await counter.add() }
            }
            for task in tasks { _ = await task.value }
            executor.stop()
        }
    }
}
