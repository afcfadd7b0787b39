import Foundation
import Glibc
import Testing
import WeirTesting

extension EndToEnd {
    /// Redis loses what it had acknowledged. It is noticed within seconds, whoever dies meanwhile,
    /// and what is then done is what the configuration says.
    @Suite struct RedisLossTests {
        private let database: TestDatabase
        private let redis: RedisServer

        init() async throws {
            database = try await TestDatabase.make()
            redis = try await RedisServer.start()
        }

        /// A pipeline "shop" with one sink of table `t`, a few rows of it cached, and a daemon.
        private func cached(
            rows: Int = 100, policy: String = "reread", hasFile: Bool = false
        ) async throws -> (home: WeirHome, daemon: ChildProcess) {
            try database.sql("CREATE TABLE t (id int PRIMARY KEY, v text)")
            let home = try WeirHome(
                database, cache: redis.url(), tables: ["public.t"],
                sinks: [
                    "cache": #""write": "json", "key": "t:{id}", "on_data_loss": "\#(policy)""#
                ], hasFile: hasFile)
            let daemon = try home.run()
            try await home.untilStreaming()
            try await change("INSERT INTO t SELECT g, 'x' FROM generate_series(1, \(rows)) g", home)
            #expect(try count() == rows)
            return (home, daemon)
        }

        /// Changes rows in one transaction, and waits until it is delivered and that is stored.
        private func change(_ sql: String, _ home: WeirHome) async throws {
            let text = try database.sql("BEGIN; \(sql); SELECT pg_current_wal_insert_lsn(); COMMIT")
            let place = try #require(number(text))
            try await eventually(within: .seconds(40), "delivered and stored") {
                try home.positions()["cache"].flatMap { number($0.position) } ?? 0 > place
            }
        }

        /// A place in the log, such as `0/1A2B3C`.
        private func number(_ position: String) -> Int? {
            let halves = position.prefix { $0 != "+" }.split(separator: "/").map {
                Int($0, radix: 16)
            }
            guard halves.count == 2, let high = halves[0], let low = halves[1] else { return nil }
            return high << 32 + low
        }

        private func count() throws -> Int {
            // Two markers, and two keys for each row.
            guard case .integer(let keys) = try redis.command("DBSIZE") else { return -1 }
            return max(0, keys - 2) / 2
        }

        private func difference() throws -> String? {
            EndToEndTests.difference(
                try redis.contents().values, try database.jsonRows("t", key: "'t:' || id"))
        }

        private func untilSame(_ what: String = "read again") async throws {
            var last: String?
            do {
                try await eventually(within: .seconds(60), what, poll: .milliseconds(200)) {
                    last = try difference()
                    return last == nil
                }
            } catch {
                throw TestingError("\(error): \(last ?? "")")
            }
        }

        // MARK: Noticed

        @Test func aFlushOfAnIdleRedisIsMended() async throws {
            let (home, daemon) = try await cached()
            try redis.command("FLUSHALL")
            try await untilSame()
            #expect(try home.figures().count(of: "redis.data_lost") == 1)
            let details = try home.weir("status", "shop").out
            #expect(details.contains("redis.data_lost") && details.contains("it was flushed"))
            try redis.command("FLUSHALL", "ASYNC")
            try await untilSame("a second time")
            try await home.settle(daemon)
            #expect(try difference() == nil)
        }

        @Test func flushesUnderLoadAreMended() async throws {
            try Catalogue.install(in: database)
            let home = try Catalogue.home(database, redis)
            let daemon = try home.run()
            try await home.untilStreaming()
            let writers = try (1...2).map { try Workload.writer($0, in: database, pause: 0.005) }
            for round in 1...3 {
                let before = try Catalogue.transactions(in: database)
                try await eventually("the load goes on") {
                    try Catalogue.transactions(in: database) > before + 50
                }
                try redis.command("FLUSHALL")
                // Three sinks, each of which finds out.
                try await eventually(within: .seconds(20), "mended") {
                    home.logText().ranges(of: " rows again\"").count >= 3 * round
                }
            }
            try await Workload.stop(writers, in: database)
            try await home.settle(daemon)
            try Catalogue.expectSame(redis, database)
        }

        @Test func anEmptiedRedisIsReadAgainOnce() async throws {
            let (home, daemon) = try await cached()
            try await redis.restart(keepingData: false)
            try await untilSame()
            try await home.settle(daemon)
            #expect(try difference() == nil)
            #expect(try home.figures().count(of: "redis.data_lost") == 1)
            let log = home.logText()
            #expect(log.ranges(of: "reading all rows of public.t again").count == 1)
            #expect(log.contains("it was restarted without its data"))
        }

        /// As after a restored backup, or a failover to a replica that was behind: rows that are
        /// gone are there again, and Weir's own marker is old.
        @Test(arguments: [false, true])
        func anOlderCopyIsMended(isKilled: Bool) async throws {
            let (home, daemon) = try await cached()
            try redis.command("SAVE")
            try await change(
                """
                DELETE FROM t WHERE id <= 10;
                UPDATE t SET id = id + 1000 WHERE id <= 20;
                UPDATE t SET v = 'newer' WHERE id <= 30;
                INSERT INTO t VALUES (2000, 'new')
                """, home)
            #expect(try difference() == nil)
            if isKilled {
                daemon.signal(SIGKILL)
                try await daemon.wait()
            }
            redis.kill()
            try await redis.restart(keepingData: true)
            if isKilled {
                try home.once()
            } else {
                try await untilSame()
                try await home.settle(daemon)
            }
            #expect(try difference() == nil)
            #expect(try home.figures().count(of: "redis.data_lost") == 1)
        }

        // MARK: Deaths meanwhile

        @Test func aKillBeforeTheRowsAreReadAgainDoesNotForgetTheLoss() async throws {
            let (home, daemon) = try await cached()
            // The rows cannot be read for now.
            let lock = try ChildProcess(
                database.server.program("psql"),
                [
                    "-X", "-q", "-h", "127.0.0.1", "-p", "\(database.server.port)", "-U",
                    "postgres", "-d", database.name, "-c",
                    "BEGIN; LOCK TABLE t IN ACCESS EXCLUSIVE MODE; SELECT pg_sleep(60)",
                ])
            try await eventually("locked") {
                try database.sql(
                    "SELECT count(*) FROM pg_locks WHERE mode = 'AccessExclusiveLock' AND granted "
                        + "AND relation = 't'::regclass") == "1"
            }
            try redis.command("FLUSHALL")
            try await eventually("it wants to read them") {
                home.logText().contains("reading all rows of public.t again")
            }
            daemon.signal(SIGKILL)
            try await daemon.wait()
            lock.signal(SIGTERM)
            try await lock.wait()
            try database.sql(
                "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
                    + "WHERE query LIKE '%pg_sleep(60)%' AND pid <> pg_backend_pid()")
            try home.once()
            #expect(try difference() == nil)
        }

        @Test func aFlushWhileTheRowsAreReadAgainIsNoticed() async throws {
            let rows = 20_000
            let (home, daemon) = try await cached(rows: rows)
            var part = 0
            // It is stopped in the midst of it, or else it is done and is tried again.
            for _ in 1...5 where !(1000..<rows).contains(part) {
                try redis.command("FLUSHALL")
                try await eventually("a part is there again", poll: .microseconds(500)) {
                    try count() >= 1000
                }
                daemon.signal(SIGSTOP)
                part = try count()
                if part < rows { break }
                daemon.signal(SIGCONT)
                try await untilSame()
            }
            try #require((1000..<rows).contains(part), "\(part) rows: too late")
            try redis.command("FLUSHALL")
            daemon.signal(SIGCONT)
            try await untilSame()
            try await home.settle(daemon)
            #expect(try difference() == nil)
        }

        // MARK: Policies

        @Test func policyStopWaitsForTheOperatorAndHoldsUpNobodyElse() async throws {
            var (home, daemon) = try await cached(policy: "stop", hasFile: true)
            try redis.command("FLUSHALL")
            func expectStopped() async throws {
                let problem = try await home.untilProblem("redis.data_lost")
                #expect(problem.component == "cache")
                #expect(problem.hint?.contains("weir position set shop confirmed --yes") == true)
                #expect(try home.status().pipeline("shop")?.state == "stopped")
            }
            try await expectStopped()
            #expect(try home.weir("status").out.contains("(redis.data_lost)"))
            try database.sql("INSERT INTO t VALUES (1000, 'after')")
            try await eventually("the other goes on") { lines(of: home.output).count == 101 }
            #expect(try home.status().pipeline("filed")?.state == "streaming")
            #expect(try redis.get("t:1000") == nil)
            daemon.signal(SIGTERM)
            #expect(try await daemon.wait() == .exited(0))

            // Starting again is no answer.
            daemon = try home.run()
            try await expectStopped()
            #expect(try redis.get("t:1000") == nil)
            daemon.signal(SIGTERM)
            #expect(try await daemon.wait() == .exited(0))

            #expect(try home.weir("position", "set", "shop", "confirmed", "--yes").code == 0)
            daemon = try home.run()
            try await eventually("it goes on with what is there") {
                try redis.get("t:1000") != nil
            }
            try await home.settle(daemon)
            #expect(try redis.contents().values.count == 1)
        }

        @Test func policyStopKnowsOfAnEmptiedRedisToo() async throws {
            let (home, daemon) = try await cached(policy: "stop")
            try await redis.restart(keepingData: false)
            _ = try await home.untilProblem("redis.data_lost")
            daemon.signal(SIGTERM)
            #expect(try await daemon.wait() == .exited(0))
            let again = try home.weir("run", "--once")
            #expect(again.code == 69)
            #expect(again.err.contains("error redis.data_lost: "))
        }

        @Test func policyContinueSaysSoAndGoesOn() async throws {
            let (home, daemon) = try await cached(policy: "continue")
            try redis.command("FLUSHALL")
            try await eventually("said") {
                try home.figures().count(of: "redis.data_lost") == 1
            }
            try database.sql("UPDATE t SET v = 'y' WHERE id <= 3")
            try await eventually("it goes on") { try redis.contents().values.count == 3 }
            try await home.settle(daemon)
            #expect(try redis.contents().values.count == 3)
            #expect(home.logText().contains("Weir went on with what it holds"))
            let gaps = try home.weir("gap", "list").out
            #expect(gaps.contains("redis.data_lost") && gaps.contains("it was flushed"))
            // What the gap says, as it stands, brings them back.
            let hint = try #require(
                gaps.split(separator: "\n").last { $0.contains("on_data_loss") })
            let commands = try #require(hint.firstMatch(of: /then: (weir stop .*)\. Then: (.*)/))
            let text = try String(contentsOfFile: home.configuration, encoding: .utf8)
            try home.configure(text.replacing(#""continue""#, with: #""reread""#))
            let done = try home.shell(String(commands.output.1))
            #expect(done.code == 0, "\(done)")
            try await untilSame()
            #expect(try home.shell(String(commands.output.2)).out == "resolved gap 1\n")
            #expect(try home.weir("stop").code == 0)
        }
    }
}
