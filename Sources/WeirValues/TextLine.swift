import WeirCore
import WeirJSON

extension LineEncoder {
    /// Appends one short line for people:
    ///
    ///     2026-11-21T02:03:04.123Z update cms.articles {"_id":1} {"_id":1,"title":"a"} late
    ///
    /// Time, operation, table, key, the row after, and what must be known about it. A program reads
    /// the format `weir`.
    mutating func appendTextLine(
        _ event: Event,
        _ table: borrowing CompiledTable,
        _ batch: BatchView,
        into writer: inout JSONWriter
    ) {
        let start = writer.count
        rows.begin(table.projection)
        if event.commitMicros != Event.noTime {
            writer.append(date: event.commitMicros / 1000, keepsZeros: true)
            writer.append(UInt8(ascii: " "))
        }
        writer.append(event.operation.name)
        writer.append(contentsOf: table.constants.source)
        if event.operation == .message {
            writer.append(UInt8(ascii: " "))
            unsafe writer.appendQuoted(batch.bytes(of: batch.value(0, of: event.after)))
        }
        if !event.key.isEmpty {
            writer.append(UInt8(ascii: " "))
            rows.appendObject(
                table.projection.keyTuple, of: event.key, in: batch, table.projection,
                into: &writer)
        }
        if !event.after.isEmpty, event.operation != .message {
            writer.append(UInt8(ascii: " "))
            rows.appendObject(
                table.projection.fields, of: event.after, in: batch, table.projection,
                into: &writer)
        }
        if event.has(Event.late) { writer.append(" late") }
        if event.has(Event.rowGone) { writer.append(" gone") }
        if event.has(Event.dropped) { writer.append(" dropped") }
        writer.append(UInt8(ascii: "\n"))
        writer.escapeForTerminal(from: start)
    }
}

extension JSONWriter {
    /// Replaces what acts on a terminal, in the lines of JSON appended since `start`, by JSON's own
    /// escapes: control characters of both sets and what changes the direction of text. A reader of
    /// JSON gets the same values. Complexity: O(bytes), and a copy where any is no plain ASCII.
    package mutating func escapeForTerminal(from start: Int) {
        let isPlain = unsafe withBytes { bytes in
            unsafe bytes[start...].allSatisfy { byte in
                (0x20..<0x7F).contains(byte) || byte == UInt8(ascii: "\n")
            }
        }
        if isPlain { return }
        let text = unsafe withBytes { bytes in
            unsafe String(
                decoding: UnsafeRawBufferPointer(rebasing: bytes[start...]), as: UTF8.self)
        }
        truncate(to: start)
        for scalar in text.unicodeScalars {
            if scalar != "\n", ForeignText.acts(scalar) {
                for unit in UTF16.encode(scalar) ?? .init() {
                    append(#"\u"#)
                    appendHex(UInt64(unit), digits: 4, uppercase: false)
                }
            } else {
                for byte in UTF8.encode(scalar) ?? .init() { append(byte) }
            }
        }
    }
}

extension LineConstants {
    /// The table's name behind a blank, with JSON's escapes: no name breaks the line or commands a
    /// terminal.
    static func text(_ schema: TableSchema) -> LineConstants {
        var constants = LineConstants()
        if schema.isMessages { return constants }
        var writer = JSONWriter(capacity: 128)
        writer.appendQuoted(string: "\(TableName(schema: schema.schema, name: schema.name))")
        constants.source = [UInt8(ascii: " ")] + writer.bytes.dropFirst().dropLast()
        return constants
    }
}
