import Synchronization
import Testing
import WeirCore
import WeirTesting

@testable import WeirRedisSink

/// What Redis acknowledged and no longer has is noticed, said, and written again.
struct DataLossTests {
    private let harness: CacheHarness
    private let server: RedisServer

    init() async throws {
        harness = try await CacheHarness.start()
        server = harness.server
    }

    private func write(_ sink: RedisSink, _ id: String, commit: UInt64) async throws -> SinkMark? {
        await harness.rows.set(.init(id, "n\(commit)"))
        return try await sink.write([
            ItemBatch.of([.update(.init(id, "n\(commit)"))], commit: commit)
        ]).mark
    }

    private func expectLoss(
        _ body: () async throws -> Void, disposition: Disposition = .transient
    ) async {
        let error = await #expect(throws: WeirError.self) { try await body() }
        #expect(error?.code.name == "redis.data_lost")
        #expect(error?.disposition == disposition)
    }

    private func markers() throws -> [String] {
        guard case .array(let keys) = try server.command("KEYS", "weir:*") else { return [] }
        return keys.compactMap(\.text).sorted()
    }

    private func note(_ id: String) throws -> String? {
        try harness.get("item:\(id)").map { text in
            String(text.split(separator: "\"")[7])
        }
    }

    @Test func aFlushIsNoticedWithTheNextWriteAndMended() async throws {
        let sink = try harness.sink()
        _ = try await sink.open(at: nil)
        _ = try await write(sink, "1", commit: 16)
        _ = try await write(sink, "2", commit: 32)
        _ = try server.command("FLUSHALL")
        await harness.rows.set(.init("3", "n48"))
        let batch = ItemBatch.of([.update(.init("3", "n48"))], commit: 48)
        await expectLoss { _ = try await sink.write([batch]) }
        // The engine comes again with the same batch.
        _ = try await sink.write([batch])
        #expect(try ["1", "2", "3"].map(note) == ["n16", "n32", "n48"])
        #expect(await harness.rows.scans == 1)
        // What the stream brings later is newer, also where the row read had it already.
        _ = try await write(sink, "1", commit: 64)
        #expect(try note("1") == "n64")
        await sink.close()
    }

    /// What it is called in the configuration says nothing of what the server has.
    @Test func aLossIsNoticedByARenamedSink() async throws {
        let sink = try harness.sink()
        _ = try await sink.open(at: nil)
        let mark = try #require(try await write(sink, "1", commit: 16))
        await sink.close()
        let keys = try markers()
        #expect(keys.count == 2)
        let pipeline = try #require(keys[0].split(separator: "/").first)
        let former = ["\(pipeline)/former}", "\(pipeline)/former}:copy"]
        for (key, name) in zip(keys, former) { _ = try server.command("RENAME", key, name) }
        let renamed = try harness.sink()
        let stored = try #require(try await renamed.open(at: SinkMark(of: "former", mark)))
        #expect(stored.renamed == nil)
        #expect(try markers() == (keys + former).sorted())
        await renamed.close()

        _ = try server.command("FLUSHALL")
        await harness.rows.set(.init("1", "n16"))
        let other = try harness.sink()
        await expectLoss { _ = try await other.open(at: SinkMark(of: "former", mark)) }
        _ = try await other.open(at: SinkMark(of: "former", mark))
        #expect(try note("1") == "n16")
        await other.close()
    }

    @Test func anIdleSinkNoticesToo() async throws {
        let sink = try harness.sink()
        _ = try await sink.open(at: nil)
        _ = try await write(sink, "1", commit: 16)
        _ = try server.command("FLUSHALL")
        let idle = SampleBatch.boundary(40)
        // Looked at once a second.
        try await eventually("the loss is noticed") {
            do {
                _ = try await sink.write([idle])
                return false
            } catch let error as WeirError {
                return error.code.name == "redis.data_lost"
            }
        }
        _ = try await sink.write([idle])
        #expect(try note("1") == "n16")
        await sink.close()
    }

    @Test func aRestartWithoutDataIsNoticedAtOpen() async throws {
        let first = try harness.sink()
        _ = try await first.open(at: nil)
        let mark = try #require(try await write(first, "1", commit: 16))
        await first.close()
        try await server.restart(keepingData: false)
        let second = try harness.sink()
        await expectLoss { _ = try await second.open(at: mark) }
        let again = try await second.open(at: mark)
        #expect(try note("1") == "n16")
        #expect(again?.text.hasPrefix(String(mark.text.prefix(32))) == true)
        await second.close()
    }

    @Test func anOlderCopyIsSweptOfRowsThatAreGone() async throws {
        let sink = try harness.sink()
        _ = try await sink.open(at: nil)
        _ = try await write(sink, "1", commit: 16)
        _ = try await write(sink, "2", commit: 32)
        let marker = "weir:{shop/cache}"
        let old = try #require(try harness.get(marker))
        let copy = try harness.strings()
        _ = try await sink.write([ItemBatch.of([.delete(Array("1".utf8))], commit: 48)])
        await harness.rows.remove(Array("1".utf8))
        _ = try await write(sink, "2", commit: 64)
        // Restored from the copy: row 1 is back, row 2 is old, the marker too.
        _ = try server.command("FLUSHALL")
        for (key, value) in copy { _ = try server.command("SET", key, value) }
        _ = try server.command("SET", marker, old)
        await expectLoss { _ = try await write(sink, "3", commit: 80) }
        _ = try await write(sink, "3", commit: 80)
        #expect(try harness.keys().sorted() == ["item:2", "item:3"])
        #expect(try note("2") == "n64")
        await sink.close()
    }

    @Test func aServerWithAllItsDataIsNoLoss() async throws {
        let server = try await RedisServer.start(settings: ["appendonly": "yes"])
        let harness = CacheHarness(server)
        let sink = try harness.sink()
        _ = try await sink.open(at: nil)
        _ = try await sink.write([ItemBatch.of([.insert(.init("1", "n"))], commit: 16)])
        try await server.restart(keepingData: true)
        // The first try meets the closed connection, as the engine would.
        _ = try? await sink.write([ItemBatch.of([.insert(.init("2", "n"))], commit: 32)])
        _ = try await sink.write([ItemBatch.of([.insert(.init("2", "n"))], commit: 32)])
        #expect(try harness.keys().sorted() == ["item:1", "item:2"])
        #expect(await harness.rows.scans == 0)
        #expect(harness.log.all.contains { $0.contains("was restarted or replaced") })
        await sink.close()
    }

    @Test func policyContinueGoesOnAndPolicyStopStops() async throws {
        let going = try harness.sink(["on_data_loss": .string("continue")])
        _ = try await going.open(at: nil)
        _ = try await write(going, "1", commit: 16)
        _ = try server.command("FLUSHALL")
        await expectLoss { _ = try await write(going, "2", commit: 32) }
        let mark = try await write(going, "2", commit: 32)
        #expect(try harness.keys() == ["item:2"])
        await going.close()
        let gap = try #require(harness.reports.gaps.first)
        #expect(harness.reports.gaps.count == 1 && gap.code.name == "redis.data_lost")
        #expect(gap.message.hasSuffix("Weir went on with what it holds: it was flushed"))

        let stopping = try harness.sink(["on_data_loss": .string("stop")])
        _ = try server.command("FLUSHALL")
        await expectLoss({ _ = try await stopping.open(at: mark) }, disposition: .blocked)
        await stopping.close()
        #expect(await harness.rows.scans == 0)
    }

    @Test func aMovedPositionIsReadAgainWithoutAnError() async throws {
        let first = try harness.sink()
        _ = try await first.open(at: nil)
        _ = try await write(first, "1", commit: 1600)
        await first.close()
        // An operator skipped changes: a new epoch, no mark, and the marker of the old one.
        harness.epoch += 1
        await harness.rows.set(.init("1", "changed meanwhile"))
        await harness.rows.set(.init("2", "new meanwhile"))
        let second = try harness.sink()
        _ = try await second.open(at: nil)
        #expect(try note("1") == "changed meanwhile")
        #expect(try note("2") == "new meanwhile")
        // Positions may have gone back with the epoch.
        _ = try await write(second, "1", commit: 16)
        #expect(try note("1") == "n16")
        await second.close()
    }

    @Test func anOlderEpochThanTheServersStops() async throws {
        let first = try harness.sink()
        _ = try await first.open(at: nil)
        await first.close()
        harness.epoch -= 1
        let second = try harness.sink()
        let error = await #expect(throws: WeirError.self) { _ = try await second.open(at: nil) }
        #expect(error?.code.name == "redis.other_writer" && error?.disposition == .blocked)
        await second.close()
    }

    @Test func invalidationsThatWereLostAreMadeAgain() async throws {
        let sink = try harness.sink(write: "invalidate")
        _ = try await sink.open(at: nil)
        _ = try await write(sink, "1", commit: 16)
        // Restored from a copy made before the invalidation.
        _ = try server.command("FLUSHALL")
        for key in ["item:1", "item:other", "else"] {
            _ = try server.command("SET", key, "stale")
        }
        await expectLoss { _ = try await write(sink, "2", commit: 32) }
        _ = try await write(sink, "2", commit: 32)
        #expect(try harness.keys().sorted() == ["else", "item:other"])
        await sink.close()
    }

    /// Only in memory it would be forgotten with the process.
    @Test func aLossIsRememberedOverACrash() async throws {
        let first = try harness.sink()
        _ = try await first.open(at: nil)
        let mark = try #require(try await write(first, "1", commit: 16))
        _ = try server.command("FLUSHALL")
        await expectLoss { _ = try await write(first, "2", commit: 32) }
        await first.close()
        let second = try harness.sink()
        await expectLoss { _ = try await second.open(at: mark) }
        _ = try await second.open(at: mark)
        #expect(try note("1") == "n16")
        await second.close()
    }

    @Test func aLossDuringTheReReadIsAnother() async throws {
        let sink = try harness.sink()
        _ = try await sink.open(at: nil)
        _ = try await write(sink, "1", commit: 16)
        _ = try server.command("FLUSHALL")
        await expectLoss { _ = try await write(sink, "2", commit: 32) }
        let server = server
        await harness.rows.whenScanned { _ = try? server.command("FLUSHALL") }
        // Read, lost again, and so not believed.
        await expectLoss { _ = try await write(sink, "2", commit: 32) }
        await harness.rows.whenScanned(nil)
        _ = try await write(sink, "2", commit: 32)
        #expect(try ["1", "2"].map(note) == ["n16", "n32"])
        await sink.close()
    }

    @Test func aSinkThatIsPutBackIsReadAgain() async throws {
        let first = try harness.sink()
        _ = try await first.open(at: nil)
        _ = try await write(first, "1", commit: 16)
        _ = try await write(first, "2", commit: 32)
        await first.close()
        // Taken out of the configuration, and put back later under its name: no checkpoint, but
        // the marker of this very epoch.
        await harness.rows.set(.init("1", "changed meanwhile"))
        await harness.rows.remove(Array("2".utf8))
        let second = try harness.sink()
        _ = try await second.open(at: nil)
        #expect(try note("1") == "changed meanwhile")
        #expect(try harness.keys() == ["item:1"])
        _ = try await write(second, "1", commit: 48)
        #expect(try note("1") == "n48")
        await second.close()
    }

    @Test func keysOfALaterEpochStopTheSink() async throws {
        let other = try harness.sink()
        _ = try await other.open(at: nil)
        _ = try await write(other, "1", commit: 16)
        await other.close()
        // Another pipeline, begun earlier, takes the sink over under another name.
        harness.epoch -= 50
        for form in ["json", "hash"] {
            _ = try server.command("DEL", "weir:{shop/cache}", "weir:{shop/cache}:copy")
            let sink = try harness.sink(write: form)
            _ = try await sink.open(at: nil)
            let error = await #expect(throws: WeirError.self) {
                _ = try await write(sink, "1", commit: 64)
            }
            #expect(error?.code.name == "redis.other_writer" && error?.disposition == .blocked)
            #expect(try note("1") == "n16")
            await sink.close()
        }
    }

    @Test func aSinkOfSomeOperationsIsReadAgainToo() async throws {
        let operations: [String: ConfigValue] = [
            "operations": .list(["insert", "update"].map(ConfigValue.string))
        ]
        let sink = try harness.sink(operations)
        _ = try await sink.open(at: nil)
        _ = try await write(sink, "1", commit: 16)
        _ = try await write(sink, "2", commit: 32)
        // It takes no deletes, so what it wrote stays, also through a re-read.
        await harness.rows.remove(Array("2".utf8))
        _ = try server.command(
            "DEL", "item:1", "{item:1}:v", "weir:{shop/cache}", "weir:{shop/cache}:copy")
        await expectLoss { _ = try await write(sink, "3", commit: 48) }
        _ = try await write(sink, "3", commit: 48)
        #expect(try harness.keys().sorted() == ["item:1", "item:2", "item:3"])
        await sink.close()
    }

    @Test func aRowIsWrittenAgainThoughItsVersionIsThere() async throws {
        let sink = try harness.sink()
        _ = try await sink.open(at: nil)
        _ = try await write(sink, "1", commit: 16)
        for commit in [32, 48] as [UInt64] {
            _ = try server.command(
                "DEL", "item:1", "weir:{shop/cache}", "weir:{shop/cache}:copy")
            await expectLoss { _ = try await write(sink, "2", commit: commit) }
            _ = try await write(sink, "2", commit: commit)
            #expect(try note("1") == "n16")
        }
        await sink.close()
    }

    // MARK: Evictions

    /// A server that evicts takes one key at a time: the other of the two says that all is there.
    @Test(arguments: ["weir:{shop/cache}", "weir:{shop/cache}:copy"])
    func oneOfTheTwoMarkersMayBeEvicted(key: String) async throws {
        let sink = try harness.sink()
        _ = try await sink.open(at: nil)
        _ = try await write(sink, "1", commit: 16)
        _ = try server.command("DEL", key)
        _ = try await write(sink, "2", commit: 32)
        let mark = try await write(sink, "3", commit: 48)
        let marker = try #require(try harness.get("weir:{shop/cache}"))
        #expect(try harness.get("weir:{shop/cache}:copy") == marker)
        let isMain = !key.hasSuffix("copy")
        #expect(
            harness.reports.findings.map(\.code.name) == (isMain ? ["redis.marker_evicted"] : []))
        await sink.close()
        // Also at a start.
        _ = try server.command("DEL", key)
        let next = try harness.sink()
        _ = try await next.open(at: mark)
        _ = try await write(next, "4", commit: 64)
        await next.close()
        #expect(try harness.keys().count == 4)
        #expect(await harness.rows.scans == 0)
    }

    /// What is lost beside evictions is not taken for one of them.
    @Test(arguments: ["flushed", "removed"])
    func aLossOfAServerThatEvictsIsNoticed(how: String) async throws {
        let server = try await RedisServer.start(settings: ["maxmemory-policy": "allkeys-random"])
        let harness = CacheHarness(server)
        let sink = try harness.sink()
        _ = try await sink.open(at: nil)
        _ = try server.command("CONFIG", "SET", "maxmemory", "4000000")
        let filler = String(repeating: "x", count: 200_000)
        for number in 1...40 { _ = try server.command("SET", "filler:\(number)", filler) }
        let stats = try #require(try server.command("INFO", "stats").text)
        #expect(!stats.contains("evicted_keys:0\r"))
        _ = try server.command("CONFIG", "SET", "maxmemory", "0")
        await harness.rows.set(.init("1", "n16"))
        // The markers may have been among them; from here on they are there.
        for commit in [16, 32, 48] as [UInt64] {
            _ = try? await sink.write([
                ItemBatch.of([.update(.init("1", "n16"))], commit: commit)
            ])
        }
        #expect(try harness.get("item:1") != nil)
        if how == "flushed" {
            _ = try server.command("FLUSHALL")
        } else {
            for prefix in ["item:", "{item:", "weir:"] {
                guard case .array(let keys) = try server.command("KEYS", "\(prefix)*") else {
                    continue
                }
                for key in keys.compactMap(\.text) { _ = try server.command("DEL", key) }
            }
        }
        let batch = ItemBatch.of([.update(.init("2", "n64"))], commit: 64)
        await harness.rows.set(.init("2", "n64"))
        await expectLoss { _ = try await sink.write([batch]) }
        _ = try await sink.write([batch])
        #expect(try harness.keys().filter { !$0.hasPrefix("filler") }.count == 2)
        await sink.close()
    }

    // MARK: Pure

    @Test func judgements() throws {
        func marker(_ epoch: UInt32, _ commit: UInt64, _ run: String = "r") -> CacheMarker {
            CacheMarker(CacheVersion(epoch: epoch, commit: commit, ordinal: 0), run: run)
        }
        func judge(
            _ found: CacheMarker?, _ expected: CacheMarker?, epoch: UInt32 = 5, run: String = "r",
            isEvicting: Bool = false, isContinuous: Bool = false
        ) -> CacheMarker.Verdict {
            CacheMarker.judge(
                found: found, expected: expected, epoch: epoch, isContinuous: isContinuous,
                run: run, isEvicting: isEvicting)
        }
        #expect(judge(nil, nil) == .new)
        #expect(judge(marker(4, 9), nil) == .moved(since: marker(4, 9).version))
        // A re-read that was cut short is done again, from where it stood.
        let repair = CacheMarker.repair(since: marker(5, 7).version)
        #expect(CacheMarker(parsing: repair.text) == repair)
        #expect(judge(repair, nil) == .moved(since: marker(5, 7).version))
        #expect(
            judge(repair, marker(5, 3))
                == .lost("it was restored, or a replica that was behind took over"))
        #expect(judge(marker(6, 0), nil) == .foreign)
        #expect(judge(marker(6, 0), marker(5, 9)) == .foreign)
        #expect(judge(marker(5, 9), marker(5, 9)) == .intact)
        // More than the checkpoint knows: written before a crash.
        #expect(judge(marker(5, 12), marker(5, 9)) == .intact)
        #expect(judge(marker(5, 9, "other"), marker(5, 9), run: "new") == .intact)
        #expect(
            judge(marker(5, 8), marker(5, 9))
                == .lost("it was restored, or a replica that was behind took over"))
        #expect(judge(nil, marker(5, 9)) == .lost("it was flushed"))
        #expect(judge(nil, marker(5, 9), run: "s") == .lost("it was restarted without its data"))
        #expect(
            judge(nil, marker(5, 9), isEvicting: true)
                == .lost("it was flushed, or evicted both of Weir's markers with much else"))
        #expect(
            judge(nil, marker(5, 9), run: "s", isEvicting: true)
                == .lost("it was restarted without its data"))
        #expect(
            judge(marker(4, 9), marker(4, 9)) == .moved(since: marker(4, 9).version))
        // Moved by an operator without skipping anything; what was lost meanwhile is still found.
        #expect(
            judge(marker(4, 9), marker(4, 9), isContinuous: true)
                == .continued(since: marker(4, 9).version))
        #expect(
            judge(marker(4, 8), marker(4, 9), isContinuous: true)
                == .lost("it was restored, or a replica that was behind took over"))
        #expect(judge(nil, marker(4, 9), isContinuous: true) == .lost("it was flushed"))
        #expect(judge(marker(5, 9), marker(5, 9), isContinuous: true) == .intact)
    }

    @Test func versionsAreOrderedAsTextAndAsNumbers() throws {
        var random = SeededGenerator(seed: 1)
        var versions: [CacheVersion] = []
        for _ in 0..<200 {
            versions.append(
                CacheVersion(
                    epoch: UInt32(random.below(3)), commit: random.next() >> random.below(64),
                    ordinal: UInt32(random.below(1 << 32))))
        }
        for left in versions {
            #expect(CacheVersion(parsing: left.text) == left)
            #expect(left.text.utf8.count == CacheVersion.digits)
            for right in versions {
                #expect((left < right) == (left.text < right.text))
            }
        }
        for text in ["", "0", String(repeating: "g", count: 32), String(repeating: "a", count: 32)]
        {
            #expect(CacheVersion(parsing: text) == nil)
        }
    }

    @Test func recentTransactionsAreBounded() {
        var recent = RecentTransactions()
        for number in 1...10_000 as ClosedRange<UInt32> { recent.add(number) }
        #expect(recent.all.count == 4096)
        #expect(Set(recent.all) == Set(5905...10_000))
    }
}
