package import WeirCore
package import WeirJSON

/// Writes values as plain text: what a person expects in a Redis string, a hash's field or a key.
///
/// Text, numbers and whatever the source shows as text come as they are; booleans as `true` and
/// `false`; times as `row_to_json` shows them; JSON as it is; arrays as JSON; bytes as `\x…`. A
/// string inside JSON comes without quotes and escapes. Of a document a single value comes as
/// `BSONRenderer.appendPlain` says; an object, an array or the document itself is JSON.
///
/// A reference that was made with `asJSON` is written as JSON text instead, strings in quotes; SQL
/// NULL and a null at the path are no text there either.
package struct PlainRenderer: ~Copyable {
    private var renderer = ValueRenderer()
    /// For what is rendered once and then written in another way.
    var scratch = JSONWriter(capacity: 128)

    package init() {}

    package enum Outcome: Sendable {
        case written
        /// SQL NULL, or JSON's or BSON's null at the path.
        case null
        /// The value has nothing at the path.
        case absent
        /// The source did not send it: the column, or what a document of the key alone lacks.
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
        case .bson where reference.kind.valueClass == .document,
            .bsonKey where reference.kind.valueClass == .document:
            return append(reference, inDocument: value, in: batch, into: &writer)
        case .binary, .bson, .bsonKey:
            if reference.isJSON {
                unsafe writer.appendQuotedHex(batch.bytes(of: value))
            } else {
                unsafe appendHex(batch.bytes(of: value), into: &writer)
            }
            return .written
        case .text: break
        }
        let bytes = unsafe batch.bytes(of: value)
        if !reference.path.isEmpty {
            return unsafe append(
                reference.path, in: bytes, asJSON: reference.isJSON, into: &writer)
        }
        if reference.isJSON {
            _ = unsafe renderer.append(.text, bytes, as: reference.kind, into: &writer)
            return .written
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
        _ path: [[UInt8]], in text: UnsafeRawBufferPointer, asJSON: Bool,
        into writer: inout JSONWriter
    ) -> Outcome {
        switch unsafe JSONPath.find(path, in: text) {
        case .absent: return .absent
        case .null: return .null
        case .other(let range):
            unsafe writer.append(raw: UnsafeRawBufferPointer(rebasing: text[range]))
        case .string(let range) where asJSON:
            unsafe writer.append(raw: UnsafeRawBufferPointer(rebasing: text[range]))
        case .string(let range):
            let inner = unsafe UnsafeRawBufferPointer(
                rebasing: text[(range.lowerBound + 1)..<(range.upperBound - 1)])
            unsafe decodeJSONString(inner) { part in unsafe writer.append(raw: part) }
        }
        return .written
    }

    private func append(
        _ reference: FieldReference, inDocument value: Value, in batch: BatchView,
        into writer: inout JSONWriter
    ) -> Outcome {
        let bytes = unsafe batch.bytes(of: value)
        let renderer = BSONRenderer(reference.kind.documents)
        if reference.path.isEmpty {
            _ = unsafe renderer.append(document: bytes, into: &writer)
            return .written
        }
        guard let (type, found) = unsafe BSONPath.find(reference.path, in: bytes) else {
            // Of a key, what is not there was not sent (invariant 6).
            return value.form == .bsonKey ? .unchanged : .absent
        }
        if !reference.isJSON {
            return unsafe renderer.appendPlain(type, found, into: &writer)
        }
        if type == .null || type == .undefined { return .null }
        _ = unsafe renderer.append(type, found, into: &writer)
        return .written
    }

    private func appendHex(_ bytes: UnsafeRawBufferPointer, into writer: inout JSONWriter) {
        writer.append("\\x")
        for index in 0..<bytes.count {
            writer.appendHex(UInt64(unsafe bytes[index]), digits: 2, uppercase: false)
        }
    }
}

extension BatchView {
    /// The bytes by which rows are told apart without rendering them: what the reference leads to,
    /// and its BSON type, 0 for what is no BSON. Nil for null, for what was not sent and for a path
    /// that leads to nothing.
    ///
    /// Equal type and bytes are equal values. The reverse does not hold for numbers of a document:
    /// to MongoDB `1` is one key whether it is an int, a long or a double.
    /// - Parameter index: the place of the column's value among the batch's.
    package func keyBytes(
        of reference: FieldReference, valueAt index: Int
    ) -> (type: UInt8, bytes: UnsafeRawBufferPointer)? {
        let value = value(at: index)
        let bytes = unsafe self.bytes(of: value)
        switch value.form {
        case .null, .unchanged: return nil
        case _ where reference.path.isEmpty: return unsafe (0, bytes)
        case .bson, .bsonKey:
            guard let (type, found) = unsafe BSONPath.find(reference.path, in: bytes) else {
                return nil
            }
            return unsafe (type.rawValue, found)
        case .text:
            switch unsafe JSONPath.find(reference.path, in: bytes) {
            case .absent, .null: return nil
            case .string(let range), .other(let range):
                return unsafe (0, UnsafeRawBufferPointer(rebasing: bytes[range]))
            }
        case .binary: return unsafe (0, bytes)
        }
    }
}
