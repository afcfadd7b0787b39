import WeirCore

/// The type byte of a BSON element, by the names of the specification.
///
/// https://bsonspec.org/spec.html
package enum BSONType: UInt8, Sendable, BitwiseCopyable {
    case double = 0x01
    case string = 0x02
    case document = 0x03
    case array = 0x04
    case binary = 0x05
    case undefined = 0x06
    case objectId = 0x07
    case bool = 0x08
    case dateTime = 0x09
    case null = 0x0A
    case regex = 0x0B
    case dbPointer = 0x0C
    case code = 0x0D
    case symbol = 0x0E
    case codeWithScope = 0x0F
    case int32 = 0x10
    case timestamp = 0x11
    case int64 = 0x12
    case decimal128 = 0x13
    case maxKey = 0x7F
    case minKey = 0xFF
}

/// Walks the elements of one BSON document in place. Reads nothing outside of its bytes, whatever
/// they are, and builds nothing.
///
///     guard var cursor = BSONCursor(bytes) else { … }
///     while cursor.next() { … cursor.type … cursor.name … cursor.value … }
///     if cursor.isMalformed { … }
@safe
package struct BSONCursor {
    /// The document the cursor walks, and nothing behind it.
    package let bytes: UnsafeRawBufferPointer
    private let size: Int
    private var offset: Int
    /// Of the element at hand.
    package private(set) var type = BSONType.null
    /// The offsets of its name, without the NUL, and of its value.
    package private(set) var nameRange = 0..<0
    package private(set) var valueRange = 0..<0
    /// The walk ended before the document did.
    package private(set) var isMalformed = false

    /// Nil when the bytes do not begin with the length of a document that fits and ends in NUL.
    package init?(_ bytes: UnsafeRawBufferPointer) {
        guard bytes.count >= 5 else { return nil }
        let length = unsafe Int(bytes.loadUnaligned(as: Int32.self))
        guard length >= 5, length <= bytes.count, unsafe bytes[length - 1] == 0 else { return nil }
        unsafe self.bytes = UnsafeRawBufferPointer(rebasing: bytes[..<length])
        size = length
        offset = 4
    }

    /// Goes to the next element. False at the end, and where the bytes are no element.
    /// Complexity: O(length of the name).
    @inline(__always)
    package mutating func next() -> Bool {
        let last = size - 1
        guard offset < last else {
            // The terminator, and nothing before it that could have been an element.
            if offset > last { isMalformed = true }
            return false
        }
        guard let type = BSONType(rawValue: unsafe bytes[offset]) else { return fail() }
        let nameStart = offset + 1
        var nameEnd = nameStart
        while nameEnd < last, unsafe bytes[nameEnd] != 0 { nameEnd += 1 }
        guard nameEnd < last else { return fail() }
        let start = nameEnd + 1
        guard let length = size(of: type, at: start), length >= 0, length <= last - start else {
            return fail()
        }
        self.type = type
        nameRange = nameStart..<nameEnd
        valueRange = start..<(start + length)
        offset = start + length
        return true
    }

    /// Valid as long as the document's bytes.
    @inline(__always)
    package var name: UnsafeRawBufferPointer {
        unsafe UnsafeRawBufferPointer(rebasing: bytes[nameRange])
    }

    @inline(__always)
    package var value: UnsafeRawBufferPointer {
        unsafe UnsafeRawBufferPointer(rebasing: bytes[valueRange])
    }

    /// Whether the element's name is this one.
    @inline(__always)
    package func isNamed(_ text: StaticString) -> Bool {
        guard nameRange.count == text.utf8CodeUnitCount else { return false }
        return unsafe name.isSame(as: text)
    }

    private mutating func fail() -> Bool {
        isMalformed = true
        offset = size
        return false
    }

    /// The bytes of a value that begins at `start`; nil when they cannot be counted. What is
    /// returned may lie outside of the document, and is compared by the caller.
    @inline(__always)
    private func size(of type: BSONType, at start: Int) -> Int? {
        switch type {
        case .double, .dateTime, .timestamp, .int64: return 8
        case .int32: return 4
        case .bool: return 1
        case .null, .undefined, .minKey, .maxKey: return 0
        case .objectId: return 12
        case .decimal128: return 16
        case .string, .code, .symbol: return text(at: start)
        case .document, .array: return document(at: start)
        case .binary: return length(at: start).flatMap { $0 >= 0 ? 5 + $0 : nil }
        case .dbPointer: return text(at: start).map { $0 + 12 }
        case .regex:
            return terminated(at: start).flatMap { terminated(at: $0) }.map { $0 - start }
        case .codeWithScope:
            // The length counts itself, a string and a document.
            guard let whole = length(at: start), whole >= 14 else { return nil }
            return whole
        }
    }

    @inline(__always)
    private func length(at start: Int) -> Int? {
        guard start + 4 <= size else { return nil }
        return Int(unsafe bytes.loadUnaligned(fromByteOffset: start, as: Int32.self))
    }

    /// A length that counts the NUL, the bytes, the NUL.
    @inline(__always)
    private func text(at start: Int) -> Int? {
        guard let count = length(at: start), count >= 1, count <= size - start - 4,
            unsafe bytes[start + 4 + count - 1] == 0
        else { return nil }
        return 4 + count
    }

    @inline(__always)
    private func document(at start: Int) -> Int? {
        guard let count = length(at: start), count >= 5, count <= size - start,
            unsafe bytes[start + count - 1] == 0
        else { return nil }
        return count
    }

    /// Behind the NUL that ends the text at `start`.
    private func terminated(at start: Int) -> Int? {
        var index = start
        while index < size {
            if unsafe bytes[index] == 0 { return index + 1 }
            index += 1
        }
        return nil
    }
}
