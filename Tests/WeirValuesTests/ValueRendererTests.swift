import Testing
import WeirCore
import WeirJSON
import WeirValues

/// A value's JSON, and what it says beside it.
func rendered(
    _ cell: Cell,
    _ type: ColumnType,
    options: ValueOptions = ValueOptions()
) -> (json: String, note: ValueRenderer.Note) {
    var renderer = ValueRenderer()
    var writer = JSONWriter()
    let (form, bytes): (Value.Form, [UInt8]) =
        switch cell {
        case .text(let text): (.text, Array(text.utf8))
        case .binary(let bytes): (.binary, bytes)
        case .document(let bytes): (.bson, bytes)
        case .documentKey(let bytes): (.bsonKey, bytes)
        case .null, .unchanged: (.null, [])
        }
    let kind = ValueKind(type, options: options)
    let note = unsafe bytes.withUnsafeBytes {
        unsafe renderer.append(form, $0, as: kind, into: &writer)
    }
    return (writer.text, note)
}

struct ValueRendererTests {
    @Test(arguments: [
        ("t", "true"), ("f", "false"), ("maybe", #""maybe""#), ("", #""""#),
    ])
    func booleansAreWordsAndNothingElse(text: String, json: String) {
        #expect(rendered(.text(text), .bool).json == json)
    }

    @Test(arguments: [
        "0", "-0", "7", "-7", "1e100", "1E+100", "1.5e-7", "0.00", "123456789012345678901234567890",
        "-0.000", "1.10",
    ])
    func numbersKeepEveryDigit(text: String) {
        for type in [ColumnType.int4, .int8, .float8, .numeric] {
            #expect(rendered(.text(text), type).json == text)
        }
    }

    @Test(arguments: [
        "NaN", "Infinity", "-Infinity", "", "-", "+1", "007", "1.", ".5", "1e", "1e+", "1 ", "0x1",
        "--1", "1.2.3", "00", "-01",
    ])
    func whatIsNoJSONNumberIsQuoted(text: String) {
        #expect(rendered(.text(text), .numeric).json == "\"\(text)\"")
    }

    @Test func numbersBecomeStringsOnRequestAndInsideArraysToo() {
        let options = ValueOptions(int64AsString: true, numericAsString: true)
        #expect(rendered("1", .int8, options: options).json == #""1""#)
        #expect(rendered("1", .numeric, options: options).json == #""1""#)
        #expect(rendered("1", .int4, options: options).json == "1")
        #expect(rendered("1.5", .float8, options: options).json == "1.5")
        #expect(rendered("{1,NULL}", .array(.int64), options: options).json == #"["1",null]"#)
    }

    @Test(arguments: [
        ("2026-01-31 09:00:00", "2026-01-31T09:00:00"),
        ("2026-01-31 09:00:00.123456", "2026-01-31T09:00:00.123456"),
        ("0044-03-15 00:00:00 BC", "0044-03-15T00:00:00 BC"),
        ("294276-12-31 23:59:59.999999", "294276-12-31T23:59:59.999999"),
        ("infinity", "infinity"), ("-infinity", "-infinity"),
    ])
    func timestampsHaveATInThem(text: String, shown: String) {
        #expect(rendered(.text(text), .timestamp).json == "\"\(shown)\"")
    }

    @Test(arguments: [
        ("2026-01-31 09:00:00+00", "2026-01-31T09:00:00+00:00"),
        ("2026-01-31 09:00:00.5-08", "2026-01-31T09:00:00.5-08:00"),
        ("2026-01-31 09:00:00+05:30", "2026-01-31T09:00:00+05:30"),
        ("1880-01-31 09:00:00+00:53:28", "1880-01-31T09:00:00+00:53:28"),
        ("0044-03-15 00:00:00+00 BC", "0044-03-15T00:00:00+00:00 BC"),
        ("infinity", "infinity"), ("-infinity", "-infinity"),
    ])
    func zonesHaveTheirMinutes(text: String, shown: String) {
        #expect(rendered(.text(text), .timestamptz).json == "\"\(shown)\"")
    }

    @Test(arguments: ["", " ", "\u{1} 1+00", "a \"b\"+00", "\\ +00", " +", "1 +"])
    func oddTimestampsStayValidStrings(text: String) throws {
        let json = rendered(.text(text), .timestamptz).json
        _ = try JSONDocument.parse(Array(json.utf8))
    }

    @Test func jsonIsSplicedOnOneLine() {
        #expect(
            rendered("{\"b\": 1,\r\n \"a\":\t1e400}", .jsonb).json == "{\"b\": 1,   \"a\":\t1e400}"
        )
        #expect(rendered("null", .jsonb).json == "null")
    }

    @Test func textIsEscapedAsPostgresEscapesIt() {
        #expect(
            rendered("a\"b\\c/\n\t\u{1}\u{7F}é😀", .text).json
                == #""a\"b\\c/\n\t\u0001"# + "\u{7F}é😀\""
        )
    }

    @Test func nullAndBytesHaveTheirForms() {
        #expect(rendered(nil, .text).json == "null")
        let bytes = rendered(.binary([0, 0xFF, 0x41]), .text)
        #expect(bytes.json == #""\\x00ff41""#)
        #expect(bytes.note == .binary)
        #expect(rendered("(1,2)", .opaque).json == #""(1,2)""#)
    }
}
