import Testing
import WeirConfig

@Suite struct RenderingTests {
    @Test func tabsAreExpandedAndTheCaretFollows() {
        let text = "{\n\t\"pipelines\":\t{},\n\t\t\"x\": 1\n}"
        #expect(
            diagnostics(text) == """
                weir.json:2:2: error config.empty: "pipelines" names no pipeline
                    2 |     "pipelines":    {},
                      |     ^^^^^^^^^^^
                weir.json:3:3: error config.unknown_field: unknown field "x"
                    3 |         "x": 1
                      |         ^^^

                """)
    }

    @Test func longLinesAreCutAroundTheCaret() {
        let filler = String(repeating: "a", count: 300)
        let text =
            #"{ "$schema": "\#(filler)", "pipeline": {}, "daemon": { "log": "\#(filler)" } }"#
        let output = report(text)
        for line in output.split(separator: "\n") where line.contains(" | ") {
            #expect(line.unicodeScalars.count <= 100, "\(line)")
        }
        let cut = String(repeating: "a", count: 27)
        #expect(
            output.contains(
                "    1 | …\(cut)\", \"pipeline\": {}, \"daemon\": { \"log\": \""))
        #expect(
            output.contains(
                "\n      |                                ^^^^^^^^^^ did you mean \"pipelines\"?"))
        #expect(output.contains("\"log\" cannot be \"\(String(repeating: "a", count: 60))…\""))
    }

    @Test func wideAndCombiningCharactersKeepTheCaretInPlace() {
        let text = "{ \"$schema\": \"日本e\u{301}\", \"x\": 1, \"pipelines\": {} }"
        let lines = diagnostics(text).split(separator: "\n")
        #expect(lines[0].hasPrefix("weir.json:1:22:"))
        // Two ideographs take two columns more than they are scalars, the accent one less.
        #expect(lines[2] == "      | " + String(repeating: " ", count: 22) + "^^^")
    }

    @Test func charactersThatActOnATerminalAreShownInstead() {
        let text = "{ \"\u{202E}a\u{9B}\\u001b[31m\\n\": 1, \"pipelines\": {\"\u{7F}\": {}} }"
        let output = report(text)
        #expect(output.contains("unknown field \"<U+202E>a<U+009B>␛[31m␊\""))
        #expect(output.contains("    1 | { \"<U+202E>a<U+009B>\\u001b[31m\\n\": 1, "))
        #expect(output.contains("\"␡\""))
        let acting = output.unicodeScalars.filter {
            $0 != "\n" && ($0.value < 0x20 || (0x7F...0x9F).contains($0.value))
        }
        #expect(acting.isEmpty)
        let raw = report("{ \"a\u{1B}[2J\": 1 }")
        #expect(raw.contains("    1 | { \"a␛[2J\": 1 }"))
    }

    @Test func valuesOfSeveralLinesAreUnderlinedOnTheFirst() {
        let text = "{ \"daemon\": [  \n  1,\n 2], \"pipelines\": 1 }"
        #expect(
            diagnostics(text).hasPrefix(
                """
                weir.json:1:13: error config.wrong_type: "daemon" must be an object, not a list
                    1 | { "daemon": [\("  ")
                      |             ^

                """))
    }

    @Test func coloursComeOnlyWhenAsked() {
        let plain = check("{}").rendered()
        #expect(!plain.contains("\u{1B}"))
        let coloured = check("{}").rendered(colored: true)
        #expect(coloured.contains("\u{1B}[1;31merror config.missing_field\u{1B}[0m: missing"))
        #expect(coloured.contains("\u{1B}[1;31m^\u{1B}[0m"))
        var stripped = coloured
        for code in ["0", "1", "2", "1;31"] { stripped.replace("\u{1B}[\(code)m", with: "") }
        #expect(stripped == plain)
    }

    @Test func theLastLineSaysWhatTheCommandDid() {
        #expect(check("{").rendered(outcome: nil).hasSuffix("\n1 error.\n"))
        #expect(
            check("{").rendered(outcome: "the old one is kept").hasSuffix(
                "1 error, the old one is kept.\n"))
        #expect(check(file()).rendered() == "")
    }

    @Test func aFloodOfErrorsIsCounted() {
        let keys = (0..<1000).map { "\"k\($0)\": 1" }.joined(separator: ", ")
        let outcome = check("{ \"pipelines\": {}, \(keys) }")
        #expect(outcome.errorCount == 1001)
        #expect(outcome.diagnostics.count == 100)
        #expect(outcome.configuration == nil)
        #expect(outcome.rendered().contains("\nand 901 more\n1001 errors, nothing was started."))
    }

    @Test func lineNumbersBeyondFiveDigitsWidenTheMargin() {
        let text = String(repeating: "\n", count: 123_455) + "{}"
        #expect(
            diagnostics(text) == """
                weir.json:123456:1: error config.missing_field: missing field "pipelines"
                123456 | {}
                       | ^

                """)
    }
}
