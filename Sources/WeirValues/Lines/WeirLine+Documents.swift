// One line of the format `weir` for a document (shown here on several):
//
//     {"id":"mg:cms:8265…","op":"update","ts":"2026-11-21T02:03:04.123000Z",
//      "source":{"kind":"mongodb","name":"cms","db":"cms","collection":"articles"},
//      "key":{"_id":…},"after":{…},"before":{…},"changed":["title","tags.2"],"late":true,
//      "gone":true,"dropped":true,"unchanged":[…],"binary":[…],"replaced":["$"],"types":{…},
//      "pos":{"cluster_time":{"t":1795226584,"i":1},"token":"8265…","txn":"5f0c…:7"}}
//
// `before` is there when the collection keeps images from before a change. `changed` names the
// paths an update set, removed or cut off, as the server tells them, whatever columns the sink
// shows; a replaced document has none. `late`: `after` was read later than the change. `gone`: it
// could not be read any more, and there is no `after`. `replaced` names documents in which text was
// no UTF-8.

import WeirCore
import WeirJSON

extension LineEncoder {
    mutating func appendWeirLine(
        ofDocument event: Event,
        _ table: borrowing CompiledTable,
        _ batch: BatchView,
        into writer: inout JSONWriter
    ) {
        if !clock.fitsTime(of: event) {
            clock.rewrite(for: event, first: { $0.append(timeOf: event) })
        }
        rows.begin(table.projection)
        writer.append(#"{"id":""#)
        id.append(of: event, in: batch, to: &writer)
        writer.append(event.operation.weirMember)
        clock.appendFirst(to: &writer)
        writer.append(contentsOf: table.constants.source)
        if event.operation != .truncate {
            appendImages(of: event, table.projection, batch, into: &writer)
        }
        if let changes = UpdateDescription(event, batch) {
            writer.append(#","changed":["#)
            changes.appendNames(into: &writer)
            writer.append(UInt8(ascii: "]"))
        }
        if event.has(Event.late) { writer.append(#","late":true"#) }
        if event.has(Event.rowGone) { writer.append(#","gone":true"#) }
        if event.has(Event.dropped) { writer.append(#","dropped":true"#) }
        if !rows.noted.isEmpty { appendNotes(table.projection, into: &writer) }
        writer.append(#","pos":{"cluster_time":{"t":"#)
        writer.appendDecimal(event.commit >> 32)
        writer.append(#","i":"#)
        writer.appendDecimal(event.commit & 0xFFFF_FFFF)
        writer.append(#"},"token":""#)
        id.appendPlace(of: event, in: batch, to: &writer)
        writer.append(UInt8(ascii: "\""))
        if let transaction = batch.detail(.transaction, of: event) {
            writer.append(#","txn":"#)
            unsafe writer.appendQuoted(batch.bytes(of: transaction))
        }
        writer.append(contentsOf: table.constants.end)
    }
}
