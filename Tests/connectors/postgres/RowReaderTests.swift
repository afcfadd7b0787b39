import Testing
import WeirCore
import WeirPostgresClient
import WeirPostgresSource
import WeirTesting

extension PostgresSourceTests {
    /// Rows read by their keys, beside the stream.
    @Suite struct RowReading {
        /// The schema and keys of one table, as the stream tells them.
        private func described(
            _ source: SourceHarness, _ sql: String
        ) async throws -> (schema: TableSchema, keys: [[[UInt8]]]) {
            try source.database.run(sql)
            var keys: [[[UInt8]]] = []
            var schema: TableSchema?
            guard let marker = try await source.source.mark() else {
                throw TestingError("no marker")
            }
            try await eventually("all is read") {
                let batch = try await source.readBatch()
                keys += batch.events.map(batch.keyBytes)
                schema = batch.tables.last ?? schema
                return batch.resume.map { $0 >= marker } ?? false
            }
            return (try #require(schema), keys)
        }

        @Test("CORRECTNESS 29: the row of a key has what the stream did not send")
        func unchangedToast() async throws {
            let database = try await TestDatabase(
                """
                CREATE TABLE t (id int PRIMARY KEY, big text, v int);
                ALTER TABLE t ALTER big SET STORAGE EXTERNAL;
                INSERT INTO t SELECT n, repeat(n::text, 3000), 0 FROM generate_series(1, 9) n
                """)
            let source = try await SourceHarness.open(database, tables: ["t"])
            try database.run("UPDATE t SET v = id WHERE id < 4")
            let line = try #require(try await source.drain().first)
            #expect(line.unchanged == ["big"])
            let schema = try #require(source.batch.tables.first)
            let reader = source.makeRowReader()
            let xid = try #require(source.batch.events.first).transaction
            let batch = try await reader.rows(
                of: schema, keys: [["1"].key, ["3"].key, ["77"].key], showing: [xid])
            #expect(batch.tables == [schema])
            #expect(batch.resume == nil && batch.end == nil)
            #expect(
                batch.images == [
                    ["1", String(repeating: "1", count: 3000), "1"],
                    ["3", String(repeating: "3", count: 3000), "3"],
                ])
            for event in batch.events {
                #expect(event.operation == .read && event.commitMicros == Event.noTime)
                #expect(event.commit == 0 && event.ordinal == 0 && event.transaction == 0)
                #expect(batch.keyBytes(of: event).count == 1)
                #expect(event.key.range.map(batch.text) == [batch.text(Int(event.after.start))])
            }
            let none = try await reader.rows(of: schema, keys: [], showing: [])
            #expect(none.tables == [schema] && none.events.isEmpty)
            await reader.close()
        }

        @Test func keysOfAnyText() async throws {
            let texts = [
                "", "NULL", "null", "a,b", "{}", "{\"a\"}", #"back\slash"#, #"\"#, #"q"uote"#,
                "it's", " blank ", "new\nline\ttab", "😀 é", "%s $1", "'); DROP TABLE t; --",
            ]
            let database = try await TestDatabase(
                """
                CREATE TABLE "s'1" (k text PRIMARY KEY, v int);
                CREATE TABLE "c""2" ("k ""a" text, k2 text, v int, PRIMARY KEY (k2, "k ""a"))
                """)
            let source = try await SourceHarness.open(
                database, tables: ["s'1", #""c""2""#])
            let reader = source.makeRowReader()
            let list = texts.enumerated().map { index, text in
                "(\(PostgresConnection.literal(text)), \(index))"
            }
            let rows = list.joined(separator: ", ")
            let single = try await described(
                source, "INSERT INTO \"s'1\" VALUES \(rows), ('other', -1)")
            #expect(single.keys.count == texts.count + 1)
            let asked = texts.map { [$0].key } + [["absent"].key, [texts[1]].key]
            let found = try await reader.rows(of: single.schema, keys: asked, showing: [])
            let expected = texts.enumerated().map { [$1, "\($0)"] as [String?] }
            #expect(found.images == expected.sorted { "\($0)" < "\($1)" })

            let pairs = try await described(
                source,
                "INSERT INTO \"c\"\"2\" SELECT a.t, b.t, a.n * 100 + b.n FROM (VALUES \(rows)) "
                    + "a(t, n), (VALUES \(rows)) b(t, n)")
            #expect(pairs.schema.key == [1, 0])
            let some = texts.indices.map { [texts[$0], texts[texts.count - 1 - $0]] }
            let matched = try await reader.rows(
                of: pairs.schema, keys: some.map(\.key), showing: [])
            let matches = texts.indices.map { index in
                let other = texts.count - 1 - index
                return [texts[other], texts[index], "\(other * 100 + index)"] as [String?]
            }
            #expect(matched.images == matches.sorted { "\($0)" < "\($1)" })
            await reader.close()
        }

        /// Types of keys, with a value each.
        private static let types = [
            ("bool", "true"), ("int2", "-5"), ("int8", "9223372036854775807"), ("numeric", "1.50"),
            ("float8", "'NaN'"), ("float4", "0.1"), ("varchar(9)", "'a b'"), ("char(5)", "'ab'"),
            ("\"char\"", "'x'"), ("name", "'n'"), ("bytea", #"'\x00ff22'"#), ("date", "'infinity'"),
            ("timestamp", "'2026-01-31 09:00:00.5'"), ("timestamptz", "'2026-01-31 09:00+00'"),
            ("timetz", "'09:00+02'"), ("interval", "'1 mon -2 days 3 sec'"),
            ("inet", "'10.0.0.1/8'"),
            ("macaddr", "'08:00:2b:01:02:03'"), ("money", "1234.5"), ("bit(3)", "B'101'"),
            ("varbit", "B'1'"), ("uuid", "'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'"),
            ("oid", "7"), ("pg_lsn", "'1/2'"), ("jsonb", #"'{"a": [1, "x\"y"]}'"#),
            ("int4range", "'[1,5)'"), ("tsvector", "'a:1 b'"), ("int[]", "'{1,NULL,3}'"),
            ("text[]", #"'{"a,b","q\"",NULL,"NULL"}'"#), ("mood", "'so \"so\"'"),
            ("mood[]", "'{sad}'"), ("email", "'a@b'"), ("ints", "'{1,2}'"),
            ("pair", "'(1,\"x y\")'"),
            ("pair[]", "ARRAY[(1,'x')::pair]"), ("oidvector", "'1 2'"),
        ]

        @Test(arguments: PostgresVersion.allCases)
        func keysOfAnyType(version: PostgresVersion) async throws {
            var types = Self.types
            var sql = """
                CREATE TYPE mood AS ENUM ('sad', 'so "so"'); CREATE TYPE pair AS (a int, b text);
                CREATE DOMAIN email AS text CHECK (VALUE LIKE '%@%'); CREATE DOMAIN ints AS int[];
                """
            if version == .debian15 {
                // An extension's type has its equality in the schema the extension is in.
                sql += "CREATE EXTENSION citext;"
                types.append(("citext", "'Ab'"))
            }
            let tables = types.indices.map { "t\($0)" }
            for (table, type) in zip(tables, types) {
                sql += "CREATE TABLE \(table) (k \(type.0) PRIMARY KEY, v int);"
            }
            let database = try await TestDatabase(sql, version: version)
            let source = try await SourceHarness.open(database, tables: tables)
            let reader = source.makeRowReader()
            for (table, type) in zip(tables, types) {
                let (schema, keys) = try await described(
                    source, "INSERT INTO \(table) VALUES (\(type.1), 1)")
                let batch = try await reader.rows(of: schema, keys: keys, showing: [])
                try #require(batch.events.count == 1, "\(type)")
                #expect(batch.keyBytes(of: batch.events[0]) == keys.first, "\(type)")
                #expect(batch.images.first?.last == "1")
            }
            await reader.close()
        }

        @Test("keys of types that nothing compares are found by their text")
        func keysWithoutEquality() async throws {
            let database = try await TestDatabase(
                """
                CREATE TABLE t (j json, p point, b bool, c char(4), x box[]);
                ALTER TABLE t REPLICA IDENTITY FULL
                """)
            let source = try await SourceHarness.open(database, tables: ["t"])
            let reader = source.makeRowReader()
            let (schema, keys) = try await described(
                source,
                """
                INSERT INTO t VALUES ('{"a": 1}', '(1,2)', true, 'ab', '{(1,1),(0,0)}'),
                    ('{"a": 2}', '(1,2)', true, 'ab', '{(1,1),(0,0);(2,2),(0,0)}')
                """)
            #expect(schema.key.count == 5)
            let batch = try await reader.rows(of: schema, keys: keys, showing: [])
            #expect(batch.events.count == 2)
            let second = try await reader.rows(
                of: schema, keys: Array(keys.suffix(1)), showing: [])
            #expect(second.images.map(\.first) == [#"{"a": 2}"#])
            await reader.close()
        }

        @Test("the columns are those the table has now")
        func columnsOfNow() async throws {
            let database = try await TestDatabase(
                "CREATE TABLE t (a int, id int PRIMARY KEY, b text, c text)")
            let source = try await SourceHarness.open(database, tables: ["t"])
            let reader = source.makeRowReader()
            let (schema, keys) = try await described(
                source, "INSERT INTO t VALUES (1, 7, 'b', NULL)")
            func images() async throws -> [[String?]] {
                let batch = try await reader.rows(of: schema, keys: keys, showing: [])
                #expect(batch.tables == [schema])
                return batch.images
            }
            #expect(try await images() == [["1", "7", "b", nil]])
            try database.run("ALTER TABLE t DROP a; ALTER TABLE t ADD d int DEFAULT 4")
            #expect(try await images() == [["(unchanged)", "7", "b", nil]])
            try database.run("ALTER TABLE t ALTER c TYPE int USING 3; ALTER TABLE t RENAME b TO e")
            #expect(try await images() == [["(unchanged)", "7", "(unchanged)", "3"]])
            // The key's type is another: first one that takes the text, then one that does not.
            try database.run("ALTER TABLE t ALTER id TYPE text")
            #expect(try await images() == [["(unchanged)", "7", "(unchanged)", "3"]])
            try database.run("ALTER TABLE t ALTER id TYPE date USING '2026-01-31'")
            #expect(try await images() == [])
            try database.run("ALTER TABLE t DROP id")
            #expect(try await images() == [])
            try database.run("DROP TABLE t")
            #expect(try await images() == [])
            try database.run("CREATE VIEW t AS SELECT 1 a, 7 id, 'b' b, 'c' c")
            #expect(try await images() == [])
            try database.run(
                "DROP VIEW t; CREATE TABLE t (c int, b int, id int8); INSERT INTO t VALUES (1, 2, 7)"
            )
            #expect(try await images() == [["(unchanged)", "7", "2", "1"]])
            // Another reader of nothing is no failure, so one connection did for all.
            #expect(try database.rowReaders() == 1)
            await reader.close()
        }

        @Test("rows of partitions are the table's, rows of what inherits from it are not")
        func partitionsAndHeirs() async throws {
            let database = try await TestDatabase(
                """
                CREATE TABLE root (id int PRIMARY KEY, v text) PARTITION BY RANGE (id);
                CREATE TABLE low PARTITION OF root FOR VALUES FROM (0) TO (10)
                    PARTITION BY RANGE (id);
                CREATE TABLE lowest PARTITION OF low FOR VALUES FROM (0) TO (5);
                CREATE TABLE high PARTITION OF root FOR VALUES FROM (10) TO (20);
                CREATE TABLE base (id int PRIMARY KEY, v text);
                CREATE TABLE heir () INHERITS (base)
                """)
            let source = try await SourceHarness.open(database, tables: ["root", "base"])
            let reader = source.makeRowReader()
            let root = try await described(source, "INSERT INTO root VALUES (1, 'a'), (11, 'b')")
            let base = try await described(
                source, "INSERT INTO base VALUES (1, 'own'); INSERT INTO heir VALUES (1, 'heir')")
            let parts = try await reader.rows(of: root.schema, keys: root.keys, showing: [])
            #expect(parts.images == [["1", "a"], ["11", "b"]])
            func images() async throws -> [[String?]] {
                try await reader.rows(of: base.schema, keys: base.keys, showing: []).images
            }
            #expect(try await images() == [["1", "own"]])
            // An ordinary table gives way to a partitioned one of the same name.
            try database.run(
                """
                DROP TABLE heir; ALTER TABLE base RENAME TO old;
                CREATE TABLE base (id int PRIMARY KEY, v text) PARTITION BY RANGE (id);
                CREATE TABLE new PARTITION OF base FOR VALUES FROM (0) TO (10);
                INSERT INTO base VALUES (1, 'moved')
                """)
            #expect(try await images() == [["1", "moved"]])
            await reader.close()
        }

        @Test("a reader's connection is one, is made anew, and goes with it")
        func connections() async throws {
            let database = try await TestDatabase("CREATE TABLE t (id int PRIMARY KEY)")
            let source = try await SourceHarness.open(database, tables: ["t"])
            let reader = source.makeRowReader()
            let (schema, keys) = try await described(source, "INSERT INTO t VALUES (1)")
            #expect(try database.rowReaders() == 0)
            for _ in 0..<3 {
                #expect(
                    try await reader.rows(of: schema, keys: keys, showing: []).events.count == 1)
                #expect(try database.rowReaders() == 1)
                try database.run(
                    """
                    SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity
                    WHERE application_name = 'weir \(database.pipeline) rows'
                    """)
                #expect(try database.rowReaders() == 0)
            }
            _ = try await reader.rows(of: schema, keys: keys, showing: [])
            await reader.close()
            await reader.close()
            try await eventually("the server has seen it end") { try database.rowReaders() == 0 }
            let made = try PostgresSource.makeRowReader(
                source.config, SourceHarness.context(database, source.notes, source.log))
            #expect(try await made.rows(of: schema, keys: keys, showing: []).events.count == 1)
            await made.close()
        }

        @Test("a server that is away is a transient failure")
        func serverAway() async throws {
            let server = try await PostgresServer.start()
            let database = try await TestDatabase(
                "CREATE TABLE t (id int PRIMARY KEY)", server: server)
            let source = try await SourceHarness.open(database, tables: ["t"])
            let reader = source.makeRowReader()
            let (schema, keys) = try await described(source, "INSERT INTO t VALUES (1)")
            _ = try await reader.rows(of: schema, keys: keys, showing: [])
            await source.source.close()
            try await server.stop(.fast)
            let error = try await #require(throws: WeirError.self) {
                try await reader.rows(of: schema, keys: keys, showing: [])
            }
            #expect(error.code.name == "postgres.connection_failed")
            #expect(error.disposition == .transient)
            try await server.restart()
            #expect(try await reader.rows(of: schema, keys: keys, showing: []).events.count == 1)
            await reader.close()
        }

        @Test("CORRECTNESS 14: bytes that are no UTF-8 are bytes here too")
        func bytesOfNoEncoding() async throws {
            let database = try await TestDatabase(
                #"CREATE TABLE t (id text PRIMARY KEY, v text, w "char")"#,
                options: "ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0")
            let source = try await SourceHarness.open(database, tables: ["t"])
            let reader = source.makeRowReader()
            let (schema, keys) = try await described(
                source, #"INSERT INTO t VALUES (E'k\xff', E'a\xff', 'c'), ('é', 'é', 'd')"#)
            let batch = try await reader.rows(of: schema, keys: keys, showing: [])
            #expect(batch.images == [[#"\x6bff"#, #"\x61ff"#, "c"], ["é", "é", "d"]])
            await reader.close()
        }

        @Test func tableOfAsManyColumnsAsThereMayBe() async throws {
            let columns = (1...1599).map { "c\($0) int2 DEFAULT \($0)" }.joined(separator: ", ")
            let database = try await TestDatabase("CREATE TABLE t (id int PRIMARY KEY, \(columns))")
            let source = try await SourceHarness.open(database, tables: ["t"])
            let reader = source.makeRowReader()
            let (schema, keys) = try await described(source, "INSERT INTO t VALUES (0)")
            let batch = try await reader.rows(of: schema, keys: keys, showing: [])
            #expect(batch.images == [(0...1599).map { "\($0)" }])
            await reader.close()
        }

        @Test func valueOfFiftyMegabytes() async throws {
            let database = try await TestDatabase("CREATE TABLE t (id int PRIMARY KEY, v text)")
            let source = try await SourceHarness.open(database, tables: ["t"])
            let reader = source.makeRowReader()
            let (schema, keys) = try await described(source, "INSERT INTO t VALUES (1), (2)")
            try database.run("UPDATE t SET v = repeat('x', 50000000)")
            let batch = try await reader.rows(of: schema, keys: keys, showing: [])
            #expect(batch.values.filter { $0.bytes.count == 50_000_000 }.count == 2)
            #expect(batch.arena.count == 100_000_002)
            await reader.close()
        }

        @Test("a missing right and a policy that hides rows stop the pipeline and say the cure")
        func rights() async throws {
            let database = try await TestDatabase("CREATE TABLE t (id int PRIMARY KEY)")
            let role = "reader_\(database.name)"
            try database.run("CREATE ROLE \(role) LOGIN")
            let source = try await SourceHarness.open(database, tables: ["t"])
            let (schema, keys) = try await described(source, "INSERT INTO t VALUES (1)")
            let reader = try SourceHarness(database, tables: ["t"], user: role).makeRowReader()
            func refusal() async throws -> [WeirError] {
                [
                    try await #require(throws: WeirError.self) {
                        try await reader.rows(of: schema, keys: keys, showing: [])
                    },
                    try await #require(throws: WeirError.self) {
                        try await reader.scan(TableName(schema: "public", name: "t"), showing: [])
                        while try await reader.next() != nil {}
                    },
                ]
            }
            let grant = #"GRANT SELECT ON "public"."t" TO "\#(role)";"#
            for error in try await refusal() {
                #expect(error.code.name == "postgres.permission")
                #expect(error.disposition == .blocked)
                #expect(error.hint?.contains(grant) == true)
            }
            try database.run(grant)
            #expect(try await reader.rows(of: schema, keys: keys, showing: []).events.count == 1)
            try database.run(
                "ALTER TABLE t ENABLE ROW LEVEL SECURITY; CREATE POLICY p ON t USING (false)")
            for error in try await refusal() {
                #expect(error.code.name == "postgres.permission")
                #expect(error.disposition == .blocked)
                #expect(error.hint?.contains(#"ALTER ROLE "\#(role)" BYPASSRLS;"#) == true)
            }
            try database.run(#"ALTER ROLE "\#(role)" BYPASSRLS;"#)
            #expect(try await reader.rows(of: schema, keys: keys, showing: []).events.count == 1)
            await reader.close()
            try database.run("DROP OWNED BY \(role)")
        }
    }
}
