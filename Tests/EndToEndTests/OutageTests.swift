import Foundation
import Glibc
import Testing
import WeirTesting

extension EndToEnd {
    /// What happens to a running daemon from outside.
    @Suite struct OutageTests {
        @Test func aDaemonFrozenBeyondTheServersPatienceGoesOnWithoutLoss() async throws {
            let database = try await TestDatabase.alone(settings: ["wal_sender_timeout": "2s"])
            try Workload.install(in: database)
            let home = try WeirHome(database, tables: Workload.tables)
            let daemon = try home.run()
            try await home.untilStreaming()
            let writer = try Workload.writer(1, in: database)
            for _ in 0..<2 {
                let size = fileSize(home.output)
                try await eventually("events flow") { fileSize(home.output) > size + 50_000 }
                daemon.signal(SIGSTOP)
                try await eventually("the server gives the frozen daemon up") {
                    try database.sql("SELECT active FROM pg_replication_slots") == "f"
                }
                daemon.signal(SIGCONT)
                try await eventually(within: .seconds(30), "it is connected again") {
                    try database.sql("SELECT active FROM pg_replication_slots") == "t"
                }
            }
            try await Workload.stop([writer], in: database)
            daemon.signal(SIGTERM)
            #expect(try await daemon.wait() == .exited(0))
            #expect(try home.weir("run", "--once").code == 0)
            try Replay(file: home.output).expectComplete(database)
        }

        /// Writers lose their connection with the server; each is started again.
        @Test func fiveRestartsOfTheServerUnderLoadLeaveEveryEventExactlyOnce() async throws {
            var random = SeededRandom("server restarts")
            let database = try await TestDatabase.alone()
            try Workload.install(in: database)
            let home = try WeirHome(database, tables: Workload.tables)
            let daemon = try home.run()
            try await home.untilStreaming()
            for round in 0..<5 {
                let size = fileSize(home.output)
                let writers = try (1...2).map { try Workload.writer($0, in: database) }
                try await eventually(within: .seconds(60), "events flow again") {
                    try fileSize(home.output) > size + 20_000
                        && database.number("SELECT count(*) FROM ledger") > 15 * (round + 1)
                }
                try await Task.sleep(for: random.milliseconds(0...300))
                let start = ContinuousClock.now
                try await database.server.restart(round % 2 == 0 ? .fast : .immediate)
                #expect(ContinuousClock.now - start < .seconds(10), "the daemon does not hold it")
                for writer in writers { try await writer.wait() }
            }
            #expect(daemon.isRunning)
            try await eventually(within: .seconds(30), "it is connected again") {
                try database.sql("SELECT active FROM pg_replication_slots") == "t"
            }
            daemon.signal(SIGTERM)
            #expect(try await daemon.wait() == .exited(0))
            #expect(try home.weir("run", "--once").code == 0)
            let replay = try Replay(file: home.output)
            try replay.expectComplete(database)
            #expect(replay.ledger.count > 50)
        }

        /// A file that may not grow stands for a full disk (EFBIG for ENOSPC).
        @Test func aFullOutputIsRetriedUntilThereIsRoom() async throws {
            let database = try await TestDatabase.make()
            try database.sql("CREATE TABLE t (id int PRIMARY KEY, v text)")
            let home = try WeirHome(database, tables: ["public.t"])
            let daemon = try home.run()
            try await home.untilStreaming()
            func limit(_ bytes: String) throws {
                let result = try runProcess(
                    "prlimit", ["--pid", "\(daemon.pid)", "--fsize=\(bytes):unlimited"])
                #expect(result.status == .exited(0), "\(result.stderr)")
            }
            // Above all that the state store may need.
            try limit("12000000")
            try database.sql(
                "INSERT INTO t SELECT g, repeat('x', 1000) FROM generate_series(1, 20000) g")
            try await eventually("the sink fails") {
                let pipeline = try? home.status().pipelines.first
                return pipeline?.state == "failing"
                    && pipeline?.problems.first?.code == "file.write_failed"
            }
            #expect(daemon.isRunning, "SIGXFSZ does not end it")
            #expect(home.logText().contains("File too large"))
            #expect(try home.weir("status").out.contains("! shop/file"))
            try limit("unlimited")
            try await eventually(within: .seconds(60), "all is delivered") {
                lines(of: home.output).count == 20_000
            }
            let replay = try Replay(file: home.output)
            #expect(replay.count == 20_000)
            daemon.signal(SIGTERM)
            #expect(try await daemon.wait() == .exited(0))
        }

        /// strace is the tracer but not the parent (-D) and hears signals (-I1), so it can leave
        /// alone.
        @Test(.enabled(if: hasStrace, "strace is not installed"))
        func aFailedSyncIsNeverTakenForSuccess() async throws {
            let database = try await TestDatabase.make()
            try database.sql("CREATE TABLE t (id int PRIMARY KEY, v text)")
            let home = try WeirHome(database, tables: ["public.t"])
            #expect(try home.weir("run", "--once").code == 0)
            let daemon = try home.run(
                through: [
                    "strace", "-D", "-I1", "-f", "-qq", "-o", "/dev/null", "-P", home.output, "-e",
                    "trace=fdatasync", "-e", "inject=fdatasync:error=EIO",
                ])
            try await home.untilStreaming()
            let tracer = try #require(try tracer(of: daemon.pid))
            try database.sql("INSERT INTO t SELECT g, 'x' FROM generate_series(1, 100) g")
            let end = try database.number("SELECT pg_current_wal_lsn() - '0/0'::pg_lsn")
            try await eventually("it failed and was tried again, ever more rarely") {
                home.logText().contains("(attempt 4, ")
            }
            // It is not there while the sink is tried again.
            let problem = try await home.untilProblem("file.write_failed")
            #expect(problem.component == "file")
            #expect(problem.message.contains("Input/output error"))
            let confirmed = try #require(try database.confirmed("weir_shop"))
            #expect(confirmed < end, "nothing is acknowledged that is not safe")

            #expect(kill(tracer, SIGTERM) == 0)
            try await eventually(within: .seconds(30), "acknowledged after a good sync") {
                try database.confirmed("weir_shop") ?? 0 >= end
            }
            #expect(try Replay(file: home.output).count == 100)
            daemon.signal(SIGTERM)
            #expect(try await daemon.wait() == .exited(0))
        }

        private func tracer(of pid: Int32) throws -> pid_t? {
            let text = try String(contentsOfFile: "/proc/\(pid)/status", encoding: .utf8)
            return text.firstMatch(of: /TracerPid:\s+(\d+)/).flatMap { pid_t($0.1) }
        }

        private static let hasStrace =
            (try? runProcess("strace", ["-V"]).status) == .exited(0)
    }
}
