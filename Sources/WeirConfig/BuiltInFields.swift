package import WeirCore

/// The keys every sink takes whatever its type: how much may wait for it.
package enum LaneFields {
    /// 8 MiB holds some ten thousand rows, enough to bridge a pause of a second at full speed.
    package static let queue = ConfigField(
        "queue", .size(64 * 1024...1024 * 1024 * 1024),
        "How much may wait in memory for this sink. When it is full, events go to the spill while "
            + "the sink fails or takes long to answer, and otherwise the source is read more slowly.",
        default: #""8MiB""#)
    package static let spill = ConfigField(
        "spill", .size(0...1024 * 1024 * 1024 * 1024),
        "How much may wait on disk while this sink fails or is slow and others go on; \"0\" turns it "
            + "off. When it is full, or the disk nearly is, the pipeline waits.",
        default: #""1GiB""#)
    package static let fields = [queue, spill]
}

/// The keys of `daemon`.
enum DaemonFields {
    static let shutdownTimeout = ConfigField(
        "shutdown_timeout", .duration(.seconds(1) ... .seconds(3600)),
        "How long a stop may take to deliver what was read. What is left then is read again at the "
            + "next start.",
        default: #""30s""#)
    static let log = ConfigField(
        "log", .choice(DaemonSettings.LogFormat.allCases.map(\.rawValue)),
        "The form of the log: auto is text on a terminal, logfmt in systemd's journal, and json, one "
            + "object per line, elsewhere.",
        default: #""auto""#)
    static let logLevel = ConfigField(
        "log_level", .choice(["debug", "info", "warning", "error"]),
        "The least important lines to log.",
        default: #""info""#)
    static let all = [shutdownTimeout, log, logLevel]
}

/// The keys by which a source, sink or connection says what it is.
enum ConnectorFields {
    static func connection(_ role: ConnectorKind, isRequired: Bool) -> ConfigField {
        ConfigField(
            "connection", .string,
            "The connection of this \(role.rawValue), by its name under connections.",
            required: isRequired, example: #""shop""#)
    }

    static func type(_ role: ConnectorKind, _ types: [String], isRequired: Bool) -> ConfigField {
        let summary =
            role == .connection
            ? "The system this connection leads to."
            : "What this \(role.rawValue) is, where it needs no connection."
        return ConfigField("type", .choice(types), summary, required: isRequired)
    }
}

/// What a connector can be used as.
enum ConnectorKind: String {
    case source, sink, connection
}

extension ConnectorDescriptor {
    /// The fields of this connector in a role; nil when it does not offer it.
    func fields(as kind: ConnectorKind) -> [ConfigField]? {
        switch kind {
        case .source: source?.fields
        case .sink: sink?.fields
        case .connection: connectionFields
        }
    }
}
