import Testing
import WeirJSON

@Suite struct JSONWriterTests {
    /// `#expect` cannot take a value that is not copyable, so it is given what was read from one.
    private func expectCount(of writer: borrowing JSONWriter, _ count: Int) {
        let (counted, isEmpty) = (writer.count, writer.isEmpty)
        #expect(counted == count)
        #expect(isEmpty == (count == 0))
    }

    @Test func rawAppendsAreWrittenAsTheyAre() {
        let text = writtenText { writer in
            writer.append(UInt8(ascii: "{"))
            writer.append("\"k\":")
            writer.append(contentsOf: Array("[1,".utf8))
            writer.append(string: "é\"\n")
            unsafe Array("]}".utf8).withUnsafeBytes { unsafe writer.append(raw: $0) }
            unsafe writer.append(raw: UnsafeRawBufferPointer(start: nil, count: 0))
        }
        #expect(text == "{\"k\":[1,é\"\n]}")
    }

    @Test func growthKeepsWhatWasWritten() {
        var expected: [UInt8] = []
        let bytes = written(capacity: 0) { writer in
            for value in 0..<5000 {
                let byte = UInt8(truncatingIfNeeded: value)
                writer.append(byte)
                expected.append(byte)
                if value % 100 == 0 {
                    let run = [UInt8](repeating: byte, count: value)
                    writer.append(contentsOf: run)
                    expected += run
                }
            }
        }
        #expect(bytes == expected)
    }

    @Test func countFollowsRemovalAndTruncation() {
        var writer = JSONWriter(capacity: 8)
        expectCount(of: writer, 0)
        writer.append("hello, world")
        expectCount(of: writer, 12)
        writer.truncate(to: 5)
        writer.append("!")
        #expect(unsafe writer.withBytes { unsafe Array($0) } == Array("hello!".utf8))
        writer.truncate(to: 6)
        writer.truncate(to: 0)
        expectCount(of: writer, 0)
        writer.append("x")
        writer.removeAll()
        expectCount(of: writer, 0)
        writer.append("y")
        #expect(unsafe writer.withBytes { unsafe Array($0) } == [UInt8(ascii: "y")])
    }

    @Test func removalAndReserveKeepTheMemory() {
        var writer = JSONWriter()
        writer.reserve(100_000)
        let before = unsafe writer.withBytes { $0.baseAddress }
        writer.reserve(-1)
        for _ in 0..<3 {
            writer.append(contentsOf: [UInt8](repeating: 1, count: 100_000))
            writer.removeAll()
        }
        let after = unsafe writer.withBytes { $0.baseAddress }
        #expect(unsafe before == after)
    }

    @Test func errorsOfTheReaderPassThrough() {
        struct Refusal: Error {}
        let writer = JSONWriter()
        #expect(throws: Refusal.self) {
            try unsafe writer.withBytes { (_: UnsafeRawBufferPointer) throws(Refusal) -> Void in
                throw Refusal()
            }
        }
    }

    @Test(arguments: [
        0, 1, 9, 10, 11, 99, 100, 101, 999, 1000, 12_345, 4_294_967_295, 4_294_967_296,
        9_999_999_999_999_999_999, 10_000_000_000_000_000_000, UInt64.max,
    ])
    func unsignedNumbersAreWrittenInDecimal(_ value: UInt64) {
        #expect(writtenText { $0.appendDecimal(value) } == String(value))
    }

    @Test(arguments: [0, 1, -1, 9, -10, 1_234_567, Int64.max, Int64.min, Int64.min + 1])
    func signedNumbersAreWrittenInDecimal(_ value: Int64) {
        #expect(writtenText { $0.appendDecimal(value) } == String(value))
    }

    @Test func hexadecimalHasAFixedWidth() {
        func hex(_ value: UInt64, _ digits: Int, _ uppercase: Bool = false) -> String {
            writtenText { $0.appendHex(value, digits: digits, uppercase: uppercase) }
        }
        #expect(hex(0, 1) == "0")
        #expect(hex(0xABCDEF, 8) == "00abcdef")
        #expect(hex(0xABCDEF, 8, true) == "00ABCDEF")
        #expect(hex(0x0123_4567_89AB_CDEF, 16) == "0123456789abcdef")
        #expect(hex(.max, 16, true) == "FFFFFFFFFFFFFFFF")
        #expect(hex(0x1234, 2) == "34")
        #expect(hex(0xF, 20) == "0000000000000000000f")
        #expect(hex(1, 0) == "")
        #expect(hex(1, -3) == "")
    }

    @Test func numbersGrowTheBuffer() {
        let bytes = written(capacity: 0) { writer in
            for _ in 0..<100 {
                writer.appendDecimal(UInt64.max)
                writer.appendHex(0, digits: 16, uppercase: true)
                writer.appendTimestamp(microsSince1970: 0)
            }
        }
        #expect(bytes.count == 100 * (20 + 16 + 27))
    }
}
