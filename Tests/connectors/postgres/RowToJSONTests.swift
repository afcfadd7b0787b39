import Testing
import WeirCore
import WeirJSON
import WeirPostgresSource
import WeirTesting
import WeirValues

/// The server is the oracle: what Weir makes of a row's texts is, byte for byte, what the server's
/// own `row_to_json` makes of the row.
struct RowToJSONTests {
    @Test(arguments: PostgresVersion.allCases)
    func everyTypeLooksAsTheServerShowsIt(version: PostgresVersion) async throws {
        let server = try await PostgresServer.start(version: version)
        // The wheels are built without libxml.
        let tables = Self.tables + (version == .debian15 ? [Self.xml] : [])
        for (index, columns) in tables.enumerated() {
            let table = "public.t\(index)"
            let definitions = columns.enumerated().map { "c\($0) \($1.type)" }
            var sql = "CREATE TABLE \(table) (\(definitions.joined(separator: ", ")));\n"
            let longest = columns.map(\.values.count).max() ?? 0
            for row in 0..<longest {
                let values = columns.map { row < $0.values.count ? $0.values[row] : "NULL" }
                sql += "INSERT INTO \(table) VALUES (\(values.joined(separator: ", ")));\n"
            }
            _ = try server.psql(Self.settings + sql)
            let rows = try compare(table, on: server)
            #expect(rows == longest)
        }
    }

    /// Random texts in every shape of array, written by the server and read by us.
    @Test(arguments: [11, 12])
    func arraysOfHostileTextLookAsTheServerShowsThem(seed: Int) async throws {
        let server = try await PostgresServer.start()
        let pick = "substr(E'ab{},\"\\\\ N\\n\\t;\\'é😀', 1 + (random() * 14)::int, 1)"
        let text = "(SELECT coalesce(string_agg(\(pick), ''), '') FROM generate_series(1, n % 5))"
        _ = try server.psql(
            Self.settings + """
                CREATE TABLE public.t (c0 text[], c1 text[][], c2 json[], c3 varchar[]);
                SELECT setseed(0.\(seed));
                INSERT INTO public.t
                SELECT ARRAY[\(text), NULL, \(text)], ARRAY[[\(text)], [\(text)]],
                    ARRAY[to_json(\(text)), json_build_object(\(text), \(text))],
                    ('[0:1]=' || ARRAY[\(text), \(text)]::text)::varchar[]
                FROM generate_series(1, 2000) n;
                """
        )
        #expect(try compare("public.t", on: server) == 2000)
    }

    /// Compares all rows of a table and returns how many there were.
    private func compare(_ table: String, on server: PostgresServer) throws -> Int {
        let described = try server.psql(
            """
            SELECT attname, atttypid FROM pg_attribute
            WHERE attrelid = '\(table)'::regclass AND attnum > 0 ORDER BY attnum
            """
        )
        let columns = try described.split(separator: "\n").map { line in
            let fields = line.split(separator: "|")
            let oid = try #require(UInt32(fields[1]))
            return Column(name: String(fields[0]), type: try #require(builtinType(oid: oid)))
        }
        let hex = { (text: String) in "encode(convert_to(\(text), 'UTF8'), 'hex')" }
        // format('%s') calls the type's output function, as the walsender does; a cast to text is
        // something else for bool, bpchar and inet.
        let texts = columns.map { column in
            "CASE WHEN \(column.name) IS NULL THEN 'null' ELSE "
                + hex("format('%s', \(column.name))") + " END"
        }
        let answer = try server.psql(
            Self.settings
                + "SELECT \((texts + [hex("row_to_json(t)::text")]).joined(separator: ", "))"
                + " FROM \(table) t"
        )

        let schema = TableSchema(
            version: 1,
            database: "postgres",
            schema: "public",
            name: "t",
            columns: columns,
            key: []
        )
        var encoder = LineEncoder(
            format: .row,
            sourceKind: "postgres",
            sourceName: "test", notation: .numbers,
            routing: Routing()
        )
        var writer = JSONWriter()
        let rows = answer.split(separator: "\n")
        for row in rows {
            let fields = row.split(separator: "|", omittingEmptySubsequences: false)
            try #require(fields.count == columns.count + 1)
            writer.removeAll()
            let batch = try batch(of: fields.dropLast(), schema)
            _ = try encoder.encode(batch, into: &writer)
            let line = unsafe writer.withBytes { unsafe String(decoding: $0, as: UTF8.self) }
            let expected = try String(decoding: bytes(hex: fields[columns.count]), as: UTF8.self)
            #expect(line == expected + "\n")
        }
        return rows.count
    }

    private func batch(of fields: [Substring].SubSequence, _ schema: TableSchema) throws
        -> EventBatch
    {
        var builder = BatchBuilder(reusing: EventBatch(), eventLimit: 1, byteLimit: 1 << 20)
        let table = builder.table(schema)
        for field in fields {
            if field == "null" {
                builder.append(.null)
                continue
            }
            let bytes = try bytes(hex: field)
            let start = unsafe bytes.withUnsafeBytes { unsafe builder.append($0) }
            builder.append(Value(form: .text, bytes: Slice(start: start, count: bytes.count)))
        }
        builder.append(
            Event(
                operation: .insert,
                table: table,
                commit: 0,
                ordinal: 0,
                transaction: 0,
                change: 0,
                commitMicros: 0,
                after: Slice(start: 0, count: builder.valueCount)
            )
        )
        return builder.seal(resume: nil, end: nil)
    }

    private func bytes(hex: Substring) throws -> [UInt8] {
        let digits = try hex.utf8.map { try #require(Character(UnicodeScalar($0)).hexDigitValue) }
        return stride(from: 0, to: digits.count, by: 2).map {
            UInt8(digits[$0] << 4 | digits[$0 + 1])
        }
    }

    /// CORRECTNESS 14: what every connection of ours sets.
    private static let settings = """
        SET DateStyle = ISO; SET IntervalStyle = postgres; SET TimeZone = 'UTC';
        SET extra_float_digits = 3; SET bytea_output = hex; SET search_path = '';
        SET client_encoding = UTF8; SET lc_monetary = 'C';

        """

    private struct TestColumn {
        let type: String
        let values: [String]

        init(_ type: String, _ values: String...) {
            self.type = type
            self.values = values
        }
    }

    private static let tables = [
        numbers, texts, times, arrays, ranges + geometry, networks + search, systemTypes,
    ]

    private static let numbers = [
        TestColumn("int2", "-32768", "0", "32767"), TestColumn("int4", "-2147483648", "2147483647"),
        TestColumn("int8", "-9223372036854775808", "9007199254740993"),
        TestColumn(
            "float4",
            "'NaN'",
            "'Infinity'",
            "'-Infinity'",
            "'-0'",
            "1.1",
            "1e-40",
            "3.4028235e38"
        ),
        TestColumn(
            "float8",
            "'NaN'",
            "'Infinity'",
            "'-Infinity'",
            "'-0'",
            "0.1",
            "1e100",
            "5e-324",
            "1.7976931348623157e308"
        ),
        TestColumn(
            "numeric",
            "'NaN'",
            "'Infinity'",
            "'-Infinity'",
            "1.500",
            "0.000",
            "-0.0",
            "repeat('9', 1000)::numeric",
            "('0.' || repeat('1', 1000))::numeric",
            "1e100",
            "1e-50"
        ),
        TestColumn("numeric(10, 2)", "1", "-12345678.9"), TestColumn("numeric(3, -2)", "12345"),
        TestColumn("money", "'1234.5'", "'-0.01'"), TestColumn("bool", "true", "false"),
        TestColumn("oid", "4294967295"), TestColumn("xid", "'4294967295'"),
        TestColumn("cid", "'7'"), TestColumn("xid8", "'18446744073709551615'"),
        TestColumn("tid", "'(1,2)'"), TestColumn("pg_lsn", "'16/B374D848'"),
    ]

    private static let texts = [
        TestColumn(
            "text",
            "''",
            "E'a\"b\\\\c/\\n\\r\\t\\b\\f\\x01\\x1f\\x7f'",
            "'é😀\u{2028}'",
            "'NULL'",
            "repeat('ab', 5000)"
        ),
        TestColumn("varchar(5)", "'a b'"), TestColumn("char(5)", "'ab'", "''"),
        TestColumn("\"char\"", "'a'", "''", "'\"'"), TestColumn("name", "'Some \"Name\"'"),
        TestColumn("bytea", "'\\x'", "'\\x00ff0a'"),
        TestColumn("uuid", "'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'"),
        TestColumn(
            "json",
            "'{\"b\" : 1, \"a\":[1,  2],\"b\":\"\\u00e9\"}'",
            "'null'",
            "'1e400'",
            "' \"x\" '"
        ),
        TestColumn(
            "jsonb",
            "'{\"b\": 1, \"a\": [1, 2.50], \"b\": 2}'",
            "'null'",
            "'1e400'",
            "'123456789012345678901234567890.10'"
        ),
        TestColumn("bit(3)", "B'101'"),
        TestColumn("varbit", "B''", "B'1'"), TestColumn("jsonpath", "'$.\"a\" ? (@ > 1)'"),
    ]

    private static let xml = [
        TestColumn("xml", "'<a b=\"c\">d</a>'", "''"),
        TestColumn("xml[]", "ARRAY['<a b=\"c\"/>'::xml]"),
    ]

    private static let times = [
        TestColumn(
            "timestamp",
            "'infinity'",
            "'-infinity'",
            "'0044-03-15 12:00 BC'",
            "'294276-12-31 23:59:59.999999'",
            "'2026-01-31 09:00'",
            "'2026-01-31 09:00:00.120'",
            "'0001-01-01'"
        ),
        TestColumn(
            "timestamptz",
            "'infinity'",
            "'-infinity'",
            "'0044-03-15 12:00+00 BC'",
            "'294276-12-31 23:59:59.999999+00'",
            "'2026-01-31 09:00+05:30'",
            "'1880-01-01 00:00 Europe/Paris'"
        ),
        TestColumn("timestamp(0)", "'2026-01-31 09:00:00.9'"),
        TestColumn(
            "date",
            "'infinity'",
            "'-infinity'",
            "'0044-03-15 BC'",
            "'5874897-12-31'",
            "'2026-01-31'"
        ),
        TestColumn("time", "'24:00:00'", "'00:00:00.000001'"),
        TestColumn("timetz", "'09:00:00+01:23:45'", "'09:00:00-08'"),
        TestColumn(
            "interval",
            "'1 year 2 mons -3 days 04:05:06.789'",
            "'0'",
            "'-1 mons +1 day -00:00:01'",
            "'1000 hours'"
        ),
    ]

    private static let arrays = [
        TestColumn(
            "int4[]",
            "'{}'",
            "'{1,NULL,3}'",
            "'{{1,2},{3,4}}'",
            "'[0:2]={1,2,3}'",
            "'[-1:0][2:3]={{1,2},{3,NULL}}'",
            "'{{{{{{1}}}}}}'"
        ),
        TestColumn("int8[]", "'{9007199254740993}'"), TestColumn("bool[]", "'{t,f,NULL}'"),
        TestColumn("float8[]", "'{NaN,Infinity,-Infinity,-0,1e100}'"),
        TestColumn("numeric[]", "'{NaN,1.50,-Infinity}'"),
        TestColumn(
            "text[]",
            "'{NULL,\"NULL\",null,\"null\"}'",
            "'{\"\",\" \",\"a b\",\"{}\",\"a,b\"}'",
            "ARRAY[E'a\"b', E'\\\\', E'\\n\\t\\x01', 'é😀']",
            "'[5:6]={a,b}'",
            "'{}'"
        ),
        TestColumn("varchar(3)[]", "'{abc,\"x y\"}'"), TestColumn("char(3)[]", "'{a,\"b\"}'"),
        TestColumn("bytea[]", "ARRAY['\\x00ff'::bytea, '\\x'::bytea, NULL]"),
        TestColumn(
            "json[]",
            "ARRAY['{\"a\": \"x\\\\y\"}'::json, 'null', NULL, '[1,  2]', '\"a\"']"
        ),
        TestColumn("jsonb[]", "ARRAY['{\"a\": {\"b\": []}}'::jsonb, '1.50', 'null']"),
        TestColumn("date[]", "'{2026-01-31,infinity,\"0044-03-15 BC\"}'"),
        TestColumn("timestamp[]", "'{2026-01-31,infinity,\"0044-03-15 12:00 BC\"}'"),
        TestColumn("timestamptz[]", "'{2026-01-31 09:00+01,-infinity}'"),
        TestColumn("interval[]", "'{1 day,\"-1 mons 02:00\"}'"), TestColumn("time[]", "'{09:00}'"),
        TestColumn("uuid[]", "'{a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11}'"),
        TestColumn("box[]", "'{(2,2),(1,1);(4,4),(3,3)}'", "'{}'", "'[0:0]={(2,2),(1,1)}'"),
        TestColumn("point[]", "'{\"(1,2)\",\"(NaN,Infinity)\"}'"),
        TestColumn("int4range[]", "ARRAY['[1,2)'::int4range, 'empty']"),
        TestColumn("int4multirange[]", "ARRAY['{[1,2),[5,)}'::int4multirange]"),
        TestColumn("inet[]", "'{10.0.0.1/8,::1}'"), TestColumn("\"char\"[]", "'{a,\"\",\"\\\"\"}'"),
        TestColumn("name[]", "'{a,\"b c\"}'"), TestColumn("oid[]", "'{1,2}'"),
        TestColumn("int2vector", "'1 2 -3'", "''"), TestColumn("oidvector", "'1 4294967295'", "''"),
        TestColumn("bit(2)[]", "'{10,01}'"),
        TestColumn("tsvector[]", "ARRAY['''a b'':1 c'::tsvector]"),
        TestColumn("money[]", "'{\"$1,234.50\"}'"), TestColumn("xid8[]", "'{1}'"),
    ]

    private static let ranges = [
        TestColumn("int4range", "'[1,5]'", "'empty'", "'(,)'", "'[1,)'"),
        TestColumn("int8range", "'[1,5]'"), TestColumn("numrange", "'(1.0,2.50]'"),
        TestColumn("tsrange", "'[2026-01-01,infinity)'"),
        TestColumn("tstzrange", "'[2026-01-01 00:00+01,)'"),
        TestColumn("daterange", "'[2026-01-01,2026-02-01)'"),
        TestColumn("int4multirange", "'{}'", "'{[1,2),[5,6)}'"),
        TestColumn("tstzmultirange", "'{[2026-01-01,2026-01-02)}'"),
        TestColumn("nummultirange", "'{[1.5,2.5]}'"),
    ]

    private static let geometry = [
        TestColumn("point", "'(1,2)'", "'(NaN,-Infinity)'", "'(0.1,1e300)'"),
        TestColumn("line", "'{1,2,3}'"), TestColumn("lseg", "'[(0,0),(1,1)]'"),
        TestColumn("box", "'(2,2),(1,1)'"),
        TestColumn("path", "'[(0,0),(1,1)]'", "'((0,0),(1,1))'"),
        TestColumn("polygon", "'((0,0),(1,1),(1,0))'"), TestColumn("circle", "'<(0,0),1.5>'"),
    ]

    private static let networks = [
        TestColumn("inet", "'192.168.0.1'", "'192.168.0.1/24'", "'::ffff:1.2.3.4/96'"),
        TestColumn("cidr", "'10.0.0.0/8'", "'::/0'"), TestColumn("macaddr", "'08:00:2b:01:02:03'"),
        TestColumn("macaddr8", "'08:00:2b:01:02:03:04:05'"),
    ]

    private static let search = [
        TestColumn("tsvector", "$$'it''s':1A 'a b':2 'back\\\\slash':3 plain$$"),
        TestColumn("tsquery", "'fat & (rat | !cat)'"),
    ]

    private static let systemTypes = [
        TestColumn("regclass", "'pg_catalog.pg_class'"), TestColumn("regtype", "'int4'"),
        TestColumn("regproc", "'pg_catalog.now'"), TestColumn("regrole", "'postgres'"),
        TestColumn("regnamespace", "'pg_catalog'"), TestColumn("regconfig", "'pg_catalog.simple'"),
        TestColumn("regoperator", "'pg_catalog.+(int4,int4)'"),
        TestColumn("pg_snapshot", "'10:20:10,14,15'"), TestColumn("refcursor", "'c'"),
        TestColumn("aclitem", "'postgres=r/postgres'"),
        TestColumn("aclitem[]", "'{postgres=rw/postgres}'"),
        TestColumn("regclass[]", "'{pg_catalog.pg_class}'"),
    ]
}
