import Testing
import WeirCore
import WeirJSON
import WeirTesting
import WeirValues

struct ArrayLiteralTests {
    @Test(arguments: [
        ("{}", "[]"),
        ("{1,2,3}", "[1,2,3]"),
        ("{-1,NULL,NaN}", #"[-1,null,"NaN"]"#),
        ("{{1,2},{3,4}}", "[[1,2],[3,4]]"),
        ("{{{1},{2}}}", "[[[1],[2]]]"),
        ("[0:2]={1,2,3}", "[1,2,3]"),
        ("[-1:0][1:2]={{1,2},{3,4}}", "[[1,2],[3,4]]"),
        ("{{{{{{1}}}}}}", "[[[[[[1]]]]]]"),
    ])
    func numbersKeepTheirShape(literal: String, json: String) {
        let value = rendered(.text(literal), .array(.numeric))
        #expect(value.json == json)
        #expect(value.note == .none)
    }

    @Test(arguments: [
        ("{a,b}", #"["a","b"]"#),
        (#"{NULL,"NULL","null"}"#, #"[null,"NULL","null"]"#),
        (#"{""}"#, #"[""]"#),
        (#"{"a b","c,d","{}",""}"#, #"["a b","c,d","{}",""]"#),
        (#"{"say \"hi\"","back\\slash","\\"}"#, #"["say \"hi\"","back\\slash","\\"]"#),
        (#"{"\"","\\\\",x}"#, #"["\"","\\\\","x"]"#),
        (#"{{"a",NULL},{"b c",d}}"#, #"[["a",null],["b c","d"]]"#),
        ("{\"line\nbreak\",é😀,\"\u{1}\"}", #"["line\nbreak","é😀","\u0001"]"#),
        ("{a;b}", #"["a;b"]"#),
    ])
    func textIsUnquotedAndEscapedAnew(literal: String, json: String) {
        let value = rendered(.text(literal), .array(.text))
        #expect(value.json == json)
        #expect(value.note == .none)
    }

    @Test func elementsFollowTheirClass() {
        #expect(rendered("{t,f,NULL}", .array(.boolean)).json == "[true,false,null]")
        #expect(
            rendered(#"{"2026-01-31 09:00:00+00",infinity}"#, .array(.timestampTZ)).json
                == #"["2026-01-31T09:00:00+00:00","infinity"]"#
        )
        #expect(
            rendered(#"{"{\"a\": \"x\\\\y\"}",1,"[1, 2]",NULL}"#, .array(.json)).json
                == #"[{"a": "x\\y"},1,[1, 2],null]"#
        )
    }

    @Test func theDelimiterIsTheTypesOwn() {
        #expect(
            rendered("{(2,2),(1,1);(4,4),(3,3)}", .array(.text, delimiter: ";")).json
                == #"["(2,2),(1,1)","(4,4),(3,3)"]"#
        )
    }

    @Test(arguments: [("", "[]"), ("1", "[1]"), ("1 2 -3", "[1,2,-3]")])
    func vectorsAreSeparatedByBlanks(text: String, json: String) {
        #expect(rendered(.text(text), .vector).json == json)
    }

    @Test(arguments: [
        "", "{", "}", "1,2", "{1", "{1,", "{1,}", "{,1}", "{1}}", "{{1}", "{1}x", "x{1}", "{\"a}",
        "{\"a\\", "{a b}", "{a\"b}", "[1:2]", "[1:2]{1}", "={1}", "{{}}", "{{},{}}", "{1,{}}",
        "{a\\b}", "{{{{{{{1}}}}}}}", " {1}", "{1} ", "{\"a\"b}", "{1 }",
    ])
    func whatIsNoArrayIsDeliveredWhole(literal: String) throws {
        let value = rendered(.text(literal), .array(.text))
        #expect(value.note == .malformed)
        #expect(value.json == rendered(.text(literal), .text).json)
    }

    @Test(arguments: [" ", "1  2", " 1", "1 "])
    func whatIsNoVectorIsDeliveredWhole(text: String) {
        let value = rendered(.text(text), .vector)
        #expect(value.note == .malformed)
        #expect(value.json == "\"\(text)\"")
    }

    @Test func opaqueElementsStayInTheSourcesOwnText() {
        let type = ColumnType(.opaque, array: .literal(delimiter: 44), name: "public._hstore")
        let value = rendered(#"{"\"a\"=>\"1\""}"#, type)
        #expect(value.json == #""{\"\\\"a\\\"=>\\\"1\\\"\"}""#)
        #expect(value.note == .none)
    }

    @Test func everyPrefixIsAnArrayOrDeliveredWhole() throws {
        let literal = Array(#"[0:1][1:2]={{"a \"b\" \\ c",NULL},{é,"{x,y}"}}"#.utf8)
        for count in 0...literal.count {
            try checkNothingIsLost(Array(literal[..<count]), .array(.text))
        }
    }

    /// Bytes that mean something to the parser are frequent, so that most inputs get deep.
    @Test(arguments: [1, 2, 3, 4] as [UInt64])
    func noInputTrapsOrMakesInvalidJSON(seed: UInt64) throws {
        var random = SeededGenerator(seed: seed)
        let alphabet = Array(#"{}{},;"\[]:=-01 NULa"#.utf8)
        let types: [ColumnType] = [
            .array(.text), .array(.numeric), .array(.text, delimiter: ";"), .array(.timestampTZ),
            .array(.boolean), .vector,
        ]
        for _ in 0..<20_000 {
            let count = Int.random(in: 0...24, using: &random)
            let bytes = (0..<count).map { _ in alphabet.randomElement(using: &random) ?? 0 }
            try checkNothingIsLost(bytes, types.randomElement(using: &random) ?? .text)
        }
    }

    @Test(arguments: [5, 6] as [UInt64])
    func writtenArraysAreReadBack(seed: UInt64) throws {
        var random = SeededGenerator(seed: seed)
        let alphabet = Array("ab{},\"\\ N\u{1}é😀\n;'")
        for _ in 0..<5_000 {
            let elements = (0..<Int.random(in: 1...4, using: &random)).map { _ in
                String(
                    (0..<Int.random(in: 0...6, using: &random)).map { _ in
                        alphabet.randomElement(using: &random) ?? "x"
                    }
                )
            }
            let literal = elements.map { element in
                let escaped = element.flatMap { $0 == "\"" || $0 == "\\" ? ["\\", $0] : [$0] }
                return "\"\(String(escaped))\""
            }
            let value = rendered(.text("{\(literal.joined(separator: ","))}"), .array(.text))
            let expected = elements.map { rendered(.text($0), .text).json }
            #expect(value.json == "[\(expected.joined(separator: ","))]")
        }
    }

    private func checkNothingIsLost(_ bytes: [UInt8], _ type: ColumnType) throws {
        var renderer = ValueRenderer()
        var writer = JSONWriter()
        let note = unsafe bytes.withUnsafeBytes {
            unsafe renderer.append(.text, $0, as: ValueKind(type), into: &writer)
        }
        let json = writer.text
        if note == .malformed {
            var whole = JSONWriter()
            unsafe bytes.withUnsafeBytes { unsafe whole.appendQuoted($0) }
            let quoted = whole.text
            #expect(json == quoted)
        } else {
            #expect(json.hasPrefix("[") && json.hasSuffix("]"))
        }
        _ = try JSONDocument.parse(Array(json.utf8))
    }
}
