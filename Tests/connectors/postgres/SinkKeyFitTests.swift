import Testing
import WeirCore
import WeirPostgresClient
import WeirPostgresSource
import WeirTesting

@testable import WeirPostgresSink

/// Keys of the source that differ stay different rows of the target, or the pipeline does not
/// start.
struct SinkKeyFitTests {
    /// A key column of the source, the target's, and two keys that would be one there.
    struct Case: Sendable, CustomStringConvertible {
        let source: String
        var declared: String?
        let target: String
        let keys: [String]
        var severity: Finding.Severity? = .blocking
        var more = ""

        var description: String { "\(declared ?? source) to \(target)" }

        init(
            _ source: String, _ declared: String? = nil, to target: String, _ keys: [String],
            _ severity: Finding.Severity? = .blocking, more: String = ""
        ) {
            self.source = source
            self.declared = declared
            self.target = target
            self.keys = keys
            self.severity = severity
            self.more = more
        }
    }

    private static let long = String(repeating: "k", count: 63)

    private static let cases: [Case] = [
        Case("text", to: "citext", ["a", "A"]),
        Case("text", to: "folded", ["a", "A"]),
        Case("text[]", to: "citext[]", ["{a}", "{A}"]),
        Case("varchar", "character varying(9)", to: #"text COLLATE loose"#, ["a", "A"]),
        Case(
            "text", to: "text", ["a", "A"],
            more: "ALTER TABLE items DROP CONSTRAINT items_pkey; "
                + "CREATE UNIQUE INDEX \"a Loose\" ON items (id COLLATE loose);"),
        Case("text", to: "char(5)", ["a", "a "]),
        Case("text", to: "varchar(1)", ["a", "a "], .warning),
        Case("text", to: "name", [long + "a", long + "b"]),
        Case("text", to: "\"char\"", ["ab", "ac"]),
        Case("text", to: "int", ["1", "01"], .warning),
        Case(
            "text", to: "uuid",
            [
                "aaaaaaaa-aaaa-aaaa-aaaa-aaaaaaaaaaaa", "AAAAAAAA-AAAA-AAAA-AAAA-AAAAAAAAAAAA",
            ], .warning),
        Case(
            "timestamptz", "timestamp with time zone", to: "timestamptz(0)",
            [
                "2026-01-01 00:00:00.1+00", "2026-01-01 00:00:00.2+00",
            ]),
        Case(
            "timestamp", "timestamp(6) without time zone", to: "timestamp(3)",
            [
                "2026-01-01 00:00:00.1001", "2026-01-01 00:00:00.1002",
            ]),
        Case(
            "timestamp", "timestamp without time zone", to: "date",
            [
                "2026-01-01 00:00:01", "2026-01-01 00:00:02",
            ]),
        Case("time", "time without time zone", to: "time(0)", ["00:00:00.1", "00:00:00.2"]),
        Case("numeric", to: "numeric(10,0)", ["1.1", "1.2"]),
        Case("numeric", "numeric(8,3)", to: "numeric(10,2)", ["1.111", "1.112"]),
        Case("float8", "double precision", to: "real", ["1.00000001", "1.00000002"]),
        Case("int8", "bigint", to: "float8", ["9007199254740993", "9007199254740992"]),
        Case("numeric", "numeric(5,2)", to: "numeric(10,2)", ["1.11", "1.12"], nil),
        Case("int8", "bigint", to: "text", ["1", "2"], nil),
        Case("int4", "integer", to: "bigint", ["1", "2"], nil),
        Case("citext", "citext", to: "citext", ["a", "b"], nil),
        Case("bpchar", "character(5)", to: "char(5)", ["a", "b"], nil),
        Case(
            "uuid", to: "citext",
            [
                "aaaaaaaa-aaaa-aaaa-aaaa-aaaaaaaaaaaa", "aaaaaaaa-aaaa-aaaa-aaaa-aaaaaaaaaaab",
            ], nil),
        Case(
            "timestamp", "timestamp(0) without time zone", to: "timestamp(0)",
            [
                "2026-01-01 00:00:01", "2026-01-01 00:00:02",
            ], nil),
    ]

    /// Each is found at the start; what the hint says was run, both rows are there.
    @Test func keysThatWouldMeetAreRefusedAndTheHintKeepsThemApart() async throws {
        let database = try await TestDatabase(
            """
            CREATE EXTENSION citext; CREATE DOMAIN folded AS citext;
            CREATE COLLATION loose (provider = icu, locale = 'und-u-ks-level2',
                deterministic = false);
            """)
        for (number, item) in Self.cases.enumerated() {
            try database.run(
                """
                DROP TABLE IF EXISTS items, weir_position;
                CREATE TABLE items (id \(item.target) PRIMARY KEY, v text); \(item.more)
                """)
            try await expect(item, number, database)
        }
    }

    private func expect(_ item: Case, _ number: Int, _ database: TestDatabase) async throws {
        let isArray = item.source.hasSuffix("[]")
        let name = isArray ? "_" + item.source.dropLast(2) : item.source
        let schema = TableSchema(
            version: UInt32(number), database: "shop", schema: "public", name: "items",
            columns: [
                Column(
                    name: "id",
                    type: ColumnType(
                        .text, array: isArray ? .literal(delimiter: 0x2C) : .scalar, name: name),
                    declaredType: item.declared ?? item.source),
                SinkCheckTests.column("v", "text"),
            ], key: [0])
        let sink = try SinkHarness(database).sink()
        let mark = try await sink.open(at: nil)
        var found = try await sink.check([schema])
        let finding = found.first { $0.code == .keysMeet }
        #expect(finding?.severity == item.severity, "\(item): \(found)")
        if let finding {
            #expect(finding.subject == "public.items.id")
            // Whatever comes next is told at the next start.
            for _ in 1...3 {
                guard
                    let next = found.first(where: { $0.code == .keysMeet })
                        ?? found.first(where: { $0.severity == .blocking })
                else { break }
                let sql = statements(in: next.hint)
                #expect(sql.hasSuffix(";"), "\(item): \(next.hint ?? "no hint")")
                try database.run(sql)
                _ = try await sink.open(at: mark)
                found = try await sink.check([schema])
            }
            #expect(found == [], "\(item)")
        }
        try await sink.write(
            item.keys.map { .insert([Field($0), "v"]) }, of: schema, commit: 16)
        #expect(try database.run("SELECT count(*) FROM items") == "2", "\(item)")
        await sink.close()
    }

    /// A source whose own keys are as loose loses nothing there.
    @Test func whatIsOneKeyAtBothEndsIsNoFault() async throws {
        let database = try await TestDatabase(
            """
            CREATE COLLATION loose (provider = icu, locale = 'und-u-ks-level2',
                deterministic = false);
            CREATE TABLE items (id text COLLATE loose PRIMARY KEY);
            """)
        let source = try await SourceHarness.open(database, tables: ["items"])
        let schemas = try await source.source.tables()
        #expect(schemas.first?.columns.map(\.isLoose) == [true])
        let sink = try SinkHarness(database).sink()
        _ = try await sink.open(at: nil)
        #expect(try await sink.check(schemas) == [])
        await sink.close()
    }
}
