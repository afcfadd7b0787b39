import WeirCore
import WeirMongoDBClient
import WeirValues

/// Reads the documents that events came without, many at a time. Blocks.
///
/// What is read is the document as it is now: perhaps newer than the event, perhaps gone
/// (CORRECTNESS 58, 69). It is never older: what a majority has is read, once the server knows that
/// the event is part of that. A server the stream moved to meanwhile may not know it yet.
struct DocumentLookup {
    let connection: MongoConnection

    /// Puts the documents into the batch, and marks their events. One query per collection.
    ///
    /// - Returns: the bytes of the largest.
    func fill(
        _ missing: [EventDecoder.Missing], in batch: inout BatchBuilder
    ) throws(MongoFailure) -> Int {
        var largest = 0
        for (table, events) in Dictionary(grouping: missing, by: \.table) {
            largest = max(largest, try fill(events, of: table, in: &batch))
        }
        return largest
    }

    private func fill(
        _ missing: [EventDecoder.Missing], of table: TableName, in batch: inout BatchBuilder
    ) throws(MongoFailure) -> Int {
        var largest = 0
        var keys: [[UInt8]: [EventDecoder.Missing]] = [:]
        var time: UInt64 = 0
        for event in missing {
            keys[batch.bytes(event.key), default: []].append(event)
            time = max(time, batch.event(event.event).commit)
        }
        // From `_id` to the keys that begin with it: one, but for shards with a key of their own.
        var ids: [[UInt8]: [[UInt8]]] = [:]
        for key in keys.keys { ids[Self.id(of: key), default: []].append(key) }
        unsafe try find(Array(keys.keys), in: table, after: time) { document in
            largest = max(largest, document.count)
            let id = unsafe Self.id(of: document)
            for key in ids[id] ?? [] where unsafe Self.matches(document, key) {
                guard let events = keys.removeValue(forKey: key) else { continue }
                let start = unsafe batch.append(document)
                let value = Value(
                    form: .bson, bytes: Slice(start: start, count: document.count))
                for event in events {
                    batch.replaceValue(event.value, with: value)
                    batch.mark(event.event, Event.late)
                }
            }
        }
        for events in keys.values {
            for event in events { batch.markGone(event.event) }
        }
        return largest
    }

    private func find(
        _ keys: [[UInt8]], in table: TableName, after time: UInt64,
        _ body: (UnsafeRawBufferPointer) -> Void
    ) throws(MongoFailure) {
        var command = BSONWriter()
        command.append("find", table.name)
        command.append("filter", document: Self.filter(keys))
        command.append("batchSize", int32: Int32(clamping: max(1, keys.count)))
        command.appendMajority(after: time)
        unsafe try connection.visit(command.bytes, database: table.schema, body)
    }

    /// Keys are `_id` alone, but for collections with a shard key.
    private static func filter(_ keys: [[UInt8]]) -> [UInt8] {
        BSONWriter.document { filter in
            if keys.allSatisfy({ $0.withElements { $0.count == 1 } }) {
                filter.appendDocument("_id") { condition in
                    condition.appendArray("$in") { list in
                        for (index, key) in keys.enumerated() {
                            key.withElements { elements in
                                guard let id = elements.first else { return }
                                unsafe list.append(
                                    "\(index)", type: id.type.rawValue, value: id.value)
                            }
                        }
                    }
                }
            } else {
                filter.append("$or", array: keys)
            }
        }
    }

    /// The type and the bytes of `_id`.
    private static func id(of document: [UInt8]) -> [UInt8] {
        unsafe document.withUnsafeBytes { unsafe id(of: $0) }
    }

    private static func id(of document: UnsafeRawBufferPointer) -> [UInt8] {
        guard let id = unsafe BSONPath.find([Array("_id".utf8)], in: document) else { return [] }
        return unsafe [id.type.rawValue] + Array(id.value)
    }

    /// Whether the document has all the key's values.
    private static func matches(_ document: UnsafeRawBufferPointer, _ key: [UInt8]) -> Bool {
        key.withElements { elements in
            elements.allSatisfy { element in
                let path = element.name.split(separator: ".").map { Array($0.utf8) }
                guard let found = unsafe BSONPath.find(path, in: document) else {
                    return element.type == .null
                }
                return unsafe found.type == element.type && found.value.elementsEqual(element.value)
            }
        }
    }
}

/// One element of a small document.
@safe
private struct KeyElement {
    let name: String
    let type: BSONType
    let value: UnsafeRawBufferPointer
}

extension [UInt8] {
    /// Lends the elements of a small BSON document.
    fileprivate func withElements<R>(_ body: ([KeyElement]) -> R) -> R {
        unsafe withUnsafeBytes { bytes in
            var elements: [KeyElement] = []
            guard var cursor = unsafe BSONCursor(bytes) else { return body([]) }
            while cursor.next() {
                elements.append(
                    unsafe KeyElement(
                        name: String(decoding: cursor.name, as: UTF8.self), type: cursor.type,
                        value: cursor.value))
            }
            return body(elements)
        }
    }
}

extension BatchBuilder {
    fileprivate mutating func mark(_ index: Int, _ flag: UInt8) {
        let event = event(index)
        replaceEvent(index, with: event.with(flags: event.flags | flag))
    }

    /// The document is gone: its delete follows, or the end of its collection.
    fileprivate mutating func markGone(_ index: Int) {
        let event = event(index)
        replaceEvent(
            index,
            with: event.with(
                operation: .update, flags: event.flags | Event.rowGone, after: Slice.empty))
    }
}

extension Event {
    fileprivate func with(
        operation: Operation? = nil, flags: UInt8, after: Slice? = nil
    ) -> Event {
        Event(
            operation: operation ?? self.operation, flags: flags, table: table, commit: commit,
            ordinal: ordinal, transaction: transaction, change: change,
            commitMicros: commitMicros, key: key, before: before, after: after ?? self.after,
            details: details)
    }
}
