package import WeirCore

/// What the engine is told to run: made from the configuration by the command line.
package struct PipelinePlan: Sendable {
    package let name: String
    package let sourceType: String
    package let connection: String
    package let warnings: [String]
    package let makeSource: @Sendable (ConnectorContext) throws(WeirError) -> any SourceConnector
    /// Makes a reader of the source's rows; nil when it has none.
    package let makeRowReader: (@Sendable (ConnectorContext) throws(WeirError) -> any RowReader)?
    package let sinks: [SinkPlan]

    package init(
        name: String,
        sourceType: String,
        connection: String,
        warnings: [String] = [],
        sinks: [SinkPlan],
        makeRowReader: (@Sendable (ConnectorContext) throws(WeirError) -> any RowReader)? = nil,
        makeSource: @escaping @Sendable (ConnectorContext) throws(WeirError) -> any SourceConnector
    ) {
        self.name = name
        self.sourceType = sourceType
        self.connection = connection
        self.warnings = warnings
        self.sinks = sinks
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
    package let make: @Sendable (ConnectorContext) throws(WeirError) -> any SinkConnector

    package init(
        name: String,
        type: String,
        queueBytes: Int = 8 << 20,
        spillBytes: Int = 1 << 30,
        make: @escaping @Sendable (ConnectorContext) throws(WeirError) -> any SinkConnector
    ) {
        self.name = name
        self.type = type
        self.queueBytes = queueBytes
        self.spillBytes = spillBytes
        self.make = make
    }
}
