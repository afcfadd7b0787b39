import Testing
import WeirConfig
import WeirCore

/// What a good file becomes, and what connectors have to say about one.
@Suite struct ConfigurationTests {
    private static let sample = """
        {
          "$schema": "weir.schema.json", // for the editor
          "daemon": { "shutdown_timeout": "45s", "log_level": "debug" },
          "connections": {
            "shop": { "type": "shopdb", "url": { "env": "SHOP_URL" } },
            "events": { "type": "bus", "url": "bus://localhost" }
          },
          "pipelines": {
            "zebra": {
              "source": { "connection": "shop", "tables": ["orders", "s.\\"a.b\\""] },
              "sinks": {
                "out": { "type": "lines", "path": "a", "queue": "64KiB", "spill": "0",
                         "columns": { "title": "name", "id": "id" } },
                "bus": { "connection": "events", "topic": "t", "ttl": "5m", "tables": ["orders"] }
              }
            },
            "ant": {
              "source": { "connection": "shop", "tables": ["items"], "fetch": 7 },
              "sinks": { "out": { "type": "lines", "path": "b", "columns": ["id", "name"] } }
            }
          }
        }
        """

    @Test func aGoodFileBecomesPipelinesInItsOrder() throws {
        let outcome = check(Self.sample)
        #expect(outcome.rendered() == "")
        let configuration = try #require(outcome.configuration)
        #expect(
            configuration.daemon
                == DaemonSettings(
                    shutdownTimeout: .seconds(45), log: .auto, logLevel: .debug))
        #expect(configuration.pipelines.map(\.name) == ["zebra", "ant"])
        let zebra = configuration.pipelines[0]
        let tables = [
            TableName(schema: "public", name: "orders"), TableName(schema: "s", name: "a.b"),
        ]
        #expect(zebra.source.type == "shopdb")
        #expect(zebra.source.connectionName == "shop")
        #expect(zebra.source.tables == tables)
        let source = try #require(zebra.source.config as? ShopConfig)
        #expect(source.url?.reveal() == "shop://localhost/shop")
        #expect(source.url?.origin == "env SHOP_URL")
        #expect(source.slot == "weir_zebra")
        #expect(source.snapshot == "none")
        #expect(zebra.sinks.map(\.name) == ["out", "bus"])
        #expect(zebra.sinks.map(\.type) == ["lines", "bus"])
        #expect(zebra.sinks.map(\.connectionName) == [nil, "events"])
        #expect(zebra.sinks.map(\.queueBytes) == [64 << 10, 8 << 20])
        #expect(zebra.sinks.map(\.spillBytes) == [0, 1 << 30])
        let bus = try #require(zebra.sinks[1].config as? BusConfig)
        #expect(bus.timeToLive == .seconds(300))
        #expect(bus.routing.tables == [tables[0]])
        let lines = try #require(zebra.sinks[0].config as? LinesConfig)
        #expect(
            lines.columns == [
                ColumnChoice(output: "title", source: "name"),
                ColumnChoice(output: "id", source: "id"),
            ])
        let ant = try #require(configuration.pipelines[1].sinks[0].config as? LinesConfig)
        #expect(ant.columns?.map(\.output) == ["id", "name"])
    }

    @Test func theDaemonHasDefaults() throws {
        let daemon = try #require(check(file()).configuration).daemon
        #expect(
            daemon
                == DaemonSettings(shutdownTimeout: .seconds(30), log: .auto, logLevel: .info))
    }

    // MARK: Connectors' own checks

    @Test func anIssuePointsAtTheElementItIsAbout() {
        let text = file(source: #""connection": "shop", "tables": ["a", "b", "public.a"]"#)
        #expect(
            diagnostics(text) == """
                weir.json:5:62: error config.invalid_value: table "public.a" is listed twice
                    5 |       "source": { "connection": "shop", "tables": ["a", "b", "public.a"] },
                      |                                                              ^^^^^^^^^^

                """)
    }

    @Test func anIssueAboutADerivedValuePointsAtTheObject() {
        let text = file().replacing("\"p\":", with: "\"a-long-pipeline-name\":")
        #expect(
            diagnostics(text) == """
                weir.json:5:7: error config.invalid_value: slot name "weir_a-long-pipeline-name" is too long
                    5 |       "source": { "connection": "shop", "tables": ["orders"] },
                      |       ^^^^^^^^

                """)
    }

    @Test func aConnectionsFaultIsSaidOnceForAllItsUsers() {
        let text = """
            {
              "connections": { "shop": { "type": "shopdb", "url": { "env": "SHOP_URL" } } },
              "pipelines": {
                "a": { "source": { "connection": "shop", "tables": ["x"] }, "sinks": { "s": { "type": "lines", "path": "a" } } },
                "b": { "source": { "connection": "shop", "tables": ["x"] }, "sinks": { "s": { "type": "lines", "path": "b" } } }
              }
            }
            """
        #expect(
            diagnostics(text, .fake(["SHOP_URL": "nonsense"])) == """
                weir.json:2:55: error config.invalid_value: not a URL
                    2 |   "connections": { "shop": { "type": "shopdb", "url": { "env": "SHOP_URL" } } },
                      |                                                       ^^^^^^^^^^^^^^^^^^^^^

                """)
    }

    @Test func aSinksTablesAreThoseOfItsSource() {
        let text = file(sink: #""type": "lines", "path": "a", "tables": ["public.ordes"]"#)
        #expect(
            diagnostics(text) == """
                weir.json:6:66: error config.invalid_value: table "public.ordes" is not among the tables of the source
                    6 |       "sinks": { "s": { "type": "lines", "path": "a", "tables": ["public.ordes"] } }
                      |                                                                  ^^^^^^^^^^^^^^
                      |                                                                did you mean "public.orders"?

                """)
    }

    @Test func aBrokenSourceIsNotHeldAgainstItsSinks() {
        let text = file(
            source: #""connection": "shop", "tables": ["orders", 5]"#,
            sink: #""type": "lines", "path": "a", "tables": ["items"]"#)
        #expect(check(text).errors.map(\.code) == [ConfigErrorCode.wrongType])
    }

    @Test func aConnectorFindsItsFaultBesideAnother() {
        let text = file(
            source: #""connection": "shop", "tables": ["a", "a"], "snapshot": "never""#)
        #expect(check(text).errors.count == 2)
        let sink = file(sink: #""type": "lines", "tables": ["items"], "format": "xml""#)
        let messages = check(sink).errors.map(\.message)
        #expect(
            messages == [
                "missing field \"path\"",
                "table \"public.items\" is not among the tables of the source",
                "\"format\" cannot be \"xml\"",
            ])
    }

    @Test func columnsAreNamedOnce() {
        let list = file(sink: #""type": "lines", "path": "a", "columns": ["id", "id"]"#)
        #expect(diagnostics(list).contains(#"column "id" is listed twice"#))
        let object = file(
            sink: #""type": "lines", "path": "a", "columns": { "a": "x", "a": "y", "": "z" }"#)
        #expect(
            check(object).errors.map(\.code) == [
                ConfigErrorCode.duplicateKey, ConfigErrorCode.invalidValue,
            ])
        let twice = file(sink: #""type": "lines", "path": "a", "columns": { "a": "x", "b": "x" }"#)
        #expect(check(twice).configuration != nil, "one column may be sent under two names")
    }

    // MARK: Across pipelines

    @Test func twoUsersOfOneThingAreAConflict() {
        let text = """
            {
              "connections": { "shop": { "type": "shopdb", "url": { "env": "SHOP_URL" } } },
              "pipelines": {
                "a": {
                  "source": { "connection": "shop", "tables": ["x"], "slot": "weir_b" },
                  "sinks": { "s": { "type": "lines", "path": "out" } }
                },
                "b": {
                  "source": { "connection": "shop", "tables": ["x"] },
                  "sinks": { "t": { "type": "lines", "path": "out" } }
                }
              }
            }
            """
        #expect(
            report(text) == """
                weir.json:9:7: error config.conflict: slot weir_b is already used by the source of pipeline "a" on line 5
                    9 |       "source": { "connection": "shop", "tables": ["x"] },
                      |       ^^^^^^^^
                weir.json:10:18: error config.conflict: file out is already used by sink "s" of pipeline "a" on line 6
                   10 |       "sinks": { "t": { "type": "lines", "path": "out" } }
                      |                  ^^^
                2 errors, nothing was started.

                """)
    }

    @Test func aConnectionNobodyUsesIsAWarning() {
        let text = file().replacing(
            "{ \"shop\":", with: #"{ "idle": { "type": "bus", "url": "bus://x" }, "shop":"#)
        let outcome = check(text)
        #expect(outcome.configuration != nil)
        #expect(outcome.warnings.map(\.code) == [ConfigErrorCode.unusedConnection])
        #expect(outcome.rendered().hasPrefix("weir.json:2:20: warning config.unused_connection: "))
        let misspelt = text.replacing(#""connection": "shop""#, with: #""connection": "shpo""#)
        #expect(check(misspelt).warnings.isEmpty, "it is the one that was meant")
    }

    @Test func aConnectorsAdviceIsAWarningOfItsPipeline() throws {
        let outcome = check(file(), .fake(["SHOP_URL": "shop://far.example/shop"]))
        let pipeline = try #require(outcome.configuration?.pipelines.first)
        #expect(pipeline.warnings == ["the server is far away"])
        #expect(
            outcome.rendered() == """
                weir.json:5:33: warning config.advice: the server is far away
                    5 |       "source": { "connection": "shop", "tables": ["orders"] },
                      |                                 ^^^^^^

                """)
    }
}
