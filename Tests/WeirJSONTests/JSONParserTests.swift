import Testing
import WeirJSON

@Suite struct JSONParserTests {
    @Test(arguments: [
        "null", "true", "false", "0", "-0", "42", "-1", "1.5", "1e5", "1E+5", "1e-5", "-0.0e-0",
        "0e1", "123456789012345678901234567890", "1.000000000000000000001", "1e400", "\"\"",
        "\"a\"", "[]", "{}", "[ ]", "{ }", "[[]]", "[1,2]", " [1 , 2 ] ", "\t\r\n[\r\n1\t]\n",
        "{\"a\":1}", "{\"\":0}", "{\"a\":{\"a\":[{}]}}", "{\"a\":1,\"a\":1}", "[null,1,\"1\",{}]",
        "\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"", "\"\\u0000\"", "\"\\u00e9\\u00E9\"", "\"\\uD834\\uDD1E\"",
        "\"\\uDBFF\\uDFFF\"", "\"\\uFFFF\"", "\"\u{7F}\"", "\"\u{2028}\u{2029}\"", "\"\u{FEFF}\"",
        "\"\u{10FFFF}\"", "\"// no comment\"", "\"'\"", "// c\n1", "1// c", "1 //",
        "//\n//\n[//]\n]",
        "[1, // one\r2 // two\r\n]", "{// a\n\"a\"// b\n:// c\n1// d\n}// e", "// tab\t\u{e9}\n0",
    ])
    func validTextIsAccepted(_ text: String) throws {
        #expect(refusal(of: text) == nil)
        let node = try parse(text)
        #expect(node.span.start < node.span.end)
    }

    @Test(arguments: [
        ("", "empty input, expected a value"),
        (" \n// nothing\n", "empty input, expected a value"),
        ("\u{FEFF}1", "byte order mark at the start of the input"),
        ("[\u{FEFF}1]", "expected a value, found U+FEFF (byte order mark)"),
        ("[1,]", "trailing comma before \"]\""),
        ("{\"a\":1,}", "trailing comma before \"}\""),
        ("{\"a\":1, // c\n }", "trailing comma before \"}\""),
        ("[,]", "expected a value, found \",\""),
        ("[,1]", "expected a value, found \",\""),
        ("[1,,2]", "expected a value, found \",\""),
        ("{,}", "expected a key in double quotes, found \",\""),
        ("[1 2]", "expected \",\" or \"]\" after an element, found \"2\""),
        ("[1}", "expected \",\" or \"]\" after an element, found \"}\""),
        ("[1", "expected \",\" or \"]\" after an element, found end of input"),
        ("[", "expected a value, found end of input"),
        ("]", "expected a value, found \"]\""),
        ("{", "expected a key in double quotes, found end of input"),
        ("{a:1}", "expected a key in double quotes, found \"a\""),
        ("{1:1}", "expected a key in double quotes, found \"1\""),
        ("{\"a\"}", "expected \":\" after a key, found \"}\""),
        ("{\"a\" 1}", "expected \":\" after a key, found \"1\""),
        ("{\"a\":}", "expected a value, found \"}\""),
        ("{\"a\"::1}", "expected a value, found \":\""),
        ("{\"a\":1 \"b\":2}", "expected \",\" or \"}\" after a member, found a string"),
        ("{\"a\":1", "expected \",\" or \"}\" after a member, found end of input"),
        ("1 2", "expected end of input after the value, found \"2\""),
        ("{}}", "expected end of input after the value, found \"}\""),
        ("[][]", "expected end of input after the value, found \"[\""),
        ("1,", "expected end of input after the value, found \",\""),
        ("True", "expected a value, found \"True\""),
        ("nul", "expected a value, found \"nul\""),
        ("nulls", "expected a value, found \"nulls\""),
        ("NaN", "expected a value, found \"NaN\""),
        ("Infinity", "expected a value, found \"Infinity\""),
        ("'a'", "expected a value, found \"'\" (strings are written in double quotes)"),
        ("\u{0}", "expected a value, found U+0000"),
        ("1\u{0}", "expected end of input after the value, found U+0000"),
        ("[\u{C}1]", "expected a value, found U+000C"),
        ("[1\u{A0}]", "expected \",\" or \"]\" after an element, found U+00A0"),
        ("\u{1F600}", "expected a value, found U+1F600"),
        ("/1", "found \"/\", but comments begin with \"//\""),
        ("/", "found \"/\", but comments begin with \"//\""),
        ("/* c */ 1", "found \"/*\", but comments begin with \"//\""),
        ("# c\n1", "expected a value, found \"#\""),
        ("// \u{0}\n1", "control character U+0000 in a comment"),
    ])
    func invalidStructureIsRefused(_ text: String, _ message: String) {
        #expect(refusal(of: text)?.message == message)
    }

    @Test(arguments: [
        ("+1", "it has a leading plus sign"), ("01", "it has a leading zero"),
        ("-01", "it has a leading zero"), ("00", "it has a leading zero"),
        ("-", "a digit is missing before its end"), (".5", "a digit is missing before \".\""),
        ("-.5", "a digit is missing before \".\""), ("--1", "a digit is missing before \"-\""),
        ("-Infinity", "a digit is missing before \"I\""), ("1.", "a digit is missing after \".\""),
        ("1.e1", "a digit is missing after \".\""), ("1e", "a digit is missing in the exponent"),
        ("1e+", "a digit is missing in the exponent"), ("1e1.5", "found \".\" in it"),
        ("1.2.3", "found \".\" in it"), ("0x1F", "found \"x\" in it"),
        ("1_000", "found \"_\" in it"),
        ("1a", "found \"a\" in it"), ("1-2", "found \"-\" in it"),
        ("1ee5", "a digit is missing in the exponent"),
    ])
    func invalidNumberIsRefusedWithAReason(_ text: String, _ reason: String) {
        let error = refusal(of: text)
        #expect(error?.message == "invalid number \"\(text)\": \(reason)")
        #expect(error?.span == SourceSpan(start: 0, end: text.utf8.count))
        #expect(refusal(of: "[\(text)]")?.message == error?.message)
    }

    @Test(arguments: [
        ("\"abc", "string without a closing quote, found end of input", 0, 4),
        ("\"", "string without a closing quote, found end of input", 0, 1),
        ("\"a\nb\"", "line break in a string, its closing quote may be missing", 2, 3),
        ("\"a\rb\"", "line break in a string, its closing quote may be missing", 2, 3),
        ("\"a\tb\"", "unescaped control character U+0009 in a string", 2, 3),
        ("\"\u{0}\"", "unescaped control character U+0000 in a string", 1, 2),
        ("\"\u{1F}\"", "unescaped control character U+001F in a string", 1, 2),
        ("\"\\", "unfinished escape, found end of input", 1, 2),
        ("\"\\x41\"", "unknown escape \"\\x\"", 1, 3),
        ("\"\\'\"", "unknown escape \"\\'\"", 1, 3),
        ("\"\\\u{0}\"", "backslash that begins no known escape", 1, 2),
        ("\"\\\u{e9}\"", "backslash that begins no known escape", 1, 2),
        ("\"\\u\"", "\"\\u\" without four hexadecimal digits", 1, 3),
        ("\"\\u12\"", "\"\\u12\" without four hexadecimal digits", 1, 5),
        ("\"\\u00g0\"", "\"\\u00\" without four hexadecimal digits", 1, 5),
        ("\"\\uD800\"", "lone surrogate \"\\uD800\" in a string", 1, 7),
        ("\"\\udfff\"", "lone surrogate \"\\udfff\" in a string", 1, 7),
        ("\"\\uD800x\"", "lone surrogate \"\\uD800\" in a string", 1, 7),
        ("\"\\uD800\\n\"", "lone surrogate \"\\uD800\" in a string", 1, 7),
        ("\"\\uD800\\uD800\"", "lone surrogate \"\\uD800\" in a string", 1, 7),
        ("\"\\uDC00\\uD800\"", "lone surrogate \"\\uDC00\" in a string", 1, 7),
        ("\"\\uDC00\\uDC00\"", "lone surrogate \"\\uDC00\" in a string", 1, 7),
        ("\"\\uD800\\u00\"", "\"\\u00\" without four hexadecimal digits", 7, 11),
    ])
    func invalidStringIsRefused(_ text: String, _ message: String, _ start: Int, _ end: Int) {
        let error = refusal(of: text)
        #expect(
            error == JSONSyntaxError(message: message, span: SourceSpan(start: start, end: end))
        )
    }

    @Test(
        arguments: [
            ([0x22, 0xFF, 0x22], "invalid UTF-8 at byte 0xFF", 1),
            ([0x22, 0x80, 0x22], "invalid UTF-8 at byte 0x80", 1),
            ([0x22, 0xC0, 0xAF, 0x22], "invalid UTF-8 at byte 0xC0", 1),
            ([0x22, 0xED, 0xA0, 0x80, 0x22], "invalid UTF-8 at byte 0xED", 1),
            ([0x22, 0xF4, 0x90, 0x80, 0x80, 0x22], "invalid UTF-8 at byte 0xF4", 1),
            ([0x22, 0xE2, 0x82], "invalid UTF-8 at byte 0xE2", 1),
            ([0x2F, 0x2F, 0xC3], "invalid UTF-8 at byte 0xC3", 2),
            ([0xE9], "invalid UTF-8 at byte 0xE9", 0),
        ] as [([UInt8], String, Int)]
    )
    func invalidUTF8IsRefusedAnywhere(_ bytes: [UInt8], _ message: String, _ offset: Int) {
        #expect(
            refusal(of: bytes)
                == JSONSyntaxError(
                    message: message,
                    span: SourceSpan(start: offset, end: offset + 1)
                )
        )
    }

    @Test func byteOrderMarkOfUTF16IsNamed() {
        #expect(refusal(of: [0xFF, 0xFE, 0x31, 0x00])?.message.contains("byte order mark") == true)
        #expect(refusal(of: [0xFE, 0xFF, 0x00, 0x31])?.message.contains("byte order mark") == true)
    }

    @Test func stringsAreDecoded() throws {
        let text = #""a\"\\\/\b\f\n\r\t\u0000\u0041\u00e9\u20AC\ud83d\uDE00é€😀""#
        let decoded = "a\"\\/\u{8}\u{C}\n\r\t\u{0}A\u{e9}\u{20AC}\u{1F600}é€😀"
        #expect(try parse(text).value == .string(decoded))
    }

    @Test func numbersKeepTheirLexeme() throws {
        #expect(try parse(" -0.10E+002 ").value == .number("-0.10E+002"))
        #expect(try parse("9007199254740993").value == .number("9007199254740993"))
    }

    @Test func duplicateKeysAreKeptInOrderWithBothPositions() throws {
        guard case .object(let members) = try parse(#"{"a":1,"b":2,"a":3}"#).value else {
            Issue.record("not an object")
            return
        }
        #expect(members.map(\.key) == ["a", "b", "a"])
        #expect(members.map(\.keySpan.start) == [1, 7, 13])
        #expect(members.map(\.value.value) == [.number("1"), .number("2"), .number("3")])
    }

    @Test func spansCoverEachValueExactly() throws {
        let text = #" { "k" : [ 12 , "é" , null ] } // end"#
        let node = try parse(text)
        let bytes = Array(text.utf8)
        func slice(_ span: SourceSpan) -> String {
            String(decoding: bytes[span.start..<span.end], as: UTF8.self)
        }
        #expect(slice(node.span) == #"{ "k" : [ 12 , "é" , null ] }"#)
        guard case .object(let members) = node.value, let member = members.first,
            case .array(let elements) = member.value.value
        else {
            Issue.record("unexpected shape")
            return
        }
        #expect(slice(member.keySpan) == #""k""#)
        #expect(slice(member.value.span) == #"[ 12 , "é" , null ]"#)
        #expect(elements.map { slice($0.span) } == ["12", #""é""#, "null"])
    }

    @Test(arguments: [
        ("[1,\n2,\n]", 2, 2), ("{\"a\":1 , // c\n}", 1, 8), ("{\n  \"é\": tru\n}", 2, 8),
        ("[\n\n", 3, 1), ("", 1, 1), ("{\"a\": 1\n \"b\": 2}", 2, 2), ("[\r\n\t01]", 2, 2),
        ("\"\u{1F600}\\q\"", 1, 3),
    ])
    func errorsPointAtLineAndColumn(_ text: String, _ line: Int, _ column: Int) throws {
        let bytes = Array(text.utf8)
        let error = try #require(refusal(of: bytes))
        let position = SourceText(bytes).position(at: error.span.start)
        #expect(position == SourcePosition(line: line, column: column))
    }

    @Test func nestingIsAcceptedUpToTheLimitAndRefusedBeyondIt() {
        let depthMax = JSONDocument.depthMax
        func nested(_ depth: Int, _ open: String, _ close: String) -> String {
            String(repeating: open, count: depth) + "1" + String(repeating: close, count: depth)
        }
        for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
            #expect(refusal(of: nested(depthMax, open, close)) == nil)
            let error = refusal(of: nested(depthMax + 1, open, close))
            let start = depthMax * open.utf8.count
            #expect(error?.message == "nested deeper than 128 levels")
            #expect(error?.span == SourceSpan(start: start, end: start + 1))
        }
        // Depth is what is open at once, not what was opened in all.
        #expect(refusal(of: "[" + String(repeating: "[],", count: 1000) + "[]]") == nil)
    }

    @Test func depthBombIsRefusedWithoutOverflowingTheStack() {
        let bomb = [UInt8](repeating: UInt8(ascii: "["), count: JSONDocument.bytesMax)
        #expect(refusal(of: bomb)?.span.start == JSONDocument.depthMax)
    }

    @Test func inputOverTheSizeLimitIsRefused() {
        let bytesMax = JSONDocument.bytesMax
        var bytes = [UInt8](repeating: UInt8(ascii: " "), count: bytesMax)
        bytes[0] = UInt8(ascii: "1")
        #expect(refusal(of: bytes) == nil)
        bytes.append(UInt8(ascii: " "))
        #expect(
            refusal(of: bytes)?.message
                == "input of 4194305 bytes is over the limit of 4194304 bytes"
        )
    }

    @Test func longTokensAreCutInMessages() throws {
        let error = try #require(refusal(of: String(repeating: "x", count: 10_000)))
        #expect(error.message.utf8.count < 100)
        #expect(error.span.end == 10_000)
    }
}
