import Testing
import WeirCore
import WeirTesting

@testable import WeirRedisSink

/// A script that fails half-way is not undone by the server. Whatever command of it is refused, at
/// whatever key, what it was to do is there in the end.
struct ScriptRefusalTests {
    private let harness: CacheHarness
    private let server: RedisServer

    init() async throws {
        harness = try await CacheHarness.start()
        server = harness.server
        _ = try server.command(
            "ACL", "SETUSER", "weir", "on", ">secret", "~*", "&*", "+@all")
    }

    /// A way to write, and the commands its script may run.
    struct Form: Sendable, CustomTestStringConvertible {
        let write: String
        var more: [String: ConfigValue] = [:]
        let commands: [String]
        var testDescription: String { "\(write) \(more.keys.sorted().joined(separator: " "))" }

        static let ttl: [String: ConfigValue] = ["ttl": .duration(.seconds(3600))]
        static let all = [
            Form(write: "json", commands: ["mget", "mset", "unlink", "psetex"]),
            Form(write: "json", more: ttl, commands: ["mget", "unlink", "psetex"]),
            Form(
                write: "string", more: ["value": .string("stock")],
                commands: ["mget", "mset", "unlink", "psetex"]),
            Form(
                write: "hash",
                commands: ["mget", "type", "unlink", "hdel", "hset", "persist", "set", "psetex"]),
            Form(
                write: "hash", more: ttl,
                commands: ["mget", "type", "unlink", "hdel", "hset", "pexpire", "psetex"]),
            Form(
                write: "invalidate", more: ["publish": .string("changes")],
                commands: ["psetex", "unlink", "publish"]),
        ]
    }

    private let before = ItemBatch.of(
        (1...5).map { .insert(.init("\($0)", "old")) }, commit: 16)

    /// A whole row, a part that takes a field away, a delete, a new row, a key that changes.
    private var change: EventBatch {
        var part = ItemBatch.Row("2", nil)
        part.isStockUnchanged = true
        return ItemBatch.of(
            [
                .update(.init("1", "new", stock: "7")), .update(part), .delete(Array("3".utf8)),
                .insert(.init("6", "new")), .move(from: Array("4".utf8), to: .init("7", "new")),
            ], commit: 32)
    }

    private func sink(_ form: Form) throws -> RedisSink {
        let config = try CacheHarness.config(
            server, write: form.write, form.more,
            connection: [
                "user": .string("weir"), "password": .secret(Secret("secret", origin: "test")),
            ])
        return try harness.sink(config)
    }

    /// All that is there, but for when it ends: values and versions, and whether they end.
    private func contents() throws -> [String: String] {
        var found: [String: String] = [:]
        guard case .array(let keys) = try server.command("KEYS", "*") else { return found }
        for key in keys.compactMap(\.text) where !key.hasPrefix("weir:") {
            let ends = try server.command("PTTL", key) == .integer(-1) ? "stays" : "ends"
            if try server.command("TYPE", key) == .simple("hash") {
                found[key] = "\(try harness.hash(key).sorted { $0.key < $1.key }) \(ends)"
            } else {
                found[key] = "\(try harness.get(key) ?? "") \(ends)"
            }
        }
        return found
    }

    /// A sink that has written what was there before the change.
    private func prepared(_ form: Form) async throws -> RedisSink {
        _ = try server.command("FLUSHALL")
        let sink = try sink(form)
        _ = try await sink.open(at: nil)
        _ = try await sink.write([before])
        if form.write == "invalidate" {
            for id in 1...7 { _ = try server.command("SET", "item:\(id)", "stored") }
        }
        return sink
    }

    @Test(arguments: Form.all)
    func whatWasRefusedIsWrittenOnceItMay(form: Form) async throws {
        for id in 1...7 { await harness.rows.set(.init("\(id)", "new", stock: "7")) }
        let unhindered = try await prepared(form)
        _ = try await unhindered.write([change])
        await unhindered.close()
        let expected = try contents()
        #expect(!expected.isEmpty)

        for command in form.commands {
            let sink = try await prepared(form)
            _ = try server.command("ACL", "SETUSER", "weir", "-\(command)")
            for _ in 0..<2 {
                let error = await #expect(throws: WeirError.self, "\(command)") {
                    try await sink.write([change])
                }
                #expect(error?.code.name == "redis.permission", "\(command)")
            }
            _ = try server.command("ACL", "SETUSER", "weir", "+\(command)")
            _ = try await sink.write([change])
            #expect(try contents() == expected, "\(command)")
            await sink.close()
        }
    }

    @Test(arguments: Form.all.filter { $0.write != "invalidate" })
    func aServerThatWasFullHasAllOfItLater(form: Form) async throws {
        for id in 1...7 { await harness.rows.set(.init("\(id)", "new", stock: "7")) }
        let unhindered = try await prepared(form)
        _ = try await unhindered.write([change])
        await unhindered.close()
        let expected = try contents()

        let sink = try await prepared(form)
        _ = try server.command("CONFIG", "SET", "maxmemory", "1")
        let error = await #expect(throws: WeirError.self) { try await sink.write([change]) }
        #expect(error?.code.name == "redis.out_of_memory")
        _ = try server.command("CONFIG", "SET", "maxmemory", "0")
        _ = try await sink.write([change])
        #expect(try contents() == expected)
        await sink.close()
    }

    /// What a sweep could not remove is removed by the next try.
    @Test(arguments: ["unlink", "psetex"])
    func aSweepThatWasRefusedIsMadeAgain(command: String) async throws {
        let form = Form(write: "hash", more: ["truncate": .string("delete")], commands: [])
        let sink = try await prepared(form)
        _ = try server.command("ACL", "SETUSER", "weir", "-\(command)")
        let batch = ItemBatch.of([.truncate], commit: 32)
        await #expect(throws: WeirError.self) { try await sink.write([batch]) }
        _ = try server.command("ACL", "SETUSER", "weir", "+\(command)")
        _ = try await sink.write([batch])
        #expect(try harness.keys() == [])
        await sink.close()
    }
}
