import Testing
import WeirJSON
import WeirTesting
import WeirValues

/// Names and strings: order, escapes, and bytes that are no UTF-8.
struct BSONTextTests {
    @Test func membersComeInOrderAllOfOneNameAndTheEmptyName() {
        let one = [1, 0, 0, 0] as [UInt8]
        let bytes = document([
            element(.int32, "b", one), element(.int32, "", one), element(.null, "b", []),
            element(.string, "a longer name", stringValue("x")), element(.bool, "a", [0]),
        ])
        #expect(
            rendered(bytes, .relaxed).json
                == #"{"b":1,"":1,"b":null,"a longer name":"x","a":false}"#)
    }

    @Test func elementsComeInOrderWhateverTheirNames() {
        let names = ["1", "1", "", "x", "00000000000", "\u{E9}"]
        let bytes = document(names.map { element(.string, $0, stringValue($0)) })
        let wanted = names.map { "\"\($0)\"" }.joined(separator: ",")
        #expect(rendered(.array, bytes, .plain) == ("[\(wanted)]", .none))
    }

    @Test(arguments: [
        "", "a", "1234567", "12345678", "123456789", "a\"b\\c",
        "\0\u{1}\u{1F}\u{7F}\r\n\t\u{8}\u{C}",
        "\u{2028}\u{2029}", "é", "ééééééééé", "とても 良い です", "a😀b😀", "водонепр оницаемая",
        "12345678\"", "1234567\n8", "\u{FEFF}\u{FFFD}\u{10FFFF}\u{800}\u{7FF}",
    ])
    func textIsEscapedAsTheWriterDoes(text: String) {
        var writer = JSONWriter()
        writer.appendQuoted(string: text)
        let quoted = writer.text
        #expect(rendered(.string, stringValue(text), .plain) == (quoted, .none))
        #expect(plainText(.symbol, stringValue(text)) == text)
        let name = text.replacing("\0", with: "")
        let member = element(.string, name, stringValue(text))
        writer.removeAll()
        writer.appendQuoted(string: name)
        // Last in the buffer and far from its end take different ways.
        for tail in [[], [element(.string, "tail", stringValue("0123456789"))]] {
            let end = tail.isEmpty ? "}" : #","tail":"0123456789"}"#
            #expect(
                rendered(document([member] + tail), .plain)
                    == ("{\(writer.text):\(quoted)\(end)", .none))
        }
    }

    /// Bad bytes become what `String` makes of them.
    @Test(arguments: [
        "80", "C0", "C080", "C1BF", "E9", "E080AF", "E0A0", "EDA080", "EDBFBF", "F08080AF",
        "F0908080", "F48FBFBF", "F4908080", "F5808080", "FF", "61F09F98", "61E29862", "F09F9861",
        "E29886E298", "C3A9C3", "C361", "6161616161616161C3", "F0909061F09080", "ED9FBFEE8080",
    ])
    func badTextIsReplaced(hex: String) {
        for padding in ["", "abcdefg", "ü", "01234567890123456789"] {
            let bytes = Array(padding.utf8) + unhex(hex) + Array(padding.utf8)
            let wanted = String(decoding: bytes, as: UTF8.self)
            let note: ValueRenderer.Note = Array(wanted.utf8) == bytes ? .none : .replaced
            #expect(rendered(.string, stringValue(bytes), .plain) == ("\"\(wanted)\"", note))
            #expect(plainText(.string, stringValue(bytes)) == wanted)
            let named = document([[0x0A] + bytes + [0]])
            #expect(rendered(named, .relaxed) == ("{\"\(wanted)\":null}", note))
            let inside = document([element(.array, "a", document([element(.document, "0", named)]))]
            )
            #expect(rendered(inside, .relaxed).note == note)
        }
    }

    @Test func randomBytesBecomeWhatAStringMakesOfThem() {
        var generator = SeededGenerator(seed: 61)
        // Bytes that begin, continue and break sequences.
        let pieces: [UInt8] = [
            0x20, 0x41, 0x22, 0x5C, 0x0A, 0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF, 0xC0, 0xC2, 0xDF,
            0xE0,
            0xE1, 0xED, 0xEF, 0xF0, 0xF1, 0xF4, 0xF5, 0xFF,
        ]
        for _ in 0..<20_000 {
            let bytes = (0..<generator.below(24)).map { _ in pieces[generator.below(pieces.count)] }
            let text = String(decoding: bytes, as: UTF8.self)
            var writer = JSONWriter()
            writer.appendQuoted(string: text)
            let note: ValueRenderer.Note = Array(text.utf8) == bytes ? .none : .replaced
            #expect(rendered(.string, stringValue(bytes), .plain) == (writer.text, note))
            #expect(plainText(.string, stringValue(bytes)) == text)
        }
    }

    @Test func badTextOfRareTypesIsReplacedToo() {
        let bad: [UInt8] = [0x61, 0xFF]
        let id = [UInt8](repeating: 0, count: 12)
        let values: [(BSONType, [UInt8])] = [
            (.regex, bad + [0, 0]), (.regex, [0] + bad + [0]), (.code, stringValue(bad)),
            (.symbol, stringValue(bad)), (.dbPointer, stringValue(bad) + id),
        ]
        for (type, value) in values {
            for mode in DocumentMode.allCases {
                let (json, note) = rendered(type, value, mode)
                #expect(note == .replaced)
                #expect(json.contains("a\u{FFFD}"))
            }
        }
    }
}
