/// How a value's text is to be read, whatever the source calls its type.
public enum TypeClass: UInt8, Sendable, BitwiseCopyable, CaseIterable {
    /// `t` or `f`.
    case boolean
    /// Two or four bytes: exact in every JSON reader.
    case integer
    /// Eight bytes: beyond what a JavaScript reader keeps.
    case int64
    /// `NaN`, `Infinity` and `-Infinity` besides numbers.
    case float
    /// Any number of digits, `NaN`, `Infinity`, `-Infinity`.
    case numeric
    /// JSON text, spliced as it is.
    case json
    /// ISO date and time with a space between, or `infinity`.
    case timestamp
    /// The same with a zone offset.
    case timestampTZ
    /// Everything the source itself shows as a string.
    case text
    /// A type Weir has no rule for: its text is delivered and the type named beside it (invariant
    /// 6).
    case opaque
    /// One BSON document.
    case document
}

/// Whether a column holds one value or an array of them, and how its text is written.
public enum ArrayShape: Sendable, Equatable {
    case scalar
    /// PostgreSQL's array literal with this element delimiter.
    case literal(delimiter: UInt8)
    /// Elements separated by blanks (`int2vector`, `oidvector`).
    case vector
}

/// The type of a column.
public struct ColumnType: Sendable, Equatable {
    /// The class of the value, or of an array's elements.
    public let valueClass: TypeClass
    public let array: ArrayShape
    /// The source's own name for it, with its schema unless built in.
    public let name: String

    public init(_ valueClass: TypeClass, array: ArrayShape = .scalar, name: String) {
        self.valueClass = valueClass
        self.array = array
        self.name = name
    }
}

/// One column of a table as the source described it.
public struct Column: Sendable, Equatable {
    public let name: String
    public let type: ColumnType
    /// The type as the table's definition has it: with its length or precision, and a domain under
    /// its own name, with the schema. Nil where the source does not tell, or no longer knows.
    public let declaredType: String?
    /// The table refuses null here. False also where that is not known.
    public let isNotNull: Bool
    /// The table is partitioned by it, so that a row whose value changes may be deleted from one
    /// partition and inserted into another. False also where that is not known.
    public let isPartitionKey: Bool
    /// Texts that differ may be equal in it, as under a collation that ignores case. False also
    /// where that is not known.
    public let isLoose: Bool
    /// Names the same column has in other versions of the table, as far as the source knows them:
    /// one that was renamed is still meant by a configuration that has another name of it.
    public let otherNames: [String]

    public init(
        name: String, type: ColumnType, declaredType: String? = nil, isNotNull: Bool = false,
        isPartitionKey: Bool = false, isLoose: Bool = false, otherNames: [String] = []
    ) {
        self.isLoose = isLoose
        self.otherNames = otherNames
        self.name = name
        self.type = type
        self.declaredType = declaredType
        self.isNotNull = isNotNull
        self.isPartitionKey = isPartitionKey
    }
}

/// One version of a table's shape. A changed table gets a new schema with a new `version`.
public struct TableSchema: Sendable, Equatable {
    /// Unique within a source's life in this process; sinks key their compiled projections by it.
    public let version: UInt32
    public let database: String
    public let schema: String
    public let name: String
    public let columns: [Column]
    /// Indexes of the key columns in `columns`; empty when the table has no key.
    public let key: [Int]
    /// Two rows never have the same key. False where the whole row stands for a missing key
    /// (PostgreSQL: REPLICA IDENTITY FULL without a primary key).
    public let isKeyUnique: Bool
    /// Changes and deletes come with all of the old row (PostgreSQL: REPLICA IDENTITY FULL). Nil
    /// where that is not known, or differs from row to row.
    public let sendsWholeOldRows: Bool?
    /// Columns that this version lacks and another one has whose rows may still come: one that was
    /// added later, or dropped since. Who names one of them is not mistaken.
    public let otherColumns: [String]

    /// The stand-in for messages: no table has an empty name.
    package var isMessages: Bool { name.isEmpty }

    public init(
        version: UInt32,
        database: String,
        schema: String,
        name: String,
        columns: [Column],
        key: [Int],
        isKeyUnique: Bool = true,
        sendsWholeOldRows: Bool? = nil,
        otherColumns: [String] = []
    ) {
        self.otherColumns = otherColumns
        self.sendsWholeOldRows = sendsWholeOldRows
        self.version = version
        self.database = database
        self.schema = schema
        self.name = name
        self.columns = columns
        self.key = key
        self.isKeyUnique = isKeyUnique
    }

    /// A collection: its rows are one column that holds the whole document, named `$`, and a key is
    /// a document too.
    public static func collection(version: UInt32, database: String, name: String) -> TableSchema {
        let document = ColumnType(.document, name: "document")
        return TableSchema(
            version: version, database: database, schema: database, name: name,
            columns: [Column(name: wholeDocument, type: document)], key: [0])
    }

    /// What a configuration calls the whole document.
    public static let wholeDocument = "$"

    /// Rows are documents.
    public var isCollection: Bool { columns.count == 1 && columns[0].type.valueClass == .document }

    /// The stand-in for events of no table: messages, with the columns `prefix` and `content`.
    public static func messages(version: UInt32, database: String) -> TableSchema {
        let text = ColumnType(.text, name: "text")
        return TableSchema(
            version: version, database: database, schema: "", name: "",
            columns: [Column(name: "prefix", type: text), Column(name: "content", type: text)],
            key: []
        )
    }
}

/// The name of a table as the configuration writes it: `schema.table`, a part in double quotes
/// where it holds a dot, a quote or white space (`public."odd.name"`).
public struct TableName: Sendable, Hashable, Comparable, CustomStringConvertible {
    public let schema: String
    public let name: String

    public init(schema: String, name: String) {
        self.schema = schema
        self.name = name
    }

    /// Nil when the text is no table name. A single part belongs to `public`.
    public init?(parsing text: String) {
        var parts: [String] = []
        var part = ""
        var quoted = false
        var wasQuoted = false
        var rest = text.unicodeScalars[...]
        while let scalar = rest.popFirst() {
            if scalar == "\0" { return nil }
            if quoted {
                if scalar != "\"" {
                    part.unicodeScalars.append(scalar)
                } else if rest.first == "\"" {
                    rest.removeFirst()
                    part += "\""
                } else {
                    quoted = false
                }
            } else if scalar == "\"" && part.isEmpty && !wasQuoted {
                quoted = true
                wasQuoted = true
            } else if scalar == "." {
                if part.isEmpty { return nil }
                parts.append(part)
                part = ""
                wasQuoted = false
            } else if wasQuoted || scalar == "\"" || scalar.properties.isWhitespace {
                return nil
            } else {
                part.unicodeScalars.append(scalar)
            }
        }
        if quoted || part.isEmpty { return nil }
        parts.append(part)
        switch parts.count {
        case 1: self.init(schema: "public", name: parts[0])
        case 2: self.init(schema: parts[0], name: parts[1])
        default: return nil
        }
    }

    public static func < (left: TableName, right: TableName) -> Bool {
        (left.schema, left.name) < (right.schema, right.name)
    }

    public var description: String { Self.quoted(schema) + "." + Self.quoted(name) }

    private static func quoted(_ part: String) -> String {
        let needsQuotes = part.unicodeScalars.contains {
            $0 == "." || $0 == "\"" || $0.properties.isWhitespace
        }
        guard needsQuotes else { return part }
        let doubled = part.unicodeScalars.flatMap { $0 == "\"" ? ["\"", "\""] : [$0] }
        return "\"" + String(String.UnicodeScalarView(doubled)) + "\""
    }
}
