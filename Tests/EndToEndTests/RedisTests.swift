import Foundation
import Glibc
import Testing
import WeirTesting

extension EndToEnd {
    /// Caches in Redis, from configuration alone.
    @Suite struct RedisTests {
        private let database: TestDatabase
        private let redis: RedisServer

        init() async throws {
            database = try await TestDatabase.make()
            redis = try await RedisServer.start()
        }

        private func until(
            _ what: String, _ difference: () throws -> String?
        ) async throws {
            var last: String?
            do {
                try await eventually(what, poll: .milliseconds(30)) {
                    last = try difference()
                    return last == nil
                }
            } catch {
                throw TestingError("\(error): \(last ?? "")")
            }
        }

        private func product(_ number: Int) -> String {
            "00000000-0000-0000-0000-00000000000\(number)"
        }

        // MARK: S1

        @Test func aWriteThroughCacheFollowsProductsAndPricesThroughOneSlot() async throws {
            try database.sql(Catalogue.schema)
            let home = try Catalogue.home(database, redis)
            let daemon = try home.run()
            try await home.untilStreaming()
            let slots = "SELECT count(*) FROM pg_replication_slots WHERE database = 'NAME'"
            #expect(try database.number(slots.replacing("NAME", with: database.name)) == 1)
            try database.sql(
                #"""
                INSERT INTO products (id, sku, name, description, category_id, brand, attributes)
                VALUES ('\#(product(1))', 'A-1', 'မြန်မာ 🙂', E'two\r\nlines', 7, NULL,
                        '{"size": 1.50, "tags": ["a\\b", null, {}], "ü": "\u0001"}'),
                       ('\#(product(2))', 'A-2', '', NULL, NULL, '"Brand"', NULL),
                       ('\#(product(3))', 'A-3', 'x', 'y', -1, 'z',
                        jsonb_build_object('text', repeat(md5('x'), 300)));
                INSERT INTO prices VALUES
                    ('\#(product(1))', 12.30, 'EUR'), ('\#(product(2))', NULL, 'EUR'),
                    ('\#(product(3))', 0.05, NULL);
                """#)
            func untilSame(_ what: String) async throws {
                try await until(what) { try Catalogue.difference(redis, database) }
            }
            try await untilSame("inserted")
            let key = "firstviscount:product:\(product(1))"
            let life = try redis.life(of: key)
            #expect((54 * 60_000...60 * 60_000).contains(life))
            #expect(try redis.life(of: "price:\(product(1))") == -1)
            #expect(try redis.text("price:\(product(1))") == "12.30")

            // Unchanged, the large attributes of the third are not sent.
            try database.sql(
                """
                UPDATE products SET status = 'live', updated_at = now();
                UPDATE prices SET amount = 9.99 WHERE product_id = '\(product(2))';
                UPDATE prices SET amount = NULL WHERE product_id = '\(product(1))';
                """)
            try await untilSame("updated")
            #expect((54 * 60_000...60 * 60_000).contains(try redis.life(of: key)))
            try database.sql(
                """
                UPDATE products SET id = '\(product(4))' WHERE id = '\(product(3))';
                DELETE FROM products WHERE id = '\(product(1))';
                DELETE FROM prices WHERE product_id = '\(product(3))';
                """)
            try await untilSame("moved and deleted")
            #expect(try redis.get(key) == nil)
            #expect(try redis.get("firstviscount:product:\(product(3))") == nil)
            try await home.settle(daemon)
            try Catalogue.expectSame(redis, database)
            #expect(try home.figures().errors.isEmpty)
        }

        @Test func chosenColumnsAreTheValue() async throws {
            try database.sql(Catalogue.schema)
            let home = try WeirHome(
                database, cache: redis.url(), tables: ["public.products"],
                sinks: [
                    "list": """
                    "write": "json", "key": "list:{id}", "columns": ["name", "id", "attributes"]
                    """,
                    "named": """
                    "write": "json", "key": "named:{id}",
                    "columns": { "stück": "category_id", "a": "attributes" }
                    """,
                ])
            let daemon = try home.run()
            try await home.untilStreaming()
            try database.sql(
                """
                INSERT INTO products (id, sku, name, category_id, attributes)
                VALUES ('\(product(1))', 's', 'one', 1, '{"b": 2}'),
                       ('\(product(2))', 's', 'two', NULL, NULL);
                UPDATE products SET name = 'ONE' WHERE category_id = 1;
                """)
            func expected() throws -> [Bytes: Bytes] {
                try database.pairs(
                    "'list:' || id", "row_to_json(t)",
                    from: "(SELECT name, id, attributes FROM products) t"
                ).merging(
                    database.pairs(
                        "'named:' || k", "row_to_json(ROW(t.*)::named)",
                        from: "(SELECT id k, category_id, attributes FROM products) s, "
                            + "LATERAL (SELECT s.category_id, s.attributes) t")
                ) { first, _ in first }
            }
            try database.sql(#"CREATE TYPE named AS ("stück" int, a jsonb)"#)
            try await until("both are there") {
                difference(try redis.contents().values, try expected())
            }
            try await home.settle(daemon)
            #expect(difference(try redis.contents().values, try expected()) == nil)
        }

        // MARK: S2

        @Test func updatesAndDeletesInvalidateAndInsertsTouchNothing() async throws {
            try database.sql("CREATE TABLE products (id int PRIMARY KEY, name text)")
            try database.sql("INSERT INTO products VALUES (1, 'a'), (2, 'b'), (3, 'c'), (4, 'd')")
            let home = try WeirHome(
                database, cache: redis.url(), tables: ["public.products"],
                sinks: [
                    "drop": """
                    "write": "invalidate", "key": "product:{id}", "publish": "product-changes"
                    """
                ])
            let listener = try ChildProcess(
                "redis-cli", ["-s", redis.socketFile, "--raw", "SUBSCRIBE", "product-changes"])
            // Three lines for the subscription, three for each message.
            func heard() throws -> [String] {
                let lines = try listener.standardOutput().split(separator: "\n").map(String.init)
                return stride(from: 5, to: lines.count, by: 3).map { lines[$0] }
            }
            try await eventually("subscribed") { try listener.standardOutput().contains("\n1\n") }
            let daemon = try home.run()
            try await home.untilStreaming()
            for id in 1...9 { try redis.command("SET", "product:\(id)", "cached") }
            try redis.command("SET", "product:", "of no row")
            func left() throws -> [String] {
                try redis.contents().values.keys.map { String(decoding: $0, as: UTF8.self) }
                    .sorted()
            }
            try database.sql(
                """
                INSERT INTO products VALUES (5, 'e');
                UPDATE products SET name = 'A' WHERE id = 1;
                DELETE FROM products WHERE id = 2;
                UPDATE products SET id = 6 WHERE id = 3;
                """)
            try await eventually("the last message") { try heard().count >= 4 }
            #expect(
                try left() == ["product:", "product:4", "product:5", "product:7", "product:8"]
                    + ["product:9"])
            #expect(try heard().prefix(2) == ["product:1", "product:2"])
            #expect(try Set(heard().dropFirst(2)) == ["product:3", "product:6"])
            // A service puts one back from its database; the next change removes it again.
            try redis.command("SET", "product:1", "A")
            try database.sql("UPDATE products SET name = 'AA' WHERE id = 1")
            try await eventually("removed again") { try redis.get("product:1") == nil }
            try await home.settle(daemon)
            #expect(try heard().count == 5)
            #expect(try left().count == 6)
        }

        // MARK: TRUNCATE

        @Test func truncateRemovesWhatTheTemplateGovernsWhereAskedTo() async throws {
            try database.sql("CREATE TABLE t (id int PRIMARY KEY, v text)")
            let home = try WeirHome(
                database, cache: redis.url(), tables: ["public.t"],
                sinks: [
                    "gone": #""write": "json", "key": "gone:{id}", "truncate": "delete""#,
                    "kept": #""write": "json", "key": "kept:{id}""#,
                ])
            let daemon = try home.run()
            try await home.untilStreaming()
            try database.sql("INSERT INTO t SELECT g, 'x' FROM generate_series(1, 3000) g")
            try await eventually("inserted") { try redis.contents().values.count == 6000 }
            // A service's own key; one Weir wrote, lost, and a service put back under a lease.
            try redis.command("SET", "gone:foreign", "mine")
            try redis.command("SET", "gone:7:mine", "mine")
            #expect(try redis.command("DEL", "gone:7") == .integer(1))
            #expect(try script("lease.lua", "gone:7", "token", "60000") == .integer(1))
            #expect(try script("fill.lua", "gone:7", "token", "0", "put back") == .integer(1))
            #expect(try redis.text("gone:7") == "put back")
            // Put back before Weir ever wrote it.
            #expect(try script("lease.lua", "gone:9999", "other", "60000") == .integer(1))
            #expect(try script("fill.lua", "gone:9999", "other", "0", "early") == .integer(1))

            try database.sql(
                """
                BEGIN;
                INSERT INTO t VALUES (4000, 'before');
                TRUNCATE t;
                INSERT INTO t VALUES (1, 'after');
                COMMIT
                """)
            try await eventually("emptied") {
                try redis.contents().values("gone:").count == 3
            }
            try await home.settle(daemon)
            let found = try redis.contents()
            let gone = found.values("gone:").keys.map { String(decoding: $0, as: UTF8.self) }
            #expect(gone.sorted() == ["gone:1", "gone:7:mine", "gone:foreign"])
            #expect(found.values("kept:").count == 3001)
            #expect(try redis.text("kept:4000")?.contains("before") == true)
            #expect(try redis.text("gone:1") == #"{"id":1,"v":"after"}"#)
            #expect(try redis.text("kept:1") == #"{"id":1,"v":"after"}"#)
        }

        /// Runs a script that services use, on a key and its side key.
        private func script(
            _ name: String, _ key: String, _ arguments: String...
        ) throws -> RedisReply {
            let folder = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
                .appendingPathComponent("../../connectors/redis/scripts")
            let text = try String(
                contentsOf: folder.appendingPathComponent(name), encoding: .utf8)
            let words = ["EVAL", text, "2", key, "{\(key)}:v"] + arguments
            return try redis.command(words.map { Bytes($0.utf8) })
        }

        // MARK: Positions

        @Test func changesThatAMovedPositionLeftOutAreRead() async throws {
            try Catalogue.install(in: database)
            let home = try Catalogue.home(database, redis)
            try home.once()
            try await Catalogue.change(database, times: 200)
            try home.once()
            try Catalogue.expectSame(redis, database)

            try await Catalogue.change(database, times: 200)
            #expect(try Catalogue.difference(redis, database) != nil)
            let move = try home.weir("position", "set", "shop", "now", "--yes")
            #expect(move.code == 0, "\(move.err)")
            try home.once()
            try Catalogue.expectSame(redis, database)
            #expect(try home.figures().count(of: "redis.data_lost") == 0)
            #expect(home.logText().isEmpty, "no daemon wrote there")

            // And with the slot gone, while everything changed.
            try database.dropSlots()
            try database.sql("DELETE FROM products WHERE random() < 0.5")
            try await Catalogue.change(database, times: 200)
            #expect(try home.weir("position", "set", "shop", "now", "--yes").code == 0)
            let daemon = try home.run()
            try await home.untilStreaming()
            try await until("read again") { try Catalogue.difference(redis, database) }
            try await Catalogue.change(database, times: 50)
            try await home.settle(daemon)
            try Catalogue.expectSame(redis, database)
        }
    }
}
