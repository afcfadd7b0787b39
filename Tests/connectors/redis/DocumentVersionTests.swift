import Synchronization
import Testing
import WeirCore
import WeirJSON
import WeirTesting
import WeirValues

@testable import WeirRedisSink

/// Versions of MongoDB's events: they order as the tokens do (connectors/mongodb/CORRECTNESS.md,
/// 70), as text, as values, and in the scripts.
struct DocumentVersionTests {
    private static let times: [UInt64] = [
        0x6740_0000_0000_0001, 0x6740_0000_0000_0002, 0x6740_0000_0000_0010,
        0x6740_0001_0000_0001, 0x80FF_FFFF_FFFF_FFFF,
    ]

    /// Ids as tokens encode them: an ObjectId, small numbers, texts.
    private static func id(_ random: inout SeededGenerator) -> String {
        switch random.below(3) {
        case 0:
            return "64" + (0..<12).map { _ in DocumentBatch.hex(random.next() & 0xFF, 2) }.joined()
        case 1: return "2B" + DocumentBatch.hex(UInt64(2 * (1 + random.below(60))), 2)
        default:
            let text = ["a", "ab", "ကော်ဖီ", "z0", "ü\u{1F642}"][random.below(5)]
            return "3C" + text.utf8.map { DocumentBatch.hex(UInt64($0), 2) }.joined() + "00"
        }
    }

    private static func tokens(_ count: Int, seed: UInt64) -> [String] {
        var random = SeededGenerator(seed: seed)
        return (0..<count).map { _ in
            DocumentBatch.token(
                times[random.below(times.count)], place: [0, 0, 1, 2, 3, 500][random.below(6)],
                collection: UInt8(random.below(3)), id: id(&random))
        }
    }

    private func version(_ token: String, epoch: UInt32 = 7) throws -> CacheVersion {
        let batch = DocumentBatch.of(.insert(["_id": 1]), token: token)
        return try CacheVersion(epoch: epoch, of: try #require(batch.events.first), in: batch)
    }

    @Test func versionsOrderAsTokensDo() throws {
        let tokens = Self.tokens(150, seed: 3)
        let versions = try tokens.map { try version($0) }
        #expect(Set(versions.map(\.tail)).count > 100, "tails differ")
        for (token, left) in zip(tokens, versions) {
            #expect(left.text == VersionText.of(epoch: 7, token: token))
            #expect(CacheVersion(parsing: left.text) == left)
            #expect(left.commit == Position(token: token).high && left.ordinal == 0)
            for (other, right) in zip(tokens, versions) {
                #expect((left < right) == (token < other), "\(token) and \(other)")
                #expect((left.text < right.text) == (token < other))
            }
        }
    }

    @Test func theNextVersionIsBehindAllOfItsTimeAndBeforeTheRest() throws {
        for token in Self.tokens(60, seed: 4) {
            let next = try version(token).next
            #expect(next.tail.isEmpty)
            for other in Self.tokens(60, seed: 5) {
                let isLater = Position(token: other).high > next.commit
                #expect(try (next < version(other)) == isLater)
                #expect(try (next.text < version(other).text) == isLater)
                #expect(try next < version(other, epoch: 8))
            }
        }
    }

    @Test func whatIsAppendedToACallIsTheText() throws {
        for token in Self.tokens(20, seed: 6) {
            let batch = DocumentBatch.of(.insert(["_id": 1]), token: token)
            let expected = try version(token)
            let found = batch.withView { view in
                var writer = JSONWriter()
                let made = EventVersion(epoch: 7, of: batch.events[0], in: view)
                writer.append(made)
                #expect(made.count == writer.count)
                return unsafe writer.withBytes { unsafe String(decoding: $0, as: UTF8.self) }
            }
            #expect(found == expected.text)
        }
    }

    /// Nothing of it may reach a server: it would never be older than anything.
    @Test func aTailThatHasNoOrderAsTextIsRefused() throws {
        let token = DocumentBatch.token(Self.times[0])
        for bad in [token + "\r\n", token + "ab", token + "+"] {
            let batch = DocumentBatch.of(.insert(["_id": 1]), token: bad)
            let error = #expect(throws: WeirError.self) {
                _ = try CacheVersion(epoch: 7, of: batch.events[0], in: batch)
            }
            #expect(error?.code == .bug)
        }
    }

    @Test func textThatIsNoVersionIsNotParsed() throws {
        let text = try version(DocumentBatch.token(Self.times[0])).text
        #expect(CacheVersion(parsing: text) != nil)
        for bad in [text + "!", text + "+", text + " ", text + "-1-t", text + "ab", " " + text] {
            #expect(CacheVersion(parsing: bad) == nil, "\(bad)")
        }
        #expect(CacheVersion(parsing: text.prefix(31)) == nil)
        #expect(CacheVersion(parsing: text.prefix(32))?.tail == "")
    }

    @Test func markersKeepWholeVersions() throws {
        let versions = try Self.tokens(40, seed: 8).map { try version($0) }
        for old in versions {
            let marker = CacheMarker(old, run: "0f")
            #expect(CacheMarker(parsing: marker.text) == marker)
            // Where a re-read that was cut short began is found again.
            let repair = CacheMarker.repair(since: old)
            #expect(CacheMarker(parsing: repair.text) == repair)
            #expect(
                CacheMarker.judge(
                    found: repair, expected: nil, epoch: 7, run: "0f", isEvicting: false)
                    == .moved(since: old))
            for new in versions {
                let verdict = CacheMarker.judge(
                    found: marker, expected: CacheMarker(new, run: "0f"), epoch: 7, run: "0f",
                    isEvicting: false)
                #expect((verdict == .intact) == (old >= new))
            }
        }
    }

    /// Every change of one key in any order, and again: the newest stays.
    @Test(arguments: ["json", "hash"], [1, 2, 3] as [UInt64])
    func theServerKeepsTheNewest(write: String, seed: UInt64) async throws {
        let harness = try await CacheHarness.start()
        let more: [String: ConfigValue] =
            write == "hash"
            ? ["columns": .columns([ColumnChoice(output: "at", source: "at")])]
            : seed == 1 ? ["ttl": .duration(.seconds(600))] : [:]
        let sink = try harness.documentSink(write: write, more)
        _ = try await sink.open(at: nil)
        var random = SeededGenerator(seed: seed)
        var newest = ""
        for (index, token) in Self.tokens(120, seed: seed).enumerated() {
            let isDelete = random.below(5) == 0
            let batch = DocumentBatch.of(
                isDelete
                    ? .delete(key: ["_id": 1])
                    : .insert(["_id": 1, "at": .text(Array(token.utf8))]), token: token)
            // One sink never gets older ones; two daemons for a moment do.
            _ = try await sink.write([batch])
            let wasNewer = token > newest
            if wasNewer { newest = token }
            let side = try harness.get("{product:1}:v")
            let expected = VersionText.of(epoch: harness.epoch, token: newest)
            #expect(
                side == expected || side == expected + "!", "step \(index) of seed \(seed)")
            if wasNewer { #expect((side == expected + "!") == isDelete) }
            if wasNewer { #expect(try harness.keys().isEmpty == isDelete) }
            let marker = try #require(try harness.get("weir:{shop/cache}"))
            #expect(marker.hasPrefix(expected + " "), "the marker only goes forward")
        }
        await sink.close()
    }

    @Test func aMarkFromBeforeIsTakenUp() async throws {
        let harness = try await CacheHarness.start()
        let first = try harness.documentSink()
        _ = try await first.open(at: nil)
        let token = DocumentBatch.token(Self.times[1])
        let mark = try await first.write([DocumentBatch.of(.insert(["_id": 1]), token: token)]).mark
        await first.close()
        #expect(
            mark?.text.hasPrefix(VersionText.of(epoch: harness.epoch, token: token) + " ") == true)
        let second = try harness.documentSink()
        let again = try await second.open(at: mark)
        #expect(again?.text == mark?.text)
        await second.close()
        #expect(harness.log.all.isEmpty)
    }

    /// Key, version and markers as versions before 2026-12-01 wrote them, byte for byte.
    @Test func aRedisOfTheVersionBeforeIsGoneOnWith() async throws {
        let harness = try await CacheHarness.start()
        harness.epoch = 7
        let version =
            "00000007" + "6740000000000001" + "00000000" + "2B022C0100296E5A1004"
            + "A1A1A1A1A1A1A1A1A1A1A1A1A1A1A1A1" + "46645F69640064653F0C2A9B8D7E6F5A4B3C2D0004"
        for (key, value) in [
            ("product:1", #"{"_id":1}"#), ("{product:1}:v", version),
            ("weir:{shop/cache}", version + " "), ("weir:{shop/cache}:copy", version + " "),
        ] { _ = try harness.server.command("SET", key, value) }
        let sink = try harness.documentSink()
        _ = try await sink.open(at: SinkMark(version + " "))
        func update(_ time: UInt64, _ text: String) -> EventBatch {
            DocumentBatch.of(
                .update(["_id": 1, "a": .text(Array(text.utf8))], .updated("a")),
                token: DocumentBatch.token(time))
        }
        _ = try await sink.write([update(0x6740_0000_0000_0001, "again")])
        #expect(try harness.get("product:1") == #"{"_id":1}"#)
        _ = try await sink.write([update(0x6740_0000_0000_0002, "next")])
        #expect(try harness.get("product:1") == #"{"_id":1,"a":"next"}"#)
        await sink.close()
        #expect(harness.log.all.isEmpty)
    }
}
