import Testing
import WeirCore

@testable import WeirMongoDBSource

/// The keys of a source, and what they mean.
struct MongoSourceConfigTests {
    private func config(_ values: [String: ConfigValue]) throws -> MongoSourceConfig {
        try MongoSourceConfig(
            ConfigScope(
                pipeline: "p", name: "source", values: ConfigValues(values),
                connection: ConfigValues([
                    "url": .secret(Secret("mongodb://localhost", origin: "test"))
                ]),
                connectionName: "cms"))
    }

    private func scope(collections: [String]) throws -> Scope {
        try config(["collections": .list(collections.map { .string($0) })]).scope
    }

    @Test func whatIsFollowed() throws {
        #expect(try config([:]).scope == .deployment)
        #expect(try config([:]).tables == nil)
        #expect(try config(["database": .string("shop")]).scope == .database("shop"))
        #expect(try config(["database": .string("shop")]).tables == nil)
        let names = [
            TableName(schema: "shop", name: "orders"),
            TableName(schema: "shop", name: "orders.lines"),
            TableName(schema: "crm", name: "a\"b c"),
        ]
        let listed = ["shop.orders", "shop.orders.lines", #"crm."a""b c""#]
        #expect(try scope(collections: listed) == .collections(names))
        let several = try config(["collections": .list(listed.map { .string($0) })])
        #expect(several.tables == names)
        #expect(several.scope.database == nil)
        #expect(try scope(collections: ["shop.a", "shop.b"]).database == "shop")
    }

    @Test func aServerAbroadWithoutTLSIsRefusedUnlessTheConfigurationTakesIt() throws {
        func config(_ url: String, _ more: [String: ConfigValue] = [:]) throws -> MongoSourceConfig
        {
            var connection = more
            connection["url"] = .secret(Secret(url, origin: "test"))
            return try MongoSourceConfig(
                ConfigScope(
                    pipeline: "p", name: "source", values: ConfigValues([:]),
                    connection: ConfigValues(connection), connectionName: "cms"))
        }
        let url = "mongodb://u:canary@db.internal/shop"
        for more: [String: ConfigValue] in [[:], ["allow_plaintext": .boolean(false)]] {
            let issue = try #require(throws: ConfigIssue.self) { try config(url, more) }
            #expect(issue.field == "url" && issue.message.contains("\"allow_plaintext\": true"))
            #expect(!issue.message.contains("canary"))
        }
        let taken = try config(url, ["allow_plaintext": .boolean(true)])
        #expect(taken.warnings.first?.contains("does not check all that it reads") == true)
        #expect(try config(url + "?tls=true").warnings.isEmpty)
        #expect(try config("mongodb://localhost/shop").warnings.isEmpty)
    }

    @Test func whatAScopeCovers() {
        let two = Scope.collections([
            TableName(schema: "shop", name: "a"), TableName(schema: "crm", name: "b"),
        ])
        #expect(two.covers(database: "shop", collection: "a"))
        #expect(!two.covers(database: "shop", collection: "b"))
        #expect(!two.covers(database: "crm", collection: "a"))
        #expect(Scope.database("shop").covers(database: "shop", collection: "x"))
        #expect(!Scope.database("shop").covers(database: "crm", collection: "x"))
        #expect(Scope.deployment.covers(database: "crm", collection: "x"))
    }

    @Test(arguments: [
        "orders", "shop.", ".orders", "", ".", "admin.users", "local.oplog.rs", "config.x", "a b.c",
        "a$b.c", "a/b.c", "shop.a\0b",
        #"shop."orders"#, #"a.b."c""#,
        String(repeating: "x", count: 64) + ".c",
    ])
    func whatIsNoCollectionIsRefused(name: String) throws {
        let issue = #expect(throws: ConfigIssue.self) {
            try scope(collections: ["shop.first", name])
        }
        #expect(issue?.field == "collections")
        #expect(issue?.index == 1)
    }

    @Test func combinationsThatAreRefused() {
        for values in [
            ["database": .string("shop"), "collections": .list([.string("shop.a")])],
            ["collections": .list([])], ["database": .string("local")], ["database": .string("")],
            ["database": .string("a.b")],
            ["collections": .list([.string("shop.a"), .string("shop.a")])],
        ] as [[String: ConfigValue]] {
            #expect(throws: ConfigIssue.self) { try config(values) }
        }
    }

    @Test func theRest() throws {
        #expect(try config([:]).wantsBefore)
        #expect(try config(["before": .string("when_available")]).wantsBefore)
        #expect(try !config(["before": .string("never")]).wantsBefore)
        #expect(try config([:]).onRename == .stop)
        #expect(try config(["on_rename": .string("continue")]).onRename == .continue)
        #expect(try config([:]).warnings.isEmpty)
    }
}
