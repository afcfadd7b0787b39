/// One system Weir can talk to: what the registry lists, what the configuration calls `type`.
public struct ConnectorDescriptor: Sendable {
    public let type: String
    /// One sentence for the reference page.
    public let summary: String
    /// The keys of a connection of this type; nil when it needs none.
    public let connectionFields: [ConfigField]?
    public let source: SourceRole?
    public let sink: SinkRole?
    public let errorCodes: [ErrorCode]

    public init(
        type: String,
        summary: String,
        connectionFields: [ConfigField]? = nil,
        source: SourceRole? = nil,
        sink: SinkRole? = nil,
        errorCodes: [ErrorCode] = []
    ) {
        self.type = type
        self.summary = summary
        self.connectionFields = connectionFields
        self.source = source
        self.sink = sink
        self.errorCodes = errorCodes
    }
}

/// How to check and make a source of one type.
public struct SourceRole: Sendable {
    public let fields: [ConfigField]
    /// See `ConnectorConfig.passingKeys`.
    public let passingKeys: Set<String>
    public let notation: SourceNotation
    /// See `SourceConnector`.
    public let sendsDocuments: Bool
    public let hasManyReaders: Bool
    public let check: @Sendable (ConfigScope) throws(ConfigIssue) -> any ConnectorConfig
    public let make:
        @Sendable (any ConnectorConfig, ConnectorContext) throws(WeirError) -> any SourceConnector
    /// Makes a reader of the source's rows; nil when it has none.
    public let makeRowReader:
        (@Sendable (any ConnectorConfig, ConnectorContext) throws(WeirError) -> any RowReader)?

    public init<S: SourceConnector>(_ type: S.Type) {
        fields = S.Config.fields
        passingKeys = S.Config.passingKeys
        notation = S.notation
        sendsDocuments = S.sendsDocuments
        hasManyReaders = S.hasManyReaders
        check = { (scope) throws(ConfigIssue) -> any ConnectorConfig in try S.Config(scope) }
        make = { (config, context) throws(WeirError) -> any SourceConnector in
            guard let config = config as? S.Config else {
                throw WeirError(.bug, .bug, "\(config) is not a configuration of \(S.self)")
            }
            return try S(config, context)
        }
        if let reading = S.self as? any SourceRows.Type {
            makeRowReader = Self.rowReader(of: reading)
        } else {
            makeRowReader = nil
        }
    }

    private static func rowReader<S: SourceRows>(
        of type: S.Type
    ) -> @Sendable (any ConnectorConfig, ConnectorContext) throws(WeirError) -> any RowReader {
        { (config, context) throws(WeirError) -> any RowReader in
            guard let config = config as? S.Config else {
                throw WeirError(.bug, .bug, "\(config) is not a configuration of \(S.self)")
            }
            return try S.makeRowReader(config, context)
        }
    }
}

/// How to check and make a sink of one type.
public struct SinkRole: Sendable {
    public let fields: [ConfigField]
    /// See `ConnectorConfig.passingKeys`.
    public let passingKeys: Set<String>
    /// See `ConnectorConfig.isAppendOnly`.
    public let isAppendOnly: Bool
    public let check: @Sendable (ConfigScope) throws(ConfigIssue) -> any ConnectorConfig
    public let make:
        @Sendable (any ConnectorConfig, ConnectorContext) throws(WeirError) -> any SinkConnector

    public init<S: SinkConnector>(_ type: S.Type) {
        fields = S.Config.fields
        passingKeys = S.Config.passingKeys
        isAppendOnly = S.Config.isAppendOnly
        check = { (scope) throws(ConfigIssue) -> any ConnectorConfig in try S.Config(scope) }
        make = { (config, context) throws(WeirError) -> any SinkConnector in
            guard let config = config as? S.Config else {
                throw WeirError(.bug, .bug, "\(config) is not a configuration of \(S.self)")
            }
            return try S(config, context)
        }
    }
}
