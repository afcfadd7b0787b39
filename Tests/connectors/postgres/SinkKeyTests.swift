import Testing
import WeirCore
import WeirPostgresClient
import WeirTesting

@testable import WeirPostgresSink

/// Rows are found by keys of any type, by the key's index, though the search path is empty.
struct SinkKeyTests {
    private static let types = """
        CREATE SCHEMA "Ext 1";
        CREATE EXTENSION citext SCHEMA "Ext 1"; CREATE EXTENSION ltree SCHEMA "Ext 1";
        CREATE EXTENSION hstore SCHEMA "Ext 1"; CREATE EXTENSION isn SCHEMA "Ext 1";
        CREATE EXTENSION cube SCHEMA "Ext 1"; CREATE EXTENSION seg SCHEMA "Ext 1";
        CREATE TYPE "Ext 1".pair AS (a int, b text);
        CREATE DOMAIN "Ext 1".pairs AS "Ext 1".pair;
        CREATE DOMAIN "Ext 1".code AS varchar(9) CHECK (value <> '');
        """

    /// A type, and its value of a number.
    private static let keys: [(type: String, text: @Sendable (Int) -> String)] = [
        (#""Ext 1".pair"#, { "(\($0),x)" }), (#""Ext 1".pairs"#, { "(\($0),x)" }),
        (#""Ext 1".code"#, { "c\($0)" }), (#""Ext 1".ltree"#, { "a.b\($0)" }),
        (#""Ext 1".hstore"#, { #""a"=>"\#($0)""# }), (#""Ext 1".cube"#, { "(\($0), 2)" }),
        (#""Ext 1".seg"#, { "\($0) .. 1000000" }), (#""Ext 1".citext"#, { "Key\($0)" }),
        (#""Ext 1".isbn13"#, { isbn($0) }), ("regclass", { "\(900_000 + $0)" }),
        ("regtype", { "\(900_000 + $0)" }), ("regrole", { "\(900_000 + $0)" }),
        ("regproc", { "\(900_000 + $0)" }), ("regconfig", { "\(900_000 + $0)" }),
        ("oid", { "\($0)" }), ("int8", { "\($0)" }), ("numeric(9,2)", { "\($0).50" }),
        ("character(8)", { "k\($0)" }), ("varchar(8)", { "k\($0)" }), ("name", { "k\($0)" }),
        (#""char""#, { String(UnicodeScalar(UInt8(33 + $0))) }),
        ("bytea", { "\\x0\($0 % 10)0\($0 / 10)" }),
        ("uuid", { "00000000-0000-0000-0000-0000000000\(10 + $0)" }), ("int4[]", { "{\($0),1}" }),
        ("int4range", { "[\($0),1000)" }), ("inet", { "10.0.0.\($0)" }), ("bit(8)", { bits($0) }),
        ("timestamptz", { "2026-01-01 00:00:\(10 + $0 % 50)+0\($0 / 50)" }),
    ]

    /// As the source names a declared type.
    private static func name(of type: String) -> String {
        let name = String(type.prefix { $0 != "(" }).replacing("\"", with: "")
        return name == "character" ? "bpchar" : name
    }

    private static func isbn(_ number: Int) -> String {
        let digits = Array("978\(100_000_000 + number)").compactMap(\.wholeNumberValue)
        let sum = digits.enumerated().reduce(0) { $0 + $1.element * ($1.offset % 2 == 0 ? 1 : 3) }
        return digits.map(String.init).joined() + "\((10 - sum % 10) % 10)"
    }

    private static func bits(_ number: Int) -> String {
        let text = String(number, radix: 2)
        return String(repeating: "0", count: 8 - text.count) + text
    }

    /// CORRECTNESS 85: one by one and as sets.
    @Test func rowsAreFoundByKeysOfAnyType() async throws {
        let database = try await TestDatabase(Self.types)
        for (number, key) in Self.keys.enumerated() {
            let name = "t\(number)"
            try database.run("CREATE TABLE \(name) (k \(key.type) PRIMARY KEY, v text)")
            let schema = TableSchema(
                version: UInt32(number + 1), database: "shop", schema: "public", name: name,
                columns: [
                    Column(
                        name: "k", type: ColumnType(.text, name: Self.name(of: key.type)),
                        declaredType: key.type),
                    SinkCheckTests.column("v", "text"),
                ], key: [0])
            let sink = try SinkHarness(database).sink(
                ["position_table": .table(TableName(schema: "public", name: "p\(number)"))],
                tables: ["public.\(name)"])
            _ = try await sink.open(at: nil)
            for (step, count) in [3, 60].enumerated() {
                let commit = UInt64(64 * (step + 1))
                let texts = (1...count).map { Field(key.text($0)) }
                try await sink.write(texts.map { .insert([$0, "a"]) }, of: schema, commit: commit)
                try await sink.write(
                    texts.map { .update([$0, "b"]) }, of: schema, commit: commit + 16)
                #expect(
                    try database.run("SELECT count(*) FROM \(name) WHERE v = 'b'") == "\(count)",
                    "\(key.type)")
                try await sink.write(
                    texts.dropFirst().map { .delete([$0, nil]) }, of: schema, commit: commit + 32)
                #expect(try database.run("SELECT count(*) FROM \(name)") == "1", "\(key.type)")
                try await sink.write(
                    [.update([Field(key.text(2)), .unchanged], from: [texts[0], nil])], of: schema,
                    commit: commit + 40)
                try await sink.write(
                    [.delete([Field(key.text(2)), nil])], of: schema, commit: commit + 48)
                #expect(try database.run("SELECT count(*) FROM \(name)") == "0", "\(key.type)")
            }
            await sink.close()
        }
    }

    /// CORRECTNESS 85: the plans of the sink's own statements, as its session makes them.
    @Test func theIndexIsUsed() async throws {
        let database = try await TestDatabase(
            Self.types + """
                CREATE TABLE items (id "Ext 1".citext PRIMARY KEY, v text);
                INSERT INTO items SELECT 'Key' || n, 'v' FROM generate_series(1, 20000) n;
                ANALYZE items;
                """)
        let url = database.server.url(database: database.name)
        let config = try SinkHarness.config(url: url)
        let connection = try PostgresConnection(config.connection, mode: .sink, name: "test")
        let session = try TargetSession(
            connection, PositionSQL(table: config.positionTable, pipeline: "p", sink: "s"))
        _ = try session.readPosition()
        let schema = TableSchema.test("items", version: 1, ["id citext", "v"], key: [0])
        let plan = try #require(
            try PlanMaker(
                config: config, session: session, number: 1, hasPosition: false,
                reports: CollectedReports(), log: { _, _ in }
            ).plan(schema)?.plan)
        func explain(_ sql: String) throws -> String {
            try connection.query("EXPLAIN \(sql)").compactMap { $0[0] }.joined(separator: "\n")
        }
        for (name, sql, values) in [
            ("d", plan.delete, "'key7'"), ("m", plan.move, "'key7', 'key7', 'w'"),
            ("p", plan.update([1]), "'key7', 'w'"),
        ] {
            _ = try connection.query("PREPARE \(name) AS \(sql)")
            let lines = try explain("EXECUTE \(name)(\(values))")
            #expect(
                lines.contains("items_pkey") && !lines.contains("Seq Scan on items"), "\(lines)")
            _ = try connection.query("EXECUTE \(name)(\(values))")
        }
        // Letters of either case are one key.
        #expect(
            try database.run(
                "SELECT string_agg(id::text || v, ' ') FROM items WHERE lower(id::text) = 'key7'")
                == "key7w")
        _ = try connection.query(plan.createStages.joined(separator: "; "))
        for sql in [plan.deleteGone, plan.update(staged: [0, 1]) ?? ""] {
            let lines = try explain(sql)
            #expect(
                lines.contains("items_pkey") && !lines.contains("Seq Scan on items"), "\(lines)")
        }
    }

    /// A condition does not cut a key to the length of the target's.
    @Test(arguments: [1, 60])
    func aKeyThatIsTooLongForTheTargetIsNotAnother(count: Int) async throws {
        let database = try await TestDatabase("CREATE TABLE items (id varchar(3) PRIMARY KEY)")
        let sink = try SinkHarness(database).sink()
        _ = try await sink.open(at: nil)
        let schema = TableSchema.test("items", version: 2, ["id"], key: [0])
        try await sink.write([.insert(["abc"])], of: schema, commit: 16)
        try await sink.write(
            (1...count).map { .delete([Field("abc\($0)")]) }, of: schema, commit: 32)
        #expect(try database.run("SELECT id FROM items") == "abc")
        await sink.close()
    }

    // MARK: No columns

    /// A table without columns, and one whose columns the target has none of.
    @Test(arguments: [[], ["other"]])
    func rowsOfNoColumnsAreCounted(columns: [String]) async throws {
        let database = try await TestDatabase(
            "CREATE TABLE items (\(columns.isEmpty ? "" : "n int DEFAULT 7"))")
        let sink = try SinkHarness(database).sink()
        _ = try await sink.open(at: nil)
        let schema = TableSchema.test(
            "items", version: 3, columns, key: Array(columns.indices), isKeyUnique: false)
        let row = columns.map { _ in Field("x") }
        try await sink.write([.insert(row)], of: schema, commit: 16)
        try await sink.write(
            [RowChange](repeating: .insert(row), count: 100), of: schema, commit: 32)
        #expect(try database.run("SELECT count(*) FROM items") == "101")
        try await sink.write(
            [RowChange](repeating: .delete(row), count: 60), of: schema, commit: 48)
        #expect(try database.run("SELECT count(*) FROM items") == "41")
        await sink.close()
    }

    /// A source that names no key sends no change of a row; one that does is refused, and no row of
    /// the target is touched.
    @Test func aChangeWithoutAKeyIsRefused() async throws {
        let database = try await TestDatabase()
        let sink = try SinkHarness(database).sink()
        _ = try await sink.open(at: nil)
        let schema = TableSchema.test(
            "items", version: 4, ["id int4"], key: [], isKeyUnique: false)
        try await sink.write([.insert([1]), .insert([2])], of: schema, commit: 16)
        let error = await #expect(throws: WeirError.self) {
            try await sink.write([.delete([1])], of: schema, commit: 32)
        }
        #expect(error?.code == .rowRefused && error?.disposition == .rejected)
        #expect(error?.message.contains("nothing tells the table's rows apart") == true)
        #expect(try database.run("SELECT count(*) FROM items") == "2")
        await sink.close()
    }
}
