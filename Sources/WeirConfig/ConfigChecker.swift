import WeirCore
import WeirJSON

/// Walks the parsed file once, and goes on after every fault it can go on after.
struct ConfigChecker {
    let descriptors: [ConnectorDescriptor]
    let environment: ConfigEnvironment
    let source: SourceText
    var log = DiagnosticLog()
    /// Literal secrets, which no excerpt shows.
    var masks: Set<SourceSpan> = []
    var literalPasswords: [SourceSpan] = []
    /// By name; connections with a fault are there too, so that their users are not blamed.
    var connections: [String: CheckedConnection] = [:]
    var connectionNames: [String] = []
    var usedConnections: Set<String> = []
    /// Who has claimed a thing that only one may use.
    var claims: [String: ClaimHolder] = [:]
    /// The first of those that use a thing which several may use.
    var uses: [String: ClaimHolder] = [:]
    /// What sources read and sinks write, in the order of the file.
    var readers: [TableReader] = []
    var writers: [TableWriter] = []

    struct ClaimHolder {
        let title: String
        let span: SourceSpan
    }

    init(
        descriptors: [ConnectorDescriptor], environment: ConfigEnvironment, source: SourceText
    ) {
        self.descriptors = descriptors
        self.environment = environment
        self.source = source
    }

    // MARK: The file

    /// Nil, or incomplete, when there were errors.
    mutating func configuration(_ root: JSONNode) -> Configuration? {
        let start = SourceSpan(start: root.span.start, end: root.span.start + 1)
        guard let file = object(root, label: "the file", anchor: start, path: "") else {
            return nil
        }
        let meant = refuseUnknown(in: file, known: ConfigShape.rootKeys.map(\.name))
        if let schema = file["$schema"], case .string = schema.value.value {
        } else if let schema = file["$schema"] {
            wrongType(schema.value, label: "\"$schema\"", expected: "text")
        }
        let daemon = daemonSettings(file)
        if let member = file["connections"] { checkConnections(member) }
        var pipelines: [PipelineConfiguration] = []
        if let member = file["pipelines"] {
            pipelines = checkPipelines(member)
        } else if !meant.contains("pipelines") {
            missing("pipelines", in: file)
        }
        checkLoops()
        warnOfUnusedConnections()
        return daemon.map { Configuration(daemon: $0, pipelines: pipelines) }
    }

    private mutating func daemonSettings(_ file: ObjectScope) -> DaemonSettings? {
        var checked = CheckedFields()
        if let member = file["daemon"] {
            guard
                let scope = object(
                    member.value, label: "\"daemon\"", anchor: member.keySpan, path: "daemon")
            else { return nil }
            let meant = refuseUnknown(in: scope, known: DaemonFields.all.map(\.name))
            checked = fields(DaemonFields.all, in: scope, meant: meant)
        } else {
            for field in DaemonFields.all { checked.values[field.name] = Self.defaultValue(field) }
        }
        let values = ConfigValues(checked.values)
        guard let timeout = values.duration(DaemonFields.shutdownTimeout.name),
            let log = values.string(DaemonFields.log.name).flatMap({
                DaemonSettings.LogFormat(rawValue: $0)
            }),
            let level = values.string(DaemonFields.logLevel.name).flatMap({
                LogLevel(rawValue: $0)
            })
        else { return nil }
        return DaemonSettings(shutdownTimeout: timeout, log: log, logLevel: level)
    }

    // MARK: Warnings about the whole

    private mutating func warnOfUnusedConnections() {
        // Where something is wrong, a user may be missing for that reason.
        guard !log.hasErrors else { return }
        for name in connectionNames where !usedConnections.contains(name) {
            log.warning(
                ConfigErrorCode.unusedConnection, "no pipeline uses connection \(quoted(name))",
                at: connections[name]?.nameSpan)
        }
    }

    /// The rule libpq has for `.pgpass`, as a warning: a password is for its owner only.
    mutating func warnOfRights(_ mode: UInt32?) {
        guard let mode, mode & 0o044 != 0, let span = literalPasswords.first else { return }
        let octal = String(mode & 0o777, radix: 8)
        log.warning(
            ConfigErrorCode.readableByOthers,
            "the file holds a password and others may read it (mode 0\(octal))", at: span,
            note: "chmod 600")
    }
}
