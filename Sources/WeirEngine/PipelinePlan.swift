package import WeirCore

/// What the engine is told to run: made from the configuration by the command line.
package struct PipelinePlan: Sendable {
    package let name: String
    package let sourceType: String
    package let notation: SourceNotation
    package let connection: String
    package let warnings: [String]
    package let makeSource: @Sendable (ConnectorContext) throws(WeirError) -> any SourceConnector
    /// Makes a reader of the source's rows; nil when it has none.
    package let makeRowReader: (@Sendable (ConnectorContext) throws(WeirError) -> any RowReader)?
    package let sinks: [SinkPlan]
    /// What the state remembers of the source's configuration; nil where nothing is to be compared.
    package let settings: ComparedSettings?

    package init(
        name: String,
        sourceType: String,
        notation: SourceNotation,
        connection: String,
        warnings: [String] = [],
        sinks: [SinkPlan],
        settings: ComparedSettings? = nil,
        makeRowReader: (@Sendable (ConnectorContext) throws(WeirError) -> any RowReader)? = nil,
        makeSource: @escaping @Sendable (ConnectorContext) throws(WeirError) -> any SourceConnector
    ) {
        self.name = name
        self.sourceType = sourceType
        self.notation = notation
        self.connection = connection
        self.warnings = warnings
        self.sinks = sinks
        self.settings = settings
        self.makeRowReader = makeRowReader
        self.makeSource = makeSource
    }
}

/// One sink of a pipeline.
package struct SinkPlan: Sendable {
    package let name: String
    package let type: String
    /// How many bytes of batches may wait in memory.
    package let queueBytes: Int
    /// How many may wait on disk while the sink is down and others go on; 0 turns it off.
    package let spillBytes: Int
    /// As of the source.
    package let settings: ComparedSettings?
    package let make: @Sendable (ConnectorContext) throws(WeirError) -> any SinkConnector

    package init(
        name: String,
        type: String,
        queueBytes: Int = 8 << 20,
        spillBytes: Int = 1 << 30,
        settings: ComparedSettings? = nil,
        make: @escaping @Sendable (ConnectorContext) throws(WeirError) -> any SinkConnector
    ) {
        self.name = name
        self.type = type
        self.queueBytes = queueBytes
        self.spillBytes = spillBytes
        self.settings = settings
        self.make = make
    }
}

/// A component's configuration, to be compared with the one it last ran under.
package struct ComparedSettings: Sendable {
    package let settings: ConnectorSettings
    /// Keys whose change leaves nothing behind.
    package let passingKeys: Set<String>
    /// What a sink has written stays as it is.
    package let isAppendOnly: Bool

    package init(
        _ settings: ConnectorSettings, passingKeys: Set<String>, isAppendOnly: Bool = false
    ) {
        self.settings = settings
        self.passingKeys = passingKeys
        self.isAppendOnly = isAppendOnly
    }
}

extension PipelinePlan {
    /// Of a sink, or of "source".
    func settings(of component: String) -> ComparedSettings? {
        component == "source" ? settings : sinks.first { $0.name == component }?.settings
    }
}
