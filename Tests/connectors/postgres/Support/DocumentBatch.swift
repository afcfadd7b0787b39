import WeirCore
import WeirTesting

/// A change as MongoDB's source sends it.
enum DocumentChange: Sendable {
    /// The first member is the `_id`.
    case insert(DocumentValue)
    /// An update or replacement.
    case update(DocumentValue, flags: UInt8 = 0)
    /// An update whose document was gone when it was looked up.
    case gone(id: DocumentValue)
    /// - Parameter image: the whole document, where the collection keeps it.
    case delete(id: DocumentValue, image: DocumentValue? = nil)
    case truncate(flags: UInt8 = 0)
}

/// Builds batches of collections by hand, laid out as MongoDB's source does.
struct DocumentBatch: ~Copyable {
    private var builder = BatchBuilder(
        reusing: EventBatch(), eventLimit: 1 << 20, byteLimit: 1 << 26)
    private var number = 0

    var count: Int { builder.eventCount }

    /// Events at one cluster time, as one transaction leaves them.
    static func transaction(
        _ changes: [DocumentChange], of schema: TableSchema, time: UInt64
    ) -> EventBatch {
        var batch = DocumentBatch()
        for change in changes { batch.add(change, to: schema, time: time) }
        return batch.seal(behind: time)
    }

    /// A token whose order is that of time and number.
    static func token(_ time: UInt64, _ number: Int) -> String {
        "82" + hex(time, 16) + "2B042C" + hex(UInt64(number), 8) + "04"
    }

    private static func hex(_ number: UInt64, _ digits: Int) -> String {
        let text = String(number, radix: 16, uppercase: true)
        return String(repeating: "0", count: digits - text.utf8.count) + text
    }

    mutating func add(_ change: DocumentChange, to schema: TableSchema, time: UInt64) {
        let table = builder.table(schema)
        let token = Self.token(time, number)
        number += 1
        var flags: UInt8 = 0
        var key = Slice.empty
        var before = Slice.empty
        var after = Slice.empty
        let operation: Operation
        switch change {
        case .insert(let document):
            operation = .insert
            key = append(Self.key(of: document), .bson)
            after = append(document, .bson)
        case .update(let document, let more):
            operation = .update
            flags = more
            key = append(Self.key(of: document), .bson)
            after = append(document, .bson)
        case .gone(let id):
            operation = .update
            flags = Event.rowGone
            key = append(.document(["_id": id]), .bson)
        case .delete(let id, let image):
            operation = .delete
            let named = DocumentValue.document(["_id": id])
            key = append(named, .bson)
            before = image.map { append($0, .bson) } ?? append(named, .bsonKey)
            flags = image == nil ? Event.beforeIsKey : 0
        case .truncate(let more):
            operation = .truncate
            flags = more
        }
        let start = builder.valueCount
        append(Array(token.utf8.dropFirst(18)), .text)
        builder.append(Value.null)
        builder.append(Value.null)
        builder.append(
            Event(
                operation: operation, flags: flags, table: table, commit: time, ordinal: 0,
                transaction: 0, change: 0, commitMicros: 1_795_226_584_123_000, key: key,
                before: before, after: after, details: Slice(start: start, count: 3)))
    }

    private static func key(of document: DocumentValue) -> DocumentValue {
        guard case .document(let members) = document else { return .document([:]) }
        return .document(members.filter { $0.name == "_id" })
    }

    private mutating func append(_ value: DocumentValue, _ form: Value.Form) -> Slice {
        let start = builder.valueCount
        append(value.bytes, form)
        return Slice(start: start, count: 1)
    }

    private mutating func append(_ bytes: [UInt8], _ form: Value.Form) {
        let start = unsafe bytes.withUnsafeBytes { unsafe builder.append($0) }
        builder.append(Value(form: form, bytes: Slice(start: start, count: bytes.count)))
    }

    /// Whole, up to behind the last event of this time.
    consuming func seal(behind time: UInt64) -> EventBatch {
        let last = max(0, number - 1)
        let resume = Position(token: Self.token(time, last) + "+")
        return builder.seal(resume: resume, end: resume)
    }

    consuming func seal(resume: Position?) -> EventBatch {
        builder.seal(resume: resume, end: resume)
    }
}
