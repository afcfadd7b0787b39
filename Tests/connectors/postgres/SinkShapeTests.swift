import Testing
import WeirCore
import WeirPostgresClient
import WeirTesting

@testable import WeirPostgresSink

/// One write may hold changes of several shapes of a table, and rows that go and come back.
struct SinkShapeTests {
    private static let old = TableSchema.test("items", version: 21, ["id int4", "v"], key: [0])
    private static let new = TableSchema.test(
        "items", version: 22, ["id int4", "w", "v"], key: [0])

    private static func rows(_ count: Int) -> [Field] { (1...count).map { Field("\($0)") } }

    /// As two transactions and as one: a migration inside a transaction.
    private static func batches(
        _ first: [RowChange], _ second: [RowChange], isOne: Bool
    ) -> [EventBatch] {
        guard isOne else {
            return [
                RowBatch.transaction(first, of: old, commit: 16),
                RowBatch.transaction(second, of: new, commit: 32),
            ]
        }
        var batch = RowBatch()
        for (ordinal, change) in (first + second).enumerated() {
            batch.add(
                change, to: ordinal < first.count ? old : new, commit: 16,
                ordinal: UInt32(ordinal))
        }
        return [batch.seal(resume: Position(high: 40))]
    }

    /// Above and below the number of changes that are written as sets.
    @Test(arguments: [20, 30, 300], [false, true])
    func rowsOfAnEarlierShapeGoWhenTheLaterOneSaysSo(count: Int, isOne: Bool) async throws {
        let database = try await TestDatabase()
        let sink = try SinkHarness(database).sink()
        _ = try await sink.open(at: nil)
        let ids = Self.rows(count)
        _ = try await sink.write(
            Self.batches(
                ids.map { .insert([$0, "v"]) }, ids.map { .delete([$0, nil, nil]) }, isOne: isOne))
        #expect(try database.run("SELECT count(*) FROM items") == "0")
        await sink.close()
    }

    @Test(arguments: [20, 30, 300], [false, true])
    func rowsOfAnEarlierShapeGetTheirNewKeys(count: Int, isOne: Bool) async throws {
        let database = try await TestDatabase()
        let sink = try SinkHarness(database).sink(["on_new_column": .string("add")])
        _ = try await sink.open(at: nil)
        let ids = Self.rows(count)
        _ = try await sink.write(
            Self.batches(
                ids.map { .insert([$0, "v"]) },
                ids.map {
                    .update([Field("1\($0.string ?? "")000"), "w", "v"], from: [$0, nil, nil])
                },
                isOne: isOne))
        #expect(
            try database.run("SELECT count(*), count(w), min(id) > 9999 FROM items")
                == "\(count)|\(count)|t")
        await sink.close()
    }

    /// Of two shapes of a row that are read beside the stream the later one has all its columns.
    @Test func aRowThatIsReadComesInItsLastShape() async throws {
        let database = try await TestDatabase()
        let sink = try SinkHarness(
            database, rows: [(Self.old, [[1, "v"]]), (Self.new, [[1, "w", "v"]])]
        ).sink(["on_new_column": .string("add")])
        _ = try await sink.open(at: nil)
        let outcome = try await sink.write(
            Self.batches(
                [.update([1, .unchanged])], [.update([1, "w", .unchanged])], isOne: false))
        #expect(outcome.late == 2)
        #expect(try database.run("SELECT id, v, w FROM items") == "1|v|w")
        await sink.close()
    }

    // MARK: Rows that come back

    /// As a source's that is partitioned by region.
    private static let accounts = TableSchema(
        version: 23, database: "shop", schema: "public", name: "items",
        columns: ["id", "region", "v"].map { name in
            Column(
                name: name, type: ColumnType(.text, name: "text"),
                isPartitionKey: name == "region")
        }, key: [0, 1])

    private func accounts(
        _ count: Int
    ) async throws -> (TestDatabase, SinkHarness, PostgresSink) {
        let database = try await TestDatabase(
            """
            CREATE TABLE items (id int, region text, v text, PRIMARY KEY (id, region));
            CREATE TABLE notes (account int, region text,
                FOREIGN KEY (account, region) REFERENCES items ON UPDATE CASCADE ON DELETE CASCADE);
            """)
        let harness = SinkHarness(database)
        let sink = try harness.sink()
        _ = try await sink.open(at: nil)
        try await sink.write(
            Self.rows(count).map { .insert([$0, "us", "a"]) }, of: Self.accounts, commit: 16)
        try database.run("INSERT INTO notes SELECT id, region FROM items")
        return (database, harness, sink)
    }

    @Test(arguments: [1, 60])
    func aRowThatIsDeletedAndInsertedAgainTakesNothingAlong(count: Int) async throws {
        let (database, _, sink) = try await accounts(count)
        let changes = Self.rows(count).flatMap { id -> [RowChange] in
            [.delete([id, "us", nil]), .insert([id, "us", "b"])]
        }
        try await sink.write(changes, of: Self.accounts, commit: 32)
        #expect(
            try database.run(
                "SELECT count(*), (SELECT count(*) FROM notes) FROM items WHERE v = 'b'")
                == "\(count)|\(count)")
        // In two transactions it was gone for a while.
        _ = try await sink.write([
            RowBatch.transaction([.delete([1, "us", nil])], of: Self.accounts, commit: 48),
            RowBatch.transaction([.insert([1, "us", "c"])], of: Self.accounts, commit: 64),
        ])
        #expect(try database.run("SELECT count(*) FROM notes") == "\(count - 1)")
        await sink.close()
    }

    /// CORRECTNESS 82: an UPDATE that moves a row to another partition arrives as a delete and an
    /// insert of another key, which a batch's end may part. What refers to the row follows it.
    @Test(arguments: [1, 60], [nil, 0, 1, 30])
    func aRowThatMovesBetweenPartitionsTakesNothingAlong(count: Int, cut: Int?) async throws {
        let (database, _, sink) = try await accounts(count)
        let changes = Self.rows(count).flatMap { id -> [RowChange] in
            [.delete([id, "us", nil]), .insert([id, "eu", "b"])]
        }
        var batches: [EventBatch] = []
        var batch = RowBatch()
        var delivered = 0
        for (ordinal, change) in changes.enumerated() {
            batch.add(change, to: Self.accounts, commit: 32, ordinal: UInt32(ordinal))
            if let cut, ordinal == 2 * cut || ordinal == 2 * cut + 1 {
                batches.append(batch.seal(resume: nil))
                batch = RowBatch()
            }
        }
        batches.append(batch.seal(resume: Position(high: 40)))
        for batch in batches { delivered += try await sink.write([batch]).delivered }
        #expect(delivered == 2 * count)
        for table in ["items", "notes"] {
            #expect(
                try database.run("SELECT count(*) FROM \(table) WHERE region = 'eu'") == "\(count)")
            #expect(try database.run("SELECT count(*) FROM \(table)") == "\(count)")
        }
        await sink.close()
    }

    /// The last delete of a batch waits for what follows; what lies before it is durable meanwhile.
    @Test func aDeleteThatNothingFollowsIsOne() async throws {
        let (database, _, sink) = try await accounts(3)
        var first = RowBatch()
        first.add(.delete([1, "us", nil]), to: Self.accounts, commit: 32, ordinal: 0)
        let outcome = try await sink.write([first.seal(resume: nil)])
        #expect(outcome.delivered == 0)
        try await sink.flush()
        var rest = RowBatch()
        rest.add(.insert([4, "us", nil]), to: Self.accounts, commit: 32, ordinal: 1)
        rest.add(.delete([2, "us", nil]), to: Self.accounts, commit: 32, ordinal: 2)
        let end = try await sink.write([rest.seal(resume: Position(high: 40))])
        #expect(end.delivered == 3)
        #expect(
            try database.run("SELECT string_agg(id::text, ' ' ORDER BY id) FROM items") == "3 4")
        #expect(try database.run("SELECT string_agg(account::text, ' ') FROM notes") == "3")
        await sink.close()
    }

    /// A key that differs in other columns is another row's.
    @Test func aDeleteIsNoMove() async throws {
        let (database, _, sink) = try await accounts(3)
        try await sink.write(
            [.delete([1, "us", nil]), .insert([4, "us", "a"]), .delete([2, "us", nil])],
            of: Self.accounts, commit: 32)
        #expect(try database.run("SELECT string_agg(account::text, ' ') FROM notes") == "3")
        await sink.close()
    }
}

extension String {
    /// The statements of a hint: from ALTER to its semicolon.
    var sqlStatements: [String] {
        matches(of: #/ALTER [^;]*;/#).map { String($0.output) }
    }
}
