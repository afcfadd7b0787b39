import WeirCore
import WeirJSON
import WeirPostgresClient

/// Copies rows of a result into a batch as `read` events, each value as the decoder of the stream
/// makes it.
struct RowCopier {
    let schema: TableSchema
    /// For each column of the schema its place in the result; nil for one that is not there.
    private let places: [Int?]
    /// Columns whose text may be no UTF-8 (CORRECTNESS 14).
    private let checkedColumns: [Bool]

    /// How many columns a result must have.
    let columnCount: Int

    init(_ schema: TableSchema, places: [Int?], checksAllText: Bool) {
        self.schema = schema
        self.places = places
        columnCount = places.reduce(0) { max($0, ($1 ?? -1) + 1) }
        // The name of a type that is not built in has its schema before it.
        checkedColumns = schema.columns.map { checksAllText || $0.type.name == "char" }
    }

    /// Of a result that has exactly the relation's columns.
    init(_ relation: Relation) {
        schema = relation.schema
        places = Array(relation.schema.columns.indices)
        columnCount = places.count
        checkedColumns = relation.checkedColumns
    }

    /// - Complexity: O(bytes); every value is copied once, into the batch's arena.
    func copy(_ row: borrowing PostgresRow, into batch: inout BatchBuilder) {
        let table = batch.table(schema)
        let first = batch.valueCount
        for column in places.indices {
            guard let place = places[column] else {
                batch.append(.unchanged)
                continue
            }
            guard let text = unsafe row[place] else {
                batch.append(.null)
                continue
            }
            var form = Value.Form.text
            if checkedColumns[column], unsafe !isValidUTF8(text) { form = .binary }
            let start = unsafe batch.append(text)
            batch.append(Value(form: form, bytes: Slice(start: start, count: text.count)))
        }
        let after = Slice(start: first, count: places.count)
        let key = Slice(start: batch.valueCount, count: schema.key.count)
        for column in schema.key { batch.append(batch.value(first + column)) }
        batch.append(
            Event(
                operation: .read, table: table, commit: 0, ordinal: 0, transaction: 0, change: 0,
                commitMicros: Event.noTime, key: key, after: after))
    }
}
