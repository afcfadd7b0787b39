package import WeirCore

/// The JSON Schema (draft-07, which editors handle best) of the whole configuration file.
///
/// Everything is written in place, without `$ref`: in draft-07 a `$ref` hides the description
/// beside it, and so every part also stands for itself.
package struct JSONSchemaWriter {
    private let shape: ConfigShape

    package init(descriptors: [ConnectorDescriptor]) {
        shape = ConfigShape(descriptors)
    }

    /// The schema of the file, for `weir.schema.json`.
    package func schema() -> String {
        var members: [SchemaNode.Member] = [
            ("$schema", .text("http://json-schema.org/draft-07/schema#")),
            ("title", .text("Weir configuration")),
        ]
        if case .object(let rest) = node(at: "") { members += rest }
        return SchemaNode.object(members).printed()
    }

    /// The schema of one object, such as `pipelines.*.source`; nil when there is no such object.
    package func schema(path: String) -> String? {
        guard let found = shape.entry(at: path), found.key == nil else { return nil }
        return found.entry.path.isEmpty ? schema() : node(at: found.entry.path)?.printed()
    }

    // MARK: Objects

    private func node(at path: String) -> SchemaNode? {
        guard let entry = shape.entries.first(where: { $0.path == path }) else { return nil }
        switch path {
        case "": return file(entry)
        case "daemon":
            return object(entry.summary, DaemonFields.all.map(\.property), required: [])
        case "connections.*": return connection(entry)
        case "pipelines.*": return pipeline(entry)
        default: return entry.kind.map { connector(entry, $0) }
        }
    }

    private func file(_ entry: ConfigShape.Entry) -> SchemaNode {
        let maps = ["connections": "connections.*", "pipelines": "pipelines.*"]
        let properties = entry.keys.map { key -> SchemaNode.Member in
            if let path = maps[key.name] {
                return (key.name, map(key, of: path, minimum: key.isRequired ? 1 : 0))
            }
            if key.name == "daemon", let daemon = node(at: "daemon") { return (key.name, daemon) }
            let text: [SchemaNode.Member] = [
                ("description", .text(key.summary)), ("type", .text("string")),
            ]
            return (key.name, .object(text))
        }
        return object(entry.summary, properties, required: ["pipelines"])
    }

    private func pipeline(_ entry: ConfigShape.Entry) -> SchemaNode {
        let properties = entry.keys.map { key -> SchemaNode.Member in
            let path = "pipelines.*.\(key.name)"
            if key.name == "sinks" { return (key.name, map(key, of: path + ".*", minimum: 1)) }
            return (key.name, node(at: path) ?? .object([]))
        }
        return object(entry.summary, properties, required: entry.keys.map(\.name))
    }

    /// An object keyed by names the user chooses.
    private func map(_ key: ConfigShape.Key, of path: String, minimum: Int) -> SchemaNode {
        let name: [SchemaNode.Member] = [("pattern", .text(ConfigShape.namePattern))]
        var members: [SchemaNode.Member] = [
            ("description", .text(key.summary)), ("type", .text("object")),
            ("propertyNames", .object(name)),
        ]
        if minimum > 0 { members.append(("minProperties", .number(minimum))) }
        members.append(("additionalProperties", node(at: path) ?? .object([])))
        return .object(members)
    }

    private func object(
        _ summary: String, _ properties: [SchemaNode.Member], required: [String]
    ) -> SchemaNode {
        .object(
            [
                ("description", .text(summary)), ("type", .text("object")),
                ("properties", .object(properties)),
            ] + Self.rest(required))
    }

    /// How the schema of an object ends: what it must have, and that it has nothing else.
    fileprivate static func rest(_ required: [String]) -> [SchemaNode.Member] {
        var members: [SchemaNode.Member] = []
        if !required.isEmpty {
            members.append(("required", .list(required.map { .text($0) })))
        }
        members.append(("additionalProperties", .boolean(false)))
        return members
    }

    // MARK: Objects that depend on the connector

    /// `type` is offered first; what it is decides the other keys.
    private func connection(_ entry: ConfigShape.Entry) -> SchemaNode {
        let types = entry.variants.map(\.type)
        let field = ConnectorFields.type(.connection, types, isRequired: true)
        let whole: [SchemaNode.Member] = [
            ("description", .text(entry.summary)), ("type", .text("object")),
            ("properties", .object([field.property])),
            ("required", .list([.text("type")])),
        ]
        return .object(whole + branches(entry.variants.map { ($0, branch(typed: $0, field, [])) }))
    }

    /// With `type` the type decides the other keys. With `connection` the type stands elsewhere in
    /// the file, out of a schema's reach: any connector that has a connection will do.
    private func connector(_ entry: ConfigShape.Entry, _ kind: ConnectorKind) -> SchemaNode {
        let typed = entry.variants.filter { !$0.usesConnection }
        let connected = entry.variants.filter(\.usesConnection)
        let common = kind == .sink ? LaneFields.fields : []
        let type = ConnectorFields.type(kind, typed.map(\.type), isRequired: connected.isEmpty)
        let connection = ConnectorFields.connection(kind, isRequired: typed.isEmpty)
        let alternatives = connected.map { variant in
            SchemaNode.object(
                [
                    ("title", .text("\(variant.type) \(kind.rawValue)")),
                    ("description", .text(variant.summary)),
                    (
                        "properties",
                        .object(([connection] + variant.fields + common).map(\.property))
                    ),
                ] + Self.rest(["connection"] + variant.fields.filter(\.isRequired).map(\.name)))
        }
        var members: [SchemaNode.Member] = [
            ("description", .text(entry.summary)), ("type", .text("object")),
        ]
        let selectors = (connected.isEmpty ? [] : [connection]) + (typed.isEmpty ? [] : [type])
        members.append(("properties", .object(selectors.map(\.property))))
        let connectedNode =
            alternatives.count == 1
            ? alternatives[0] : SchemaNode.object([("anyOf", .list(alternatives))])
        let typedNode = SchemaNode.object(
            [("required", .list([.text("type")]))]
                + branches(typed.map { ($0, branch(typed: $0, type, common)) }))
        switch (connected.isEmpty, typed.isEmpty) {
        case (true, true): members.append(("not", .object([])))
        case (true, false): members.append(("allOf", .list([typedNode])))
        case (false, true): members.append(("allOf", .list([connectedNode])))
        case (false, false):
            members.append(("if", .object([("required", .list([.text("type")]))])))
            members.append(("then", typedNode))
            members.append(("else", connectedNode))
        }
        return .object(members)
    }

    private func branches(
        _ variants: [(variant: ConfigShape.Variant, node: SchemaNode)]
    ) -> [SchemaNode.Member] {
        guard !variants.isEmpty else { return [] }
        let list = variants.map { variant, node -> SchemaNode in
            let constant = SchemaNode.object([("const", .text(variant.type))])
            let condition: [SchemaNode.Member] = [
                ("properties", .object([("type", constant)])),
                ("required", .list([.text("type")])),
            ]
            return .object([("if", .object(condition)), ("then", node)])
        }
        return [("allOf", .list(list))]
    }

    private func branch(
        typed variant: ConfigShape.Variant, _ type: ConfigField, _ common: [ConfigField]
    ) -> SchemaNode {
        let properties: [SchemaNode.Member] =
            [("type", .object([("const", .text(variant.type))]))]
            + (variant.fields + common).map(\.property)
        return .object(
            [
                ("description", .text(variant.summary)), ("properties", .object(properties)),
            ] + Self.rest(["type"] + variant.fields.filter(\.isRequired).map(\.name)))
    }
}

extension ConfigField {
    /// The member of `properties` that describes it.
    fileprivate var property: SchemaNode.Member {
        var members: [SchemaNode.Member] = [("description", .text(description))]
        members += type.schema
        if let json = defaultJSON { members.append(("default", .raw(json))) }
        if let json = exampleJSON { members.append(("examples", .list([.raw(json)]))) }
        return (name, .object(members))
    }

    /// A pattern cannot hold the limits of a duration or size, so the description does.
    private var description: String {
        switch type {
        case .duration, .size:
            let words = type.words
            return "\(summary) (\(words.prefix(1).uppercased())\(words.dropFirst()).)"
        default: return summary
        }
    }
}

extension ConfigType {
    /// The members of a schema that accept this shape.
    fileprivate var schema: [SchemaNode.Member] {
        switch self {
        case .string: return [("type", .text("string"))]
        case .boolean: return [("type", .text("boolean"))]
        case .integer(let range):
            var members: [SchemaNode.Member] = [("type", .text("integer"))]
            if range.lowerBound != .min { members.append(("minimum", .number(range.lowerBound))) }
            if range.upperBound != .max { members.append(("maximum", .number(range.upperBound))) }
            return members
        case .duration:
            return [("type", .text("string")), ("pattern", .text(DurationNotation.pattern))]
        case .size: return [("type", .text("string")), ("pattern", .text(SizeNotation.pattern))]
        case .choice(let choices): return [("enum", .list(choices.map { .text($0) }))]
        case .choiceOrNames(let choices):
            let list = ConfigType.list(of: .string).schema
            return [
                ("anyOf", .list([.object(ConfigType.choice(choices).schema), .object(list)]))
            ]
        case .list(let element):
            return [
                ("type", .text("array")), ("minItems", .number(1)),
                ("items", .object(element.schema)),
            ]
        case .table: return [("type", .text("string")), ("pattern", .text(Self.tablePattern))]
        case .secret: return [("anyOf", .list([.object(Self.plainText), .object(Self.reference)]))]
        case .columns:
            let list = ConfigType.list(of: .string).schema
            let object: [SchemaNode.Member] = [
                ("type", .text("object")), ("minProperties", .number(1)),
                ("additionalProperties", .object(ConfigType.string.schema)),
            ]
            return [("anyOf", .list([.object(list), .object(object)]))]
        case .object(let fields):
            let required = fields.filter(\.isRequired).map(\.name)
            return [
                ("type", .text("object")), ("properties", .object(fields.map(\.property))),
            ] + JSONSchemaWriter.rest(required)
        }
    }

    private static let tablePattern: String = {
        let part = #"([^\s."]+|"([^"]|"")+")"#
        return "^\(part)(\\.\(part))?$"
    }()

    private static let plainText: [SchemaNode.Member] = [
        ("type", .text("string")), ("minLength", .number(1)),
    ]

    /// Where a secret is, in one of three ways.
    private static let reference: [SchemaNode.Member] = {
        func place(_ description: String) -> SchemaNode {
            .object([("description", .text(description))] + plainText)
        }
        let places: [SchemaNode.Member] = [
            ("env", place("An environment variable.")),
            ("file", place("A file; a line break at its end is not part of the secret.")),
            ("credential", place("A credential systemd loads, by its id.")),
        ]
        return [
            ("type", .text("object")), ("properties", .object(places)),
            ("minProperties", .number(1)), ("maxProperties", .number(1)),
            ("additionalProperties", .boolean(false)),
        ]
    }()
}
