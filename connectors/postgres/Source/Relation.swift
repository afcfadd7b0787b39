import WeirCore

/// An `R` message as it came.
struct RelationMessage: Sendable, Equatable {
    struct Column: Sendable, Equatable {
        let isIdentity: Bool
        let name: String
        let type: UInt32
        /// Length or precision, as `pg_attribute.atttypmod`.
        let modifier: Int32
    }
    let oid: UInt32
    let schema: String
    let name: String
    /// `d` default, `n` nothing, `f` full, `i` index.
    let replicaIdentity: UInt8
    let columns: [Column]
}

extension RelationMessage {
    init(_ reader: inout ByteReader) throws(MalformedBytes) {
        oid = try reader.readInteger(UInt32.self)
        let schema = try reader.readCString()
        // An empty name stands for pg_catalog.
        self.schema = schema.isEmpty ? "pg_catalog" : schema
        name = try reader.readCString()
        replicaIdentity = try reader.readByte()
        let count = Int(try reader.readInteger(UInt16.self))
        var columns: [Column] = []
        for _ in 0..<count {
            let flags = try reader.readByte()
            let name = try reader.readCString()
            let type = try reader.readInteger(UInt32.self)
            let modifier = try reader.readInteger(Int32.self)
            columns.append(
                Column(isIdentity: flags & 1 == 1, name: name, type: type, modifier: modifier))
        }
        self.columns = columns
    }
}

/// A relation ready for decoding. Immutable: a changed table becomes a new one.
final class Relation: Sendable {
    let oid: UInt32
    let message: RelationMessage
    let schema: TableSchema
    let columnCount: Int
    /// The columns that every old row has.
    let isIdentity: [Bool]
    /// Whether some column's text may be no UTF-8, and which (CORRECTNESS 14).
    let checksText: Bool
    let checkedColumns: [Bool]
    /// False when a null of an `O` row may mean "not sent" (CORRECTNESS 30).
    let sendsWholeOldRows: Bool
    /// An old row that comes as a key is a whole one.
    let sendsWholeRowsAsKeys: Bool
    /// No row has a null in its key: an old row of a partition that has one was written without
    /// its key (CORRECTNESS 74), any other row before that was the key (CORRECTNESS 24).
    let hasUniqueKey: Bool
    let isPartitioned: Bool

    init(
        _ message: RelationMessage, schema: TableSchema, checkedColumns: [Bool],
        identity: RowIdentity, isPartitioned: Bool = false
    ) {
        sendsWholeOldRows = identity.isWhole
        sendsWholeRowsAsKeys = identity.sendsWholeRowsAsKeys
        hasUniqueKey = schema.isKeyUnique && !schema.key.isEmpty
        self.isPartitioned = isPartitioned
        oid = message.oid
        self.message = message
        self.schema = schema
        columnCount = message.columns.count
        isIdentity = identity.columns
        self.checkedColumns = checkedColumns
        checksText = checkedColumns.contains(true)
    }

    /// As it was before it had the key: the whole row stands for one where old rows are whole.
    fileprivate init(withoutKey relation: Relation, version: UInt32) {
        let now = relation.schema
        let isFull = relation.message.replicaIdentity == UInt8(ascii: "f")
        schema = TableSchema(
            version: version, database: now.database, schema: now.schema, name: now.name,
            columns: now.columns, key: isFull ? Array(now.columns.indices) : [],
            isKeyUnique: false, sendsWholeOldRows: now.sendsWholeOldRows,
            otherColumns: now.otherColumns)
        hasUniqueKey = false
        isPartitioned = false
        oid = relation.oid
        message = relation.message
        columnCount = relation.columnCount
        isIdentity = relation.isIdentity
        checksText = relation.checksText
        checkedColumns = relation.checkedColumns
        sendsWholeOldRows = relation.sendsWholeOldRows
        sendsWholeRowsAsKeys = relation.sendsWholeRowsAsKeys
    }
}

/// The relations and types one connection has described (CORRECTNESS 23, 25). A new connection
/// starts a new one: the server describes everything again.
struct RelationCatalogue: Sendable {
    let database: String
    /// Tables outside it are counted as filtered; nil takes every published table.
    private let tables: Set<TableName>?
    /// Tables that had another name when their changes were written: by their number, with the
    /// names the configuration has for them now (CORRECTNESS 76).
    private let followed: [UInt32: TableName]
    /// The database may hold text that is no UTF-8 (server encoding SQL_ASCII).
    private let checksAllText: Bool
    /// Schema versions go on rising over reconnects, because sinks keep projections by them.
    private(set) var nextVersion: UInt32

    private(set) var relations: [UInt32: Relation] = [:]
    /// Those that the configuration does not want. Of them no more is kept, so that a publication
    /// may have any number.
    private(set) var leftOut: Set<UInt32> = []
    private var types: [UInt32: String] = [:]
    /// Types that were named since the last relation, which are those of the next one.
    private var newTypes: [UInt32] = []
    /// Of all relations that are taken together.
    private var columnCount = 0

    /// Far more than a database has, and what keeps a server from filling our memory with what it
    /// describes. A table has at most 1,600 columns, whose names have 63 bytes.
    static let columnsMax = 1 << 20
    static let leftOutMax = 1 << 22
    static let typesMax = 1 << 17
    static let descriptionBytesMax = 1 << 20

    init(
        database: String, tables: Set<TableName>?, followed: [UInt32: TableName] = [:],
        checksAllText: Bool, firstVersion: UInt32
    ) {
        self.database = database
        self.tables = tables
        self.followed = followed
        self.checksAllText = checksAllText
        nextVersion = firstVersion
    }

    mutating func addType(_ reader: inout ByteReader) throws(MalformedBytes) {
        let oid = try reader.readInteger(UInt32.self)
        let schema = try reader.readCString()
        let name = try reader.readCString()
        guard types.count < Self.typesMax || types[oid] != nil else {
            throw MalformedBytes("more types than a database has", at: reader.offset)
        }
        if types[oid] == nil { newTypes.append(oid) }
        addType(oid, schema: schema.isEmpty ? "pg_catalog" : schema, name: name)
    }

    /// Of a message that describes a relation or a type.
    static func checkDescription(_ bytes: Int) throws(MalformedBytes) {
        guard bytes <= descriptionBytesMax else {
            throw MalformedBytes("description is too long", at: 0)
        }
    }

    /// Whether the configuration wants what is described.
    func takes(_ message: RelationMessage) -> Bool {
        let name = followed[message.oid] ?? TableName(schema: message.schema, name: message.name)
        return tables?.contains(name) ?? true
    }

    /// Keeps of a relation that is not wanted that it is not.
    mutating func leaveOut(_ message: RelationMessage) throws(MalformedBytes) {
        guard leftOut.count < Self.leftOutMax else {
            throw MalformedBytes("more tables than a database has", at: 0)
        }
        for type in newTypes { types[type] = nil }
        newTypes = []
        columnCount -= relations.removeValue(forKey: message.oid)?.columnCount ?? 0
        leftOut.insert(message.oid)
    }

    func checkRoom(for message: RelationMessage) throws(MalformedBytes) {
        let replaced = relations[message.oid]?.columnCount ?? 0
        guard columnCount - replaced + message.columns.count <= Self.columnsMax else {
            throw MalformedBytes("more columns than a database has", at: 0)
        }
    }

    mutating func addType(_ oid: UInt32, schema: String, name: String) {
        types[oid] = schema + "." + name
    }

    /// CORRECTNESS 23: a repeat without a visible change keeps the schema's version.
    ///
    /// - Parameters:
    ///   - table: what the catalogue says now; nil when it no longer knows the table.
    ///   - memory: what is remembered of it.
    mutating func install(
        _ message: RelationMessage, table: CatalogueTable?, memory: TableMemory.Table? = nil
    ) {
        newTypes = []
        leftOut.remove(message.oid)
        let relation = relation(message, table: table, memory: memory)
        if let known = relations[message.oid], known.message == message,
            known.schema.key == relation.schema.key,
            known.schema.columns == relation.schema.columns,
            known.schema.otherColumns == relation.schema.otherColumns,
            known.isIdentity == relation.isIdentity,
            known.sendsWholeOldRows == relation.sendsWholeOldRows,
            known.sendsWholeRowsAsKeys == relation.sendsWholeRowsAsKeys
        {
            return
        }
        nextVersion += 1
        columnCount += relation.columnCount - (relations[message.oid]?.columnCount ?? 0)
        relations[message.oid] = relation
    }

    /// The catalogue says which key the table has now, and its rows are of a time before that. From
    /// here on it is decoded without, until the server describes it again.
    mutating func dropKey(of relation: Relation) -> Relation {
        nextVersion += 1
        let new = Relation(withoutKey: relation, version: nextVersion - 1)
        relations[relation.oid] = new
        return new
    }

    /// What a description amounts to, under the next version.
    func relation(
        _ message: RelationMessage, table: CatalogueTable?, memory: TableMemory.Table? = nil,
        isNow: Bool = false
    ) -> Relation {
        let identity = RowIdentity(message, table)
        let key = identity.key
        let isWholeRow = identity.isKeyWholeRow
        let name = followed[message.oid] ?? TableName(schema: message.schema, name: message.name)
        let names = ColumnNames(message, table, memory, isNow: isNow)
        let schema = TableSchema(
            version: nextVersion, database: database, schema: name.schema, name: name.name,
            columns: message.columns.map { column($0, table, names.others(of: $0.name)) }, key: key,
            isKeyUnique: !isWholeRow, sendsWholeOldRows: identity.isFull,
            otherColumns: names.missing)
        return Relation(
            message, schema: schema,
            checkedColumns: message.columns.map { checksAllText || $0.type == Self.charType },
            identity: identity, isPartitioned: !(table?.leaves.isEmpty ?? true))
    }

    /// The catalogue knows only the present: what it says of a column holds while the column has
    /// the type that was described.
    private func column(
        _ described: RelationMessage.Column, _ table: CatalogueTable?, _ otherNames: [String]
    ) -> Column {
        let now = table?.columns.first {
            $0.name == described.name && $0.type == described.type
                && $0.modifier == described.modifier
        }
        return Column(
            name: described.name, type: type(of: described.type), declaredType: now?.declaredType,
            isNotNull: now?.isNotNull ?? false, isPartitionKey: now?.isPartitionKey ?? false,
            isLoose: now?.isLoose ?? false, otherNames: otherNames)
    }

    /// `"char"` holds any byte; PostgreSQL 14 sends it as it is.
    private static let charType: UInt32 = 18

    /// CORRECTNESS 25, 50: an unknown type's text is delivered and the type named.
    private func type(of oid: UInt32) -> ColumnType {
        if let type = builtinType(oid: oid) { return type }
        return ColumnType(.opaque, name: types[oid] ?? "oid \(oid)")
    }
}
