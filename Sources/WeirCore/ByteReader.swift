/// Bytes from outside that do not follow their format.
public struct MalformedBytes: Error, CustomStringConvertible {
    public let reason: StaticString
    public let offset: Int

    public init(_ reason: StaticString, at offset: Int) {
        self.reason = reason
        self.offset = offset
    }

    public var description: String { "\(reason) at byte \(offset)" }
}

/// A cursor over bytes from outside. Every read is checked; reading past the end throws.
///
/// Borrows the bytes: it must not outlive them.
@safe public struct ByteReader {
    private let bytes: UnsafeRawBufferPointer
    public private(set) var offset: Int

    public init(_ bytes: UnsafeRawBufferPointer, from offset: Int = 0) {
        unsafe self.bytes = bytes
        self.offset = offset
    }

    public var remaining: Int { unsafe bytes.count - offset }
    public var isAtEnd: Bool { remaining <= 0 }

    @inline(__always)
    private mutating func take(_ count: Int) throws(MalformedBytes) -> Int {
        guard count >= 0, remaining >= count else {
            throw MalformedBytes("bytes end early", at: offset)
        }
        defer { offset += count }
        return offset
    }

    public mutating func readByte() throws(MalformedBytes) -> UInt8 {
        let at = try take(1)
        return unsafe bytes[at]
    }

    /// Big-endian, as every integer of the PostgreSQL protocol.
    @inline(__always)
    public mutating func readInteger<T: FixedWidthInteger & BitwiseCopyable>(
        _ type: T.Type
    ) throws(MalformedBytes) -> T {
        let at = try take(MemoryLayout<T>.size)
        return unsafe T(bigEndian: bytes.loadUnaligned(fromByteOffset: at, as: T.self))
    }

    /// Moves past `count` bytes and returns where they begin.
    @inline(__always)
    public mutating func skip(_ count: Int) throws(MalformedBytes) -> Int {
        try take(count)
    }

    /// A NUL-terminated string; invalid UTF-8 is repaired, so use it for names, never for values.
    public mutating func readCString() throws(MalformedBytes) -> String {
        var end = offset
        while unsafe end < bytes.count, unsafe bytes[end] != 0 { end += 1 }
        guard unsafe end < bytes.count else { throw MalformedBytes("bytes end early", at: offset) }
        defer { offset = end + 1 }
        return unsafe String(decoding: bytes[offset..<end], as: UTF8.self)
    }
}
