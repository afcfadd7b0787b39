package import WeirCore

/// What a sink has compiled for each version of a table, found once per batch.
package struct SchemaCache<Compiled: Sendable>: Sendable {
    private var known: [(schema: TableSchema, compiled: Compiled)] = []
    /// From `TableSchema.version` to `known`; looked at once per batch and table.
    private var indexes: [UInt32: Int] = [:]
    /// From the tables of the batch at hand to `known`.
    private var current: [Int] = []

    /// Above this many versions the compiled ones are dropped and made anew as needed: it bounds
    /// memory for sources that change their tables all day.
    private static var knownMax: Int { 8192 }

    package init() {}

    /// Finds or makes what belongs to the tables of the next batch.
    package mutating func prepare(
        _ tables: [TableSchema], make: (TableSchema) throws(WeirError) -> Compiled
    ) throws(WeirError) {
        if known.count > Self.knownMax {
            known = []
            indexes = [:]
        }
        current.removeAll(keepingCapacity: true)
        for schema in tables {
            let index = indexes[schema.version]
            // A version is unique in one process; a spilled batch may come from an earlier one.
            if let index, known[index].schema == schema {
                current.append(index)
                continue
            }
            let made = (schema, try make(schema))
            if let index {
                known[index] = made
                current.append(index)
            } else {
                indexes[schema.version] = known.count
                current.append(known.count)
                known.append(made)
            }
        }
    }

    /// The number of tables of the batch at hand.
    package var count: Int { current.count }

    /// What belongs to the batch's table of this index.
    package subscript(table: Int) -> Compiled { known[current[table]].compiled }
}
