import Testing
import WeirCore
import WeirPostgresClient
import WeirPostgresSource
import WeirTesting

extension PostgresSourceTests {
    /// How values are written, whatever the server was told.
    @Suite struct Settings {
        /// Each changes what the server sends or whether we can work at all.
        private static let traps = [
            ("DateStyle", "'German, DMY'"), ("IntervalStyle", "'sql_standard'"),
            ("extra_float_digits", "'-15'"), ("TimeZone", "'Asia/Kathmandu'"),
            ("bytea_output", "'escape'"), ("search_path", "evil, pg_catalog, public"),
            ("row_security", "on"), ("statement_timeout", "'1ms'"),
            ("idle_in_transaction_session_timeout", "'1ms'"), ("idle_session_timeout", "'300ms'"),
            ("client_encoding", "'LATIN1'"), ("quote_all_identifiers", "on"),
            ("default_transaction_read_only", "on"), ("standard_conforming_strings", "off"),
            ("synchronous_commit", "remote_apply"),
        ]

        @Test(
            "CORRECTNESS 14: settings of the database and of the role change nothing",
            arguments: PostgresVersion.allCases, [true, false])
        func traps(version: PostgresVersion, ofRole: Bool) async throws {
            let database = try await TestDatabase(
                """
                CREATE SCHEMA evil; CREATE TABLE t (id int PRIMARY KEY, ts timestamptz, d date,
                    i interval, f float8, b bytea, m money, c regclass, s text);
                CREATE FUNCTION evil.pg_is_in_recovery() RETURNS bool LANGUAGE plpgsql
                    AS 'BEGIN RAISE ''shadowed''; END';
                CREATE FUNCTION evil.pg_current_wal_lsn() RETURNS pg_lsn LANGUAGE plpgsql
                    AS 'BEGIN RAISE ''shadowed''; END';
                CREATE FUNCTION evil.md5(text) RETURNS text LANGUAGE plpgsql
                    AS 'BEGIN RAISE ''shadowed''; END';
                """, version: version)
            let role = "role_\(database.name)"
            try database.run("CREATE ROLE \(role) LOGIN SUPERUSER REPLICATION")
            let whom = ofRole ? "ROLE \(role)" : "DATABASE \(database.name)"
            for (name, value) in Self.traps {
                try database.server.alter("ALTER \(whom) SET \(name) = \(value)")
            }
            let source = try SourceHarness(database, tables: ["t"], user: role)
            try await source.open()
            try database.run(
                """
                SET statement_timeout = 0; SET default_transaction_read_only = off;
                SET synchronous_commit = on; SET search_path = public; SET client_encoding = 'UTF8';
                SET DateStyle = 'ISO, YMD'; SET standard_conforming_strings = on;
                INSERT INTO t VALUES (1, '2026-01-31 09:00+00', '2026-01-31', '-1 mons +2 days',
                    0.1::float8 + 0.2, '\\x00ff', 1234.5, 'pg_class', 'é')
                """)
            let line = try #require(try await source.drain().first)
            #expect(line.after?["ts"] == "2026-01-31T09:00:00+00:00")
            #expect(line.after?["d"] == "2026-01-31")
            #expect(line.after?["i"] == "-1 mons +2 days")
            #expect(line.text.contains(#""f":0.30000000000000004,"#))
            #expect(line.after?["b"] == #"\x00ff"#)
            #expect(line.after?["m"] == "$1,234.50")
            #expect(line.after?["c"] == "pg_class")
            #expect(line.after?["s"] == "é")
            // Longer than any of the timeouts: the ordinary connection lives on.
            try await source.readBatch(within: .milliseconds(500))
            #expect(try await source.drain().isEmpty)
            #expect(try await source.source.probe(held: nil).active)
            await source.source.close()
            try database.server.alter("ALTER \(whom) RESET ALL")
            try database.run("REASSIGN OWNED BY \(role) TO postgres; DROP OWNED BY \(role)")
        }

        @Test("CORRECTNESS 14: both kinds of connection have all of the settings")
        func sessions() async throws {
            let database = try await TestDatabase()
            for (name, value) in Self.traps {
                try database.server.alter("ALTER DATABASE \(database.name) SET \(name) = \(value)")
            }
            let string = try ConnectionString(
                database.server.url(database: database.name)
                    + "?options=-c%20DateStyle%3DSQL%20-c%20work_mem%3D1234kB")
            for mode in [PostgresConnection.Mode.sql, .replication] {
                let connection = try PostgresConnection(string, mode: mode, name: "test")
                for (name, value) in PostgresConnection.sessionSettings {
                    let shown = try connection.queryRow("SHOW \(name)")[0] ?? ""
                    // ISO keeps the order of day and month, which only input has.
                    #expect(shown == value || shown.hasPrefix("\(value), "), "\(name)")
                }
                #expect(try connection.queryRow("SHOW idle_session_timeout") == ["0"])
                #expect(try connection.queryRow("SHOW client_encoding") == ["UTF8"])
                // The user's own options stay.
                #expect(try connection.queryRow("SHOW work_mem") == ["1234kB"])
            }
        }

        @Test("CORRECTNESS 14: a row that a policy hides is an error")
        func rowSecurity() async throws {
            let database = try await TestDatabase(
                """
                CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1);
                ALTER TABLE t ENABLE ROW LEVEL SECURITY; CREATE POLICY p ON t USING (false);
                """)
            let role = "policed_\(database.name)"
            try database.run("CREATE ROLE \(role) LOGIN; GRANT SELECT ON t TO \(role)")
            #expect(try database.run("SELECT count(*) FROM t", user: role) == "0")
            let connection = try PostgresConnection(
                ConnectionString(database.server.url(database: database.name, user: role)),
                mode: .sql, name: "test")
            let error = try #require(throws: PostgresFailure.self) {
                try connection.query("SELECT * FROM public.t")
            }
            #expect(error.sqlState == "42501")
            try database.run("DROP OWNED BY \(role)")
        }

        @Test("CORRECTNESS 14: PostgreSQL 18's limit on a transaction does not cut decoding short")
        func transactionTimeout() async throws {
            let database = try await TestDatabase(
                "CREATE TABLE t (id int PRIMARY KEY, v text)", version: .wheel18)
            try database.run("ALTER DATABASE \(database.name) SET transaction_timeout = '200ms'")
            let source = try await SourceHarness.open(database, tables: ["t"])
            try database.run(
                """
                SET transaction_timeout = 0;
                INSERT INTO t SELECT n, repeat('x', 1000) FROM generate_series(1, 30000) n
                """)
            var count = try await source.readBatch(within: .seconds(5)).events.count
            #expect(count > 0 && count < 30000)
            // The server waits in the middle of the transaction for us to take more.
            let end = ContinuousClock.now + .milliseconds(600)
            try await eventually("longer than the limit", poll: .milliseconds(100)) {
                try await source.source.acknowledge(nil)
                return ContinuousClock.now >= end
            }
            count += try await source.drainCount()
            #expect(count == 30000)
        }

        @Test("CORRECTNESS 14: text of an encoding the server knows comes as UTF-8")
        func otherEncoding() async throws {
            let database = try await TestDatabase(
                #"CREATE TABLE "tä" (id int PRIMARY KEY, "ö" text)"#,
                options: "ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0")
            let source = try await SourceHarness.open(database, tables: ["tä"])
            try database.run(
                #"""
                INSERT INTO "tä" VALUES (1, 'ÄÿÀ');
                SELECT pg_logical_emit_message(true, 'é', 'é')
                """#)
            let lines = try await source.drain()
            try #require(lines.count == 2)
            #expect(lines[0].table == "public.tä")
            #expect(lines[0].after == ["id": 1, "ö": "ÄÿÀ"])
            #expect(lines[0].binary == nil)
            // A message's content is bytes to the server, which it does not convert.
            #expect(lines[1].prefix == "é")
            #expect(lines[1].content == #"\xe9"#)
            #expect(lines[1].binary == ["content"])
        }

        @Test("CORRECTNESS 14: bytes that are no UTF-8 are delivered as bytes, and named")
        func bytesOfNoEncoding() async throws {
            let database = try await TestDatabase(
                "CREATE TABLE t (id int PRIMARY KEY, v text, w varchar[])",
                options: "ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0")
            let source = try await SourceHarness.open(database, tables: ["t"])
            try database.run(
                #"""
                INSERT INTO t VALUES (1, E'a\xff\xc3', ARRAY['x']), (2, 'é', ARRAY[E'\xe9']);
                UPDATE t SET v = E'\xfe' WHERE id = 2
                """#)
            let lines = try await source.drain()
            #expect(
                lines.map(\.after) == [
                    ["id": 1, "v": #"\x61ffc3"#, "w": ["x"]],
                    ["id": 2, "v": "é", "w": #"\x7be97d"#],
                    ["id": 2, "v": #"\xfe"#, "w": #"\x7be97d"#],
                ])
            #expect(lines.map(\.binary) == [["v"], ["w"], ["v", "w"]])
            #expect(try await source.source.probe(held: nil).active)
        }

        @Test(
            "CORRECTNESS 14: a \"char\" above ASCII is the escape that the server writes",
            arguments: PostgresVersion.allCases)
        func charType(version: PostgresVersion) async throws {
            let database = try await TestDatabase(
                #"CREATE TABLE t (id int PRIMARY KEY, v "char")"#, version: version)
            let source = try await SourceHarness.open(database, tables: ["t"])
            try database.run(#"INSERT INTO t VALUES (1, (-1)::"char"), (2, 'a')"#)
            let lines = try await source.drain()
            #expect(lines.map { $0.after?["v"] } == [#"\377"#, "a"])
            #expect(lines.map(\.binary) == [nil, nil])
        }
    }
}

extension PostgresServer {
    /// From a database whose settings are not in the way.
    fileprivate func alter(_ sql: String) throws { _ = try psql(sql) }
}
