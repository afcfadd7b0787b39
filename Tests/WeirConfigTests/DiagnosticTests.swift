import Testing
import WeirConfig
import WeirCore

/// What people see for each kind of fault, byte for byte.
@Suite struct DiagnosticTests {
    @Test func theExampleOfTheManualLooksAsPrinted() {
        let text = """
            {
              "$schema": "weir.schema.json",
              // The shop's own database.
              "connections": {
                "shop": {
                  "type": "whole",
                  "url": { "env": "SHOP_URL" }
                }
              },

              "pipelines": {
                // Every table there is.
                "everything": {
                  "source": { "connection": "shop", "snapshoot": "initial" },
                  "sinks": { "out": { "type": "lines", "path": "changes.jsonl" } }
                }
              }
            }
            """
        let whole = ConnectorDescriptor(
            type: "whole", summary: "A source without required fields.",
            connectionFields: Fakes.shopdb.connectionFields,
            source: SourceRole(FakeSource<WholeConfig>.self))
        let outcome = ConfigLoader(descriptors: [whole, Fakes.lines]).check(
            bytes: Array(text.utf8), fileName: "weir.json", environment: .shop)
        #expect(
            outcome.rendered() == """
                weir.json:14:41: error config.unknown_field: unknown field "snapshoot"
                   14 |       "source": { "connection": "shop", "snapshoot": "initial" },
                      |                                         ^^^^^^^^^^^ did you mean "snapshot"?
                1 error, nothing was started. Fields here: weir schema --path pipelines.*.source

                """)
    }

    @Test func severalErrorsOfOneFileComeTogetherInItsOrder() {
        let text = file(
            connection: #""type": "shopdb", "url": { "env": "NOT_SET" }"#,
            source: #""connection": "shop", "tabels": ["orders"], "snapshot": "intial""#,
            sink: #""type": "line", "path": "a""#, more: #", "daemon": { "log": true }"#)
        #expect(
            report(text) == """
                weir.json:2:64: error config.secret_unavailable: environment variable "NOT_SET" is not set
                    2 |   "connections": { "shop": { "type": "shopdb", "url": { "env": "NOT_SET" } } },
                      |                                                                ^^^^^^^^^
                weir.json:5:41: error config.unknown_field: unknown field "tabels"
                    5 |       "source": { "connection": "shop", "tabels": ["orders"], "snapshot": "intial" },
                      |                                         ^^^^^^^^ did you mean "tables"?
                weir.json:5:75: error config.invalid_value: "snapshot" cannot be "intial"
                    5 |       "source": { "connection": "shop", "tabels": ["orders"], "snapshot": "intial" },
                      |                                                                           ^^^^^^^^
                      |                                                                      did you mean "initial"?
                weir.json:6:33: error config.unknown_type: unknown type "line"
                    6 |       "sinks": { "s": { "type": "line", "path": "a" } }
                      |                                 ^^^^^^ did you mean "lines"?
                weir.json:8:25: error config.wrong_type: "log" must be one of "auto", "text", "logfmt", "json", not true
                    8 |   }, "daemon": { "log": true }
                      |                         ^^^^
                5 errors, nothing was started. Fields here: weir schema --path pipelines.*.source

                """)
    }

    @Test func missingFieldsAreShownWithAnExample() {
        #expect(
            diagnostics(file(source: #""connection": "shop""#)) == """
                weir.json:5:7: error config.missing_field: missing field "tables"
                    5 |       "source": { "connection": "shop" },
                      |       ^^^^^^^^ add "tables": ["public.orders"]

                """)
        #expect(
            report("{}") == """
                weir.json:1:1: error config.missing_field: missing field "pipelines"
                    1 | {}
                      | ^
                1 error, nothing was started. Fields here: weir schema --path .

                """)
        #expect(
            report(#"{ "pipelines": { "p": { "sinks": { "s": {} } } } }"#) == """
                weir.json:1:18: error config.missing_field: missing field "source"
                    1 | { "pipelines": { "p": { "sinks": { "s": {} } } } }
                      |                  ^^^
                weir.json:1:36: error config.missing_field: missing field "connection"
                    1 | { "pipelines": { "p": { "sinks": { "s": {} } } } }
                      |                                    ^^^ or, without a server, "type": "lines"
                2 errors, nothing was started. Fields here: weir schema --path pipelines.*

                """)
        #expect(
            diagnostics(file(source: #""tables": ["orders"]"#)) == """
                weir.json:5:7: error config.missing_field: missing field "connection"
                    5 |       "source": { "tables": ["orders"] },
                      |       ^^^^^^^^ one of "shop"

                """)
        #expect(
            diagnostics(file(connection: #""url": "x""#)) == """
                weir.json:2:20: error config.missing_field: missing field "type"
                    2 |   "connections": { "shop": { "url": *** } },
                      |                    ^^^^^^ one of "shopdb", "bus"

                """)
    }

    @Test func duplicateKeysNameBothLines() {
        let text = "{\n  \"pipelines\": {},\n  \"daemon\": {},\n  \"pipelines\": {}\n}"
        #expect(
            diagnostics(text).hasSuffix(
                """
                weir.json:4:3: error config.duplicate_key: duplicate key "pipelines", first given on line 2
                    4 |   "pipelines": {}
                      |   ^^^^^^^^^^^

                """))
    }

    @Test func wrongTypesSayWhatWasMeant() {
        func note(_ fields: String) -> String {
            let lines = diagnostics(file(sink: #""type": "lines", "path": "a", "# + fields))
                .split(separator: "\n")
            let message = String(lines[0].drop { $0 != "\"" })
            let below = lines[2...].joined().drop { $0 != "^" }.drop { "^ |".contains($0) }
            return message + " / " + String(below)
        }
        #expect(
            note(#""queue": 8388608"#)
                == #""queue" must be a size such as "8MiB", not a number / did you mean "8MiB"?"#)
        #expect(
            note(#""tables": "orders""#)
                == #""tables" must be a list, not text / did you mean ["orders"]?"#)
        #expect(
            note(#""tables": [1]"#)
                == #""tables" must be a table name such as "public.orders", not a number / "#)
        #expect(note(#""format": null"#).hasSuffix("not null / leave the key out instead"))
        #expect(note(#""format": {}"#).hasSuffix("not an object / "))
        #expect(note(#""format": []"#).hasSuffix("not a list / "))
        #expect(note(#""columns": 1"#).hasSuffix("new name to column, not a number / "))
        #expect(diagnostics("[]").contains("the file must be an object, not a list"))
        #expect(diagnostics(#"{"daemon": 5}"#).contains(#""daemon" must be an object, not a "#))
        let number = file(source: #""connection": "shop", "tables": ["a"], "fetch": "5""#)
        #expect(diagnostics(number).contains(#"must be a whole number, not text"#))
        #expect(diagnostics(number).contains("did you mean 5?"))
        let flag = file(source: #""connection": "shop", "tables": ["a"], "trace": "true""#)
        #expect(diagnostics(flag).contains("did you mean true?"))
        let timeout = diagnostics(#"{"pipelines": {}, "daemon": {"shutdown_timeout": 30}}"#)
        #expect(timeout.contains("did you mean \"30s\"?"))
    }

    @Test func valuesOutsideTheirRangeNameItsEnds() {
        #expect(
            diagnostics(file(sink: #""type": "lines", "path": "a", "queue": "1KiB""#)) == """
                weir.json:6:64: error config.out_of_range: "queue" must be from "64KiB" to "1GiB"
                    6 |       "sinks": { "s": { "type": "lines", "path": "a", "queue": "1KiB" } }
                      |                                                                ^^^^^^

                """)
        for value in ["0", "1001", "-1", "99999999999999999999"] {
            let text = file(source: #""connection": "shop", "tables": ["a"], "fetch": "# + value)
            #expect(diagnostics(text).contains(#""fetch" must be from 1 to 1000"#))
        }
        let fraction = file(source: #""connection": "shop", "tables": ["a"], "fetch": 1.0"#)
        #expect(diagnostics(fraction).contains(#""fetch" must be a whole number"#))
        let timeout = diagnostics(#"{"pipelines": {}, "daemon": {"shutdown_timeout": "2h"}}"#)
        #expect(timeout.contains(#""shutdown_timeout" must be from "1s" to "1h""#))
    }

    @Test func badDurationsAndSizesSuggestTheRightOnes() {
        #expect(
            diagnostics(file(sink: #""type": "lines", "path": "a", "spill": "2 GB""#)) == """
                weir.json:6:64: error config.bad_size: "spill" is no size: "2 GB"
                    6 |       "sinks": { "s": { "type": "lines", "path": "a", "spill": "2 GB" } }
                      |                                                                ^^^^^^ did you mean "2GiB"?

                """)
        #expect(
            diagnostics("{ \"daemon\": { \"shutdown_timeout\": \"1m30s\" }, \"pipelines\": 1 }")
                == """
                weir.json:1:35: error config.bad_duration: "shutdown_timeout" is no duration: "1m30s"
                    1 | { "daemon": { "shutdown_timeout": "1m30s" }, "pipelines": 1 }
                      |                                   ^^^^^^^ write it like "200ms", "30s", "5m" or "1h"
                weir.json:1:59: error config.wrong_type: "pipelines" must be an object, not a number
                    1 | { "daemon": { "shutdown_timeout": "1m30s" }, "pipelines": 1 }
                      |                                                           ^

                """)
    }

    @Test func unknownConnectionsAndTypesNameTheNearest() {
        #expect(
            diagnostics(file(source: #""connection": "shpo""#)) == """
                weir.json:5:33: error config.unknown_connection: unknown connection "shpo"
                    5 |       "source": { "connection": "shpo" },
                      |                                 ^^^^^^ did you mean "shop"?

                """)
        #expect(
            diagnostics(file(source: #""connection": "elsewhere""#)).contains(
                #"^^^^^^^^^^^ connections here: "shop""#))
        #expect(
            diagnostics(file(connection: #""type": "oracle", "password": "x""#)) == """
                weir.json:2:38: error config.unknown_type: unknown type "oracle"
                    2 |   "connections": { "shop": { "type": "oracle", "password": *** } },
                      |                                      ^^^^^^^^ types here: "shopdb", "bus"

                """)
    }

    @Test func aTypeIsRefusedForWhatItCannotBe() {
        let text = file(
            source: #""type": "lines", "path": "a""#, sink: #""connection": "shop""#)
        #expect(
            diagnostics(text) == """
                weir.json:5:27: error config.role_not_offered: "lines" cannot be a source
                    5 |       "source": { "type": "lines", "path": "a" },
                      |                           ^^^^^^^ sources: "shopdb"
                weir.json:6:39: error config.role_not_offered: connection "shop" is of type "shopdb", which cannot be a sink
                    6 |       "sinks": { "s": { "connection": "shop" } }
                      |                                       ^^^^^^ sinks: "bus", "lines"

                """)
        #expect(
            diagnostics(file(connection: #""type": "lines""#)).contains(
                #"error config.role_not_offered: "lines" needs no connection"#))
        let typed = diagnostics(file(source: #""type": "shopdb", "tables": ["a"]"#))
        #expect(typed.contains(#"missing field "connection""#))
        #expect(typed.contains(#"instead of "type" name one of "shop""#))
        let both = file(source: #""connection": "shop", "type": "shopdb", "tables": ["a"]"#)
        #expect(diagnostics(both).contains(#""type" cannot stand beside "connection""#))
    }

    @Test func badNamesAreRefusedWithABetterOne() {
        let text = #"{ "pipelines": { "My Shop": { "source": {}, "sinks": { "source": {} } } } }"#
        let output = report(text)
        #expect(
            output.hasPrefix(
                """
                weir.json:1:18: error config.bad_name: the pipeline name "My Shop" is not 1 to 40 lower-case letters, digits, - and _
                    1 | { "pipelines": { "My Shop": { "source": {}, "sinks": { "source": {} } } } }
                      |                  ^^^^^^^^^ did you mean "my-shop"?

                """))
        #expect(output.contains(#"error config.bad_name: a sink cannot be called "source""#))
        let long = String(repeating: "a", count: 41)
        let deep = #"{ "connections": { "\#(long)": 1, "": 2 }, "pipelines": {} }"#
        #expect(check(deep).errors.filter { $0.code == ConfigErrorCode.badName }.count == 2)
    }

    @Test func nothingToDoIsAnError() {
        let text = #"{ "pipelines": {} }"#
        #expect(
            diagnostics(text) == """
                weir.json:1:3: error config.empty: "pipelines" names no pipeline
                    1 | { "pipelines": {} }
                      |   ^^^^^^^^^^^

                """)
        #expect(
            diagnostics(file(source: #""connection": "shop", "tables": []"#)).contains(
                #"error config.empty: "tables" is an empty list"#))
        let sinks = #"{ "pipelines": { "p": { "source": {}, "sinks": {} } } }"#
        #expect(diagnostics(sinks).contains(#"error config.empty: "sinks" names no sink"#))
    }

    @Test func syntaxErrorsPointAtTheirPlace() {
        #expect(
            report("{\n  \"pipelines\": {},\n}") == """
                weir.json:2:18: error config.syntax: trailing comma before "}"
                    2 |   "pipelines": {},
                      |                  ^
                1 error, nothing was started.

                """)
        #expect(report("").hasPrefix("weir.json:1:1: error config.syntax: empty input"))
        #expect(report("\u{FEFF}{}").hasPrefix("weir.json:1:1: error config.encoding: byte order"))
    }

    @Test func faultsOfTheFileAsAWholeHaveNoLine() {
        let huge = [UInt8](repeating: UInt8(ascii: " "), count: 4 * 1024 * 1024 + 1)
        #expect(
            loader.check(bytes: huge, fileName: "weir.json").rendered() == """
                weir.json: error config.too_large: the file is larger than 4MiB
                1 error, nothing was started.

                """)
        #expect(
            loader.load(path: "/nonexistent/weir.json").rendered() == """
                /nonexistent/weir.json: error config.unreadable: could not read the file: No such file or directory
                1 error, nothing was started.

                """)
        #expect(loader.load(path: "/").rendered().contains("Is a directory"))
        #expect(loader.load(path: "/dev/zero").rendered().contains("config.too_large"))
        let latin = loader.check(bytes: [0x7B, 0xE9, 0x7D], fileName: "weir.json")
        #expect(latin.errors.map(\.code) == [ConfigErrorCode.encoding])
    }

    @Test func everyCodeIsListedOnceAndExplained() {
        let names = ConfigErrorCode.all.map(\.name)
        #expect(Set(names).count == names.count)
        for code in ConfigErrorCode.all {
            #expect(code.name.hasPrefix("config."))
            #expect(code.meaning.hasSuffix(".") && code.remedy.hasSuffix("."), "\(code)")
        }
    }
}
