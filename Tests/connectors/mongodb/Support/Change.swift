import WeirCore
import WeirJSON
import WeirTesting
import WeirValues

/// One event as the source handed it on, taken out of its batch. Documents are Extended JSON,
/// relaxed, with their fields in the order they have.
struct Change: CustomStringConvertible {
    let operation: Operation
    let table: TableName
    let key: String?
    let before: String?
    let after: String?
    /// The bytes of `after`.
    let document: [UInt8]?
    let isLate: Bool
    let isGone: Bool
    let isDropped: Bool
    let position: Position
    let clusterTime: UInt64
    let commitMicros: Int64
    /// The server's `updateDescription`.
    let changes: String?
    let transaction: String?

    init(_ event: Event, in batch: EventBatch) throws {
        let schema = batch.tables[Int(event.table)]
        guard schema.isCollection else { throw TestingError("no collection: \(schema)") }
        operation = event.operation
        table = TableName(schema: schema.schema, name: schema.name)
        let keyValue = try batch.only(event.key)
        key = try batch.json(keyValue, .bson)
        let beforeValue = try batch.only(event.before)
        if event.has(Event.beforeIsKey) {
            // The same bytes, and nothing beside them.
            guard let beforeValue, beforeValue.bytes == keyValue?.bytes,
                beforeValue.form == .bsonKey
            else { throw TestingError("what is before is no key: \(event)") }
            before = nil
        } else {
            before = try batch.json(beforeValue, .bson)
        }
        let afterValue = try batch.only(event.after)
        after = try batch.json(afterValue, .bson)
        document = afterValue.map { Array(batch.arena[$0.bytes.range]) }
        isLate = event.has(Event.late)
        isGone = event.has(Event.rowGone)
        isDropped = event.has(Event.dropped)
        position = batch.position(of: event)
        clusterTime = event.commit
        commitMicros = event.commitMicros
        changes = try batch.json(batch.detail(.changes, of: event), .bson)
        transaction = batch.detail(.transaction, of: event).map {
            String(decoding: batch.arena[$0.bytes.range], as: UTF8.self)
        }
    }

    /// `update t {"_id":1} - {"_id":1,"a":1} + {"_id":1,"a":2}, late`: the operation, the
    /// collection, the key, the documents before and after, and what else there is to say.
    var description: String {
        var text = "\(operation.name) \(table.name)"
        if let key { text += " \(key)" }
        if let before { text += " - \(before)" }
        if let after { text += " + \(after)" }
        for (name, isSo) in [("late", isLate), ("gone", isGone), ("dropped", isDropped)] where isSo
        {
            text += ", \(name)"
        }
        return text
    }
}

extension [Change] {
    var texts: [String] { map(\.description) }
    /// Of the keys `{"_id": …}`, what they say.
    var ids: [String] { map { String($0.key?.dropFirst(7).dropLast() ?? "") } }
}

extension EventBatch {
    /// The one value of an image or a key; nil when there is none.
    fileprivate func only(_ slice: Slice) throws -> Value? {
        if slice.isEmpty { return nil }
        guard slice.count == 1 else { throw TestingError("\(slice.count) values in a document") }
        return values[Int(slice.start)]
    }

    fileprivate func json(_ value: Value?, _ form: Value.Form) throws -> String? {
        guard let value else { return nil }
        guard value.form == form else { throw TestingError("\(value.form) instead of \(form)") }
        return MongoDBTests.json(Array(arena[value.bytes.range]))
    }
}

/// A document as Extended JSON, relaxed.
func json(_ document: [UInt8]) -> String {
    var writer = JSONWriter()
    _ = unsafe document.withUnsafeBytes {
        unsafe BSONRenderer(.relaxed).append(document: $0, into: &writer)
    }
    return unsafe writer.withBytes { unsafe String(decoding: $0, as: UTF8.self) }
}
