import Testing
import WeirJSON
import WeirTesting

/// Inputs nobody wrote: none may trap, and what is refused says so properly.
@Suite struct JSONParserFuzzTests {
    private static let sample = """
        {
          "$schema": "weir.schema.json", // a comment
          "connections": { "db": { "url": "postgres://é@h/d", "n": [1, -2.5e+3, 0] } },
          "text": "\\"\\\\\\/\\b\\f\\n\\r\\t\\u0041\\ud83d\\ude00 😀",
          "flags": [true, false, null, [], {}, [[{"a": ""}]]]
        }
        """

    @Test func everyPrefixOfADocumentIsRefused() throws {
        let bytes = Array(Self.sample.utf8)
        #expect(refusal(of: bytes) == nil)
        for count in bytes.indices {
            let error = try #require(refusal(of: Array(bytes.prefix(count))), "prefix of \(count)")
            checkIsWellFormed(error, count: count)
        }
    }

    @Test func randomBytesNeverTrap() {
        var generator = SeededGenerator(seed: 1)
        for _ in 0..<4000 {
            let count = Int.random(in: 0..<64, using: &generator)
            let bytes = (0..<count).map { _ in UInt8.random(in: 0...255, using: &generator) }
            check(bytes)
        }
    }

    @Test func randomTokensNeverTrap() {
        let tokens = [
            "{", "}", "[", "]", ":", ",", "\"", "\\", "\\u", "d800", "dc00", "1", "-", "+", ".",
            "e", "0", "true", "null", " ", "\n", "\r", "//", "/", "é", "\u{FEFF}", "\u{0}", "\"a\"",
            "\"a\":",
        ]
        var generator = SeededGenerator(seed: 2)
        var accepted = 0
        for _ in 0..<6000 {
            let count = Int.random(in: 1..<12, using: &generator)
            let picked = (0..<count).map { _ in tokens.randomElement(using: &generator) ?? "" }
            if check(Array(picked.joined().utf8)) { accepted += 1 }
        }
        #expect(accepted > 0, "a canary: some of them are JSON")
    }

    @Test func mutatedDocumentsNeverTrap() {
        let original = Array(Self.sample.utf8)
        var generator = SeededGenerator(seed: 3)
        var accepted = 0
        for _ in 0..<4000 {
            var bytes = original
            for _ in 0..<Int.random(in: 1...4, using: &generator) {
                let offset = Int.random(in: 0..<bytes.count, using: &generator)
                switch Int.random(in: 0..<4, using: &generator) {
                case 0: bytes[offset] = UInt8.random(in: 0...255, using: &generator)
                case 1: bytes.remove(at: offset)
                case 2: bytes.insert(UInt8.random(in: 0...127, using: &generator), at: offset)
                default: bytes.swapAt(offset, Int.random(in: 0..<bytes.count, using: &generator))
                }
            }
            if check(bytes) { accepted += 1 }
        }
        #expect(accepted > 0 && accepted < 4000)
    }

    @Test func everyValueParsesAloneToTheSameValue() throws {
        var generator = SeededGenerator(seed: 4)
        for _ in 0..<300 {
            var text = ""
            appendRandomValue(to: &text, depth: 0, using: &generator)
            let bytes = Array(text.utf8)
            try checkSpans(of: try JSONDocument.parse(bytes), in: bytes)
        }
    }

    /// True if the bytes were accepted.
    @discardableResult
    private func check(_ bytes: [UInt8]) -> Bool {
        guard let error = refusal(of: bytes) else { return true }
        checkIsWellFormed(error, count: bytes.count)
        return false
    }

    private func checkIsWellFormed(_ error: JSONSyntaxError, count: Int) {
        let span = error.span
        #expect(span.start >= 0 && span.start <= span.end && span.end <= count, "\(error)")
        #expect(!error.message.isEmpty && error.message.last != ".", "\(error)")
        #expect(error.message.utf8.count < 200, "\(error)")
    }

    private func checkSpans(of node: JSONNode, in bytes: [UInt8]) throws {
        let alone = try JSONDocument.parse(Array(bytes[node.span.start..<node.span.end]))
        #expect(alone.span == SourceSpan(start: 0, end: node.span.end - node.span.start))
        switch (node.value, alone.value) {
        case (.object(let members), .object(let others)):
            #expect(members.map(\.key) == others.map(\.key))
            for member in members {
                let key = Array(bytes[member.keySpan.start..<member.keySpan.end])
                #expect(try JSONDocument.parse(key).value == .string(member.key))
                try checkSpans(of: member.value, in: bytes)
            }
        case (.array(let elements), .array(let others)):
            #expect(elements.count == others.count)
            for element in elements { try checkSpans(of: element, in: bytes) }
        default:
            #expect(node.value == alone.value)
        }
    }

    private func appendRandomValue(
        to text: inout String,
        depth: Int,
        using generator: inout SeededGenerator
    ) {
        let blanks = ["", " ", "\n", "\t// c\n", "\r\n"]
        func blank() { text += blanks.randomElement(using: &generator) ?? "" }
        let scalars = ["0", "-1.5e9", "true", "null", "\"\"", "\"é\\n\\u0000\"", "\"// \\\"\""]
        blank()
        let elementCount = Int.random(in: 0..<4, using: &generator)
        switch depth > 4 ? 0 : Int.random(in: 0..<3, using: &generator) {
        case 0:
            text += scalars.randomElement(using: &generator) ?? "1"
        case 1:
            text += "["
            for index in 0..<elementCount {
                if index > 0 { text += "," }
                appendRandomValue(to: &text, depth: depth + 1, using: &generator)
            }
            if elementCount == 0 { blank() }
            text += "]"
        default:
            text += "{"
            for index in 0..<elementCount {
                if index > 0 { text += "," }
                blank()
                text += "\"k\(index % 2)\""
                blank()
                text += ":"
                appendRandomValue(to: &text, depth: depth + 1, using: &generator)
            }
            text += "}"
        }
        blank()
    }
}
