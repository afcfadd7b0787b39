// One line of the format `debezium` for a document (shown here on several), the envelope of
// Debezium's MongoDB connector with schemas off. Documents are strings of JSON in it:
//
//     {"before":"{…}"|null,"after":"{…}"|null,
//      "updateDescription":{"removedFields":["a"]|null,"updatedFields":"{…}"|null,
//                           "truncatedArrays":[{"field":"b","size":2}]|null}|null,
//      "source":{"version":"weir","connector":"mongodb","name":"cms","ts_ms":…,"ts_us":…,"ts_ns":…,
//                "snapshot":"false","db":"cms","sequence":null,"collection":"articles","ord":1,
//                "lsid":null,"txnNumber":null,"wallTime":…},
//      "op":"u","ts_ms":…,"ts_us":…,"ts_ns":…,"transaction":null}
//
// https://debezium.io/documentation/reference/stable/connectors/mongodb.html#mongodb-events
//
// Beside what DebeziumLine.swift says, it differs in this: all times are the change's wall time,
// `lsid` is the session's UUID in hexadecimal, a delete without an image from before has the key in
// `before`, since no record key tells it, and a dropped collection is a record `t`.

import WeirCore
import WeirJSON

extension LineConstants {
    /// `source` up to the first time, `sourceEnd` from the end of `snapshot` to `ord`.
    static func debezium(ofCollection schema: TableSchema, name: String) -> LineConstants {
        var constants = LineConstants()
        var writer = JSONWriter(capacity: 256)
        writer.append(#""source":{"version":"weir","connector":"mongodb","name":"#)
        writer.appendQuoted(string: name)
        writer.append(UInt8(ascii: ","))
        constants.source = writer.bytes

        writer.removeAll()
        writer.append(#","db":"#)
        writer.appendQuoted(string: schema.database)
        writer.append(#","sequence":null,"collection":"#)
        writer.appendQuoted(string: schema.name)
        writer.append(#","ord":"#)
        constants.sourceEnd = writer.bytes
        return constants
    }
}

extension LineEncoder {
    /// Appends the record Debezium would send. A delete may be followed by a tombstone, `null`.
    mutating func appendDebeziumLines(
        ofDocument event: Event,
        _ table: borrowing CompiledTable,
        _ batch: BatchView,
        into writer: inout JSONWriter
    ) {
        if !clock.fitsTime(of: event) { stampDebeziumTime(event) }
        rows.begin(table.projection)
        writer.append(#"{"before":"#)
        appendImage(event.before, table.projection, batch, &writer)
        writer.append(#","after":"#)
        appendImage(event.after, table.projection, batch, &writer)
        writer.append(#","updateDescription":"#)
        appendUpdateDescription(of: event, batch, &writer)
        writer.append(UInt8(ascii: ","))
        appendSource(ofDocument: event, table, batch, &writer)
        writer.append(#","op":""#)
        writer.append(event.operation.debeziumLetter)
        writer.append(#"","#)
        clock.appendFirst(to: &writer)
        writer.append(",\"transaction\":null}\n")
        if event.operation == .delete { appendTombstone(to: &writer) }
    }

    /// Appends a document as a string of JSON, or null.
    private mutating func appendImage(
        _ image: Slice,
        _ projection: borrowing Projection,
        _ batch: BatchView,
        _ writer: inout JSONWriter
    ) {
        if image.isEmpty { return writer.append("null") }
        rows.appendObject(
            projection.fields, of: image, in: batch, projection, into: &document)
        moveDocument(to: &writer)
    }

    /// Moves what was written to `document` into the line, as one string.
    private mutating func moveDocument(to writer: inout JSONWriter) {
        unsafe document.withBytes { unsafe writer.appendQuoted($0) }
        if document.count > Self.documentBytesKept {
            document = JSONWriter(capacity: 4096)
        } else {
            document.removeAll()
        }
    }

    private mutating func appendUpdateDescription(
        of event: Event,
        _ batch: BatchView,
        _ writer: inout JSONWriter
    ) {
        guard let changes = UpdateDescription(event, batch) else { return writer.append("null") }
        writer.append(#"{"removedFields":"#)
        changes.appendRemoved(into: &writer)
        writer.append(#","updatedFields":"#)
        if unsafe changes.updated.isEmpty {
            writer.append("null")
        } else {
            _ = unsafe BSONRenderer(options.documents).append(
                document: changes.updated, into: &document)
            moveDocument(to: &writer)
        }
        writer.append(#","truncatedArrays":"#)
        changes.appendTruncated(into: &writer)
        writer.append(UInt8(ascii: "}"))
    }

    private func appendSource(
        ofDocument event: Event,
        _ table: borrowing CompiledTable,
        _ batch: BatchView,
        _ writer: inout JSONWriter
    ) {
        writer.append(contentsOf: table.constants.source)
        clock.appendFirst(to: &writer)
        writer.append(
            event.operation == .read ? #","snapshot":"true""# : #","snapshot":"false""#
        )
        writer.append(contentsOf: table.constants.sourceEnd)
        writer.appendDecimal(event.commit & 0xFFFF_FFFF)
        appendTransaction(of: event, batch, &writer)
        clock.appendSecond(to: &writer)
        writer.append(UInt8(ascii: "}"))
    }

    /// Appends `lsid` and `txnNumber`: the two halves of `<session>:<number>`.
    private func appendTransaction(
        of event: Event, _ batch: BatchView, _ writer: inout JSONWriter
    ) {
        guard let transaction = batch.detail(.transaction, of: event),
            let colon = unsafe batch.bytes(of: transaction).lastIndex(of: UInt8(ascii: ":"))
        else { return writer.append(#","lsid":null,"txnNumber":null"#) }
        let text = unsafe batch.bytes(of: transaction)
        writer.append(#","lsid":"#)
        unsafe writer.appendQuoted(UnsafeRawBufferPointer(rebasing: text[..<colon]))
        writer.append(#","txnNumber":"#)
        unsafe writer.append(raw: UnsafeRawBufferPointer(rebasing: text[(colon + 1)...]))
    }

    /// First the three times, then `wallTime`.
    private mutating func stampDebeziumTime(_ event: Event) {
        clock.rewrite(for: event) {
            $0.append(debeziumTimesOf: event)
        } second: {
            $0.append(#","wallTime":"#)
            $0.append(millisOf: event)
        }
    }
}

extension Operation {
    fileprivate var debeziumLetter: StaticString {
        switch self {
        case .insert: "c"
        case .update: "u"
        case .delete: "d"
        case .read: "r"
        case .truncate: "t"
        case .message: "m"
        }
    }
}
