import Foundation
import Testing
import WeirCore
import WeirRedisSink
import WeirTesting

/// Old and new versions, replays by a second sink, deletes, key changes, evictions, refills by
/// services and new epochs, in every order a seed makes, against a model. After each step the
/// server's keys equal the model's.
struct CachePropertyTests {
    /// Small, so that everything happens to every key.
    private static let ids = ["1", "2", "a:b", "{x}", "%", "\r\n$3\r\n", "ü\u{1F642}"]

    private struct World {
        var history: [(version: (epoch: UInt32, commit: UInt64), change: ItemBatch.Change)] = []
        var model: [String: ModelKey] = [:]
        var table: [String: String] = [:]
        var leases: [(key: String, token: String, read: [UInt8])] = []
        var commit: UInt64 = 1000
    }

    @Test(arguments: ["json", "string", "hash"], [1, 2, 3, 4] as [UInt64])
    func keysNeverGoBackwards(write: String, seed: UInt64) async throws {
        var random = SeededGenerator(seed: seed)
        let harness = try await CacheHarness.start()
        let lua = try LeaseScripts(harness.server)
        let more: [String: ConfigValue] = [
            "on_data_loss": .string("continue"),
            write == "string" ? "value" : "unused": .string("note"),
        ]
        let config = try CacheHarness.config(
            harness.server, write: write, more.filter { $0.key != "unused" })
        let live = try harness.sink(config)
        let mark = try await live.open(at: nil)
        // The same pipeline's earlier life, whose writes arrive late.
        let ghost = try harness.sink(config)
        _ = try await ghost.open(at: mark)
        var world = World()
        var steps: [String: Int] = [:]
        for step in 0..<600 {
            let name = try await perform(
                &world, &random, live, ghost, lua, harness, write, step: step)
            steps[name, default: 0] += 1
            try compare(world, harness, write, "seed \(seed) step \(step): \(name)")
        }
        for name in ["change", "replay", "evict", "leased", "refused", "filled", "voided", "epoch"]
        {
            #expect(steps[name, default: 0] > 0, "seed \(seed) never did \(name): \(steps)")
        }
        await live.close()
        await ghost.close()
    }

    private func perform(
        _ world: inout World, _ random: inout SeededGenerator, _ live: RedisSink,
        _ ghost: RedisSink,
        _ lua: LeaseScripts, _ harness: CacheHarness, _ write: String, step: Int
    ) async throws -> String {
        switch random.below(20) {
        case 0..<9:
            let batch = change(&world, &random, epoch: harness.epoch, write)
            _ = try await live.write([batch])
            return "change"
        case 9..<11:
            guard !world.history.isEmpty else { return "nothing" }
            // A stretch of the past, which need not reach the present.
            let from = random.below(world.history.count)
            let count = 1 + random.below(min(6, world.history.count - from))
            for entry in world.history[from..<(from + count)]
            where entry.version.epoch == harness.epoch {
                _ = try await ghost.write([
                    ItemBatch.of([entry.change], commit: entry.version.commit)
                ])
            }
            return "replay"
        case 11..<14:
            let key = self.key(Self.ids[random.below(Self.ids.count)])
            _ = try harness.server.command("DEL", key)
            world.model[key, default: ModelKey()].evict()
            return "evict"
        case 14..<18:
            let id = Self.ids[random.below(Self.ids.count)]
            let token = "t\(step)"
            let isGiven = try lua.lease(key(id), token)
            let expected = world.model[key(id), default: ModelKey()].lease(token)
            #expect(isGiven == expected, "lease of \(id)")
            if isGiven {
                let read = Array((world.table[id] ?? "none").utf8)
                world.leases.append((key(id), token, read))
            }
            return isGiven ? "leased" : "refused"
        case 18:
            guard !world.leases.isEmpty else { return "nothing" }
            let lease = world.leases.remove(at: random.below(world.leases.count))
            let isTaken = try lua.fill(lease.key, lease.token, lease.read, asHash: write == "hash")
            let expected = world.model[lease.key, default: ModelKey()].fill(
                lease.token, lease.read)
            #expect(isTaken == expected, "fill of \(lease.key)")
            return isTaken ? "filled" : "voided"
        default:
            harness.epoch += 1
            _ = try await live.write([])
            _ = try await ghost.write([])
            return "epoch"
        }
    }

    /// Makes one change of the table, and its effect on the model.
    private func change(
        _ world: inout World, _ random: inout SeededGenerator, epoch: UInt32, _ write: String
    ) -> EventBatch {
        world.commit += 16
        let id = Self.ids[random.below(Self.ids.count)]
        let note = "\(world.commit) ü\r\n"
        let version = VersionText.of(epoch: epoch, commit: world.commit)
        let change: ItemBatch.Change
        let row = ItemBatch.Row(id, note)
        let free = Self.ids.first { world.table[$0] == nil }
        if world.table[id] == nil {
            change = .insert(row)
        } else if random.below(4) == 0 {
            change = .delete(Array(id.utf8))
        } else if random.below(3) == 0, let free {
            change = .move(from: Array(id.utf8), to: ItemBatch.Row(free, note))
            world.table[free] = note
            world.model[key(free), default: ModelKey()].write(
                version, value(free, note, write))
        } else {
            change = .update(row)
        }
        switch change {
        case .insert, .update:
            world.table[id] = note
            world.model[key(id), default: ModelKey()].write(version, value(id, note, write))
        default:
            world.table[id] = nil
            world.model[key(id), default: ModelKey()].write(version, nil)
        }
        world.history.append(((epoch, world.commit), change))
        return ItemBatch.of([change], commit: world.commit)
    }

    private func key(_ id: String) -> String {
        let escaped = id.utf8.map { byte in
            ":%{}".utf8.contains(byte) || byte < 0x20
                ? "%" + (byte < 16 ? "0" : "") + String(byte, radix: 16, uppercase: true)
                : String(decoding: [byte], as: UTF8.self)
        }
        // Bytes above 0x7F are parts of characters: only whole strings decode.
        return id.utf8.allSatisfy { $0 < 0x80 } ? "item:" + escaped.joined() : "item:" + id
    }

    private func value(_ id: String, _ note: String, _ write: String) -> [UInt8] {
        switch write {
        case "string", "hash": return Array(note.utf8)
        default:
            let encoder = JSONEncoder()
            encoder.outputFormatting = .withoutEscapingSlashes
            func quoted(_ text: String) -> String {
                String(decoding: (try? encoder.encode(text)) ?? Data(), as: UTF8.self)
            }
            return Array(#"{"id":\#(quoted(id)),"note":\#(quoted(note)),"stock":1}"#.utf8)
        }
    }

    private func compare(
        _ world: World, _ harness: CacheHarness, _ write: String, _ comment: String
    ) throws {
        for id in Self.ids {
            let expected = world.model[key(id)]?.value
            let found: [UInt8]?
            if write == "hash" {
                let reply = try harness.server.command("HGET", key(id), "note")
                found = if case .bulk(let bytes) = reply { bytes } else { nil }
            } else {
                found = try harness.server.get(key(id))
            }
            #expect(
                found == expected,
                """
                \(comment), key \(key(id).debugDescription): \
                \(found.map { String(decoding: $0, as: UTF8.self) } ?? "nothing") instead of \
                \(expected.map { String(decoding: $0, as: UTF8.self) } ?? "nothing")
                """)
        }
        let allowed = Set(Self.ids.map(key))
        #expect(Set(try harness.keys()).isSubset(of: allowed), "\(comment) made other keys")
    }
}
