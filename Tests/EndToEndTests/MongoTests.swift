import Foundation
import Glibc
import Testing
import WeirTesting

extension EndToEnd {
    /// From MongoDB into every sink, from configuration alone.
    @Suite struct MongoTests {
        private let database: MongoDatabase

        init() async throws { database = try await MongoDatabase.make() }

        private func until<Value: Equatable & Sendable>(
            _ expected: Value, _ what: String, _ home: WeirHome, found: () throws -> Value
        ) async throws {
            var last: Value?
            do {
                try await eventually(within: .seconds(10), what) {
                    last = try? found()
                    return last == expected
                }
            } catch {
                throw TestingError(
                    "\(error): found \(last as Any), expected \(expected): "
                        + home.logText().suffix(2000))
            }
        }

        // MARK: File

        @Test func onceEndsWithEverythingDeliveredAndARestartGoesOnAtTheToken() async throws {
            try await database.insert(1...3)
            let home = try WeirHome(database)
            let empty = try home.weir("run", "--once", within: .seconds(20))
            #expect(empty.code == 0, "\(empty.err)")
            #expect(fileSize(home.output) == 0, "what was there before the first start is not read")
            let begin = try await database.now()

            try await database.insertAtOnce(4...10_003)
            try await database.shell.transaction { [database] in
                try await database.insert(10_004...10_010)
                try await database.update(10_004, #"{"$set": {"v": "y"}}"#)
            }
            try home.once()
            #expect(try documentIDs(home.output) == Array(4...10_010) + [10_004])
            // Nothing comes twice, and nothing is waited for.
            try home.once()
            try await database.insert(10_011...10_012)
            try await database.update(10_011, #"{"$set": {"v": "y"}}"#)
            try await database.shell.delete(#"{"_id": 10012}"#, from: database.place("items"))
            try home.once()
            #expect(try documentIDs(home.output).suffix(4) == [10_011, 10_012, 10_011, 10_012])
            let expected = try await database.tokens(of: ["items"], behind: begin)
            #expect(try documentTokens(home.output) == expected)
            #expect(expected.count == 10_012)

            let lines = try DocumentLine.all(of: home.output)
            let transaction = lines.filter { $0.pos.txn != nil }
            #expect(transaction.count == 8)
            #expect(Set(transaction.map(\.pos.txn)).count == 1)
            #expect(try home.facts().source.server.contains("MongoDB") == false, "it is down")
        }

        /// The oplog of a set that nobody writes to grows by an entry every ten seconds.
        @Test func aQuietCollectionIsNotBehindAndItsPositionMoves() async throws {
            let home = try WeirHome(database)
            let daemon = try home.run()
            try await home.untilStreaming()
            try await database.insert(1...1)
            try await eventually("a line") { lines(of: home.output).count == 1 }

            // While others write, the position passes what they wrote.
            let other = try await MongoDatabase.make()
            try await other.insert(1...100)
            let passed = try await other.now()
            try await eventually("it moves with what others write") {
                try home.moment() ?? ClusterMoment(seconds: 0, increment: 0) >= passed
            }
            // While nobody does, it moves too, and there is never anything to catch up with.
            let quiet = try #require(try home.moment())
            let start = ContinuousClock.now
            var lag = 0.0
            try await eventually(
                within: .seconds(30), "it moves by itself", poll: .milliseconds(100)
            ) {
                lag = max(lag, try home.facts().lagSeconds ?? 0)
                let moment = try home.moment()
                return ContinuousClock.now - start > .seconds(11) && moment ?? quiet > quiet
            }
            #expect(lag < 0.5, "idle is not late")
            #expect(try home.weir("status").out.contains(#/\nshop +streaming +0s /#))
            #expect(lines(of: home.output).count == 1)
            try await home.stop(daemon)
        }

        // MARK: S3

        /// The example of the configuration as it stands, with other places, and a sink more.
        private static func stock(_ database: MongoDatabase, _ redis: RedisServer) throws -> String
        {
            let repository = URL(fileURLWithPath: #filePath).resolvingSymlinksInPath()
                .deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()
            var text = try String(
                contentsOf: repository.appendingPathComponent("config/examples/tenant-stock.json"),
                encoding: .utf8)
            for (old, new) in [
                (#""$schema": "../weir.schema.json","#, ""),
                (#"{ "env": "INVENTORY_URL" }"#, quoted(database.url)),
                (#""rediss://cache.internal:6379/0","#, quoted(redis.url())),
                (#""user": "weir", "password": { "env": "CACHE_PASSWORD" }"#, ""),
                (#""tenant-stock": {"#, #""shop": {"#),
                ("inventory.products", database.place("products")),
                (
                    #""sinks": {"#,
                    """
                    "sinks": {
                      "documents": {
                        "connection": "cache", "write": "json", "key": "item:{_id}"
                      },
                    """
                ),
            ] {
                guard text.contains(old) else { throw TestingError("the example has no \(old)") }
                text.replace(old, with: new)
            }
            return text
        }

        @Test func aTenantsStockIsCachedBesideTheWholeDocument() async throws {
            try await database.create("products", hasImages: true)
            let redis = try await RedisServer.start()
            let home = try WeirHome { _ in try Self.stock(database, redis) }
            let daemon = try home.run()
            try await home.untilStreaming()
            let place = database.place("products")
            let key = "tenant:t7:stock:tea-1"
            func untilStock(_ expected: String?, _ key: String = key) async throws {
                try await until(expected, "the stock at \(key)", home) { try redis.text(key) }
            }
            func untilDocument(_ expected: String?) async throws {
                try await until(expected, "the document", home) { try redis.text("item:tea-1") }
            }
            func update(_ change: String) async throws {
                let count = try await database.shell.update(
                    #"{"_id": "tea-1"}"#, change, in: place)
                #expect(count == 1)
            }

            let name = #""name":{"en":"Tea \"green\"","my":"လက်ဖက်ရည်","th":"ชาเขียว 🙂"}"#
            let head = #"{"_id":"tea-1","tenant_id":"t7",\#(name)"#
            try await database.shell.insert(
                head + #","variants":[{"sku":"A","stock":12}]}"#, into: place)
            try await untilStock("12")
            #expect((270_000...300_000).contains(try redis.life(of: key)))
            try await untilDocument(head + #","variants":[{"sku":"A","stock":12}]}"#)
            #expect(try redis.life(of: "item:tea-1") == -1)
            try await until([["en": #"Tea "green""#, "my": "လက်ဖက်ရည်"]], "names", home) {
                try redis.hashes("product:").values.map {
                    $0.mapValues { String(decoding: $0, as: UTF8.self) }
                }
            }

            try await update(#"{"$inc": {"variants.0.stock": -1}}"#)
            try await untilStock("11")
            try await untilDocument(head + #","variants":[{"sku":"A","stock":11}]}"#)
            // Other numbers, a text, and what is no single value.
            for (value, expected) in [
                (#"{"$numberLong": "9007199254740993"}"#, "9007199254740993"), ("1.5", "1.5"),
                (#"{"$numberDecimal": "1.50"}"#, "1.50"), (#""များ""#, "များ"), ("true", "true"),
                (#"[1, {"a": "ü"}]"#, #"[1,{"a":"ü"}]"#), (#"{"left": 3}"#, #"{"left":3}"#),
            ] {
                try await update(#"{"$set": {"variants.0.stock": \#(value)}}"#)
                try await untilStock(expected)
            }
            // Where there is no such field, nobody finds what was there before.
            for change in [
                #"{"$unset": {"variants.0.stock": 1}}"#, #"{"$set": {"variants.0.stock": null}}"#,
                #"{"$set": {"variants": []}}"#, #"{"$set": {"variants": "none"}}"#,
                #"{"$unset": {"variants": 1}}"#,
            ] {
                try await update(change)
                try await untilStock(nil)
                try await update(#"{"$set": {"variants": [{"stock": 5}]}}"#)
                try await untilStock("5")
            }
            // Another tenant has another key; without one there is none.
            try await update(#"{"$set": {"tenant_id": "ရန်ကုန်:{1}"}}"#)
            try await untilStock("5", "tenant:ရန်ကုန်%3A%7B1%7D:stock:tea-1")
            try await untilStock(nil)
            try await update(#"{"$unset": {"tenant_id": 1}}"#)
            try await untilStock(nil, "tenant:ရန်ကုန်%3A%7B1%7D:stock:tea-1")
            try await update(#"{"$set": {"tenant_id": "t7"}}"#)
            try await untilStock("5")
            try await database.shell.delete(#"{"_id": "tea-1"}"#, from: place)
            try await untilStock(nil)
            try await untilDocument(nil)
            #expect(try redis.contents().values.isEmpty)
            try await until(0, "no hash is left", home) { try redis.hashes("product:").count }
            #expect(try home.figures().errors.isEmpty)
            try await home.stop(daemon)
        }

        /// A field whose value before the change decides which key is stale must come with it.
        @Test func aKeyOfOtherFieldsNeedsImages() async throws {
            try await database.create("items")
            let redis = try await RedisServer.start()
            let home = try WeirHome { _ in
                WeirHome.configuration(
                    ["cms": database.url],
                    [
                        "shop": """
                        {
                          "source": {
                            "connection": "cms", "collections": \(database.places("items"))
                          },
                          "sinks": {
                            "stock": {
                              "connection": "cache", "write": "string", "value": "stock",
                              "key": "tenant:{tenant_id}:stock:{_id}"
                            }
                          }
                        }
                        """
                    ], others: #""cache": { "type": "redis", "url": "\#(redis.url())" }"#)
            }
            let daemon = try home.run()
            try await home.untilStreaming()
            let place = database.place("items")
            try await database.shell.insert(
                #"{"_id": 1, "tenant_id": "t", "stock": 3}"#, into: place)
            try await until("3", "an insert needs none", home) {
                try redis.text("tenant:t:stock:1") ?? ""
            }
            try await database.shell.delete(#"{"_id": 1}"#, from: place)
            let problem = try await home.untilProblem("redis.key_unknown")
            #expect("\(problem)".contains("changeStreamPreAndPostImages"), "\(problem)")
            // Nothing was removed that may be another document's.
            #expect(try redis.text("tenant:t:stock:1") == "3")
            try await home.stop(daemon)
        }

        // MARK: S5

        @Test func wordsOfEveryScriptAreFoundAsDocumentsChange() async throws {
            let target = try await TestDatabase.make()
            let home = try WeirHome { _ in
                WeirHome.configuration(
                    ["cms": database.url],
                    [
                        "shop": """
                        {
                          "source": {
                            "connection": "cms", "collections": \(database.places("articles"))
                          },
                          "sinks": {
                            "index": {
                              "connection": "search", "write": "search", "table": "search.articles",
                              "columns": {
                                "id": "_id", "title": "title.en", "burmese": "title.my",
                                "body": "blocks.0.text", "document": "$"
                              },
                              "text": { "A": ["title", "burmese"], "B": ["body"] }
                            }
                          }
                        }
                        """
                    ], others: #""search": { "type": "postgres", "url": "\#(target.url)" }"#)
            }
            let daemon = try home.run()
            try await home.untilStreaming()
            let place = database.place("articles")
            func untilFound(_ words: String, _ expected: String) async throws {
                try await until(expected, "what \(words) finds", home) {
                    try target.sql(
                        """
                        SELECT coalesce(string_agg(id, ' ' ORDER BY id), '')
                        FROM search.articles, websearch_to_tsquery('simple', '\(words)') q
                        WHERE search @@ q
                        """)
                }
            }

            let burmese = #"{"_id":"a","title":{"my":"မြန်မာ စာ အုပ်"},"blocks":[{"text":"ရန်ကုန်"}]}"#
            try await database.shell.insert(
                burmese,
                #"{"_id":"b","title":{"en":"Grüße aus Zürich"},"blocks":[{"text":"สวัสดี ครับ"}]}"#,
                #"{"_id":"c","title":{"en":"العالم"},"blocks":[{"text":"مرحبا بالعالم"}],"n":[1.5]}"#,
                #"{"_id":"d","title":"မြန်မာ","blocks":"flat"}"#, into: place)
            try await untilFound("မြန်မာ", "a")
            try await untilFound("ရန်ကုန်", "a")
            try await untilFound("grüße", "b")
            try await untilFound("สวัสดี", "b")
            try await untilFound("العالم", "c")
            try await untilFound("flat", "")
            #expect(
                try target.columns(of: "search.articles")
                    == [
                        "id text", "title text", "burmese text", "body text", "document jsonb",
                        "search tsvector",
                    ])
            #expect(
                try target.sql(
                    "SELECT document = '\(burmese)', title IS NULL, burmese FROM search.articles "
                        + "WHERE id = 'a'") == "t|t|မြန်မာ စာ အုပ်")
            #expect(
                try target.sql(
                    "SELECT title IS NULL AND burmese IS NULL AND body IS NULL "
                        + "FROM search.articles WHERE id = 'd'") == "t")

            try await database.shell.update(
                #"{"_id": "b"}"#, #"{"$set": {"title.my": "မြန်မာ", "blocks.0.text": "ลาก่อน"}}"#,
                in: place)
            try await untilFound("မြန်မာ", "a b")
            try await untilFound("สวัสดี", "")
            try await untilFound("ลาก่อน zürich", "b")
            try await database.shell.update(
                #"{"_id": "d"}"#, #"{"title": {"my": "မြန်မာ"}}"#, in: place, .replacement)
            try await untilFound("မြန်မာ", "a b d")
            try await database.shell.delete(#"{"_id": "a"}"#, from: place)
            try await untilFound("မြန်မာ", "b d")
            try await untilFound("ရန်ကုန်", "")
            #expect(try target.count("search.articles") == 3)
            // A collection that is dropped takes its rows along.
            try await database.shell.run(#"{"drop": "articles"}"#, database: database.name)
            try await until("0", "the table is empty", home) {
                try target.sql("SELECT count(*) FROM search.articles")
            }
            #expect(try home.figures().errors.isEmpty)
            try await home.stop(daemon)
        }
    }
}
