import Testing
import WeirCore
import WeirPostgresClient
import WeirTesting

@testable import WeirPostgresSink

/// The sink alone, against a real target: what a write leaves there, and what it says.
struct SinkWriteTests {
    private static let items = TableSchema.test("items", version: 11, ["id int4", "v"], key: [0])
    private static let log = TableSchema.test(
        "log", version: 12, ["n int4"], key: [0], isKeyUnique: false)

    private func expectError(
        _ code: ErrorCode, _ disposition: Disposition, _ words: String = "",
        _ body: () async throws -> Void
    ) async {
        let error = await #expect(throws: WeirError.self) { try await body() }
        #expect(error?.code == code, "\(error.map { "\($0)" } ?? "")")
        #expect(error?.disposition == disposition)
        #expect(error?.message.contains(words) == true, "\(error?.message ?? "")")
    }

    /// Bytes that are no text of the target's are refused, which has a test of its own; so the
    /// column that has them is left out.
    @Test func conforms() async throws {
        let database = try await TestDatabase()
        let harness = SinkHarness(database)
        // A target keeps the last state of each row and no events: there are no ids to compare.
        try await SinkConformance.check(isExactlyOnce: false) {
            try database.run("DROP TABLE IF EXISTS items, weir_position")
            return SinkSubject(
                make: { (_) throws(WeirError) in
                    do {
                        return try harness.sink([
                            "columns": .columns([ColumnChoice(output: "id", source: "id")])
                        ])
                    } catch {
                        throw WeirError(.bug, .bug, "\(error)")
                    }
                }, ids: { nil })
        }
        #expect(try database.run("SELECT count(*) FROM weir_position") == "1")
    }

    /// Alone and among many, that is as a parameter and in a copy.
    @Test(arguments: [0, 100])
    func valuesOfEveryLengthArriveOrAreRefused(others: Int) async throws {
        let database = try await TestDatabase()
        let sink = try SinkHarness(database).sink()
        _ = try await sink.open(at: nil)
        let rest = (0..<others).map { RowChange.insert([Field("\(1000 + $0)"), "x"]) }
        let texts: [Field] = [
            "", nil, "\\N", "é\u{1F642}\n\t\\", .text([UInt8](repeating: 0x5C, count: 1 << 20)),
        ]
        let rows = texts.enumerated().map { [Field("\($0)"), $1] }
        try await sink.write(rows.map { .insert($0) } + rest, of: Self.items, commit: 16)
        #expect(
            try database.run(
                """
                SELECT string_agg(coalesce(CASE WHEN length(v) < 9 THEN encode(convert_to(v, 'UTF8'), 'hex')
                ELSE length(v)::text END, '-'), ' ' ORDER BY id) FROM items WHERE id < 1000
                """) == " - 5c4e c3a9f09f99820a095c 1048576")
        for bytes in [[0xFF, 0x80], [0x61, 0, 0x62], [0]] as [[UInt8]] {
            await expectError(.rowRefused, .rejected, "(id=7)") {
                try await sink.write(
                    rest + [.insert([7, .text(bytes)])], of: Self.items, commit: 32)
            }
        }
        await sink.close()
    }

    // MARK: Ways

    /// The same changes one by one, as sets, and in a transaction that stays open, end the same.
    @Test(arguments: [1, 49, 3000])
    func howManyChangesComeAtOnceDoesNotMatter(count: Int) async throws {
        let database = try await TestDatabase()
        let sink = try SinkHarness(database).sink(tables: ["public.items", "public.log"])
        _ = try await sink.open(at: nil)
        let rows = (0..<count).map { [Field("\($0)"), Field("a\($0)")] }
        let insert = try await sink.write(rows.map { .insert($0) }, of: Self.items, commit: 16)
        #expect(
            insert.delivered == count
                && insert.mark?.text.hasSuffix(" 0000000000000018:00000000") == true)
        // A row that is there already is written over.
        try await sink.write(
            rows.map { .insert([$0[0], "b"]) }, of: Self.items, commit: 32)
        #expect(try database.run("SELECT count(*) FROM items WHERE v = 'b'") == "\(count)")
        try await sink.write(
            rows.map { .update([$0[0], .unchanged]) } + rows.map { .update([$0[0], nil]) },
            of: Self.items, commit: 48)
        #expect(try database.run("SELECT count(*) FROM items WHERE v IS NULL") == "\(count)")
        // A table whose whole row is its key holds equal rows, and gives up one at a time.
        try await sink.write(
            (0..<(2 * count)).map { _ in .insert([7]) }, of: Self.log, commit: 64)
        try await sink.write(
            [RowChange](repeating: .delete([7]), count: count), of: Self.log, commit: 80)
        #expect(try database.run("SELECT count(*) FROM log WHERE n = 7") == "\(count)")
        // What comes again is known.
        let again = try await sink.write(rows.map { .insert($0) }, of: Self.items, commit: 32)
        #expect(again.delivered == 0 && again.filtered == count)
        try await sink.write(rows.map { .delete($0) }, of: Self.items, commit: 96)
        try await sink.write([.delete([99_999, nil])], of: Self.items, commit: 112)
        #expect(try database.run("SELECT count(*) FROM items") == "0")
        await sink.close()
    }

    @Test func rowsTheTargetLacksAreReadBesideTheStream() async throws {
        let database = try await TestDatabase()
        let rows: [[Field]] = [[1, "one"], [2, "two"], [4, "four"]]
        let sink = try SinkHarness(database, rows: [(Self.items, rows)]).sink()
        _ = try await sink.open(at: nil)
        // One the source has, one it has no more, one that is there, one that was another before.
        try await sink.write([.insert([5, "five"])], of: Self.items, commit: 16)
        let outcome = try await sink.write(
            [
                .update([1, .unchanged]), .update([3, .unchanged]), .update([5, .unchanged]),
                .update([4, .unchanged], from: [9, nil]),
            ], of: Self.items, commit: 32)
        #expect(outcome.delivered == 4 && outcome.late == 3)
        #expect(
            try database.run("SELECT string_agg(id || v, ' ' ORDER BY id) FROM items")
                == "1one 4four 5five")
        // Many at once.
        let many = try await sink.write(
            [RowChange](repeating: .update([2, .unchanged]), count: 200), of: Self.items,
            commit: 48)
        #expect(many.late == 200)
        #expect(try database.run("SELECT v FROM items WHERE id = 2") == "two")
        await sink.close()

        let blind = try SinkHarness(try await TestDatabase()).sink()
        _ = try await blind.open(at: nil)
        await expectError(.targetUnfit, .blocked, "cannot be asked for rows") {
            try await blind.write([.update([1, .unchanged])], of: Self.items, commit: 16)
        }
        await blind.close()
    }

    // MARK: Refusals

    @Test(arguments: [0, 100])
    func aRowThatFitsInNoWayIsNamedAndNothingBehindItIsThere(before: Int) async throws {
        let database = try await TestDatabase(
            "CREATE TABLE items (id int PRIMARY KEY, v text CHECK (v <> 'bad'))")
        let sink = try SinkHarness(database).sink()
        let mark = try await sink.open(at: nil)
        try await sink.write([.insert([-1, "first"])], of: Self.items, commit: 16)
        let rows = (0..<before).map { RowChange.insert([Field("\($0)"), "good"]) }
        let bad = rows + [.insert([700, "bad"]), .insert([701, "good"])]
        for _ in 0..<2 {
            let error = await #expect(throws: WeirError.self) {
                try await sink.write(bad, of: Self.items, commit: 32)
            }
            #expect(error?.code == .rowRefused && error?.disposition == .rejected)
            let message = error?.message ?? ""
            for words in ["insert of \"public.items\"", "(id=700)", "check constraint"] {
                #expect(message.contains(words), "\(message)")
            }
            let position = Position(high: 32, low: UInt32(before))
            #expect(error?.detail == "Event pg:test:\(position.text), SQLSTATE 23514.")
            #expect(!message.contains("bad"), "a value is shown")
        }
        #expect(try database.run("SELECT count(*) FROM items") == "1")
        // Mended, it goes on where it stood.
        try database.run("ALTER TABLE items DROP CONSTRAINT items_v_check")
        try await sink.write(bad, of: Self.items, commit: 32)
        #expect(try database.run("SELECT count(*) FROM items") == "\(before + 3)")
        _ = try await sink.open(at: mark)
        await sink.close()
    }

    /// The position's own guard divides by zero: a target that does is not another writer.
    @Test(arguments: [1, 100])
    func aTargetThatDividesByZeroRefusesTheRow(count: Int) async throws {
        let database = try await TestDatabase(
            "CREATE TABLE items (id int PRIMARY KEY, v text, share int GENERATED ALWAYS AS (100 / id) STORED)"
        )
        let sink = try SinkHarness(database).sink()
        _ = try await sink.open(at: nil)
        await expectError(.rowRefused, .rejected, "(id=0)") {
            try await sink.write(
                (0..<count).map { .insert([Field("\($0)"), nil]) }, of: Self.items, commit: 16)
        }
        await sink.close()
    }

    /// JSON may spell a character that no text has: the value is refused, not cut short.
    @Test(arguments: [1, 100])
    func aNulInsideJSONIsNotTheEndOfAValue(count: Int) async throws {
        let database = try await TestDatabase()
        let documents = TableSchema.test("items", version: 13, ["id int4", "doc json"], key: [0])
        let sink = try SinkHarness(database).sink([
            "columns": .columns([
                ColumnChoice(output: "id", source: "id"),
                ColumnChoice(output: "word", source: "doc.word"),
            ])
        ])
        _ = try await sink.open(at: nil)
        await expectError(.rowRefused, .rejected) {
            try await sink.write(
                (0..<count).map { .insert([Field("\($0)"), #"{"word": "be\u0000hind"}"#]) },
                of: documents, commit: 16)
        }
        #expect(
            try database.run("SELECT count(*) FROM items WHERE word = 'be'") == "0",
            "a part of a value is there")
        await sink.close()
    }

    // MARK: What is right though it does not fit at once

    private static let slots = TableSchema.test(
        "items", version: 14, ["id int4", "rank int4"], key: [0])
    private static let exchange: [RowChange] = [.update([1, 20]), .update([2, 10])]

    private func ranks(_ more: String = "") async throws -> (TestDatabase, PostgresSink) {
        let database = try await TestDatabase(
            "CREATE TABLE items (id int PRIMARY KEY, rank int UNIQUE); \(more)")
        let sink = try SinkHarness(database).sink(tables: ["public.items", "public.log"])
        _ = try await sink.open(at: nil)
        try await sink.write([.insert([1, 10]), .insert([2, 20])], of: Self.slots, commit: 16)
        return (database, sink)
    }

    @Test func valuesThatRowsExchangeAreWritten() async throws {
        let (database, sink) = try await ranks()
        try await sink.write(Self.exchange, of: Self.slots, commit: 32)
        #expect(try database.run("SELECT rank FROM items ORDER BY id") == "20\n10")
        await sink.close()
    }

    /// A batch may end in the middle of any transaction.
    @Test func anExchangeThatIsSplitOverTwoWritesIsWritten() async throws {
        let (database, sink) = try await ranks()
        var parts: [EventBatch] = []
        for (ordinal, change) in Self.exchange.enumerated() {
            var batch = RowBatch()
            batch.add(change, to: Self.slots, commit: 32, ordinal: UInt32(ordinal))
            parts.append(batch.seal(resume: ordinal == 1 ? Position(high: 40) : nil))
        }
        var (delivered, bytes) = (0, 0)
        for part in parts {
            let outcome = try await sink.write([part])
            delivered += outcome.delivered
            bytes += outcome.bytes
        }
        #expect(delivered == 2 && bytes == parts.reduce(0) { $0 + $1.arena.count })
        #expect(try database.run("SELECT rank FROM items ORDER BY id") == "20\n10")
        await sink.close()
    }

    /// The table whose rows exchange values has no eyes on it; another of the transaction has.
    @Test func anExchangeBesideAChangeOfAWatchedTableIsWritten() async throws {
        let (database, sink) = try await ranks(
            """
            CREATE TABLE log (n int PRIMARY KEY);
            CREATE TABLE other (n int REFERENCES log);
            """)
        let keyed = TableSchema.test("log", version: 15, ["n int4"], key: [0])
        var batch = RowBatch()
        for (ordinal, change) in Self.exchange.enumerated() {
            batch.add(change, to: Self.slots, commit: 32, ordinal: UInt32(ordinal))
        }
        batch.add(.insert([1]), to: keyed, commit: 32, ordinal: 2)
        _ = try await sink.write([batch.seal(resume: Position(high: 40))])
        #expect(try database.run("SELECT rank FROM items ORDER BY id") == "20\n10")
        await sink.close()
    }

    /// Constraints wait for the end of the target's transaction, which may hold several of the
    /// source's: an insert into a table, then its TRUNCATE.
    @Test func aTruncateDoesNotMeetConstraintsThatWait() async throws {
        let database = try await TestDatabase(
            """
            CREATE TABLE log (n int PRIMARY KEY);
            CREATE TABLE items (id int PRIMARY KEY, v text,
                n int REFERENCES log DEFERRABLE INITIALLY IMMEDIATE);
            """)
        let sink = try SinkHarness(database).sink()
        _ = try await sink.open(at: nil)
        let schema = TableSchema.test("items", version: 16, ["id int4", "n int4"], key: [0])
        try database.run("INSERT INTO log VALUES (1)")
        _ = try await sink.write([
            RowBatch.transaction([.insert([1, 1])], of: schema, commit: 16),
            RowBatch.transaction([.truncate, .insert([2, 1])], of: schema, commit: 32),
        ])
        #expect(try database.run("SELECT id FROM items") == "2")
        await sink.close()
    }
}
