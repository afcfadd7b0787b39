import Testing
import WeirCore
import WeirJSON
import WeirValues

struct PlainRendererTests {
    private func text(_ cell: Cell, _ type: ColumnType) -> String? {
        plain("c", cell, type)?.bytes.map { String(decoding: $0, as: UTF8.self) }
    }

    @Test(arguments: [
        "", "a", "a\"b\\c\r\n\t\u{1}\u{7F}é😀", "\0", "*1\r\n$4\r\nPING\r\n", "{1,2}", "null",
    ])
    func textComesAsItIs(value: String) {
        #expect(text(.text(value), .text) == value)
        #expect(text(.text(value), .opaque) == value)
        #expect(text(.text(value), ColumnType(.text, name: "uuid")) == value)
    }

    @Test(arguments: [
        "0", "-0", "-7", "123456789012345678901234567890.10", "1E+100", "NaN", "-Infinity", "1.10",
    ])
    func numbersKeepEveryDigit(value: String) {
        for type in [ColumnType.int4, .int8, .float8, .numeric] {
            #expect(text(.text(value), type) == value)
        }
    }

    @Test func booleansAreWords() {
        #expect(text("t", .bool) == "true")
        #expect(text("f", .bool) == "false")
        #expect(text("maybe", .bool) == "maybe")
    }

    @Test(arguments: [
        ("2026-01-31 09:00:00.5", ColumnType.timestamp, "2026-01-31T09:00:00.5"),
        ("2026-01-31 09:00:00+00", .timestamptz, "2026-01-31T09:00:00+00:00"),
        ("2026-01-31 09:00:00+05:30", .timestamptz, "2026-01-31T09:00:00+05:30"),
        ("0044-03-15 00:00:00+00 BC", .timestamptz, "0044-03-15T00:00:00+00:00 BC"),
        ("infinity", .timestamp, "infinity"), ("-infinity", .timestamptz, "-infinity"),
    ])
    func timesLookAsInARowButWithoutQuotes(value: String, type: ColumnType, shown: String) {
        #expect(text(.text(value), type) == shown)
    }

    @Test func jsonComesAsItIs() {
        let json = "{\"b\": 1,\r\n \"a\":\t1e400}"
        #expect(text(.text(json), .jsonb) == json)
        #expect(text(#""a""#, .jsonb) == #""a""#)
    }

    @Test func arraysComeAsJSONAndBrokenOnesAsTheirText() {
        #expect(text("{1,NULL,3}", .array(.integer)) == "[1,null,3]")
        #expect(text(#"{a,"b c","d\"e"}"#, .array(.text)) == #"["a","b c","d\"e"]"#)
        #expect(text("{t,f}", .array(.boolean)) == "[true,false]")
        #expect(text("1 2 3", .vector) == "[1,2,3]")
        #expect(text("{a,\"b", .array(.text)) == "{a,\"b")
    }

    @Test func bytesAreHexadecimal() {
        #expect(text(.binary([0x00, 0xFF, 0x41]), .text) == #"\x00ff41"#)
        #expect(text(.binary([]), .text) == #"\x"#)
    }

    @Test func nullAndUnchangedAppendNothing() throws {
        let null = try #require(plain("c", nil, .text))
        #expect(null.outcome == .null && null.bytes == nil)
        let unchanged = try #require(plain("c", .unchanged, .text))
        #expect(unchanged.outcome == .unchanged && unchanged.bytes == nil)
    }
}

struct FieldPathTests {
    private let schema = TableSchema.test([
        ("id", .int8), ("attributes", .jsonb), ("a.b", .text), ("a", .jsonb), ("a.c", .jsonb),
        ("list", .array(.json)), ("note", .text),
    ])

    @Test(arguments: [
        ("id", 0), ("attributes", 1), ("attributes.color", 1), ("attributes.0.x", 1), ("a.b", 2),
        // A whole name wins; else the longest that is JSON.
        ("a.b.c", 3), ("a.c.d", 4), ("a.c", 4), ("a.x", 3), ("list", 5),
    ])
    func aPathFindsItsColumn(text: String, column: Int) {
        #expect(FieldPath(text)?.resolve(in: schema)?.column == column)
    }

    @Test(arguments: ["ID", "note.x", "id.x", "list.0", "color", "attributes2", ".id", "."])
    func otherTextFindsNone(text: String) {
        #expect(FieldPath(text)?.resolve(in: schema) == nil)
    }

    @Test func emptyTextIsNoPath() {
        #expect(FieldPath("") == nil)
        #expect(FieldPath("a.b")?.text == "a.b")
    }
}
