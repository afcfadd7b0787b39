import WeirCore
import WeirJSON

/// What became of a pipeline's source.
private struct CheckedSource {
    var configuration: SourceConfiguration?
    /// Nil when they are not known because of a fault: sinks are then not held against them.
    var facts: SourceFacts?
}

/// What sinks are held against.
private struct SourceFacts {
    let type: String
    let role: SourceRole
    /// Nil when the source does not list them.
    let tables: [TableName]?
}

extension ConfigChecker {
    /// The pipelines without a fault, in the order of the file.
    mutating func checkPipelines(_ member: JSONNode.Member) -> [PipelineConfiguration] {
        let opened = object(
            member.value, label: "\"pipelines\"", anchor: member.keySpan, path: "pipelines")
        guard let all = opened else { return [] }
        if all.members.isEmpty {
            log.error(ConfigErrorCode.empty, "\"pipelines\" names no pipeline", at: member.keySpan)
        }
        var pipelines: [PipelineConfiguration] = []
        for member in all.members {
            if let pipeline = checkedPipeline(member) { pipelines.append(pipeline) }
        }
        return pipelines
    }

    private mutating func checkedPipeline(_ member: JSONNode.Member) -> PipelineConfiguration? {
        let isNamed = checkName(member, of: "pipeline")
        let opened = object(
            member.value, label: "pipeline \(quoted(member.key))", anchor: member.keySpan,
            path: "pipelines.*")
        guard let scope = opened else { return nil }
        let meant = refuseUnknown(in: scope, known: ConfigShape.pipelineKeys.map(\.name))
        var source = CheckedSource()
        if let sourceMember = scope["source"] {
            source = checkedSource(sourceMember, of: member.key, isNamed: isNamed)
        } else if !meant.contains("source") {
            missing("source", in: scope)
        }
        var sinks: [SinkConfiguration] = []
        if let sinksMember = scope["sinks"] {
            sinks = checkedSinks(
                sinksMember, of: member.key, isNamed: isNamed, source: source.facts)
        } else if !meant.contains("sinks") {
            missing("sinks", in: scope)
        }
        guard isNamed, let configuration = source.configuration else { return nil }
        var warnings = configuration.config.warnings
        for sink in sinks {
            warnings += sink.config.warnings.map { "sink \"\(sink.name)\": \($0)" }
        }
        return PipelineConfiguration(
            name: member.key, source: configuration, sinks: sinks, warnings: warnings)
    }

    // MARK: Source

    private mutating func checkedSource(
        _ member: JSONNode.Member, of pipeline: String, isNamed: Bool
    ) -> CheckedSource {
        var outcome = CheckedSource()
        let opened = object(
            member.value, label: "\"source\"", anchor: member.keySpan, path: "pipelines.*.source")
        guard let scope = opened, let resolved = resolve(scope, as: .source),
            let role = resolved.descriptor.source
        else { return outcome }
        let meant = refuseUnknown(in: scope, role.fields, resolved)
        let checked = fields(role.fields, in: scope, meant: meant)
        let values = ConfigValues(checked.values)
        let type = resolved.descriptor.type
        // The key can be read also where the connector finds fault with another.
        let hasKey = role.fields.contains { $0.name == "tables" }
        if hasKey, !checked.failed.contains("tables") {
            outcome.facts = SourceFacts(
                type: type, role: role, tables: values.tables("tables") ?? [])
        }
        guard isNamed, isUsable(resolved) else { return outcome }
        let configScope = ConfigScope(
            pipeline: pipeline, name: "source", values: values,
            connection: resolved.connection?.values, connectionName: resolved.connectionName)
        let made = self.checked(
            scope, resolved, configScope, failed: checked.failed, by: role.check)
        guard let config = made else { return outcome }
        if !hasKey { outcome.facts = SourceFacts(type: type, role: role, tables: config.tables) }
        note(config.reach, of: pipeline, outcome.facts?.tables ?? [], scope)
        outcome.configuration = SourceConfiguration(
            role: role, type: type, connectionName: resolved.connectionName, config: config,
            tables: outcome.facts?.tables ?? [],
            settings: ConnectorSettings(
                configScope, role.fields, config, type: type,
                tables: outcome.facts?.tables ?? []))
        return outcome
    }

    // MARK: Sinks

    private mutating func checkedSinks(
        _ member: JSONNode.Member, of pipeline: String, isNamed: Bool, source: SourceFacts?
    ) -> [SinkConfiguration] {
        let opened = object(
            member.value, label: "\"sinks\"", anchor: member.keySpan, path: "pipelines.*.sinks")
        guard let all = opened else { return [] }
        if all.members.isEmpty {
            log.error(ConfigErrorCode.empty, "\"sinks\" names no sink", at: member.keySpan)
        }
        var sinks: [SinkConfiguration] = []
        for member in all.members {
            // "source" is what logs and state call the other end.
            let isSinkNamed = checkName(member, of: "sink", reserved: "source")
            let sink = checkedSink(
                member, of: pipeline, isNamed: isNamed && isSinkNamed, source: source)
            if let sink { sinks.append(sink) }
        }
        return sinks
    }

    private mutating func checkedSink(
        _ member: JSONNode.Member, of pipeline: String, isNamed: Bool, source: SourceFacts?
    ) -> SinkConfiguration? {
        let opened = object(
            member.value, label: "sink \(quoted(member.key))", anchor: member.keySpan,
            path: "pipelines.*.sinks.*")
        guard let scope = opened, let resolved = resolve(scope, as: .sink),
            let role = resolved.descriptor.sink
        else { return nil }
        let meant = refuseUnknown(in: scope, role.fields + LaneFields.fields, resolved)
        let lane = fields(LaneFields.fields, in: scope, meant: meant)
        let checked = fields(role.fields, in: scope, meant: meant)
        guard isNamed, isUsable(resolved), let source else { return nil }
        let configScope = ConfigScope(
            pipeline: pipeline, name: member.key, values: ConfigValues(checked.values),
            connection: resolved.connection?.values, connectionName: resolved.connectionName,
            sourceType: source.type, sendsDocuments: source.role.sendsDocuments,
            sourceTables: source.tables)
        let laneValues = ConfigValues(lane.values)
        let made = self.checked(
            scope, resolved, configScope, failed: checked.failed, by: role.check)
        guard let config = made,
            let queue = laneValues.integer(LaneFields.queue.name),
            let spill = laneValues.integer(LaneFields.spill.name)
        else { return nil }
        note(config.reach, of: pipeline, sink: member.key, scope)
        return SinkConfiguration(
            name: member.key, type: resolved.descriptor.type, role: role,
            connectionName: resolved.connectionName, config: config, queueBytes: queue,
            spillBytes: spill,
            settings: ConnectorSettings(
                configScope, role.fields, config, type: resolved.descriptor.type,
                tables: configScope.values.tables("tables") ?? []))
    }

    // MARK: Both

    private mutating func refuseUnknown(
        in scope: ObjectScope, _ fields: [ConfigField], _ resolved: ResolvedConnector
    ) -> Set<String> {
        let secrets = fields.filter(\.type.holdsSecret)
        // "type" beside "connection" is an error of its own.
        let selectors = scope["connection"] != nil ? ["connection", "type"] : ["type"]
        return refuseUnknown(
            in: scope, known: selectors + fields.map(\.name), secrets: Set(secrets.map(\.name)))
    }

    /// Whether the connection, if there is one, is free of faults.
    private func isUsable(_ resolved: ResolvedConnector) -> Bool {
        resolved.connection == nil || resolved.connection?.values != nil
    }
}
