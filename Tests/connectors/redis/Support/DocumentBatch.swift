import WeirCore
import WeirTesting
import WeirValues

extension SourceNotation {
    /// Of rows and of documents: what an update touched is described as MongoDB does.
    static let documents = SourceNotation(
        idPrefix: "mg", idHead: "82", mayTouch: { UpdateDescription.mayTouch($0, $1) },
        display: SourceNotation.numbers.display)
}

/// A value of a test document, in the order it is written.
indirect enum Document: ExpressibleByStringLiteral, ExpressibleByIntegerLiteral,
    ExpressibleByNilLiteral, ExpressibleByDictionaryLiteral, ExpressibleByArrayLiteral, Sendable
{
    case text([UInt8])
    case int32(Int32)
    case int64(Int64)
    case double(Double)
    case objectId([UInt8])
    case members([(String, Document)])
    case elements([Document])
    case null

    init(stringLiteral text: String) { self = .text(Array(text.utf8)) }
    init(integerLiteral number: Int32) { self = .int32(number) }
    init(nilLiteral: ()) { self = .null }
    init(dictionaryLiteral members: (String, Document)...) { self = .members(members) }
    init(arrayLiteral elements: Document...) { self = .elements(elements) }

    private var type: UInt8 {
        switch self {
        case .double: 0x01
        case .text: 0x02
        case .members: 0x03
        case .elements: 0x04
        case .objectId: 0x07
        case .null: 0x0A
        case .int32: 0x10
        case .int64: 0x12
        }
    }

    /// As BSON; of `members`, a whole document.
    var bytes: [UInt8] {
        switch self {
        case .text(let text): Self.little(Int32(text.count + 1)) + text + [0]
        case .int32(let number): Self.little(number)
        case .int64(let number): Self.little(number)
        case .double(let number): Self.little(number.bitPattern)
        case .objectId(let id): id
        case .members(let members): Self.document(members)
        case .elements(let elements):
            Self.document(elements.enumerated().map { ("\($0.offset)", $0.element) })
        case .null: []
        }
    }

    subscript(name: String) -> Document? {
        guard case .members(let members) = self else { return nil }
        return members.last { $0.0 == name }?.1
    }

    private static func document(_ members: [(String, Document)]) -> [UInt8] {
        var body: [UInt8] = []
        for (name, value) in members {
            body += [value.type] + Array(name.utf8) + [0] + value.bytes
        }
        return little(Int32(body.count + 5)) + body + [0]
    }

    private static func little(_ number: some FixedWidthInteger) -> [UInt8] {
        (0..<(number.bitWidth / 8)).map { UInt8(truncatingIfNeeded: number >> (8 * $0)) }
    }
}

/// What an update changed, as the server tells it.
struct Changes: Sendable {
    var updated: [String] = []
    var removed: [String] = []
    /// Arrays that were cut off.
    var truncated: [String] = []

    static func updated(_ names: String...) -> Changes { Changes(updated: names) }
    static func removed(_ names: String...) -> Changes { Changes(removed: names) }
    static func truncated(_ names: String...) -> Changes { Changes(truncated: names) }

    var document: Document {
        [
            "updatedFields": .members(updated.map { ($0, 1) }),
            "removedFields": .elements(removed.map { Document(stringLiteral: $0) }),
            "truncatedArrays": .elements(
                truncated.map { ["field": Document(stringLiteral: $0), "newSize": 1] }),
        ]
    }
}

/// Builds batches of the collection `inventory.products`, as the MongoDB source does.
struct DocumentBatch: ~Copyable {
    enum Change: Sendable {
        case insert(Document)
        case update(Document, Changes, before: Document? = nil, flags: UInt8 = 0)
        case replace(Document, before: Document? = nil)
        case delete(key: Document, before: Document? = nil)
        /// An update whose document was gone when it was looked up.
        case gone(key: Document, Changes?, before: Document? = nil)
        case drop
        case read(Document)
    }

    static let name = TableName(schema: "inventory", name: "products")

    private var builder = BatchBuilder(
        reusing: EventBatch(), eventLimit: 1 << 20, byteLimit: 1 << 26)
    private var last = ""

    /// - Parameter time: of the first change; each has the next increment.
    static func of(_ changes: [Change], time: UInt64) -> EventBatch {
        var batch = DocumentBatch()
        for (index, change) in changes.enumerated() {
            batch.add(change, token: token(time + UInt64(index)))
        }
        return batch.seal()
    }

    static func of(_ change: Change, token: String) -> EventBatch {
        var batch = DocumentBatch()
        batch.add(change, token: token)
        return batch.seal()
    }

    /// A resume token's `_data` as a server of version 6 makes it.
    ///
    /// - Parameters:
    ///   - place: of the change in its transaction.
    ///   - id: of the document, as the token encodes it.
    static func token(
        _ time: UInt64, place: Int = 0, collection: UInt8 = 0xA1,
        id: String = "64653F0C2A9B8D7E6F5A4B3C2D"
    ) -> String {
        let index = place == 0 ? "29" : place < 64 ? "2B" + hex(UInt64(2 * place), 2) : "2C0100"
        let uuid = String(repeating: hex(UInt64(collection), 2), count: 16)
        return "82" + hex(time, 16) + "2B022C0100" + index + "6E5A1004" + uuid + "46645F696400" + id
            + "0004"
    }

    static func hex(_ number: UInt64, _ digits: Int) -> String {
        let text = String(number, radix: 16, uppercase: true)
        return String(repeating: "0", count: max(0, digits - text.utf8.count)) + text
    }

    mutating func add(_ change: Change, token: String) {
        let table = builder.table(
            .collection(version: 11, database: Self.name.schema, name: Self.name.name))
        var operation = Operation.update
        var flags: UInt8 = 0
        var key: Document?
        var before: Document?
        var after: Document?
        var changes: Changes?
        switch change {
        case .insert(let document): (operation, after) = (.insert, document)
        case .read(let document): (operation, after) = (.read, document)
        case .update(let document, let what, let old, let more):
            (after, changes, before, flags) = (document, what, old, more)
        case .replace(let document, let old): (after, before) = (document, old)
        case .delete(let id, let old): (operation, key, before) = (.delete, id, old)
        case .gone(let id, let what, let old):
            (key, changes, before, flags) = (id, what, old, Event.rowGone)
        case .drop: (operation, flags) = (.truncate, Event.dropped)
        }
        if operation == .delete, before == nil { flags |= Event.beforeIsKey }
        let documentKey = key ?? after.map { ["_id": $0["_id"] ?? nil] }
        var details = Slice.empty
        if operation != .read {
            details = append([
                value(.text, Array(token.utf8.dropFirst(18))),
                changes.map { value(.bson, $0.document.bytes) } ?? .null, .null,
            ])
        }
        let keySlice = documentKey.map { append([value(.bson, $0.bytes)]) } ?? .empty
        let beforeSlice: Slice
        if let before {
            beforeSlice = append([value(.bson, before.bytes)])
        } else if operation == .delete, let documentKey {
            beforeSlice = append([value(.bsonKey, documentKey.bytes)])
        } else {
            beforeSlice = .empty
        }
        let afterSlice = after.map { append([value(.bson, $0.bytes)]) } ?? .empty
        let time =
            operation == .read ? 0 : UInt64(token.dropFirst(2).prefix(16), radix: 16) ?? 0
        builder.append(
            Event(
                operation: operation, flags: flags, table: table, commit: time, ordinal: 0,
                transaction: 0, change: time,
                commitMicros: operation == .read ? Event.noTime : 1_795_226_584_123_456,
                key: keySlice, before: beforeSlice, after: afterSlice, details: details))
        last = token
    }

    private mutating func append(_ values: [Value]) -> Slice {
        let start = builder.valueCount
        for value in values { builder.append(value) }
        return Slice(start: start, count: values.count)
    }

    private mutating func value(_ form: Value.Form, _ bytes: [UInt8]) -> Value {
        let start = unsafe bytes.withUnsafeBytes { unsafe builder.append($0) }
        return Value(form: form, bytes: Slice(start: start, count: bytes.count))
    }

    consuming func seal() -> EventBatch {
        let end = Position(token: last + "+")
        return builder.seal(resume: end, end: end)
    }
}

/// A collection in memory that stands behind the stream.
actor ScriptedDocuments: RowReader {
    private var documents: [Document] = []
    private(set) var scans: [TableName] = []
    private var isScanning = false

    func set(_ documents: [Document]) { self.documents = documents }

    func rows(
        of schema: TableSchema, keys: [[[UInt8]]], showing transactions: [UInt32]
    ) -> EventBatch { DocumentBatch.of([], time: 0) }

    func scan(_ table: TableName, showing transactions: [UInt32]) {
        scans.append(table)
        isScanning = true
    }

    func next() -> EventBatch? {
        guard isScanning else { return nil }
        isScanning = false
        return DocumentBatch.of(documents.map { .read($0) }, time: 0)
    }

    func close() {}
}
