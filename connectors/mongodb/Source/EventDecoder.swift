import WeirCore
import WeirValues

/// Turns events of a change stream into events of a batch. Pure.
///
/// An event is copied once, whole, into the batch's arena; its values are slices of that.
struct EventDecoder: ~Copyable {
    /// What became of an event.
    enum Outcome {
        case appended
        /// Appended, but its document did not come along and must be looked up.
        case withoutDocument(Missing)
        /// Nothing a sink could use.
        case leftOut
    }

    /// An event that waits for its document.
    struct Missing {
        let event: Int
        /// The place of `after` among the batch's values.
        let value: Int
        /// The document `documentKey` in the arena.
        let key: Slice
        let table: TableName
    }

    private let scope: Scope
    /// Collections seen so far; the last one is mostly meant again.
    private var collections: [Known] = []
    private var lastCollection = 0
    /// Where each one is, by the hash of its namespace; of two with one hash, the first.
    private var places: [Int: Int] = [:]
    /// Of the last collection in the batch at hand.
    private var lastTable: (collection: Int, table: UInt32)?
    /// The transaction written last into the batch at hand, and its text there.
    private var lastTransaction: (session: [UInt8], number: Int64, text: Value)?
    private(set) var nextSchemaVersion: UInt32

    private struct Known {
        /// The bytes of `{db, coll}`.
        let namespace: [UInt8]
        let name: TableName
        let schema: TableSchema
        let isCovered: Bool

        func isNamed(_ bytes: UnsafeRawBufferPointer) -> Bool {
            unsafe namespace.withUnsafeBytes { unsafe $0.isSame(as: bytes) }
        }
    }

    /// Above this many they are forgotten and found anew: a deployment may make new ones all day.
    private static let collectionsMax = 4096

    init(_ scope: Scope, firstSchemaVersion: UInt32) {
        self.scope = scope
        nextSchemaVersion = firstSchemaVersion
    }

    /// What was remembered of the batch before means nothing in the next.
    mutating func beginBatch() {
        lastTable = nil
        lastTransaction = nil
    }

    /// Appends what the event means.
    mutating func decode(_ event: RawEvent, into batch: inout BatchBuilder) -> Outcome {
        switch event.kind {
        case .insert, .update, .replace, .delete:
            guard let index = unsafe collection(event.bytes, event.namespace),
                collections[index].isCovered, let key = event.key
            else { return leftOut(&batch) }
            return appendRow(event, collectionAt: index, key, to: &batch)
        case .drop, .rename:
            guard let index = unsafe collection(event.bytes, event.namespace),
                collections[index].isCovered
            else { return leftOut(&batch) }
            appendEnd(event, collectionAt: index, to: &batch)
            return .appended
        case .dropDatabase, .invalidate, .other:
            return leftOut(&batch)
        }
    }

    /// The collection that is followed and that a rename makes another one: its documents come
    /// without events (CORRECTNESS 56).
    mutating func replaced(by event: RawEvent) -> TableName? {
        guard event.kind == .rename, let index = unsafe collection(event.bytes, event.renamedTo),
            collections[index].isCovered
        else { return nil }
        return collections[index].name
    }

    private func leftOut(_ batch: inout BatchBuilder) -> Outcome {
        batch.countFiltered()
        return .leftOut
    }

    // MARK: Events

    private mutating func appendRow(
        _ event: RawEvent, collectionAt index: Int, _ keyRange: Range<Int>,
        to batch: inout BatchBuilder
    ) -> Outcome {
        let base = unsafe batch.append(event.bytes)
        let table = tableIndex(of: index, &batch)
        let details = appendDetails(event, base, to: &batch)
        let key = Self.slice(keyRange, base)
        let first = batch.valueCount
        batch.append(Value(form: .bson, bytes: key))
        var flags: UInt8 = 0
        var before = Slice.empty
        if let old = event.documentBefore {
            before = Slice(start: batch.valueCount, count: 1)
            batch.append(Value(form: .bson, bytes: Self.slice(old, base)))
        } else if event.kind == .delete {
            // Only its key is known (CORRECTNESS 59).
            before = Slice(start: batch.valueCount, count: 1)
            flags |= Event.beforeIsKey
            batch.append(Value(form: .bsonKey, bytes: key))
        }
        var after = Slice.empty
        var isMissing = false
        if event.kind != .delete {
            after = Slice(start: batch.valueCount, count: 1)
            if let document = event.document {
                batch.append(Value(form: .bson, bytes: Self.slice(document, base)))
            } else {
                batch.append(.unchanged)
                isMissing = true
            }
        }
        let operation: Operation =
            switch event.kind {
            case .insert: .insert
            case .delete: .delete
            default: .update
            }
        append(
            event, operation, flags, table, key: Slice(start: first, count: 1), before: before,
            after: after, details: details, to: &batch)
        guard isMissing else { return .appended }
        return .withoutDocument(
            Missing(
                event: batch.eventCount - 1, value: Int(after.start), key: key,
                table: collections[index].name))
    }

    /// Appends the end of a collection: it was dropped, or has another name now.
    private mutating func appendEnd(
        _ event: RawEvent, collectionAt index: Int, to batch: inout BatchBuilder
    ) {
        let base = unsafe batch.append(event.bytes)
        let table = tableIndex(of: index, &batch)
        let details = appendDetails(event, base, to: &batch)
        append(
            event, .truncate, Event.dropped, table, key: .empty, before: .empty, after: .empty,
            details: details, to: &batch)
    }

    /// Lag needs more than whole seconds (CORRECTNESS 67).
    private static func micros(of event: RawEvent) -> Int64 {
        guard let millis = event.wallMillis else {
            return Int64(event.clusterTime.clusterSeconds) * 1_000_000
        }
        // Outside of the years 1 to 9999 there is no such time, and sums would overflow.
        return min(max(millis, -62_135_596_800_000), 253_402_300_799_999) * 1000
    }

    private func append(
        _ event: RawEvent, _ operation: Operation, _ flags: UInt8, _ table: UInt32, key: Slice,
        before: Slice, after: Slice, details: Slice, to batch: inout BatchBuilder
    ) {
        batch.append(
            Event(
                operation: operation, flags: flags, table: table, commit: event.clusterTime,
                ordinal: 0, transaction: UInt32(truncatingIfNeeded: event.transactionNumber),
                change: event.clusterTime, commitMicros: Self.micros(of: event), key: key,
                before: before,
                after: after, details: details))
    }

    private mutating func appendDetails(
        _ event: RawEvent, _ base: Int, to batch: inout BatchBuilder
    ) -> Slice {
        let transaction = appendTransaction(event, to: &batch)
        let first = batch.valueCount
        batch.append(Value(form: .text, bytes: Self.slice(event.tail, base)))
        batch.append(
            event.changes.map { Value(form: .bson, bytes: Self.slice($0, base)) } ?? .null)
        batch.append(transaction)
        return Slice(start: first, count: Event.Detail.allCases.count)
    }

    /// The text of the event's transaction, which is in the batch once for all its events.
    private mutating func appendTransaction(
        _ event: RawEvent, to batch: inout BatchBuilder
    ) -> Value {
        guard let session = event.session else { return .null }
        let bytes = unsafe UnsafeRawBufferPointer(rebasing: event.bytes[session])
        if let last = lastTransaction, last.number == event.transactionNumber,
            unsafe last.session.elementsEqual(bytes)
        {
            return last.text
        }
        let text = Array("\(unsafe Self.sessionName(bytes)):\(event.transactionNumber)".utf8)
        let start = unsafe text.withUnsafeBytes { unsafe batch.append($0) }
        let value = Value(form: .text, bytes: Slice(start: start, count: text.count))
        lastTransaction = (unsafe Array(bytes), event.transactionNumber, value)
        return value
    }

    /// The UUID of a session, in hexadecimal.
    private static func sessionName(_ session: UnsafeRawBufferPointer) -> String {
        guard var cursor = unsafe BSONCursor(session) else { return "" }
        while cursor.next() {
            // A length, a subtype, the bytes.
            guard cursor.isNamed("id"), cursor.type == .binary else { continue }
            return unsafe cursor.value.dropFirst(5).map { byte in
                let text = String(byte, radix: 16)
                return byte < 16 ? "0" + text : text
            }.joined()
        }
        return ""
    }

    private static func slice(_ range: Range<Int>, _ base: Int) -> Slice {
        Slice(start: base + range.lowerBound, count: range.count)
    }

    // MARK: Collections

    private mutating func tableIndex(of index: Int, _ batch: inout BatchBuilder) -> UInt32 {
        if let lastTable, lastTable.collection == index { return lastTable.table }
        let table = batch.table(collections[index].schema)
        lastTable = (index, table)
        return table
    }

    /// The place in `collections` of the one whose namespace is there; nil for no namespace.
    private mutating func collection(
        _ event: UnsafeRawBufferPointer, _ range: Range<Int>
    ) -> Int? {
        let bytes = unsafe UnsafeRawBufferPointer(rebasing: event[range])
        if lastCollection < collections.count,
            unsafe collections[lastCollection].isNamed(bytes)
        {
            return lastCollection
        }
        var hasher = Hasher()
        unsafe hasher.combine(bytes: bytes)
        let hash = hasher.finalize()
        if let known = unsafe place(of: bytes, hash) {
            lastCollection = known
            return known
        }
        guard let name = unsafe Self.name(bytes) else { return nil }
        if collections.count >= Self.collectionsMax {
            collections = []
            places = [:]
            lastTable = nil
        }
        if places[hash] == nil { places[hash] = collections.count }
        collections.append(
            Known(
                namespace: unsafe Array(bytes), name: name,
                schema: .collection(
                    version: nextSchemaVersion, database: name.schema, name: name.name),
                isCovered: scope.covers(database: name.schema, collection: name.name)))
        nextSchemaVersion += 1
        lastCollection = collections.count - 1
        return lastCollection
    }

    private func place(of namespace: UnsafeRawBufferPointer, _ hash: Int) -> Int? {
        guard let first = places[hash] else { return nil }
        if unsafe collections[first].isNamed(namespace) { return first }
        return collections.firstIndex { unsafe $0.isNamed(namespace) }
    }

    /// From `{db, coll}`; nil where one is missing.
    static func name(_ namespace: UnsafeRawBufferPointer) -> TableName? {
        guard var cursor = unsafe BSONCursor(namespace) else { return nil }
        var database: String?
        var collection: String?
        while cursor.next() {
            guard cursor.type == .string else { continue }
            let text = unsafe String(
                decoding: cursor.value.dropFirst(4).dropLast(1), as: UTF8.self)
            if cursor.isNamed("db") { database = text }
            if cursor.isNamed("coll") { collection = text }
        }
        guard let database, let collection else { return nil }
        return TableName(schema: database, name: collection)
    }
}
