// One line of the format `debezium` (shown here on several), Debezium's envelope with schemas off:
//
//     {"before":{…}|null,"after":{…}|null,
//      "source":{"version":"weir","connector":"postgresql","name":"shop","ts_ms":…,"ts_us":…,
//                "ts_ns":…,"snapshot":"false","db":"shop","sequence":"[\"24023128\",\"24023120\"]",
//                "schema":"public","table":"orders","txId":745,"lsn":24023120,"xmin":null},
//      "op":"c","ts_ms":…,"ts_us":…,"ts_ns":…,"transaction":null}
//
// https://debezium.io/documentation/reference/stable/connectors/postgresql.html#postgresql-events
//
// That of a document is in DebeziumLine+Documents.swift.
//
// It differs from Debezium where Debezium's line would not be the same on redelivery: the outer
// times are the commit's, and `sequence` holds the change's own commit, not the one before. Values
// are rendered as everywhere in Weir. A `before` that is only a key holds only the key's columns.
// This is the only format with a magic string: Debezium's readers wait for it.

import WeirCore
import WeirJSON

extension LineConstants {
    /// `source` up to the first time, `sourceEnd` from the end of `sequence` to `txId`.
    static func debezium(_ schema: TableSchema, name: String) -> LineConstants {
        var constants = LineConstants()
        var writer = JSONWriter(capacity: 256)
        writer.append(#""source":{"version":"weir","connector":"postgresql","name":"#)
        writer.appendQuoted(string: name)
        writer.append(UInt8(ascii: ","))
        constants.source = writer.bytes

        writer.removeAll()
        writer.append(#","db":"#)
        writer.appendQuoted(string: schema.database)
        writer.append(#","sequence":"[\""#)
        constants.sourceEnd = writer.bytes

        writer.removeAll()
        writer.append(#"\"]","schema":"#)
        writer.appendQuoted(string: schema.schema)
        writer.append(#","table":"#)
        writer.appendQuoted(string: schema.name)
        writer.append(#","txId":"#)
        constants.end = writer.bytes
        return constants
    }
}

extension LineEncoder {
    /// Appends the records Debezium would send; an update of the key is a delete and a create. A
    /// delete may be followed by a tombstone, `null`: for Kafka it is a record of its own that lets
    /// a compacted topic forget the key, in a file it is a line that says nothing.
    mutating func appendDebeziumLines(
        _ event: Event,
        _ table: borrowing CompiledTable,
        _ batch: BatchView,
        into writer: inout JSONWriter
    ) {
        if !stamp.fits(event) { stampDebezium(event) }
        rows.begin(table.projection)
        switch event.operation {
        case .insert:
            appendRecord("c", event, before: .empty, after: event.after, table, batch, &writer)
        case .read:
            appendRecord("r", event, before: .empty, after: event.after, table, batch, &writer)
        case .update where event.has(Event.keyChanged):
            appendRecord("d", event, before: event.before, after: .empty, table, batch, &writer)
            appendTombstone(to: &writer)
            appendRecord("c", event, before: .empty, after: event.after, table, batch, &writer)
        case .update:
            appendRecord(
                "u",
                event,
                before: event.before,
                after: event.after,
                table,
                batch,
                &writer
            )
        case .delete:
            appendRecord("d", event, before: event.before, after: .empty, table, batch, &writer)
            appendTombstone(to: &writer)
        case .truncate:
            appendRecord("t", event, before: .empty, after: .empty, table, batch, &writer)
        case .message:
            appendMessageRecord(event, table, batch, &writer)
        }
    }

    func appendTombstone(to writer: inout JSONWriter) {
        if tombstones { writer.append("null\n") }
    }

    private mutating func appendRecord(
        _ operation: StaticString,
        _ event: Event,
        before: Slice,
        after: Slice,
        _ table: borrowing CompiledTable,
        _ batch: BatchView,
        _ writer: inout JSONWriter
    ) {
        writer.append(#"{"before":"#)
        appendImage(before, missing: .leftOut, table.projection, batch, &writer)
        writer.append(#","after":"#)
        appendImage(
            after,
            missing: .shown(#""__debezium_unavailable_value""#),
            table.projection,
            batch,
            &writer
        )
        writer.append(UInt8(ascii: ","))
        appendSource(of: event, table, &writer)
        writer.append(#","op":""#)
        writer.append(operation)
        writer.append(#"","#)
        stamp.appendFirst(to: &writer)
        writer.append(",\"transaction\":null}\n")
    }

    private mutating func appendImage(
        _ image: Slice,
        missing: RowWriter.Missing,
        _ projection: borrowing Projection,
        _ batch: BatchView,
        _ writer: inout JSONWriter
    ) {
        if image.isEmpty {
            writer.append("null")
        } else {
            rows.appendObject(
                projection.fields,
                of: image,
                in: batch,
                projection,
                missing: missing,
                into: &writer
            )
        }
    }

    private func appendSource(
        of event: Event,
        _ table: borrowing CompiledTable,
        _ writer: inout JSONWriter
    ) {
        writer.append(contentsOf: table.constants.source)
        stamp.appendFirst(to: &writer)
        writer.append(
            event.operation == .read ? #","snapshot":"true""# : #","snapshot":"false""#
        )
        writer.append(contentsOf: table.constants.sourceEnd)
        stamp.appendSecond(to: &writer)
        writer.appendDecimal(event.change)
        writer.append(contentsOf: table.constants.end)
        stamp.appendThird(to: &writer)
        writer.appendDecimal(event.change)
        writer.append(#","xmin":null}"#)
    }

    /// A message has no images: `{"source":{…},"op":"m","ts_ms":…,"message":{…}}`.
    private func appendMessageRecord(
        _ event: Event,
        _ table: borrowing CompiledTable,
        _ batch: BatchView,
        _ writer: inout JSONWriter
    ) {
        writer.append(UInt8(ascii: "{"))
        appendSource(of: event, table, &writer)
        writer.append(#","op":"m","#)
        stamp.appendFirst(to: &writer)
        writer.append(#","message":{"prefix":"#)
        unsafe writer.appendQuoted(batch.bytes(of: batch.value(0, of: event.after)))
        writer.append(#","content":""#)
        unsafe writer.append(base64: batch.bytes(of: batch.value(1, of: event.after)))
        writer.append("\"}}\n")
    }

    /// First the three times, then `sequence` up to the change, then `txId` up to `lsn`.
    private mutating func stampDebezium(_ event: Event) {
        stamp.rewrite(for: event) {
            $0.append(debeziumTimesOf: event)
        } second: {
            $0.appendDecimal(event.commit)
            $0.append(#"\",\""#)
        } third: {
            if event.transaction == 0 {
                $0.append("null")
            } else {
                $0.appendDecimal(UInt64(event.transaction))
            }
            $0.append(#","lsn":"#)
        }
    }
}

extension JSONWriter {
    /// Appends the commit's time in three units.
    mutating func append(debeziumTimesOf event: Event) {
        let micros = event.commitMicros
        if micros == Event.noTime {
            return append(#""ts_ms":null,"ts_us":null,"ts_ns":null"#)
        }
        append(#""ts_ms":"#)
        append(millisOf: event)
        append(#","ts_us":"#)
        appendDecimal(micros)
        append(#","ts_ns":"#)
        // Nanoseconds of far years exceed 64 bits; their digits do not.
        appendDecimal(micros)
        if micros != 0 { append("000") }
    }

    /// Appends the commit's time in milliseconds, rounded down, or null.
    mutating func append(millisOf event: Event) {
        let micros = event.commitMicros
        if micros == Event.noTime { return append("null") }
        appendDecimal(micros / 1000 - (micros % 1000 < 0 ? 1 : 0))
    }

    /// Appends bytes in base64 with padding (RFC 4648, section 4).
    mutating func append(base64 bytes: UnsafeRawBufferPointer) {
        let alphabet: StaticString =
            "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
        reserve((bytes.count + 2) / 3 * 4)
        alphabet.withUTF8Buffer { letters in
            var index = 0
            while index < bytes.count {
                let left = min(3, bytes.count - index)
                var group = 0
                for offset in 0..<3 {
                    group = group << 8
                    if offset < left { group |= unsafe Int(bytes[index + offset]) }
                }
                for place in 0..<4 {
                    let letter = unsafe letters[group >> (18 - 6 * place) & 63]
                    append(place <= left ? letter : UInt8(ascii: "="))
                }
                index += 3
            }
        }
    }
}
