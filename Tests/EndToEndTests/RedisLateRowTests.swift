import Foundation
import Glibc
import Testing
import WeirTesting

extension EndToEnd {
    /// Rows that a change brought without their large values, read from the table when it is
    /// delivered: by then they may look different, or be gone.
    @Suite struct RedisLateRowTests {
        private let database: TestDatabase
        private let redis: RedisServer
        private let home: WeirHome

        private static let products = """
            "tables": ["public.products"], "write": "json", "key": "product:{id}"
            """

        /// Products 1 to 300 with large bodies are cached; no daemon runs.
        init() async throws {
            database = try await TestDatabase.make()
            redis = try await RedisServer.start()
            try database.sql(
                """
                CREATE TABLE products (id int PRIMARY KEY, status text, body jsonb);
                ALTER TABLE products ALTER body SET STORAGE EXTERNAL;
                CREATE TABLE prices (id int PRIMARY KEY, amount int);
                """)
            home = try WeirHome(
                database, cache: redis.url(), tables: ["public.products", "public.prices"],
                sinks: [
                    "products": Self.products,
                    "hashes": #""tables": ["public.products"], "write": "hash", "key": "h:{id}""#,
                ])
            try home.once()
            try database.sql(
                """
                INSERT INTO products SELECT g, 'new', jsonb_build_object('n', g, 'text',
                    (SELECT string_agg(md5(g::text || h), '') FROM generate_series(1, 100) h))
                FROM generate_series(1, 300) g
                """)
            try home.once()
            try expectSame()
        }

        private func expectSame() throws {
            let values = try redis.contents().values("product:")
            let rows = try database.jsonRows("products", key: "'product:' || id")
            #expect(difference(values, rows) == nil)
            let keys = try redis.hashes("h:").keys.map { String(decoding: $0, as: UTF8.self) }
            let ids = try database.sql("SELECT 'h:' || id FROM products").split(separator: "\n")
            #expect(Set(keys) == Set(ids.map(String.init)))
        }

        @Test func hundredsOfThemInOneTransactionWithAnotherTable() async throws {
            try database.sql(
                """
                BEGIN;
                INSERT INTO prices VALUES (1, 1);
                UPDATE products SET status = 'changed';
                COMMIT
                """)
            try home.once()
            try expectSame()
        }

        @Test func hundredsOfThemInterleavedWithAnotherTable() async throws {
            var sql = "BEGIN;\n"
            for id in 1...300 {
                sql += "UPDATE products SET status = 'now \(id)' WHERE id = \(id);\n"
                sql += "INSERT INTO prices VALUES (\(id), \(id));\n"
            }
            try database.sql(sql + "COMMIT")
            try home.once()
            try expectSame()
        }

        @Test func aRowThatMovedTwiceLeavesNoKeyBehind() async throws {
            try database.sql("UPDATE products SET id = id + 1000 WHERE id <= 10")
            try database.sql("UPDATE products SET id = id + 1000 WHERE id > 1000")
            try home.once()
            try expectSame()
        }

        @Test func aRowThatMovedAndWasDeletedLeavesNoKeyBehind() async throws {
            try database.sql("UPDATE products SET id = id + 1000 WHERE id <= 10")
            try database.sql("DELETE FROM products WHERE id > 1000")
            try home.once()
            try expectSame()
        }

        @Test func aRowWhoseTypeChangedMeanwhileIsStillRead() async throws {
            try database.sql("UPDATE products SET status = 'changed' WHERE id <= 10")
            try database.sql("ALTER TABLE products ADD COLUMN more text DEFAULT 'more'")
            try database.sql("UPDATE products SET status = 'again'")
            try home.once()
            try expectSame()
        }
    }
}
