import Testing
import WeirCore

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
}
