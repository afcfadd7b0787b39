import Testing
import WeirCore
import WeirPostgresClient
import WeirTesting

@testable import WeirPostgresSink

/// What a target refuses: what lies before it is there, and what the operator reads helps.
struct SinkRefusalTests {
    private static let items = TableSchema.test("items", version: 31, ["id int4", "v"], key: [0])

    private func refusal(_ body: () async throws -> Void) async throws -> WeirError {
        let error = await #expect(throws: WeirError.self) { try await body() }
        let refusal = try #require(error)
        #expect(refusal.code == .rowRefused && refusal.disposition == .rejected, "\(refusal)")
        return refusal
    }

    private func ids(_ database: TestDatabase) throws -> String {
        try database.run("SELECT coalesce(string_agg(id::text, ' ' ORDER BY id), '') FROM items")
    }

    private static func transactions(_ ids: [Int]) -> [EventBatch] {
        ids.map {
            RowBatch.transaction(
                [.insert([Field("\($0)"), "v"])], of: items, commit: UInt64(16 * $0))
        }
    }

    // MARK: What lies before

    /// The second of many transactions is refused, in one write.
    @Test(arguments: [3, 70])
    func whatLiesBeforeARefusedRowIsDelivered(count: Int) async throws {
        let database = try await TestDatabase(
            "CREATE TABLE items (id int PRIMARY KEY CHECK (id <> 2), v text)")
        let harness = SinkHarness(database)
        let sink = try harness.sink()
        let mark = try await sink.open(at: nil)
        let batches = Self.transactions(Array(1...count))
        let error = try await refusal { _ = try await sink.write(batches) }
        #expect(error.message.contains("(id=2)"))
        #expect(try ids(database) == "1")
        // The next start goes back to the checkpoint, knows the first, and meets the second again.
        let next = try harness.sink()
        await sink.close()
        _ = try await next.open(at: mark)
        _ = try await refusal { _ = try await next.write(batches) }
        try database.run("ALTER TABLE items DROP CONSTRAINT items_id_check")
        let outcome = try await next.write(batches)
        #expect(outcome.delivered == count - 1 && outcome.filtered == 1)
        #expect(try database.run("SELECT count(*) FROM items") == "\(count)")
        await next.close()
    }

    /// A transaction that is whole does not wait in the target with the beginning of another.
    @Test func whatLiesBeforeALongTransactionIsDeliveredWithoutItsEnd() async throws {
        let database = try await TestDatabase(
            "CREATE TABLE items (id int PRIMARY KEY CHECK (id <> 9), v text)")
        let harness = SinkHarness(database)
        let sink = try harness.sink()
        let mark = try await sink.open(at: nil)
        var first = RowBatch()
        first.add(.insert([1, "v"]), to: Self.items, commit: 16, ordinal: 0)
        first.add(.insert([2, "v"]), to: Self.items, commit: 32, ordinal: 0)
        let part = first.seal(resume: nil)
        let outcome = try await sink.write([part])
        #expect(outcome.delivered == 2 && outcome.mark == nil)
        #expect(try ids(database) == "1")
        var rest = RowBatch()
        rest.add(.insert([3, "v"]), to: Self.items, commit: 32, ordinal: 1)
        rest.add(.insert([4, "v"]), to: Self.items, commit: 48, ordinal: 0)
        rest.add(.insert([9, "v"]), to: Self.items, commit: 64, ordinal: 0)
        let end = rest.seal(resume: Position(high: 72))
        _ = try await refusal { _ = try await sink.write([end]) }
        #expect(try ids(database) == "1 2 3 4")
        await sink.close()
        let next = try harness.sink()
        _ = try await next.open(at: mark)
        try database.run("ALTER TABLE items DROP CONSTRAINT items_id_check")
        #expect(try await next.write([part, end]).delivered == 1)
        #expect(try ids(database) == "1 2 3 4 9")
        await next.close()
    }

    // MARK: Functions of the target

    private static let log = "CREATE TABLE log (id int);"
    private static let plain = "CREATE TABLE items (id int PRIMARY KEY, v text);"

    private static func trigger(_ body: String, _ when: String = "AFTER INSERT") -> String {
        """
        CREATE FUNCTION "Audit it"() RETURNS trigger LANGUAGE plpgsql AS $$
            BEGIN \(body); RETURN NEW; END $$;
        CREATE \(when) ON items \(when.contains("CONSTRAINT") ? "DEFERRABLE" : "")
            FOR EACH ROW EXECUTE FUNCTION "Audit it"();
        """
    }

    /// The target, and what calls the function.
    private static let functions: [(sql: String, caller: String)] = [
        (
            log + plain + trigger("INSERT INTO log VALUES (NEW.id)", "TRIGGER audit AFTER INSERT"),
            "trigger audit"
        ),
        (
            log + plain
                + trigger("INSERT INTO log VALUES (NEW.id)", "CONSTRAINT TRIGGER late AFTER INSERT"),
            "trigger late"
        ),
        // A function inside the trigger's.
        (
            log + plain + """
                CREATE FUNCTION note(n int) RETURNS void LANGUAGE sql
                    AS $$ INSERT INTO public.log VALUES (n) $$;
                """ + trigger("PERFORM note(NEW.id)", "TRIGGER audit BEFORE INSERT"),
            "trigger audit"
        ),
        (
            log + """
                CREATE FUNCTION "Audit it"(n int) RETURNS bool LANGUAGE plpgsql AS $$
                    BEGIN INSERT INTO log VALUES (n); RETURN true; END $$;
                CREATE TABLE items (id int PRIMARY KEY CHECK ("Audit it"(id)), v text);
                """, "constraint items_id_check"
        ),
        (
            log + """
                CREATE FUNCTION "Audit it"(n int) RETURNS bool LANGUAGE sql AS
                    $$ INSERT INTO log VALUES (n); SELECT true $$;
                CREATE DOMAIN number AS int CHECK ("Audit it"(value));
                CREATE TABLE items (id number PRIMARY KEY, v text);
                """, "constraint number_check"
        ),
    ]

    /// CORRECTNESS 84: names without a schema mean nothing with an empty search path. The message
    /// names row and function, and what it says helps.
    @Test(arguments: 0..<5, [1, 60])
    func aFunctionThatNeedsASearchPathIsNamed(number: Int, count: Int) async throws {
        let (sql, caller) = Self.functions[number]
        let database = try await TestDatabase(sql)
        let sink = try SinkHarness(database).sink()
        _ = try await sink.open(at: nil)
        let changes = (1...count).map { RowChange.insert([Field("\($0)"), "secret"]) }
        let error = try await refusal {
            try await sink.write(changes, of: Self.items, commit: 16)
        }
        #expect(error.message.contains("insert of \"public.items\" (id="), "\(error)")
        #expect(error.detail?.contains("called by \(caller)") == true, "\(error)")
        #expect(error.detail?.contains("empty search_path") == true, "\(error)")
        #expect(!"\(error)".contains("secret"))
        try database.run(try #require(error.hint?.sqlStatements.first))
        try await sink.write(changes, of: Self.items, commit: 16)
        #expect(try database.run("SELECT count(DISTINCT id) FROM log") == "\(count)")
        #expect(try database.run("SELECT count(*) FROM items") == "\(count)")
        await sink.close()
    }

    /// What a function raises of its own has no such cure.
    @Test func aFunctionThatRefusesIsNamedToo() async throws {
        let database = try await TestDatabase(
            Self.plain
                + Self.trigger("RAISE EXCEPTION 'not on sundays'", "TRIGGER audit BEFORE INSERT"))
        let sink = try SinkHarness(database).sink()
        _ = try await sink.open(at: nil)
        let error = try await refusal {
            try await sink.write([.insert([1, "v"])], of: Self.items, commit: 16)
        }
        #expect(error.message.hasSuffix("not on sundays"))
        #expect(error.detail?.contains(#""public"."Audit it"()"#) == true)
        #expect(error.hint == ErrorCode.rowRefused.remedy)
        await sink.close()
    }

    /// The target may be changing, so it is looked at once more; then the row is to blame.
    @Test(arguments: [1, 60])
    func aValueThatNamesWhatIsNotThereIsNotRetriedForEver(count: Int) async throws {
        let database = try await TestDatabase("CREATE TABLE items (id int PRIMARY KEY, v regclass)")
        let sink = try SinkHarness(database).sink()
        _ = try await sink.open(at: nil)
        let changes = (1...count).map { RowChange.insert([Field("\($0)"), "public.nowhere"]) }
        let first = await #expect(throws: WeirError.self) {
            try await sink.write(changes, of: Self.items, commit: 16)
        }
        #expect(first?.disposition == .transient)
        let error = try await refusal {
            try await sink.write(changes, of: Self.items, commit: 16)
        }
        #expect(error.message.contains("(id=1)"))
        try database.run("CREATE TABLE nowhere ()")
        try await sink.write(changes, of: Self.items, commit: 16)
        #expect(try database.run("SELECT count(*) FROM items") == "\(count)")
        await sink.close()
    }

    // MARK: What is no fault of a row

    /// A state that passes by itself is waited for, unless a function of the target's raised it
    /// because of the row.
    @Test(arguments: ["55000", "XX000", "72000", "2D000"], [1, 60])
    func aStateThatPassesIsARowsFaultOnlyInAFunction(state: String, count: Int) async throws {
        let raise = "RAISE EXCEPTION 'closed' USING ERRCODE = '\(state)'"
        let database = try await TestDatabase(
            Self.plain
                + Self.trigger(
                    "IF NEW.id = 1 THEN \(raise); END IF", "TRIGGER audit BEFORE INSERT"))
        let sink = try SinkHarness(database).sink()
        _ = try await sink.open(at: nil)
        let changes = (1...count).map { RowChange.insert([Field("\($0)"), "v"]) }
        let error = try await refusal {
            try await sink.write(changes, of: Self.items, commit: 16)
        }
        #expect(error.message.contains("(id=1)") && error.message.hasSuffix("closed"))
        await sink.close()
    }

    /// PostgreSQL says 55000 of the table, and would of every row. It is said at the start already.
    @Test(arguments: [1, 60])
    func aPublishedTargetWithoutIdentityIsWaitedFor(count: Int) async throws {
        let database = try await TestDatabase(
            """
            CREATE TABLE items (id int UNIQUE NOT NULL, v text);
            INSERT INTO items SELECT generate_series(1, 60);
            CREATE PUBLICATION everything FOR ALL TABLES
            """)
        let sink = try SinkHarness(database).sink()
        _ = try await sink.open(at: nil)
        let findings = try await sink.check([Self.items])
        #expect(findings.map(\.code) == [.targetUnfit] && findings[0].severity == .warning)
        let changes = (1...count).map { RowChange.update([Field("\($0)"), "new"]) }
        for _ in 0..<3 {
            let error = await #expect(throws: WeirError.self) {
                try await sink.write(changes, of: Self.items, commit: 16)
            }
            #expect(error?.disposition == .transient, "\(error.map { "\($0)" } ?? "")")
            #expect(error?.code == .commandFailed)
            #expect(error?.message.contains("does not have a replica identity") == true)
        }
        try database.run(statements(in: findings[0].hint))
        #expect(try await sink.check([Self.items]) == [])
        try await sink.write(changes, of: Self.items, commit: 16)
        #expect(try database.run("SELECT count(*) FROM items WHERE v = 'new'") == "\(count)")
        await sink.close()
    }

    // MARK: What is left out without a word

    @Test(arguments: [1, 60, 600])
    func rowsThatATriggerSkipsAreTold(count: Int) async throws {
        let database = try await TestDatabase(
            Self.plain + """
                CREATE FUNCTION skip() RETURNS trigger LANGUAGE plpgsql AS
                    $$ BEGIN IF NEW.id = 1 THEN RETURN NULL; END IF; RETURN NEW; END $$;
                CREATE TRIGGER skip BEFORE INSERT ON items FOR EACH ROW EXECUTE FUNCTION skip();
                """)
        let harness = SinkHarness(database)
        let sink = try harness.sink()
        _ = try await sink.open(at: nil)
        try await sink.write([.insert([0, "v"])], of: Self.items, commit: 16)
        #expect(harness.reports.findings == [])
        let changes = (1...count).map { RowChange.insert([Field("\($0)"), "v"]) }
        try await sink.write(changes, of: Self.items, commit: 32)
        try await sink.write(changes, of: Self.items, commit: 48)
        let findings = harness.reports.findings
        #expect(findings.map(\.code) == [.rowsSkipped] && findings[0].subject == "public.items")
        let query = try #require(findings[0].hint?.split(separator: ": ", maxSplits: 1).last)
        #expect(try database.run(String(query)) == "skip|skip()")
        #expect(try database.run("SELECT count(*) FROM items") == "\(count)")
        await sink.close()
    }

    /// A table that is its key, of which nothing is to be changed, is no case of it.
    @Test func rowsThatAreThereAlreadyAreNotSkipped() async throws {
        let database = try await TestDatabase("CREATE TABLE items (id int PRIMARY KEY)")
        let harness = SinkHarness(database)
        let sink = try harness.sink()
        _ = try await sink.open(at: nil)
        let schema = TableSchema.test("items", version: 33, ["id int4"], key: [0])
        let changes = (1...60).map { RowChange.insert([Field("\($0)")]) }
        for (commit, count) in [1, 60, 1, 60].enumerated() {
            try await sink.write(
                Array(changes[..<count]), of: schema, commit: UInt64(16 * (commit + 1)))
        }
        #expect(harness.reports.findings == [])
        #expect(try database.run("SELECT count(*) FROM items") == "60")
        await sink.close()
    }

    // MARK: TRUNCATE

    private static let truncate: [RowChange] = [.truncate, .insert([3, "v"])]

    private func parent() async throws -> (TestDatabase, SinkHarness, PostgresSink) {
        let database = try await TestDatabase(
            Self.plain + """
                CREATE SCHEMA "Own"; CREATE TABLE "Own"."Notes" (item int REFERENCES items);
                """)
        let harness = SinkHarness(database)
        let sink = try harness.sink()
        _ = try await sink.open(at: nil)
        try await sink.write([.insert([1, "v"])], of: Self.items, commit: 16)
        return (database, harness, sink)
    }

    @Test func aTableThatKeepsAnotherFromBeingTruncatedIsNamed() async throws {
        let (database, _, sink) = try await parent()
        let error = try await refusal {
            try await sink.write(Self.truncate, of: Self.items, commit: 32)
        }
        #expect(error.message.contains("refuses truncate of \"public.items\" in"))
        #expect(error.detail?.contains("\"Own.Notes\" refers to it") == true, "\(error)")
        #expect(error.hint?.contains("\"truncate\": \"ignore\"") == true)
        #expect(try ids(database) == "1")
        try database.run(try #require(error.hint?.sqlStatements.first))
        try await sink.write(Self.truncate, of: Self.items, commit: 32)
        #expect(try ids(database) == "3")
        await sink.close()
    }

    /// The other choice.
    @Test func aTargetMayKeepItsRowsAtATruncate() async throws {
        let (database, harness, sink) = try await parent()
        _ = try await refusal { try await sink.write(Self.truncate, of: Self.items, commit: 32) }
        await sink.close()
        let next = try harness.sink(["truncate": .string("ignore")])
        _ = try await next.open(at: SinkMark("100 0000000000000018:00000000"))
        try await next.write(Self.truncate, of: Self.items, commit: 32)
        #expect(try ids(database) == "1 3")
        await next.close()
    }
}
