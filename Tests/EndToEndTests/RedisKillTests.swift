import Foundation
import Glibc
import Testing
import WeirTesting

extension EndToEnd {
    /// Weir and Redis die under load, again and again; the caches equal the tables in the end.
    @Suite struct RedisKillTests {
        /// One more life, under load until a row was read late; then to the end.
        private func finish(
            _ home: WeirHome, _ writers: [ChildProcess], _ database: TestDatabase,
            _ redis: RedisServer
        ) async throws {
            let daemon = try home.run()
            do {
                try await eventually(within: .seconds(40), "a row is read late") {
                    (try? home.figures().sinks.contains { $0.late ?? 0 > 0 }) ?? false
                }
            } catch {
                throw TestingError("\(error): \(home.logText().suffix(3000))")
            }
            try await Workload.stop(writers, in: database)
            try await home.settle(daemon)
            try Catalogue.expectSame(redis, database)
        }

        @Test func fiftyKillsAndAnEmptiedRedisLeaveTheCachesEqualToTheTables() async throws {
            let database = try await TestDatabase.make()
            let redis = try await RedisServer.start()
            try Catalogue.install(in: database)
            let home = try Catalogue.home(database, redis)
            try home.once()

            let writers = try (1...3).map { try Workload.writer($0, in: database, pause: 0.005) }
            var lives = Lives("fifty kills beside Redis", 20...700)
            while try lives.needMore(kills: 50, advances: 5) {
                let round = lives.kills
                if round == 26 { try await redis.restart(keepingData: false) }
                try await lives.live(home, sink: "products") {
                    guard round == 25 else { return }
                    redis.kill()
                    // It writes to nobody for a while.
                    let count = try Catalogue.transactions(in: database)
                    try await eventually("the load goes on") {
                        try Catalogue.transactions(in: database) > count + 20
                    }
                }
            }
            try await finish(home, writers, database, redis)
            print("\(lives), \(try redis.contents().values.count) values")
            #expect(try Catalogue.transactions(in: database) > 500)
            #expect(try home.figures().count(of: "redis.data_lost") > 0)
        }

        @Test func killsOfBothLoseNothingOfARedisThatKeepsItsData() async throws {
            let database = try await TestDatabase.make()
            let redis = try await RedisServer.start(
                settings: ["appendonly": "yes", "appendfsync": "always"])
            try Catalogue.install(in: database)
            let home = try Catalogue.home(database, redis)
            try home.once()

            let writers = try (1...2).map { try Workload.writer($0, in: database, pause: 0.005) }
            var lives = Lives("kills of both", 20...700)
            while try lives.needMore(kills: 12, advances: 3) {
                let round = lives.kills
                try await lives.live(home, sink: "products") {
                    guard round % 3 == 1 else { return }
                    redis.kill()
                    try await redis.restart(keepingData: true)
                }
            }
            try await finish(home, writers, database, redis)
            print("\(lives), \(try redis.contents().values.count) values")
            #expect(try home.figures().count(of: "redis.data_lost") == 0)
        }
    }
}
