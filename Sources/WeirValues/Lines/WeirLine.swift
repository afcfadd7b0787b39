// One line of the format `weir` (shown here on several):
//
//     {"id":"pg:shop:00000000016B37A0:00000000","op":"insert","ts":"2026-11-21T02:03:04.123456Z",
//      "source":{"kind":"postgres","name":"shop","db":"shop","schema":"public","table":"orders"},
//      "key":{…},"old_key":{…},"after":{…},"before":{…},"changed":[…],"unchanged":[…],
//      "binary":[…],"types":{…},"cascade":true,"restart_identity":true,
//      "pos":{"lsn":"0/16B3748","commit_lsn":"0/16B37A0","xid":745,"seq":0},
//      "schema":"90ab…"}
//
// That of a document is in WeirLine+Documents.swift.
//
// A member with nothing to say is absent. Three that readers of other formats may look for are
// never there: the time of sending, the number of events in the transaction, and whether this one
// is its last. A transaction is streamed before its end is known, and a line must be the same on
// every redelivery.

import WeirCore
import WeirJSON

extension LineConstants {
    /// `source` from the end of the time to the end of the object, `end` from the end of `pos` on.
    static func weir(_ schema: TableSchema, kind: String, name: String) -> LineConstants {
        var constants = LineConstants()
        var writer = JSONWriter(capacity: 256)
        writer.append(#","source":{"kind":"#)
        writer.appendQuoted(string: kind)
        writer.append(#","name":"#)
        writer.appendQuoted(string: name)
        writer.append(#","db":"#)
        writer.appendQuoted(string: schema.database)
        if schema.isCollection {
            writer.append(#","collection":"#)
            writer.appendQuoted(string: schema.name)
        } else if !schema.isMessages {
            writer.append(#","schema":"#)
            writer.appendQuoted(string: schema.schema)
            writer.append(#","table":"#)
            writer.appendQuoted(string: schema.name)
        }
        writer.append(UInt8(ascii: "}"))
        constants.source = writer.bytes

        writer.removeAll()
        writer.append(UInt8(ascii: "}"))
        if !schema.isMessages && !schema.isCollection {
            writer.append(#","schema":""#)
            writer.appendHex(schema.relationHash, digits: 16, uppercase: false)
            writer.append(UInt8(ascii: "\""))
        }
        writer.append("}\n")
        constants.end = writer.bytes
        return constants
    }
}

extension LineEncoder {
    mutating func appendWeirLine(
        _ event: Event,
        _ table: borrowing CompiledTable,
        _ batch: BatchView,
        into writer: inout JSONWriter
    ) {
        if !stamp.fits(event) { stampWeir(event) }
        rows.begin(table.projection)
        stamp.appendFirst(to: &writer)
        id.appendOwn(of: event, in: batch, to: &writer)
        writer.append(event.operation.weirMember)
        stamp.appendSecond(to: &writer)
        writer.append(contentsOf: table.constants.source)
        switch event.operation {
        case .insert, .update, .delete, .read:
            appendImages(of: event, table.projection, batch, into: &writer)
            if event.operation == .update, !event.before.isEmpty, !event.has(Event.beforeIsKey) {
                appendChanges(of: event, table.projection, batch, into: &writer)
            }
            if !table.projection.opaqueTypes.isEmpty || !rows.noted.isEmpty {
                appendNotes(table.projection, into: &writer)
            }
        case .truncate:
            if event.has(Event.cascade) { writer.append(#","cascade":true"#) }
            if event.has(Event.restartIdentity) { writer.append(#","restart_identity":true"#) }
        case .message:
            appendMessage(event, batch, into: &writer)
        }
        writer.append(#","pos":{"lsn":""#)
        writer.append(lsn: event.change)
        stamp.appendThird(to: &writer)
        writer.appendDecimal(UInt64(event.ordinal))
        writer.append(contentsOf: table.constants.end)
    }

    /// First the beginning of the identity, then the time, then `pos` from the end of `lsn` to
    /// `seq`.
    private mutating func stampWeir(_ event: Event) {
        let id = id
        stamp.rewrite(for: event) {
            $0.append(#"{"id":""#)
            id.appendShared(event.commit, to: &$0)
        } second: {
            $0.append(timeOf: event)
        } third: {
            $0.append(#"","commit_lsn":""#)
            $0.append(lsn: event.commit)
            if event.transaction != 0 {
                $0.append(#"","xid":"#)
                $0.appendDecimal(UInt64(event.transaction))
                $0.append(#","seq":"#)
            } else {
                $0.append(#"","seq":"#)
            }
        }
    }

    /// Appends `key`, `old_key`, `after` and `before`, each if there is something to say.
    @inline(__always)
    mutating func appendImages(
        of event: Event,
        _ projection: borrowing Projection,
        _ batch: BatchView,
        into writer: inout JSONWriter
    ) {
        if !event.key.isEmpty {
            writer.append(#","key":"#)
            rows.appendObject(
                projection.keyTuple,
                of: event.key,
                in: batch,
                projection,
                into: &writer
            )
        }
        if event.has(Event.keyChanged), !event.before.isEmpty {
            writer.append(#","old_key":"#)
            rows.appendObject(
                projection.key,
                of: event.before,
                in: batch,
                projection,
                into: &writer
            )
        }
        if event.operation != .delete, !event.has(Event.rowGone) {
            writer.append(#","after":"#)
            rows.appendObject(
                projection.fields,
                of: event.after,
                in: batch,
                projection,
                missing: .noted,
                into: &writer
            )
        }
        if !event.before.isEmpty, saysMoreThanKey(event, projection, batch) {
            let start = writer.count
            writer.append(#","before":"#)
            let members = rows.appendObject(
                projection.fields,
                of: event.before,
                in: batch,
                projection,
                into: &writer
            )
            if members == 0 { writer.truncate(to: start) }
        }
    }

    /// An update's old key is in `old_key`, or is the same as `key`, as a document's always is:
    /// alone it makes no `before`.
    private func saysMoreThanKey(
        _ event: Event,
        _ projection: borrowing Projection,
        _ batch: BatchView
    ) -> Bool {
        guard event.has(Event.beforeIsKey),
            event.operation == .update || projection.schema.isCollection
        else { return true }
        for column in 0..<Int(event.before.count)
        where !projection.isKeyColumn[column]
            && batch.value(column, of: event.before).form != .unchanged
        {
            return true
        }
        return false
    }

    /// A whole row before tells which columns changed, also that none did.
    private mutating func appendChanges(
        of event: Event,
        _ projection: borrowing Projection,
        _ batch: BatchView,
        into writer: inout JSONWriter
    ) {
        rows.noteChanges(
            projection.fields, from: event.before, to: event.after, in: batch, projection)
        rows.appendList(#","changed":"#, of: .changed, projection, into: &writer)
    }

    func appendNotes(
        _ projection: borrowing Projection,
        into writer: inout JSONWriter
    ) {
        if rows.noted.contains(.unchanged) {
            rows.appendList(#","unchanged":"#, of: .unchanged, projection, into: &writer)
        }
        if rows.noted.contains(.binary) {
            rows.appendList(#","binary":"#, of: .binary, projection, into: &writer)
        }
        if rows.noted.contains(.replaced) {
            rows.appendList(#","replaced":"#, of: .replaced, projection, into: &writer)
        }
        if !projection.opaqueTypes.isEmpty || rows.noted.contains(.malformed) {
            rows.appendTypes(projection, into: &writer)
        }
    }

    /// Appends the two values of a message: its prefix and its content, which may be any bytes.
    private func appendMessage(
        _ event: Event,
        _ batch: BatchView,
        into writer: inout JSONWriter
    ) {
        writer.append(#","prefix":"#)
        unsafe writer.appendQuoted(batch.bytes(of: batch.value(0, of: event.after)))
        writer.append(#","content":"#)
        let content = batch.value(1, of: event.after)
        if content.form == .text {
            unsafe writer.appendQuoted(batch.bytes(of: content))
        } else {
            unsafe writer.appendQuotedHex(batch.bytes(of: content))
            writer.append(#","binary":["content"]"#)
        }
        writer.append(
            event.has(Event.outsideTransaction)
                ? #","transactional":false"# : #","transactional":true"#
        )
    }
}

extension Operation {
    /// From the end of the identity to the beginning of the time.
    var weirMember: StaticString {
        switch self {
        case .insert: #"","op":"insert","ts":"#
        case .update: #"","op":"update","ts":"#
        case .delete: #"","op":"delete","ts":"#
        case .read: #"","op":"read","ts":"#
        case .truncate: #"","op":"truncate","ts":"#
        case .message: #"","op":"message","ts":"#
        }
    }
}

extension JSONWriter {
    /// Appends the time of an event's commit, or null.
    mutating func append(timeOf event: Event) {
        if event.commitMicros == Event.noTime { return append("null") }
        append(UInt8(ascii: "\""))
        appendTimestamp(microsSince1970: event.commitMicros)
        append(UInt8(ascii: "\""))
    }

    /// Appends a log position as PostgreSQL writes it: two halves in hexadecimal, `0/16B3748`.
    mutating func append(lsn: UInt64) {
        append(half: lsn >> 32)
        append(UInt8(ascii: "/"))
        append(half: lsn & 0xFFFF_FFFF)
    }

    private mutating func append(half: UInt64) {
        let digits = max(1, (64 - half.leadingZeroBitCount + 3) / 4)
        appendHex(half, digits: digits, uppercase: true)
    }
}
