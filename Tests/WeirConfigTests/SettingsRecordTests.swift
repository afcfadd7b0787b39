import Testing
import WeirConfig
import WeirCore
import WeirTesting

/// What the state remembers of a configuration, and what becomes of it without the file.
@Suite struct SettingsRecordTests {
    private static let sample = """
        {
          "connections": {
            "shop": { "type": "shopdb", "url": { "env": "SHOP_URL" } },
            "events": { "type": "bus", "url": "bus://localhost", "password": "hunter2" }
          },
          "pipelines": {
            "zebra": {
              "source": { "connection": "shop", "tables": ["orders", "s.\\"a.b\\""], "fetch": 7,
                          "snapshot": "none" },
              "sinks": {
                "out": { "type": "lines", "path": "a", "queue": "64KiB",
                         "columns": { "title": "name", "id": "id" } },
                "bus": { "connection": "events", "topic": "t", "ttl": "300s", "tables": ["orders"] }
              }
            }
          }
        }
        """

    private func settings() throws -> [String: ConnectorSettings] {
        let pipeline = try #require(check(Self.sample).configuration?.pipelines.first)
        var settings = ["source": pipeline.source.settings]
        for sink in pipeline.sinks { settings[sink.name] = sink.settings }
        return settings
    }

    @Test func aRecordHasWhatWasSaidWithoutDefaultsAndSecrets() throws {
        let settings = try settings()
        #expect(
            settings["source"]
                == ConnectorSettings(
                    type: "shopdb", connection: "shop",
                    entries: [
                        .init("fetch", "7"),
                        .init("tables", #"["public.orders", "s.\"a.b\""]"#),
                    ], tables: ["public.orders", #"s."a.b""#],
                    claims: settings["source"]?.claims ?? []))
        #expect(
            settings["out"]?.entries == [
                .init("columns", #"{ "title": "name", "id": "id" }"#), .init("path", #""a""#),
            ])
        #expect(
            settings["bus"]?.entries == [
                .init("tables", #"["public.orders"]"#), .init("topic", #""t""#),
                .init("ttl", #""5m""#),
            ])
        #expect(!"\(settings)".contains("hunter2") && !"\(settings)".contains("localhost"))
    }

    @Test func aPipelineComesBackFromItsRecordWithTheConnectionsOfTheFile() throws {
        let folder = try TemporaryDirectory()
        func restored(_ text: String) throws -> PipelineConfiguration {
            try folder.write(text, to: "weir.json")
            return try loader.restore(
                "zebra", try settings(), connectionsOf: folder.file("weir.json"),
                environment: .shop)
        }
        let without = #"""
            {
              "connections": {
                "shop": { "type": "shopdb", "url": { "env": "SHOP_URL" } },
                "events": { "type": "bus", "url": "bus://elsewhere" },
                "unused": { "type": "bus", "url": { "env": "NOT_SET" } }
              },
              "pipelines": {}
            }
            """#
        let pipeline = try restored(without)
        var again = ["source": pipeline.source.settings]
        for sink in pipeline.sinks { again[sink.name] = sink.settings }
        #expect(try again == settings())
        #expect(pipeline.name == "zebra")
        #expect((pipeline.source.config as? ShopConfig)?.slot == "weir_zebra")
        // Each says what is wrong, and not that the connection is gone when it is there.
        for (broken, reason) in [
            (
                without.replacing(#""shop":"#, with: #""store":"#),
                "connection \"shop\" is not in the configuration any more"
            ),
            (
                without.replacing(
                    #""events": { "type": "bus""#, with: #""events": { "type": "shopdb""#),
                "connection \"events\" is of type \"shopdb\", which cannot be a sink"
            ),
            (
                without.replacing("SHOP_URL", with: "UNSET_URL"),
                "environment variable \"UNSET_URL\" is not set"
            ),
            ("{", "could not read "), ("[]", "holds no object"), ("", "could not read "),
        ] {
            let issue = #expect(throws: ConfigIssue.self) { try restored(broken) }
            #expect(issue?.message.contains(reason) == true, "\(issue?.message ?? "")")
        }
        let missing = #expect(throws: ConfigIssue.self) {
            try loader.restore("zebra", try settings(), connectionsOf: "/nonexistent")
        }
        #expect(missing?.message.contains("/nonexistent") == true)
        let unknown = #expect(throws: ConfigIssue.self) {
            try loader.restore("zebra", [:], connectionsOf: "/nonexistent")
        }
        #expect(unknown?.message.contains("does not remember") == true)
    }
}
