import Testing
import WeirCore
import WeirTesting

@testable import WeirRedisSink

/// What would fail at the first event is found before it.
struct RedisCheckTests {
    private let harness: CacheHarness
    private let server: RedisServer

    init() async throws {
        harness = try await CacheHarness.start()
        server = harness.server
    }

    /// `public.items` as the source describes it at a start.
    private func items(sendsWholeOldRows: Bool? = false) -> TableSchema {
        TableSchema(
            version: 0, database: "shop", schema: "public", name: "items",
            columns: ItemBatch.table.columns, key: [0], sendsWholeOldRows: sendsWholeOldRows)
    }

    private func findings(
        _ sink: RedisSink, _ table: TableSchema? = nil
    ) async throws -> [Finding] {
        _ = try await sink.open(at: nil)
        let findings = try await sink.check([table ?? items()])
        await sink.close()
        return findings
    }

    @Test(arguments: ["json", "string", "hash", "invalidate"])
    func whatFitsHasNoFindings(write: String) async throws {
        let more: [String: ConfigValue] = write == "string" ? ["value": .string("stock")] : [:]
        #expect(try await findings(harness.sink(write: write, more)).isEmpty)
        #expect(try harness.keys().isEmpty, "nothing is left behind")
        // The key on which rights were tried does not wait for the server to expire it.
        #expect(try server.command("DBSIZE") == .integer(2), "the marker and its copy")
    }

    @Test func aColumnThatDoesNotExistIsNamed() async throws {
        let wrong: [(String, [String: ConfigValue])] = [
            ("item:{idd}", [:]),
            ("item:{id}", ["columns": .columns([ColumnChoice(output: "idd", source: "idd")])]),
            ("item:{id}", ["write": .string("string"), "value": .string("idd")]),
        ]
        for (key, more) in wrong {
            let found = try await findings(harness.sink(key: key, more))
            #expect(found.map(\.severity) == [.blocking])
            #expect(found.first?.code.name == "values.unknown_column")
            #expect(found.first?.subject == "public.items")
            #expect(found.first?.message.contains("\"idd\"") == true)
            #expect(found.first?.hint == "Did you mean \"id\"?")
        }
    }

    @Test func aKeyOutsideOfTheIdentityIsWarnedOf() async throws {
        let found = try await findings(harness.sink(key: "item:{note}"))
        #expect(found.map(\.code.name) == ["redis.key_unknown"])
        #expect(found.first?.severity == .warning)
        #expect(
            found.first?.hint?.contains("ALTER TABLE public.items REPLICA IDENTITY FULL") == true)
        // What the hint says; and where nothing is known, nothing is said.
        for whole in [true, nil] as [Bool?] {
            let table = items(sendsWholeOldRows: whole)
            #expect(try await findings(harness.sink(key: "item:{note}"), table).isEmpty)
        }
    }

    /// Each right that is missing is named, and the hint grants it.
    @Test(arguments: [
        ("json", "mset"), ("json", "unlink"), ("json", "psetex"), ("json", "mget"),
        ("json", "scan"), ("hash", "hset"), ("hash", "hdel"), ("hash", "type"),
        ("hash", "persist"), ("invalidate", "unlink"),
    ])
    func aMissingRightIsNamed(write: String, command: String) async throws {
        _ = try server.command(
            "ACL", "SETUSER", "weir", "on", ">secret", "~item:*", "~{item:*}:v", "~weir:*",
            "+@all", "-\(command)")
        try await expectRefusal(write: write, says: command)
        #expect(try harness.keys().isEmpty)
    }

    @Test(arguments: [["~weir:*", "~item:*"], ["~weir:*", "~{item:*}:v"], ["~weir:{shop/cache}"]])
    func aKeyThatMayNotBeAccessedIsNoticed(patterns: [String]) async throws {
        _ = try server.command(
            (["ACL", "SETUSER", "weir", "on", ">secret", "+@all"] + patterns)
                .map { Array($0.utf8) })
        try await expectRefusal(write: "json", says: "")
    }

    /// What a configuration never runs is no reason to wait.
    @Test(
        arguments: [
            ("json", ["scan"], ["on_data_loss": .string("continue")]),
            (
                "json", ["scan", "unlink", "psetex"],
                ["on_data_loss": .string("stop"), "operations": inserts]
            ),
            ("json", ["scan", "unlink"], ["operations": inserts, "ttl": second]),
            (
                "hash", ["scan", "type", "hdel", "psetex", "pexpire"],
                ["operations": inserts]
            ),
            (
                "invalidate", ["scan", "psetex", "mget"],
                ["on_data_loss": .string("continue"), "hold": .duration(.zero)]
            ),
        ] as [(String, [String], [String: ConfigValue])])
    func aRightThatIsNotNeededIsNotAskedFor(
        write: String, commands: [String], more: [String: ConfigValue]
    ) async throws {
        let rights =
            [
                "ACL", "SETUSER", "weir", "on", ">secret", "~item:*", "~{item:*}:v", "~weir:*",
                "+@all",
            ]
            + commands.map { "-\($0)" }
        _ = try server.command(rights.map { Array($0.utf8) })
        let config = try CacheHarness.config(
            server, write: write, more,
            connection: [
                "user": .string("weir"), "password": .secret(Secret("secret", origin: "test")),
            ])
        let sink = try harness.sink(config)
        _ = try await sink.open(at: nil)
        #expect(try await sink.check([items()]).isEmpty)
        _ = try server.command("SET", "item:2", "stale")
        let batch = ItemBatch.of(
            [.insert(.init("1", "n")), .update(.init("2", "n")), .insert(.init("3", "n"))],
            commit: 16)
        _ = try await sink.write([batch])
        #expect(try harness.keys().contains("item:1") == (write != "invalidate"))
        await sink.close()
    }

    private static let second = ConfigValue.duration(.seconds(1))
    private static let inserts = ConfigValue.list([.string("insert")])

    private func expectRefusal(write: String, says words: String) async throws {
        let config = try CacheHarness.config(
            server, write: write,
            connection: [
                "user": .string("weir"), "password": .secret(Secret("secret", origin: "test")),
            ])
        let sink = try harness.sink(config)
        for _ in 0..<5 {
            do {
                _ = try await sink.open(at: nil)
                #expect(try await sink.check([items()]).isEmpty)
                await sink.close()
                return
            } catch {
                #expect(error.code.name == "redis.permission")
                #expect(error.disposition == .transient)
                #expect("\(error)".contains(words))
                let hint = try #require(error.hint)
                try #require(hint.hasPrefix("ACL SETUSER weir "), "\(hint)")
                let reply = try server.command(
                    hint.split(separator: " ").map { Array($0.utf8) })
                #expect(reply == .simple("OK"), "\(hint)")
            }
        }
        Issue.record("what the hints say does not help")
    }

    @Test func aServerThatWillRefuseWritesIsWarnedOf() async throws {
        _ = try server.command("CONFIG", "SET", "maxmemory", "1000000000")
        let found = try await findings(harness.sink())
        #expect(found.map(\.code.name) == ["redis.memory_limit"])
        #expect(found.first?.severity == .warning)
        _ = try server.command("CONFIG", "SET", "maxmemory-policy", "volatile-lru")
        #expect(try await findings(harness.sink()).count == 1)
        #expect(
            try await findings(harness.sink(["ttl": .duration(.seconds(60))])).isEmpty)
        let hint = try #require(found.first?.hint)
        let command = try #require(hint.firstMatch(of: /CONFIG SET [^)]*/))
        #expect(command.output == "CONFIG SET maxmemory-policy allkeys-lru")
        _ = try server.command(command.output.split(separator: " ").map { Array($0.utf8) })
        #expect(try await findings(harness.sink()).isEmpty)
    }
}
