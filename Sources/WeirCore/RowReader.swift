/// Reads rows of a source as they are now, on a connection of its own: for sinks that need more
/// than the stream sends. Made by `SourceRows`; connects when it is first asked.
///
/// A row read now may already hold changes that the stream brings later; whoever uses it must bear
/// seeing those again.
public protocol RowReader: Actor {
    /// The rows of one table that have one of the keys, in any order, as `read` events.
    ///
    /// Every image has one value per column of `schema`, in its order, under that very schema. A
    /// column the table no longer has is `unchanged`; a row that is gone is missing.
    ///
    /// - Parameters:
    ///   - keys: for each row the text of its key columns, in the order of `schema.key`.
    ///   - transactions: what the rows must show. A server may send a change before others can see
    ///     it, so reading waits, bounded, until these are visible.
    /// - Throws: `blocked` when rows may not be read at all. Asking again is always safe.
    func rows(
        of schema: TableSchema, keys: [[[UInt8]]], showing transactions: [UInt32]
    ) async throws(WeirError) -> EventBatch

    /// Begins to read all rows of a table; `next` returns them. Ends a scan that was going on.
    ///
    /// - Throws: as `rows`.
    func scan(_ table: TableName, showing transactions: [UInt32]) async throws(WeirError)

    /// The next rows of the scan as `read` events, some thousand; nil behind the last.
    func next() async throws(WeirError) -> EventBatch?

    /// Ends the connection. May be called at any time and more than once.
    func close() async
}

/// Optional ability: read rows beside the stream.
public protocol SourceRows: SourceConnector {
    /// - Parameter context: with an executor of the reader's own.
    static func makeRowReader(
        _ config: Config, _ context: ConnectorContext
    ) throws(WeirError) -> any RowReader
}
