import Testing
import WeirCore
import WeirTesting

@testable import WeirEngine

@Suite struct SpillCodecTests {
    /// A batch with every kind of thing a batch can hold.
    static func richBatch() -> EventBatch {
        var sample = SampleBatch()
        let notes: [SampleBatch.Note] = [
            .null, .unchanged, .text([]), .text(Array("grün".utf8)), .binary([0, 255]), .bson([5]),
        ]
        for (ordinal, note) in notes.enumerated() {
            sample.add(commit: 16, ordinal: UInt32(ordinal), operation: .update, note: note)
        }
        let batch = sample.seal(resume: Position(high: 24), end: Position(high: 24))
        let odd = TableSchema(
            version: 9, database: "", schema: "ü", name: "a.b",
            columns: [
                Column(
                    name: "tags",
                    type: ColumnType(
                        .text, array: .literal(delimiter: UInt8(ascii: ";")), name: "_text")),
                Column(
                    name: "v", type: ColumnType(.integer, array: .vector, name: "int2vector"),
                    declaredType: "int2vector", isNotNull: true),
                Column(
                    name: "n", type: ColumnType(.text, name: "text"), isNotNull: true,
                    isPartitionKey: true, otherNames: ["m", "ü"]),
            ], key: [1, 0], otherColumns: ["later", ""])
        return EventBatch(
            tables: batch.tables + [odd, .messages(version: 0, database: "shop")],
            events: batch.events, values: batch.values, arena: batch.arena, resume: batch.resume,
            end: batch.end)
    }

    static func body(_ batch: EventBatch) -> [UInt8] {
        Array(SpillCodec.encode(batch).dropFirst(SpillCodec.headerBytes))
    }

    private func expectEqual(
        _ left: EventBatch, _ right: EventBatch,
        sourceLocation: SourceLocation = #_sourceLocation
    ) {
        #expect(left.tables == right.tables, sourceLocation: sourceLocation)
        #expect(left.values == right.values, sourceLocation: sourceLocation)
        #expect(left.arena == right.arena, sourceLocation: sourceLocation)
        #expect(left.resume == right.resume, sourceLocation: sourceLocation)
        #expect(left.end == right.end, sourceLocation: sourceLocation)
        #expect(
            left.events.map { "\($0)" } == right.events.map { "\($0)" },
            sourceLocation: sourceLocation)
    }

    @Test func everyShapeComesBackAsItWas() throws {
        let batches = [
            Self.richBatch(), SampleBatch.boundary(64),
            SampleBatch.part(of: 16, 0..<3, isLast: false),
            SampleBatch().seal(resume: nil, end: nil),
            SampleBatch().seal(resume: Position(token: ""), end: Position(token: "x:y")),
        ]
        for batch in batches {
            expectEqual(try SpillCodec.decode(body: Self.body(batch)), batch)
        }
    }

    /// Until version 3 positions were resume tokens, and so was the first detail of each event.
    @Test func aRecordOfTheVersionBeforeIsRead() throws {
        let token = Array("826B01850A000000142B04".utf8)
        var builder = BatchBuilder(reusing: EventBatch(), eventLimit: 10, byteLimit: 1000)
        let table = builder.table(SampleBatch.table)
        let start = unsafe token.withUnsafeBytes { unsafe builder.append($0) }
        builder.append(Value(form: .text, bytes: Slice(start: start, count: token.count)))
        builder.append(Value.null)
        builder.append(Value.null)
        builder.append(
            Event(
                operation: .truncate, table: table, commit: 0x6B01_850A_0000_0014, ordinal: 0,
                transaction: 0, change: 0, commitMicros: 0, details: Slice(start: 0, count: 3)))
        let body = Self.body(builder.seal(resume: nil, end: nil))
        func former(_ text: String) -> [UInt8] {
            [1, 0, 0, 0, UInt8(text.utf8.count), 0, 0, 0] + Array(text.utf8)
        }
        let old = [0, 0, 0, 0] + former("826B01850A000000142B04+") + body.dropFirst(8)
        let batch = try SpillCodec.decode(body: old)
        #expect(batch.resume == nil)
        #expect(batch.end == Position(high: 0x6B01_850A_0000_0014, tail: "2B04+"))
        let place = try #require(batch.events.first.map { batch.position(of: $0) })
        #expect(place == Position(high: 0x6B01_850A_0000_0014, tail: "2B04"))
        // And goes on as one of this version.
        expectEqual(try SpillCodec.decode(body: Self.body(batch)), batch)
    }

    @Test func everyPrefixIsRefused() {
        let body = Self.body(Self.richBatch())
        for count in 0..<body.count {
            #expect(throws: MalformedBytes.self) {
                try SpillCodec.decode(body: Array(body.prefix(count)))
            }
        }
        #expect(throws: MalformedBytes.self) { try SpillCodec.decode(body: body + [0]) }
    }

    @Test func theChecksumFindsEveryFlippedBit() {
        let body = Self.body(Self.richBatch())
        let sum = SpillCodec.checksum(body)
        for bit in 0..<body.count * 8 {
            var flipped = body
            flipped[bit / 8] ^= 1 << (bit % 8)
            #expect(SpillCodec.checksum(flipped) != sum)
        }
    }

    /// Even past the checksum nothing is taken that points outside of the batch.
    @Test func whatIsDecodedFromFlippedBytesPointsInside() {
        let body = Self.body(Self.richBatch())
        var refused = 0
        for bit in 0..<body.count * 8 {
            var flipped = body
            flipped[bit / 8] ^= 1 << (bit % 8)
            guard let batch = try? SpillCodec.decode(body: flipped) else {
                refused += 1
                continue
            }
            for event in batch.events {
                #expect(WeirCore.Operation.allCases.contains(event.operation))
                #expect(event.table < UInt32(batch.tables.count))
                for slice in [event.key, event.before, event.after, event.details] {
                    #expect(slice.range.upperBound <= batch.values.count)
                }
            }
            for value in batch.values {
                #expect(value.form.rawValue <= Value.Form.bsonKey.rawValue)
                #expect(value.bytes.range.upperBound <= batch.arena.count)
            }
        }
        #expect(refused > body.count)
    }

    @Test func countsThatCannotBeAllocateNothing() {
        var body = Self.body(SampleBatch.boundary(64))
        // The number of tables stands behind the two positions.
        let tables = body.count - 16
        for offset in stride(from: tables, to: body.count, by: 4) {
            body.replaceSubrange(offset..<offset + 4, with: [255, 255, 255, 255])
            #expect(throws: MalformedBytes.self) { try SpillCodec.decode(body: body) }
            body.replaceSubrange(offset..<offset + 4, with: [0, 0, 0, 0])
        }
    }
}
