import Testing
import WeirCore
import WeirTesting

extension PostgresSourceTests {
    /// The memory of a huge row goes with the connection it came by.
    @Suite struct RenewalTests {
        @Test func aHugeRowIsFollowedByANewConnection() async throws {
            let database = try await TestDatabase(
                """
                CREATE TABLE t (id int PRIMARY KEY, v text);
                ALTER TABLE t ALTER v SET STORAGE EXTERNAL
                """)
            let source = try await SourceHarness.open(database, tables: ["t"])
            try database.run("INSERT INTO t VALUES (1, 'small')")
            #expect(try await source.drain().compactMap { $0.after?["id"] } == [1])
            try await source.acknowledge()
            let first = try database.slot("active_pid")
            try database.run(
                """
                BEGIN; INSERT INTO t VALUES (2, repeat('x', 33 << 20)); INSERT INTO t VALUES (3, '');
                COMMIT; INSERT INTO t VALUES (4, 'behind')
                """)
            #expect(try await source.drain().compactMap { $0.after?["id"] } == [2, 3, 4])
            try await eventually("there is another connection") {
                _ = try await source.read()
                return try database.slot("active_pid") != first
            }
            let second = try database.slot("active_pid")
            try database.run("UPDATE t SET v = 'on' WHERE id = 1")
            #expect(try await source.drain().compactMap { $0.after?["id"] } == [1])
            try await source.acknowledge()
            _ = try await source.read()
            #expect(try database.slot("active_pid") == second, "small rows need none")
        }
    }
}
