import Testing
import WeirCore
import WeirPostgresClient
import WeirTesting

@testable import WeirPostgresSink

/// What a sink left out is said once it is no longer left out.
struct SinkLeftOutTests {
    private static func items(_ version: UInt32, _ more: Column...) -> TableSchema {
        TableSchema(
            version: version, database: "shop", schema: "public", name: "items",
            columns: [
                SinkCheckTests.column("id", "int4", "integer", .integer, isNotNull: true),
                SinkCheckTests.column("v", "text"),
            ] + more, key: [0])
    }

    private static let narrow = items(61)
    private static let wide = items(
        62, SinkCheckTests.column("c", "text"),
        SinkCheckTests.column("d", "jsonb", "jsonb", .json))

    /// The engine's order of calls at a start.
    private func start(
        _ harness: SinkHarness, _ mark: SinkMark?, _ schema: TableSchema = wide,
        _ more: [String: ConfigValue] = [:]
    ) async throws -> PostgresSink {
        let sink = try harness.sink(more)
        _ = try await sink.open(at: mark)
        let findings = try await sink.check([schema])
        #expect(!findings.contains { $0.severity == .blocking }, "\(findings)")
        return sink
    }

    @Test func aTargetThatWasMadeAgainIsAGap() async throws {
        let table = "CREATE TABLE items (id int PRIMARY KEY, v text, c text, d jsonb)"
        let database = try await TestDatabase(table)
        let harness = SinkHarness(database)
        var sink = try await start(harness, nil)
        await sink.close()
        // Nothing was written to it.
        try database.run("DROP TABLE items; \(table)")
        sink = try await start(harness, SinkMark("100 "))
        let mark = try await sink.write([.insert([1, "v", "c", "{}"])], of: Self.wide, commit: 16)
            .mark
        await sink.close()
        sink = try await start(harness, mark)
        await sink.close()
        #expect(harness.reports.gaps.isEmpty)
        try database.run("DROP TABLE items; \(table)")
        for _ in 1...2 {
            sink = try await start(harness, mark)
            await sink.close()
            #expect(harness.reports.gaps.map(\.code) == [.targetRemade])
        }
        #expect(harness.reports.gaps.first?.subject == "public.items")
    }

    /// While the sink runs, and where the sink made it.
    @Test(arguments: ["table", "search"])
    func whatIsMadeAgainUnderARunningSinkIsAGap(kind: String) async throws {
        let database = try await TestDatabase()
        let harness = SinkHarness(database)
        let sink = try harness.sink(
            write: kind,
            kind == "search"
                ? [
                    "table": .string("public.items"),
                    "text": .object(
                        ConfigValues(["A": .list([.string("v"), .string("c")])])),
                ] : [:],
            lookInterval: .zero)
        _ = try await sink.open(at: nil)
        #expect(try await sink.check([Self.wide]).isEmpty)
        func write(_ id: Int, at commit: UInt64) async throws {
            try await sink.write(
                [.insert([Field("\(id)"), "v", "c", "{}"])], of: Self.wide, commit: commit)
        }
        try await write(1, at: 16)
        try await write(2, at: 32)
        #expect(harness.reports.gaps.isEmpty)
        let definition = "(LIKE items INCLUDING ALL)"
        try database.run(
            "CREATE TABLE n \(definition); DROP TABLE items; ALTER TABLE n RENAME TO items")
        try await write(3, at: 48)
        #expect(harness.reports.gaps.map(\.code) == [.targetRemade])
        #expect(harness.reports.gaps[0].to == "0/28")
        #expect(try database.run("SELECT id FROM items") == "3")
        // A column of it, and only once.
        try database.run(
            "ALTER TABLE items DROP c CASCADE; ALTER TABLE items ADD c text DEFAULT NULL")
        try await write(4, at: 64)
        try await write(5, at: 80)
        let gap = try #require(harness.reports.gaps.last)
        #expect(harness.reports.gaps.map(\.code) == [.targetRemade, .targetRemade])
        #expect(gap.message.contains("\"c\" of \"public.items\" was dropped"), "\(gap.message)")
        #expect(gap.hint.contains(#"SET "c" = "c" || ''"#), "\(gap.hint)")
        #expect(
            try database.run("SELECT string_agg(id || c, ',' ORDER BY id) FROM items") == "4c,5c")
        await sink.close()
    }

    @Test func aColumnThatWasLeftOutIsAGapOnceItIsWritten() async throws {
        let database = try await TestDatabase("CREATE TABLE items (id int PRIMARY KEY, v text)")
        let harness = SinkHarness(database)
        var sink = try await start(harness, nil)
        await sink.close()
        // Nothing was written without them.
        try database.run("ALTER TABLE items ADD c text")
        sink = try await start(harness, SinkMark("100 "))
        #expect(harness.reports.gaps.isEmpty)
        let written = try await sink.write(
            [.insert([1, "v", "c", "{}"])], of: Self.wide, commit: 16)
        await sink.close()

        // "d" was left out, and another version of the table that lacks it forgets nothing.
        sink = try await start(harness, written.mark)
        try await sink.write([.insert([2, "v"])], of: Self.narrow, commit: 32)
        await sink.close()
        try database.run("ALTER TABLE items ADD d jsonb")
        for _ in 1...2 {
            sink = try await start(harness, written.mark)
            await sink.close()
            #expect(harness.reports.gaps.count == 1)
        }
        let gap = try #require(harness.reports.gaps.first)
        #expect(gap.code == .columnsLeftOut && gap.subject == "public.items" && gap.to == "0/28")
        #expect(gap.message.contains("before 0/28 lack \"d\""), "\(gap.message)")
        #expect(
            gap.hint.contains(
                #"UPDATE "public"."items" SET "d" = "d"::text::jsonb WHERE "d" IS NOT NULL;"#),
            "\(gap.hint)")
        #expect(gap.hint.hasSuffix("weir gap resolve ID"))
    }

    /// By `on_new_column`, and where the target no longer computes it.
    @Test func aColumnIsNoticedHoweverItIsTakenUp() async throws {
        let database = try await TestDatabase(
            """
            CREATE TABLE items (id int PRIMARY KEY, v text,
                c text GENERATED ALWAYS AS ('x' || id::text) STORED)
            """)
        let harness = SinkHarness(database)
        var sink = try await start(harness, nil)
        let written = try await sink.write(
            [.insert([1, "v", "c", "{}"])], of: Self.wide, commit: 16)
        await sink.close()
        try database.run("ALTER TABLE items ALTER c DROP EXPRESSION")
        sink = try await start(
            harness, written.mark, Self.wide, ["on_new_column": .string("add")])
        #expect(harness.reports.gaps.map(\.message).joined().contains("lack \"c\""))
        #expect(harness.reports.gaps[0].hint.contains("SET \"c\" = \"c\" || ''"))
        try await sink.write([.insert([2, "v", "c", "{}"])], of: Self.wide, commit: 32)
        #expect(harness.reports.gaps.count == 2)
        #expect(harness.reports.gaps[1].message.contains("before 0/18 lack \"d\""))
        #expect(try database.run("SELECT c || d FROM items WHERE id = 2") == "c{}")
        await sink.close()
    }

    @Test(arguments: [1, 60])
    func rowsThatATruncateLeftAreAGapOnceItIsApplied(count: Int) async throws {
        let database = try await TestDatabase("CREATE TABLE items (id int PRIMARY KEY, v text)")
        let harness = SinkHarness(database)
        let ignoring: [String: ConfigValue] = ["truncate": .string("ignore")]
        let schema = Self.narrow
        var sink = try await start(harness, nil, schema, ignoring)
        try await sink.write(
            (1...count).map { .insert([Field("\($0)"), "v"]) }, of: schema, commit: 16)
        try await sink.write([.truncate], of: schema, commit: 32)
        let last = try await sink.write(
            [.truncate, .insert([500, "new"])], of: schema, commit: 48)
        await sink.close()
        sink = try await start(harness, last.mark, schema, ignoring)
        await sink.close()
        #expect(harness.reports.gaps.isEmpty, "it is still what was asked for")
        for _ in 1...2 {
            sink = try await start(harness, last.mark, schema)
            #expect(harness.reports.gaps.count == 1)
            await sink.close()
        }
        let gap = try #require(harness.reports.gaps.first)
        #expect(gap.code == .truncateIgnored && gap.from == "0/30", "\(gap)")
        #expect(try database.run("SELECT count(*) FROM items") == "\(count + 1)")

        // The hint, here and at a source that has the one row.
        let parts = gap.hint.split(separator: ";").map { $0.split(separator: ": ").last ?? "" }
        #expect(parts[1] == #"UPDATE "public"."items" SET "id" = "id""#)
        try database.run(String(parts[0]))
        sink = try await start(harness, last.mark, schema)
        try await sink.write([.update([500, "new"])], of: schema, commit: 64)
        #expect(try database.run("SELECT id || v FROM items") == "500new")
        await sink.close()
    }

    /// A sink that takes no TRUNCATE at all keeps what it has on purpose.
    @Test func whatIsKeptIsReadBack() throws {
        var memory = LeftOut()
        let odd = TableName(schema: "a b", name: "c,d%\ne")
        memory.ignoreTruncate(of: odd, at: "0/10")
        memory.ignoreTruncate(of: odd, at: "-")
        memory.ignoreTruncate(of: TableName(schema: "x", name: "y"), at: "0/20")
        #expect(LeftOut(text: memory.text) == memory)
        let table = TargetTable(
            name: odd, oid: 1, columns: [], uniqueKeys: [], parents: [], isWatched: false,
            isCascading: false, isDeferring: false)
        let schema = TableSchema.test("t", version: 1, ["id int4", "é,", "-", "%2c"], key: [0])
        let config = try SinkHarness.config(url: "postgres://localhost/x")
        memory.leaveOut(
            WrittenShape(
                schema, try WantedColumns(schema, config), table,
                Operation.allCases.map { _ in true }, search: nil))
        #expect(memory.targets[odd]?.leftOut == ["id", "é,", "-", "%2c"])
        #expect(LeftOut(text: memory.text) == memory)
        #expect(LeftOut(text: "") == LeftOut())
    }

    // MARK: Another name

    @Test func aRenamedSinkNoticesWhatItsTargetLacks() async throws {
        let table = "CREATE TABLE items (id int PRIMARY KEY, v text)"
        let database = try await TestDatabase(table)
        let harness = SinkHarness(database)
        var sink = try await start(harness, nil, Self.narrow)
        let mark = try #require(
            try await sink.write([.insert([1, "v"])], of: Self.narrow, commit: 16).mark)
        await sink.close()
        try database.run("UPDATE weir_position SET sink = 'former'")
        let renamed = SinkMark(of: "former", mark)
        try await harness.notes.set("postgres target numbers former", "1 public.items")
        // Told by that one's notes, the table is another.
        sink = try harness.sink()
        #expect(try await sink.open(at: renamed)?.renamed == nil)
        _ = try await sink.check([Self.narrow])
        await sink.close()
        #expect(harness.reports.gaps.map(\.code) == [.targetRemade])
        #expect(
            try database.run("SELECT targets FROM weir_position WHERE sink = 'copy'")
                == "{public.items}")

        // Someone else writes under the earlier name.
        try database.run(
            "DELETE FROM weir_position WHERE sink = 'copy'; UPDATE weir_position SET epoch = epoch + 9"
        )
        sink = try harness.sink()
        let other = await #expect(throws: WeirError.self) { _ = try await sink.open(at: renamed) }
        #expect(other?.code == .otherWriter)
        await sink.close()
        try database.run("UPDATE weir_position SET epoch = epoch - 9")

        for state in ["UPDATE weir_position SET position = ''", "DELETE FROM weir_position"] {
            try database.run("DELETE FROM weir_position WHERE sink = 'copy'; \(state)")
            sink = try harness.sink()
            let error = await #expect(throws: WeirError.self) {
                _ = try await sink.open(at: renamed)
            }
            #expect(error?.code == .targetRestored && error?.disposition == .positionLost)
            await sink.close()
        }
        // An operator was told, and goes on with what is there.
        harness.epoch += 1
        sink = try harness.sink()
        _ = try await sink.open(at: renamed)
        await sink.close()
        #expect(harness.reports.gaps.map(\.code) == [.targetRemade, .targetRestored])
        #expect(harness.reports.gaps.last?.to == "0/18")
    }

    // MARK: Others at the same target

    @Test func anotherWriterOfTheTargetIsNamed() async throws {
        let database = try await TestDatabase("CREATE TABLE items (id int PRIMARY KEY, v text)")
        let harness = SinkHarness(database)
        let sink = try await start(harness, nil, Self.narrow)
        try await sink.write([.insert([1, "v"])], of: Self.narrow, commit: 16)
        #expect(try await sink.check([Self.narrow]) == [])
        try database.run(
            """
            INSERT INTO weir_position (pipeline, sink, source, epoch, position, targets)
            SELECT 'it''s', 'other', source, epoch, position, targets FROM weir_position
            """)
        let found = try await sink.check([Self.narrow])
        #expect(found.map(\.code) == [.targetShared] && found[0].severity == .warning)
        #expect(found[0].message.contains("sink \"other\" of pipeline \"it's\""))
        try database.run(statements(in: found[0].hint))
        #expect(try await sink.check([Self.narrow]) == [])
        // It keeps its position, and what else it writes.
        #expect(try database.run("SELECT targets FROM weir_position WHERE sink = 'other'") == "{}")
        // Sinks of one pipeline exchanged their targets, and keep what they wrote before.
        try database.run(
            """
            UPDATE weir_position SET pipeline = mine.pipeline, targets = mine.targets
            FROM weir_position mine WHERE weir_position.sink = 'other' AND mine.sink = 'copy'
            """)
        #expect(try await sink.check([Self.narrow]) == [])
        await sink.close()
    }
}
