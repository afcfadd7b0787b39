import Testing
import WeirMongoDBClient

/// Commands as bytes; the expected ones follow https://bsonspec.org/spec.html.
struct BSONWriterTests {
    @Test func everyKindOfMember() {
        var writer = BSONWriter()
        #expect(writer.bytes == [5, 0, 0, 0, 0])
        writer.append("s", "é")
        writer.append("t", true)
        writer.append("f", false)
        writer.append("i", int32: -2)
        writer.append("l", int64: 1 << 40)
        writer.append("z", timestamp: 5 << 32 | 6)
        writer.append("b", binary: [9, 8])
        let members: [[UInt8]] = [
            [0x02, 0x73, 0, 3, 0, 0, 0, 0xC3, 0xA9, 0], [0x08, 0x74, 0, 1], [0x08, 0x66, 0, 0],
            [0x10, 0x69, 0, 0xFE, 0xFF, 0xFF, 0xFF], [0x12, 0x6C, 0, 0, 0, 0, 0, 0, 1, 0, 0],
            [0x11, 0x7A, 0, 6, 0, 0, 0, 5, 0, 0, 0], [0x05, 0x62, 0, 2, 0, 0, 0, 0, 9, 8],
        ]
        let body = members.flatMap(\.self)
        #expect(writer.bytes == [UInt8(body.count + 5), 0, 0, 0] + body + [0])
    }

    @Test func documentsAndArrays() {
        let bytes = BSONWriter.document { outer in
            outer.appendDocument("d") { $0.append("", int32: 1) }
            outer.append("a", array: [BSONWriter().bytes, BSONWriter().bytes])
            outer.append("s", strings: ["x"])
            outer.appendArray("c") { $0.append("0", int64: 2) }
            let value: [UInt8] = [7]
            unsafe value.withUnsafeBytes { unsafe outer.append("v", type: 0x08, value: $0) }
        }
        let members: [[UInt8]] = [
            [0x03, 0x64, 0, 11, 0, 0, 0, 0x10, 0, 1, 0, 0, 0, 0],
            [0x04, 0x61, 0, 21, 0, 0, 0, 0x03, 0x30, 0, 5, 0, 0, 0, 0]
                + [0x03, 0x31, 0, 5, 0, 0, 0, 0, 0],
            [0x04, 0x73, 0, 14, 0, 0, 0, 0x02, 0x30, 0, 2, 0, 0, 0, 0x78, 0, 0],
            [0x04, 0x63, 0, 16, 0, 0, 0, 0x12, 0x30, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0],
            [0x08, 0x76, 0, 7],
        ]
        let body = members.flatMap(\.self)
        #expect(bytes == [UInt8(body.count + 5), 0, 0, 0] + body + [0])
    }
}
