package import WeirCore
import WeirJSON

/// What one sink makes of one version of a table: which operations it takes, which columns it shows
/// under which names, and how. Compiled once, then read for every event.
package struct Projection: Sendable {
    /// One member of the output.
    package struct Field: Sendable, BitwiseCopyable {
        /// The column's index in the source's rows; for `keyTuple`, in the event's key.
        package let column: Int
        package let kind: ValueKind
        let place: Place
        /// Which name this is in `names`, and which entry in a row's list of notes.
        let slot: Int
        /// `,"name":` in `names`.
        let name: Slice
    }

    /// Where in a row the value of a field is.
    enum Place: Sendable, BitwiseCopyable {
        case column
        /// The column is the row: a document, which is written with no name around it.
        case row
        /// Inside the column; an index into `paths`.
        case path(Int32)
    }

    package let schema: TableSchema
    /// The chosen columns, in the order chosen; all of them when none are. Without a choice a
    /// collection has one field, the document, which is the row itself.
    package let fields: [Field]
    /// The key's columns, under the source's names: an identity is not the sink's to rename. In a
    /// collection the whole document of the key.
    package let key: [Field]
    /// The same columns, to be read from `Event.key` and not from a row.
    package let keyTuple: [Field]
    /// The names of the fields and then of the key columns, each as `,"name":` in `names`. A key
    /// column that is also shown has its notes in the field's slot.
    let slots: [Slice]
    let names: [UInt8]
    let paths: [[[UInt8]]]
    /// The names of the fields, plain.
    let outputNames: [String]
    /// Names and types of the columns no rule exists for, as `"name":"type"` with commas between.
    let opaqueTypes: [UInt8]
    /// Which columns belong to the key.
    let isKeyColumn: [Bool]
    private let operations: UInt8

    /// - Parameters:
    ///   - columns: the sink's choice, of columns or paths; nil for every column.
    ///   - isOnlyTable: the source has no other table, so that all that is chosen is of this one.
    /// - Throws: `values.unknown_column` when a chosen column is missing from the only table the
    ///   sink takes. A sink of several tables shows of each what is there. No path is unknown in a
    ///   collection, and none that another version of the table has.
    package init(
        _ schema: TableSchema,
        routing: Routing,
        columns: [ColumnChoice]? = nil,
        options: ValueOptions = ValueOptions(),
        isOnlyTable: Bool = false
    ) throws(WeirError) {
        operations = Operation.allCases.filter { routing.takes($0, of: schema) }
            .reduce(0) { $0 | 1 << $1.rawValue }
        self.schema = schema
        // A choice of columns is about rows; a message has none.
        let chosen = try Self.resolve(
            schema.isMessages ? nil : columns,
            in: schema,
            isStrict: isOnlyTable
                || routing.tables == [TableName(schema: schema.schema, name: schema.name)]
        )

        let whole: Place = schema.isCollection ? .row : .column
        var names = NameTable()
        var fields: [Field] = []
        var paths: [[[UInt8]]] = []
        var opaque = JSONWriter(capacity: 256)
        for (output, reference) in chosen {
            let type = schema.columns[reference.column].type
            let slot = names.add(output)
            var place: Place = columns == nil ? whole : .column
            if !reference.isWholeColumn {
                place = .path(Int32(paths.count))
                paths.append(reference.path)
            }
            fields.append(
                Field(
                    column: reference.column, kind: ValueKind(type, options: options),
                    place: place, slot: slot, name: names.slots[slot]))
            if type.valueClass == .opaque { opaque.append(member: output, type.name) }
        }
        var key: [Field] = []
        var isKeyColumn = schema.columns.map { _ in false }
        for index in schema.key {
            isKeyColumn[index] = true
            let column = schema.columns[index]
            let slot = names.add(column.name)
            let shown = fields.first { field in
                if case .path = field.place { false } else { field.column == index }
            }
            key.append(
                Field(
                    column: index, kind: ValueKind(column.type, options: options), place: whole,
                    slot: shown?.slot ?? slot, name: names.slots[slot]))
            if shown == nil, column.type.valueClass == .opaque {
                opaque.append(member: column.name, column.type.name)
            }
        }
        self.fields = fields
        outputNames = chosen.map(\.output)
        self.key = key
        keyTuple = key.enumerated().map { position, field in
            Field(
                column: position, kind: field.kind, place: field.place, slot: field.slot,
                name: field.name)
        }
        self.paths = paths
        self.isKeyColumn = isKeyColumn
        slots = names.slots
        self.names = names.bytes
        opaqueTypes = opaque.bytes
    }

    package func takes(_ operation: Operation) -> Bool {
        operations & 1 << operation.rawValue != 0
    }

    /// The type of the column whose name is in `slot`.
    func type(ofSlot slot: Int) -> ColumnType {
        let field = slot < fields.count ? fields[slot] : key[slot - fields.count]
        return schema.columns[field.column].type
    }

    private static func resolve(
        _ columns: [ColumnChoice]?,
        in schema: TableSchema,
        isStrict: Bool
    ) throws(WeirError) -> [(output: String, reference: FieldReference)] {
        guard let columns else {
            return schema.columns.indices.map {
                (schema.columns[$0].name, FieldReference(column: $0, of: schema))
            }
        }
        var chosen: [(output: String, reference: FieldReference)] = []
        for choice in columns {
            if let reference = FieldPath(choice.source)?.resolve(in: schema) {
                chosen.append((choice.output, reference))
            } else if isStrict, FieldPath(choice.source)?.isOfOtherVersion(of: schema) != true {
                throw .unknownColumn(choice.source, in: schema, namedUnder: "columns")
            }
        }
        return chosen
    }
}

/// Names as they stand in an object, encoded once, one behind the other.
private struct NameTable {
    var bytes: [UInt8] = []
    var slots: [Slice] = []

    mutating func add(_ name: String) -> Int {
        var writer = JSONWriter(capacity: 80)
        writer.append(UInt8(ascii: ","))
        writer.appendQuoted(string: name)
        writer.append(UInt8(ascii: ":"))
        let encoded = writer.bytes
        slots.append(Slice(start: bytes.count, count: encoded.count))
        bytes += encoded
        return slots.count - 1
    }
}

extension JSONWriter {
    /// A copy of what was written, for what is compiled once.
    var bytes: [UInt8] {
        borrowing get { unsafe withBytes { unsafe Array($0) } }
    }

    /// Appends `"name":"value"`, after a comma unless it is the first thing.
    mutating func append(member name: String, _ value: String) {
        if !isEmpty { append(UInt8(ascii: ",")) }
        appendQuoted(string: name)
        append(UInt8(ascii: ":"))
        appendQuoted(string: value)
    }
}
