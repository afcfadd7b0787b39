import Foundation
import Testing
import WeirCore
import WeirRedisClient
import WeirTesting

@testable import WeirRedisSink

/// Errors of the server, each with its code; none loses or doubles anything.
struct RedisFaultTests {
    private let harness: CacheHarness
    private let server: RedisServer

    init() async throws {
        harness = try await CacheHarness.start()
        server = harness.server
    }

    private let batch = ItemBatch.of([.insert(.init("1", "n"))], commit: 16)

    private func opened(_ more: [String: ConfigValue] = [:]) async throws -> RedisSink {
        let sink = try harness.sink(more)
        _ = try await sink.open(at: nil)
        return sink
    }

    /// What `write` fails with, and that it works again once `heal` was done.
    private func expect(
        _ code: String, _ sink: RedisSink, says words: String, heal: () throws -> Void
    ) async throws {
        for _ in 0..<2 {
            let error = await #expect(throws: WeirError.self) { try await sink.write([batch]) }
            #expect(error?.code.name == code)
            #expect(error?.disposition == .transient)
            #expect(error?.message.contains(words) == true, "\(error?.message ?? "")")
        }
        try heal()
        let outcome = try await sink.write([batch])
        #expect(outcome.delivered == 1)
        #expect(try harness.keys() == ["item:1"])
        await sink.close()
    }

    @Test(arguments: ["json", "hash"])
    func outOfMemory(write: String) async throws {
        let sink = try harness.sink(write: write)
        _ = try await sink.open(at: nil)
        _ = try server.command("CONFIG", "SET", "maxmemory", "1")
        try await expect("redis.out_of_memory", sink, says: "OOM command not allowed") {
            #expect(try harness.keys().isEmpty, "nothing was written past the limit")
            _ = try server.command("CONFIG", "SET", "maxmemory", "0")
        }
    }

    /// A removal is taken also by a full server, and what follows it in a script would be, too.
    @Test(arguments: [("json", 0), ("json", 60), ("hash", 0), ("hash", 60)])
    func aFullServerTakesRemovalsAlone(write: String, ttl: Int) async throws {
        let sink = try harness.sink(
            write: write, ttl > 0 ? ["ttl": .duration(.seconds(ttl))] : [:])
        _ = try await sink.open(at: nil)
        _ = try await sink.write([ItemBatch.of([.insert(.init("1", "x"))], commit: 16)])
        func refused(_ batch: EventBatch) async {
            let error = await #expect(throws: WeirError.self) { try await sink.write([batch]) }
            #expect(error?.code.name == "redis.out_of_memory")
        }
        _ = try server.command("CONFIG", "SET", "maxmemory", "1")
        let mixed = ItemBatch.of(
            [.delete(Array("1".utf8)), .delete(Array("0".utf8)), .insert(.init("2", "y"))],
            commit: 48)
        if write == "hash" {
            // Only what changed is sent: one field becomes null.
            var part = ItemBatch.Row("1", nil)
            part.isStockUnchanged = true
            await refused(ItemBatch.of([.update(part)], commit: 32))
            #expect(try harness.hash("item:1")["note"] == "x")
        }
        await refused(mixed)
        #expect(try harness.keys() == ["item:1"], "neither the removal nor the row behind it")
        // Only the sink's marker is refused.
        await refused(ItemBatch.of([.delete(Array("1".utf8))], commit: 48))
        #expect(try harness.keys().isEmpty)
        _ = try server.command("CONFIG", "SET", "maxmemory", "0")
        _ = try await sink.write([mixed])
        #expect(try harness.keys() == ["item:2"])
        await sink.close()
    }

    @Test func readOnly() async throws {
        let sink = try await opened()
        _ = try server.command("REPLICAOF", "127.0.0.1", "1")
        try await expect("redis.read_only", sink, says: "READONLY") {
            _ = try server.command("REPLICAOF", "NO", "ONE")
        }
    }

    @Test func tooFewReplicas() async throws {
        let sink = try await opened()
        _ = try server.command("CONFIG", "SET", "min-replicas-to-write", "1")
        try await expect("redis.replicas_missing", sink, says: "NOREPLICAS") {
            _ = try server.command("CONFIG", "SET", "min-replicas-to-write", "0")
        }
    }

    @Test func permissionMissing() async throws {
        // The rights that the connector's page lists, but for two.
        let rights = try documentedRights().filter { $0 != "+set" && $0 != "+psetex" }
        _ = try server.command(
            (["ACL", "SETUSER", "weir", "on", ">secret", "~item:*", "~{item:*}:v", "~weir:*"]
                + rights).map { Array($0.utf8) })
        let config = try CacheHarness.config(
            server,
            connection: [
                "user": .string("weir"), "password": .secret(Secret("secret", origin: "test")),
            ])
        let sink = try harness.sink(config)
        // Not even the marker can be set.
        let error = await #expect(throws: WeirError.self) { _ = try await sink.open(at: nil) }
        #expect(error?.code.name == "redis.permission")
        #expect(error?.hint?.contains("ACL SETUSER weir") == true)
        #expect("\(error.map { "\($0)" } ?? "")".contains("secret") == false)
        _ = try server.command("ACL", "SETUSER", "weir", "+psetex", "+set")
        _ = try await sink.open(at: nil)
        #expect(try await sink.write([batch]).delivered == 1)
        await sink.close()
    }

    private func documentedRights() throws -> [String] {
        let page = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
            .appending(path: "../../../connectors/redis/README.md")
        let text = try String(contentsOf: page, encoding: .utf8)
        let start = try #require(text.range(of: "ACL SETUSER weir"))
        return text[start.upperBound...].prefix { $0 != "`" }
            .split(whereSeparator: \.isWhitespace).map(String.init).filter { $0.hasPrefix("+") }
    }

    @Test func wrongPassword() async throws {
        let server = try await RedisServer.start(password: "right")
        let config = try CacheHarness.config(
            server, url: "redis://127.0.0.1:\(server.port)/0",
            connection: ["password": .secret(Secret("wrong-secret", origin: "test"))])
        let sink = try harness.sink(config)
        let error = await #expect(throws: WeirError.self) { _ = try await sink.open(at: nil) }
        #expect(error?.code.name == "redis.authentication" && error?.disposition == .transient)
        #expect("\(error.map { "\($0)" } ?? "")".contains("wrong-secret") == false)
        await sink.close()
    }

    @Test func scriptsThatAreGoneAreLoadedAgain() async throws {
        let sink = try await opened()
        _ = try server.command("SCRIPT", "FLUSH")
        #expect(try await sink.write([batch]).delivered == 1)
        #expect(try harness.keys() == ["item:1"])
        await sink.close()
    }

    @Test func aKilledServerIsConnectedToAgain() async throws {
        let server = try await RedisServer.start(
            settings: ["appendonly": "yes", "appendfsync": "always"])
        let harness = CacheHarness(server)
        let sink = try harness.sink()
        _ = try await sink.open(at: nil)
        server.kill()
        let error = await #expect(throws: WeirError.self) { try await sink.write([batch]) }
        #expect(error?.code.name == "redis.connection_failed")
        try await server.restart(keepingData: true)
        #expect(try await sink.write([batch]).delivered == 1)
        #expect(try harness.keys() == ["item:1"])
        await sink.close()
    }

    @Test func aSilentServerDoesNotHoldUpAnEnd() async throws {
        let sink = try await opened()
        server.pause()
        let write = Task { try await sink.write([batch]) }
        // It has been sent and waits; what cancels it is the end of the pipeline.
        write.cancel()
        let start = ContinuousClock.now
        await #expect(throws: WeirError.self) { try await write.value }
        #expect(ContinuousClock.now - start < .seconds(5))
        server.resume()
        #expect(try await sink.write([batch]).delivered == 1)
        await sink.close()
    }

    /// One node with all slots: a key and its side key must be in one, or it refuses the script.
    @Test(arguments: ["item:{id}", "{{{id}}}:item", "{{shop}}:item:{id}", "a{{x{id}}}b:{note}"])
    func keysAreSafeInACluster(template: String) async throws {
        let server = try await RedisServer.start(settings: ["cluster-enabled": "yes"])
        let slots = (0..<16_384).map { "\($0)" }
        _ = try server.command(
            ["CLUSTER", "ADDSLOTS"].map { Array($0.utf8) } + slots.map { Array($0.utf8) })
        try await eventually("the cluster is up") {
            try server.cli("cluster", "info").contains("cluster_state:ok")
        }
        let harness = CacheHarness(server)
        let sink = try harness.sink(key: template)
        _ = try await sink.open(at: nil)
        let ids = ["1", "2", "", "{", "}", "{}", "a:b", "%", "\u{1F642}"]
        let outcome = try await sink.write([
            ItemBatch.of(ids.map { .insert(.init($0, "n")) }, commit: 16)
        ])
        #expect(outcome.delivered == ids.count)
        #expect(try harness.keys().count == ids.count)
        await sink.close()
    }

    @Test func aSlotNobodyServesIsNamed() async throws {
        let server = try await RedisServer.start(
            settings: ["cluster-enabled": "yes", "cluster-require-full-coverage": "no"])
        let harness = CacheHarness(server)
        let sink = try harness.sink()
        let error = await #expect(throws: WeirError.self) { _ = try await sink.open(at: nil) }
        #expect(error?.code.name == "redis.cluster_moved")
        await sink.close()
    }

    @Test func everyRefusalHasACode() {
        let map = RedisFailureMap(place: "cache:6379/0", user: "weir")
        let expected: [(String, String, Disposition)] = [
            ("OOM", "redis.out_of_memory", .transient), ("READONLY", "redis.read_only", .transient),
            ("LOADING", "redis.not_ready", .transient), ("BUSY", "redis.not_ready", .transient),
            ("MASTERDOWN", "redis.not_ready", .transient),
            ("MISCONF", "redis.persistence_failed", .transient),
            ("NOREPLICAS", "redis.replicas_missing", .transient),
            ("NOPERM", "redis.permission", .transient), ("MOVED", "redis.cluster_moved", .blocked),
            ("ASK", "redis.cluster_moved", .blocked),
            ("CROSSSLOT", "redis.cluster_moved", .blocked),
            ("CLUSTERDOWN", "redis.cluster_moved", .transient),
            ("ERR", "redis.command_failed", .transient), ("", "redis.command_failed", .transient),
        ]
        for (code, name, disposition) in expected {
            let error = map.error(
                RedisFailure(.reply(code: code), "\(code) said so"), doing: "write")
            #expect(error.code.name == name && error.disposition == disposition)
            #expect(error.message == "could not write at cache:6379/0: \(code) said so")
        }
        let quoted = [
            "ERR Error running script (call to f_6b): @user_script:4: @user_script: 4: -OOM command "
                + "not allowed": "redis.out_of_memory",
            "ERR Error running script (call to f_6b): @user_script:4: @user_script: 4: -READONLY You":
                "redis.read_only",
            "ERR Error running script (call to f_6b): @user_script:4: bad argument -1 X":
                "redis.command_failed",
            "ERR The user executing the script can't run this command or subcommand":
                "redis.permission",
        ]
        for (text, name) in quoted {
            let error = map.error(RedisFailure(.reply(code: "ERR"), text), doing: "write")
            #expect(error.code.name == name, "\(text)")
        }
        for kind in [
            RedisFailure.Kind.connection, .timeout, .tls, .authentication, .protocolError,
            .cancelled,
        ] {
            #expect(map.error(RedisFailure(kind, "m"), doing: "write").disposition == .transient)
        }
    }
}
