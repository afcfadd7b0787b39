import Testing
import WeirCore
import WeirRedisSink
import WeirTesting

/// The sink alone, against a real server.
struct RedisSinkTests {
    private let harness: CacheHarness
    private let server: RedisServer

    init() async throws {
        harness = try await CacheHarness.start()
        server = harness.server
    }

    private func opened(
        write: String = "json", key: String = "item:{id}", _ more: [String: ConfigValue] = [:],
        at mark: SinkMark? = nil
    ) async throws -> RedisSink {
        let sink = try harness.sink(write: write, key: key, more)
        _ = try await sink.open(at: mark)
        return sink
    }

    private func side(_ key: String) throws -> String? { try harness.get("{\(key)}:v") }

    private func version(_ commit: UInt64, _ ordinal: UInt32 = 0) -> String {
        VersionText.of(epoch: harness.epoch, commit: commit, ordinal: ordinal)
    }

    @Test func conforms() async throws {
        let (server, rows) = (server, harness.rows)
        let config = try CacheHarness.config(server)
        // Places do not keep events, only the last of each key: there are no ids to compare.
        try await SinkConformance.check(isExactlyOnce: false) {
            _ = try server.command("FLUSHALL")
            return SinkSubject(
                make: { context in
                    RedisSink(
                        config,
                        .test(context.name, pipeline: context.pipeline, rows: rows))
                }, ids: { nil })
        }
    }

    // MARK: Forms

    @Test func jsonIsTheRow() async throws {
        let sink = try await opened()
        let outcome = try await sink.write([
            ItemBatch.of(
                [.insert(.init("1", "a\"\u{1F642}")), .insert(.init("2", nil, stock: "7"))],
                commit: 16)
        ])
        #expect(outcome.delivered == 2 && outcome.filtered == 0 && outcome.late == 0)
        #expect(outcome.bytes > 0)
        #expect(
            try harness.strings() == [
                "item:1": #"{"id":"1","note":"a\"🙂","stock":1}"#, "{item:1}:v": version(16),
                "item:2": #"{"id":"2","note":null,"stock":7}"#, "{item:2}:v": version(16, 1),
                "weir:{shop/cache}": try harness.get("weir:{shop/cache}") ?? "",
                "weir:{shop/cache}:copy": try harness.get("weir:{shop/cache}") ?? "",
            ])
        await sink.close()
    }

    @Test func columnsAreChosenAndRenamed() async throws {
        let sink = try await opened([
            "columns": .columns([
                ColumnChoice(output: "left", source: "stock"),
                ColumnChoice(output: "id", source: "id"),
            ])
        ])
        _ = try await sink.write([ItemBatch.of([.insert(.init("1", "x"))], commit: 16)])
        #expect(try harness.get("item:1") == #"{"left":1,"id":"1"}"#)
        await sink.close()
    }

    @Test func stringIsOneValueAndNullRemovesTheKey() async throws {
        let sink = try await opened(write: "string", ["value": .string("note")])
        _ = try await sink.write([
            ItemBatch.of(
                [.insert(.init("1", "a\r\nb")), .insert(.init("2", "")), .insert(.init("3", "c"))],
                commit: 16)
        ])
        #expect(try harness.get("item:1") == "a\r\nb")
        #expect(try harness.get("item:2") == "")
        _ = try await sink.write([ItemBatch.of([.update(.init("3", nil))], commit: 32)])
        #expect(try harness.get("item:3") == nil)
        #expect(try side("item:3") == version(32) + "!")
        await sink.close()
    }

    @Test func hashHasAFieldPerColumnAndNoneForNull() async throws {
        let sink = try await opened(write: "hash")
        // Somebody's string under our key, and a hash with a field no column has.
        _ = try server.command("SET", "item:1", "text")
        _ = try server.command("HSET", "item:2", "old", "1")
        _ = try await sink.write([
            ItemBatch.of([.insert(.init("1", "n")), .insert(.init("2", nil))], commit: 16)
        ])
        #expect(try harness.hash("item:1") == ["id": "1", "note": "n", "stock": "1"])
        #expect(try harness.hash("item:2") == ["id": "2", "stock": "1"])
        _ = try await sink.write([ItemBatch.of([.delete(Array("1".utf8))], commit: 32)])
        #expect(try harness.hash("item:1").isEmpty)
        #expect(try side("item:1") == version(32) + "!")
        await sink.close()
    }

    // MARK: Life

    @Test func valuesLiveForTheirTTLLessSomeJitterAndVersionsLonger() async throws {
        let sink = try await opened([
            "ttl": .duration(.seconds(3600)), "ttl_jitter": .duration(.seconds(600)),
        ])
        let ids = (0..<50).map(String.init)
        _ = try await sink.write([
            ItemBatch.of(ids.map { .insert(.init($0, "n")) }, commit: 16)
        ])
        var lives: Set<Int> = []
        for id in ids {
            guard case .integer(let life) = try server.command("PTTL", "item:\(id)"),
                case .integer(let kept) = try server.command("PTTL", "{item:\(id)}:v")
            else {
                Issue.record("no TTL of item:\(id)")
                continue
            }
            #expect((2_990_000...3_600_000).contains(life))
            #expect(kept > life)
            lives.insert(life / 1000)
        }
        #expect(lives.count > 4, "keys written together expire apart")
        await sink.close()
    }

    @Test func aTombstoneExpires() async throws {
        let sink = try await opened(["tombstone": .duration(.seconds(5))])
        _ = try await sink.write([
            ItemBatch.of([.insert(.init("1", "n")), .delete(Array("1".utf8))], commit: 16)
        ])
        guard case .integer(let life) = try server.command("PTTL", "{item:1}:v") else {
            Issue.record("no tombstone")
            return
        }
        #expect((1...5000).contains(life))
        await sink.close()
    }

    // MARK: Keys

    @Test func aChangedKeyMovesTheValue() async throws {
        let sink = try await opened()
        _ = try await sink.write([
            ItemBatch.of([.insert(.init("1", "a")), .insert(.init("2", "b"))], commit: 16),
            // A chain: 2 becomes 3, then 1 becomes 2.
            ItemBatch.of(
                [
                    .move(from: Array("2".utf8), to: .init("3", "b")),
                    .move(from: Array("1".utf8), to: .init("2", "a")),
                ], commit: 32),
        ])
        #expect(try harness.keys().sorted() == ["item:2", "item:3"])
        #expect(try harness.get("item:2") == #"{"id":"2","note":"a","stock":1}"#)
        #expect(try side("item:1") == version(32, 1) + "!")
        await sink.close()
    }

    @Test func aRowWithoutAKeyHasNoValue() async throws {
        let config = try CacheHarness.config(server, key: "note:{note}")
        let sink = try harness.sink(config)
        _ = try await sink.open(at: nil)
        let outcome = try await sink.write([
            ItemBatch.of([.insert(.init("1", nil)), .insert(.init("2", "x"))], commit: 16)
        ])
        #expect(outcome.delivered == 1 && outcome.filtered == 1)
        #expect(try harness.keys() == ["note:x"])
        // The old note is not sent with an update: its key is not known.
        let error = await #expect(throws: WeirError.self) {
            try await sink.write([ItemBatch.of([.update(.init("2", "y"))], commit: 32)])
        }
        #expect(error?.code.name == "redis.key_unknown" && error?.disposition == .blocked)
        #expect(error?.hint?.contains("REPLICA IDENTITY FULL") == true)
        await sink.close()
    }

    @Test func anUnknownColumnIsNamed() async throws {
        let sink = try await opened(key: "item:{idd}")
        let error = await #expect(throws: WeirError.self) {
            try await sink.write([ItemBatch.of([.insert(.init("1", "x"))], commit: 16)])
        }
        #expect(error?.code.name == "values.unknown_column")
        #expect(error?.hint?.hasPrefix("Did you mean \"id\"?") == true)
        #expect(error?.hint?.contains("weir position set shop now --yes") == true)
        await sink.close()
        // Named by a column that the rows have, they are taken.
        let mended = try await opened(key: "item:{id}")
        _ = try await mended.write([ItemBatch.of([.insert(.init("1", "x"))], commit: 16)])
        #expect(try harness.keys() == ["item:1"])
        await mended.close()
    }

    // MARK: Values the source did not send

    @Test func anUnsentColumnIsReadFromTheSource() async throws {
        let sink = try await opened()
        _ = try await sink.write([ItemBatch.of([.insert(.init("1", "long"))], commit: 16)])
        await harness.rows.set(.init("1", "long", stock: "99"))
        var row = ItemBatch.Row("1", nil, stock: "2")
        row.isNoteUnchanged = true
        var gone = ItemBatch.Row("2", nil)
        gone.isNoteUnchanged = true
        let outcome = try await sink.write([
            ItemBatch.of([.update(row), .update(gone)], commit: 32)
        ])
        // The event's own values stay; only what was not sent is read.
        #expect(try harness.get("item:1") == #"{"id":"1","note":"long","stock":2}"#)
        #expect(outcome.late == 2 && outcome.delivered == 2)
        #expect(await harness.rows.asked == [[Array("1".utf8), Array("2".utf8)]])
        // A row that is gone comes through the stream; until then nothing is made up.
        #expect(try harness.get("item:2") == nil)
        await sink.close()
    }

    /// A row that was completed has a batch and a list of tables of its own.
    @Test(arguments: ["json", "hash"])
    func tablesKeepTheirPlacesBehindACompletedRow(write: String) async throws {
        let sink = try await opened(
            write: write, ["tables": .list([.table(TableName(schema: "public", name: "items"))])])
        _ = try await sink.write([
            ItemBatch.of([.insert(.init("1", "a")), .insert(.init("2", "b"))], commit: 16)
        ])
        await harness.rows.set(.init("3", "read"))
        var row = ItemBatch.Row("3", nil)
        row.isNoteUnchanged = true
        var batch = ItemBatch()
        batch.addForeign(commit: 32)
        // More than are read at once.
        for ordinal in 1...150 {
            batch.add(.update(row), commit: 32, ordinal: UInt32(ordinal))
        }
        batch.add(.delete(Array("1".utf8)), commit: 32, ordinal: 151)
        batch.addForeign(commit: 32, ordinal: 152)
        batch.add(.delete(Array("2".utf8)), commit: 32, ordinal: 153)
        let outcome = try await sink.write([batch.seal()])
        #expect(outcome.delivered == 152 && outcome.filtered == 2)
        #expect(try harness.keys() == ["item:3"])
        await sink.close()
    }

    /// Its row is gone, but the key it left behind is known and must not stay.
    @Test(arguments: ["json", "string", "hash"])
    func aMovedRowThatIsGoneLeavesNoKeyBehind(write: String) async throws {
        let sink = try await opened(
            write: write, write == "string" ? ["value": .string("note")] : [:])
        _ = try await sink.write([ItemBatch.of([.insert(.init("1", "a"))], commit: 16)])
        var row = ItemBatch.Row("2", nil)
        row.isNoteUnchanged = true
        let outcome = try await sink.write([
            ItemBatch.of([.move(from: Array("1".utf8), to: row)], commit: 32)
        ])
        #expect(outcome.delivered == 1)
        #expect(try harness.keys().isEmpty)
        #expect(try side("item:1") == version(32) + "!")
        await sink.close()
    }

    @Test func aColumnNobodyAskedForIsNotRead() async throws {
        let sink = try await opened(write: "string", ["value": .string("stock")])
        var row = ItemBatch.Row("1", nil, stock: "2")
        row.isNoteUnchanged = true
        let outcome = try await sink.write([ItemBatch.of([.update(row)], commit: 32)])
        #expect(outcome.late == 0)
        #expect(try harness.get("item:1") == "2")
        #expect(await harness.rows.asked.isEmpty)
        await sink.close()
    }

    @Test func aHashIsChangedInPartUnlessItIsMissing() async throws {
        let sink = try await opened(write: "hash")
        await harness.rows.set(.init("1", "newer"))
        await harness.rows.set(.init("2", "read"))
        _ = try await sink.write([ItemBatch.of([.insert(.init("1", "sent"))], commit: 16)])
        let parts = ["1", "2", "3"].map { id in
            var row = ItemBatch.Row(id, nil, stock: "5")
            row.isNoteUnchanged = true
            return ItemBatch.Change.update(row)
        }
        let outcome = try await sink.write([ItemBatch.of(parts, commit: 32)])
        #expect(try harness.hash("item:1") == ["id": "1", "note": "sent", "stock": "5"])
        #expect(try harness.hash("item:2") == ["id": "2", "note": "read", "stock": "5"])
        #expect(try harness.hash("item:3").isEmpty)
        #expect(try side("item:2") == version(32, 1))
        #expect(outcome.late == 2 && outcome.delivered == 3)
        await sink.close()
    }

    /// Between a part that found no hash and the row that comes whole, no service may fill it.
    @Test func aMissingHashVoidsALease() async throws {
        let sink = try await opened(write: "hash")
        let lua = try LeaseScripts(server)
        _ = try await sink.write([ItemBatch.of([.insert(.init("1", "a"))], commit: 16)])
        _ = try server.command("DEL", "item:1")
        #expect(try lua.lease("item:1", "t"))
        // Its row is gone, so nothing comes whole either.
        var row = ItemBatch.Row("1", nil)
        row.isNoteUnchanged = true
        _ = try await sink.write([ItemBatch.of([.update(row)], commit: 32)])
        #expect(try !lua.fill("item:1", "t", Array("stale".utf8), asHash: true))
        await sink.close()
    }

    /// Also where the version is a document's, of an earlier life with another source.
    @Test func aMissingHashVoidsALeaseBesideALongVersion() async throws {
        let sink = try await opened(write: "hash")
        let lua = try LeaseScripts(server)
        let long = VersionText.of(
            epoch: 1, token: DocumentBatch.token(0x6740_0000_0000_0001))
        _ = try server.command("SET", "{item:1}:v", long)
        #expect(try lua.lease("item:1", "t"))
        var row = ItemBatch.Row("1", nil)
        row.isNoteUnchanged = true
        _ = try await sink.write([ItemBatch.of([.update(row)], commit: 32)])
        #expect(try side("item:1") == long)
        #expect(try !lua.fill("item:1", "t", Array("stale".utf8), asHash: true))
        // What is written in the end is newer, though its version is shorter.
        _ = try await sink.write([ItemBatch.of([.insert(.init("1", "n"))], commit: 48)])
        #expect(try side("item:1") == version(48))
        await sink.close()
    }

    @Test func aSourceThatCannotBeAskedStopsTheSink() async throws {
        let sink = RedisSink(try CacheHarness.config(server), .test())
        _ = try await sink.open(at: nil)
        var row = ItemBatch.Row("1", nil)
        row.isNoteUnchanged = true
        let batch = ItemBatch.of([.update(row)], commit: 32)
        let error = await #expect(throws: WeirError.self) { try await sink.write([batch]) }
        #expect(error?.code.name == "redis.rows_unreadable" && error?.disposition == .blocked)
        await sink.close()
    }

    // MARK: Invalidation

    @Test func invalidateRemovesAndHoldsAndPublishes() async throws {
        let sink = try await opened(
            write: "invalidate", ["publish": .string("gone"), "hold": .duration(.seconds(20))])
        let lua = try LeaseScripts(server)
        for id in ["1", "2", "3"] { _ = try server.command("SET", "item:\(id)", "cached") }
        #expect(try lua.lease("item:4", "t"))
        let outcome = try await sink.write([
            ItemBatch.of(
                [
                    .insert(.init("1", "n")), .update(.init("2", "n")),
                    .move(from: Array("3".utf8), to: .init("4", "n")),
                ], commit: 16)
        ])
        #expect(outcome.delivered == 2 && outcome.filtered == 1)
        #expect(try harness.keys() == ["item:1"])
        #expect(try !lua.fill("item:4", "t", Array("stale".utf8)), "the lease is void")
        #expect(try !lua.lease("item:2", "u"), "replicas may not have the change yet")
        guard case .integer(let life) = try server.command("PTTL", "{item:2}:v") else { return }
        #expect((1...20_000).contains(life))
        await sink.close()
    }

    @Test func withoutHoldALeaseIsGivenAtOnce() async throws {
        let sink = try await opened(write: "invalidate", ["hold": .duration(.zero)])
        let lua = try LeaseScripts(server)
        #expect(try lua.lease("item:1", "t"))
        _ = try await sink.write([ItemBatch.of([.update(.init("1", "n"))], commit: 16)])
        #expect(try !lua.fill("item:1", "t", Array("stale".utf8)))
        #expect(try lua.lease("item:1", "u"))
        #expect(try lua.fill("item:1", "u", Array("fresh".utf8)))
        #expect(try harness.get("item:1") == "fresh")
        await sink.close()
    }

    // MARK: Truncate

    @Test func truncateIsIgnoredUnlessAskedFor() async throws {
        let sink = try await opened()
        let outcome = try await sink.write([
            ItemBatch.of([.insert(.init("1", "n"))], commit: 16),
            ItemBatch.of([.truncate], commit: 32),
        ])
        #expect(outcome.delivered == 1 && outcome.filtered == 1)
        #expect(try harness.keys() == ["item:1"])
        await sink.close()
    }

    /// What it left is told, and is a gap once it would not be left any more.
    @Test func whatAnIgnoredTruncateLeavesIsSaidAndTheHintRemovesIt() async throws {
        let (notes, reports) = (MemoryNotes(), CollectedReports())
        func sink(_ more: [String: ConfigValue] = [:], at mark: SinkMark? = nil) async throws
            -> RedisSink
        {
            let sink = RedisSink(
                try CacheHarness.config(server, write: "json", key: "it'em:{id}", more),
                .test(
                    "cache", pipeline: "shop", notation: .documents, notes: notes,
                    reports: reports, rows: harness.rows))
            _ = try await sink.open(at: mark)
            return sink
        }
        _ = try server.command("SET", "it'em:index", "somebody's")
        var cache = try await sink()
        let outcome = try await cache.write([
            ItemBatch.of([.insert(.init("1", "n")), .insert(.init("a b", "n"))], commit: 16),
            ItemBatch.of([.truncate], commit: 32),
        ])
        #expect(reports.findings.map(\.code.name) == ["redis.truncate_ignored"])
        #expect(reports.findings[0].message.contains("emptied at 0/20"))
        await cache.close()
        for _ in 1...2 {
            cache = try await sink(["truncate": .string("delete")], at: outcome.mark)
            #expect(try await cache.check([]).isEmpty)
            await cache.close()
            #expect(reports.gaps.map(\.code.name) == ["redis.truncate_ignored"])
        }
        let hint = try #require(reports.gaps.first?.hint)
        let start = try #require(hint.firstRange(of: "redis-cli"))
        let end = try #require(hint.firstRange(of: " Then: weir gap"))
        _ = try runProcess("/bin/sh", ["-c", String(hint[start.lowerBound..<end.lowerBound])])
        #expect(try harness.keys() == ["it'em:index"])
    }

    @Test func truncateRemovesWhatItGoverns() async throws {
        let sink = try await opened(["truncate": .string("delete")])
        let lua = try LeaseScripts(server)
        _ = try server.command("SET", "item:index", "somebody's")
        _ = try server.command("SET", "item:9:z", "somebody's")
        _ = try server.command("SET", "items", "somebody's")
        #expect(try lua.lease("item:refilled", "t"))
        #expect(try lua.fill("item:refilled", "t", Array("x".utf8)))
        #expect(try lua.lease("item:missing", "t"))
        let rows = (0..<300).map { ItemBatch.Change.insert(.init("\($0)", "n")) }
        _ = try await sink.write([
            ItemBatch.of(rows, commit: 16),
            ItemBatch.of([.truncate, .insert(.init("after", "n"))], commit: 32),
        ])
        #expect(
            try harness.keys().sorted() == ["item:9:z", "item:after", "item:index", "items"])
        #expect(try side("item:7") == version(32) + "!")
        #expect(
            try !lua.fill("item:missing", "t", Array("a row that is gone".utf8)),
            "a lease from before is void")
        // A replay of the past changes nothing.
        _ = try await sink.write([ItemBatch.of(rows, commit: 16)])
        #expect(
            try harness.keys().sorted() == ["item:9:z", "item:after", "item:index", "items"])
        await sink.close()
    }
}
