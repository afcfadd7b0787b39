/// Rows read beside the stream, for events that came without all their values.
///
/// The event's own values stay; only what was not sent is taken from the row. That part may be
/// newer than the event: a later change of it comes through the stream all the same.
public struct RowCompletion: Sendable {
    private let rows: EventBatch
    /// From the bytes of a key to the row's event.
    private let indexes: [[UInt8]: Int]

    /// - Parameter rows: what a `RowReader` returned for the events' keys.
    public init(_ rows: EventBatch) {
        self.rows = rows
        var indexes: [[UInt8]: Int] = [:]
        for (index, event) in rows.events.enumerated() {
            indexes[Self.joined(rows.keyBytes(of: event))] = index
        }
        self.indexes = indexes
    }

    /// The event alone in a batch, with every value there is; nil when its row is gone, because
    /// what became of it comes through the stream.
    public func complete(_ event: Event, of batch: EventBatch) -> EventBatch? {
        guard let index = indexes[Self.joined(batch.keyBytes(of: event))] else { return nil }
        let row = rows.events[index]
        let schema = batch.tables[Int(event.table)]
        var builder = BatchBuilder(reusing: EventBatch(), eventLimit: 1, byteLimit: 1 << 20)
        let table = builder.table(schema)
        func copy(
            _ image: Slice, filling fill: Slice?, into builder: inout BatchBuilder
        ) -> Slice {
            let start = builder.valueCount
            for offset in 0..<Int(image.count) {
                let value = batch.values[Int(image.start) + offset]
                if value.form == .unchanged, let fill {
                    let read = rows.values[Int(fill.start) + offset]
                    builder.append(read, from: rows)
                } else {
                    builder.append(value, from: batch)
                }
            }
            return Slice(start: start, count: Int(image.count))
        }
        let key = copy(event.key, filling: nil, into: &builder)
        let before = copy(event.before, filling: nil, into: &builder)
        let after = copy(event.after, filling: row.after, into: &builder)
        let details = copy(event.details, filling: nil, into: &builder)
        builder.append(
            Event(
                operation: event.operation, flags: event.flags, table: table,
                commit: event.commit, ordinal: event.ordinal, transaction: event.transaction,
                change: event.change, commitMicros: event.commitMicros, key: key, before: before,
                after: after, details: details))
        return builder.seal(resume: nil, end: nil)
    }

    /// Lengths keep neighbours apart.
    private static func joined(_ parts: [[UInt8]]) -> [UInt8] {
        parts.flatMap { part in Array("\(part.count):".utf8) + part }
    }
}

extension BatchBuilder {
    /// Copies a value and its bytes out of another batch.
    fileprivate mutating func append(_ value: Value, from batch: EventBatch) {
        let start = unsafe batch.arena.withUnsafeBytes { arena in
            unsafe append(UnsafeRawBufferPointer(rebasing: arena[value.bytes.range]))
        }
        append(Value(form: value.form, bytes: Slice(start: start, count: Int(value.bytes.count))))
    }
}

extension EventBatch {
    /// The text of each of the event's key columns.
    public func keyBytes(of event: Event) -> [[UInt8]] {
        event.key.range.map { index in
            Array(arena[values[index].bytes.range])
        }
    }
}
