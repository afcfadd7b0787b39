import Testing
import WeirCore
import WeirJSON
import WeirTesting
import WeirValues

/// One value of a test row.
enum Cell: ExpressibleByStringLiteral, ExpressibleByNilLiteral {
    case text(String)
    case binary([UInt8])
    case document([UInt8])
    case documentKey([UInt8])
    case null
    case unchanged

    init(stringLiteral text: String) { self = .text(text) }
    init(nilLiteral: ()) { self = .null }
}

extension TableSchema {
    /// `public.orders`, unless said otherwise.
    static func test(
        _ columns: [(String, ColumnType)],
        key: [Int] = [0],
        schema: String = "public",
        name: String = "orders",
        version: UInt32 = 1
    ) -> TableSchema {
        TableSchema(
            version: version,
            database: "shop",
            schema: schema,
            name: name,
            columns: columns.map { Column(name: $0.0, type: $0.1) },
            key: key
        )
    }

    static let orders = TableSchema.test([
        ("id", .int8), ("note", .text), ("total", .numeric), ("at", .timestamptz),
    ])
}

extension ColumnType {
    static let bool = ColumnType(.boolean, name: "bool")
    static let int4 = ColumnType(.integer, name: "int4")
    static let int8 = ColumnType(.int64, name: "int8")
    static let numeric = ColumnType(.numeric, name: "numeric")
    static let float8 = ColumnType(.float, name: "float8")
    static let text = ColumnType(.text, name: "text")
    static let jsonb = ColumnType(.json, name: "jsonb")
    static let timestamp = ColumnType(.timestamp, name: "timestamp")
    static let timestamptz = ColumnType(.timestampTZ, name: "timestamptz")
    static let opaque = ColumnType(.opaque, name: "public.geometry")
    static let vector = ColumnType(.integer, array: .vector, name: "int2vector")
    static func array(_ valueClass: TypeClass, delimiter: Character = ",") -> ColumnType {
        ColumnType(
            valueClass,
            array: .literal(delimiter: delimiter.asciiValue ?? 0),
            name: "_\(valueClass)"
        )
    }
}

/// Builds the batch a source would.
struct TestBatch: ~Copyable {
    var builder = BatchBuilder(
        reusing: EventBatch(),
        eventLimit: 1 << 20,
        byteLimit: 1 << 20
    )
    private var ordinal: UInt32 = 0
    /// 2026-11-21 02:03:04.123456 UTC
    var commitMicros: Int64 = 1_795_226_584_123_456
    var commit: UInt64 = 0x16B37A0
    var transaction: UInt32 = 745

    /// Appends an event whose key is taken from `after`, else from `before`, as a source does.
    mutating func add(
        _ operation: WeirCore.Operation,
        _ schema: TableSchema = .orders,
        flags: UInt8 = 0,
        before: [Cell] = [],
        after: [Cell] = []
    ) {
        let row = after.isEmpty ? before : after
        let isRow = operation != .message && operation != .truncate && !row.isEmpty
        let key = isRow ? append(schema.key.map { row[$0] }) : .empty
        let table = builder.table(schema)
        builder.append(
            Event(
                operation: operation,
                flags: flags,
                table: table,
                commit: commit,
                ordinal: ordinal,
                transaction: transaction,
                change: 0x16B3748,
                commitMicros: commitMicros,
                key: key,
                before: append(before),
                after: append(after)
            )
        )
        ordinal += 1
    }

    mutating func append(_ cells: [Cell]) -> Slice {
        let start = builder.valueCount
        for cell in cells {
            switch cell {
            case .null: builder.append(.null)
            case .unchanged: builder.append(.unchanged)
            case .text(let text):
                builder.append(Value(form: .text, bytes: append(Array(text.utf8))))
            case .binary(let bytes):
                builder.append(Value(form: .binary, bytes: append(bytes)))
            case .document(let bytes):
                builder.append(Value(form: .bson, bytes: append(bytes)))
            case .documentKey(let bytes):
                builder.append(Value(form: .bsonKey, bytes: append(bytes)))
            }
        }
        return Slice(start: start, count: cells.count)
    }

    private mutating func append(_ bytes: [UInt8]) -> Slice {
        let start = unsafe bytes.withUnsafeBytes { unsafe builder.append($0) }
        return Slice(start: start, count: bytes.count)
    }

    consuming func seal() -> EventBatch { builder.seal(resume: nil, end: nil) }
}

extension JSONWriter {
    var text: String {
        borrowing get { unsafe withBytes { unsafe String(decoding: $0, as: UTF8.self) } }
    }
}

/// The lines of a batch, without their line ends.
func lines(
    _ format: LineFormat,
    _ batch: EventBatch,
    kind: String = "postgres",
    routing: Routing = Routing(),
    columns: [ColumnChoice]? = nil,
    options: ValueOptions = ValueOptions(),
    tombstones: Bool = true
) throws -> [String] {
    var encoder = LineEncoder(
        format: format,
        sourceKind: kind,
        sourceName: "shop",
        notation: kind == "mongodb" ? .tokens : .numbers,
        routing: routing,
        columns: columns,
        options: options,
        tombstones: tombstones
    )
    var writer = JSONWriter()
    let counts = try encoder.encode(batch, into: &writer)
    #expect(counts.delivered + counts.filtered == batch.events.count)
    let text = writer.text
    #expect(text.isEmpty || text.hasSuffix("\n"))
    return text.split(separator: "\n", omittingEmptySubsequences: false).dropLast().map(String.init)
}

/// The lines of one event.
func lines(
    _ format: LineFormat,
    _ operation: WeirCore.Operation,
    _ schema: TableSchema = .orders,
    flags: UInt8 = 0,
    before: [Cell] = [],
    after: [Cell] = [],
    columns: [ColumnChoice]? = nil,
    options: ValueOptions = ValueOptions()
) throws -> [String] {
    var batch = TestBatch()
    batch.add(operation, schema, flags: flags, before: before, after: after)
    return try lines(format, batch.seal(), columns: columns, options: options)
}
