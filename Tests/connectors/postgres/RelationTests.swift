import Testing
import WeirCore
import WeirPostgresSource
import WeirTesting

extension PostgresSourceTests {
    /// What is known of a table while its changes are decoded.
    @Suite struct Relations {
        @Test("CORRECTNESS 23: a description that says nothing new keeps the schema's version")
        func repeatedDescriptions() async throws {
            let database = try await TestDatabase("CREATE TABLE t (id int PRIMARY KEY, v text)")
            let source = try await SourceHarness.open(database, tables: ["t"])
            var hashes: Set<String> = []
            func version(after sql: String) async throws -> UInt32 {
                try database.run("\(sql); INSERT INTO t SELECT coalesce(max(id), 0) + 1 FROM t")
                let lines = try await source.read(until: "a row") { $1.count == 1 }
                hashes.insert(lines.first?.schema?.string ?? "")
                return try #require(source.batch.tables.first).version
            }
            let first = try await version(after: "SELECT")
            // Each makes the server describe the table again.
            #expect(try await version(after: "ANALYZE t") == first)
            #expect(try await version(after: "CREATE INDEX ON t (v)") == first)
            #expect(try await version(after: "ALTER TABLE t SET (fillfactor = 50)") == first)
            #expect(hashes.count == 1)
            let second = try await version(after: "ALTER TABLE t ADD COLUMN w int")
            #expect(second > first)
            #expect(hashes.count == 2)
            // A new connection starts anew and never gives out a version twice.
            try await source.open()
            #expect(try await version(after: "SELECT") > second)
            #expect(hashes.count == 2)
        }

        @Test(
            "CORRECTNESS 24: the key is the primary key where every row image has it",
            arguments: [
                ("id int PRIMARY KEY, v int", "DEFAULT", #"{"id":1}"#),
                ("id int PRIMARY KEY, v int", "FULL", #"{"id":1}"#),
                ("id int, v int", "FULL", #"{"id":1,"v":2}"#),
                ("id int PRIMARY KEY, v int NOT NULL UNIQUE", "USING INDEX t_v_key", #"{"v":2}"#),
                ("id int, v int, x int, PRIMARY KEY (v, id)", "DEFAULT", #"{"v":2,"id":1}"#),
                ("id int, v int, PRIMARY KEY (v) INCLUDE (id)", "DEFAULT", #"{"v":2}"#),
                ("id int PRIMARY KEY, v int", "NOTHING", #"{"id":1}"#),
                ("id int, v int", "DEFAULT", nil),
            ])
        func keys(columns: String, identity: String, key: String?) async throws {
            let database = try await TestDatabase(
                """
                CREATE TABLE t (\(columns)); ALTER TABLE t REPLICA IDENTITY \(identity);
                CREATE PUBLICATION inserts FOR TABLE t WITH (publish = 'insert')
                """)
            let source = try await SourceHarness.open(
                database, tables: ["t"], config: ["publication": .string("inserts")])
            try database.run("INSERT INTO t VALUES (1, 2)")
            let line = try #require(try await source.drain().first)
            if let key {
                // As text: the order is that of the primary key.
                #expect(line.text.contains("\"key\":\(key),"))
            } else {
                #expect(line.key == nil)
            }
        }

        @Test(
            "CORRECTNESS 25: types Weir has no rule for arrive as text, marked with their names",
            arguments: PostgresVersion.allCases)
        func foreignTypes(version: PostgresVersion) async throws {
            let database = try await TestDatabase(
                """
                CREATE SCHEMA app; CREATE TYPE app.mood AS ENUM ('sad', 'so "so"');
                CREATE DOMAIN app.email AS text CHECK (VALUE LIKE '%@%');
                CREATE TYPE app.pair AS (a int, b text); CREATE TYPE "Odd.Type" AS ENUM ('x');
                CREATE TYPE app.floats AS RANGE (subtype = float8);
                CREATE TYPE app.blob; CREATE FUNCTION app.blob_in(cstring) RETURNS app.blob
                    LANGUAGE internal IMMUTABLE STRICT AS 'textin';
                CREATE FUNCTION app.blob_out(app.blob) RETURNS cstring
                    LANGUAGE internal IMMUTABLE STRICT AS 'textout';
                CREATE TYPE app.blob (INPUT = app.blob_in, OUTPUT = app.blob_out);
                CREATE TABLE t (id int PRIMARY KEY, e app.mood, d app.email, c app.pair,
                    r app.floats, x app.blob, q "Odd.Type", es app.mood[], n app.mood);
                """, version: version)
            let source = try await SourceHarness.open(database, tables: ["t"])
            try database.run(
                """
                INSERT INTO t VALUES (1, 'so "so"', 'a@b', '(1,"x y")', '[1,2.5)', 'blob', 'x',
                    '{sad,"so \\"so\\""}')
                """)
            let line = try #require(try await source.drain().first)
            #expect(
                line.after == [
                    "id": 1, "e": "so \"so\"", "d": "a@b", "c": "(1,\"x y\")",
                    "r": "[1,2.5)", "x": "blob", "q": "x", "es": "{sad,\"so \\\"so\\\"\"}",
                    "n": nil,
                ])
            // Of a domain the server tells the type below it.
            #expect(
                line.types == [
                    "e": "app.mood", "d": "pg_catalog.text", "c": "app.pair", "r": "app.floats",
                    "x": "app.blob", "q": "public.Odd.Type", "es": "app._mood", "n": "app.mood",
                ])
        }

        @Test("CORRECTNESS 23: every row is decoded with the columns of its time")
        func alteredTables() async throws {
            let database = try await TestDatabase(
                "CREATE TABLE t (id int PRIMARY KEY, v text, w int)")
            let source = try await SourceHarness.open(database, tables: ["t"])
            let changes = """
                INSERT INTO t VALUES (1, 'a', 1);
                ALTER TABLE t ADD COLUMN x int DEFAULT 7; INSERT INTO t VALUES (2, 'b', 2);
                ALTER TABLE t RENAME COLUMN v TO "V"; INSERT INTO t VALUES (3, 'c', 3);
                ALTER TABLE t DROP COLUMN w; INSERT INTO t VALUES (4, 'd');
                ALTER TABLE t ALTER x TYPE text USING x || '!';
                UPDATE t SET x = x || '?' WHERE id = 1;
                ALTER TABLE t DROP CONSTRAINT t_pkey; ALTER TABLE t ADD PRIMARY KEY ("V");
                DELETE FROM t WHERE id = 3;
                """
            let back = """
                TRUNCATE t; ALTER TABLE t DROP CONSTRAINT t_pkey; ALTER TABLE t DROP COLUMN x;
                ALTER TABLE t RENAME COLUMN "V" TO v; ALTER TABLE t ADD COLUMN w int;
                ALTER TABLE t ADD PRIMARY KEY (id);
                """
            let expected: [JSON?] = [
                ["id": 1, "v": "a", "w": 1], ["id": 2, "v": "b", "w": 2, "x": 7],
                ["id": 3, "V": "c", "w": 3, "x": 7], ["id": 4, "V": "d", "x": 7],
                ["id": 1, "V": "a", "x": "7!?"], nil,
            ]
            // Read as they happen, inside one transaction, and long after the fact: the table has
            // its first form again when the changes are read.
            let ways = [("", ""), ("BEGIN;", "COMMIT;"), ("", back), ("BEGIN;", back + "COMMIT;")]
            for (begin, end) in ways {
                try database.run(begin + changes + end)
                let lines = try await source.drain().filter { $0.op != "truncate" }
                #expect(lines.map(\.after) == expected)
                // The rewrite of the table is no change of its rows.
                #expect(lines.map(\.op).suffix(2) == ["update", "delete"])
                if end.isEmpty || end == "COMMIT;" {
                    #expect(lines.last?.key == ["V": "c"])
                    try database.run(back)
                    _ = try await source.drain()
                }
            }
        }

        @Test(
            "CORRECTNESS 76: a table that is renamed while Weir streams stops it, and loses nothing"
        )
        func renamedTable() async throws {
            let database = try await TestDatabase("CREATE TABLE t (id int PRIMARY KEY)")
            let source = try await SourceHarness.open(database, tables: ["t"])
            let start = source.stored
            try database.run(
                "INSERT INTO t VALUES (1); ALTER TABLE t RENAME TO u; INSERT INTO u VALUES (2)")
            // Under another name its changes are none of "t".
            let changed = try await #require(throws: WeirError.self) {
                _ = try await source.read(until: "the renamed table") { $1.count == 2 }
            }
            #expect(changed.code.name == "postgres.table_changed")
            #expect(changed.disposition == .transient)
            let missing = try await #require(throws: WeirError.self) { try await source.open() }
            #expect(missing.code.name == "postgres.table_missing")
            #expect(missing.disposition == .blocked)
            #expect(missing.message.contains("it is named \"public.u\" now"))
            let back = #"ALTER TABLE "public"."u" RENAME TO "t";"#
            #expect(missing.hint?.contains(back) == true)
            try database.run(back)
            try await source.open()
            await source.source.close()
            try database.run("ALTER TABLE t RENAME TO u")

            // With the new name in the configuration nothing is missing, whatever it was called
            // when its changes were written.
            try database.run(
                "INSERT INTO u VALUES (3); ALTER TABLE u RENAME TO w; INSERT INTO w VALUES (4)")
            let other = try SourceHarness(database, tables: ["w"], notes: source.notes)
            try await other.open(atStored: start)
            var rest = try await other.drain()
            #expect(Set(rest.map(\.table)) == ["public.w"])
            #expect(rest.compactMap { $0.after?["id"] } == [1, 2, 3, 4])
            #expect(other.gaps.isEmpty)

            // So it is when it gets its name back.
            await other.source.close()
            try database.run(
                "ALTER TABLE w RENAME TO u; INSERT INTO u VALUES (5); \(back) INSERT INTO t VALUES (6)"
            )
            let again = try SourceHarness(database, tables: ["t"], notes: other.notes)
            try await again.open(atStored: other.stored)
            rest = try await again.drain()
            #expect(Set(rest.map(\.table)) == ["public.t"])
            #expect(rest.compactMap { $0.after?["id"] } == [5, 6])
            #expect(again.gaps.isEmpty)
        }

        @Test("CORRECTNESS 24: a null in what is the key by now is a row without a key")
        func keyMadeSince() async throws {
            let database = try await TestDatabase(
                "CREATE TABLE t (id int, v text); ALTER TABLE t REPLICA IDENTITY FULL")
            let source = try await SourceHarness.open(database, tables: ["t"])
            await source.source.close()
            try database.run(
                """
                INSERT INTO t VALUES (NULL, 'a'), (1, 'b'); UPDATE t SET v = 'c' WHERE id IS NULL;
                UPDATE t SET id = 2 WHERE id IS NULL; INSERT INTO t VALUES (NULL, 'd');
                BEGIN; DELETE FROM t WHERE id IS NULL; ALTER TABLE t ADD PRIMARY KEY (id); COMMIT;
                INSERT INTO t VALUES (3, 'e')
                """)
            try await source.open()
            let lines = try await source.drain()
            #expect(
                lines.map(\.op)
                    == ["insert", "insert", "update", "update", "insert", "delete", "insert"])
            #expect(lines[0].key == ["id": nil, "v": "a"])
            #expect(lines[3].before == ["id": nil, "v": "c"])
            #expect(lines[5].key == ["id": nil, "v": "d"])
            #expect(lines[5].before == ["id": nil, "v": "d"])
            // From where the server describes it with the key, that is the key.
            #expect(lines.last?.key == ["id": 3])
        }

        @Test("CORRECTNESS 23: changes of a table that is gone by now are delivered")
        func droppedTable() async throws {
            let database = try await TestDatabase(
                "CREATE TABLE t (b int, a text, PRIMARY KEY (a, b))")
            let source = try await SourceHarness.open(database, tables: ["t"])
            try database.run("INSERT INTO t VALUES (1, 'x'); DELETE FROM t; DROP TABLE t")
            let lines = try await source.read(until: "two rows") { $1.count == 2 }
            #expect(lines.map(\.op) == ["insert", "delete"])
            #expect(lines.first?.after == ["b": 1, "a": "x"])
            #expect(lines.last?.key == ["a": "x", "b": 1])
            let missing = try await #require(throws: WeirError.self) { try await source.open() }
            #expect(missing.code.name == "postgres.table_missing")

            // One of the same name is another table, and is read from now on.
            try database.run("CREATE TABLE t (id int PRIMARY KEY)")
            try await source.open()
            #expect(source.gaps == ["postgres.table_replaced"])
            try database.run("INSERT INTO t VALUES (2)")
            #expect(try await source.drain().map(\.after) == [["id": 2]])
        }

        @Test func hostileNamesComeThroughAsTheyAre() async throws {
            let names = [
                #"we"ird"#, "dot.ted", #"it's a \ back"#, "😀 é",
                String(repeating: "x", count: 63), "select", " lead", "$1;--", "line\nbreak", "op",
                "__proto__", "%n",
            ]
            let quoted = names.map { "\"\($0.replacing("\"", with: "\"\""))\"" }
            let publication = #"pub "l', \.😀"#
            let database = try await TestDatabase()
            for (index, name) in quoted.enumerated() {
                try database.run(
                    """
                    CREATE SCHEMA \(name);
                    CREATE TABLE \(name).\(name) (\(name) int PRIMARY KEY, v\(index) text);
                    """)
            }
            let tables = quoted.map { "\($0).\($0)" }
            try database.run(
                """
                CREATE PUBLICATION "\(publication.replacing("\"", with: "\"\""))"
                FOR TABLE \(tables.joined(separator: ", "))
                """)
            for config in [[:], ["publication": ConfigValue.string(publication)]] {
                let source = try await SourceHarness.open(database, tables: tables, config: config)
                for (index, table) in tables.enumerated() {
                    try database.run(
                        """
                        INSERT INTO \(table) VALUES (\(index), 'a');
                        UPDATE \(table) SET v\(index) = 'b'; TRUNCATE \(table)
                        """)
                }
                let lines = try await source.drain()
                try #require(lines.count == 3 * names.count)
                for (index, name) in names.enumerated() {
                    let line = lines[3 * index + 1]
                    #expect(line.source?["schema"]?.string == name)
                    #expect(line.source?["table"]?.string == name)
                    #expect(line.after?[name]?.number == index)
                    #expect(line.key == .object([name: .init(integerLiteral: index)]))
                    #expect(lines[3 * index + 2].op == "truncate")
                }
                await source.source.close()
                _ = try await source.source.cleanUp()
            }
            #expect(try database.run("SELECT count(*) FROM pg_publication") == "1")
        }
    }
}
