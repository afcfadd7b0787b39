import WeirCore

/// Builds batches of the table `public.items (id text PRIMARY KEY, note text, stock int)`.
struct ItemBatch: ~Copyable {
    struct Row: Equatable, Sendable {
        var id: [UInt8]
        var note: [UInt8]?
        var stock = "1"
        /// The note did not change and was not sent.
        var isNoteUnchanged = false
        /// Nor the stock.
        var isStockUnchanged = false

        init(_ id: String, _ note: String?, stock: String = "1") {
            self.init(Array(id.utf8), note.map { Array($0.utf8) }, stock: stock)
        }

        init(_ id: [UInt8], _ note: [UInt8]?, stock: String = "1") {
            self.id = id
            self.note = note
            self.stock = stock
        }
    }

    enum Change: Sendable {
        case insert(Row)
        case update(Row)
        /// The key was another before.
        case move(from: [UInt8], to: Row)
        case delete([UInt8])
        case truncate
        case read(Row)
    }

    static let table = TableSchema(
        version: 3, database: "shop", schema: "public", name: "items",
        columns: [
            Column(name: "id", type: ColumnType(.text, name: "text")),
            Column(name: "note", type: ColumnType(.text, name: "text")),
            Column(name: "stock", type: ColumnType(.integer, name: "int4")),
        ],
        key: [0])

    private var builder = BatchBuilder(
        reusing: EventBatch(), eventLimit: 1 << 20, byteLimit: 1 << 26)
    private var last: (commit: UInt64, ordinal: UInt32) = (0, 0)

    static func of(_ changes: [Change], commit: UInt64, transaction: UInt32 = 7) -> EventBatch {
        var batch = ItemBatch()
        for (ordinal, change) in changes.enumerated() {
            batch.add(change, commit: commit, ordinal: UInt32(ordinal), transaction: transaction)
        }
        return batch.seal()
    }

    mutating func add(
        _ change: Change, commit: UInt64, ordinal: UInt32 = 0, transaction: UInt32 = 7
    ) {
        let table = builder.table(Self.table)
        var flags: UInt8 = 0
        var key = Slice.empty
        var before = Slice.empty
        var after = Slice.empty
        let operation: Operation
        switch change {
        case .insert(let row), .read(let row), .update(let row):
            key = keyTuple(row.id)
            after = image(row)
            operation =
                if case .insert = change { .insert } else if case .read = change { .read } else {
                    .update
                }
        case .move(let old, let row):
            key = keyTuple(row.id)
            before = keyImage(old)
            after = image(row)
            flags = Event.beforeIsKey | Event.keyChanged
            operation = .update
        case .delete(let id):
            key = keyTuple(id)
            before = keyImage(id)
            flags = Event.beforeIsKey
            operation = .delete
        case .truncate:
            operation = .truncate
        }
        builder.append(
            Event(
                operation: operation, flags: flags, table: table, commit: commit, ordinal: ordinal,
                transaction: transaction, change: commit, commitMicros: 1_795_226_584_123_456,
                key: key, before: before, after: after))
        last = (commit, ordinal)
    }

    /// An insert into a table the sink does not take.
    mutating func addForeign(commit: UInt64, ordinal: UInt32 = 0) {
        let schema = TableSchema(
            version: 4, database: "shop", schema: "public", name: "others",
            columns: [Column(name: "n", type: ColumnType(.integer, name: "int4"))], key: [0])
        let table = builder.table(schema)
        let value = text(Array("1".utf8))
        let start = builder.valueCount
        for _ in 0..<2 { builder.append(value) }
        builder.append(
            Event(
                operation: .insert, table: table, commit: commit, ordinal: ordinal, transaction: 7,
                change: commit, commitMicros: 1_795_226_584_123_456,
                key: Slice(start: start, count: 1), after: Slice(start: start + 1, count: 1)))
        last = (commit, ordinal)
    }

    private mutating func keyTuple(_ id: [UInt8]) -> Slice {
        let start = builder.valueCount
        builder.append(text(id))
        return Slice(start: start, count: 1)
    }

    private mutating func keyImage(_ id: [UInt8]) -> Slice {
        let start = builder.valueCount
        for value in [text(id), .unchanged, .unchanged] { builder.append(value) }
        return Slice(start: start, count: 3)
    }

    private mutating func image(_ row: Row) -> Slice {
        let id = text(row.id)
        let note = row.isNoteUnchanged ? .unchanged : row.note.map { text($0) } ?? .null
        let stock = row.isStockUnchanged ? .unchanged : text(Array(row.stock.utf8))
        let start = builder.valueCount
        for value in [id, note, stock] { builder.append(value) }
        return Slice(start: start, count: 3)
    }

    private mutating func text(_ bytes: [UInt8]) -> Value {
        let start = unsafe bytes.withUnsafeBytes { unsafe builder.append($0) }
        return Value(form: .text, bytes: Slice(start: start, count: bytes.count))
    }

    consuming func seal() -> EventBatch {
        let end = Position(high: last.commit + 8)
        return builder.seal(resume: end, end: end)
    }
}
