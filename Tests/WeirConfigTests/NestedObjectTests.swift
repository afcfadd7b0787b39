import Testing
import WeirConfig
import WeirCore

/// An object inside a connector's own is checked like the one around it.
@Suite struct NestedObjectTests {
    private func bus(_ text: String) throws -> BusConfig {
        let outcome = check(text)
        #expect(outcome.rendered() == "")
        return try #require(
            outcome.configuration?.pipelines.first?.sinks.first?.config as? BusConfig)
    }

    @Test func itsKeysArriveWithTheirDefaults() throws {
        let given = try bus(
            searched(#""A": ["title"], "B": ["body"], "rank": { "scale": "log" }"#))
        let text = try #require(given.text)
        #expect(text.string("config") == "simple")
        #expect(text.strings("A") == ["title"])
        #expect(text.strings("B") == ["body"])
        #expect(text.object("rank") == ConfigValues(["scale": .string("log")]))
        #expect(text.secret("pass") == nil)
        let secret = try bus(searched(#""A": ["title"], "pass": { "env": "SHOP_URL" }"#))
        #expect(secret.text?.secret("pass")?.reveal() == "shop://localhost/shop")
    }

    @Test func leftOutItIsItsDefaultOrNothing() throws {
        let given = try bus(file(connection: bothConnections, sink: plainSink))
        #expect(given.text == nil)
        #expect(
            given.limits == ConfigValues(["rows": .integer(10), "pause": .duration(.seconds(2))]))
    }

    // MARK: Faults

    @Test func unknownAndMissingKeysLeadToItsFields() {
        #expect(
            report(searched(#""confg": "english", "a": ["title"]"#)) == """
                weir.json:6:70: error config.unknown_field: unknown field "confg"
                    6 | …": { "connection": "bus", "topic": "t", "text": { "confg": "english", "a": ["title"] } } }
                      |                                                    ^^^^^^^ did you mean "config"?
                weir.json:6:90: error config.unknown_field: unknown field "a"
                    6 | …": { "connection": "bus", "topic": "t", "text": { "confg": "english", "a": ["title"] } } }
                      |                                                                        ^^^ did you mean "A"?
                2 errors, nothing was started. Fields here: weir schema --path pipelines.*.sinks.*.text

                """)
        #expect(
            report(searched(#""B": ["t"]"#)) == """
                weir.json:6:60: error config.missing_field: missing field "A"
                    6 |       "sinks": { "s": { "connection": "bus", "topic": "t", "text": { "B": ["t"] } } }
                      |                                                            ^^^^^^ add "A": ["title"]
                1 error, nothing was started. Fields here: weir schema --path pipelines.*.sinks.*.text

                """)
        // Keys of the object around it mean nothing inside.
        let outer = check(searched(#""A": ["t"], "topic": "t""#))
        #expect(outer.errors.map(\.message) == ["unknown field \"topic\""])
    }

    @Test func duplicateKeysAreRefused() {
        #expect(
            diagnostics(searched(#""A": ["t"], "A": ["u"]"#)) == """
                weir.json:6:82: error config.duplicate_key: duplicate key "A", first given on line 6
                    6 | …sinks": { "s": { "connection": "bus", "topic": "t", "text": { "A": ["t"], "A": ["u"] } } }
                      |                                                                            ^^^

                """)
    }

    @Test func wrongValuesAreSaidAtTheirPlaceHoweverDeep() {
        #expect(
            diagnostics(searched(#""A": "title", "rank": { "scale": "lin" }"#)) == """
                weir.json:6:75: error config.wrong_type: "A" must be a list, not text
                    6 | …connection": "bus", "topic": "t", "text": { "A": "title", "rank": { "scale": "lin" } } } }
                      |                                                   ^^^^^^^ did you mean ["title"]?
                weir.json:6:103: error config.invalid_value: "scale" cannot be "lin"
                    6 | …connection": "bus", "topic": "t", "text": { "A": "title", "rank": { "scale": "lin" } } } }
                      |                                                                               ^^^^^
                      |                                                                          did you mean "log"?

                """)
        #expect(
            diagnostics(searched(#""A": ["t"], "rank": 5"#)) == """
                weir.json:6:90: error config.wrong_type: "rank" must be an object, not a number
                    6 | …"sinks": { "s": { "connection": "bus", "topic": "t", "text": { "A": ["t"], "rank": 5 } } }
                      |                                                                                     ^

                """)
        let limits = check(
            file(
                connection: bothConnections,
                sink: plainSink + #", "limits": { "rows": 0, "pause": 5 }"#))
        #expect(
            limits.errors.map(\.message) == [
                "\"rows\" must be from 1 to 100",
                "\"pause\" must be a duration such as \"30s\", not a number",
            ])
    }

    // MARK: Connectors' own checks

    @Test func anIssueNamesAKeyInsideWithADot() {
        #expect(
            diagnostics(searched(#""A": ["x", "y"], "B": ["b", "y"]"#)) == """
                weir.json:6:98: error config.invalid_value: "y" has a weight already
                    6 | …"s": { "connection": "bus", "topic": "t", "text": { "A": ["x", "y"], "B": ["b", "y"] } } }
                      |                                                                                  ^^^

                """)
        #expect(
            diagnostics(searched(#""A": ["x"], "rank": { "scale": "none" }"#)) == """
                weir.json:6:101: error config.invalid_value: hits need an order
                    6 | …"connection": "bus", "topic": "t", "text": { "A": ["x"], "rank": { "scale": "none" } } } }
                      |                                                                              ^^^^^^
                      |                                                                          did you mean "log"?

                """)
    }

    @Test func anIssueAboutADefaultInsidePointsAtTheObject() {
        #expect(
            diagnostics(searched("\n\"A\": [\"body\"]\n")) == """
                weir.json:6:60: error config.invalid_value: a body needs a language
                    6 |       "sinks": { "s": { "connection": "bus", "topic": "t", "text": {\u{20}
                      |                                                            ^^^^^^

                """)
    }

    @Test func anIssueAboutAnObjectWithAFaultIsNotSaid() {
        // The connector sees no "text", whose "config" would be at fault.
        let text = searched(#""A": ["body"], "B": 1"#)
        #expect(check(text).errors.map(\.code) == [ConfigErrorCode.wrongType])
    }

    // MARK: Secrets

    @Test func secretsInsideAreNeverShown() {
        let texts = [
            searched(#""A": ["x"], "pass": "canary""#),
            searched(#""A": ["x"], "pas": "canary""#),
            searched(#""A": ["x"], "pass": { "env": "canary 1" }"#),
            searched(#""A": ["x"], "pass": { "value": "canary" }"#),
            file(connection: bothConnections, sink: plainSink + #", "text": "canary""#),
            file(connection: bothConnections, sink: plainSink + #", "text": ["canary"]"#),
            file(
                connection: bothConnections,
                sink: plainSink + #", "txt": { "A": ["x"], "pass": "canary" }"#),
        ]
        for text in texts {
            let outcome = check(text)
            #expect(!outcome.diagnostics.isEmpty)
            #expect(!outcome.rendered().contains("canary"), "\(text)")
        }
    }
}

private let bothConnections = """
    "type": "shopdb", "url": { "env": "SHOP_URL" } }, "bus": { "type": "bus", "url": "bus://x"
    """
private let plainSink = #""connection": "bus", "topic": "t""#

/// A file whose sink is a bus with this in its `text`.
func searched(_ text: String) -> String {
    file(connection: bothConnections, sink: plainSink + #", "text": { \#(text) }"#)
}
