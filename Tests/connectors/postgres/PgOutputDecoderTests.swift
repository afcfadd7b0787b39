import Testing
import WeirCore
import WeirPostgresClient
import WeirTesting

@testable import WeirPostgresSource

/// Golden bytes of pgoutput, written out as the manual describes them.
private struct Message {
    var bytes: [UInt8]

    init(_ kind: Character) { bytes = Array(String(kind).utf8) }

    func int8(_ value: UInt8) -> Message { adding([value]) }
    func int16(_ value: Int16) -> Message { adding(Self.big(value)) }
    func int32(_ value: Int32) -> Message { adding(Self.big(value)) }
    func int64(_ value: Int64) -> Message { adding(Self.big(value)) }
    func string(_ text: String) -> Message { adding(Array(text.utf8) + [0]) }

    /// `N`, `K` or `O`, then the columns: nil is null, "…" unchanged, other text.
    func tuple(_ kind: Character, _ columns: [String?]) -> Message {
        var message = adding(Array(String(kind).utf8)).int16(Int16(columns.count))
        for column in columns {
            switch column {
            case nil: message = message.adding([UInt8(ascii: "n")])
            case "…": message = message.adding([UInt8(ascii: "u")])
            case let text?:
                message = message.adding([UInt8(ascii: "t")]).int32(Int32(text.utf8.count))
                message = message.adding(Array(text.utf8))
            }
        }
        return message
    }

    private func adding(_ more: [UInt8]) -> Message {
        var message = self
        message.bytes += more
        return message
    }

    private static func big(_ value: some FixedWidthInteger) -> [UInt8] {
        unsafe withUnsafeBytes(of: value.bigEndian) { unsafe Array($0) }
    }

    static func begin(_ commit: Int64) -> Message {
        Message("B").int64(commit).int64(1_000_000).int32(7)
    }
    static func commit(_ commit: Int64) -> Message {
        Message("C").int8(0).int64(commit).int64(commit + 40).int64(1_000_000)
    }
    /// public.t (id integer, the identity; note text).
    static let relation = Message("R").int32(42).string("public").string("t")
        .int8(UInt8(ascii: "d")).int16(2)
        .int8(1).string("id").int32(23).int32(-1)
        .int8(0).string("note").int32(25).int32(-1)
    static func insert(_ columns: [String?]) -> Message {
        Message("I").int32(42).tuple("N", columns)
    }
}

/// A decoder and the batch it fills, fed without a server.
private struct Feed: ~Copyable {
    var decoder: PgOutputDecoder
    var builder = BatchBuilder(reusing: EventBatch(), eventLimit: 1000, byteLimit: 1 << 20)

    init(
        from start: Position = Position(high: 0), origins: OriginFilter = .nothing,
        tables: Set<TableName>? = nil
    ) {
        decoder = PgOutputDecoder(
            from: start,
            catalogue: RelationCatalogue(
                database: "d", tables: tables, checksAllText: false, firstVersion: 1),
            origins: OriginSieve(origins))
    }

    @discardableResult
    mutating func take(_ bytes: [UInt8]) throws(MalformedBytes) -> PgOutputStep {
        var result: Result<PgOutputStep, MalformedBytes>?
        unsafe bytes.withUnsafeBytes { raw in
            do throws(MalformedBytes) {
                result = .success(try unsafe decoder.decode(raw, change: 900, into: &builder))
            } catch {
                result = .failure(error)
            }
        }
        guard let result else { throw MalformedBytes("not fed", at: 0) }
        let step = try result.get()
        if case .relation(let relation) = step { decoder.install(relation, table: nil) }
        return step
    }

    mutating func take(_ messages: [Message]) throws(MalformedBytes) {
        for message in messages { try take(message.bytes) }
    }

    consuming func sealed() -> EventBatch { builder.seal(resume: nil, end: nil) }
}

/// One of each kind of message that begins with what it needs before it.
private let transcripts: [(name: String, messages: [Message])] = [
    ("insert", [.begin(1000), .relation, .insert(["1", "a"])]),
    ("null and unchanged", [.begin(1000), .relation, .insert([nil, "…"])]),
    (
        "update with key",
        [
            .begin(1000), .relation,
            Message("U").int32(42).tuple("K", ["1", nil]).tuple("N", ["2", "b"]),
        ]
    ),
    (
        "update with old row",
        [
            .begin(1000), .relation,
            Message("U").int32(42).tuple("O", ["1", "a"]).tuple("N", ["1", "…"]),
        ]
    ),
    ("update", [.begin(1000), .relation, Message("U").int32(42).tuple("N", ["1", "b"])]),
    ("delete", [.begin(1000), .relation, Message("D").int32(42).tuple("K", ["1", nil])]),
    ("truncate", [.begin(1000), .relation, Message("T").int32(2).int8(3).int32(42).int32(42)]),
    (
        "message",
        [.begin(1000), Message("M").int8(1).int64(990).string("app").int32(2).int8(104).int8(105)]
    ),
    ("message outside", [Message("M").int8(0).int64(990).string("app").int32(1).int8(0xFF)]),
    ("type", [Message("Y").int32(99_999).string("public").string("mood")]),
    ("origin", [.begin(1000), Message("O").int64(1).string("elsewhere")]),
    ("commit", [.begin(1000), .commit(1000)]),
]

struct PgOutputDecoderTests {
    @Test("CORRECTNESS 26, 27, 29: the forms of an update")
    func theFormsOfAnUpdate() throws {
        var feed = Feed()
        try feed.take([
            .begin(1000), .relation,
            Message("U").int32(42).tuple("N", ["1", "b"]),
            Message("U").int32(42).tuple("K", ["1", nil]).tuple("N", ["2", "…"]),
            Message("U").int32(42).tuple("O", ["2", "old"]).tuple("N", ["2", "…"]),
        ])
        let batch = feed.sealed()
        #expect(batch.events.map(\.ordinal) == [0, 1, 2])
        #expect(batch.events[0].before.isEmpty)
        #expect(batch.events[1].has(Event.keyChanged))
        #expect(batch.events[1].has(Event.beforeIsKey))
        // Of a key tuple only the identity says something; the unchanged value stays unknown.
        let keyRow = batch.values[batch.events[1].before.range]
        #expect(keyRow.map(\.form) == [.text, .unchanged])
        #expect(batch.values[batch.events[1].after.range].last?.form == .unchanged)
        // From the whole old row it is known.
        #expect(!batch.events[2].has(Event.keyChanged))
        let filled = try #require(batch.values[batch.events[2].after.range].last)
        #expect(filled.form == .text)
        #expect(String(decoding: batch.arena[filled.bytes.range], as: UTF8.self) == "old")
    }

    @Test("CORRECTNESS 36: what a reconnect repeats is skipped by commit and ordinal")
    func aReconnectSkipsExactlyWhatWasRead() throws {
        var feed = Feed(from: Position(high: 2000, low: 2))
        try feed.take([
            .begin(1000), .relation, .insert(["1", "old"]), .commit(1000),
            .begin(2000), .insert(["2", "a"]), .insert(["3", "b"]), .insert(["4", "c"]),
            .commit(2000), .begin(3000), .insert(["5", "d"]),
        ])
        let batch = feed.sealed()
        #expect(batch.events.map(\.commit) == [2000, 3000])
        #expect(batch.events.map(\.ordinal) == [2, 0])
        #expect(batch.filtered == 0)
    }

    @Test("CORRECTNESS 16: a message outside of a transaction gets a place no commit can have")
    func aMessageOutsideHasItsOwnPlace() throws {
        var feed = Feed()
        let step = try feed.take(
            Message("M").int8(0).int64(0x1000).string("app").int32(1).int8(0x61).bytes)
        guard case .boundary(let lsn) = step else {
            Issue.record("no boundary after a message outside of a transaction")
            return
        }
        #expect(lsn.value == 0x1000)
        let batch = feed.sealed()
        #expect(batch.events.first?.commit == 0xFFF)
        #expect(batch.events.first?.commitMicros == Event.noTime)
    }

    @Test("CORRECTNESS 26: a row of another width than its table is refused")
    func aRowOfAnotherWidthIsRefused() throws {
        for columns in [["1"], ["1", "2", "3"], []] as [[String?]] {
            #expect(throws: MalformedBytes.self) {
                var feed = Feed()
                try feed.take([.begin(1000), .relation, .insert(columns)])
            }
        }
    }

    @Test func whatIsDescribedWithoutEndIsRefused() throws {
        func relation(_ oid: Int32, columns: Int16) -> Message {
            var message = Message("R").int32(oid).string("public").string("t")
                .int8(UInt8(ascii: "d")).int16(columns)
            for _ in 0..<columns { message = message.int8(1).string("c").int32(23).int32(-1) }
            return message
        }
        var feed = Feed()
        let wide = relation(1, columns: 1600)
        for oid in 0..<Int32(RelationCatalogue.columnsMax / 1600) {
            var message = wide
            message.bytes.replaceSubrange(1..<5, with: Message("R").int32(oid).bytes[1...])
            try feed.take(message.bytes)
        }
        #expect(throws: MalformedBytes.self) { try feed.take(relation(-1, columns: 1600).bytes) }
        // One that is described again takes no more room.
        try feed.take(wide.bytes)
        #expect(throws: MalformedBytes.self) {
            let name = String(repeating: "n", count: RelationCatalogue.descriptionBytesMax)
            try feed.take(Message("Y").int32(1).string("public").string(name).bytes)
        }
        for oid in 0..<Int32(RelationCatalogue.typesMax) {
            try feed.take(Message("Y").int32(oid).string("public").string("t").bytes)
        }
        #expect(throws: MalformedBytes.self) {
            try feed.take(Message("Y").int32(-1).string("public").string("t").bytes)
        }
        try feed.take(Message("Y").int32(1).string("public").string("renamed").bytes)
    }

    @Test func ofTablesThatAreNotWantedNothingIsKept() throws {
        var feed = Feed(tables: [TableName(schema: "public", name: "t")])
        var other = Message("R").int32(1).string("tenant").string("t")
            .int8(UInt8(ascii: "d")).int16(1600)
        for _ in 0..<1600 { other = other.int8(1).string("c").int32(99_999).int32(-1) }
        for oid in 0..<Int32(RelationCatalogue.columnsMax / 1600 + 100) {
            for type in 0..<200 {
                let type = Message("Y").int32(100_000 + oid * 200 + Int32(type))
                try feed.take(type.string("tenant").string("mood").bytes)
            }
            other.bytes.replaceSubrange(1..<5, with: Message("R").int32(oid + 100).bytes[1...])
            try feed.take(other.bytes)
        }
        try feed.take([
            .begin(1000), .relation, Message("I").int32(100).tuple("N", ["x"]),
            Message("I").int32(101).tuple("N", ["x"]), .insert(["1", "a"]), .commit(1000),
        ])
        let batch = feed.sealed()
        #expect(batch.events.count == 1)
        #expect(batch.filtered == 2)
        #expect(batch.events.first?.ordinal == 2)
    }

    @Test func aPlaceBeyondAnyLogIsNone() {
        #expect(LSN(parsing: "7FFFFFFF/FFFFFFFF") == .max)
        #expect(LSN(parsing: "80000000/0") == nil)
        #expect(LSN(parsing: "FFFFFFFF/FFFFFFFF") == nil)
        #expect(LSN(.max).next == LSN(0))
        #expect(LSN.max.next > .max)
    }

    @Test func changesWhereNoneCanBeAreRefused() {
        let impossible: [[Message]] = [
            [.relation, .insert(["1", "a"])], // outside of a transaction
            [.begin(1000), .insert(["1", "a"])], // of a relation never described
            [.commit(1000)],
            [.begin(1000), .commit(2000)],
            [.begin(1000), .relation, Message("I").int32(42).tuple("K", ["1", "a"])],
            [.begin(1000), .relation, Message("U").int32(42).tuple("K", ["1", nil])],
            [.begin(1000), .relation, Message("D").int32(42).tuple("N", ["1", nil])],
            [.begin(1000), Message("M").int8(0).int64(990).string("app").int32(0)],
            [.begin(1000), .begin(1001)],
            // Places that no log reaches.
            [.begin(-1)], [.begin(.min)], [Message("M").int8(0).int64(-1).string("a").int32(0)],
            [.begin(1000).int8(0)],
            [Message("?")],
        ]
        for messages in impossible {
            #expect(throws: MalformedBytes.self) {
                var feed = Feed()
                try feed.take(messages)
            }
        }
    }

    /// Every proper prefix is refused, but where the rest was optional; none traps.
    @Test(arguments: transcripts.map(\.name))
    func everyPrefixIsRefused(name: String) throws {
        let messages = try #require(transcripts.first { $0.name == name }).messages
        let last = try #require(messages.last).bytes
        for length in 0..<last.count {
            #expect(throws: MalformedBytes.self, "\(length) of \(last.count) bytes") {
                var feed = Feed()
                try feed.take(Array(messages.dropLast()))
                try feed.take(Array(last[..<length]))
            }
        }
    }

    @Test func mutatedMessagesNeverTrap() throws {
        var random = SeededGenerator(seed: 20_261_121)
        var refused = 0
        for round in 0..<30_000 {
            let transcript = transcripts[round % transcripts.count].messages
            var feed = Feed()
            do {
                for message in transcript {
                    var bytes = message.bytes
                    for _ in 0..<Int.random(in: 0...2, using: &random) where !bytes.isEmpty {
                        let at = Int.random(in: 0..<bytes.count, using: &random)
                        bytes[at] =
                            [0, 1, 0x7F, 0xFF, .random(in: 0...255, using: &random)]
                            .randomElement(using: &random) ?? 0
                    }
                    try feed.take(bytes)
                }
            } catch {
                refused += 1
            }
            let batch = feed.sealed()
            // Whatever was taken points into the batch.
            for event in batch.events {
                for slice in [event.key, event.before, event.after] {
                    for value in batch.values[slice.range] where value.form == .text {
                        #expect(value.bytes.range.upperBound <= batch.arena.count)
                    }
                }
            }
        }
        #expect(refused > 5000)
    }
}
