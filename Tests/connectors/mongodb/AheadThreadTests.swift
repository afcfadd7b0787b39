import Synchronization
import Testing

@testable import WeirMongoDBClient

/// A thread whose commands answer 0, 1, 2, …
@Suite(.timeLimit(.minutes(1))) struct AheadThreadTests {
    private final class Server: Sendable {
        /// The answers that are small.
        let small: Set<Int>
        let failing: Int?
        /// The commands it was asked, one byte each.
        let asked = Mutex<[UInt8]>([])

        init(small: Set<Int> = [], failing: Int? = nil) {
            self.small = small
            self.failing = failing
        }

        func thread() throws -> AheadThread<Int> {
            let thread = AheadThread<Int> { [self] job in
                let answer = asked.withLock { asked in
                    asked.append(job.command[0])
                    return asked.count - 1
                }
                return AheadThread<Int>.Outcome(
                    result: answer == failing
                        ? .failure(MongoFailure(.network, "gone")) : .success(answer),
                    isLarge: answer != failing && !small.contains(answer))
            }
            return try #require(thread)
        }
    }

    private static func job(_ command: UInt8 = 1) -> AheadThread<Int>.Job {
        AheadThread.Job(command: [command], database: "d", largeBytes: 1)
    }

    @Test func nothingIsThereBeforeABeginning() throws {
        let thread = try Server().thread()
        defer { thread.stop() }
        #expect(thread.take() == nil)
        thread.wait()
    }

    @Test func largeAnswersComeInOrder() throws {
        let server = Server(small: [999])
        let thread = try server.thread()
        defer { thread.stop() }
        thread.begin(Self.job())
        for answer in 0...999 {
            #expect(try thread.take()?.get() == answer)
            // As the stream does with each page but the last.
            if answer < 999 { thread.begin(Self.job()) }
        }
        #expect(thread.take() == nil)
        #expect(server.asked.withLock { $0.count } == 1000)
    }

    /// The small answer may be there before the large one is looked at.
    @Test func behindASmallAnswerNothingIsBegunBeforeItIsTaken() throws {
        let server = Server(small: [1])
        let thread = try server.thread()
        defer { thread.stop() }
        thread.begin(Self.job())
        #expect(try thread.take()?.get() == 0)
        thread.wait()
        thread.begin(Self.job())
        #expect(try thread.take()?.get() == 1)
        #expect(thread.take() == nil)
        thread.begin(Self.job())
        #expect(try thread.take()?.get() == 2)
    }

    /// Memory: one answer that is worked on, and one that waits.
    @Test func noMoreIsAskedForThanOneAnswerAhead() throws {
        let server = Server()
        let thread = try server.thread()
        defer { thread.stop() }
        thread.begin(Self.job())
        thread.wait()
        #expect(server.asked.withLock { $0.count } == 1)
        _ = try thread.take()?.get()
        thread.wait()
        #expect(server.asked.withLock { $0.count } == 2)
    }

    @Test func aLaterCommandReplacesTheOneThatIsRepeated() throws {
        let server = Server()
        let thread = try server.thread()
        defer { thread.stop() }
        thread.begin(Self.job(1))
        thread.wait()
        thread.begin(Self.job(2))
        #expect(try thread.take()?.get() == 0)
        #expect(try thread.take()?.get() == 1)
        #expect(server.asked.withLock { $0.prefix(2) } == [1, 2])
    }

    @Test func aFailureEndsTheRepetition() throws {
        let thread = try Server(failing: 1).thread()
        defer { thread.stop() }
        thread.begin(Self.job())
        #expect((try? thread.take()?.get()) == 0)
        #expect(throws: MongoFailure.self) { try thread.take()?.get() }
        #expect(thread.take() == nil)
    }

    @Test func whatIsCancelledIsNotThereAnyMore() throws {
        let server = Server()
        let thread = try server.thread()
        defer { thread.stop() }
        for _ in 0..<100 {
            thread.begin(Self.job())
            _ = try thread.take()?.get()
            thread.cancel()
            #expect(thread.take() == nil)
        }
        let count = server.asked.withLock { $0.count }
        thread.begin(Self.job())
        #expect(try thread.take()?.get() == count)
    }
}
