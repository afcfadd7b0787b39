import WeirCore
import WeirJSON

extension LineEncoder {
    /// Appends the row as it is after an insert, an update or a snapshot's read:
    ///
    ///     {"id":1,"name":"a"}
    ///
    /// Columns whose value the source did not send are left out, and there is no place to say so:
    /// whoever must tell them from absent columns takes the format `weir`.
    ///
    /// - Returns: false for the other operations, which leave no row, and for an update of a row
    ///   that was gone.
    mutating func appendRowLine(
        _ event: Event,
        _ table: borrowing CompiledTable,
        _ batch: BatchView,
        into writer: inout JSONWriter
    ) -> Bool {
        switch event.operation {
        case .update where event.has(Event.rowGone): return false
        case .insert, .update, .read: break
        case .delete, .truncate, .message: return false
        }
        rows.begin(table.projection)
        rows.appendObject(
            table.projection.fields,
            of: event.after,
            in: batch,
            table.projection,
            into: &writer
        )
        writer.append(UInt8(ascii: "\n"))
        return true
    }
}
