package import WeirCore
package import WeirJSON

/// Writes values as plain text: what a person expects in a Redis string, a hash's field or a key.
///
/// Text, numbers and whatever the source shows as text come as they are; booleans as `true` and
/// `false`; times as `row_to_json` shows them; JSON as it is; arrays as JSON; bytes as `\x…`. A
/// string inside JSON comes without quotes and escapes.
package struct PlainRenderer: ~Copyable {
    private var renderer = ValueRenderer()
    /// For what is rendered once and then written in another way.
    var scratch = JSONWriter(capacity: 128)

    package init() {}

    package enum Outcome: Sendable {
        case written
        /// SQL NULL, or JSON's null at the path.
        case null
        /// The JSON value has nothing at the path.
        case absent
        /// The source did not send the column.
        case unchanged
    }

    /// Appends a value of a row image, or nothing.
    package mutating func append(
        _ reference: FieldReference, of image: Slice, in batch: BatchView,
        into writer: inout JSONWriter
    ) -> Outcome {
        let value = batch.value(reference.column, of: image)
        switch value.form {
        case .null: return .null
        case .unchanged: return .unchanged
        case .binary, .bson:
            unsafe appendHex(batch.bytes(of: value), into: &writer)
            return .written
        case .text: break
        }
        let bytes = unsafe batch.bytes(of: value)
        if !reference.path.isEmpty {
            return unsafe append(reference.path, in: bytes, into: &writer)
        }
        switch reference.kind.shape {
        case .scalar: unsafe append(bytes, as: reference.kind.valueClass, into: &writer)
        case .literal, .vector:
            let start = writer.count
            let note = unsafe renderer.append(.text, bytes, as: reference.kind, into: &writer)
            if note != .none {
                writer.truncate(to: start)
                unsafe writer.append(raw: bytes)
            }
        }
        return .written
    }

    private mutating func append(
        _ bytes: UnsafeRawBufferPointer, as valueClass: TypeClass, into writer: inout JSONWriter
    ) {
        switch valueClass {
        case .text, .opaque, .document, .json, .integer, .int64, .float, .numeric:
            unsafe writer.append(raw: bytes)
        case .boolean:
            switch unsafe bytes.count == 1 ? bytes[0] : 0 {
            case UInt8(ascii: "t"): writer.append("true")
            case UInt8(ascii: "f"): writer.append("false")
            default: unsafe writer.append(raw: bytes)
            }
        case .timestamp, .timestampTZ:
            scratch.removeAll()
            unsafe appendScalar(bytes, as: valueClass, into: &scratch)
            unsafe scratch.withBytes { quoted in
                unsafe writer.append(
                    raw: UnsafeRawBufferPointer(rebasing: quoted[1..<(quoted.count - 1)]))
            }
        }
    }

    private func append(
        _ path: [[UInt8]], in text: UnsafeRawBufferPointer, into writer: inout JSONWriter
    ) -> Outcome {
        switch unsafe JSONPath.find(path, in: text) {
        case .absent: return .absent
        case .null: return .null
        case .other(let range):
            unsafe writer.append(raw: UnsafeRawBufferPointer(rebasing: text[range]))
        case .string(let range):
            let inner = unsafe UnsafeRawBufferPointer(
                rebasing: text[(range.lowerBound + 1)..<(range.upperBound - 1)])
            unsafe decodeJSONString(inner) { part in unsafe writer.append(raw: part) }
        }
        return .written
    }

    private func appendHex(_ bytes: UnsafeRawBufferPointer, into writer: inout JSONWriter) {
        writer.append("\\x")
        for index in 0..<bytes.count {
            writer.appendHex(UInt64(unsafe bytes[index]), digits: 2, uppercase: false)
        }
    }
}
