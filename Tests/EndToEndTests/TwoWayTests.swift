import Foundation
import Testing
import WeirTesting

extension EndToEnd {
    /// Two databases that copy the same table to each other.
    @Suite struct TwoWayTests {
        private static let table =
            "CREATE TABLE items (id int PRIMARY KEY, v text, big text); "
            + "ALTER TABLE items ALTER big SET STORAGE EXTERNAL"

        private static func way(
            _ from: String, _ to: String, source: String = "", sink: String = ""
        ) -> String {
            """
            {
              "source": { "connection": "\(from)", "tables": ["public.items"]\(source) },
              "sinks": { "copy": { "connection": "\(to)", "write": "table"\(sink) } }
            }
            """
        }

        private static func configuration(
            _ a: TestDatabase, _ b: TestDatabase, forth: String, back: String
        ) -> String {
            """
            {
              "connections": {
                "a": { "type": "postgres", "url": "\(a.url)" },
                "b": { "type": "postgres", "url": "\(b.url)" }
              },
              "pipelines": { "forth": \(forth), "back": \(back) }
            }
            """
        }

        /// How many changes each pipeline delivered, "forth" first.
        private static func delivered(_ home: WeirHome) throws -> [Int] {
            let status = try home.status()
            return ["forth", "back"].map { status.pipeline($0)?.sinks.first?.delivered ?? -1 }
        }

        @Test(arguments: [PostgresVersion.debian15, .wheel18])
        func twoDatabasesConvergeWithoutAnEcho(version: PostgresVersion) async throws {
            let a = TestDatabase(
                server: try await PostgresServer.start(version: version), name: "postgres")
            let b = TestDatabase(
                server: try await PostgresServer.start(version: version), name: "postgres")
            for database in [a, b] { try database.sql(Self.table) }
            let home = try WeirHome { _ in
                Self.configuration(
                    a, b,
                    forth: Self.way(
                        "a", "b", source: #", "origin": ["weir_back"]"#,
                        sink: #", "origin": "weir_forth""#),
                    back: Self.way(
                        "b", "a", source: #", "origin": ["weir_forth"]"#,
                        sink: #", "origin": "weir_back""#))
            }
            #expect(try home.weir("validate").err == "")
            let daemon = try home.run()
            try await home.untilStreaming()

            // Each side writes rows of its own, in small and large transactions, again and again.
            for round in 1...10 {
                for (database, first) in [(a, 1), (b, 1001)] {
                    try database.sql(
                        """
                        INSERT INTO items SELECT n, 'new', repeat('x', 3000)
                            FROM generate_series(\(first), \(first + 99)) n
                            ON CONFLICT (id) DO UPDATE SET v = 'round \(round)';
                        UPDATE items SET v = 'one \(round)' WHERE id = \(first);
                        DELETE FROM items WHERE id = \(first + round);
                        """)
                }
            }
            // Rows of the other side are written too, once they have come.
            try await eventually("both are there") {
                try [a, b].allSatisfy { try $0.sql("SELECT v FROM items WHERE id = 1") == "one 10" }
                    && [a, b].allSatisfy {
                        try $0.sql("SELECT v FROM items WHERE id = 1001") == "one 10"
                    }
            }
            try b.sql("UPDATE items SET v = 'from b' WHERE id = 1")
            try a.sql("UPDATE items SET v = 'from a', id = 5000 WHERE id = 1001")
            try await eventually("both are the same") {
                try a.digest("items") == b.digest("items")
                    && a.sql("SELECT v FROM items WHERE id = 1") == "from b"
                    && b.sql("SELECT v FROM items WHERE id = 5000") == "from a"
            }

            // An update per look: none of them is undone by an echo of an earlier one.
            let before = try Self.delivered(home)
            for number in 1...20 {
                try a.sql("UPDATE items SET v = 'n\(number)' WHERE id = 50")
                try await eventually("it comes") {
                    try b.sql("SELECT v FROM items WHERE id = 50") == "n\(number)"
                }
                #expect(try a.sql("SELECT v FROM items WHERE id = 50") == "n\(number)")
            }
            // What comes the other way lies behind whatever might have been sent back.
            try b.sql("UPDATE items SET v = 'last' WHERE id = 51")
            try await eventually("it comes") {
                try a.sql("SELECT v FROM items WHERE id = 51") == "last"
            }
            try await eventually("each was delivered once") {
                try Self.delivered(home) == [before[0] + 20, before[1] + 1]
            }
            #expect(try a.digest("items") == b.digest("items"))
            daemon.signal(SIGTERM)
            #expect(try await daemon.wait() == .exited(0))
        }

        @Test func aPairThatWouldEchoIsNotStarted() async throws {
            let a = try await TestDatabase.make()
            let b = try await TestDatabase.make()
            for database in [a, b] { try database.sql(Self.table) }
            let home = try WeirHome { _ in
                Self.configuration(
                    a, b, forth: Self.way("a", "b", source: #", "origin": "none""#),
                    back: Self.way("b", "a", source: #", "origin": "none""#))
            }
            let answer = try home.weir("validate")
            #expect(answer.code == 78 && answer.err.contains("config.loop"), "\(answer.err)")
            #expect(answer.err.contains("an endless echo"))
        }

        /// A server that was made as a physical copy of the source has the same system identifier.
        @Test func aPhysicalCopyOfTheSourceIsATarget() async throws {
            let source = try await TestDatabase.alone()
            try source.sql(Self.table + "; INSERT INTO items VALUES (1, 'before')")
            let clone = TestDatabase(server: try await source.server.clone(), name: source.name)
            #expect(
                try source.sql("SELECT system_identifier FROM pg_control_system()")
                    == clone.sql("SELECT system_identifier FROM pg_control_system()"))
            let copy = try await PostgresCopy.make(["items"], source: source, target: clone)
            try copy.home.once()
            try copy.deliver("INSERT INTO items VALUES (2, 'after'); UPDATE items SET v = v || '!'")
            try copy.expectEqual("items")
            // The stream goes on over a restart of either server, which then began at another time.
            try await source.server.restart()
            try copy.deliver("INSERT INTO items VALUES (3, 'restarted')")
            try await clone.server.restart()
            try copy.deliver("INSERT INTO items VALUES (4, 'restarted too')")
            try copy.expectEqual("items")
        }

        /// By another name than the configuration's, so that only the server can tell.
        @Test func theSourceItselfIsNoTarget() async throws {
            let source = try await TestDatabase.alone()
            try source.sql(Self.table)
            let proxy = try TCPProxy(to: source.server.port)
            let home = try WeirHome { _ in
                """
                {
                  "connections": {
                    "db": { "type": "postgres", "url": "\(source.url)" },
                    "copy": {
                      "type": "postgres",
                      "url": "postgres://postgres@127.0.0.1:\(proxy.port)/\(source.name)"
                    }
                  },
                  "pipelines": { "shop": \(Self.way("db", "copy")) }
                }
                """
            }
            let daemon = try home.run()
            // Found at the start, without a change.
            let problem = try await home.untilProblem("postgres.target_unfit")
            #expect(problem.message.contains("the very table it follows"))
            daemon.signal(SIGTERM)
            #expect(try await daemon.wait() == .exited(0))
        }
    }
}
