import Testing
import WeirCore
import WeirPostgresClient
import WeirTesting

@testable import WeirPostgresSink

/// One write may hold changes of several shapes of a table.
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
        return [batch.seal(resume: Position(commit: 40))]
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
}
