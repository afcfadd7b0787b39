import Testing
import WeirCore
import WeirTesting

extension PostgresSourceTests {
    /// What a statement becomes.
    @Suite struct Rows {
        @Test("CORRECTNESS 27: an old row comes as key, whole or not at all")
        func oldRows() async throws {
            let database = try await TestDatabase(
                """
                CREATE TABLE t (id int PRIMARY KEY, v text);
                CREATE TABLE f (id int PRIMARY KEY, v text);
                ALTER TABLE f REPLICA IDENTITY FULL
                """)
            let source = try await SourceHarness.open(database, tables: ["t", "f"])
            for table in ["t", "f"] {
                try database.run(
                    """
                    INSERT INTO \(table) VALUES (1, 'a'); UPDATE \(table) SET v = NULL;
                    UPDATE \(table) SET v = v; DELETE FROM \(table)
                    """)
            }
            let lines = try await source.drain()
            let ops: [JSON?] = ["insert", "update", "update", "delete"]
            #expect(lines.map(\.op) == ops + ops)
            #expect(lines.allSatisfy { $0.key == ["id": 1] && $0.old_key == nil })
            #expect(lines.prefix(3).map(\.before) == [nil, nil, nil])
            #expect(lines[1].after == ["id": 1, "v": nil])
            // Of a deleted row only the key was said: the rest is absent, not null.
            #expect(lines[3].before == ["id": 1])
            #expect(lines[5].before == ["id": 1, "v": "a"])
            #expect(lines[5].changed == ["v"])
            #expect(lines[6].before == ["id": 1, "v": nil])
            #expect(lines[6].changed == [])
            #expect(lines[7].before == ["id": 1, "v": nil])
            #expect(lines[3].after == nil && lines[7].after == nil)
        }

        @Test("CORRECTNESS 28: a changed key is one update with both keys")
        func changedKey() async throws {
            let database = try await TestDatabase(
                """
                CREATE TABLE t (a int, b text, v int, PRIMARY KEY (b, a));
                CREATE TABLE f (LIKE t INCLUDING ALL); ALTER TABLE f REPLICA IDENTITY FULL
                """)
            let source = try await SourceHarness.open(database, tables: ["t", "f"])
            for table in ["t", "f"] {
                try database.run(
                    """
                    INSERT INTO \(table) VALUES (1, 'x', 0); UPDATE \(table) SET a = 2;
                    UPDATE \(table) SET v = 1; UPDATE \(table) SET a = 3, b = '', v = 2
                    """)
            }
            let lines = try await source.drain()
            #expect(lines.count == 8)
            for lines in [lines.prefix(4), lines.suffix(4)].map(Array.init) {
                #expect(lines.map(\.op) == ["insert", "update", "update", "update"])
                #expect(lines[1].key == ["b": "x", "a": 2])
                #expect(lines[1].old_key == ["b": "x", "a": 1])
                #expect(lines[2].old_key == nil)
                #expect(lines[3].key == ["b": "", "a": 3])
                #expect(lines[3].old_key == ["b": "x", "a": 2])
                #expect(lines[3].after == ["a": 3, "b": "", "v": 2])
            }
            #expect(lines[1].before == nil)
            #expect(lines[5].before == ["a": 1, "b": "x", "v": 0])
        }

        @Test(
            "CORRECTNESS 29: an unchanged TOAST value is the old row's or named, never null"
        )
        func unchangedToast() async throws {
            let database = try await TestDatabase(
                """
                CREATE TABLE t (id int PRIMARY KEY, big text, v int);
                CREATE TABLE f (id int PRIMARY KEY, big text, v int);
                CREATE TABLE k (big text PRIMARY KEY, v int);
                ALTER TABLE f REPLICA IDENTITY FULL;
                ALTER TABLE t ALTER big SET STORAGE EXTERNAL;
                ALTER TABLE f ALTER big SET STORAGE EXTERNAL;
                ALTER TABLE k ALTER big SET STORAGE EXTERNAL
                """)
            let source = try await SourceHarness.open(database, tables: ["t", "f", "k"])
            let big = JSON.string(String(repeating: "x", count: 2500))
            let other = JSON.string(String(repeating: "y", count: 2500))
            try database.run(
                """
                INSERT INTO t VALUES (1, repeat('x', 2500), 0);
                UPDATE t SET v = 1; UPDATE t SET id = 2; UPDATE t SET big = repeat('y', 2500);
                INSERT INTO f VALUES (1, repeat('x', 2500), 0); UPDATE f SET v = 1;
                INSERT INTO k VALUES (repeat('x', 2500), 0); UPDATE k SET v = 1;
                UPDATE k SET big = repeat('y', 2500); DELETE FROM k
                """)
            let lines = try await source.drain()
            try #require(lines.count == 10)
            #expect(lines[1].after == ["id": 1, "v": 1])
            #expect(lines[1].unchanged == ["big"])
            #expect(lines[2].after == ["id": 2, "v": 1])
            #expect(lines[2].old_key == ["id": 1])
            #expect(lines[2].unchanged == ["big"])
            #expect(lines[3].after == ["id": 2, "big": other, "v": 1])
            #expect(lines[3].unchanged == nil)
            // A whole old row has it.
            #expect(lines[5].after == ["id": 1, "big": big, "v": 1])
            #expect(lines[5].before == ["id": 1, "big": big, "v": 0])
            #expect(lines[5].changed == ["v"])
            #expect(lines[5].unchanged == nil)
            // So has an old key.
            #expect(lines[7].after == ["big": big, "v": 1])
            #expect(lines[7].key == ["big": big])
            #expect(lines[7].old_key == nil)
            #expect(lines[7].unchanged == nil)
            #expect(lines[8].key == ["big": other])
            #expect(lines[8].old_key == ["big": big])
            #expect(lines[9].key == ["big": other])
        }

        @Test(
            "CORRECTNESS 30: dropped and generated columns are not part of a row",
            arguments: PostgresVersion.allCases)
        func droppedAndGeneratedColumns(version: PostgresVersion) async throws {
            let database = try await TestDatabase(
                """
                CREATE TABLE t (gone int, id int PRIMARY KEY, also int, a int,
                    g int GENERATED ALWAYS AS (a * 2) STORED);
                ALTER TABLE t DROP COLUMN gone; ALTER TABLE t DROP COLUMN also;
                ALTER TABLE t REPLICA IDENTITY FULL
                """, version: version)
            let source = try SourceHarness(database, tables: ["t"])
            var before: [JSON?] = [nil, ["id": 1, "a": 2], ["id": 1, "a": 3]]
            if version == .wheel18 {
                // It refuses to publish such an identity: the application's UPDATE would fail.
                let error = try await #require(throws: WeirError.self) { try await source.open() }
                #expect(error.code.name == "postgres.no_replica_identity")
                let cure = #"ALTER TABLE "public"."t" REPLICA IDENTITY DEFAULT;"#
                #expect(error.hint?.contains(cure) == true)
                try database.run(cure)
                before = [nil, nil, ["id": 1]]
            }
            try await source.open()
            try database.run("INSERT INTO t VALUES (1, 2); UPDATE t SET a = 3; DELETE FROM t")
            let lines = try await source.drain()
            #expect(lines.map(\.after) == [["id": 1, "a": 2], ["id": 1, "a": 3], nil])
            #expect(lines.map(\.before) == before)
            #expect(lines.allSatisfy { $0.key == ["id": 1] })
        }

        @Test("CORRECTNESS 30: what a partition's identity leaves out of an old row is not null")
        func partitionIdentity() async throws {
            let database = try await TestDatabase(
                """
                CREATE TABLE root (id int PRIMARY KEY, v int) PARTITION BY RANGE (id);
                ALTER TABLE root REPLICA IDENTITY FULL;
                CREATE TABLE leaf PARTITION OF root FOR VALUES FROM (0) TO (9)
                """)
            let source = try await SourceHarness.open(database, tables: ["root"])
            #expect(source.findings == ["postgres.partition_identity"])
            let cure = #"ALTER TABLE "public"."leaf" REPLICA IDENTITY FULL;"#
            #expect(source.reports.findings.first?.hint == cure)
            let work = "INSERT INTO root VALUES (1, 2); UPDATE root SET id = 2; DELETE FROM root"
            try database.run(work)
            var lines = try await source.drain()
            #expect(lines.map(\.before) == [nil, nil, ["id": 2]])
            #expect(lines.map(\.old_key) == [nil, ["id": 1], nil])
            try database.run(cure)
            try await source.open()
            #expect(source.findings.isEmpty)
            try database.run(work)
            lines = try await source.drain()
            #expect(lines.map(\.before) == [nil, ["id": 1, "v": 2], ["id": 2, "v": 2]])
        }

        @Test("CORRECTNESS 31: one TRUNCATE is one event for each table, with its options")
        func truncate() async throws {
            let database = try await TestDatabase(
                """
                CREATE TABLE a (id serial PRIMARY KEY); CREATE TABLE b (id int PRIMARY KEY);
                CREATE TABLE c (id int PRIMARY KEY REFERENCES b);
                CREATE TABLE left_out (id int PRIMARY KEY)
                """)
            let source = try await SourceHarness.open(database, tables: ["a", "b", "c"])
            try database.run(
                """
                BEGIN; INSERT INTO a DEFAULT VALUES; TRUNCATE a, left_out;
                INSERT INTO b VALUES (1); COMMIT;
                TRUNCATE a RESTART IDENTITY; TRUNCATE b CASCADE;
                TRUNCATE a, b, c RESTART IDENTITY CASCADE;
                """)
            let lines = try await source.drain()
            #expect(
                lines.map { "\($0.op?.string ?? "") \($0.table)" } == [
                    "insert public.a", "truncate public.a", "insert public.b", "truncate public.a",
                    "truncate public.b", "truncate public.c", "truncate public.a",
                    "truncate public.b", "truncate public.c",
                ])
            #expect(lines.compactMap { $0.pos?["seq"] } == [0, 1, 2, 0, 0, 1, 0, 1, 2])
            let restarting: [JSON?] = [nil, nil, nil, true, nil, nil, true, true, true]
            #expect(lines.map(\.restart_identity) == restarting)
            #expect(lines.map(\.cascade) == [nil, nil, nil, nil, true, true, true, true, true])
            #expect(Set(lines.compactMap { $0.id?.string }).count == lines.count)
            #expect(lines.allSatisfy { $0.op != "truncate" || $0.key == nil && $0.after == nil })
        }

        @Test("CORRECTNESS 35: however rows are written, each is one event with an id of its own")
        func everyWayOfWriting() async throws {
            let database = try await TestDatabase("CREATE TABLE t (id int PRIMARY KEY, v text)")
            let source = try await SourceHarness.open(database, tables: ["t"])
            try database.run(
                """
                INSERT INTO t VALUES (1, 'a'), (2, 'b');
                INSERT INTO t VALUES (2, 'x'), (3, 'c') ON CONFLICT DO NOTHING;
                INSERT INTO t VALUES (3, 'z'), (4, 'd')
                    ON CONFLICT (id) DO UPDATE SET v = excluded.v;
                BEGIN; INSERT INTO t VALUES (98, 'no'); ROLLBACK;
                BEGIN; SAVEPOINT s; INSERT INTO t VALUES (99, 'no'); ROLLBACK TO s;
                    INSERT INTO t VALUES (5, 'e'); COMMIT;
                WITH moved AS (DELETE FROM t WHERE id = 1 RETURNING v)
                    INSERT INTO t SELECT 6, v FROM moved;
                COPY t FROM PROGRAM 'seq -f %g,copied 1000 2999' (FORMAT csv);
                """)
            let lines = try await source.drain()
            let first = lines.prefix(8).map { line in
                let (op, id) = (line.op?.string ?? "", line.key?["id"]?.number ?? 0)
                return "\(op) \(id) \(line.after?["v"]?.string ?? "")"
            }
            #expect(
                first == [
                    "insert 1 a", "insert 2 b", "insert 3 c", "update 3 z", "insert 4 d",
                    "insert 5 e", "delete 1 ", "insert 6 a",
                ])
            let copied = lines.dropFirst(8)
            #expect(copied.compactMap { $0.after?["id"]?.number } == Array(1000...2999))
            #expect(copied.compactMap { $0.pos?["seq"]?.number } == Array(0..<2000))
            // The place of a change in the log is no identity.
            #expect(Set(copied.compactMap { $0.pos?["lsn"]?.string }).count < 2000)
            #expect(Set(lines.compactMap { $0.id?.string }).count == lines.count)
        }

        @Test("CORRECTNESS 35: a column added with a default gives no events and is in later ones")
        func fastDefault() async throws {
            let database = try await TestDatabase(
                "CREATE TABLE t (id int PRIMARY KEY, v int); INSERT INTO t VALUES (1, 0), (2, 0)")
            let source = try await SourceHarness.open(database, tables: ["t"])
            try database.run(
                """
                ALTER TABLE t ADD COLUMN d text DEFAULT 'old'; UPDATE t SET v = 1 WHERE id = 1;
                ALTER TABLE t ALTER d SET DEFAULT 'new'; UPDATE t SET v = 2 WHERE id = 2;
                INSERT INTO t VALUES (3, 3)
                """)
            let lines = try await source.drain()
            #expect(
                lines.map(\.after) == [
                    ["id": 1, "v": 1, "d": "old"], ["id": 2, "v": 2, "d": "old"],
                    ["id": 3, "v": 3, "d": "new"],
                ])
        }

        @Test func tableOfAsManyColumnsAsThereMayBe() async throws {
            let columns = (1...1599).map { "c\($0) int2 DEFAULT \($0)" }.joined(separator: ", ")
            let database = try await TestDatabase("CREATE TABLE t (id int PRIMARY KEY, \(columns))")
            let source = try await SourceHarness.open(database, tables: ["t"])
            try database.run("INSERT INTO t (id) VALUES (1); UPDATE t SET c1599 = NULL")
            let lines = try await source.drain()
            #expect(lines.count == 2)
            #expect(lines.first?.after?["c1599"] == 1599)
            #expect(lines.last?.after?["c1598"] == 1598)
            #expect(lines.last?.after?["c1599"] == .null)
        }

        @Test func valueOfFiftyMegabytes() async throws {
            let database = try await TestDatabase("CREATE TABLE t (id int PRIMARY KEY, v text)")
            let source = try await SourceHarness.open(database, tables: ["t"])
            try database.run(
                """
                BEGIN; INSERT INTO t VALUES (1, 'a');
                INSERT INTO t VALUES (2, repeat('x', 50000000));
                INSERT INTO t VALUES (3, 'b'); COMMIT
                """)
            var lengths: [Int] = []
            try await eventually("all three are read") {
                let batch = try await source.readBatch()
                lengths += batch.events.map {
                    Int(batch.values[Int($0.after.start) + 1].bytes.count)
                }
                return lengths.count == 3
            }
            #expect(lengths == [1, 50_000_000, 1])
        }
    }
}
