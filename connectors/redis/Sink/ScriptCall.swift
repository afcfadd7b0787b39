import NIOCore
import WeirCore
import WeirJSON
import WeirRedisClient

/// One call of a script, gathered key by key: keys, side keys and arguments grow apart and are put
/// together at the end, because Redis wants all keys first. Its memory is kept from call to call.
struct ScriptCall: ~Copyable {
    private(set) var count = 0
    private var keys = JSONWriter(capacity: 16 << 10)
    private var sides = JSONWriter(capacity: 16 << 10)
    private var arguments = JSONWriter(capacity: 128 << 10)
    private var argumentCount = 0
    /// Where the last key lies in `keys`.
    private var lastKey = 0..<0

    /// Redis does nothing else while a script runs: so many rows take about half a millisecond.
    /// Lua could unpack some 8,000.
    static let countMax = 128
    /// And so many bytes, but always one row.
    static let bytesMax = 256 << 10

    /// - Parameter countMax: 1 where keys may live in different slots.
    func isFull(countMax: Int) -> Bool {
        count >= min(countMax, Self.countMax) || arguments.count + keys.count >= Self.bytesMax
    }

    var isEmpty: Bool { count == 0 }

    /// Of keys and arguments.
    var byteCount: Int { keys.count + sides.count + arguments.count }

    /// The key appended last, cut to what a message may hold.
    var lastKeyText: String {
        let shown = lastKey.prefix(Self.shownBytes)
        let text = unsafe keys.withBytes { bytes in
            unsafe String(
                decoding: UnsafeRawBufferPointer(rebasing: bytes[shown]), as: UTF8.self)
        }
        return ForeignText.visible(text) + (shown.count < lastKey.count ? "…" : "")
    }

    private static let shownBytes = 200

    mutating func append(key: UnsafeRawBufferPointer, side: UnsafeRawBufferPointer) {
        unsafe keys.appendBulk(key)
        let end = keys.count - 2
        lastKey = end - key.count..<end
        unsafe sides.appendBulk(side)
        count += 1
    }

    // MARK: Arguments

    mutating func append(argument bytes: UnsafeRawBufferPointer) {
        unsafe arguments.appendBulk(bytes)
        argumentCount += 1
    }

    mutating func append(argument literal: StaticString) {
        literal.withUTF8Buffer { bytes in
            unsafe arguments.appendBulk(UnsafeRawBufferPointer(bytes))
        }
        argumentCount += 1
    }

    /// The text of a side key.
    mutating func append(side version: EventVersion, isTombstone: Bool = false) {
        arguments.append(UInt8(ascii: "$"))
        arguments.appendDecimal(UInt64(version.count + (isTombstone ? 1 : 0)))
        arguments.append("\r\n")
        arguments.append(version)
        if isTombstone { arguments.append(UInt8(ascii: "!")) }
        arguments.append("\r\n")
        argumentCount += 1
    }

    mutating func append(argument number: Int) {
        arguments.append(UInt8(ascii: "$"))
        arguments.appendDecimal(UInt64(decimalDigits(number)))
        arguments.append("\r\n")
        arguments.appendDecimal(UInt64(number))
        arguments.append("\r\n")
        argumentCount += 1
    }

    /// Arguments that were encoded elsewhere.
    mutating func append(encoded: borrowing JSONWriter, count: Int) {
        unsafe encoded.withBytes { bytes in unsafe arguments.append(raw: bytes) }
        argumentCount += count
    }

    // MARK: The command

    /// Appends `EVALSHA sha 2n key… side… lead… argument…` and begins anew.
    ///
    /// - Parameter lead: what the script takes once and not per key.
    mutating func finish(sha: String, lead: [String], into buffer: inout ByteBuffer) {
        buffer.reserveCapacity(
            buffer.writerIndex + keys.count + sides.count + arguments.count + 512)
        buffer.writeCommand(partCount: 3 + 2 * count + lead.count + argumentCount)
        buffer.writeBulk("EVALSHA")
        buffer.writeBulk(sha)
        buffer.writeBulk(2 * count)
        buffer.append(keys)
        buffer.append(sides)
        for text in lead { buffer.writeBulk(text) }
        buffer.append(arguments)
        removeAll()
    }

    mutating func removeAll() {
        lastKey = 0..<0
        keys.removeAll()
        sides.removeAll()
        arguments.removeAll()
        argumentCount = 0
        count = 0
        keys.shrink(to: Self.bytesMax)
        sides.shrink(to: Self.bytesMax)
        arguments.shrink(to: Self.bytesMax)
    }
}

private func decimalDigits(_ number: Int) -> Int {
    var digits = 1
    var rest = number / 10
    while rest > 0 {
        digits += 1
        rest /= 10
    }
    return digits
}

extension JSONWriter {
    /// Appends a bulk string: its length, the bytes as they are, and so no byte of it can be taken
    /// for anything else.
    mutating func appendBulk(_ bytes: UnsafeRawBufferPointer) {
        append(UInt8(ascii: "$"))
        appendDecimal(UInt64(bytes.count))
        append("\r\n")
        unsafe append(raw: bytes)
        append("\r\n")
    }
}

extension ByteBuffer {
    fileprivate mutating func append(_ writer: borrowing JSONWriter) {
        unsafe writer.withBytes { bytes in _ = unsafe writeBytes(bytes) }
    }
}
