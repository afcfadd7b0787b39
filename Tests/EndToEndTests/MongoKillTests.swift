import Foundation
import Glibc
import Testing
import WeirTesting

extension EndToEnd {
    /// Weir dies under load, again and again; in the end tables and caches equal the collections,
    /// and a file has each change once.
    @Suite struct MongoKillTests {
        /// What a loop of kills did, so that a run that proved nothing fails (INV-15).
        private struct Tally {
            var kills = 0
            /// The daemon had moved on since the kill before.
            var advances = 0
            /// The file was longer than its checkpoint: the next start cuts and reads again.
            var truncations = 0
            var operations = 0
            var late = 0
        }

        private static func home(
            _ database: MongoDatabase, _ target: TestDatabase, _ redis: RedisServer
        ) throws -> WeirHome {
            try WeirHome { home in
                var sinks = MongoWorkload.sinks(database)
                sinks["file"] = #""type": "file", "path": "\#(home.output)""#
                let made = sinks.map { "\"\($0)\": { \($1) }" }
                return WeirHome.configuration(
                    ["cms": database.url],
                    [
                        "shop": """
                        {
                          "source": {
                            "connection": "cms", "collections": \(database.places("items", "orders"))
                          },
                          "sinks": { \(made.joined(separator: ",\n")) }
                        }
                        """
                    ],
                    others: """
                        "copy": { "type": "postgres", "url": "\(target.url)" },
                        "cache": { "type": "redis", "url": "\(redis.url())" }
                        """)
            }
        }

        /// One life of the daemon that ends with SIGKILL.
        private func live(
            _ home: WeirHome, _ random: inout SeededRandom, _ tally: inout Tally,
            _ position: inout ClusterMoment?, meanwhile: () async throws -> Void
        ) async throws {
            let daemon = try home.run()
            try await Task.sleep(for: random.milliseconds(20...550))
            try await meanwhile()
            #expect(daemon.isRunning, "it ended by itself: \(home.logText().suffix(2000))")
            daemon.signal(SIGKILL)
            #expect(try await daemon.wait() == .signalled(SIGKILL))
            tally.kills += 1
            let row = try home.positions()["file"]
            if fileSize(home.output) > row?.mark ?? 0 { tally.truncations += 1 }
            let now = row.flatMap { ClusterMoment($0.position) }
            if now != position { tally.advances += 1 }
            position = now
        }

        /// Inserts orders in one transaction, or deletes them.
        private static func changeAtOnce(_ database: MongoDatabase, isEnd: Bool) async throws {
            let place = database.place("orders")
            try await database.shell.transaction { [shell = database.shell] in
                if isEnd {
                    try await shell.delete(#"{"writer": 0}"#, from: place, many: true)
                } else {
                    try await shell.insert(count: 2000, into: place) {
                        #"{"_id": \#(900_000 + $0), "writer": 0, "lines": []}"#
                    }
                }
            }
        }

        @Test func fiftyKillsLeaveTableCachesAndFileEqualToTheCollections() async throws {
            var random = SeededRandom("fifty kills beside MongoDB")
            let database = try await MongoDatabase.make()
            let target = try await TestDatabase.make()
            let redis = try await RedisServer.start()
            try await MongoWorkload.install(in: database)
            let home = try Self.home(database, target, redis)
            try home.once()
            let begin = try await database.now()

            let writers = try MongoWorkload.writers(3, in: database, &random)
            var tally = Tally()
            var position = try home.moment()
            for round in 0..<50 {
                try await live(home, &random, &tally, &position) {
                    if round % 20 == 19 { try await database.replicas.stepDown() }
                    if round % 20 == 9 { try await Self.changeAtOnce(database, isEnd: round > 20) }
                }
            }
            // One more life, in which documents are looked up; then to the end.
            let daemon = try home.run()
            try await eventually(within: .seconds(40), "documents are looked up") {
                let sinks = try? home.figures().sinks
                tally.late = sinks?.reduce(0) { $0 + $1.late } ?? 0
                return tally.late > 0
            }
            for writer in writers { tally.operations += await writer.stop() }
            try await home.settle(daemon)

            for collection in MongoWorkload.collections {
                let table = try await MongoWorkload.difference(target, collection, of: database)
                #expect(table == nil)
                let cache = try await MongoWorkload.difference(
                    redis, "\(collection.dropLast()):", collection, of: database)
                #expect(cache == nil)
                #expect(try await database.shell.count(in: database.place(collection)) > 30)
            }
            let expected = try await database.tokens(
                of: MongoWorkload.collections, behind: begin)
            let found = try documentTokens(home.output)
            #expect(Set(found).count == found.count, "each once")
            #expect(found == expected)
            print("\(tally), \(found.count) changes")
            #expect(tally.kills == 50)
            #expect(tally.advances >= 5)
            #expect(tally.truncations >= 1)
            #expect(tally.operations > 500 && found.count > 5000)
        }
    }
}
