import Testing
import WeirCore
import WeirPostgresSource
import WeirTesting

extension PostgresSourceTests {
    /// Messages, our own markers among them, and where transactions come from.
    @Suite struct Messages {
        @Test(
            "CORRECTNESS 16: messages come inside transactions and outside, each with its place",
            arguments: PostgresVersion.allCases)
        func messages(version: PostgresVersion) async throws {
            let database = try await TestDatabase(
                "CREATE TABLE t (id int PRIMARY KEY)", version: version)
            let source = try await SourceHarness.open(database, tables: ["t"])
            let first = try #require(source.stored)
            try database.run(
                #"""
                SELECT pg_logical_emit_message(false, 'out', 'one');
                BEGIN; INSERT INTO t VALUES (1); SELECT pg_logical_emit_message(true, 'in', 'é"');
                    SELECT pg_logical_emit_message(false, 'early', ''); INSERT INTO t VALUES (2);
                COMMIT;
                BEGIN; SELECT pg_logical_emit_message(true, 'in', 'never');
                    SELECT pg_logical_emit_message(false, 'out', 'rolled back'); ROLLBACK;
                SELECT pg_logical_emit_message(true, 'bytes', '\x00ff'::bytea);
                """#)
            let lines = try await source.drain()
            // One outside is sent at once, before the transaction it was written in commits.
            #expect(
                lines.map { $0.content ?? $0.after?["id"] } == [
                    "one", "", 1, "é\"", 2, "rolled back", #"\x00ff"#,
                ])
            #expect(
                lines.map(\.transactional) == [false, false, nil, true, nil, false, true])
            #expect(lines.map { $0.ts == .null } == [true, true, false, false, false, true, false])
            #expect(lines.last?.binary == ["content"])
            #expect(lines.compactMap { $0.pos?["seq"] } == [0, 0, 0, 1, 2, 0, 0])
            let ids = lines.compactMap { $0.id?.string }
            #expect(ids == ids.sorted())
            #expect(Set(ids).count == lines.count)
            // The same once more, and from the middle.
            try await source.open(atStored: first)
            #expect(try await source.drain() == lines)
            #expect(source.batch.resume != nil)
        }

        @Test("CORRECTNESS 16: our own markers are hidden, but count")
        func markers() async throws {
            let database = try await TestDatabase("CREATE TABLE t (id int PRIMARY KEY)")
            let source = try await SourceHarness.open(database, tables: ["t"])
            try database.run(
                """
                BEGIN; INSERT INTO t VALUES (1); SELECT pg_logical_emit_message(true, 'weir', '');
                INSERT INTO t VALUES (2); COMMIT;
                SELECT pg_logical_emit_message(false, 'weir', 'outside');
                SELECT pg_logical_emit_message(true, 'weird', 'of somebody else')
                """)
            let lines = try await source.drain()
            #expect(lines.map(\.op) == ["insert", "insert", "message"])
            #expect(lines.compactMap { $0.pos?["seq"] } == [0, 2, 0])
        }

        @Test(
            "CORRECTNESS 22: with origin none what replication wrote is left out, by every version",
            arguments: PostgresVersion.allCases)
        func origins(version: PostgresVersion) async throws {
            let database = try await TestDatabase(
                "CREATE TABLE t (id int PRIMARY KEY)", version: version)
            let none = try await SourceHarness.open(
                database, tables: ["t"], config: ["origin": .string("none")])
            let any = try SourceHarness(
                database, tables: ["t"], config: ["slot": .string("\(database.slot)_any")])
            try await any.open()
            try database.run(
                """
                SELECT pg_replication_origin_create('o_\(database.name)');
                INSERT INTO t VALUES (1);
                SELECT pg_replication_origin_session_setup('o_\(database.name)');
                BEGIN; INSERT INTO t VALUES (2); INSERT INTO t VALUES (3); COMMIT;
                SELECT pg_replication_origin_session_reset();
                INSERT INTO t VALUES (4); TRUNCATE t;
                SELECT pg_replication_origin_drop('o_\(database.name)');
                """)
            let all = try await any.drain()
            #expect(all.compactMap { $0.after?["id"] } == [1, 2, 3, 4])
            let local = try await none.drain()
            #expect(local.compactMap { $0.after?["id"] } == [1, 4])
            #expect(local.map(\.op) == ["insert", "insert", "truncate"])
            // What was left out is behind us all the same.
            #expect(Set(local.map(\.text)).isSubset(of: all.map(\.text)))
            try await none.acknowledge()
            try await none.open()
            #expect(try await none.drain().isEmpty)
        }

        @Test(
            "CORRECTNESS 22: what was written under an origin of the list is left out, the rest read",
            arguments: PostgresVersion.allCases)
        func namedOrigins(version: PostgresVersion) async throws {
            let database = try await TestDatabase(
                "CREATE TABLE t (id int PRIMARY KEY)", version: version)
            let (ours, theirs) = ("ours_\(database.name)", "theirs_\(database.name)")
            let source = try await SourceHarness.open(
                database, tables: ["t"],
                config: ["origin": .list([.string("absent"), .string(ours)])])
            try database.run(
                """
                SELECT pg_replication_origin_create('\(ours)'),
                    pg_replication_origin_create('\(theirs)');
                INSERT INTO t VALUES (1);
                SELECT pg_replication_origin_session_setup('\(ours)');
                BEGIN; INSERT INTO t VALUES (2); SAVEPOINT s; INSERT INTO t VALUES (3); COMMIT;
                UPDATE t SET id = 20 WHERE id = 2; DELETE FROM t WHERE id = 3;
                SELECT pg_logical_emit_message(true, 'app', 'left out');
                SELECT pg_replication_origin_session_reset();
                SELECT pg_replication_origin_session_setup('\(theirs)');
                INSERT INTO t VALUES (4); UPDATE t SET id = 40 WHERE id = 4;
                SELECT pg_replication_origin_session_reset();
                INSERT INTO t VALUES (5);
                SELECT pg_replication_origin_session_setup('\(ours)'); TRUNCATE t;
                SELECT pg_replication_origin_session_reset();
                """)
            defer {
                _ = try? database.run(
                    "SELECT pg_replication_origin_drop('\(ours)'), "
                        + "pg_replication_origin_drop('\(theirs)')")
            }
            let lines = try await source.drain()
            #expect(lines.map(\.op) == ["insert", "insert", "update", "insert"])
            #expect(lines.compactMap { $0.after?["id"] } == [1, 4, 40, 5])
            // What was left out is behind us all the same.
            try await source.acknowledge()
            try await source.open()
            #expect(try await source.drain().isEmpty)
        }

        @Test("a name that no origin has is reported until there is one")
        func unknownOrigin() async throws {
            let database = try await TestDatabase("CREATE TABLE t (id int PRIMARY KEY)")
            let name = "late_\(database.name)"
            let source = try await SourceHarness.open(
                database, tables: ["t"], config: ["origin": .list([.string(name)])])
            func findings() async throws -> [String] {
                _ = try await source.mark()
                return source.reports.findings.map { "\($0.code) \($0.subject)" }
            }
            #expect(try await findings().isEmpty, "the other side has had no time to make it")
            try await eventually("it is reported", poll: .milliseconds(200)) {
                try await findings() == ["postgres.origin_unknown \(name)"]
            }
            try database.run("SELECT pg_replication_origin_create('\(name)')")
            #expect(try await findings().isEmpty)
            try database.run("SELECT pg_replication_origin_drop('\(name)')")
        }
    }
}
