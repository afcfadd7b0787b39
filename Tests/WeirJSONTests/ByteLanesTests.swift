import Testing
import WeirJSON

struct ByteLanesTests {
    private func isHexOnly(_ bytes: [UInt8]) -> Bool {
        unsafe bytes.withUnsafeBytes { unsafe isHex($0) }
    }

    @Test func everyByteAtEveryPlaceIsJudged() {
        let digits = Set("0123456789abcdefABCDEF".utf8)
        for count in [1, 7, 8, 9, 16, 17] {
            for place in 0..<count {
                var bytes = [UInt8](repeating: UInt8(ascii: "7"), count: count)
                let wrong = (UInt8.min...UInt8.max).filter { byte in
                    bytes[place] = byte
                    return isHexOnly(bytes) != digits.contains(byte)
                }
                #expect(wrong.isEmpty, "at \(place) of \(count)")
            }
        }
        #expect(isHexOnly([]))
    }
}
