import Testing
import WeirCore
import WeirTesting

@testable import WeirRedisSink

/// What the configuration refuses, warns of and claims, without any server.
struct RedisSinkConfigTests {
    private func config(
        write: String = "json", key: String = "item:{id}", _ more: [String: ConfigValue] = [:],
        url: String = "redis://127.0.0.1:6379/0", source: String = "postgres",
        tables: [TableName]? = [TableName(schema: "public", name: "items")]
    ) throws -> RedisSinkConfig {
        var values: [String: ConfigValue] = ["write": .string(write), "key": .string(key)]
        values.merge(more) { $1 }
        return try RedisSinkConfig(
            ConfigScope(
                pipeline: "shop", name: "cache", values: ConfigValues(values),
                connection: ConfigValues(["url": .secret(Secret(url, origin: "test"))]),
                connectionName: "redis", sourceType: source,
                sendsDocuments: source == "mongodb", sourceTables: tables))
    }

    private func expectIssue(_ field: String, _ words: String, _ body: () throws -> Void) {
        let issue = #expect(throws: ConfigIssue.self) { try body() }
        #expect(issue?.field == field)
        #expect(issue?.message.contains(words) == true, "\(issue?.message ?? "")")
    }

    @Test func combinationsThatMeanNothingAreRefused() {
        let ttl: [String: ConfigValue] = ["ttl": .duration(.seconds(60))]
        expectIssue("write", "needs \"value\"") { _ = try config(write: "string") }
        expectIssue("value", "belongs to") { _ = try config(["value": .string("note")]) }
        expectIssue("columns", "belongs to") {
            _ = try config(
                write: "string",
                [
                    "value": .string("note"),
                    "columns": .columns([ColumnChoice(output: "a", source: "a")]),
                ])
        }
        expectIssue("publish", "belongs to") { _ = try config(["publish": .string("c")]) }
        expectIssue("ttl", "invalidate") { _ = try config(write: "invalidate", ttl) }
        expectIssue("ttl_jitter", "needs a \"ttl\"") {
            _ = try config(["ttl_jitter": .duration(.seconds(1))])
        }
        expectIssue("ttl_jitter", "shorter than") {
            _ = try config(ttl.merging(["ttl_jitter": .duration(.seconds(60))]) { $1 })
        }
        expectIssue("truncate", "begins with text") {
            _ = try config(key: "{id}", ["truncate": .string("delete")])
        }
        expectIssue("key", "names no column") { _ = try config(key: "items") }
        expectIssue("on_unknown_key", "needs a \"ttl\"") {
            _ = try config(["on_unknown_key": .string("expire")])
        }
        expectIssue("on_unknown_key", "needs a \"ttl\"") {
            _ = try config(write: "invalidate", ["on_unknown_key": .string("expire")])
        }
    }

    @Test func oneTableUnlessKeysAreOnlyRemoved() throws {
        let tables = ["items", "prices"].map { TableName(schema: "public", name: $0) }
        expectIssue("tables", "\"public.items\", \"public.prices\"") {
            _ = try config(tables: tables)
        }
        _ = try config(["tables": .list([.table(tables[1])])], tables: tables)
        _ = try config(write: "invalidate", tables: tables)
    }

    /// A source that follows a whole database or deployment does not say which tables come.
    @Test func tablesThatNobodyListsMustBeNamed() throws {
        for write in ["json", "hash", "string"] {
            let more: [String: ConfigValue] =
                switch write {
                case "hash": ["columns": .columns([ColumnChoice(output: "a", source: "a")])]
                case "string": ["value": .string("a")]
                default: [:]
                }
            expectIssue("tables", "name the one in \"tables\"") {
                _ = try config(write: write, more, source: "mongodb", tables: nil)
            }
            let named = try config(
                write: write, more.merging(["tables": .list([.table(DocumentBatch.name)])]) { $1 },
                source: "mongodb", tables: nil)
            #expect(named.tables == [DocumentBatch.name] && named.onDataLoss == .reread)
        }
        expectIssue("write", "needs \"columns\"") {
            _ = try config(write: "hash", source: "mongodb", tables: [DocumentBatch.name])
        }
    }

    @Test func aReReadMustKnowWhatToRead() throws {
        let reread: [String: ConfigValue] = ["on_data_loss": .string("reread")]
        #expect(try config().onDataLoss == .reread)
        let open = try config(write: "invalidate", source: "mongodb", tables: nil)
        #expect(open.onDataLoss == .stop && open.tables.isEmpty)
        expectIssue("on_data_loss", "must know what to read") {
            _ = try config(write: "invalidate", reread, source: "mongodb", tables: nil)
        }
        for policy in ["continue", "stop"] {
            let given = try config(
                write: "invalidate", ["on_data_loss": .string(policy)], source: "mongodb",
                tables: nil)
            #expect(given.onDataLoss.rawValue == policy)
        }
        let named = try config(
            write: "invalidate",
            reread.merging(["tables": .list([.table(DocumentBatch.name)])]) { $1 },
            source: "mongodb", tables: nil)
        #expect(named.onDataLoss == .reread)
        #expect(RedisSinkConfig.fields.count <= 20)
    }

    @Test func twoWritersOfOneTemplateClaimTheSame() throws {
        let first = try config(key: "item:{id}")
        let second = try config(key: "item:{sku}")
        #expect(first.claims == second.claims && first.claims.count == 1)
        let other = try config(key: "item:{id}", url: "redis://127.0.0.1:6379/1")
        #expect(other.claims != first.claims)
        #expect(try config(key: "other:{id}").claims != first.claims)
        // Ways to this machine are one place.
        let ways = ["localhost", "127.0.0.1:6379", "[::1]", "127.0.0.2", "LOCALHOST:6379"].map {
            "redis://\($0)/1"
        }
        for url in ways { #expect(try config(url: url).claims == config(url: ways[0]).claims) }
        #expect(
            try config(url: "redis://Cache.example/1").claims
                == config(url: "redis://u:p@cache.example:6379/1").claims)
        // Any number may remove keys, none that another writes.
        let removing = try config(write: "invalidate", key: "item:{id}")
        #expect(removing.claims.isEmpty && removing.uses == first.claims)
        #expect(first.uses.isEmpty)
    }

    @Test func whatIsRiskyIsWarnedOf() throws {
        #expect(try config().warnings.isEmpty)
        #expect(try config(url: "rediss://cache.internal/0").warnings.isEmpty)
        #expect(
            try config(url: "redis://cache.internal/0").warnings.first?.contains("rediss://")
                == true)
        #expect(try config(key: "{a}-{b}").warnings.first?.contains("two rows one key") == true)
    }

    @Test func aTTLIsAtMostWhatIsAsked() throws {
        var random = XorShift(seed: 7)
        let config = try config(["ttl": .duration(.seconds(3600))])
        for _ in 0..<1000 {
            let (ttl, keep) = config.lifetime.draw(&random)
            #expect((3_240_000...3_600_000).contains(ttl) && keep > ttl)
        }
        let forever = try self.config()
        let (ttl, keep) = forever.lifetime.draw(&random)
        #expect(ttl == 0 && keep == 0)
    }
}
