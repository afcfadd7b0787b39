import Testing
import WeirMongoDBClient
import WeirTesting

@testable import WeirMongoDBSource

/// Where the parts of an event are in its bytes.
struct RawEventTests {
    /// The bytes of a part, and whether it is there.
    private func part(_ bytes: [UInt8], _ range: Range<Int>?) -> [UInt8]? {
        range.map { Array(bytes[$0]) }
    }

    @Test func everyPartIsFound() throws {
        let sample = SampleEvent.full
        let bytes = sample.bytes
        try bytes.withEvent { found in
            let event = try #require(found)
            #expect(event.kind == .update)
            #expect(part(bytes, event.tail) == Array("2B04".utf8))
            let token = BSONWriter.document { $0.append("_data", "8200000001000000022B04") }
            #expect(part(bytes, event.token) == token)
            #expect(event.clusterTime == 1 << 32 | 2)
            #expect(event.wallMillis == 1_795_226_584_123)
            let namespace = BSONWriter.document {
                $0.append("db", "shop")
                $0.append("coll", "orders")
            }
            #expect(part(bytes, event.namespace) == namespace)
            #expect(event.renamedTo.count == namespace.count - 1)
            #expect(part(bytes, event.key) == sample.key)
            #expect(part(bytes, event.document) == sample.document)
            #expect(part(bytes, event.documentBefore) == sample.documentBefore)
            #expect(part(bytes, event.changes) == sample.changes)
            #expect(event.transactionNumber == 3)
            #expect(event.session?.count == 30)
        }
    }

    @Test(arguments: [
        ("insert", RawEvent.Kind.insert), ("update", .update), ("replace", .replace),
        ("delete", .delete), ("drop", .drop), ("rename", .rename),
        ("dropDatabase", .dropDatabase), ("invalidate", .invalidate), ("create", .other),
        ("createIndexes", .other), ("dropIndexes", .other), ("modify", .other),
        ("shardCollection", .other), ("refineCollectionShardKey", .other), ("", .other),
        ("Insert", .other), ("inserts", .other), ("upsert", .other), ("dropdatabase", .other),
    ])
    func aKindThatIsNotKnownIsNoFailure(name: String, kind: RawEvent.Kind) throws {
        var sample = SampleEvent()
        sample.kind = name
        #expect(try #require(sample.bytes.withEvent { $0?.kind }) == kind)
    }

    @Test func whatIsMissingIsNotThere() throws {
        var sample = SampleEvent()
        sample.key = nil
        sample.document = nil
        sample.hasNullDocument = true
        sample.wallMillis = nil
        sample.bytes.withEvent { event in
            #expect(event != nil)
            #expect(event?.key == nil)
            #expect(event?.document == nil)
            #expect(event?.documentBefore == nil)
            #expect(event?.changes == nil)
            #expect(event?.session == nil)
            #expect(event?.wallMillis == nil)
            #expect(event?.renamedTo.isEmpty == true)
        }
    }

    @Test func withoutTokenOrKindItIsNoEvent() {
        var sample = SampleEvent()
        sample.token = nil
        #expect(sample.bytes.withEvent { $0 == nil })
        let noKind = BSONWriter.document { event in
            event.appendDocument("_id") { $0.append("_data", "82") }
        }
        #expect(noKind.withEvent { $0 == nil })
        let numbers = BSONWriter.document { event in
            event.appendDocument("_id") { $0.append("_data", int32: 82) }
            event.append("operationType", "insert")
        }
        #expect(numbers.withEvent { $0 == nil })
        // Positions and versions rest on it that a token begins with the event's cluster time.
        for other in [
            "8200000001000000032B04", "8300000001000000022B04", "820000000100000002", "82",
        ] {
            sample.token = other
            #expect(sample.bytes.withEvent { $0 == nil }, "\(other)")
        }
        #expect([].withEvent { $0 == nil })
        #expect(BSONWriter().bytes.withEvent { $0 == nil })
    }

    /// A part of another type than the server's is not there, rather than read as what it is not.
    @Test func partsOfAnotherTypeAreNotThere() {
        let bytes = BSONWriter.document { event in
            event.appendDocument("_id") { $0.append("_data", "8200000000000000002B04") }
            event.append("operationType", "insert")
            for name in [
                "ns", "to", "lsid", "wallTime", "txnNumber", "clusterTime", "documentKey",
                "fullDocument", "updateDescription", "fullDocumentBeforeChange",
            ] { event.append(name, true) }
        }
        bytes.withEvent { event in
            #expect(event?.kind == .insert)
            #expect(event?.clusterTime == 0)
            #expect(event?.key == nil)
            #expect(event?.document == nil)
            #expect(event?.session == nil)
        }
    }

    @Test func everyPrefixIsRefused() {
        let bytes = SampleEvent.full.bytes
        for count in 0..<bytes.count {
            #expect(Array(bytes.prefix(count)).withEvent { $0 == nil })
        }
    }

    @Test(arguments: 0..<8)
    func mutatedEventsAreReadWithinTheirBytes(seed: UInt64) {
        var random = SeededGenerator(seed: seed)
        for _ in 0..<1000 {
            let bytes = SampleEvent.full.mutated(&random)
            bytes.withEvent { event in
                guard let event else { return }
                let parts = [
                    event.token, event.tail, event.namespace, event.renamedTo,
                    event.key, event.document, event.documentBefore, event.changes, event.session,
                ].compactMap(\.self)
                for part in parts {
                    #expect(part.lowerBound >= 0 && part.upperBound <= bytes.count, "seed \(seed)")
                }
            }
        }
    }
}
