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
            claims: config.claims, removal: config.removal)
    }
}

extension ConfigValue {
    /// As the configuration would write it; nil for what holds a secret.
    func json(as type: ConfigType) -> String? {
        switch (self, type) {
        case (.secret, _): nil
        case (.string(let text), _): Self.quoted(text)
        case (.boolean(let flag), _): "\(flag)"
        case (.integer(let number), .size): Self.quoted(SizeNotation.text(number))
        case (.integer(let number), _): "\(number)"
        case (.duration(let duration), _): Self.quoted(DurationNotation.text(duration))
        case (.table(let name), _): Self.quoted(name.description)
        case (.columns(let choices), _): Self.json(choices)
        case (.list(let values), .list(let element)):
            Self.list(values.map { $0.json(as: element) })
        case (.object(let values), .object(let fields)): Self.json(values, fields)
        case (.list, _), (.object, _): nil
        }
    }

    private static func quoted(_ text: String) -> String {
        var writer = JSONWriter(capacity: text.utf8.count + 2)
        writer.appendQuoted(string: text)
        return writer.text
    }

    private static func list(_ elements: [String?]) -> String? {
        let known = elements.compactMap(\.self)
        return known.count == elements.count ? "[" + known.joined(separator: ", ") + "]" : nil
    }

    private static func json(_ choices: [ColumnChoice]) -> String {
        if choices.allSatisfy({ $0.output == $0.source }) {
            return "[" + choices.map { quoted($0.source) }.joined(separator: ", ") + "]"
        }
        let members = choices.map { "\(quoted($0.output)): \(quoted($0.source))" }
        return "{ " + members.joined(separator: ", ") + " }"
    }

    private static func json(_ values: ConfigValues, _ fields: [ConfigField]) -> String? {
        var members: [String] = []
        for field in fields {
            guard let value = values.values[field.name],
                value != ConfigChecker.defaultValue(field)
            else { continue }
            guard let json = value.json(as: field.type) else { return nil }
            members.append("\(quoted(field.name)): \(json)")
        }
        return "{ " + members.joined(separator: ", ") + " }"
    }
}

extension ConfigLoader {
    /// A pipeline as the state remembers it, with the connections the file has now: for one that is
    /// no longer in the file.
    ///
    /// - Parameter settings: by component; the source's under "source".
    /// - Returns: nil when a connection is gone, or no longer fits.
    package func restore(
        _ pipeline: String, _ settings: [String: ConnectorSettings], connectionsOf path: String,
        environment: ConfigEnvironment = .process
    ) -> PipelineConfiguration? {
        guard
            case .success(let file) = RegularFile.read(
                path, bytesMax: JSONDocument.bytesMax, allowsPipes: false),
            let root = try? JSONDocument.parse(file.bytes),
            case .object(let members) = root.value,
            let source = settings["source"]
        else { return nil }
        let sinks = settings.filter { $0.key != "source" }.sorted { $0.key < $1.key }
            .map { "\(Self.quoted($0.key)): \($0.value.document)" }
        let text = """
            { "pipelines": { \(Self.quoted(pipeline)): { "source": \(source.document), \
            "sinks": { \(sinks.joined(separator: ", ")) } } } }
            """
        guard let remembered = try? JSONDocument.parse(Array(text.utf8)),
            case .object(let pipelines) = remembered.value
        else { return nil }
        let connections = members.filter { $0.key == "connections" }
        // Spans of two texts: what a fault would point at means nothing, and none is shown.
        let long = Array(text.utf8) + file.bytes
        var checker = ConfigChecker(
            descriptors: descriptors, environment: environment, source: SourceText(long))
        let checked = checker.configuration(
            JSONNode(span: root.span, value: .object(connections + pipelines)))
        // Connections that other pipelines use may lack their secrets here; only ours count.
        return checked?.pipelines.first { $0.sinks.count == sinks.count }
    }

    private static func quoted(_ text: String) -> String {
        var writer = JSONWriter(capacity: text.utf8.count + 2)
        writer.appendQuoted(string: text)
        return writer.text
    }
}

extension ConnectorSettings {
    /// As an object of the configuration.
    fileprivate var document: String {
        func quoted(_ text: String) -> String {
            var writer = JSONWriter(capacity: text.utf8.count + 2)
            writer.appendQuoted(string: text)
            return writer.text
        }
        var members = [
            connection.map { "\"connection\": \(quoted($0))" } ?? "\"type\": \(quoted(type))"
        ]
        members += entries.map { "\(quoted($0.key)): \($0.json)" }
        return "{ " + members.joined(separator: ", ") + " }"
    }
}

extension JSONWriter {
    fileprivate var text: String {
        unsafe withBytes { unsafe String(decoding: $0, as: UTF8.self) }
    }
}
