import Testing
import WeirJSON
import WeirTesting
import WeirValues

/// Bytes that are no BSON, or hardly: whatever they are, what comes out is JSON on one line, and
/// nothing outside of them is read.
struct BSONFuzzTests {
    private func check(_ bytes: [UInt8], _ types: [BSONType] = [.document]) throws {
        for atEnd in [true, false] {
            let fenced = FencedBytes(bytes, atEnd: atEnd)
            for mode in DocumentMode.allCases {
                let renderer = BSONRenderer(mode)
                for type in types {
                    var writer = JSONWriter(capacity: 1)
                    let note = unsafe renderer.append(type, fenced.bytes, into: &writer)
                    let json = writer.text
                    #expect(throws: Never.self, "\(hexDigits(bytes))") {
                        try JSONDocument.parse(Array(json.utf8))
                    }
                    if note == .malformed { #expect(json == "\"\\\\x\(hexDigits(bytes))\"") }
                    #expect(!json.contains { $0.isNewline && $0.isASCII })
                    writer.removeAll()
                    _ = unsafe renderer.appendPlain(type, fenced.bytes, into: &writer)
                    let text = unsafe writer.withBytes { unsafe isValidUTF8($0) }
                    #expect(text)
                }
            }
            let path = [Array("Subdocument".utf8), Array("foo".utf8)]
            if let (_, value) = unsafe BSONPath.find(path, in: fenced.bytes) {
                #expect(value.count <= bytes.count)
            }
        }
    }

    @Test func shortBytesOfEveryType() throws {
        var generator = SeededGenerator(seed: 5)
        let types = (UInt8.min...UInt8.max).compactMap(BSONType.init)
        for _ in 0..<400 {
            // Small numbers, so that lengths come near to being right.
            let bytes = (0..<generator.below(30)).map { _ in
                UInt8(generator.below(generator.below(4) == 0 ? 256 : 24))
            }
            try check(bytes, types)
        }
    }

    @Test(arguments: 0..<6)
    func documentsWithAFewBytesChanged(seed: UInt64) throws {
        var generator = SeededGenerator(seed: 1000 + seed)
        let documents = BSONCorpusTests.sound.map { unhex($0.bytes) }
        for _ in 0..<1500 {
            var bytes = documents[generator.below(documents.count)]
            for _ in 0...generator.below(3) {
                let place = generator.below(bytes.count)
                switch generator.below(5) {
                case 0: bytes[place] = UInt8(generator.below(256))
                case 1: bytes[place] &+= 1
                case 2: bytes[place] ^= 1 << UInt8(generator.below(8))
                case 3: bytes.insert(UInt8(generator.below(256)), at: place)
                default: if bytes.count > 1 { bytes.remove(at: place) }
                }
            }
            // A length that fits, or the decoder would look no further.
            if bytes.count >= 5, generator.below(4) > 0 {
                bytes.replaceSubrange(0..<4, with: littleEndianBytes(Int32(bytes.count)))
            }
            try check(bytes)
        }
    }

    @Test func everyBeginningOfADocument() throws {
        for (hex, _) in BSONCorpusTests.sound {
            let bytes = unhex(hex)
            for count in 0..<bytes.count {
                var part = Array(bytes[..<count])
                #expect(rendered(part, .relaxed).note == .malformed)
                guard count >= 5 else { continue }
                // Cut off, but with a length and a NUL that say otherwise.
                part.replaceSubrange(0..<4, with: littleEndianBytes(Int32(count)))
                part[count - 1] = 0
                try check(part)
            }
        }
    }
}
