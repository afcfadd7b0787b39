package import WeirCore

/// Builds batches of one small table, `public.items (id, note)`, whose events are told apart by id.
package struct SampleBatch: ~Copyable {
    private var builder: BatchBuilder

    /// A value of the column `note`.
    package enum Note: Sendable {
        case null, unchanged
        case text([UInt8])
        case binary([UInt8])
        case bson([UInt8])
    }

    package static let table = TableSchema(
        version: 7, database: "shop", schema: "public", name: "items",
        columns: [
            Column(name: "id", type: ColumnType(.text, name: "text")),
            Column(name: "note", type: ColumnType(.text, name: "text")),
        ],
        key: [0])

    package init() {
        builder = BatchBuilder(reusing: EventBatch(), eventLimit: 1 << 20, byteLimit: 1 << 24)
    }

    /// Fills the batch a source was given.
    package init(into builder: consuming BatchBuilder) { self.builder = builder }

    package var count: Int { builder.eventCount }

    /// The id of the event `add` makes for this place.
    package static func id(_ commit: UInt64, _ ordinal: UInt32) -> String { "\(commit)/\(ordinal)" }

    package mutating func add(
        commit: UInt64, ordinal: UInt32 = 0, operation: Operation = .insert,
        note: Note = .text(Array("a".utf8))
    ) {
        let table = builder.table(Self.table)
        let id = Value(form: .text, bytes: append(Array(Self.id(commit, ordinal).utf8)))
        let value =
            switch note {
            case .null: Value.null
            case .unchanged: Value.unchanged
            case .text(let bytes): Value(form: .text, bytes: append(bytes))
            case .binary(let bytes): Value(form: .binary, bytes: append(bytes))
            case .bson(let bytes): Value(form: .bson, bytes: append(bytes))
            }
        let first = builder.valueCount
        for part in [id, id, value] { builder.append(part) }
        let row = Slice(start: first + 1, count: 2)
        builder.append(
            Event(
                operation: operation, table: table, commit: commit, ordinal: ordinal,
                transaction: 1, change: commit, commitMicros: 1_795_226_584_123_456,
                key: Slice(start: first, count: 1),
                before: operation == .delete ? row : .empty,
                after: operation == .delete ? .empty : row))
    }

    private mutating func append(_ bytes: [UInt8]) -> Slice {
        let start = unsafe bytes.withUnsafeBytes { unsafe builder.append($0) }
        return Slice(start: start, count: bytes.count)
    }

    package consuming func seal(resume: Position?, end: Position?) -> EventBatch {
        builder.seal(resume: resume, end: end)
    }

    /// One whole transaction.
    package static func transaction(_ commit: UInt64, count: Int) -> EventBatch {
        part(of: commit, 0..<count, isLast: true)
    }

    /// A part of one; only the last can be resumed after.
    package static func part(
        of commit: UInt64, _ ordinals: Range<Int>, isLast: Bool
    ) -> EventBatch {
        var batch = SampleBatch()
        for ordinal in ordinals { batch.add(commit: commit, ordinal: UInt32(ordinal)) }
        let after = Position(high: commit + 8)
        let inside = Position(high: commit, low: UInt32(ordinals.upperBound))
        return batch.seal(resume: isLast ? after : nil, end: isLast ? after : inside)
    }

    /// Only a boundary, as an idle source gives.
    package static func boundary(_ position: UInt64) -> EventBatch {
        SampleBatch().seal(resume: Position(high: position), end: Position(high: position))
    }
}

extension EventBatch {
    /// The ids of its events, as `SampleBatch` numbers them.
    package var ids: [String] { events.map { SampleBatch.id($0.commit, $0.ordinal) } }
}
