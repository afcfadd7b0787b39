import Synchronization
import Testing
import WeirCore
import WeirRedisSink
import WeirTesting

/// Keys made of more than `_id`: which key a document had is known, or it is said that it is not.
struct DocumentKeyTests {
    private let harness: CacheHarness
    private let server: RedisServer
    private static let time: UInt64 = 0x6740_0000_0000_0001
    private static let template = "tenant:{tenant_id}:stock:{_id}"
    private static let expiring: [String: ConfigValue] = [
        "on_unknown_key": .string("expire"), "ttl": .duration(.seconds(300)),
    ]

    init() async throws {
        harness = try await CacheHarness.start()
        server = harness.server
    }

    /// The stock of the first variant, by tenant and product.
    private func opened(
        key: String = template, _ more: [String: ConfigValue] = [:]
    ) async throws -> RedisSink {
        let sink = try harness.documentSink(
            write: "string", key: key,
            more.merging(["value": .string("variants.0.stock")]) { $1 })
        _ = try await sink.open(at: nil)
        return sink
    }

    private static func product(_ tenant: Document, stock: Int32, id: Document = 7) -> Document {
        ["_id": id, "tenant_id": tenant, "variants": [["stock": .int32(stock)]]]
    }

    private func version(_ time: UInt64) -> String {
        VersionText.of(epoch: harness.epoch, token: DocumentBatch.token(time))
    }

    private func write(
        _ sink: RedisSink, _ change: DocumentBatch.Change, _ offset: UInt64
    ) async throws -> WriteOutcome {
        try await sink.write([DocumentBatch.of([change], time: Self.time + offset)])
    }

    private func expectUnknown(
        _ sink: RedisSink, _ change: DocumentBatch.Change, _ offset: UInt64
    ) async -> WeirError? {
        let error = await #expect(throws: WeirError.self) {
            _ = try await write(sink, change, offset)
        }
        #expect(error?.code.name == "redis.key_unknown" && error?.disposition == .blocked)
        return error
    }

    /// SCENARIOS, S3, with a collection that keeps images.
    @Test func stockByTenant() async throws {
        let sink = try await opened([
            "ttl": .duration(.seconds(300)), "ttl_jitter": .duration(.zero),
        ])
        let names: [(String, Document)] = [("en", "Coffee"), ("my", "ကော်ဖီ")]
        let first: Document = [
            "_id": 7, "tenant_id": "ရွှေ:1", "name": .members(names),
            "variants": [["sku": "A", "stock": 12], ["sku": "B", "stock": 3]],
        ]
        let old = "tenant:ရွှေ%3A1:stock:7"
        _ = try await write(sink, .insert(first), 0)
        #expect(try harness.get(old) == "12")
        guard case .integer(let life) = try server.command("PTTL", old) else {
            Issue.record("no ttl")
            return
        }
        #expect((290_000...300_000).contains(life))
        // Sold: only the number changes.
        let sold = Self.product("ရွှေ:1", stock: 11)
        _ = try await write(sink, .update(sold, .updated("variants.0.stock")), 1)
        #expect(try harness.get(old) == "11")
        // Moved to another tenant.
        let moved = Self.product("moe", stock: 11)
        _ = try await write(sink, .update(moved, .updated("tenant_id"), before: sold), 2)
        #expect(try harness.keys() == ["tenant:moe:stock:7"])
        #expect(try harness.get("{\(old)}:v") == version(Self.time + 2) + "!")
        // Replaced whole, by the same tenant.
        let replaced = Self.product("moe", stock: 4)
        _ = try await write(sink, .replace(replaced, before: moved), 3)
        #expect(try harness.get("tenant:moe:stock:7") == "4")
        // What came before changes nothing any more.
        for (offset, change) in [
            (0, .insert(first)), (1, .update(sold, .updated("variants.0.stock"))),
            (2, .update(moved, .updated("tenant_id"), before: sold)),
        ] as [(UInt64, DocumentBatch.Change)] {
            _ = try await write(sink, change, offset)
        }
        #expect(try harness.keys() == ["tenant:moe:stock:7"])
        #expect(try harness.get("tenant:moe:stock:7") == "4")
        _ = try await write(sink, .delete(key: ["_id": 7], before: replaced), 4)
        #expect(try harness.keys().isEmpty)
        await sink.close()
    }

    @Test func withoutImagesWhatIsToldIsEnoughWhereItIs() async throws {
        let sink = try await opened()
        _ = try await write(sink, .insert(Self.product("a", stock: 1)), 0)
        let outcome = try await write(
            sink,
            .update(
                Self.product("a", stock: 2),
                Changes(
                    updated: ["variants.0.stock"], removed: ["tenant"], truncated: ["variants"])),
            1)
        #expect(outcome.delivered == 1)
        #expect(try harness.get("tenant:a:stock:7") == "2")
        // The delete that follows is the one that must know it.
        let gone = try await write(sink, .gone(key: ["_id": 7], .updated("name")), 2)
        #expect(gone.delivered == 0 && gone.filtered == 1)
        // A shard's key is part of the key that a delete names.
        _ = try await write(sink, .delete(key: ["tenant_id": "a", "_id": 7]), 3)
        #expect(try harness.keys().isEmpty)
        await sink.close()
    }

    @Test func anUnknownKeyStopsAndSaysWhatToDo() async throws {
        let sink = try await opened()
        _ = try await write(sink, .insert(Self.product("a", stock: 1)), 0)
        let after = Self.product("b", stock: 1)
        let changes: [DocumentBatch.Change] = [
            .update(after, .updated("tenant_id")), .update(after, .removed("tenant_id.part")),
            .replace(after), .delete(key: ["_id": 7]), .gone(key: ["_id": 7], nil),
            .gone(key: ["_id": 7], .updated("tenant_id")),
        ]
        for change in changes {
            let error = await expectUnknown(sink, change, 1)
            #expect(
                error?.message
                    == "a document of \"inventory.products\" came without its old values, and the "
                    + "key template names fields outside of \"_id\"")
            let hint = error?.hint ?? ""
            #expect(
                hint.contains(
                    "db.runCommand({collMod: \"products\", "
                        + "changeStreamPreAndPostImages: {enabled: true}})"))
            #expect(hint.contains("In database inventory") && hint.contains("only _id in \"key\""))
            #expect(hint.contains("weir position set shop now --yes"))
            #expect(hint.contains("reads all documents again"))
            #expect(hint.contains("\"on_unknown_key\": \"expire\""))
        }
        #expect(try harness.strings().filter { $0.key.hasPrefix("tenant:") }.count == 1)
        #expect(try harness.get("tenant:a:stock:7") == "1", "nothing was written")
        // With images it goes on.
        _ = try await write(
            sink,
            .update(after, .updated("tenant_id"), before: Self.product("a", stock: 1)), 1)
        #expect(try harness.keys() == ["tenant:b:stock:7"])
        await sink.close()
    }

    @Test func anUnknownKeyIsLeftToItsTTL() async throws {
        let sink = try await opened(Self.expiring)
        _ = try await write(sink, .insert(Self.product("a", stock: 1)), 0)
        let moved = try await write(
            sink, .update(Self.product("b", stock: 2), .updated("tenant_id")), 1)
        #expect(moved.delivered == 1)
        let deleted = try await write(sink, .delete(key: ["_id": 7]), 2)
        #expect(deleted.delivered == 0 && deleted.filtered == 1)
        let gone = try await write(sink, .gone(key: ["_id": 7], nil), 3)
        #expect(gone.delivered == 0 && gone.filtered == 1)
        #expect(try harness.keys().sorted() == ["tenant:a:stock:7", "tenant:b:stock:7"])
        for key in try harness.keys() {
            guard case .integer(let life) = try server.command("PTTL", key) else {
                Issue.record("no ttl of \(key)")
                continue
            }
            #expect((1...300_000).contains(life))
        }
        // Versions protect: a replay brings nothing back to an older state, and whoever takes the
        // key next is newer.
        _ = try await write(sink, .insert(Self.product("b", stock: 9)), 0)
        #expect(try harness.get("tenant:b:stock:7") == "2")
        _ = try await write(sink, .insert(Self.product("a", stock: 5)), 4)
        #expect(try harness.get("tenant:a:stock:7") == "5")
        await sink.close()
        let log = harness.log.all
        #expect(log.count { $0.contains("inventory.products") } == 1, "\(log)")
        #expect(log.last == "info: left 3 old keys to their ttl")
    }

    @Test func expiringStillUsesWhatIsKnown() async throws {
        let sink = try await opened(Self.expiring)
        let first = Self.product("a", stock: 1)
        let second = Self.product("b", stock: 1)
        _ = try await write(sink, .insert(first), 0)
        _ = try await write(sink, .update(second, .updated("tenant_id"), before: first), 1)
        #expect(try harness.keys() == ["tenant:b:stock:7"])
        // Gone when it was looked up; the key it left here is named nowhere else.
        let gone = try await write(
            sink, .gone(key: ["_id": 7], .updated("tenant_id"), before: second), 2)
        #expect(gone.delivered == 1)
        #expect(try harness.keys().isEmpty)
        await sink.close()
        #expect(harness.log.all.isEmpty)
    }

    @Test func aKeyOfADocumentIsJSONAndNoneWhereAFieldIsMissing() async throws {
        let sink = try harness.documentSink(key: "by:{name}")
        _ = try await sink.open(at: nil)
        let named: [Document] = [
            ["en": "x:y"], ["a", nil, 2], "ကော်ဖီ", .double(2.5), .int64(9_007_199_254_740_993),
        ]
        let outcome = try await sink.write([
            DocumentBatch.of(
                [.insert(["_id": 1]), .insert(["_id": 2, "name": nil])]
                    + named.enumerated().map {
                        .insert(["_id": .int32(Int32($0.offset) + 3), "name": $0.element])
                    }, time: Self.time)
        ])
        #expect(outcome.delivered == 5 && outcome.filtered == 2)
        #expect(
            try harness.keys().sorted()
                == [
                    #"by:%7B"en"%3A"x%3Ay"%7D"#, #"by:["a",null,2]"#, "by:ကော်ဖီ", "by:2.5",
                    "by:9007199254740993",
                ].sorted())
        // It gets a name, and loses it.
        let images: [Document] = [["_id": 1], ["_id": 1, "name": "n"]]
        _ = try await write(sink, .update(images[1], .updated("name"), before: images[0]), 16)
        #expect(try harness.keys().contains("by:n"))
        _ = try await write(sink, .update(images[0], .removed("name"), before: images[1]), 17)
        #expect(try !harness.keys().contains("by:n"))
        await sink.close()
    }

    /// An id that is a document may lack what the template names: then it has no key, known for
    /// sure.
    @Test func partsOfAnId() async throws {
        let sink = try harness.documentSink(key: "part:{_id.a}")
        _ = try await sink.open(at: nil)
        let outcome = try await sink.write([
            DocumentBatch.of(
                [
                    .insert(["_id": ["a": 1, "b": 2]]), .insert(["_id": ["b": 2]]),
                    .replace(["_id": ["a": 1, "b": 2], "x": 1]), .replace(["_id": ["b": 2]]),
                    .delete(key: ["_id": ["b": 2]]),
                ], time: Self.time)
        ])
        #expect(outcome.delivered == 2 && outcome.filtered == 3)
        #expect(try harness.keys() == ["part:1"])
        _ = try await sink.write([
            DocumentBatch.of([.delete(key: ["_id": ["a": 1, "b": 2]])], time: Self.time + 8)
        ])
        #expect(try harness.keys().isEmpty)
        await sink.close()
    }

    // MARK: Rows of tables

    @Test func rowsOfTablesExpireToo() async throws {
        let sink = try harness.sink(write: "json", key: "note:{note}", Self.expiring)
        _ = try await sink.open(at: nil)
        let outcome = try await sink.write([
            ItemBatch.of([.insert(.init("1", "a")), .update(.init("1", "b"))], commit: 16),
            ItemBatch.of([.delete(Array("1".utf8))], commit: 32),
        ])
        #expect(outcome.delivered == 2 && outcome.filtered == 1)
        #expect(try harness.keys().sorted() == ["note:a", "note:b"])
        await sink.close()
        let log = harness.log.all
        #expect(log.count { $0.contains("public.items") } == 1)
        #expect(log.last == "info: left 2 old keys to their ttl")
    }

    @Test func aRowThatWasCompletedIsCountedOnce() async throws {
        let sink = try harness.sink(
            write: "hash", key: "stock:{stock}", Self.expiring)
        _ = try await sink.open(at: nil)
        await harness.rows.set(.init("1", "read", stock: "2"))
        var row = ItemBatch.Row("1", nil, stock: "2")
        row.isNoteUnchanged = true
        let outcome = try await sink.write([ItemBatch.of([.update(row)], commit: 16)])
        #expect(outcome.delivered == 1 && outcome.late == 1)
        #expect(try harness.keys() == ["stock:2"])
        await sink.close()
        #expect(harness.log.all.last == "info: left 1 old keys to their ttl")
    }
}
