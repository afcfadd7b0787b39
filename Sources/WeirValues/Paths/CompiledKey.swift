package import WeirCore
package import WeirJSON

/// A key template for one version of a table: rendering looks nothing up.
package struct CompiledKey: Sendable {
    private enum Part: Sendable {
        case literal([UInt8])
        case field(FieldReference)
    }

    private let parts: [Part]
    private let tagFields: Range<Int>?
    /// Every field is part of the table's key: their old values come with each change.
    package let columnsAreWithinKey: Bool

    /// What came of rendering.
    package enum Outcome: Sendable {
        case written
        /// A field is null or absent: the row has no key.
        case null
        /// The source did not send a column.
        case missing
    }

    init(_ template: KeyTemplate, _ schema: TableSchema) throws(WeirError) {
        var parts: [Part] = []
        var isWithinKey = true
        for part in template.parts {
            switch part {
            case .literal(let bytes): parts.append(.literal(bytes))
            case .field(let path):
                let reference = try path.find(in: schema, namedUnder: "key")
                isWithinKey = isWithinKey && reference.isWithinKey(of: schema)
                parts.append(.field(reference))
            }
        }
        self.parts = parts
        tagFields = template.tagFields
        columnsAreWithinKey = isWithinKey
    }

    /// Appends the key of a row image. What was appended is a key only if the outcome is `written`.
    package func append(
        row image: Slice, in batch: BatchView, using plain: inout PlainRenderer,
        into writer: inout JSONWriter
    ) -> Outcome {
        var tagStart = 0
        for index in parts.indices {
            if index == tagFields?.lowerBound { tagStart = writer.count }
            switch parts[index] {
            case .literal(let bytes): writer.append(contentsOf: bytes)
            case .field(let reference):
                switch plain.appendEscaped(reference, of: image, in: batch, into: &writer) {
                case .written: break
                case .null, .absent: return .null
                case .unchanged: return .missing
                }
            }
            // An empty tag would be none. A % alone comes from nowhere else.
            if index + 1 == tagFields?.upperBound, writer.count == tagStart { writer.append("%") }
        }
        return .written
    }
}

extension PlainRenderer {
    /// Appends a value with the bytes escaped that a key gives a meaning to.
    fileprivate mutating func appendEscaped(
        _ reference: FieldReference, of image: Slice, in batch: BatchView,
        into writer: inout JSONWriter
    ) -> Outcome {
        let start = writer.count
        let outcome = append(reference, of: image, in: batch, into: &writer)
        if outcome == .written { writer.escapeKey(from: start, using: &scratch) }
        return outcome
    }
}

extension JSONWriter {
    /// Rewrites what was appended since `start` with `%XX` for the bytes that need it; almost
    /// always none does.
    fileprivate mutating func escapeKey(from start: Int, using scratch: inout JSONWriter) {
        let isClean = unsafe withBytes { bytes in
            unsafe !bytes[start...].contains(where: needsEscape)
        }
        if isClean { return }
        scratch.removeAll()
        unsafe withBytes { bytes in
            unsafe scratch.append(raw: UnsafeRawBufferPointer(rebasing: bytes[start...]))
        }
        truncate(to: start)
        unsafe scratch.withBytes { value in
            for index in value.indices {
                let byte = unsafe value[index]
                if needsEscape(byte) {
                    append(UInt8(ascii: "%"))
                    appendHex(UInt64(byte), digits: 2, uppercase: true)
                } else {
                    append(byte)
                }
            }
        }
    }
}

extension FieldPath {
    /// - Throws: `values.unknown_column`.
    package func find(
        in schema: TableSchema, namedUnder key: String
    ) throws(WeirError) -> FieldReference {
        guard let reference = resolve(in: schema) else {
            throw .unknownColumn(text, in: schema, namedUnder: key)
        }
        return reference
    }
}

extension WeirError {
    static func unknownColumn(
        _ name: String, in schema: TableSchema, namedUnder key: String
    ) -> WeirError {
        let table = TableName(schema: schema.schema, name: schema.name)
        let near = schema.columns.map(\.name).nearest(to: name)
        return WeirError(
            .unknownColumn, .blocked, "column \"\(name)\" does not exist in table \"\(table)\"",
            detail: "The sink names it under \"\(key)\". Where it was dropped or renamed at the "
                + "source, what was written before is delivered: name another column under "
                + "\"\(key)\", or take it out, then: weir stop, weir start. A generated column is "
                + "there only if the source sends it: PostgreSQL does from version 18 on, where the "
                + "publication says publish_generated_columns = stored.",
            hint: near.map { "Did you mean \"\($0)\"?" }
                ?? "The table has: \(schema.columns.map(\.name).joined(separator: ", ")).")
    }
}
