import Testing
import WeirCore
import WeirPostgresClient
import WeirTesting

@testable import WeirPostgresSink

/// How the target's catalogue is read: of many tables at once, and inside of a transaction.
struct SinkCatalogueTests {
    private static let items = TableSchema.test("items", version: 31, ["id int4", "v"], key: [0])

    // MARK: Many tables

    private static func table(_ number: Int) -> TableSchema {
        .test("t\(number)", version: UInt32(number), ["id int4", "v", "w"], key: [0])
    }

    /// Transactions since the last call; each statement of a check is one.
    private func statements(_ database: TestDatabase, _ tables: ClosedRange<Int>) async throws
        -> (count: Int, findings: [Finding])
    {
        let before = try count(database)
        let sink = try SinkHarness(database).sink(
            ["on_new_column": .string("add")], tables: tables.map { "public.t\($0)" })
        _ = try await sink.open(at: nil)
        let findings = try await sink.check(tables.map(Self.table))
        await sink.close()
        // A session's counts are added when it ends.
        try await eventually("the session has ended") {
            try database.server.psql(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = '\(database.name)'") == "0"
        }
        return (try count(database) - before, findings)
    }

    private func count(_ database: TestDatabase) throws -> Int {
        let text = try database.server.psql(
            "SELECT xact_commit FROM pg_stat_database WHERE datname = '\(database.name)'")
        return Int(text) ?? 0
    }

    @Test func manyTablesAreCheckedWithFewStatements() async throws {
        let database = try await TestDatabase(
            """
            DO $$ BEGIN FOR i IN 1..500 LOOP
                EXECUTE format('CREATE TABLE t%s (id int PRIMARY KEY, v text)', i);
            END LOOP; END $$;
            ALTER TABLE t7 DROP CONSTRAINT t7_pkey; ALTER TABLE t444 ADD must int NOT NULL;
            DROP TABLE t99; DROP TABLE t120; CREATE VIEW t120 AS SELECT 1 AS id;
            """)
        let one = try await statements(database, 1...1)
        let all = try await statements(database, 1...500)
        #expect(one.count > 10 && all.count < 250, "\(one.count) for one, \(all.count) for 500")
        #expect(
            all.findings.map { "\($0.code) \($0.subject)" } == [
                "postgres.no_unique_index public.t7", "postgres.target_unfit public.t120",
                "postgres.column_unfilled public.t444.must",
            ])
    }

    /// Each answer goes to its own table.
    @Test func tablesThatAreLookedAtTogetherAreWhatTheyAreAlone() async throws {
        let database = try await TestDatabase(
            """
            CREATE TABLE parents (id int PRIMARY KEY);
            CREATE TABLE children (a int, "B c" numeric(4,1), id int REFERENCES parents
                ON DELETE CASCADE, UNIQUE (a, "B c"), UNIQUE (id) DEFERRABLE);
            CREATE TABLE empty ();
            CREATE TABLE parts (at date, id serial) PARTITION BY LIST (at, id);
            CREATE TABLE gone (a int, b int, c int); ALTER TABLE gone DROP COLUMN b;
            CREATE TABLE ruled (id int);
            CREATE RULE r AS ON DELETE TO ruled DO INSTEAD NOTHING;
            """
            .replacing("LIST (at, id)", with: "RANGE (at, id)"))
        let alone = TargetCatalogue(connection: try database.connect())
        var together = alone
        let names = ["parts", "empty", "missing", "children", "gone", "parents", "ruled"].map {
            TableName(schema: "public", name: $0)
        }
        together.together = TargetCatalogue.Together(names)
        for name in names {
            let table = try alone.table(name)
            #expect(try together.table(name) == table)
            #expect((table == nil) == (name.name == "missing"))
            guard let table else { continue }
            #expect(try together.rights(table) == alone.rights(table))
        }
        #expect(try together.known(["integer", "no.such"]) == alone.known(["integer"]))
        #expect(try together.known(["text", "integer"]) == alone.known(["text", "integer"]))
    }

    // MARK: Inside of a transaction

    /// A new table in the second part of a long transaction, with a type that the target refuses to
    /// understand: what was written before is not lost for it.
    @Test func aTypeThatIsNoneDoesNotEndTheTransaction() async throws {
        let database = try await TestDatabase("CREATE TABLE items (id int PRIMARY KEY, v text)")
        let harness = SinkHarness(database)
        let sink = try harness.sink(tables: ["public.items", "public.others"])
        let mark = try await sink.open(at: nil)
        #expect(mark != nil)
        let others = TableSchema(
            version: 32, database: "shop", schema: "public", name: "others",
            columns: [
                SinkCheckTests.column("id", "int4", "integer", .integer, isNotNull: true),
                SinkCheckTests.column("v", "varchar", "character varying(0)"),
                SinkCheckTests.column("w", "bool", "boolean"),
            ], key: [0])
        var first = RowBatch()
        first.add(.insert([1, "v"]), to: Self.items, commit: 16, ordinal: 0)
        _ = try await sink.write([first.seal(resume: nil)])
        #expect(try database.run("SELECT count(*) FROM items") == "0")
        var rest = RowBatch()
        rest.add(.insert([1, "long", "t"]), to: others, commit: 16, ordinal: 1)
        _ = try await sink.write([rest.seal(resume: Position(high: 24))])
        #expect(try database.run("SELECT id, v FROM items") == "1|v")
        #expect(try database.run("SELECT id, v, w FROM others") == "1|long|t")
        #expect(
            try database.run(
                "SELECT string_agg(format_type(atttypid, atttypmod), ' ' ORDER BY attnum) "
                    + "FROM pg_attribute WHERE attrelid = 'others'::regclass AND attnum > 0")
                == "integer character varying boolean")
        #expect(harness.reports.findings.map(\.subject) == ["public.others.v"])
        await sink.close()
    }

    // MARK: Rights

    private static let update: [String: ConfigValue] = [
        "operations": .list([.string("insert"), .string("update")])
    ]

    /// Without deletes the right to delete is of use now and then; it is no reason not to start.
    @Test func aSinkWithoutDeletesStartsWithoutTheRight() async throws {
        let database = try await TestDatabase("CREATE TABLE items (id int PRIMARY KEY, v text)")
        let role = "clerk_\(database.name)"
        try database.run(
            "CREATE ROLE \(role) LOGIN; GRANT CREATE ON SCHEMA public TO \(role); "
                + "GRANT SELECT, INSERT, UPDATE ON items TO \(role)")
        let sink = try SinkHarness(database).sink(Self.update, user: role)
        _ = try await sink.open(at: nil)
        let findings = try await sink.check([Self.items])
        #expect(findings.map(\.code) == [.permission] && findings[0].severity == .warning)
        let rows = (1...60).map { [Field("\($0)"), "x"] }
        try await sink.write(rows.map { .insert($0) }, of: Self.items, commit: 16)
        try await sink.write(
            [.update([100, "y"], from: [1, nil])], of: Self.items, commit: 32)
        #expect(
            try database.run("SELECT count(*), max(id), min(id) FROM items") == "60|100|2")
        try database.run(findings[0].hint ?? "")
        #expect(try await sink.check([Self.items]) == [])
        await sink.close()
        try database.run("DROP OWNED BY \(role); DROP ROLE \(role)")
    }

    /// A log that only grows needs no more than that.
    @Test func rowsWithoutAKeyAreInsertedWithOneRight() async throws {
        let database = try await TestDatabase("CREATE TABLE log (n int, v text)")
        let role = "clerk_\(database.name)"
        try database.run(
            "CREATE ROLE \(role) LOGIN; GRANT CREATE ON SCHEMA public TO \(role); "
                + "GRANT INSERT ON log TO \(role)")
        let schema = TableSchema.test(
            "log", version: 21, ["n int4", "v"], key: [0, 1], isKeyUnique: false)
        let sink = try SinkHarness(database).sink(
            ["operations": .list([.string("insert")])], tables: ["public.log"], user: role)
        _ = try await sink.open(at: nil)
        #expect(try await sink.check([schema]) == [])
        let rows = (1...60).map { [Field("\($0)"), "x"] }
        try await sink.write(rows.map { .insert($0) }, of: schema, commit: 16)
        try await sink.write([.insert([1, "x"])], of: schema, commit: 32)
        #expect(try database.run("SELECT count(*) FROM log") == "61")
        await sink.close()
        try database.run("DROP OWNED BY \(role); DROP ROLE \(role)")
    }
}
