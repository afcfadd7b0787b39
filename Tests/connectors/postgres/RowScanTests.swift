import Testing
import WeirCore
import WeirPostgresClient
import WeirPostgresSource
import WeirTesting

extension PostgresSourceTests {
    /// All rows of a table, as the stream would show them.
    @Suite struct RowScan {
        private static let name = TableName(schema: "public", name: "t")

        /// All rows the reader has, and how many batches they came in.
        private func rows(
            _ reader: PostgresRowReader, _ name: TableName = Self.name
        ) async throws -> (schema: TableSchema?, images: [[String?]], batches: Int) {
            try await reader.scan(name, showing: [])
            var schema: TableSchema?
            var images: [[String?]] = []
            var batches = 0
            while let batch = try await reader.next() {
                #expect(batch.resume == nil && batch.end == nil && !batch.events.isEmpty)
                #expect(batch.events.allSatisfy { $0.operation == .read })
                let key = batch.tables[0].key
                #expect(
                    batch.events.allSatisfy { event in
                        event.key.range.map { batch.values[$0] }
                            == key.map { batch.values[Int(event.after.start) + $0] }
                    })
                schema = batch.tables.first
                images += batch.images
                batches += 1
            }
            #expect(try await reader.next() == nil)
            return (schema, images.sorted { "\($0)" < "\($1)" }, batches)
        }

        /// What the stream makes of rows that are inserted now.
        private func streamed(
            _ source: SourceHarness, _ sql: String
        ) async throws -> (schema: TableSchema?, images: [[String?]]) {
            try source.database.run(sql)
            guard let marker = try await source.source.mark() else {
                throw TestingError("no marker")
            }
            var schema: TableSchema?
            var images: [[String?]] = []
            try await eventually("all is read") {
                let batch = try await source.readBatch()
                schema = batch.tables.last ?? schema
                images += batch.images
                return batch.resume.map { $0 >= marker } ?? false
            }
            return (schema, images.sorted { "\($0)" < "\($1)" })
        }

        /// The same but for the version, which no stream has.
        private func expectSame(_ scanned: TableSchema?, _ streamed: TableSchema?) throws {
            let scanned = try #require(scanned)
            let streamed = try #require(streamed)
            #expect(scanned.version >= 1 << 31 && streamed.version < 1 << 31)
            #expect(
                scanned
                    == TableSchema(
                        version: scanned.version, database: streamed.database,
                        schema: streamed.schema, name: streamed.name, columns: streamed.columns,
                        key: streamed.key, isKeyUnique: streamed.isKeyUnique,
                        sendsWholeOldRows: streamed.sendsWholeOldRows))
        }

        @Test(
            "CORRECTNESS 40: a scan has the columns, types, key and texts of the stream",
            arguments: PostgresVersion.allCases)
        func scanEqualsStream(version: PostgresVersion) async throws {
            let database = try await TestDatabase(
                """
                CREATE TYPE mood AS ENUM ('sad', 'ok'); CREATE TYPE pair AS (a int, b text);
                CREATE DOMAIN email AS text; CREATE DOMAIN mail2 AS email;
                CREATE TABLE t (gone int, a int, b text, "B c" text, gone2 text, f4 float4,
                    f8 float8, n numeric, d date, ts timestamp, tz timestamptz, i interval, by bytea,
                    m money, j json, jb jsonb, ia int[], ta text[], e mood, es mood[], p pair,
                    dm mail2, r int4range, u uuid, bo bool, c char(5), ch "char", iv int2vector,
                    rc regclass, x bit(3), g int GENERATED ALWAYS AS (a * 2) STORED, PRIMARY KEY (b, a));
                ALTER TABLE t DROP gone; ALTER TABLE t DROP gone2; ALTER TABLE t ADD late int DEFAULT 7
                """, version: version)
            let source = try await SourceHarness.open(database, tables: ["t"])
            let reader = source.makeRowReader()
            let stream = try await streamed(
                source,
                #"""
                INSERT INTO t VALUES (1, 'x', 'é', 0.1, 0.1::float8 + 0.2, 1.50, '0044-03-15 BC',
                    'infinity', '2026-01-31 09:00+02', '-1 mons +2 days', '\x00ff', 12.5, '{"a" : 1}',
                    '{"b":2,"a":1}', '{{1,NULL},{3,4}}', '{"a,b",NULL,"NULL"}', 'ok', '{sad}',
                    '(1,"x y")', 'd', '[1,5)', 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', true, 'ab',
                    (-1)::"char", '1 2', 'pg_class', B'101');
                INSERT INTO t (a, b) VALUES (2, ''), (3, 'y');
                """#)
            let scanned = try await rows(reader)
            try expectSame(scanned.schema, stream.schema)
            #expect(scanned.schema?.key == [1, 0])
            #expect(scanned.images == stream.images)
            #expect(scanned.images.count == 3)
            await reader.close()
        }

        @Test(
            "CORRECTNESS 40: a scan has the key of the stream",
            arguments: [
                ("id int PRIMARY KEY, v int", "DEFAULT"), ("id int PRIMARY KEY, v int", "FULL"),
                ("id int, v int", "FULL"), ("id int, v int", "DEFAULT"),
                ("id int PRIMARY KEY, v int NOT NULL UNIQUE", "USING INDEX t_v_key"),
                ("id int, v int, x int, PRIMARY KEY (v, id)", "DEFAULT"),
                ("id int, v int, PRIMARY KEY (v) INCLUDE (id)", "DEFAULT"),
                ("id int, v int, PRIMARY KEY (v) DEFERRABLE", "DEFAULT"),
                ("id int PRIMARY KEY, v int", "NOTHING"),
            ])
        func keys(columns: String, identity: String) async throws {
            for version in PostgresVersion.allCases {
                let database = try await TestDatabase(
                    """
                    CREATE TABLE t (\(columns)); ALTER TABLE t REPLICA IDENTITY \(identity);
                    CREATE PUBLICATION inserts FOR TABLE t WITH (publish = 'insert')
                    """, version: version)
                let source = try await SourceHarness.open(
                    database, tables: ["t"], config: ["publication": .string("inserts")])
                let reader = source.makeRowReader()
                let stream = try await streamed(source, "INSERT INTO t VALUES (1, 2)")
                let scanned = try await rows(reader)
                try expectSame(scanned.schema, stream.schema)
                #expect(scanned.images == stream.images)
                await reader.close()
            }
        }

        @Test(
            "CORRECTNESS 40: a scan follows the publication's column list and row filter",
            arguments: PostgresVersion.allCases)
        func publication(version: PostgresVersion) async throws {
            let generated = version == .wheel18 ? "a, g, id, \"B c\"" : "a, id, \"B c\""
            let database = try await TestDatabase(
                """
                CREATE TABLE t (a int, id int, secret text, "B c" text,
                    g int GENERATED ALWAYS AS (a * 2) STORED, PRIMARY KEY (id));
                CREATE TABLE root (id int PRIMARY KEY, v text, w text) PARTITION BY RANGE (id);
                CREATE TABLE leaf PARTITION OF root FOR VALUES FROM (0) TO (100);
                CREATE TABLE other (id int PRIMARY KEY);
                CREATE PUBLICATION mine FOR TABLE t (\(generated))
                    WHERE (id > 1 AND id % 2 = 0 OR id < -5), root (id, v) WHERE (id > 1)
                    WITH (publish_via_partition_root);
                """, version: version)
            let source = try await SourceHarness.open(
                database, tables: ["t", "root"], config: ["publication": .string("mine")])
            let reader = source.makeRowReader()
            for (name, sql) in [
                ("t", "INSERT INTO t SELECT n, n, 's', 'x' FROM generate_series(-9, 9) n"),
                ("root", "INSERT INTO root VALUES (1, 'a', 'b'), (2, 'a', 'b')"),
            ] {
                let stream = try await streamed(source, sql)
                let scanned = try await rows(reader, TableName(schema: "public", name: name))
                try expectSame(scanned.schema, stream.schema)
                #expect(scanned.images == stream.images)
                #expect(scanned.images.count == (name == "t" ? 8 : 1))
                #expect(scanned.schema?.columns.contains { $0.name == "secret" } == false)
            }
            for (name, code) in [
                ("other", "postgres.publication_unfit"), ("absent", "postgres.table_missing"),
            ] {
                let error = try await #require(throws: WeirError.self) {
                    try await reader.scan(TableName(schema: "public", name: name), showing: [])
                }
                #expect(error.code.name == code)
                #expect(error.disposition == .blocked)
                let next = try await #require(throws: WeirError.self) { try await reader.next() }
                #expect(next.disposition == .transient)
            }
            await reader.close()
        }

        @Test("CORRECTNESS 40: a scan has the generated columns that PostgreSQL 18 publishes")
        func generatedColumns() async throws {
            let database = try await TestDatabase(
                """
                CREATE TABLE t (id int PRIMARY KEY, v int,
                    s int GENERATED ALWAYS AS (v * 2) STORED,
                    w int GENERATED ALWAYS AS (v * 3) VIRTUAL);
                CREATE PUBLICATION mine FOR TABLE t WITH (publish_generated_columns = stored)
                """, version: .wheel18)
            let source = try await SourceHarness.open(
                database, tables: ["t"], config: ["publication": .string("mine")])
            let reader = source.makeRowReader()
            let stream = try await streamed(source, "INSERT INTO t VALUES (1, 2)")
            let scanned = try await rows(reader)
            try expectSame(scanned.schema, stream.schema)
            #expect(scanned.images == [["1", "2", "4"]])
            #expect(stream.images == scanned.images)
            await reader.close()
        }

        @Test("a scan's batches are bounded by rows and by bytes")
        func batches() async throws {
            let database = try await TestDatabase(
                """
                CREATE TABLE t (id int PRIMARY KEY, v text);
                INSERT INTO t SELECT n, 'x' FROM generate_series(1, 12001) n;
                INSERT INTO t SELECT n, repeat('x', 3000000) FROM generate_series(20000, 20005) n;
                INSERT INTO t VALUES (30000, repeat('x', 50000000)), (30001, NULL)
                """)
            let source = try await SourceHarness.open(database, tables: ["t"])
            let reader = source.makeRowReader()
            try await reader.scan(Self.name, showing: [])
            var (counts, sizes) = ([Int](), [Int]())
            while let batch = try await reader.next() {
                counts.append(batch.events.count)
                sizes.append(batch.arena.count)
            }
            #expect(counts == [5000, 5000, 2003, 2, 2, 1, 1])
            #expect(counts.reduce(0, +) == 12009)
            #expect(sizes.allSatisfy { $0 < 60_000_000 })
            // An empty table ends at once; with it the transaction, and the connection is kept.
            try database.run("TRUNCATE t")
            #expect(try await rows(reader).batches == 0)
            #expect(try database.rowReaders() == 1)
            await reader.close()
        }

        @Test func tableOfAsManyColumnsAsThereMayBe() async throws {
            let columns = (1...1599).map { "c\($0) int2 DEFAULT \($0)" }.joined(separator: ", ")
            let database = try await TestDatabase(
                "CREATE TABLE t (id int PRIMARY KEY, \(columns)); INSERT INTO t VALUES (0)")
            let source = try await SourceHarness.open(database, tables: ["t"])
            let reader = source.makeRowReader()
            #expect(try await rows(reader).images == [(0...1599).map { "\($0)" }])
            await reader.close()
        }

        @Test("a scan that is cut short never looks complete, and the next begins anew")
        func cutShort() async throws {
            let database = try await TestDatabase(
                """
                CREATE TABLE t (id int PRIMARY KEY, v text);
                INSERT INTO t SELECT n, repeat('x', 1000) FROM generate_series(1, 30000) n
                """)
            let source = try await SourceHarness.open(database, tables: ["t"])
            let reader = source.makeRowReader()
            let early = try await #require(throws: WeirError.self) { try await reader.next() }
            #expect(early.disposition == .transient)

            try await reader.scan(Self.name, showing: [])
            _ = try await reader.next()
            try database.run(
                """
                SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity
                WHERE application_name = 'weir \(database.pipeline) rows'
                """)
            let error = try await #require(throws: WeirError.self) {
                while try await reader.next() != nil {}
            }
            #expect(error.code.name == "postgres.connection_failed")
            #expect(error.disposition == .transient)
            let after = try await #require(throws: WeirError.self) { try await reader.next() }
            #expect(after.disposition == .transient)

            // Rows may be asked for meanwhile.
            try await reader.scan(Self.name, showing: [])
            let first = try #require(try await reader.next())
            let row = try await reader.rows(
                of: first.tables[0], keys: [["29999"].key], showing: [])
            #expect(row.events.count == 1)
            try database.run("INSERT INTO t VALUES (0, 'new')")
            var count = first.events.count
            while let batch = try await reader.next() { count += batch.events.count }
            // A scan is one snapshot.
            #expect(count == 30000)
            // One is left in the middle for another.
            try await reader.scan(Self.name, showing: [])
            _ = try await reader.next()
            let whole = try await rows(reader)
            #expect(whole.images.count == 30001)
            #expect(whole.images.first == ["0", "new"])
            try await eventually("one connection is left") { try database.rowReaders() == 1 }
            try await reader.scan(Self.name, showing: [])
            await reader.close()
            try await eventually("none is left") { try database.rowReaders() == 0 }
        }

        @Test("CORRECTNESS 14: bytes that are no UTF-8 are those of the stream")
        func bytesOfNoEncoding() async throws {
            let database = try await TestDatabase(
                #"CREATE TABLE t (id int PRIMARY KEY, v text, w "char")"#,
                options: "ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0")
            let source = try await SourceHarness.open(database, tables: ["t"])
            let reader = source.makeRowReader()
            let stream = try await streamed(
                source, #"INSERT INTO t VALUES (1, E'a\xff', 'c'), (2, 'é', (-1)::"char")"#)
            let scanned = try await rows(reader)
            #expect(scanned.images == stream.images)
            #expect(scanned.images.first == ["1", #"\x61ff"#, "c"])
            await reader.close()
        }
    }
}
