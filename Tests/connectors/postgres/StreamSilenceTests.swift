import Foundation
import Testing
import WeirCore
import WeirTesting

@testable import WeirPostgresSource

extension PostgresSourceTests {
    /// A replication connection that hangs while the rest of the server works.
    @Suite struct StreamSilences {
        @Test func silenceIsWhatIsLeftUnansweredWhileSomebodyReads() {
            let start = ContinuousClock.now
            func at(_ seconds: Int) -> ContinuousClock.Instant { start + .seconds(seconds) }
            var silence = StreamSilence(limit: .seconds(10), at: start)
            silence.looked(at: at(9))
            #expect([9, 10, 15].map { silence.asks(at: at($0)) } == [false, true, true])
            silence.looked(at: at(19))
            #expect(!silence.isSilent)
            // Nobody reads: the answer may have arrived.
            silence.hasHeard = true
            silence.looked(at: at(40))
            #expect(!silence.isSilent)
            #expect([45, 50].map { silence.asks(at: at($0)) } == [false, true])
            silence.looked(at: at(60))
            #expect(silence.isSilent)
            silence.hasHeard = true
            silence.looked(at: at(61))
            #expect(!silence.isSilent)
        }

        @Test func aSenderThatHangsAloneIsAFindingUntilItAnswers() async throws {
            let database = try await TestDatabase("CREATE TABLE t (id int PRIMARY KEY)")
            let source = try SourceHarness(
                database, tables: ["t"], silenceLimit: .milliseconds(100))
            try await source.open()
            let sender = try #require(
                pid_t(
                    try database.run(
                        "SELECT active_pid FROM pg_replication_slots "
                            + "WHERE slot_name = '\(database.slot)'")))
            // An idle server that answers is not silent.
            try await eventually("asked more than once") {
                try await source.source.acknowledge(nil)
                return try await source.read().isEmpty
            }
            #expect(source.findings.isEmpty)
            kill(sender, SIGSTOP)
            defer { kill(sender, SIGCONT) }
            try database.run("INSERT INTO t VALUES (1)")
            try await eventually("the silence is said") {
                try await source.source.acknowledge(nil)
                _ = try await source.read()
                return source.findings == ["postgres.stream_silent"]
            }
            kill(sender, SIGCONT)
            let lines = try await source.read(until: "the row came") { _, lines in !lines.isEmpty }
            #expect(lines.count == 1)
            #expect(source.findings.isEmpty)
            // The hint ends the session, and the source is told.
            kill(sender, SIGSTOP)
            try await eventually("it is said again") {
                try await source.source.acknowledge(nil)
                _ = try await source.read()
                return source.findings == ["postgres.stream_silent"]
            }
            let hint = try #require(source.reports.findings.first?.hint)
            let select = try #require(hint.firstRange(of: "SELECT"))
            try database.run(String(hint[select.lowerBound...]))
            kill(sender, SIGCONT)
            await #expect(throws: WeirError.self) {
                _ = try await source.read(until: "the session ended") { _, _ in false }
            }
        }
    }
}
