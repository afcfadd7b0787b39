package import WeirCore

/// What a checked configuration file says. Pipelines come in the order of the file.
package struct Configuration: Sendable {
    package let daemon: DaemonSettings
    package let pipelines: [PipelineConfiguration]
}

/// The settings of the daemon itself.
package struct DaemonSettings: Sendable, Equatable {
    package enum LogFormat: String, Sendable, CaseIterable {
        case auto, text, logfmt, json
    }

    /// How long a stop may take to deliver what was read.
    package let shutdownTimeout: Duration
    package let log: LogFormat
    package let logLevel: LogLevel

    package init(shutdownTimeout: Duration, log: LogFormat, logLevel: LogLevel) {
        self.shutdownTimeout = shutdownTimeout
        self.log = log
        self.logLevel = logLevel
    }
}

/// One source and the sinks its events go to.
package struct PipelineConfiguration: Sendable {
    package let name: String
    package let source: SourceConfiguration
    package let sinks: [SinkConfiguration]
    /// What its connectors have to say, for `status`; `ConfigCheck` has the same as diagnostics.
    package let warnings: [String]
}

package struct SourceConfiguration: Sendable {
    package let role: SourceRole
    package let type: String
    /// Nil for a source without a server.
    package let connectionName: String?
    package let config: any ConnectorConfig
    /// The tables the source lists; empty when it lists none.
    package let tables: [TableName]
    package let settings: ConnectorSettings
}

package struct SinkConfiguration: Sendable {
    package let name: String
    package let type: String
    package let role: SinkRole
    /// Nil for a sink without a server.
    package let connectionName: String?
    package let config: any ConnectorConfig
    /// How many bytes of batches may wait in memory.
    package let queueBytes: Int
    /// How many may wait on disk; 0 turns it off.
    package let spillBytes: Int
    package let settings: ConnectorSettings
}
