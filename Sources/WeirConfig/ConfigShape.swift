import WeirCore

/// The objects a configuration file is made of, for everything that describes them: the schema,
/// the reference page and the listing of fields.
struct ConfigShape {
    /// One key as documentation shows it.
    struct Key {
        let name: String
        /// In words.
        let type: String
        let isRequired: Bool
        /// As JSON text.
        let defaultJSON: String?
        let exampleJSON: String?
        let summary: String
    }

    /// The keys of an object that depend on the connector.
    struct Variant {
        let type: String
        let summary: String
        let usesConnection: Bool
        let fields: [ConfigField]

        /// Those of nested objects follow their object, under names with dots.
        var keys: [Key] { fields.flatMap { Key.all(of: $0) } }
    }

    struct Entry {
        /// As `weir schema --path` takes it; empty for the file itself.
        let path: String
        let heading: String
        let summary: String
        /// What every such object has.
        let keys: [Key]
        let kind: ConnectorKind?
        let variants: [Variant]
    }

    let entries: [Entry]

    init(_ descriptors: [ConnectorDescriptor]) {
        func variants(_ kind: ConnectorKind) -> [Variant] {
            descriptors.compactMap { descriptor in
                descriptor.fields(as: kind).map {
                    Variant(
                        type: descriptor.type, summary: descriptor.summary,
                        usesConnection: descriptor.connectionFields != nil, fields: $0)
                }
            }
        }
        func entry(
            _ path: String, _ heading: String, _ summary: String, _ keys: [Key],
            _ kind: ConnectorKind? = nil
        ) -> Entry {
            Entry(
                path: path, heading: heading, summary: summary, keys: keys, kind: kind,
                variants: kind.map(variants) ?? [])
        }
        entries = [
            entry("", "The file", Self.fileSummary, Self.rootKeys),
            entry(
                "daemon", "daemon", "How the daemon itself behaves.",
                DaemonFields.all.map { Key($0) }),
            entry(
                "connections.*", "connections.NAME", Self.connectionSummary,
                [
                    Key(
                        ConnectorFields.type(
                            .connection, variants(.connection).map(\.type), isRequired: true))
                ], .connection),
            entry(
                "pipelines.*", "pipelines.NAME", "One source and where its events go.",
                Self.pipelineKeys),
            entry(
                "pipelines.*.source", "pipelines.NAME.source", "What a pipeline reads.",
                Self.selectors(.source, variants(.source)), .source),
            entry(
                "pipelines.*.sinks.*", "pipelines.NAME.sinks.NAME",
                "One place events go to. Sinks wait for one another only while a spill is full.",
                Self.selectors(.sink, variants(.sink)) + LaneFields.fields.map { Key($0) }, .sink),
        ]
    }

    // MARK: Keys that hold objects

    static let fileSummary =
        "One JSON file in UTF-8. Lines may have // comments; trailing commas, unknown keys and "
        + "duplicate keys are errors."
    private static let connectionSummary =
        "How to reach one server. Sources and sinks name the connection they use."

    static let rootKeys = [
        Key("$schema", "text", "Where the JSON Schema of this file is, for editors."),
        Key("daemon", "object", "How the daemon itself behaves."),
        Key(
            "connections", "object of connections",
            "The servers, each under a name of your choice."),
        Key(
            "pipelines", "object of pipelines",
            "The pipelines, each under a name of your choice. The name is part of slots, state and "
                + "event ids: keep it.", isRequired: true),
    ]

    static let pipelineKeys = [
        Key("source", "object", "What the pipeline reads.", isRequired: true),
        Key(
            "sinks", "object of sinks",
            "Where its events go, each under a name of your choice. The name is part of the state: "
                + "keep it.", isRequired: true),
    ]

    private static func selectors(_ kind: ConnectorKind, _ variants: [Variant]) -> [Key] {
        let without = variants.filter { !$0.usesConnection }.map(\.type)
        let hasConnections = variants.contains(where: \.usesConnection)
        var keys: [Key] = []
        if hasConnections {
            keys.append(Key(ConnectorFields.connection(kind, isRequired: without.isEmpty)))
        }
        if !without.isEmpty {
            keys.append(Key(ConnectorFields.type(kind, without, isRequired: !hasConnections)))
        }
        return keys
    }

    // MARK: Names

    static let namePattern = "^[a-z0-9_-]{1,40}$"

    /// Whether a text can name a connection, pipeline or sink.
    static func isName(_ text: String) -> Bool {
        (1...40).contains(text.utf8.count)
            && text.utf8.allSatisfy {
                ($0 >= 0x61 && $0 <= 0x7A) || ($0 >= 0x30 && $0 <= 0x39) || $0 == 0x5F || $0 == 0x2D
            }
    }

    // MARK: Paths

    /// The object at a path, where any name matches a `*`, or one key of an object; nil if there
    /// is none. The file itself is `.`.
    func entry(at path: String) -> (entry: Entry, key: String?)? {
        let parts = Self.parts(path)
        if let entry = entries.first(where: { Self.matches($0.path, parts) }) {
            return (entry, nil)
        }
        for count in parts.indices.reversed() {
            let key = parts[count...].joined(separator: ".")
            let owner = entries.first {
                Self.matches($0.path, Array(parts[..<count]))
                    && ($0.keys + $0.variants.flatMap(\.keys)).contains { $0.name == key }
            }
            if let owner { return (owner, key) }
        }
        return nil
    }

    private static func parts(_ path: String) -> [String] {
        path == "." ? [] : path.split(separator: ".").map(String.init)
    }

    private static func matches(_ pattern: String, _ parts: [String]) -> Bool {
        let expected = self.parts(pattern)
        return expected.count == parts.count
            && zip(expected, parts).allSatisfy { $0 == "*" || $0 == $1 }
    }
}

extension ConfigShape.Key {
    init(_ name: String, _ type: String, _ summary: String, isRequired: Bool = false) {
        self.init(
            name: name, type: type, isRequired: isRequired, defaultJSON: nil, exampleJSON: nil,
            summary: summary)
    }

    init(_ field: ConfigField, prefix: String = "") {
        self.init(
            name: prefix + field.name, type: field.type.words, isRequired: field.isRequired,
            defaultJSON: field.defaultJSON, exampleJSON: field.exampleJSON, summary: field.summary)
    }

    /// A field and, behind it, what is inside.
    static func all(of field: ConfigField, prefix: String = "") -> [Self] {
        let inner = "\(prefix)\(field.name)."
        return [Self(field, prefix: prefix)]
            + field.type.fields.flatMap { all(of: $0, prefix: inner) }
    }

    /// The default, `required`, or nothing.
    var need: String? { isRequired ? "required" : defaultJSON }
}

extension ConfigType {
    /// The keys of the object it is, or of the objects it lists.
    var fields: [ConfigField] {
        switch self {
        case .object(let fields): fields
        case .list(let element): element.fields
        default: []
        }
    }

    /// Whether a value has a secret in it.
    var holdsSecret: Bool {
        switch self {
        case .secret: true
        case .object(let fields): fields.contains(where: \.type.holdsSecret)
        case .list(let element): element.holdsSecret
        default: false
        }
    }

    /// For people.
    var words: String {
        switch self {
        case .string: "text"
        case .secret: "secret"
        case .boolean: "true or false"
        case .integer(let range): range.limits("whole number") { "\($0)" }
        case .duration(let range):
            "duration, \(DurationNotation.text(range.lowerBound)) to "
                + DurationNotation.text(range.upperBound)
        case .size(let range): range.limits("size") { SizeNotation.text($0) }
        case .choice(let choices):
            choices.map { "\"\($0)\"" }.joined(separator: ", ")
        case .choiceOrNames(let choices):
            choices.map { "\"\($0)\"" }.joined(separator: ", ") + " or list of texts"
        case .list(.choice(let choices)):
            "list of " + choices.map { "\"\($0)\"" }.joined(separator: ", ")
        case .list(let element): "list of \(element.pluralWords)"
        case .table: "table"
        case .columns: "columns"
        case .object: "object"
        }
    }

    private var pluralWords: String {
        switch self {
        case .string: "texts"
        case .secret: "secrets"
        case .table: "tables"
        case .object: "objects"
        default: "(\(words))"
        }
    }
}

extension ClosedRange<Int> {
    fileprivate func limits(_ noun: String, _ text: (Int) -> String) -> String {
        switch (lowerBound, upperBound) {
        case (.min, .max): noun
        case (_, .max): "\(noun), at least \(text(lowerBound))"
        default: "\(noun), \(text(lowerBound)) to \(text(upperBound))"
        }
    }
}
