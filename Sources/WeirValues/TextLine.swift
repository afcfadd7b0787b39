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
