import WeirCore
import WeirJSON

// Values inside a column, and rows that are documents.

extension RowWriter {
    /// What came of looking for a path.
    enum Found {
        case written
        /// The value has nothing at the path.
        case absent
        /// The value is a key only, and lacks the path.
        case notSent
    }

    /// Appends a document that is a whole row, with no name around it. Returns 1, or 0 where there
    /// was nothing to show.
    mutating func appendDocument(
        _ field: Projection.Field,
        of image: Slice,
        in batch: BatchView,
        missing: Missing,
        into writer: inout JSONWriter
    ) -> Int {
        let value = batch.value(field.column, of: image)
        if value.form == .unchanged {
            if case .shown(let json) = missing {
                writer.append(json)
                return 1
            }
            if case .noted = missing { note(.unchanged, field.slot) }
            writer.append("{}")
            return 0
        }
        let bytes = unsafe batch.bytes(of: value)
        let outcome = unsafe renderer.append(value.form, bytes, as: field.kind, into: &writer)
        if outcome != .none { take(outcome, field.slot) }
        return 1
    }

    /// Appends what the path leads to in a value that was sent, as JSON.
    mutating func appendFound(
        _ path: [[UInt8]],
        _ value: Value,
        _ field: Projection.Field,
        in batch: BatchView,
        into writer: inout JSONWriter
    ) -> Found {
        let bytes = unsafe batch.bytes(of: value)
        switch value.form {
        case .text:
            switch unsafe JSONPath.find(path, in: bytes) {
            case .absent: return .absent
            case .null: writer.append("null")
            case .string(let range), .other(let range):
                unsafe writer.appendSpliced(UnsafeRawBufferPointer(rebasing: bytes[range]))
            }
            return .written
        case .bson, .bsonKey:
            guard let (type, found) = unsafe BSONPath.find(path, in: bytes) else {
                return value.form == .bsonKey ? .notSent : .absent
            }
            let outcome = unsafe BSONRenderer(field.kind.documents).append(
                type, found, into: &writer)
            if outcome != .none { take(outcome, field.slot) }
            return .written
        case .null:
            // Nothing is inside of it.
            return .absent
        case .binary:
            _ = unsafe renderer.append(.binary, bytes, as: field.kind, into: &writer)
            note(.binary, field.slot)
            return .written
        case .unchanged:
            return .notSent
        }
    }

    /// Whether the path leads to the same bytes in both values, or to nothing in both.
    func isSame(_ path: [[UInt8]], _ left: Value, _ right: Value, in batch: BatchView) -> Bool {
        guard left.form == .text, right.form == .text else { return false }
        let leftBytes = unsafe batch.bytes(of: left)
        let rightBytes = unsafe batch.bytes(of: right)
        let old = unsafe JSONPath.find(path, in: leftBytes)
        let new = unsafe JSONPath.find(path, in: rightBytes)
        switch (old, new) {
        case (.absent, .absent), (.null, .null): return true
        case (.string(let old), .string(let new)), (.other(let old), .other(let new)):
            return unsafe isEqual(
                UnsafeRawBufferPointer(rebasing: leftBytes[old]),
                UnsafeRawBufferPointer(rebasing: rightBytes[new]))
        default: return false
        }
    }
}
