import Testing
import WeirCore
import WeirRedisSink
import WeirTesting

/// Documents of MongoDB in Redis, against a real server.
struct DocumentCacheTests {
    private let harness: CacheHarness
    private let server: RedisServer
    private static let time: UInt64 = 0x6740_0000_0000_0001
    private static let seconds: UInt64 = 1 << 32

    init() async throws {
        harness = try await CacheHarness.start()
        server = harness.server
    }

    private func opened(
        write: String = "json", key: String = "product:{_id}", _ more: [String: ConfigValue] = [:]
    ) async throws -> RedisSink {
        let sink = try harness.documentSink(write: write, key: key, more)
        _ = try await sink.open(at: nil)
        return sink
    }

    private func side(_ key: String) throws -> String? { try harness.get("{\(key)}:v") }

    private func version(_ time: UInt64) -> String {
        VersionText.of(epoch: harness.epoch, token: DocumentBatch.token(time))
    }

    private func columns(_ choices: (String, String)...) -> ConfigValue {
        .columns(choices.map { ColumnChoice(output: $0.0, source: $0.1) })
    }

    private static let coffee: Document = [
        "_id": .objectId([0x65, 0x3F, 0x0C, 0x2A, 0x9B, 0x8D, 0x7E, 0x6F, 0x5A, 0x4B, 0x3C, 0x2D]),
        "tenant_id": "shwe", "name": ["en": "Coffee", "my": "ကော်ဖီ"],
        "variants": [
            ["sku": "A", "stock": 12], ["sku": "B", "stock": .int64(9_007_199_254_740_993)],
        ],
        "price": .double(2.5),
    ]

    // MARK: Forms

    @Test func jsonIsTheDocument() async throws {
        let sink = try await opened()
        let outcome = try await sink.write([
            DocumentBatch.of([.insert(Self.coffee)], time: Self.time)
        ])
        #expect(outcome.delivered == 1 && outcome.filtered == 0 && outcome.late == 0)
        let key = "product:653f0c2a9b8d7e6f5a4b3c2d"
        #expect(
            try harness.get(key)
                == #"{"_id":{"$oid":"653f0c2a9b8d7e6f5a4b3c2d"},"tenant_id":"shwe","#
                + #""name":{"en":"Coffee","my":"ကော်ဖီ"},"variants":[{"sku":"A","stock":12},"#
                + #"{"sku":"B","stock":9007199254740993}],"price":2.5}"#)
        #expect(try side(key) == version(Self.time))
        _ = try await sink.write([
            DocumentBatch.of(
                [.delete(key: ["_id": Self.coffee["_id"] ?? nil])], time: Self.time + 1)
        ])
        #expect(try harness.keys().isEmpty)
        #expect(try side(key) == version(Self.time + 1) + "!")
        await sink.close()
    }

    @Test(arguments: [
        (
            "plain",
            #"{"_id":1,"id":"653f0c2a9b8d7e6f5a4b3c2d","big":"9007199254740993","n":5,"my":"ကော်ဖီ"}"#
        ),
        (
            "canonical",
            #"{"_id":{"$numberInt":"1"},"id":{"$oid":"653f0c2a9b8d7e6f5a4b3c2d"},"#
                + #""big":{"$numberLong":"9007199254740993"},"n":{"$numberInt":"5"},"my":"ကော်ဖီ"}"#
        ),
    ])
    func documentsLookAsAskedFor(mode: String, expected: String) async throws {
        let document: Document = [
            "_id": 1, "id": Self.coffee["_id"] ?? nil, "big": .int64(9_007_199_254_740_993), "n": 5,
            "my": "ကော်ဖီ",
        ]
        let sink = try await opened(["documents": .string(mode)])
        _ = try await sink.write([DocumentBatch.of([.insert(document)], time: Self.time)])
        #expect(try harness.get("product:1") == expected)
        await sink.close()
        // The same where the document is a field's value.
        let values = try await opened(
            write: "string", key: "value:{_id}",
            ["documents": .string(mode), "value": .string("$")])
        _ = try await values.write([DocumentBatch.of([.insert(document)], time: Self.time + 1)])
        #expect(try harness.get("value:1") == expected)
        await values.close()
    }

    @Test func columnsArePaths() async throws {
        let sink = try await opened([
            "columns": columns(
                ("id", "_id"), ("name", "name.my"), ("left", "variants.1.stock"), ("x", "none.here")
            )
        ])
        _ = try await sink.write([DocumentBatch.of([.insert(Self.coffee)], time: Self.time)])
        #expect(
            try harness.get("product:653f0c2a9b8d7e6f5a4b3c2d")
                == #"{"id":{"$oid":"653f0c2a9b8d7e6f5a4b3c2d"},"name":"ကော်ဖီ","#
                + #""left":9007199254740993}"#)
        await sink.close()
    }

    @Test func stringIsWhatAPathLeadsTo() async throws {
        let sink = try await opened(write: "string", ["value": .string("name.my")])
        let burmese: [UInt8] = [0xE1, 0x80, 0x80, 0xE1, 0x80, 0xB1, 0xE1, 0x80, 0xAC]
        _ = try await sink.write([
            DocumentBatch.of(
                [
                    .insert(["_id": 1, "name": ["my": .text(burmese)]]),
                    .insert(["_id": 2, "name": ["my": ["a": 1]]]),
                    .insert(["_id": 3, "name": "no object"]),
                    .insert(["_id": 4, "name": ["my": nil]]),
                ], time: Self.time)
        ])
        #expect(try server.get("product:1") == burmese)
        #expect(try harness.get("product:2") == #"{"a":1}"#)
        #expect(try harness.keys().sorted() == ["product:1", "product:2"])
        _ = try await sink.write([
            DocumentBatch.of([.update(["_id": 1], .removed("name"))], time: Self.time + 8)
        ])
        #expect(try harness.get("product:1") == nil, "nobody finds what was there before")
        #expect(try side("product:1") == version(Self.time + 8) + "!")
        await sink.close()
    }

    @Test func hashHasAFieldPerPathAndNoneForWhatIsMissing() async throws {
        let sink = try await opened(
            write: "hash",
            [
                "columns": columns(
                    ("name", "name.en"), ("stock", "variants.0.stock"), ("all", "variants"))
            ])
        let first: Document = ["_id": 1, "name": ["en": "ü\u{1F642}"], "variants": [["stock": 5]]]
        _ = try await sink.write([DocumentBatch.of([.insert(first)], time: Self.time)])
        #expect(
            try harness.hash("product:1") == [
                "name": "ü\u{1F642}", "stock": "5", "all": #"[{"stock":5}]"#,
            ])
        // One null, one no longer there, one that holds nothing at the index.
        _ = try await sink.write([
            DocumentBatch.of(
                [
                    .update(
                        ["_id": 1, "name": nil, "variants": []],
                        Changes(updated: ["name"], truncated: ["variants"]))
                ], time: Self.time + 1)
        ])
        #expect(try harness.hash("product:1") == ["all": "[]"])
        _ = try await sink.write([
            DocumentBatch.of([.replace(["_id": 1])], time: Self.time + 2)
        ])
        #expect(try harness.hash("product:1").isEmpty)
        #expect(try side("product:1") == version(Self.time + 2))
        await sink.close()
    }

    @Test func invalidateTakesDocuments() async throws {
        let sink = try await opened(write: "invalidate", ["publish": .string("gone")])
        for id in ["1", "2", "3", "4"] { _ = try server.command("SET", "product:\(id)", "cached") }
        let outcome = try await sink.write([
            DocumentBatch.of(
                [
                    .insert(["_id": 1]), .update(["_id": 2], .updated("a")),
                    .delete(key: ["_id": 3]), .gone(key: ["_id": 4], .updated("a")),
                ], time: Self.time)
        ])
        #expect(outcome.delivered == 2 && outcome.filtered == 2)
        #expect(try harness.keys().sorted() == ["product:1", "product:4"])
        await sink.close()
    }

    // MARK: Flags

    @Test func lateDocumentsAreCountedAndGoneOnesLeftOut() async throws {
        let sink = try await opened()
        let outcome = try await sink.write([
            DocumentBatch.of(
                [
                    .insert(["_id": 1]),
                    .update(["_id": 1, "a": 2], .updated("a"), flags: Event.late),
                    .gone(key: ["_id": 2], .updated("a")), .gone(key: ["_id": 1], nil),
                ], time: Self.time)
        ])
        #expect(outcome.delivered == 2 && outcome.late == 1 && outcome.filtered == 2)
        #expect(try harness.get("product:1") == #"{"_id":1,"a":2}"#)
        #expect(try side("product:1") == version(Self.time + 1))
        await sink.close()
    }

    @Test func aDroppedCollectionIsIgnoredUnlessAskedFor() async throws {
        let rows: [DocumentBatch.Change] = (0..<300).map { .insert(["_id": .int32($0)]) }
        let keeping = try await opened(key: "kept:{_id}")
        let kept = try await keeping.write([
            DocumentBatch.of(rows, time: Self.time),
            DocumentBatch.of([.drop], time: Self.time + Self.seconds),
        ])
        #expect(kept.delivered == 300 && kept.filtered == 1)
        await keeping.close()
        _ = try server.command("FLUSHALL")

        let sink = try await opened(["truncate": .string("delete")])
        let lua = try LeaseScripts(server)
        _ = try server.command("SET", "product:own", "somebody's")
        // A lease whose token looks like the mark of a deleted row.
        #expect(try lua.lease("product:missing", "t!"))
        _ = try await sink.write([
            DocumentBatch.of(rows, time: Self.time),
            DocumentBatch.of([.delete(key: ["_id": 8])], time: Self.time + 1000),
            DocumentBatch.of(
                [.drop, .insert(["_id": "after"])], time: Self.time + Self.seconds),
        ])
        #expect(try harness.keys().sorted() == ["product:after", "product:own"])
        #expect(try side("product:7") == version(Self.time + Self.seconds) + "!")
        #expect(try side("product:8") == version(Self.time + 1000) + "!", "it was gone before")
        #expect(try !lua.fill("product:missing", "t!", Array("gone".utf8)), "the lease is void")
        _ = try await sink.write([DocumentBatch.of(rows, time: Self.time)])
        #expect(try harness.keys().sorted() == ["product:after", "product:own"])
        await sink.close()
    }

    // MARK: Leases

    @Test func leasesWorkBesideLongVersions() async throws {
        let sink = try await opened()
        let lua = try LeaseScripts(server)
        _ = try await sink.write([DocumentBatch.of([.insert(["_id": 1])], time: Self.time)])
        #expect(try !lua.lease("product:1", "t"), "the value is there")
        _ = try server.command("DEL", "product:1")
        #expect(try lua.lease("product:1", "t"))
        #expect(try side("product:1")?.hasPrefix(version(Self.time) + "-") == true)
        #expect(try lua.fill("product:1", "t", Array("refilled".utf8)))
        #expect(try side("product:1") == version(Self.time) + "+")
        // A replay does not undo the refill; a change does.
        _ = try await sink.write([DocumentBatch.of([.insert(["_id": 1])], time: Self.time)])
        #expect(try harness.get("product:1") == "refilled")
        _ = try server.command("DEL", "product:1")
        #expect(try lua.lease("product:1", "u"))
        _ = try await sink.write([
            DocumentBatch.of([.update(["_id": 1, "a": 1], .updated("a"))], time: Self.time + 1)
        ])
        #expect(try !lua.fill("product:1", "u", Array("stale".utf8)))
        #expect(try harness.get("product:1") == #"{"_id":1,"a":1}"#)
        _ = try await sink.write([
            DocumentBatch.of([.delete(key: ["_id": 1])], time: Self.time + 2)
        ])
        #expect(try !lua.lease("product:1", "w"), "a deleted document gives none")
        await sink.close()
    }

    // MARK: Data loss

    @Test func aReReadIsOlderThanWhatComesAndNewerThanWhatCame() async throws {
        let rows = ScriptedDocuments()
        let sink = try harness.documentSink(rows: rows)
        _ = try await sink.open(at: nil)
        _ = try await sink.write([
            DocumentBatch.of([.insert(["_id": 1]), .insert(["_id": 2])], time: Self.time)
        ])
        _ = try server.command("FLUSHALL")
        // A transaction of which half is delivered: the documents show all of it.
        let time = Self.time + 16
        await rows.set([["_id": 1, "a": "read"], ["_id": 3, "a": "read"]])
        let half = DocumentBatch.of(
            .update(["_id": 1, "a": "first"], .updated("a")), token: DocumentBatch.token(time))
        let error = await #expect(throws: WeirError.self) { _ = try await sink.write([half]) }
        #expect(error?.code.name == "redis.data_lost")
        _ = try await sink.write([half])
        #expect(await rows.scans == [DocumentBatch.name])
        #expect(try harness.keys().sorted() == ["product:1", "product:3"])
        #expect(
            try side("product:3")
                == VersionText.of(epoch: harness.epoch, commit: Self.time + 1, ordinal: 1))
        _ = try await sink.write([
            DocumentBatch.of(
                .update(["_id": 3, "a": "second"], .updated("a")),
                token: DocumentBatch.token(time, place: 1))
        ])
        #expect(try harness.get("product:1") == #"{"_id":1,"a":"first"}"#)
        #expect(try harness.get("product:3") == #"{"_id":3,"a":"second"}"#)
        await sink.close()
    }

    /// Between two changes of one cluster time the rows are read; they show both.
    @Test func whatARowReadAgainShowsIsNotUndone() async throws {
        let rows = ScriptedDocuments()
        let sink = try harness.documentSink(rows: rows)
        _ = try await sink.open(at: nil)
        _ = try await sink.write([
            DocumentBatch.of(
                .update(["_id": 1, "a": 1], .updated("a")), token: DocumentBatch.token(Self.time))
        ])
        await rows.set([["_id": 1, "a": 2]])
        _ = try server.command("FLUSHALL")
        let second = DocumentBatch.of(
            .update(["_id": 1, "a": 2], .updated("a")),
            token: DocumentBatch.token(Self.time, place: 1))
        _ = try? await sink.write([second])
        let outcome = try await sink.write([second])
        #expect(try harness.get("product:1") == #"{"_id":1,"a":2}"#)
        let reread = VersionText.of(epoch: harness.epoch, commit: Self.time, ordinal: 1)
        #expect(try side("product:1") == reread)
        #expect(try harness.get("weir:{shop/cache}")?.hasPrefix(reread + " ") == true)
        #expect(outcome.mark?.text.isEmpty == false)
        // The next moment is newer than all of it.
        _ = try await sink.write([
            DocumentBatch.of([.update(["_id": 1, "a": 3], .updated("a"))], time: Self.time + 1)
        ])
        #expect(try harness.get("product:1") == #"{"_id":1,"a":3}"#)
        #expect(try side("product:1") == version(Self.time + 1))
        await sink.close()
    }
}
