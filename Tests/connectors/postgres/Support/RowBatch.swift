import WeirCore

/// A value of a row as a test writes it.
enum Field: Hashable, Sendable {
    case null
    /// The source did not send it.
    case unchanged
    case text([UInt8])
}

extension Field: ExpressibleByStringLiteral, ExpressibleByIntegerLiteral, ExpressibleByNilLiteral {
    init(_ text: String) { self = .text(Array(text.utf8)) }
    init(stringLiteral value: String) { self.init(value) }
    init(integerLiteral value: Int) { self.init("\(value)") }
    init(nilLiteral: ()) { self = .null }

    /// Nil for what has no text.
    var string: String? {
        if case .text(let bytes) = self { String(decoding: bytes, as: UTF8.self) } else { nil }
    }
}

/// A change as a source sends it; rows have one field per column.
enum RowChange: Sendable {
    case insert([Field])
    /// - Parameter from: the row before, where its key was another or where nothing else tells rows
    ///   apart.
    case update([Field], from: [Field]? = nil)
    case delete([Field])
    case truncate
    /// TRUNCATE … RESTART IDENTITY.
    case restart
}

/// Builds batches of any tables by hand, laid out as PostgreSQL's source does.
struct RowBatch: ~Copyable {
    private var builder = BatchBuilder(
        reusing: EventBatch(), eventLimit: 1 << 20, byteLimit: 1 << 26)

    var count: Int { builder.eventCount }

    /// One transaction that is whole.
    static func transaction(
        _ changes: [RowChange], of schema: TableSchema, commit: UInt64
    ) -> EventBatch {
        var batch = RowBatch()
        for (ordinal, change) in changes.enumerated() {
            batch.add(change, to: schema, commit: commit, ordinal: UInt32(ordinal))
        }
        return batch.seal(resume: Position(high: commit + 8))
    }

    mutating func add(
        _ change: RowChange, to schema: TableSchema, commit: UInt64, ordinal: UInt32
    ) {
        let table = builder.table(schema)
        var flags: UInt8 = 0
        var key = Slice.empty
        var before = Slice.empty
        var after = Slice.empty
        let operation: Operation
        switch change {
        case .insert(let row):
            operation = .insert
            key = append(schema.key.map { row[$0] })
            after = append(row)
        case .update(let row, let old):
            operation = .update
            key = append(schema.key.map { row[$0] })
            if let old {
                before = append(identity(of: old, schema))
                if schema.isKeyUnique { flags |= Event.beforeIsKey }
                if schema.key.contains(where: { old[$0] != row[$0] }) { flags |= Event.keyChanged }
            }
            after = append(row)
        case .delete(let row):
            operation = .delete
            key = append(schema.key.map { row[$0] })
            before = append(identity(of: row, schema))
            if schema.isKeyUnique { flags |= Event.beforeIsKey }
        case .truncate: operation = .truncate
        case .restart:
            operation = .truncate
            flags |= Event.restartIdentity
        }
        builder.append(
            Event(
                operation: operation, flags: flags, table: table, commit: commit, ordinal: ordinal,
                transaction: 7, change: commit, commitMicros: 1_795_226_584_123_456, key: key,
                before: before, after: after))
    }

    /// What the source sends of a row that was: its key, or all of it.
    private func identity(of row: [Field], _ schema: TableSchema) -> [Field] {
        guard schema.isKeyUnique else { return row }
        return row.indices.map { schema.key.contains($0) ? row[$0] : .unchanged }
    }

    private mutating func append(_ fields: [Field]) -> Slice {
        let values = fields.map { field in
            switch field {
            case .null: return Value.null
            case .unchanged: return Value.unchanged
            case .text(let bytes):
                let start = unsafe bytes.withUnsafeBytes { unsafe builder.append($0) }
                return Value(form: .text, bytes: Slice(start: start, count: bytes.count))
            }
        }
        let start = builder.valueCount
        for value in values { builder.append(value) }
        return Slice(start: start, count: values.count)
    }

    consuming func seal(resume: Position?) -> EventBatch {
        builder.seal(resume: resume, end: resume)
    }
}

extension TableSchema {
    /// A table of these columns; PostgreSQL types by name, `text` where none is given.
    ///
    /// - Parameter columns: such as `id int4`.
    static func test(
        _ name: String, version: UInt32, _ columns: [String], key: [Int], isKeyUnique: Bool = true
    ) -> TableSchema {
        TableSchema(
            version: version, database: "shop", schema: "public", name: name,
            columns: columns.map { text in
                let parts = text.split(separator: " ")
                let type = parts.count > 1 ? String(parts[1]) : "text"
                let valueClass: TypeClass =
                    ["int4": .integer, "int8": .int64, "json": .json, "jsonb": .json][type] ?? .text
                return Column(name: String(parts[0]), type: ColumnType(valueClass, name: type))
            }, key: key, isKeyUnique: isKeyUnique)
    }
}
