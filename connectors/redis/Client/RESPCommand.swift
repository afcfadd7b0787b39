package import NIOCore

/// A command is an array of bulk strings: `writeCommand(partCount:)`, then as many `writeBulk`.
///
///     *2\r\n $3\r\n GET\r\n $3\r\n key\r\n
extension ByteBuffer {
    /// The head of a command of `partCount` parts, its name among them.
    package mutating func writeCommand(partCount: Int) {
        writeHeader(UInt8(ascii: "*"), partCount)
    }

    package mutating func writeBulk(_ text: String) {
        writeHeader(UInt8(ascii: "$"), text.utf8.count)
        writeString(text)
        writeLineEnd()
    }

    package mutating func writeBulk(_ bytes: [UInt8]) {
        writeHeader(UInt8(ascii: "$"), bytes.count)
        writeBytes(bytes)
        writeLineEnd()
    }

    package mutating func writeBulk(_ bytes: UnsafeRawBufferPointer) {
        writeHeader(UInt8(ascii: "$"), bytes.count)
        unsafe writeBytes(bytes)
        writeLineEnd()
    }

    package mutating func writeBulk(_ bytes: ByteBuffer) {
        writeHeader(UInt8(ascii: "$"), bytes.readableBytes)
        writeImmutableBuffer(bytes)
        writeLineEnd()
    }

    /// The number in decimal.
    package mutating func writeBulk(_ number: Int) {
        writeHeader(UInt8(ascii: "$"), decimalLength(number))
        writeDecimal(number)
        writeLineEnd()
    }

    /// A whole command, for those that are not sent per batch.
    package mutating func writeCommand(_ parts: [String]) {
        writeCommand(partCount: parts.count)
        for part in parts { writeBulk(part) }
    }

    private mutating func writeHeader(_ kind: UInt8, _ count: Int) {
        writeInteger(kind)
        writeDecimal(count)
        writeLineEnd()
    }

    private mutating func writeLineEnd() { writeInteger(0x0d0a as UInt16) }

    private mutating func writeDecimal(_ number: Int) {
        let start = writerIndex
        var index = start + decimalLength(number)
        writeRepeatingByte(UInt8(ascii: "-"), count: index - start)
        var rest = number.magnitude
        repeat {
            index -= 1
            setInteger(UInt8(ascii: "0") + UInt8(rest % 10), at: index)
            rest /= 10
        } while rest > 0
    }
}

/// Bytes of `number` in decimal, sign included.
private func decimalLength(_ number: Int) -> Int {
    var length = number < 0 ? 2 : 1
    var rest = number.magnitude / 10
    while rest > 0 {
        length += 1
        rest /= 10
    }
    return length
}
