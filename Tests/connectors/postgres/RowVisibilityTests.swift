import Testing
import WeirCore
import WeirPostgresClient
import WeirTesting

@testable import WeirPostgresSource

extension PostgresSourceTests {
    /// Which snapshot rows are read in, and by which plan.
    @Suite struct RowVisibility {
        @Test func whatASnapshotShows() throws {
            let plain = try #require(VisibleSnapshot(parsing: "100:110:100,105"))
            #expect([0, 99, 101, 104, 106, 109].allSatisfy { plain.shows($0) })
            #expect([100, 105, 110, 111, 1000].allSatisfy { !plain.shows($0) })
            let quiet = try #require(VisibleSnapshot(parsing: "3:3:"))
            #expect(quiet.shows(2) && !quiet.shows(3))

            // Across the end of an epoch, on both sides of it.
            let after = try #require(
                VisibleSnapshot(parsing: "4294967290:4294967300:4294967295,4294967298"))
            #expect(after.shows(4_294_967_294) && !after.shows(4_294_967_295))
            #expect(after.shows(1) && !after.shows(2) && after.shows(3) && !after.shows(4))
            let before = try #require(VisibleSnapshot(parsing: "8589934580:8589934590:8589934585"))
            #expect(before.shows(4_294_967_280) && !before.shows(4_294_967_289))
            #expect(!before.shows(4_294_967_294) && !before.shows(3))
            // A whole epoch apart is another transaction.
            let late = try #require(VisibleSnapshot(parsing: "5:4294967301:5"))
            #expect(late.shows(4) && !late.shows(5) && late.shows(4_294_967_295))

            for text in ["", "1", "1:2", "1:2:x", "a:2:", "1:b:", "1:2:3:4"] {
                #expect(VisibleSnapshot(parsing: text) == nil)
            }
        }

        private static let table = "CREATE TABLE t (id int PRIMARY KEY, v text)"

        /// The table `t` as a schema, without reading the stream.
        private static let schema = TableSchema(
            version: 1, database: "d", schema: "public", name: "t",
            columns: [
                Column(name: "id", type: ColumnType(.integer, name: "int4")),
                Column(name: "v", type: ColumnType(.text, name: "text")),
            ], key: [0])
        private static let name = TableName(schema: "public", name: "t")

        private func allRows(_ reader: PostgresRowReader) async throws -> [[String?]] {
            var images: [[String?]] = []
            while let batch = try await reader.next() { images += batch.images }
            return images
        }

        @Test(
            "CORRECTNESS 39: reading waits until a transaction is visible",
            arguments: PostgresVersion.allCases)
        func openTransaction(version: PostgresVersion) async throws {
            let database = try await TestDatabase(Self.table, version: version)
            let source = try await SourceHarness.open(database, tables: ["t"])
            for isScan in [false, true] {
                let writer = try database.connect()
                _ = try writer.query(
                    "BEGIN; DELETE FROM public.t; INSERT INTO public.t VALUES (1, 'late')")
                let shown = try writer.queryRow("SELECT txid_current() & 4294967295")[0]
                let xid = try #require(shown.flatMap { UInt32($0) })
                let reader = source.makeRowReader(visibilityLimit: .seconds(60))
                let reading = Task {
                    if isScan {
                        try await reader.scan(Self.name, showing: [3, xid])
                        return try await allRows(reader)
                    }
                    return try await reader.rows(
                        of: Self.schema, keys: [["1"].key], showing: [xid, 3]
                    ).images
                }
                try await eventually("the reader has looked more than once") {
                    try database.run(
                        """
                        SELECT state = 'idle' AND query LIKE '%pg_current_snapshot%'
                            AND query_start > backend_start + interval '5 ms'
                        FROM pg_stat_activity
                        WHERE application_name = 'weir \(database.pipeline) rows'
                        """) == "t"
                }
                _ = try writer.query("COMMIT")
                #expect(try await reading.value == [["1", "late"]])
                await reader.close()
                try await eventually("it is gone") { try database.rowReaders() == 0 }
            }
        }

        @Test("CORRECTNESS 39: a transaction that stays invisible is a failure within the bound")
        func neverVisible() async throws {
            let database = try await TestDatabase(Self.table)
            let source = try await SourceHarness.open(database, tables: ["t"])
            let reader = source.makeRowReader(visibilityLimit: .milliseconds(200))
            let writer = try database.connect()
            _ = try writer.query("BEGIN; INSERT INTO public.t VALUES (1, 'never')")
            let shown = try writer.queryRow("SELECT txid_current() & 4294967295")[0]
            let xid = try #require(shown.flatMap { UInt32($0) })
            let began = ContinuousClock.now
            for error in [
                try await #require(throws: WeirError.self) {
                    try await reader.rows(of: Self.schema, keys: [["1"].key], showing: [xid])
                },
                try await #require(throws: WeirError.self) {
                    try await reader.scan(Self.name, showing: [xid])
                },
            ] {
                #expect(error.code.name == "postgres.not_visible")
                #expect(error.disposition == .transient)
                #expect(error.message.contains("transaction \(xid) "))
            }
            #expect(ContinuousClock.now - began < .seconds(10))
            // Neither is the reader any worse for it.
            #expect(
                try await reader.rows(of: Self.schema, keys: [["1"].key], showing: []).images == [])
            // Nor does it wait for long when it is told to stop.
            let patient = source.makeRowReader(visibilityLimit: .seconds(600))
            let reading = Task {
                try await patient.rows(of: Self.schema, keys: [["1"].key], showing: [xid])
            }
            try await eventually("it waits") { try database.rowReaders() == 2 }
            reading.cancel()
            let error = try await #require(throws: WeirError.self) { try await reading.value }
            #expect(error.code == .cancelled)
            await patient.close()
            await reader.close()
        }

        @Test("CORRECTNESS 38, 39: a change is sent before a standby has it, its row read after")
        func synchronousStandby() async throws {
            let server = try await PostgresServer.start()
            let database = try await TestDatabase(
                Self.table + "; INSERT INTO t VALUES (1, 'old')", server: server)
            let source = try await SourceHarness.open(database, tables: ["t"])
            _ = try server.psql("ALTER SYSTEM SET synchronous_standby_names = 'nobody'")
            _ = try server.psql("SELECT pg_reload_conf()")
            let writer = try database.connect()
            _ = try writer.query("SET synchronous_commit = on")
            try await eventually("the setting has arrived") {
                try writer.queryRow("SHOW synchronous_standby_names") == ["nobody"]
            }
            // Commits wait once the checkpointer knows it, which looks before it does as told.
            _ = try server.psql("CHECKPOINT")
            try writer.sendQuery("UPDATE public.t SET v = 'new'")
            try await eventually("the change is sent") {
                try await source.readBatch().events.count == 1
            }
            let xid = try #require(source.batch.events.first).transaction
            let schema = try #require(source.batch.tables.first)
            #expect(try database.run("SELECT v FROM t") == "old")
            let hasty = source.makeRowReader(visibilityLimit: .milliseconds(100))
            let error = try await #require(throws: WeirError.self) {
                try await hasty.rows(of: schema, keys: [["1"].key], showing: [xid])
            }
            #expect(error.code.name == "postgres.not_visible")
            await hasty.close()
            let reader = source.makeRowReader(visibilityLimit: .seconds(60))
            let reading = Task {
                try await reader.rows(of: schema, keys: [["1"].key], showing: [xid]).images
            }
            try await eventually("it waits") { try database.rowReaders() > 0 }
            _ = try server.psql("ALTER SYSTEM RESET synchronous_standby_names")
            _ = try server.psql("SELECT pg_reload_conf()")
            #expect(try await reading.value == [["1", "new"]])
            #expect(try writer.nextRow(columns: 0, by: .now + .seconds(20)) == nil)
            await reader.close()
        }

        @Test("a table that is rewritten while reading waits for it does not look empty")
        func rewrittenTable() async throws {
            let database = try await TestDatabase(
                Self.table + "; INSERT INTO t VALUES (1, '1'), (2, '2')")
            // Else every statement of a session keeps the snapshot of its beginning.
            try database.run(
                "ALTER DATABASE \(database.name) SET default_transaction_isolation = "
                    + "'repeatable read'")
            let source = try await SourceHarness.open(database, tables: ["t"])
            let reader = source.makeRowReader()
            for isScan in [false, true] {
                let writer = try database.connect()
                let type = isScan ? "text" : "int USING v::int"
                _ = try writer.query("BEGIN; ALTER TABLE public.t ALTER v TYPE \(type)")
                let reading = Task {
                    if isScan {
                        try await reader.scan(Self.name, showing: [])
                        return try await allRows(reader)
                    }
                    return try await reader.rows(
                        of: Self.schema, keys: [["1"].key, ["2"].key], showing: []
                    ).images
                }
                try await eventually("the reader waits for the lock") {
                    try database.run(
                        """
                        SELECT count(*) FROM pg_locks l JOIN pg_stat_activity a USING (pid)
                        WHERE NOT granted AND application_name = 'weir \(database.pipeline) rows'
                        """) == "1"
                }
                _ = try writer.query("COMMIT")
                #expect(try await reading.value == [["1", "1"], ["2", "2"]])
            }
            await reader.close()
        }

        @Test(
            "rows are found by the index of the key, whatever its type",
            arguments: [
                ("id int PRIMARY KEY, v text", "n, 'x'", [0]),
                ("id text, v int, PRIMARY KEY (v, id)", "'k' || n, n", [1, 0]),
                ("id varchar(20) PRIMARY KEY, v int", "'k' || n, 0", [0]),
                ("id citext PRIMARY KEY, v int", "'k' || n, 0", [0]),
                ("id citext, v uuid, PRIMARY KEY (id, v)", "'k' || n, gen_random_uuid()", [0, 1]),
                ("id email PRIMARY KEY, v int", "'k@' || n, 0", [0]),
                ("id int[] PRIMARY KEY, v int", "ARRAY[n, n], 0", [0]),
                ("id char(9) PRIMARY KEY, v numeric", "'k' || n, 0", [0]),
            ])
        func index(columns: String, values: String, key: [Int]) async throws {
            let database = try await TestDatabase(
                """
                CREATE EXTENSION citext; CREATE DOMAIN email AS text CHECK (VALUE LIKE '%@%');
                CREATE TABLE t (\(columns));
                INSERT INTO t SELECT \(values) FROM generate_series(1, 10000) n; ANALYZE t
                """)
            let connection = try database.connect()
            let found = try connection.query(TableNow.query(Self.name))
            let schema = TableSchema(
                version: 1, database: "d", schema: "public", name: "t",
                columns: Self.schema.columns, key: key)
            let now = try #require(TableNow(rows: found))
            let read = try #require(KeyedRead(now, schema, comparing: .byType))
            let keys = try connection.query("SELECT id, v FROM public.t LIMIT 100").map { row in
                key.map { Array((row[$0] ?? "").utf8) }
            }
            let lists = key.indices.map { KeyedRead.arrayLiteral($0, of: keys) }
            func run(_ sql: String) throws -> [String] {
                try connection.sendQuery(sql, parameters: lists)
                var lines: [String] = []
                while let row = try connection.nextRow(columns: 0, by: .now + .seconds(20)) {
                    lines.append(
                        unsafe row[0].map { unsafe String(decoding: $0, as: UTF8.self) } ?? "")
                }
                return lines
            }
            #expect(try run(read.sql).count == 100)
            let plan = try run("EXPLAIN " + read.sql).joined(separator: "\n")
            #expect(plan.contains("t_pkey"), "\(plan)")
            #expect(!plan.contains("Seq Scan on t"), "\(plan)")
        }
    }
}
