import Foundation
import Glibc
import Testing
import WeirTesting

extension EndToEnd {
    /// Weir and Redis die under load, again and again; the caches equal the tables in the end.
    @Suite struct RedisKillTests {
        /// What a loop of kills did, so that a run that proved nothing fails (INV-15).
        private struct Tally {
            var kills = 0
            /// The daemon had moved on since the kill before.
            var advances = 0
            var late = 0
            var transactions = 0
        }

        /// One life of the daemon that ends with SIGKILL.
        private func live(
            _ home: WeirHome, _ random: inout SeededRandom, _ tally: inout Tally,
            _ position: inout String, meanwhile: () async throws -> Void = {}
        ) async throws {
            let daemon = try home.run()
            try await Task.sleep(for: random.milliseconds(20...700))
            try await meanwhile()
            #expect(daemon.isRunning, "it ended by itself: \(home.logText().suffix(2000))")
            daemon.signal(SIGKILL)
            #expect(try await daemon.wait() == .signalled(SIGKILL))
            tally.kills += 1
            let now = try home.positions()["products"]?.position ?? ""
            if now != position { tally.advances += 1 }
            position = now
        }

        /// One more life, under load until a row was read late; then to the end.
        private func finish(
            _ home: WeirHome, _ writers: [ChildProcess], _ database: TestDatabase,
            _ redis: RedisServer, _ tally: inout Tally
        ) async throws {
            let daemon = try home.run()
            do {
                try await eventually(within: .seconds(40), "a row is read late") {
                    let sinks = try? home.figures().sinks
                    tally.late = sinks?.reduce(0) { $0 + $1.late } ?? 0
                    return tally.late > 0
                }
            } catch {
                throw TestingError("\(error): \(home.logText().suffix(3000))")
            }
            try await Workload.stop(writers, in: database)
            tally.transactions = try Catalogue.transactions(in: database)
            try await home.settle(daemon)
            try Catalogue.expectSame(redis, database)
        }

        @Test func fiftyKillsAndAnEmptiedRedisLeaveTheCachesEqualToTheTables() async throws {
            var random = SeededRandom("fifty kills beside Redis")
            let database = try await TestDatabase.make()
            let redis = try await RedisServer.start()
            try Catalogue.install(in: database)
            let home = try Catalogue.home(database, redis)
            try home.once()

            let writers = try (1...3).map { try Workload.writer($0, in: database, pause: 0.005) }
            var tally = Tally()
            var position = ""
            for round in 0..<50 {
                if round == 26 { try await redis.restart(keepingData: false) }
                try await live(home, &random, &tally, &position) {
                    guard round == 25 else { return }
                    redis.kill()
                    // It writes to nobody for a while.
                    let count = try Catalogue.transactions(in: database)
                    try await eventually("the load goes on") {
                        try Catalogue.transactions(in: database) > count + 20
                    }
                }
            }
            try await finish(home, writers, database, redis, &tally)
            print("\(tally), \(try redis.contents().values.count) values")
            #expect(tally.kills == 50)
            #expect(tally.advances >= 5)
            #expect(tally.transactions > 500)
            #expect(try home.figures().count(of: "redis.data_lost") > 0)
        }

        @Test func killsOfBothLoseNothingOfARedisThatKeepsItsData() async throws {
            var random = SeededRandom("kills of both")
            let database = try await TestDatabase.make()
            let redis = try await RedisServer.start(
                settings: ["appendonly": "yes", "appendfsync": "always"])
            try Catalogue.install(in: database)
            let home = try Catalogue.home(database, redis)
            try home.once()

            let writers = try (1...2).map { try Workload.writer($0, in: database, pause: 0.005) }
            var tally = Tally()
            var position = ""
            for round in 0..<12 {
                try await live(home, &random, &tally, &position) {
                    guard round % 3 == 1 else { return }
                    redis.kill()
                    try await redis.restart(keepingData: true)
                }
            }
            try await finish(home, writers, database, redis, &tally)
            print("\(tally), \(try redis.contents().values.count) values")
            #expect(tally.advances >= 3)
            #expect(try home.figures().count(of: "redis.data_lost") == 0)
        }
    }
}
