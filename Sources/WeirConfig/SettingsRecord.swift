package import WeirCore
import WeirJSON

extension ConnectorSettings {
    /// Of checked values. Secrets are left out, and so is every key that has its default: a later
    /// Weir may have more keys.
    init(
        _ scope: ConfigScope, _ fields: [ConfigField], _ config: any ConnectorConfig,
        type: String, tables: [TableName]
    ) {
        let entries = fields.compactMap { field -> Entry? in
            guard let value = scope.values.values[field.name],
                value != ConfigChecker.defaultValue(field),
                let json = value.json(as: field.type)
            else { return nil }
            return Entry(field.name, json)
        }
        self.init(
            type: type, connection: scope.connectionName, place: config.place,
            entries: entries.sorted { $0.key < $1.key }, tables: tables.map(\.description),
            claims: config.claims, uses: config.uses, removal: config.removal)
    }
}

extension ConfigValue {
    /// As the configuration would write it; nil for what holds a secret.
    func json(as type: ConfigType) -> String? {
        switch (self, type) {
        case (.secret, _): nil
        case (.string(let text), _): quotedJSON(text)
        case (.boolean(let flag), _): "\(flag)"
        case (.integer(let number), .size): quotedJSON(SizeNotation.text(number))
        case (.integer(let number), _): "\(number)"
        case (.duration(let duration), _): quotedJSON(DurationNotation.text(duration))
        case (.table(let name), _): quotedJSON(name.description)
        case (.columns(let choices), _): Self.json(choices)
        case (.list(let values), .list(let element)):
            Self.list(values.map { $0.json(as: element) })
        case (.object(let values), .object(let fields)): Self.json(values, fields)
        case (.list, _), (.object, _): nil
        }
    }

    private static func list(_ elements: [String?]) -> String? {
        let known = elements.compactMap(\.self)
        return known.count == elements.count ? "[" + known.joined(separator: ", ") + "]" : nil
    }

    private static func json(_ choices: [ColumnChoice]) -> String {
        if choices.allSatisfy({ $0.output == $0.source }) {
            return "[" + choices.map { quotedJSON($0.source) }.joined(separator: ", ") + "]"
        }
        let members = choices.map { "\(quotedJSON($0.output)): \(quotedJSON($0.source))" }
        return "{ " + members.joined(separator: ", ") + " }"
    }

    private static func json(_ values: ConfigValues, _ fields: [ConfigField]) -> String? {
        var members: [String] = []
        for field in fields {
            guard let value = values.values[field.name],
                value != ConfigChecker.defaultValue(field)
            else { continue }
            guard let json = value.json(as: field.type) else { return nil }
            members.append("\(quotedJSON(field.name)): \(json)")
        }
        return "{ " + members.joined(separator: ", ") + " }"
    }
}

extension ConfigLoader {
    /// A pipeline as the state remembers it, with the connections the file has now: for one that is
    /// no longer in the file.
    ///
    /// - Parameter settings: by component; the source's under "source".
    /// - Throws: why it cannot be made: a connection is gone, lacks its secret, or no longer fits.
    package func restore(
        _ pipeline: String, _ settings: [String: ConnectorSettings], connectionsOf path: String,
        environment: ConfigEnvironment = .process
    ) throws(ConfigIssue) -> PipelineConfiguration {
        guard let source = settings["source"] else {
            throw ConfigIssue(
                field: nil, "the state does not remember how \"\(pipeline)\" was configured")
        }
        let (bytes, connections) = try connections(
            of: path, Set(settings.values.compactMap(\.connection)))
        let sinks = settings.filter { $0.key != "source" }.sorted { $0.key < $1.key }
            .map { "\(quotedJSON($0.key)): \($0.value.document)" }
        let text = """
            { "pipelines": { \(quotedJSON(pipeline)): { "source": \(source.document), \
            "sinks": { \(sinks.joined(separator: ", ")) } } } }
            """
        let unfit = "\"\(pipeline)\" cannot be made from what the state remembers of it"
        guard let remembered = try? JSONDocument.parse(Array(text.utf8)),
            case .object(let pipelines) = remembered.value
        else { throw ConfigIssue(field: nil, unfit) }
        // Spans of two texts: what a fault would point at means nothing, and none is shown.
        let long = Array(text.utf8) + bytes
        var checker = ConfigChecker(
            descriptors: descriptors, environment: environment, source: SourceText(long))
        let checked = checker.configuration(
            JSONNode(span: remembered.span, value: .object(connections + pipelines)))
        if let found = checked?.pipelines.first(where: { $0.sinks.count == sinks.count }) {
            return found
        }
        let fault = checker.log.sorted().first { $0.severity == .error }?.message
        throw ConfigIssue(field: nil, fault.map { "\(unfit): \($0)" } ?? unfit)
    }

    /// The file's connections of these names alone: what others lack, such as their secrets, is no
    /// fault here.
    private func connections(
        of path: String, _ names: Set<String>
    ) throws(ConfigIssue) -> (bytes: [UInt8], members: [JSONNode.Member]) {
        let bytes: [UInt8]
        switch RegularFile.read(path, bytesMax: JSONDocument.bytesMax, allowsPipes: false) {
        case .success(let file): bytes = file.bytes
        case .failure(let fault):
            throw ConfigIssue(field: nil, "could not read \"\(path)\": \(fault.reason)")
        }
        let root: JSONNode
        do throws(JSONSyntaxError) { root = try JSONDocument.parse(bytes) } catch {
            let reason = SecretMask.redacted(error, in: bytes)
            throw ConfigIssue(field: nil, "could not read \"\(path)\": \(reason)")
        }
        guard case .object(let members) = root.value else {
            throw ConfigIssue(field: nil, "\"\(path)\" holds no object")
        }
        let member = members.first { $0.key == "connections" }
        var kept: [JSONNode.Member] = []
        if let member, case .object(let all) = member.value.value {
            kept = all.filter { names.contains($0.key) }
        }
        if let gone = names.subtracting(kept.map(\.key)).sorted().first {
            throw ConfigIssue(
                field: nil, "connection \"\(gone)\" is not in the configuration any more")
        }
        guard let member else { return (bytes, []) }
        let node = JSONNode(span: member.value.span, value: .object(kept))
        return (bytes, [JSONNode.Member(key: member.key, keySpan: member.keySpan, value: node)])
    }
}

extension ConnectorSettings {
    /// As an object of the configuration.
    fileprivate var document: String {
        var members = [
            connection.map { "\"connection\": \(quotedJSON($0))" }
                ?? "\"type\": \(quotedJSON(type))"
        ]
        members += entries.map { "\(quotedJSON($0.key)): \($0.json)" }
        return "{ " + members.joined(separator: ", ") + " }"
    }
}
