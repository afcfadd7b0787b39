import Testing
import WeirCore

struct SameBytesTests {
    private func isSame(_ one: [UInt8], _ other: [UInt8]) -> Bool {
        unsafe one.withUnsafeBytes { one in
            unsafe other.withUnsafeBytes { unsafe one.isSame(as: $0) }
        }
    }

    @Test func everyByteCounts() {
        for count in [0, 1, 7, 8, 9, 15, 16, 17] {
            let bytes = (0..<count).map { UInt8($0) }
            #expect(isSame(bytes, bytes))
            #expect(!isSame(bytes, bytes + [0]))
            #expect(!isSame(bytes + [0], bytes))
            for place in 0..<count {
                var other = bytes
                other[place] ^= 0x80
                #expect(!isSame(bytes, other), "at \(place) of \(count)")
            }
        }
    }

    @Test func textIsComparedAsItsBytes() {
        let word = Array("operationType".utf8)
        unsafe word.withUnsafeBytes { bytes in
            let isIt = unsafe bytes.isSame(as: "operationType")
            let isOther = unsafe bytes.isSame(as: "operationTypo")
            #expect(isIt && !isOther)
        }
    }
}
