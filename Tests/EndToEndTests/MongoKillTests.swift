import Foundation
import Glibc
import Testing
import WeirTesting

extension EndToEnd {
    /// Weir dies under load, again and again; in the end tables and caches equal the collections,
    /// and a file has each change once.
    @Suite struct MongoKillTests {
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
            var lives = Lives("lives beside MongoDB", 20...550)
            while try lives.needMore(kills: 50, advances: 5, truncations: 1) {
                let round = lives.kills
                try await lives.live(home, sink: "file") {
                    if round % 20 == 19 { try await database.replicas.stepDown() }
                    if round % 20 == 9 { try await Self.changeAtOnce(database, isEnd: round > 20) }
                }
            }
            // One more life, in which documents are looked up; then to the end.
            let daemon = try home.run()
            try await eventually(within: .seconds(40), "documents are looked up") {
                (try? home.figures().sinks.contains { $0.late ?? 0 > 0 }) ?? false
            }
            var operations = 0
            for writer in writers { operations += await writer.stop() }
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
            print("\(lives), \(operations) operations, \(found.count) changes")
            #expect(operations > 500 && found.count > 5000)
        }
    }
}
