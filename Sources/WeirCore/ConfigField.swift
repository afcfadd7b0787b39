/// One key of the configuration, described once: loading, checking, `weir.schema.json` and
/// `reference.md` all come from it.
public struct ConfigField: Sendable {
    public let name: String
    public let type: ConfigType
    /// One or two full sentences.
    public let summary: String
    public let isRequired: Bool
    /// The default as JSON text, or nil when there is none to show.
    public let defaultJSON: String?
    /// A realistic value as JSON text.
    public let exampleJSON: String?

    public init(
        _ name: String,
        _ type: ConfigType,
        _ summary: String,
        required: Bool = false,
        default defaultJSON: String? = nil,
        example exampleJSON: String? = nil
    ) {
        self.name = name
        self.type = type
        self.summary = summary
        self.isRequired = required
        self.defaultJSON = defaultJSON
        self.exampleJSON = exampleJSON
    }
}

/// The shapes a configuration value can have: one per key, but for `secret`, `columns` and
/// `choiceOrNames`.
public indirect enum ConfigType: Sendable {
    case string
    /// Text, or `{"env": …}`, `{"file": …}`, `{"credential": …}`; redacted wherever it is shown.
    case secret
    case boolean
    case integer(ClosedRange<Int>)
    /// `"200ms"`, `"30s"`, `"5m"`, `"1h"`.
    case duration(ClosedRange<Duration>)
    /// `"64KiB"`, `"8MiB"`, `"1GiB"`, or a plain number of bytes as text.
    case size(ClosedRange<Int>)
    case choice([String])
    /// One of these words, or a list of names.
    case choiceOrNames([String])
    case list(of: ConfigType)
    /// `schema.table`.
    case table
    /// A list of columns or paths, or an object from output name to column or path.
    case columns
    /// An object with these keys.
    case object([ConfigField])
}

/// A checked value of the configuration.
public enum ConfigValue: Sendable, Equatable {
    case string(String)
    case secret(Secret)
    case boolean(Bool)
    case integer(Int)
    case duration(Duration)
    case list([ConfigValue])
    case table(TableName)
    case columns([ColumnChoice])
    case object(ConfigValues)
}

/// One chosen column, or value inside one: where it comes from and what it is called in the
/// output.
public struct ColumnChoice: Sendable, Hashable {
    public let output: String
    public let source: String

    public init(output: String, source: String) {
        self.output = output
        self.source = source
    }
}

/// Text that is never shown: not in logs, errors, `status`, nor by `print`.
public struct Secret: Sendable, Equatable, CustomStringConvertible {
    private let text: String
    /// Where it came from, such as `env SHOP_URL`, for messages.
    public let origin: String

    public init(_ text: String, origin: String) {
        self.text = text
        self.origin = origin
    }

    /// The text itself. Every use is a place to review.
    public func reveal() -> String { text }

    public var description: String { "***" }
}

/// The checked keys of one object of the configuration. Keys that were left out and have a default
/// are present with it, so that a connector's `init` reads like its list of fields.
public struct ConfigValues: Sendable, Equatable {
    public let values: [String: ConfigValue]

    public init(_ values: [String: ConfigValue]) {
        self.values = values
    }

    public func string(_ key: String) -> String? {
        if case .string(let text)? = values[key] { text } else { nil }
    }
    public func secret(_ key: String) -> Secret? {
        if case .secret(let secret)? = values[key] { secret } else { nil }
    }
    public func boolean(_ key: String) -> Bool? {
        if case .boolean(let flag)? = values[key] { flag } else { nil }
    }
    /// Integers and sizes (in bytes).
    public func integer(_ key: String) -> Int? {
        if case .integer(let number)? = values[key] { number } else { nil }
    }
    public func duration(_ key: String) -> Duration? {
        if case .duration(let duration)? = values[key] { duration } else { nil }
    }
    public func strings(_ key: String) -> [String]? {
        guard case .list(let items)? = values[key] else { return nil }
        return items.compactMap { if case .string(let text) = $0 { text } else { nil } }
    }
    public func tables(_ key: String) -> [TableName]? {
        guard case .list(let items)? = values[key] else { return nil }
        return items.compactMap { if case .table(let name) = $0 { name } else { nil } }
    }
    public func table(_ key: String) -> TableName? {
        if case .table(let name)? = values[key] { name } else { nil }
    }
    public func columns(_ key: String) -> [ColumnChoice]? {
        if case .columns(let choices)? = values[key] { choices } else { nil }
    }
    /// The keys of a nested object, with the defaults of those it leaves out; nil when the object
    /// itself was left out and has no default.
    public func object(_ key: String) -> ConfigValues? {
        if case .object(let values)? = values[key] { values } else { nil }
    }
}

/// A fault of the configuration that a connector found, at one of its own keys.
public struct ConfigIssue: Error, Sendable {
    /// The key it is about, with a dot before each key of a nested object, as in `text.config`;
    /// nil means the whole object.
    public let field: String?
    /// An element of the key's list, where one is at fault.
    public let index: Int?
    public let message: String
    public let suggestion: String?

    public init(field: String?, index: Int? = nil, _ message: String, suggestion: String? = nil) {
        self.field = field
        self.index = index
        self.message = message
        self.suggestion = suggestion
    }
}

/// Where a connector's configuration stands: what a connector may look at to check itself.
public struct ConfigScope: Sendable {
    public let pipeline: String
    /// The sink's name, or "source".
    public let name: String
    /// The checked keys of the connector itself.
    public let values: ConfigValues
    /// The checked keys of its connection, when it has one.
    public let connection: ConfigValues?
    public let connectionName: String?
    /// For a sink: the connector type of its pipeline's source, such as "postgres"; else empty.
    public let sourceType: String
    /// For a sink: see `SourceConnector.sendsDocuments`.
    public let sendsDocuments: Bool
    /// For a sink: the tables its pipeline's source reads; nil when it does not list them, so that
    /// any may come.
    public let sourceTables: [TableName]?

    public init(
        pipeline: String,
        name: String,
        values: ConfigValues,
        connection: ConfigValues? = nil,
        connectionName: String? = nil,
        sourceType: String = "",
        sendsDocuments: Bool = false,
        sourceTables: [TableName]? = nil
    ) {
        self.pipeline = pipeline
        self.name = name
        self.values = values
        self.connection = connection
        self.connectionName = connectionName
        self.sourceType = sourceType
        self.sendsDocuments = sendsDocuments
        self.sourceTables = sourceTables
    }

    /// For a sink: the tables it gets, its own choice or else the source's; nil when nobody lists
    /// them.
    public var knownTables: [TableName]? { values.tables("tables") ?? sourceTables }
}

/// A connector's settings, made from checked values. Pure: no I/O.
public protocol ConnectorConfig: Sendable {
    /// At most 20.
    static var fields: [ConfigField] { get }
    /// Checks what one key alone does not show.
    init(_ scope: ConfigScope) throws(ConfigIssue)
    /// Things only one pipeline or sink may use, in words: `slot weir_shop of connection shop`.
    var claims: [String] { get }
    /// Things that several may use, but none beside one that claims them, in words:
    /// `publication shop of postgres localhost:5432/shop`. What another pipeline uses or claims,
    /// `weir drop` leaves.
    var uses: [String] { get }
    /// What works but should be known, such as a connection without verified TLS.
    var warnings: [String] { get }
    /// For a source without the key `tables`: what it reads; nil when only the server knows. The
    /// value of the key `tables` counts without it.
    var tables: [TableName]? { get }
    /// Which tables of which database it reads or writes; nil where no pipeline could read them
    /// back.
    var reach: TableReach? { get }
    /// Where its server is, without user and password, as messages name it; nil without a server.
    var place: String? { get }
    /// How an operator removes, with the server's own tools, what the connector keeps there for
    /// itself: for a pipeline whose connection is no longer configured.
    var removal: [String] { get }
    /// Keys whose change concerns only what comes: what was delivered before is not out of step.
    static var passingKeys: Set<String> { get }
    /// What a sink has written stays as it is: it only ever adds to its target.
    static var isAppendOnly: Bool { get }
}

extension ConnectorConfig {
    public var claims: [String] { [] }
    public var uses: [String] { [] }
    public var warnings: [String] { [] }
    public var tables: [TableName]? { nil }
    public var reach: TableReach? { nil }
    public var place: String? { nil }
    public var removal: [String] { [] }
    public static var passingKeys: Set<String> { [] }
    public static var isAppendOnly: Bool { false }
}
