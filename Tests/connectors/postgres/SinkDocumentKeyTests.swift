import Testing
import WeirCore
import WeirPostgresClient
import WeirTesting

@testable import WeirPostgresSink

/// Which documents are one row, in which transaction they are written, and where a collection goes.
struct SinkDocumentKeyTests {
    private static let items = TableSchema.collection(version: 61, database: "shop", name: "items")

    private func open(
        _ database: TestDatabase, _ more: [String: ConfigValue] = [:],
        tables: [String]? = ["shop.items"]
    ) async throws -> PostgresSink {
        var more = more
        more["table"] = more["table"] ?? .string("items")
        let sink = try SinkHarness(database).sink(more, tables: tables)
        _ = try await sink.open(at: nil)
        return sink
    }

    private static func document(_ id: DocumentValue, _ word: String) -> DocumentValue {
        .document(["_id": id, "w": DocumentValue(word)])
    }

    /// Documents of nobody's interest, so that there are enough to copy.
    private static func others(_ count: Int) -> [DocumentChange] {
        (0..<count).map { .insert(document(.int64(Int64(1000 + $0)), "other")) }
    }

    private func rows(_ database: TestDatabase) throws -> String {
        try database.run(
            """
            SELECT coalesce(string_agg(_id || '=' || (document->>'w'), ' ' ORDER BY _id COLLATE "C"), '')
            FROM items WHERE document->>'w' <> 'other'
            """)
    }

    // MARK: Ids that are one to the target

    /// To MongoDB they are two documents. Whatever comes last counts, however it is written.
    @Test(arguments: [0, 100])
    func idsOfOneTextAreOneRowAndTheLastChangeCounts(count: Int) async throws {
        let database = try await TestDatabase()
        let sink = try await open(database)
        let number = DocumentValue.int32(1)
        let steps: [(changes: [DocumentChange], left: String)] = [
            (
                [.insert(Self.document(number, "a")), .insert(Self.document("1", "b"))],
                "1=b"
            ),
            ([.update(Self.document("1", "c")), .insert(Self.document(number, "d"))], "1=d"),
            ([.update(Self.document(number, "e")), .delete(id: "1")], ""),
            ([.delete(id: number), .insert(Self.document("1", "f"))], "1=f"),
            ([.insert(Self.document(.double(1), "g")), .delete(id: number)], ""),
        ]
        for (index, step) in steps.enumerated() {
            let outcome = try await sink.write(
                Self.others(count) + step.changes, of: Self.items, time: UInt64(16 * (index + 1)))
            #expect(outcome.delivered == count + 2)
            let found = try rows(database)
            #expect(found == step.left, "step \(index)")
        }
        await sink.close()
    }

    /// The text of an id may be one of several of a number or a UUID.
    @Test(arguments: [0, 100])
    func aKeyOfAnotherTypeThanTextDecidesWhatIsOne(count: Int) async throws {
        let uuid = (0..<16).map { UInt8($0 * 16) }
        let cases: [(type: String, ids: [DocumentValue])] = [
            ("int8", [1, "1", "01", " 1", .int64(1)]),
            ("numeric", [1, .double(1), "1.00", .decimal(100, exponent: -2)]),
            ("uuid", [.uuid(uuid), "00102030-4050-6070-8090-A0B0C0D0E0F0"]),
            ("jsonb", [1, .double(1), .int64(1)]),
        ]
        for (type, ids) in cases {
            let database = try await TestDatabase(
                "CREATE TABLE items (_id \(type) PRIMARY KEY, document jsonb)")
            let sink = try await open(database)
            let first = ids[0]
            let last = ids[ids.count - 1]
            var rest = Self.others(count)
            if type == "uuid" {
                rest = (0..<count).map {
                    .insert(
                        Self.document(.uuid([UInt8](repeating: UInt8($0), count: 16)), "other"))
                }
            }
            let steps: [(changes: [DocumentChange], left: String?)] = [
                (ids.map { .insert(Self.document($0, "a\($0)")) }, "a\(last)"),
                ([.delete(id: first)], nil),
                (ids.reversed().map { .update(Self.document($0, "b\($0)")) }, "b\(first)"),
                ([.insert(Self.document(first, "c")), .delete(id: last)], nil),
                ([.delete(id: first), .insert(Self.document(last, "d"))], "d"),
                (
                    [.update(Self.document(last, "e")), .insert(Self.document(first, "f"))], "f"
                ),
            ]
            for (index, step) in steps.enumerated() {
                try await sink.write(
                    rest + step.changes, of: Self.items, time: UInt64(16 * (index + 1)))
                let found = try database.run(
                    "SELECT document->>'w' FROM items WHERE document->>'w' <> 'other'")
                #expect(found == step.left ?? "", "\(type), step \(index)")
            }
            await sink.close()
        }
    }

    /// An id that is a document is its text, the order of its members included.
    @Test func idsMayBeDocuments() async throws {
        let database = try await TestDatabase()
        let sink = try await open(database)
        let ids: [DocumentValue] = [
            .document(["a": 1, "b": "x"]), .document(["b": "x", "a": 1]), .document([:]), "",
        ]
        try await sink.write(
            ids.enumerated().map { .insert(Self.document($1, "\($0)")) }, of: Self.items, time: 16)
        let found = try rows(database)
        #expect(found == #"=3 {"a":1,"b":"x"}=0 {"b":"x","a":1}=1 {}=2"#)
        try await sink.write([.delete(id: ids[1]), .delete(id: "")], of: Self.items, time: 32)
        #expect(try database.run("SELECT count(*) FROM items") == "2")
        await sink.close()
    }

    // MARK: Transactions

    /// Events of one cluster time are a transaction, in which documents may exchange a value.
    @Test(arguments: [0, 100])
    func documentsMayExchangeAUniqueValueInOneTransaction(count: Int) async throws {
        let database = try await TestDatabase(
            "CREATE TABLE items (_id text PRIMARY KEY, rank int UNIQUE)")
        let sink = try await open(
            database, ["columns": .columns([ColumnChoice(output: "rank", source: "r.0")])])
        func ranked(_ id: Int32, _ rank: Int32) -> DocumentValue {
            .document(["_id": .int32(id), "r": .array([.int32(rank)])])
        }
        let others = (0..<Int32(count)).map {
            DocumentChange.insert(ranked(1000 + $0, 1000 + $0))
        }
        try await sink.write(
            [.insert(ranked(1, 10)), .insert(ranked(2, 20))], of: Self.items, time: 16)
        let exchange: [DocumentChange] = [.update(ranked(1, 20)), .update(ranked(2, 10))]
        try await sink.write(others + exchange, of: Self.items, time: 32)
        #expect(
            try database.run("SELECT rank FROM items WHERE rank < 100 ORDER BY _id") == "20\n10")
        // At two times they cannot both have been so.
        var batch = DocumentBatch()
        batch.add(.update(ranked(1, 10)), to: Self.items, time: 48)
        batch.add(.update(ranked(2, 20)), to: Self.items, time: 49)
        let batches = [batch.seal(behind: 49)]
        await expectError(.rowRefused, .rejected, "(_id=1)") {
            _ = try await sink.write(batches)
        }
        await sink.close()
    }

    // MARK: Collections of no list

    @Test func eachCollectionHasATargetOfItsOwn() async throws {
        let database = try await TestDatabase()
        let sink = try await open(
            database, ["table": .string("copy.{table}")], tables: nil)
        let prices = TableSchema.collection(version: 62, database: "shop", name: "prices")
        let others = TableSchema.collection(version: 63, database: "old", name: "items")
        try await sink.write([.insert(Self.document(1, "a"))], of: Self.items, time: 16)
        try await sink.write([.insert(Self.document(1, "b"))], of: prices, time: 32)
        #expect(
            try database.run(
                "SELECT i.document->>'w', p.document->>'w' FROM copy.items i, copy.prices p")
                == "a|b")
        await expectError(.targetUnfit, .blocked, "\"shop.items\" and \"old.items\" would both") {
            try await sink.write([.insert(Self.document(1, "c"))], of: others, time: 48)
        }
        let long = TableSchema.collection(
            version: 64, database: "shop", name: String(repeating: "x", count: 64))
        await expectError(.targetUnfit, .blocked, "more than 63 bytes") {
            try await sink.write([.insert(Self.document(1, "d"))], of: long, time: 48)
        }
        #expect(try database.run("SELECT count(*) FROM copy.items") == "1")
        await sink.close()
    }

    // MARK: Random histories

    /// Ids of many types, several of which are one text, and that text.
    private static let ids: [(id: DocumentValue, text: String)] = [
        (1, "1"), (.int64(1), "1"), ("1", "1"), (.double(1), "1"), ("1.0", "1.0"),
        (.double(1.5), "1.5"), (.objectId([UInt8](repeating: 0x5A, count: 12)), objectText),
        (DocumentValue(objectText), objectText), (.date(0), "1970-01-01T00:00:00.000Z"),
        ("1970-01-01T00:00:00.000Z", "1970-01-01T00:00:00.000Z"), (.bool(true), "true"),
        ("true", "true"), (.document(["a": 1]), #"{"a":1}"#), (#"{"a":1}"#, #"{"a":1}"#),
        ("", ""), ("မြန်မာ", "မြန်မာ"), ("tab\t\\", "tab\t\\"), (.decimal(10, exponent: -1), "1.0"),
        ("a", "a"), ("A", "A"), ("b", "b"), (2, "2"), (3, "3"), (.int32(-4), "-4"),
    ]
    private static let objectText = String(repeating: "5a", count: 12)
    private static let words = ["", "ဆိုင်", "ร้าน", "متجر", "🛍️", "\\N", "tab\t", "plain"]

    private static func random(_ random: inout SeededGenerator) -> (DocumentValue, String) {
        // Some ids come often, and many once.
        if random.below(3) == 0 {
            let number = 100 + random.below(500)
            return (.int32(Int32(number)), "\(number)")
        }
        let pick = ids[random.below(ids.count)]
        return (pick.id, pick.text)
    }

    private static func change(
        _ step: Int, _ model: inout [String: String], _ random: inout SeededGenerator
    ) -> DocumentChange {
        let (id, text) = Self.random(&random)
        let word = "\(words[random.below(words.count)]) \(step)"
        switch random.below(16) {
        case 0..<5:
            model[text] = nil
            return .delete(id: id, image: random.below(2) == 0 ? document(id, "old") : nil)
        case 5: return .gone(id: id)
        case 6 where random.below(20) == 0:
            model = [:]
            return .truncate(flags: Event.dropped)
        case 6..<11:
            model[text] = word
            return .insert(document(id, word))
        default:
            model[text] = word
            return .update(document(id, word), flags: random.below(2) == 0 ? Event.late : 0)
        }
    }

    /// The table is the documents by their ids' texts, after each write and each new start.
    @Test(arguments: 1...6 as ClosedRange<UInt64>)
    func aTableIsItsHistory(seed: UInt64) async throws {
        let database = try await TestDatabase()
        let harness = SinkHarness(database)
        let more: [String: ConfigValue] = ["table": .string("items")]
        var random = SeededGenerator(seed: seed)
        var model: [String: String] = [:]
        var sink = try harness.sink(more, tables: ["shop.items"])
        var mark = try await sink.open(at: nil)
        var time: UInt64 = 16
        var step = 0
        for round in 0..<40 {
            var batches: [EventBatch] = []
            var count = 0
            for _ in 0..<(1 + random.below(3)) {
                var batch = DocumentBatch()
                // Few changes and many go different ways.
                for _ in 0..<(random.below(2) == 0 ? 1 + random.below(12) : 40 + random.below(200))
                {
                    step += 1
                    if random.below(3) == 0 { time += 1 }
                    batch.add(Self.change(step, &model, &random), to: Self.items, time: time)
                }
                count += batch.count
                batches.append(batch.seal(behind: time))
                time += 1
            }
            let outcome = try await sink.write(batches)
            #expect(outcome.delivered + outcome.filtered == count)
            if random.below(4) == 0 {
                // Gone before the checkpoint: the same batches come again, and are known.
                await sink.close()
                sink = try harness.sink(more, tables: ["shop.items"])
                mark = try await sink.open(at: mark)
                let again = try await sink.write(batches)
                #expect(again.delivered == 0 && again.filtered == count)
            } else {
                mark = outcome.mark
            }
            let found = try database.connect().query(
                "SELECT _id, document->>'w' FROM public.items")
            let rows = Dictionary(uniqueKeysWithValues: found.map { ($0[0] ?? "", $0[1] ?? "") })
            guard rows == model else {
                Issue.record("seed \(seed), round \(round): \(rows) instead of \(model)")
                return
            }
        }
        await sink.close()
    }
}
