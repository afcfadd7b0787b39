import Foundation
import Testing
import WeirTesting

extension EndToEnd {
    /// Values of every type look the same in the copy, to the last digit.
    @Suite struct PostgresSinkTypesTests {
        /// A type and values of it as SQL; its array type is tried with all of them at once.
        private struct Samples {
            let type: String
            let values: [String]
            let hasArray: Bool

            init(_ type: String, _ values: String..., hasArray: Bool = true) {
                self.type = type
                self.values = values
                self.hasArray = hasArray
            }
        }

        private static let numbers = [
            Samples("int2", "-32768", "0", "32767"),
            Samples("int4", "-2147483648", "2147483647"),
            Samples("int8", "-9223372036854775808", "9223372036854775807", "9007199254740993"),
            Samples(
                "float4", "'NaN'", "'Infinity'", "'-Infinity'", "'-0'", "1.1", "1e-40",
                "3.4028235e38"),
            Samples(
                "float8", "'NaN'", "'Infinity'", "'-Infinity'", "'-0'", "0.1", "1e100", "5e-324",
                "1.7976931348623157e308", "0.30000000000000004"),
            Samples(
                "numeric", "'NaN'", "'Infinity'", "'-Infinity'", "1.500", "0.000", "-0.0",
                "repeat('9', 5000)::numeric", "('0.' || repeat('1', 5000))::numeric", "1e-50"),
            Samples("numeric(10, 2)", "1", "-12345678.9"), Samples("numeric(3, -2)", "12345"),
            Samples("money", "'1234.5'", "'-0.01'", "'-92233720368547758.08'"),
            Samples("bool", "true", "false"), Samples("oid", "4294967295", "0"),
            Samples("xid", "'4294967295'"), Samples("cid", "'7'"),
            Samples("xid8", "'18446744073709551615'"), Samples("tid", "'(4294967295,65535)'"),
            Samples("pg_lsn", "'FFFFFFFF/FFFFFFFF'", "'0/0'"),
        ]

        private static let texts = [
            Samples(
                "text", "''", "'NULL'", "E'\\\\N'", "E'\\\\.'", "repeat('ab', 5000)",
                "'é😀\u{2028}'",
                "E'a\"b\\\\c/\\n\\r\\t\\b\\f\\x01\\x1f\\x7f'"),
            Samples("varchar(5)", "'a b'", "''"), Samples("varchar", "repeat('x', 10000)"),
            Samples("char(5)", "'ab'", "''", "' a'"), Samples("bpchar", "'ab  '"),
            Samples("\"char\"", "'a'", "''", "'\"'"), Samples("name", "'Some \"Name\"'"),
            Samples("bytea", "'\\x'", "'\\x00ff0a5c'", "decode(repeat('ff', 5000), 'hex')"),
            Samples("uuid", "'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'"),
            Samples(
                "json", "'{\"b\" : 1, \"a\":[1,  2],\"b\":\"\\u00e9\"}'", "'null'",
                "E' \"x\"\\n '"),
            Samples("jsonb", "'{\"b\": 1, \"a\": [1, 2.50]}'", "'null'", "'1e400'", "'\"\\\\\"'"),
            Samples("bit(3)", "B'101'"), Samples("varbit", "B''", "B'1'"), Samples("bit", "B'1'"),
            Samples("jsonpath", "'$.\"a\" ? (@ > 1)'"),
        ]

        private static let times = [
            Samples(
                "timestamp", "'infinity'", "'-infinity'", "'4713-01-01 00:00 BC'", "'0001-01-01'",
                "'294276-12-31 23:59:59.999999'", "'2026-01-31 09:00:00.120'"),
            Samples(
                "timestamptz", "'infinity'", "'-infinity'", "'0044-03-15 12:00+00 BC'",
                "'294276-12-31 23:59:59.999999+00'", "'1880-01-01 00:00 Europe/Paris'"),
            Samples("timestamp(0)", "'2026-01-31 09:00:00.9'"),
            Samples("date", "'infinity'", "'-infinity'", "'4713-01-01 BC'", "'5874897-12-31'"),
            Samples("time", "'24:00:00'", "'00:00:00.000001'"),
            Samples("timetz", "'09:00:00+01:23:45'", "'24:00:00-15:59'"),
            Samples(
                "interval", "'1 year 2 mons -3 days 04:05:06.789'", "'0'",
                "'-1 mons +1 day -00:00:01'", "'-178000000 years'", "'1000 hours'"),
        ]

        private static let ranges = [
            Samples("int4range", "'[1,5]'", "'empty'", "'(,)'", "'[1,)'"),
            Samples("int8range", "'[1,5]'"), Samples("numrange", "'(1.0,2.50]'"),
            Samples("tsrange", "'[2026-01-01,infinity)'"),
            Samples("tstzrange", "'[2026-01-01 00:00+01,)'"),
            Samples("daterange", "'[,2026-01-01)'"),
            Samples("int4multirange", "'{}'", "'{[1,2),[5,6)}'"),
            Samples("int8multirange", "'{(,)}'"), Samples("nummultirange", "'{[1.5,2.5]}'"),
            Samples("tsmultirange", "'{[2026-01-01,2026-01-02)}'"),
            Samples("tstzmultirange", "'{[2026-01-01,2026-01-02)}'"),
            Samples("datemultirange", "'{[2026-01-01,2026-01-02)}'"),
        ]

        private static let shapes = [
            Samples("point", "'(1,2)'", "'(NaN,-Infinity)'", "'(0.1,1e300)'", "'(-0,5e-324)'"),
            Samples("line", "'{1,2,3}'"), Samples("lseg", "'[(0,0),(1,1)]'"),
            Samples("box", "'(2,2),(1,1)'"), Samples("path", "'[(0,0),(1,1)]'", "'((0,0),(1,1))'"),
            Samples("polygon", "'((0,0),(1,1),(1,0))'"), Samples("circle", "'<(0,0),1.5>'"),
            Samples("inet", "'192.168.0.1'", "'192.168.0.1/24'", "'::ffff:1.2.3.4/96'"),
            Samples("cidr", "'10.0.0.0/8'", "'::/0'"), Samples("macaddr", "'08:00:2b:01:02:03'"),
            Samples("macaddr8", "'08:00:2b:01:02:03:04:05'"),
            Samples("tsvector", "$$'it''s':1A 'a b':2 'back\\\\slash':3 plain$$", "''"),
            Samples("tsquery", "'fat & (rat | !cat)'", "'a <2> b:*AB'", "''"),
        ]

        private static let catalogue = [
            Samples("regclass", "'pg_catalog.pg_class'", "'99999999'"),
            Samples("regtype", "'int4'"),
            Samples("regproc", "'pg_catalog.now'"), Samples("regrole", "'postgres'"),
            Samples("regnamespace", "'pg_catalog'"), Samples("regconfig", "'pg_catalog.simple'"),
            Samples("regdictionary", "'pg_catalog.simple'"),
            Samples("regoperator", "'pg_catalog.+(int4,int4)'"),
            Samples("regoper", "'pg_catalog.||/'"),
            Samples("regprocedure", "'pg_catalog.abs(int4)'"),
            Samples("regcollation", "'pg_catalog.\"C\"'"),
            Samples("pg_snapshot", "'10:20:10,14,15'"),
            Samples("txid_snapshot", "'10:20:10,14,15'"),
            Samples("refcursor", "'c'"), Samples("aclitem", "'postgres=r*w/postgres'"),
            Samples("int2vector", "'1 2 -3'", "''", hasArray: false),
            Samples("oidvector", "'1 4294967295'", "''", hasArray: false),
        ]

        private static let xml = [Samples("xml", "'<a b=\"c\">d</a>'", "''")]

        private static let nested = [
            Samples(
                "int4[]", "'{}'", "'[0:2]={1,2,3}'", "'[-1:0][2:3]={{1,2},{3,NULL}}'",
                hasArray: false),
            Samples("text[]", "'{{{\"a\\\"b\",NULL},{\"NULL\",\"\"}}}'", hasArray: false),
            Samples("box[]", "'{(2,2),(1,1);(4,4),(3,3)}'", hasArray: false),
        ]

        /// Types of a service's own, in its own schema.
        private static let own = [
            Samples("kinds.mood", "'sad'", "'it''s \"ok\", (so)'"),
            Samples("kinds.\"Positive Int\"", "1", "2147483647"),
            Samples("kinds.pair", "'(1,\"a,b\")'", "'(,)'", "'(,\"\")'", "ROW(2, E'\\\\\\n\\t\"')"),
            Samples("kinds.span", "'[1.5,2.5]'", "'empty'"),
        ]

        private static let ownDefinitions = """
            CREATE SCHEMA kinds;
            CREATE TYPE kinds.mood AS ENUM ('sad', 'it''s "ok", (so)');
            CREATE DOMAIN kinds."Positive Int" AS int CHECK (VALUE > 0);
            CREATE TYPE kinds.pair AS (a int, "b c" text);
            CREATE TYPE kinds.span AS RANGE (subtype = float8);
            """

        /// The columns of a table that has every type once and, where there is one, its array type.
        private static func columns(of samples: [Samples]) -> [(type: String, values: [String])] {
            samples.flatMap { sample -> [(type: String, values: [String])] in
                let one = (type: sample.type, values: sample.values)
                guard sample.hasArray else { return [one] }
                let casts = sample.values.map { "(\($0))::\(sample.type)" }.joined(separator: ", ")
                let array = "\(sample.type)[]"
                return [
                    one,
                    (
                        array,
                        ["ARRAY[\(casts), NULL]::\(array)", "ARRAY[[\(casts)]]::\(array)", "'{}'"]
                    ),
                ]
            }
        }

        /// Creates the table `t` and, beside it, `rows` with what is put into it: each column's
        /// values, and nothing but NULL in the last.
        private func create(
            _ samples: [Samples], in database: TestDatabase
        ) throws -> (columns: [String], rows: Int) {
            let columns = Self.columns(of: samples)
            let definitions = columns.enumerated().map { "c\($0) \($1.type)" }
            let count = columns.map(\.values.count).max() ?? 0
            var sql =
                "CREATE TABLE t (id int PRIMARY KEY, \(definitions.joined(separator: ", ")));\n"
                + "CREATE TABLE rows (LIKE t);\n"
            for row in 0...count {
                let values = columns.map { row < $0.values.count ? $0.values[row] : "NULL" }
                sql += "INSERT INTO rows VALUES (\(row), \(values.joined(separator: ", ")));\n"
            }
            try database.sql(sql)
            return (columns.indices.map { "c\($0)" }, count + 1)
        }

        private static let builtIn =
            numbers + texts + times + ranges + shapes + catalogue + nested

        @Test(arguments: [PostgresVersion.debian15, .wheel18])
        func everyTypeArrivesAsItIs(from version: PostgresVersion) async throws {
            let source =
                try await version == .debian15
                ? TestDatabase.make()
                : TestDatabase(server: PostgresServer.start(version: version), name: "postgres")
            let copy = try await PostgresCopy.make(["public.t"], source: source)
            // The wheels are built without libxml.
            let samples = Self.builtIn + Self.own + (version == .debian15 ? Self.xml : [])
            try copy.both(Self.ownDefinitions)
            let (columns, count) = try create(samples, in: source)
            try expectComplete(in: source)
            let names = columns.joined(separator: ", ")
            func change(_ step: Int) -> String {
                """
                UPDATE t SET (\(names)) = (
                    SELECT \(names) FROM rows WHERE rows.id = (t.id + \(step)) % \(count));
                """
            }
            try copy.home.once()
            try copy.deliver("INSERT INTO t SELECT * FROM rows")
            try copy.expectEqual("t")
            for step in [1, 4] {
                try copy.deliver(change(step))
                try copy.expectEqual("t")
            }
            // As many that whatever is meant for many is used.
            try copy.deliver(
                """
                BEGIN;
                INSERT INTO t SELECT rows.id + \(count) * g, \(names)
                    FROM rows, generate_series(1, 60) g;
                \(change(3))
                DELETE FROM t WHERE id BETWEEN 100 AND 200;
                COMMIT
                """)
            try copy.expectEqual("t")
            try copy.expectEqual("(SELECT row_to_json(t)::text FROM t)")
            #expect(try copy.target.count("t") > 500)
            let texts = try copy.target.columns(of: "t").filter { $0.hasSuffix(" text") }
            #expect(texts == ["c\(Self.textColumn) text"], "every type is known there")
            #expect(try copy.home.figures().errors.isEmpty)
        }

        private static let textColumn =
            columns(of: builtIn).firstIndex { $0.type == "text" } ?? -1

        /// Every base, range and multirange type that a table's column can have is in `t`.
        private func expectComplete(in database: TestDatabase) throws {
            let missing = try database.sql(
                """
                SELECT string_agg(typname, ', ') FROM pg_type
                WHERE typtype IN ('b', 'r', 'm') AND typnamespace = 'pg_catalog'::regnamespace
                AND typcategory <> 'A' AND typtype <> 'p' AND oid < 10000
                AND typname NOT IN (
                    'xml', 'gtsvector', 'pg_node_tree', 'pg_ndistinct', 'pg_dependencies',
                    'pg_mcv_list', 'pg_brin_bloom_summary', 'pg_brin_minmax_multi_summary')
                AND oid NOT IN (
                    SELECT atttypid FROM pg_attribute WHERE attrelid = 't'::regclass AND attnum > 0)
                """)
            #expect(missing == "")
        }

        @Test func aTypeTheTargetLacksBecomesText() async throws {
            let copy = try await PostgresCopy.make(["public.t"])
            try copy.source.sql(Self.ownDefinitions)
            let (columns, count) = try create(Self.own, in: copy.source)
            let texts = columns.map { "\($0)::text" }.joined(separator: ", ")
            try copy.home.once()
            for size in [1, 100] {
                try copy.deliver(
                    """
                    TRUNCATE t;
                    INSERT INTO t SELECT id + \(count) * g, \(columns.joined(separator: ", "))
                    FROM rows, generate_series(1, \(size)) g
                    """)
                try copy.expectEqual("(SELECT id, \(texts) FROM t)", "t")
            }
            let types = try copy.target.columns(of: "t").dropFirst()
            // A domain is known by what it is made of.
            let expected = (0..<8).map { $0 == 2 ? "c2 integer" : "c\($0) text" }
            #expect(Array(types) == expected)
        }

        @Test func settingsOfTheServersChangeNothing() async throws {
            let copy = try await PostgresCopy.make(["public.t"])
            try copy.source.sql(
                """
                CREATE TABLE t (id int PRIMARY KEY, f float8, b bytea, d date, z timestamptz,
                    i interval, m money);
                ALTER DATABASE \(copy.source.name) SET datestyle = 'SQL, DMY';
                ALTER DATABASE \(copy.source.name) SET intervalstyle = 'iso_8601';
                ALTER DATABASE \(copy.source.name) SET bytea_output = 'escape';
                """)
            let name = copy.target.name
            try copy.target.sql(
                """
                ALTER DATABASE \(name) SET datestyle = 'German, MDY';
                ALTER DATABASE \(name) SET intervalstyle = 'sql_standard';
                ALTER DATABASE \(name) SET timezone = 'Asia/Yangon';
                ALTER DATABASE \(name) SET extra_float_digits = 0;
                ALTER DATABASE \(name) SET standard_conforming_strings = off;
                ALTER DATABASE \(name) SET client_encoding = 'LATIN1';
                ALTER DATABASE \(name) SET search_path = 'nowhere';
                ALTER DATABASE \(name) SET default_transaction_isolation = 'serializable';
                ALTER DATABASE \(name) SET statement_timeout = '20s';
                """)
            try copy.home.once()
            try copy.deliver(
                """
                INSERT INTO t SELECT g, 0.1 + 0.2, '\\x00ff5c27', date '2026-02-03' + g,
                    '2026-02-03 04:05:06.789+00', '-1 year 2 days -03:04:05', 12.34
                FROM generate_series(1, 400) g;
                UPDATE t SET b = b || '\\xe9'::bytea, d = '0044-03-04 BC' WHERE id = 1;
                """)
            let settings = """
                SET datestyle = 'ISO, MDY'; SET intervalstyle = 'postgres';
                SET bytea_output = 'hex';
                SET timezone = 'UTC'; SET extra_float_digits = 1; SET search_path = 'public';
                SELECT md5(string_agg(t::text, ',' ORDER BY id)) FROM t
                """
            #expect(try copy.source.sql(settings) == copy.target.sql(settings))
            #expect(try copy.target.count("public.t") == 400)
        }
    }
}
