package import WeirCore
package import WeirJSON

/// Writes values as JSON: those of tables byte for byte as PostgreSQL's `row_to_json` prints them,
/// documents as `DocumentMode` says.
///
/// The text of a value is what the server sends under `DateStyle=ISO`, `IntervalStyle=postgres`,
/// `TimeZone=UTC`, `extra_float_digits=3` and `bytea_output=hex`. There is one difference: a line
/// break inside `json` becomes a space, so that one event is one line; between tokens, the only
/// place where JSON allows it, that changes no value.
package struct ValueRenderer: ~Copyable {
    /// An array element without its backslashes; the memory is kept from value to value.
    var element: [UInt8] = []

    package init() {}

    /// What the reader of a value must be told beside it.
    package enum Note: UInt8, Sendable, BitwiseCopyable {
        case none
        /// The bytes are no text; they were written in hexadecimal.
        case binary
        /// The bytes do not follow their type's rules; they were written whole, as a string.
        case malformed
        /// Some text was no valid UTF-8; each bad part was replaced by U+FFFD.
        case replaced
    }

    /// Appends one value. The form `unchanged` has no JSON: callers leave such values out.
    ///
    /// - Parameter bytes: the bytes of `value` in the arena.
    package mutating func append(
        _ form: Value.Form,
        _ bytes: UnsafeRawBufferPointer,
        as kind: ValueKind,
        into writer: inout JSONWriter
    ) -> Note {
        switch form {
        case .text:
            switch kind.shape {
            case .scalar:
                unsafe appendScalar(bytes, as: kind.valueClass, into: &writer)
                return .none
            case .literal, .vector:
                return unsafe appendArray(bytes, as: kind, into: &writer)
            }
        case .null:
            writer.append("null")
            return .none
        case .bson where kind.valueClass == .document,
            .bsonKey where kind.valueClass == .document:
            return unsafe BSONRenderer(kind.documents).append(document: bytes, into: &writer)
        case .binary, .bson, .bsonKey:
            unsafe writer.appendQuotedHex(bytes)
            return .binary
        case .unchanged:
            preconditionFailure("an unchanged value has nothing to show")
        }
    }
}

/// The one place that knows how the text of each class becomes JSON.
@inline(__always)
func appendScalar(
    _ bytes: UnsafeRawBufferPointer,
    as valueClass: TypeClass,
    into writer: inout JSONWriter
) {
    switch valueClass {
    case .text, .opaque, .document:
        unsafe writer.appendQuoted(bytes)
    case .integer, .int64, .float, .numeric:
        if unsafe isJSONNumber(bytes) {
            unsafe writer.append(raw: bytes)
        } else {
            unsafe writer.appendQuoted(bytes)
        }
    case .boolean:
        switch unsafe bytes.count == 1 ? bytes[0] : 0 {
        case UInt8(ascii: "t"): writer.append("true")
        case UInt8(ascii: "f"): writer.append("false")
        default: unsafe writer.appendQuoted(bytes)
        }
    case .json:
        unsafe writer.appendSpliced(bytes)
    case .timestamp:
        unsafe appendTimestamp(bytes, zoned: false, into: &writer)
    case .timestampTZ:
        unsafe appendTimestamp(bytes, zoned: true, into: &writer)
    }
}

/// Whether the bytes are a number of RFC 8259. `NaN` and `Infinity` are not, nor is `007`.
func isJSONNumber(_ bytes: UnsafeRawBufferPointer) -> Bool {
    var index = 0
    let count = bytes.count
    if count > 0, unsafe bytes[0] == UInt8(ascii: "-") { index = 1 }
    let first = index
    unsafe skipDigits(bytes, &index)
    if index == first { return false }
    if index > first + 1, unsafe bytes[first] == UInt8(ascii: "0") { return false }
    if index < count, unsafe bytes[index] == UInt8(ascii: ".") {
        index += 1
        let fraction = index
        unsafe skipDigits(bytes, &index)
        if index == fraction { return false }
    }
    if index < count, unsafe bytes[index] | 0x20 == UInt8(ascii: "e") {
        index += 1
        if index < count,
            unsafe bytes[index] == UInt8(ascii: "+") || bytes[index] == UInt8(ascii: "-")
        {
            index += 1
        }
        let exponent = index
        unsafe skipDigits(bytes, &index)
        if index == exponent { return false }
    }
    return index == count
}

@inline(__always)
private func skipDigits(_ bytes: UnsafeRawBufferPointer, _ index: inout Int) {
    while index < bytes.count, unsafe bytes[index] &- UInt8(ascii: "0") <= 9 { index += 1 }
}

/// `2026-01-31 09:00:00+00 BC` as `"2026-01-31T09:00:00+00:00 BC"`; `infinity` as it is.
///
/// The server's XSD style differs from its ISO style in two places: `T` for the first blank, and
/// a zone of whole hours written with its minutes.
private func appendTimestamp(
    _ bytes: UnsafeRawBufferPointer,
    zoned: Bool,
    into writer: inout JSONWriter
) {
    let count = bytes.count
    var blank = -1
    var zone = -1
    var zoneEnd = count
    var index = 0
    while index < count {
        let byte = unsafe bytes[index]
        switch byte {
        case UInt8(ascii: " "):
            if blank < 0 { blank = index } else if zone >= 0 { zoneEnd = min(zoneEnd, index) }
        case UInt8(ascii: "+"), UInt8(ascii: "-"):
            if blank >= 0 { zone = index }
        case UInt8(ascii: "\""), UInt8(ascii: "\\"), 0..<0x20:
            // No timestamp has these; whatever it is, it stays a valid string.
            return unsafe writer.appendQuoted(bytes)
        default:
            break
        }
        index += 1
    }
    guard blank >= 0 else { return unsafe writer.appendQuoted(bytes) }
    writer.reserve(count + 5)
    writer.append(UInt8(ascii: "\""))
    unsafe writer.append(raw: UnsafeRawBufferPointer(rebasing: bytes[..<blank]))
    writer.append(UInt8(ascii: "T"))
    if zoned, zone >= 0, zoneEnd - zone == 3 {
        unsafe writer.append(raw: UnsafeRawBufferPointer(rebasing: bytes[(blank + 1)..<zoneEnd]))
        writer.append(":00")
        unsafe writer.append(raw: UnsafeRawBufferPointer(rebasing: bytes[zoneEnd...]))
    } else {
        unsafe writer.append(raw: UnsafeRawBufferPointer(rebasing: bytes[(blank + 1)...]))
    }
    writer.append(UInt8(ascii: "\""))
}
