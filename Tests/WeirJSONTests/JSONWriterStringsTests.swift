import Testing
import WeirJSON
import WeirTesting

@Suite struct JSONWriterStringsTests {
    /// `escape_json` of PostgreSQL, one byte at a time.
    private static func escaped(_ byte: UInt8) -> [UInt8] {
        switch byte {
        case 0x08: Array("\\b".utf8)
        case 0x0C: Array("\\f".utf8)
        case 0x0A: Array("\\n".utf8)
        case 0x0D: Array("\\r".utf8)
        case 0x09: Array("\\t".utf8)
        case 0x22: Array("\\\"".utf8)
        case 0x5C: Array("\\\\".utf8)
        case 0x00...0x0F: Array("\\u000\(String(byte, radix: 16))".utf8)
        case 0x10...0x1F: Array("\\u00\(String(byte, radix: 16))".utf8)
        default: [byte]
        }
    }

    private static func expectedQuoted(_ bytes: some Sequence<UInt8>) -> [UInt8] {
        [0x22] + bytes.flatMap(escaped) + [0x22]
    }

    /// Quotes a slice of `bytes`, so that the input starts at any alignment and ends before other
    /// bytes, which must not show.
    private func quoted(_ bytes: [UInt8], from start: Int = 0, count: Int? = nil) -> [UInt8] {
        written(capacity: 0) { writer in
            unsafe bytes.withUnsafeBytes {
                let end = start + (count ?? $0.count - start)
                unsafe writer.appendQuoted(UnsafeRawBufferPointer(rebasing: $0[start..<end]))
            }
        }
    }

    @Test func everyByteIsEscapedAsPostgreSQLDoesAtEveryAlignmentAndLength() {
        for byte in UInt8.min...UInt8.max {
            for alignment in 0...16 {
                for place in 0..<20 {
                    // Quotes around the input: reading beyond either end would show.
                    var bytes = [UInt8](repeating: 0x22, count: alignment + 40)
                    bytes.replaceSubrange(
                        alignment..<alignment + 20,
                        with: repeatElement(0x61, count: 20)
                    )
                    bytes[alignment + place] = byte
                    let count = place + 1 + place % 3
                    let input = bytes[alignment..<alignment + count]
                    if quoted(bytes, from: alignment, count: count) != Self.expectedQuoted(input) {
                        Issue.record("byte \(byte) at \(place) of \(count), alignment \(alignment)")
                    }
                }
            }
        }
    }

    @Test func everyByteAfterEveryByteIsEscapedOnItsOwn() {
        // Neighbours in one word: a borrow must never mark or hide the wrong byte.
        for first in UInt8.min...UInt8.max {
            for second in UInt8.min...UInt8.max {
                let bytes = [0x7F, first, second, 0x20, 0x21, 0x80, second, first, 0xFF]
                if quoted(bytes) != Self.expectedQuoted(bytes) {
                    Issue.record("\(first) \(second)")
                }
            }
        }
    }

    @Test func cleanStringsOfEveryLengthAreCopied() {
        let bytes = (0..<300).map { UInt8(0x23 + $0 % 0x39) }
        for count in 0...bytes.count {
            // A block of exactly this size, so that the address sanitizer sees a read outside it.
            let block = UnsafeMutableRawBufferPointer.allocate(byteCount: count, alignment: 1)
            defer { unsafe block.deallocate() }
            unsafe block.copyBytes(from: bytes.prefix(count))
            let output = written { unsafe $0.appendQuoted(UnsafeRawBufferPointer(block)) }
            #expect(output == [0x22] + bytes.prefix(count) + [0x22])
            #expect(unsafe isValidUTF8(UnsafeRawBufferPointer(block)))
        }
    }

    @Test func stringsOfNothingButEscapesGrowTheBuffer() {
        for byte in [UInt8(0x00), 0x22, 0x1F] {
            let bytes = [UInt8](repeating: byte, count: 5000)
            #expect(quoted(bytes) == Self.expectedQuoted(bytes))
        }
    }

    @Test func randomBytesAreEscapedAsPostgreSQLDoes() {
        var generator = SeededGenerator(seed: 7)
        for _ in 0..<3000 {
            let count = Int.random(in: 0..<80, using: &generator)
            let escapeShare = Int.random(in: 0...10, using: &generator)
            let bytes = (0..<count).map { _ -> UInt8 in
                let isAny = Int.random(in: 0..<10, using: &generator) < escapeShare
                return isAny ? .random(in: 0...255, using: &generator) : 0x78
            }
            if quoted(bytes) != Self.expectedQuoted(bytes) { Issue.record("\(bytes)") }
        }
    }

    @Test func quotedStringsParseBackToTheSame() throws {
        let texts = ["", "é😀\u{7F}\u{0}\u{1F}\"\\/\n", String(repeating: "€\t", count: 99)]
        for text in texts {
            let bytes = written { $0.appendQuoted(string: text) }
            #expect(try JSONDocument.parse(bytes).value == .string(text))
            #expect(bytes == Self.expectedQuoted(text.utf8))
        }
    }

    @Test func quotingFollowsWhatIsThere() {
        let text = writtenText { writer in
            writer.append("{")
            writer.appendQuoted(string: "a\nb")
            writer.append(":")
            unsafe writer.appendQuoted(UnsafeRawBufferPointer(start: nil, count: 0))
            writer.append("}")
        }
        #expect(text == #"{"a\nb":""}"#)
    }

    @Test func bytesAreQuotedInTheHexFormOfBytea() {
        func hex(_ bytes: [UInt8]) -> String {
            writtenText { writer in
                unsafe bytes.withUnsafeBytes { unsafe writer.appendQuotedHex($0) }
            }
        }
        #expect(hex([]) == #""\\x""#)
        #expect(hex([0x00]) == #""\\x00""#)
        #expect(hex([0xDE, 0xAD, 0xBE, 0xEF]) == #""\\xdeadbeef""#)
        let all = Array(UInt8.min...UInt8.max)
        for start in 0..<5 {
            let digits = all[start...].map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }
            #expect(hex(Array(all[start...])) == "\"\\\\x\(digits.joined())\"")
        }
    }

    @Test func splicedTextStaysOnOneLine() {
        func spliced(_ bytes: [UInt8]) -> [UInt8] {
            written(capacity: 0) { writer in
                writer.append("\n")
                unsafe bytes.withUnsafeBytes { unsafe writer.appendSpliced($0) }
            }
        }
        let text = "{\n\t\"a\" :\r\n [1,\n\n2], \"é\": \"\\n\"\n}\r"
        let expected = "\n{ \t\"a\" :   [1,  2], \"é\": \"\\n\" } "
        #expect(spliced(Array(text.utf8)) == Array(expected.utf8))
        for byte in UInt8.min...UInt8.max {
            for count in [1, 7, 8, 9, 16, 17] {
                for place in 0..<count {
                    var bytes = [UInt8](repeating: 0x0B, count: count)
                    bytes[place] = byte
                    let isBreak = byte == 0x0A || byte == 0x0D
                    var result = bytes
                    if isBreak { result[place] = 0x20 }
                    if spliced(bytes) != [0x0A] + result {
                        Issue.record("\(byte) \(place) \(count)")
                    }
                }
            }
        }
        #expect(spliced([]) == [0x0A])
    }
}
