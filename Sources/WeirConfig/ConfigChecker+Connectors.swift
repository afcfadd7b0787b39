import WeirCore
import WeirJSON

/// A connection of the file; what is nil has a fault that was reported.
struct CheckedConnection {
    let nameSpan: SourceSpan
    let scope: ObjectScope?
    let descriptor: ConnectorDescriptor?
    let values: ConfigValues?
}

/// A source or sink whose type is known.
struct ResolvedConnector {
    let descriptor: ConnectorDescriptor
    let connection: CheckedConnection?
    let connectionName: String?
}

extension ConfigChecker {
    mutating func checkConnections(_ member: JSONNode.Member) {
        let all = object(
            member.value, label: "\"connections\"", anchor: member.keySpan, path: "connections")
        for member in all?.members ?? [] {
            _ = checkName(member, of: "connection")
            connectionNames.append(member.key)
            connections[member.key] = checkedConnection(member)
        }
    }

    private mutating func checkedConnection(_ member: JSONNode.Member) -> CheckedConnection {
        func faulty(_ scope: ObjectScope?) -> CheckedConnection {
            CheckedConnection(
                nameSpan: member.keySpan, scope: scope, descriptor: nil, values: nil)
        }
        let opened = object(
            member.value, label: "connection \(quoted(member.key))", anchor: member.keySpan,
            path: "connections.*")
        guard let scope = opened else { return faulty(nil) }
        guard let type = scope["type"] else {
            missing("type", in: scope, note: note(types(as: .connection), "one of"))
            mask(member.value)
            return faulty(scope)
        }
        guard let descriptor = descriptor(type.value, as: .connection) else {
            // Its keys cannot be told apart, and any may be a secret.
            for other in scope.members where other.key != "type" { mask(other.value) }
            return faulty(scope)
        }
        let declared = descriptor.connectionFields ?? []
        let meant = refuseUnknown(in: scope, known: ["type"] + declared.map(\.name))
        let checked = fields(declared, in: scope, meant: meant)
        return CheckedConnection(
            nameSpan: member.keySpan, scope: scope, descriptor: descriptor,
            values: checked.isComplete ? ConfigValues(checked.values) : nil)
    }

    // MARK: Types

    /// What a source or sink is, by its connection or its type; nil when that is wrong.
    mutating func resolve(_ scope: ObjectScope, as kind: ConnectorKind) -> ResolvedConnector? {
        if let connection = scope["connection"] {
            if let type = scope["type"] {
                log.error(
                    ConfigErrorCode.invalidValue,
                    "\"type\" cannot stand beside \"connection\", which has one",
                    at: type.keySpan, note: "leave \"type\" out")
            }
            return resolve(connection: connection.value, as: kind)
        }
        if let type = scope["type"] {
            guard let descriptor = descriptor(type.value, as: kind) else { return nil }
            guard descriptor.connectionFields == nil else {
                let names = connectionNames.filter {
                    connections[$0]?.descriptor?.type == descriptor.type
                }
                missing(
                    "connection", in: scope,
                    note: note(names, "instead of \"type\" name one of")
                        ?? "\"\(descriptor.type)\" needs a connection instead of \"type\"")
                return nil
            }
            return ResolvedConnector(
                descriptor: descriptor, connection: nil, connectionName: nil)
        }
        let without = descriptors.filter {
            $0.connectionFields == nil && $0.fields(as: kind) != nil
        }
        let fitting = connectionNames.filter {
            connections[$0]?.descriptor?.fields(as: kind) != nil
        }
        missing(
            "connection", in: scope,
            note: note(without.map(\.type), "or, without a server, \"type\":")
                ?? note(fitting, "one of"))
        return nil
    }

    private mutating func resolve(
        connection node: JSONNode, as kind: ConnectorKind
    ) -> ResolvedConnector? {
        guard let name = text(node, "\"connection\"", expected: "the name of a connection") else {
            return nil
        }
        guard let connection = connections[name] else {
            log.error(
                ConfigErrorCode.unknownConnection, "unknown connection \(quoted(name))",
                at: node.span,
                note: didYouMean(name, among: connectionNames)
                    ?? note(connectionNames, "connections here:"))
            return nil
        }
        usedConnections.insert(name)
        guard let descriptor = connection.descriptor else { return nil }
        guard descriptor.fields(as: kind) != nil else {
            log.error(
                ConfigErrorCode.roleNotOffered,
                "connection \(quoted(name)) is of type \"\(descriptor.type)\", which cannot be a "
                    + kind.rawValue,
                at: node.span, note: note(types(as: kind), "\(kind.rawValue)s:"))
            return nil
        }
        return ResolvedConnector(
            descriptor: descriptor, connection: connection, connectionName: name)
    }

    private mutating func descriptor(
        _ node: JSONNode, as kind: ConnectorKind
    ) -> ConnectorDescriptor? {
        guard let type = text(node, "\"type\"", expected: "text") else { return nil }
        let fitting = types(as: kind)
        guard let descriptor = descriptors.first(where: { $0.type == type }) else {
            log.error(
                ConfigErrorCode.unknownType, "unknown type \(quoted(type))", at: node.span,
                note: didYouMean(type, among: fitting) ?? note(fitting, "types here:"))
            return nil
        }
        guard descriptor.fields(as: kind) != nil else {
            let refusal =
                kind == .connection
                ? "\"\(type)\" needs no connection" : "\"\(type)\" cannot be a \(kind.rawValue)"
            log.error(
                ConfigErrorCode.roleNotOffered, refusal, at: node.span,
                note: kind == .connection
                    ? "write \"type\": \"\(type)\" in the sink itself"
                    : note(fitting, "\(kind.rawValue)s:"))
            return nil
        }
        return descriptor
    }

    private func types(as kind: ConnectorKind) -> [String] {
        descriptors.filter { $0.fields(as: kind) != nil }.map(\.type)
    }

    /// Names in quotes after an introduction; nil when there are none.
    private func note(_ names: [String], _ introduction: String) -> String? {
        let shown = names.prefix(8).map { quoted($0) }.joined(separator: ", ")
        return names.isEmpty ? nil : "\(introduction) \(shown)\(names.count > 8 ? ", …" : "")"
    }

    // MARK: A connector's own checks

    /// Lets the connector check what one key alone does not show, then its claims and warnings.
    ///
    /// - Parameter failed: keys that are missing from the values though the file may have them.
    mutating func checked(
        _ scope: ObjectScope,
        _ resolved: ResolvedConnector,
        _ configScope: ConfigScope,
        failed: Set<String>,
        by check: (ConfigScope) throws(ConfigIssue) -> any ConnectorConfig
    ) -> (any ConnectorConfig)? {
        let config: any ConnectorConfig
        do throws(ConfigIssue) {
            config = try check(configScope)
        } catch {
            report(error, scope, resolved, failed)
            return nil
        }
        guard failed.isEmpty else { return nil }
        let title =
            configScope.name == "source"
            ? "the source of pipeline \"\(configScope.pipeline)\""
            : "sink \"\(configScope.name)\" of pipeline \"\(configScope.pipeline)\""
        let holder = ClaimHolder(title: title, span: scope.anchor)
        for claim in config.claims {
            if let first = claims[claim] ?? uses[claim] {
                refuse(claim, of: first, at: scope.anchor)
            } else {
                claims[claim] = holder
            }
        }
        for use in config.uses {
            if let first = claims[use] {
                refuse(use, of: first, at: scope.anchor)
            } else if uses[use] == nil {
                uses[use] = holder
            }
        }
        for warning in config.warnings {
            let place = scope["connection"]?.value.span ?? scope.anchor
            log.warning(ConfigErrorCode.advice, warning, at: place)
        }
        return config
    }

    private mutating func refuse(_ claim: String, of first: ClaimHolder, at span: SourceSpan) {
        let line = source.position(at: first.span.start).line
        log.error(
            ConfigErrorCode.conflict,
            "\(claim) is already used by \(first.title) on line \(line)", at: span)
    }

    /// Says an issue at the place it is about: a key of the connector, or of its connection.
    private mutating func report(
        _ issue: ConfigIssue, _ scope: ObjectScope, _ resolved: ResolvedConnector,
        _ failed: Set<String>
    ) {
        let names = issue.field?.split(separator: ".").map(String.init) ?? []
        let member = names.first.flatMap { scope[$0] ?? resolved.connection?.scope?[$0] }
        let node = member.flatMap { Self.value(at: names.dropFirst(), in: $0.value) }
        // With keys missing a connector may find fault with what is right in the file. Only what is
        // about another key, and a key that is there, is worth saying then.
        if !failed.isEmpty {
            let mentionsFailed = failed.contains {
                issue.message.contains($0) || names.first == $0
            }
            if node == nil || mentionsFailed { return }
        }
        let span = node.map { node in
            issue.index.flatMap { Self.element($0, of: node) } ?? node.span
        }
        log.error(
            ConfigErrorCode.invalidValue, issue.message,
            at: span ?? member?.keySpan ?? scope.anchor,
            note: issue.suggestion.map { "did you mean \"\($0)\"?" })
    }

    /// What nested objects hold under these keys; nil when one of them is not there.
    private static func value(at keys: some Sequence<String>, in node: JSONNode) -> JSONNode? {
        var node = node
        for key in keys {
            guard case .object(let members) = node.value,
                let member = members.first(where: { $0.key == key })
            else { return nil }
            node = member.value
        }
        return node
    }

    private static func element(_ index: Int, of node: JSONNode) -> SourceSpan? {
        switch node.value {
        case .array(let elements) where elements.indices.contains(index): elements[index].span
        case .object(let members) where members.indices.contains(index): members[index].value.span
        default: nil
        }
    }
}
