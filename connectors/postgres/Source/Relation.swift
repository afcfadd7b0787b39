import WeirCore

/// An `R` message as it came.
struct RelationMessage: Sendable, Equatable {
    struct Column: Sendable, Equatable {
        let isIdentity: Bool
        let name: String
        let type: UInt32
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
            _ = try reader.readInteger(Int32.self)
            columns.append(Column(isIdentity: flags & 1 == 1, name: name, type: type))
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
    let isIdentity: [Bool]
    /// Whether the configuration wants this table.
    let isTaken: Bool
    /// Whether some column's text may be no UTF-8, and which (CORRECTNESS 14).
    let checksText: Bool
    let checkedColumns: [Bool]
    /// False when a null of an `O` row may mean "not sent" (CORRECTNESS 30).
    let sendsWholeOldRows: Bool

    init(
        _ message: RelationMessage, schema: TableSchema, isTaken: Bool, checkedColumns: [Bool],
        sendsWholeOldRows: Bool
    ) {
        self.sendsWholeOldRows = sendsWholeOldRows
        oid = message.oid
        self.message = message
        self.schema = schema
        columnCount = message.columns.count
        isIdentity = message.columns.map(\.isIdentity)
        self.isTaken = isTaken
        self.checkedColumns = checkedColumns
        checksText = checkedColumns.contains(true)
    }

    /// The columns of a table's primary key as they are now, in its own order: what is described
    /// does not say so.
    static func primaryKeyQuery(_ oid: UInt32) -> String {
        "SELECT a.attname FROM pg_catalog.pg_index i, "
            + "unnest((i.indkey::pg_catalog.int2[])[0:i.indnkeyatts - 1]) "
            + "WITH ORDINALITY k(attnum, place) "
            + "JOIN pg_catalog.pg_attribute a ON a.attnum = k.attnum "
            + "WHERE i.indrelid = \(oid) AND a.attrelid = i.indrelid "
            + "AND i.indisprimary ORDER BY k.place"
    }

    /// The columns that name a row (CORRECTNESS 24): the primary key if every image has it, that is
    /// if all of it belongs to the replica identity; else the identity's columns.
    ///
    /// With REPLICA IDENTITY NOTHING only inserts arrive, and those hold the whole primary key.
    static func key(_ columns: [RelationMessage.Column], primaryKey: [String]?) -> [Int] {
        let identity = columns.indices.filter { columns[$0].isIdentity }
        guard let primaryKey, !primaryKey.isEmpty else { return identity }
        let indexes = primaryKey.compactMap { name in columns.firstIndex { $0.name == name } }
        guard indexes.count == primaryKey.count else { return identity }
        let isInEveryImage = identity.isEmpty || indexes.allSatisfy { columns[$0].isIdentity }
        return isInEveryImage ? indexes : identity
    }
}

/// The relations and types one connection has described (CORRECTNESS 23, 25). A new connection
/// starts a new one: the server describes everything again.
struct RelationCatalogue: Sendable {
    let database: String
    /// Tables outside it are counted as filtered; nil takes every published table.
    private let tables: Set<TableName>?
    /// The numbers these names had when streaming began: a table that was renamed is still wanted,
    /// and its changes carry the name of their time.
    private let numbers: Set<UInt32>
    /// The database may hold text that is no UTF-8 (server encoding SQL_ASCII).
    private let checksAllText: Bool
    /// Schema versions go on rising over reconnects, because sinks keep projections by them.
    private(set) var nextVersion: UInt32

    private(set) var relations: [UInt32: Relation] = [:]
    private var types: [UInt32: String] = [:]

    init(
        database: String, tables: Set<TableName>?, numbers: Set<UInt32> = [],
        checksAllText: Bool, firstVersion: UInt32
    ) {
        self.database = database
        self.tables = tables
        self.numbers = numbers
        self.checksAllText = checksAllText
        nextVersion = firstVersion
    }

    mutating func addType(_ reader: inout ByteReader) throws(MalformedBytes) {
        let oid = try reader.readInteger(UInt32.self)
        let schema = try reader.readCString()
        let name = try reader.readCString()
        addType(oid, schema: schema.isEmpty ? "pg_catalog" : schema, name: name)
    }

    mutating func addType(_ oid: UInt32, schema: String, name: String) {
        types[oid] = schema + "." + name
    }

    /// CORRECTNESS 23: a repeat without a visible change keeps the schema's version.
    mutating func install(
        _ message: RelationMessage, primaryKey: [String]?, sendsWholeOldRows: Bool
    ) {
        let relation = relation(
            message, primaryKey: primaryKey, sendsWholeOldRows: sendsWholeOldRows)
        if let known = relations[message.oid], known.message == message,
            known.schema.key == relation.schema.key,
            known.schema.columns == relation.schema.columns,
            known.sendsWholeOldRows == sendsWholeOldRows
        {
            return
        }
        nextVersion += 1
        relations[message.oid] = relation
    }

    /// What a description amounts to, under the next version.
    func relation(
        _ message: RelationMessage, primaryKey: [String]?, sendsWholeOldRows: Bool
    ) -> Relation {
        let key = Relation.key(message.columns, primaryKey: primaryKey)
        let isWholeRow =
            message.replicaIdentity == UInt8(ascii: "f") && key.count == message.columns.count
        let schema = TableSchema(
            version: nextVersion, database: database, schema: message.schema, name: message.name,
            columns: message.columns.map { Column(name: $0.name, type: type(of: $0.type)) },
            key: key, isKeyUnique: !isWholeRow || primaryKey?.count == key.count)
        let name = TableName(schema: message.schema, name: message.name)
        return Relation(
            message, schema: schema,
            isTaken: numbers.contains(message.oid) || tables?.contains(name) ?? true,
            checkedColumns: message.columns.map { checksAllText || $0.type == Self.charType },
            sendsWholeOldRows: sendsWholeOldRows)
    }

    /// `"char"` holds any byte; PostgreSQL 14 sends it as it is.
    private static let charType: UInt32 = 18

    /// CORRECTNESS 25, 50: an unknown type's text is delivered and the type named.
    private func type(of oid: UInt32) -> ColumnType {
        if let type = builtinType(oid: oid) { return type }
        return ColumnType(.opaque, name: types[oid] ?? "oid \(oid)")
    }
}
