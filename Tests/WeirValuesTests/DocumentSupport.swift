import WeirCore
import WeirJSON
import WeirValues

/// A value of a test document.
indirect enum DocumentValue: ExpressibleByStringLiteral, ExpressibleByIntegerLiteral,
    ExpressibleByNilLiteral
{
    case text([UInt8])
    case int32(Int32)
    case int64(Int64)
    case double(Double)
    case bool(Bool)
    case objectId([UInt8])
    case date(Int64)
    case document([(String, DocumentValue)])
    case array([DocumentValue])
    case null

    init(stringLiteral text: String) { self = .text(Array(text.utf8)) }
    init(integerLiteral number: Int32) { self = .int32(number) }
    init(nilLiteral: ()) { self = .null }

    fileprivate var type: UInt8 {
        switch self {
        case .double: 0x01
        case .text: 0x02
        case .document: 0x03
        case .array: 0x04
        case .objectId: 0x07
        case .bool: 0x08
        case .date: 0x09
        case .null: 0x0A
        case .int32: 0x10
        case .int64: 0x12
        }
    }

    fileprivate var bytes: [UInt8] {
        switch self {
        case .text(let text): littleEndian(Int32(text.count + 1)) + text + [0]
        case .int32(let number): littleEndian(number)
        case .int64(let number), .date(let number): littleEndian(number)
        case .double(let number): littleEndian(number.bitPattern)
        case .bool(let flag): [flag ? 1 : 0]
        case .objectId(let id): id
        case .document(let members): bson(members)
        case .array(let elements):
            bson(elements.enumerated().map { ("\($0.offset)", $0.element) })
        case .null: []
        }
    }
}

/// The bytes of a document with these members.
func bson(_ members: [(String, DocumentValue)]) -> [UInt8] {
    var elements: [UInt8] = []
    for (name, value) in members {
        elements += [value.type] + Array(name.utf8) + [0] + value.bytes
    }
    return littleEndian(Int32(elements.count + 5)) + elements + [0]
}

private func littleEndian(_ number: some FixedWidthInteger) -> [UInt8] {
    (0..<(number.bitWidth / 8)).map { UInt8(truncatingIfNeeded: number >> (8 * $0)) }
}

extension TableSchema {
    static let articles = TableSchema.collection(version: 5, database: "cms", name: "articles")
}

extension TestBatch {
    static let token = "8265A1"

    /// Appends an event as the MongoDB source does.
    ///
    /// - Parameter key: the document `documentKey`.
    mutating func addDocument(
        _ operation: WeirCore.Operation,
        flags: UInt8 = 0,
        key: [UInt8]? = nil,
        before: Cell? = nil,
        after: Cell? = nil,
        token: String? = TestBatch.token,
        changes: [(String, DocumentValue)]? = nil,
        transaction: String? = nil
    ) {
        let table = builder.table(.articles)
        let details: [Cell] = [
            .text(token ?? ""), changes.map { .document(bson($0)) } ?? nil,
            transaction.map { .text($0) } ?? nil,
        ]
        builder.append(
            Event(
                operation: operation, flags: flags, table: table,
                commit: 1_795_226_584 << 32 | 3, ordinal: 0, transaction: 0, change: 0,
                commitMicros: commitMicros / 1000 * 1000,
                key: append(key.map { [.document($0)] } ?? []),
                before: append(before.map { [$0] } ?? []),
                after: append(after.map { [$0] } ?? []),
                details: token == nil ? .empty : append(details)))
    }
}

/// The lines of one event of the collection `cms.articles`.
func documentLines(
    _ format: LineFormat,
    _ operation: WeirCore.Operation,
    flags: UInt8 = 0,
    key: [UInt8]? = nil,
    before: Cell? = nil,
    after: Cell? = nil,
    token: String? = TestBatch.token,
    changes: [(String, DocumentValue)]? = nil,
    transaction: String? = nil,
    columns: [ColumnChoice]? = nil,
    mode: DocumentMode = .relaxed
) throws -> [String] {
    var batch = TestBatch()
    batch.addDocument(
        operation, flags: flags, key: key, before: before, after: after, token: token,
        changes: changes, transaction: transaction)
    return try lines(
        format, batch.seal(), kind: "mongodb", columns: columns,
        options: ValueOptions(documents: mode))
}

/// The text of what a path leads to in one value of a table, and the outcome.
func rendered(
    _ path: String, _ cell: Cell, in schema: TableSchema = .articles, asJSON: Bool = false,
    mode: DocumentMode = .relaxed
) -> (text: String, outcome: PlainRenderer.Outcome)? {
    let options = ValueOptions(documents: mode)
    guard let found = FieldPath(path)?.resolve(in: schema, options: options) else { return nil }
    var batch = TestBatch()
    let image = batch.append([cell])
    let sealed = batch.seal()
    var renderer = PlainRenderer()
    var writer = JSONWriter(capacity: 0)
    let outcome = sealed.withView { view in
        renderer.append(asJSON ? found.asJSON() : found, of: image, in: view, into: &writer)
    }
    return (writer.text, outcome)
}
