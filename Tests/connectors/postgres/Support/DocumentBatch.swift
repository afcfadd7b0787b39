import WeirCore

/// A BSON value as a test writes it.
indirect enum DocumentValue: Hashable, Sendable {
    /// Whatever bytes, also such as are no UTF-8.
    case text([UInt8])
    case int32(Int32)
    case int64(Int64)
    case double(Double)
    case bool(Bool)
    case objectId([UInt8])
    /// Milliseconds since 1970.
    case date(Int64)
    case uuid([UInt8])
    /// Coefficient and exponent of a number without sign.
    case decimal(UInt64, exponent: Int)
    case document([Member])
    case array([DocumentValue])
    case null

    struct Member: Hashable, Sendable {
        let name: String
        let value: DocumentValue
    }

    static func document(_ members: KeyValuePairs<String, DocumentValue>) -> DocumentValue {
        .document(members.map { Member(name: $0, value: $1) })
    }

    private var type: UInt8 {
        switch self {
        case .double: 0x01
        case .text: 0x02
        case .document: 0x03
        case .array: 0x04
        case .uuid: 0x05
        case .objectId: 0x07
        case .bool: 0x08
        case .date: 0x09
        case .null: 0x0A
        case .int32: 0x10
        case .int64: 0x12
        case .decimal: 0x13
        }
    }

    /// As the specification has it; of a document and an array the whole.
    var bytes: [UInt8] {
        switch self {
        case .text(let text): Self.littleEndian(Int32(text.count + 1)) + text + [0]
        case .int32(let number): Self.littleEndian(number)
        case .int64(let number), .date(let number): Self.littleEndian(number)
        case .double(let number): Self.littleEndian(number.bitPattern)
        case .bool(let flag): [flag ? 1 : 0]
        case .objectId(let id): id
        case .uuid(let id): Self.littleEndian(Int32(id.count)) + [4] + id
        case .decimal(let digits, let exponent):
            Self.littleEndian(digits) + Self.littleEndian(UInt64(exponent + 6176) << 49)
        case .document(let members): Self.whole(members)
        case .array(let elements):
            Self.whole(
                elements.enumerated().map { Member(name: "\($0.offset)", value: $0.element) })
        case .null: []
        }
    }

    private static func whole(_ members: [Member]) -> [UInt8] {
        var elements: [UInt8] = []
        for member in members {
            elements += [member.value.type] + Array(member.name.utf8) + [0] + member.value.bytes
        }
        return littleEndian(Int32(elements.count + 5)) + elements + [0]
    }

    private static func littleEndian(_ number: some FixedWidthInteger) -> [UInt8] {
        (0..<(number.bitWidth / 8)).map { UInt8(truncatingIfNeeded: number >> (8 * $0)) }
    }
}

extension DocumentValue: ExpressibleByStringLiteral, ExpressibleByIntegerLiteral {
    init(_ text: String) { self = .text(Array(text.utf8)) }
    init(stringLiteral text: String) { self.init(text) }
    init(integerLiteral number: Int32) { self = .int32(number) }
}

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
        append(Array(token.utf8), .text)
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
