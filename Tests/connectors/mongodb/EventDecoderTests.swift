import Testing
import WeirCore
import WeirJSON
import WeirMongoDBClient
import WeirTesting
import WeirValues

@testable import WeirMongoDBSource

/// What becomes of each event, without a server.
struct EventDecoderTests {
    private static let followed = Scope.collections([TableName(schema: "shop", name: "orders")])

    /// What the samples become in one batch.
    private func decode(
        _ samples: SampleEvent..., scope: Scope = followed
    ) throws -> (changes: [Change], missing: Int, filtered: Int) {
        let (batch, missing) = decode(samples.map(\.bytes), scope)
        return (try batch.events.map { try Change($0, in: batch) }, missing, batch.filtered)
    }

    private func decode(_ events: [[UInt8]], _ scope: Scope) -> (EventBatch, missing: Int) {
        var decoder = EventDecoder(scope, firstSchemaVersion: 1)
        var builder = BatchBuilder(reusing: EventBatch(), eventLimit: 100, byteLimit: 1 << 20)
        var missing = 0
        decoder.beginBatch()
        for bytes in events {
            bytes.withEvent { event in
                guard let event else { return }
                if case .withoutDocument(let event) = decoder.decode(event, into: &builder) {
                    missing += 1
                    #expect(builder.value(event.value).form == .unchanged)
                }
            }
        }
        return (builder.seal(resume: nil, end: nil), missing)
    }

    @Test func eachKindOfChange() throws {
        var insert = SampleEvent()
        insert.document = SampleEvent.document {
            $0.append("_id", int32: 1)
            $0.append("a", "x")
        }
        var update = insert
        update.kind = "update"
        update.document = nil
        update.changes = SampleEvent.document { $0.appendDocument("updatedFields") { _ in } }
        var replace = insert
        replace.kind = "replace"
        replace.documentBefore = SampleEvent().document
        var delete = SampleEvent()
        delete.kind = "delete"
        delete.document = nil
        var deleteWithImage = delete
        deleteWithImage.documentBefore = insert.document
        let decoded = try decode(insert, replace, delete, deleteWithImage)
        #expect(
            decoded.changes.texts == [
                #"insert orders {"_id":1} + {"_id":1,"a":"x"}"#,
                #"update orders {"_id":1} - {"_id":1} + {"_id":1,"a":"x"}"#,
                #"delete orders {"_id":1}"#,
                #"delete orders {"_id":1} - {"_id":1,"a":"x"}"#,
            ])
        #expect(decoded.missing == 0)
        let waiting = decode([update.bytes], Self.followed)
        #expect(waiting.missing == 1)
        #expect(waiting.0.events.first?.operation == .update)
    }

    @Test(
        "CORRECTNESS 56: drop and rename end a collection; other kinds are left out, and no failure"
    )
    func ends() throws {
        var drop = SampleEvent(key: nil, document: nil)
        drop.kind = "drop"
        var rename = drop
        rename.kind = "rename"
        rename.renamedTo = "other"
        var whole = drop
        whole.kind = "dropDatabase"
        whole.collection = nil
        var end = whole
        end.kind = "invalidate"
        var unknown = SampleEvent()
        unknown.kind = "reshardCollection"
        let decoded = try decode(drop, rename, whole, end, unknown)
        #expect(decoded.changes.texts == ["truncate orders, dropped", "truncate orders, dropped"])
        #expect(decoded.filtered == 3)
    }

    @Test func whatIsNotFollowedIsLeftOut() throws {
        let own = SampleEvent()
        var other = own
        other.collection = "customers"
        var foreign = own
        foreign.database = "crm"
        let all = [own, other, foreign]
        for (scope, names) in [
            (Self.followed, ["shop.orders"]),
            (.database("shop"), ["shop.orders", "shop.customers"]),
            (.deployment, ["shop.orders", "shop.customers", "crm.orders"]),
        ] {
            let decoded = try decode(all[0], all[1], all[2], scope: scope)
            #expect(decoded.changes.map(\.table.description) == names)
            #expect(decoded.filtered == 3 - names.count)
        }
    }

    @Test("CORRECTNESS 56: a rename onto a followed collection is noticed, of any other not")
    func replaced() throws {
        func replaced(_ build: (inout SampleEvent) -> Void) -> TableName? {
            var sample = SampleEvent(collection: "fresh", key: nil, document: nil)
            sample.kind = "rename"
            sample.renamedTo = "orders"
            build(&sample)
            return sample.bytes.withEvent { event in
                var decoder = EventDecoder(Self.followed, firstSchemaVersion: 1)
                return event.flatMap { decoder.replaced(by: $0) }
            }
        }
        #expect(replaced { _ in } == TableName(schema: "shop", name: "orders"))
        #expect(replaced { $0.renamedTo = "customers" } == nil)
        #expect(replaced { $0.database = "crm" } == nil)
        #expect(replaced { $0.kind = "drop" } == nil)
        #expect(replaced { $0.renamedTo = nil } == nil)
    }

    @Test("CORRECTNESS 59: a document as key keeps the order of its fields")
    func documentKey() throws {
        var first = SampleEvent()
        first.key = SampleEvent.document { key in
            key.appendDocument("_id") {
                $0.append("b", int32: 1)
                $0.append("a", int32: 2)
            }
        }
        #expect(try decode(first).changes.first?.key == #"{"_id":{"b":1,"a":2}}"#)
    }

    @Test("CORRECTNESS 60: session and number name a transaction")
    func transaction() throws {
        let plain = SampleEvent()
        var one = plain
        one.transaction = (0xAB, 7)
        var two = one
        two.transaction = (0xAB, 8)
        var other = one
        other.transaction = (0xCD, 7)
        let texts = try decode(plain, one, one, two, other, plain).changes.map(\.transaction)
        let rest = "0102030405060708090a0b0c0d0e0f"
        #expect(
            texts == [nil, "ab\(rest):7", "ab\(rest):7", "ab\(rest):8", "cd\(rest):7", nil])
    }

    @Test(
        "CORRECTNESS 67: the time is the server's clock in milliseconds, before 6.0 whole seconds")
    func commitTime() throws {
        var old = SampleEvent()
        old.wallMillis = nil
        let times = try decode(SampleEvent(), old).changes.map(\.commitMicros)
        #expect(times == [1_795_226_584_123_000, 1_000_000])
    }

    @Test func aTimeThatIsNoneOverflowsNothing() throws {
        let times = try [Int64.min, -1, Int64.max].map { millis in
            var sample = SampleEvent()
            sample.wallMillis = millis
            return try decode(sample).changes[0].commitMicros
        }
        #expect(times == [-62_135_596_800_000_000, -1000, 253_402_300_799_999_000])
    }

    @Test func theTokenIsThePosition() throws {
        let change = try #require(try decode(SampleEvent()).changes.first)
        #expect(change.position.token == "8200000001000000022B04")
        #expect(change.clusterTime == 1 << 32 | 2)
    }

    @Test func whatTheServerSaysOfAnUpdateIsHandedOn() throws {
        let change = try #require(try decode(SampleEvent.full).changes.first)
        #expect(change.changes == #"{"updatedFields":{"a.0":"x"}}"#)
    }

    /// So many collections that the decoder forgets some in between.
    @Test func collectionsWithoutNumber() throws {
        var versions: Set<UInt32> = []
        var decoder = EventDecoder(.deployment, firstSchemaVersion: 5)
        var batch = EventBatch()
        for index in 1...5000 {
            var sample = SampleEvent()
            sample.collection = String(repeating: "c", count: index)
            var builder = BatchBuilder(reusing: batch, eventLimit: 10, byteLimit: 1 << 20)
            decoder.beginBatch()
            sample.bytes.withEvent { event in
                guard let event else { return }
                for _ in 0..<2 { _ = decoder.decode(event, into: &builder) }
            }
            batch = builder.seal(resume: nil, end: nil)
            #expect(batch.events.map(\.table) == [0, 0])
            #expect(batch.tables.map(\.name.utf8.count) == [index])
            versions.insert(batch.tables[0].version)
        }
        #expect(versions.count == 5000)
        #expect(versions.min() == 5)
    }

    @Test(arguments: 0..<8)
    func mutatedEventsNeverTrapAndStayInTheirBatch(seed: UInt64) throws {
        var random = SeededGenerator(seed: seed)
        var encoder = LineEncoder(
            format: .weir, sourceKind: "mongodb", sourceName: "test", notation: .tokens,
            routing: Routing())
        var writer = JSONWriter()
        for _ in 0..<200 {
            let events = (0..<5).map { _ in
                random.below(5) == 0 ? SampleEvent.full.bytes : SampleEvent.full.mutated(&random)
            }
            let (batch, _) = decode(events, .deployment)
            for value in batch.values {
                #expect(value.bytes.range.upperBound <= batch.arena.count, "seed \(seed)")
            }
            writer.removeAll()
            let lines = try encoder.encode(batch, into: &writer)
            #expect(lines.delivered == batch.events.count)
        }
    }
}
