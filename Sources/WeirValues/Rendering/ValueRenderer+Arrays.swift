// The text of an array, as PostgreSQL's array_out writes it:
//
//     [0:2][1:3]={{1,2,3},{"a b",NULL,"NULL"},{"x\"y","",\\}}
//     └ bounds ┘
//
// Bounds stand there only if one of them does not begin at 1; JSON has no place for them. An
// element is quoted if it is empty, reads NULL, or holds a quote, a backslash, a brace, the
// delimiter or white space; inside quotes a backslash stands before each quote and backslash.
// Unquoted NULL is null.
// Reference: https://www.postgresql.org/docs/current/arrays.html#ARRAYS-IO
//
// int2vector and oidvector are written `1 2 3`, with no braces.

import WeirCore
import WeirJSON

extension ValueRenderer {
    /// PostgreSQL's MAXDIM.
    private static let dimensionsMax = 6
    /// One huge element must not keep its memory for ever.
    private static let elementBytesKept = 1 << 20

    /// Appends an array as `array_to_json` does: `[[1,2],[3,null]]`, `[]`.
    ///
    /// Text that is no array is written whole, as a string, and reported: nothing of it is lost.
    mutating func appendArray(
        _ bytes: UnsafeRawBufferPointer,
        as kind: ValueKind,
        into writer: inout JSONWriter
    ) -> Note {
        let start = writer.count
        let isWellFormed =
            switch kind.shape {
            case .vector: unsafe appendVector(bytes, as: kind.valueClass, into: &writer)
            default: unsafe appendLiteral(bytes, as: kind, into: &writer)
            }
        if isWellFormed { return .none }
        writer.truncate(to: start)
        unsafe writer.appendQuoted(bytes)
        return .malformed
    }

    private func appendVector(
        _ bytes: UnsafeRawBufferPointer,
        as valueClass: TypeClass,
        into writer: inout JSONWriter
    ) -> Bool {
        writer.append(UInt8(ascii: "["))
        var start = 0
        while start < bytes.count {
            var end = start
            while end < bytes.count, unsafe bytes[end] != UInt8(ascii: " ") { end += 1 }
            // No element is empty, and no blank stands at the end.
            if end == start || end == bytes.count - 1 { return false }
            if start > 0 { writer.append(UInt8(ascii: ",")) }
            let element = unsafe UnsafeRawBufferPointer(rebasing: bytes[start..<end])
            unsafe appendScalar(element, as: valueClass, into: &writer)
            start = end + 1
        }
        writer.append(UInt8(ascii: "]"))
        return true
    }

    /// False when the text breaks a rule; what was appended until then is the caller's to remove.
    private mutating func appendLiteral(
        _ bytes: UnsafeRawBufferPointer,
        as kind: ValueKind,
        into writer: inout JSONWriter
    ) -> Bool {
        guard var index = unsafe boundsEnd(bytes) else { return false }
        var depth = 0
        // The scan is a loop over two states, so hostile nesting cannot exhaust the stack.
        var needsElement = true
        while true {
            guard index < bytes.count else { return false }
            let byte = unsafe bytes[index]
            if !needsElement {
                index += 1
                if byte == UInt8(ascii: "}") {
                    writer.append(UInt8(ascii: "]"))
                    depth -= 1
                    if depth == 0 { return index == bytes.count }
                } else if byte == kind.delimiter {
                    writer.append(UInt8(ascii: ","))
                    needsElement = true
                } else {
                    return false
                }
            } else if byte == UInt8(ascii: "{") {
                guard depth < Self.dimensionsMax else { return false }
                writer.append(UInt8(ascii: "["))
                depth += 1
                index += 1
                // Only the whole array can be empty.
                if depth == 1, index < bytes.count, unsafe bytes[index] == UInt8(ascii: "}") {
                    needsElement = false
                }
            } else {
                guard depth > 0, unsafe appendElement(bytes, &index, as: kind, into: &writer)
                else { return false }
                needsElement = false
            }
        }
    }

    /// Where the braces begin; nil if what stands before them are no bounds.
    private func boundsEnd(_ bytes: UnsafeRawBufferPointer) -> Int? {
        var index = 0
        while index < bytes.count {
            switch unsafe bytes[index] {
            case UInt8(ascii: "{"):
                return index == 0 ? 0 : nil
            case UInt8(ascii: "["), UInt8(ascii: "]"), UInt8(ascii: ":"), UInt8(ascii: "-"),
                UInt8(ascii: "0")...UInt8(ascii: "9"):
                index += 1
            case UInt8(ascii: "="):
                return index > 0 ? index + 1 : nil
            default:
                return nil
            }
        }
        return nil
    }

    @inline(__always)
    private mutating func appendElement(
        _ bytes: UnsafeRawBufferPointer,
        _ index: inout Int,
        as kind: ValueKind,
        into writer: inout JSONWriter
    ) -> Bool {
        if unsafe bytes[index] == UInt8(ascii: "\"") {
            return unsafe appendQuotedElement(bytes, &index, as: kind, into: &writer)
        }
        let start = index
        scan: while index < bytes.count {
            switch unsafe bytes[index] {
            case UInt8(ascii: "}"), kind.delimiter:
                break scan
            case UInt8(ascii: "\""), UInt8(ascii: "\\"), UInt8(ascii: "{"), UInt8(ascii: " "),
                0x09...0x0D:
                return false
            default:
                index += 1
            }
        }
        if index == start { return false }
        let element = unsafe UnsafeRawBufferPointer(rebasing: bytes[start..<index])
        if unsafe isNull(element) {
            writer.append("null")
        } else {
            unsafe appendScalar(element, as: kind.valueClass, into: &writer)
        }
        return true
    }

    private func isNull(_ bytes: UnsafeRawBufferPointer) -> Bool {
        guard bytes.count == 4 else { return false }
        let word = unsafe bytes.loadUnaligned(as: UInt32.self)
        return UInt32(bigEndian: word) == 0x4E55_4C4C
    }

    private mutating func appendQuotedElement(
        _ bytes: UnsafeRawBufferPointer,
        _ index: inout Int,
        as kind: ValueKind,
        into writer: inout JSONWriter
    ) -> Bool {
        index += 1
        var run = index
        var isEscaped = false
        if element.capacity > Self.elementBytesKept { element = [] }
        element.removeAll(keepingCapacity: true)
        while index < bytes.count {
            let byte = unsafe bytes[index]
            if byte == UInt8(ascii: "\\") {
                unsafe element.append(contentsOf: bytes[run..<index])
                isEscaped = true
                // The next run begins with what was escaped, whatever it is.
                run = index + 1
                index += 2
            } else if byte == UInt8(ascii: "\"") {
                break
            } else {
                index += 1
            }
        }
        guard index < bytes.count else { return false }
        let last = unsafe UnsafeRawBufferPointer(rebasing: bytes[run..<index])
        index += 1
        if isEscaped {
            unsafe element.append(contentsOf: last)
            unsafe element.withUnsafeBytes {
                unsafe appendScalar($0, as: kind.valueClass, into: &writer)
            }
        } else {
            unsafe appendScalar(last, as: kind.valueClass, into: &writer)
        }
        return true
    }
}
