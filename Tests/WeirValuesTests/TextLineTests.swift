import Testing
import WeirCore
import WeirJSON

@testable import WeirValues

@Suite struct TextLineTests {
    private let orders = TableSchema.test([("id", .text), ("note", .text)], key: [0])

    @Test func oneShortLinePerChange() throws {
        let made = try lines(.text, .insert, orders, after: [.text("1"), .text("a b")])
        #expect(made.count == 1)
        let words = try #require(made.first).split(separator: " ", maxSplits: 3).map(String.init)
        #expect(words[0].hasSuffix("Z") && words[0].contains("T"))
        #expect(words[1] == "insert")
        #expect(words[2] == "\(TableName(schema: orders.schema, name: orders.name))")
        #expect(words[3].hasSuffix(#"{"id":"1","note":"a b"}"#))
    }

    @Test func noNameBreaksTheLineOrCommandsATerminal() throws {
        let schema = TableSchema.test(
            [("id", .text)], key: [0], schema: "s", name: "t\n\u{1B}[2J")
        let made = try lines(.text, .insert, schema, after: [.text("1")])
        #expect(made.count == 1)
        #expect(made[0].utf8.allSatisfy { $0 >= 0x20 })
        #expect(made[0].contains(#"t\n\u001b[2J"#))
    }

    /// In a value: escape, DEL, C1, a change of direction, a tag beyond 16 bits; letters stay.
    @Test func noValueCommandsATerminal() throws {
        let acting = "\u{1B}[31m\u{7F}\u{9B}2J\u{202E}\u{2028}\u{E0041}"
        let schema = TableSchema.test([("id", .text), ("doc", .jsonb)], key: [0])
        let made = try lines(
            .text, .insert, schema,
            after: [.text("စကား" + acting), .text(#"{"a":"\#(acting.dropFirst(5))"}"#)])
        #expect(made.count == 1)
        #expect(!made[0].unicodeScalars.contains(where: ForeignText.acts))
        let escaped = #"\u001b[31m\u007f\u009b2J\u202e\u2028\udb40\udc41"#
        #expect(made[0].contains("စကား" + escaped), "\(made[0])")
        #expect(made[0].contains(#"{"a":"\#(escaped.dropFirst(10))"}"#), "\(made[0])")
    }

    @Test func onATerminalJSONKeepsItsValues() throws {
        var writer = JSONWriter()
        writer.append(string: "before\u{9B}\n")
        let start = writer.count
        writer.append(string: "{\"a\":\"\u{9B}\u{202E}é\"}\n")
        writer.escapeForTerminal(from: start)
        #expect(writer.text == "before\u{9B}\n" + #"{"a":"\u009b\u202eé"}"# + "\n")
    }

    /// Also at the end, in a row, and where bytes are no UTF-8: those never reach a terminal.
    @Test func whatActsIsEscapedWhereverItStands() {
        let cases: [([UInt8], String)] = [
            (Array("é\u{202E}\u{1F642}\u{200F}".utf8), "é\\u202e\u{1F642}\\u200f"),
            (Array("\u{1B}\u{1B}x\u{9B}".utf8), #"\u001b\u001bx\u009b"#),
            ([0x61, 0x9B, 0x62], "a\u{FFFD}b"), ([0x61, 0xE2, 0x80], "a\u{FFFD}\u{FFFD}"),
            ([0xC1, 0x9B], "\u{FFFD}\u{FFFD}"), ([0xED, 0xA0, 0x80], "\u{FFFD}\u{FFFD}\u{FFFD}"),
            (Array("plain \u{10FFFD}\n".utf8), "plain \u{10FFFD}\n"), ([], ""),
        ]
        for (bytes, expected) in cases {
            var writer = JSONWriter()
            writer.append(contentsOf: bytes)
            writer.escapeForTerminal(from: 0)
            #expect(writer.text == expected, "\(bytes)")
        }
    }
}
