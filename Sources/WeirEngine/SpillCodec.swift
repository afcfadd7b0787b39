import WeirCore

// One record of a spill file, all integers little-endian:
//
//   │ length of body 4 │ checksum of body 8 │ body │
//   body: │ resume │ end │ tables │ n events 4 │ events │ n values 4 │ values │ n bytes 4 │ arena │
//
// Events and values are their memory as it is: a spill is read back by the program that wrote it,
// or by one with the same `SpillCodec.version`, which the file's first bytes name.

/// Turns batches into bytes and back. Pure.
enum SpillCodec {
    /// Raise it with every change of `Event`, `Value` or this layout.
    static let version: UInt32 = 5
    /// The oldest one whose records `decode` reads as well.
    static let oldestVersion: UInt32 = 2
    static let headerBytes = 12

    static func encode(_ batch: EventBatch) -> [UInt8] {
        var body = ByteSink()
        body.append(batch.resume)
        body.append(batch.end)
        body.append(UInt32(batch.tables.count))
        for table in batch.tables { append(table, to: &body) }
        body.append(UInt32(batch.events.count))
        body.append(raw: batch.events)
        body.append(UInt32(batch.values.count))
        body.append(raw: batch.values)
        body.append(UInt32(batch.arena.count))
        body.append(raw: batch.arena)
        var record = ByteSink()
        record.append(UInt32(body.bytes.count))
        record.append(checksum(body.bytes))
        record.bytes += body.bytes
        return record.bytes
    }

    /// - Throws: when the bytes are not what `encode` made.
    static func decode(body: [UInt8]) throws(MalformedBytes) -> EventBatch {
        var source = ByteSource(bytes: body)
        let resume = try source.position()
        let end = try source.position()
        let isFormer = source.isFormer
        var tables: [TableSchema] = []
        for _ in 0..<(try source.count(minimumBytes: 16)) { tables.append(try table(&source)) }
        let events = try source.raw(
            Event.self, enumeration: MemoryLayout<Event>.offset(of: \.operation),
            below: Operation.allCases.count)
        var values = try source.raw(
            Value.self, enumeration: MemoryLayout<Value>.offset(of: \.form),
            below: Int(Value.Form.bsonKey.rawValue) + 1)
        let arena = try source.raw(UInt8.self)
        guard source.isAtEnd else { throw MalformedBytes("bytes after the end", at: source.offset) }
        try check(events, values, tables: tables.count, arena: arena.count)
        if isFormer { Self.cutTokens(of: events, &values) }
        return EventBatch(
            tables: tables, events: events, values: values, arena: arena, resume: resume, end: end)
    }

    /// Until version 4 an event's first detail was its whole token: `82`, the commit's 16 digits
    /// and the tail.
    private static func cutTokens(of events: [Event], _ values: inout [Value]) {
        let head: UInt32 = 18
        for event in events where !event.details.isEmpty {
            let index = Int(event.details.start) + Event.Detail.tail.rawValue
            let token = values[index]
            guard token.form == .text, token.bytes.count >= head else { continue }
            values[index] = Value(
                form: .text,
                bytes: Slice(start: token.bytes.start + head, count: token.bytes.count - head))
        }
    }

    /// Nothing points outside of the batch: sinks rely on it without looking.
    private static func check(
        _ events: [Event], _ values: [Value], tables: Int, arena: Int
    ) throws(MalformedBytes) {
        for event in events {
            let end = max(
                event.key.range.upperBound, event.before.range.upperBound,
                event.after.range.upperBound, event.details.range.upperBound)
            guard event.table < UInt32(tables), end <= values.count,
                event.details.isEmpty || event.details.count == Event.Detail.allCases.count
            else {
                throw MalformedBytes("event points outside of its batch", at: 0)
            }
        }
        for value in values where value.bytes.range.upperBound > arena {
            throw MalformedBytes("value points outside of its batch", at: 0)
        }
    }

    /// FNV-1a over 64-bit words: fast enough for a disk, and finds what a torn write leaves.
    static func checksum(_ bytes: [UInt8]) -> UInt64 {
        var hash: UInt64 = 0xCBF2_9CE4_8422_2325
        unsafe bytes.withUnsafeBytes { raw in
            var offset = 0
            while offset + 8 <= raw.count {
                let word = unsafe raw.loadUnaligned(fromByteOffset: offset, as: UInt64.self)
                hash = (hash ^ word) &* 0x0000_0100_0000_01B3
                hash ^= hash >> 32
                offset += 8
            }
            while offset < raw.count {
                hash = unsafe (hash ^ UInt64(raw[offset])) &* 0x0000_0100_0000_01B3
                offset += 1
            }
        }
        return hash
    }

    private static func append(_ table: TableSchema, to body: inout ByteSink) {
        body.append(table.version)
        body.append(table.database)
        body.append(table.schema)
        body.append(table.name)
        body.append(UInt32(table.columns.count))
        for column in table.columns {
            body.append(column.name)
            body.append(column.type.name)
            var flags = UInt32(column.type.valueClass.rawValue)
            if column.declaredType != nil { flags |= Self.isDeclared }
            if column.isNotNull { flags |= Self.isNotNull }
            if column.isPartitionKey { flags |= Self.isPartitionKey }
            if column.isLoose { flags |= Self.isLoose }
            if !column.otherNames.isEmpty { flags |= Self.hasOtherNames }
            body.append(flags)
            switch column.type.array {
            case .scalar: body.append(UInt32(0))
            case .literal(let delimiter): body.append(UInt32(1) | UInt32(delimiter) << 8)
            case .vector: body.append(UInt32(2))
            }
            if let declared = column.declaredType { body.append(declared) }
            if !column.otherNames.isEmpty { body.append(column.otherNames) }
        }
        var keyCount = UInt32(table.key.count)
        if !table.isKeyUnique { keyCount |= Self.sharedKey }
        if let isWhole = table.sendsWholeOldRows {
            keyCount |= isWhole ? Self.wholeOldRows : Self.partialOldRows
        }
        if !table.otherColumns.isEmpty { keyCount |= Self.hasOtherColumns }
        body.append(keyCount)
        for index in table.key { body.append(UInt32(index)) }
        if !table.otherColumns.isEmpty { body.append(table.otherColumns) }
    }

    private static func table(_ source: inout ByteSource) throws(MalformedBytes) -> TableSchema {
        let version = try source.integer(UInt32.self)
        let database = try source.string()
        let schema = try source.string()
        let name = try source.string()
        var columns: [Column] = []
        for _ in 0..<(try source.count(minimumBytes: 16)) {
            let column = try source.string()
            let typeName = try source.string()
            let rawClass = try source.integer(UInt32.self)
            let rawShape = try source.integer(UInt32.self)
            guard let valueClass = TypeClass(rawValue: UInt8(truncatingIfNeeded: rawClass)) else {
                throw MalformedBytes("unknown type class", at: source.offset)
            }
            let shape: ArrayShape =
                switch rawShape & 0xFF {
                case 0: .scalar
                case 1: .literal(delimiter: UInt8(truncatingIfNeeded: rawShape >> 8))
                default: .vector
                }
            let declared = rawClass & Self.isDeclared == 0 ? nil : try source.string()
            let otherNames = rawClass & Self.hasOtherNames == 0 ? [] : try source.strings()
            columns.append(
                Column(
                    name: column, type: ColumnType(valueClass, array: shape, name: typeName),
                    declaredType: declared, isNotNull: rawClass & Self.isNotNull != 0,
                    isPartitionKey: rawClass & Self.isPartitionKey != 0,
                    isLoose: rawClass & Self.isLoose != 0, otherNames: otherNames))
        }
        var key: [Int] = []
        let keyCount = try source.integer(UInt32.self)
        for _ in 0..<(keyCount & ~Self.keyFlags) {
            let index = Int(try source.integer(UInt32.self))
            guard index < columns.count else {
                throw MalformedBytes("key column out of range", at: source.offset)
            }
            key.append(index)
        }
        let otherColumns = keyCount & Self.hasOtherColumns == 0 ? [] : try source.strings()
        return TableSchema(
            version: version, database: database, schema: schema, name: name, columns: columns,
            key: key, isKeyUnique: keyCount & Self.sharedKey == 0,
            sendsWholeOldRows: keyCount & Self.wholeOldRows != 0
                ? true : keyCount & Self.partialOldRows != 0 ? false : nil,
            otherColumns: otherColumns)
    }

    /// In a key's number of columns: rows may share it; what is known of old rows; and columns of
    /// other versions follow.
    private static let sharedKey: UInt32 = 1 << 31
    private static let wholeOldRows: UInt32 = 1 << 30
    private static let partialOldRows: UInt32 = 1 << 29
    private static let hasOtherColumns: UInt32 = 1 << 28
    private static let keyFlags = sharedKey | wholeOldRows | partialOldRows | hasOtherColumns

    /// In a column's type class: its declared type follows, it refuses null, the table is
    /// partitioned by it, and other names follow. Version 2 has none of them.
    private static let isDeclared: UInt32 = 1 << 8
    private static let isNotNull: UInt32 = 1 << 9
    private static let isPartitionKey: UInt32 = 1 << 10
    /// Texts that differ may be equal in it.
    private static let isLoose: UInt32 = 1 << 12
    private static let hasOtherNames: UInt32 = 1 << 11
}

/// What stands before a position, if there is one, and whether the record is of version 5.
private enum PositionWord {
    static let formerNone: UInt32 = 0
    static let formerSome: UInt32 = 1
    static let none: UInt32 = 2
    static let some: UInt32 = 3
}

/// Appends little-endian integers, counted strings and raw memory.
private struct ByteSink {
    var bytes: [UInt8] = []

    mutating func append<T: FixedWidthInteger>(_ number: T) {
        unsafe withUnsafeBytes(of: number.littleEndian) { unsafe bytes.append(contentsOf: $0) }
    }

    mutating func append(_ text: String) {
        append(UInt32(text.utf8.count))
        bytes += Array(text.utf8)
    }

    mutating func append(_ strings: [String]) {
        append(UInt32(strings.count))
        for string in strings { append(string) }
    }

    /// The word before it says of which version the record is: in a file that was taken up, old
    /// records lie before new ones.
    mutating func append(_ position: Position?) {
        append(position == nil ? PositionWord.none : PositionWord.some)
        if let position { append(position.text) }
    }

    mutating func append<T: BitwiseCopyable>(raw items: [T]) {
        unsafe items.withUnsafeBytes { unsafe bytes.append(contentsOf: $0) }
    }
}

/// Reads them back, every length checked.
private struct ByteSource {
    let bytes: [UInt8]
    private(set) var offset = 0
    /// The last position was written before version 5.
    private(set) var isFormer = false

    init(bytes: [UInt8]) { self.bytes = bytes }

    var isAtEnd: Bool { offset == bytes.count }

    mutating func take(_ count: Int) throws(MalformedBytes) -> Int {
        guard count >= 0, bytes.count - offset >= count else {
            throw MalformedBytes("bytes end early", at: offset)
        }
        defer { offset += count }
        return offset
    }

    mutating func integer<T: FixedWidthInteger & BitwiseCopyable>(
        _ type: T.Type
    ) throws(MalformedBytes) -> T {
        let at = try take(MemoryLayout<T>.size)
        return unsafe bytes.withUnsafeBytes {
            unsafe T(littleEndian: $0.loadUnaligned(fromByteOffset: at, as: T.self))
        }
    }

    /// A count of things that take at least so many bytes each, so that a wrong one allocates
    /// nothing.
    mutating func count(minimumBytes: Int) throws(MalformedBytes) -> Int {
        let count = Int(try integer(UInt32.self))
        guard count <= (bytes.count - offset) / minimumBytes else {
            throw MalformedBytes("count is impossible", at: offset)
        }
        return count
    }

    mutating func string() throws(MalformedBytes) -> String {
        let count = Int(try integer(UInt32.self))
        let at = try take(count)
        return String(decoding: bytes[at..<at + count], as: UTF8.self)
    }

    mutating func strings() throws(MalformedBytes) -> [String] {
        var strings: [String] = []
        for _ in 0..<(try count(minimumBytes: 4)) { strings.append(try string()) }
        return strings
    }

    mutating func position() throws(MalformedBytes) -> Position? {
        let word = try integer(UInt32.self)
        isFormer = word == PositionWord.formerNone || word == PositionWord.formerSome
        if word == PositionWord.none || word == PositionWord.formerNone { return nil }
        guard word == PositionWord.some || word == PositionWord.formerSome,
            let position = Position(text: try string())
        else { throw MalformedBytes("no position", at: offset) }
        return position
    }

    /// - Parameter enumeration: where each item has a byte that must be below `limit`: any other
    ///   value of an enumeration is no value at all.
    mutating func raw<T: BitwiseCopyable>(
        _ type: T.Type, enumeration: Int? = nil, below limit: Int = 0
    ) throws(MalformedBytes) -> [T] {
        let count = Int(try integer(UInt32.self))
        let byteCount = count * MemoryLayout<T>.stride
        let at = try take(byteCount)
        if let enumeration {
            for start in stride(from: at, to: at + byteCount, by: MemoryLayout<T>.stride)
            where Int(bytes[start + enumeration]) >= limit {
                throw MalformedBytes("unknown value", at: start + enumeration)
            }
        }
        return unsafe [T](unsafeUninitializedCapacity: count) { buffer, filled in
            unsafe bytes.withUnsafeBytes { source in
                unsafe UnsafeMutableRawBufferPointer(buffer).copyMemory(
                    from: UnsafeRawBufferPointer(rebasing: source[at..<at + byteCount]))
            }
            filled = count
        }
    }
}
