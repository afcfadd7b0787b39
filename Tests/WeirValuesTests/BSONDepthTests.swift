import Testing
import WeirValues

struct BSONDepthTests {
    /// Documents in documents, `levels` in all.
    private func nested(_ levels: Int, _ type: BSONType) -> [UInt8] {
        var bytes = document([])
        for _ in 1..<levels { bytes = document([element(type, "a", bytes)]) }
        return bytes
    }

    @Test(arguments: [100, 200, 256])
    func deepDocumentsAreRendered(levels: Int) {
        let opening = String(repeating: #"{"a":"#, count: levels - 1)
        let closing = String(repeating: "}", count: levels - 1)
        for mode in DocumentMode.allCases {
            #expect(
                rendered(nested(levels, .document), mode) == ("\(opening){}\(closing)", .none))
        }
        // An array's last level is an array.
        let arrays = rendered(.array, nested(levels, .array), .relaxed)
        let brackets = String(repeating: "[", count: levels)
        #expect(arrays == (brackets + String(repeating: "]", count: levels), .none))
    }

    @Test(arguments: [257, 10_000], [BSONType.document, .array])
    func deeperOnesAreMalformed(levels: Int, type: BSONType) {
        let bytes = nested(levels, type)
        let hex = "\"\\\\x\(hexDigits(bytes))\""
        #expect(rendered(type, bytes, .relaxed) == (hex, .malformed))
    }

    @Test func scopesCountAsLevels() {
        var bytes = document([])
        for _ in 0..<1000 {
            let code = stringValue("")
            let length = littleEndianBytes(Int32(4 + code.count + bytes.count))
            bytes = document([element(.codeWithScope, "a", length + code + bytes)])
        }
        #expect(rendered(bytes, .plain).note == .malformed)
    }
}
