import WeirCore
import WeirJSON
import WeirTesting
import WeirValues

/// The bytes of a document with these members.
func bson(_ members: [(String, DocumentValue)]) -> [UInt8] { DocumentValue.document(members).bytes }

extension TableSchema {
    static let articles = TableSchema.collection(version: 5, database: "cms", name: "articles")
}

extension TestBatch {
    static let token = "826B00FBD8000000032B04"

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
            .text(String((token ?? "").dropFirst(18))), changes.map { .document(bson($0)) } ?? nil,
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
