import WeirCore
import WeirJSON

/// One object of the file while it is checked.
struct ObjectScope {
    /// The first member of each key, in the order of the file.
    let members: [JSONNode.Member]
    /// What a diagnostic about the object as a whole points at: its key.
    let anchor: SourceSpan
    /// As `weir schema --path` takes it: `pipelines.*.source`; empty for the file itself.
    let path: String
    private let indexes: [String: Int]

    init(members: [JSONNode.Member], indexes: [String: Int], anchor: SourceSpan, path: String) {
        self.members = members
        self.indexes = indexes
        self.anchor = anchor
        self.path = path
    }

    subscript(key: String) -> JSONNode.Member? { indexes[key].map { members[$0] } }
}

/// What became of the fields of one object.
struct CheckedFields {
    var values: [String: ConfigValue] = [:]
    /// The keys that are missing or wrong.
    var failed: Set<String> = []

    var isComplete: Bool { failed.isEmpty }
}

extension ConfigChecker {
    /// Opens an object and refuses its duplicate keys; nil when the value is none.
    mutating func object(
        _ node: JSONNode, label: String, anchor: SourceSpan, path: String
    ) -> ObjectScope? {
        guard case .object(let all) = node.value else {
            wrongType(node, label: label, expected: "an object")
            return nil
        }
        var members: [JSONNode.Member] = []
        var indexes: [String: Int] = [:]
        for member in all {
            if let first = indexes[member.key] {
                let line = source.position(at: members[first].keySpan.start).line
                log.error(
                    ConfigErrorCode.duplicateKey,
                    "duplicate key \(quoted(member.key)), first given on line \(line)",
                    at: member.keySpan)
                if isMasked(members[first].value) { mask(member.value) }
            } else {
                indexes[member.key] = members.count
                members.append(member)
            }
        }
        return ObjectScope(members: members, indexes: indexes, anchor: anchor, path: path)
    }

    /// - Parameter secrets: the names among `known` that take secrets.
    /// - Returns: the known keys that were probably meant; they are not missing as well.
    @discardableResult
    mutating func refuseUnknown(
        in scope: ObjectScope, known: [String], secrets: Set<String> = []
    ) -> Set<String> {
        let names = Set(known)
        var meant: Set<String> = []
        for member in scope.members where !names.contains(member.key) {
            let free = known.filter { scope[$0] == nil }
            let nearest = log.isFull ? nil : nearestName(to: member.key, among: free)
            if let nearest { meant.insert(nearest) }
            // A misspelt "password" is still one. Where nothing is looked up any more, any may be.
            let isSecret = nearest.map { secrets.contains($0) } ?? log.isFull
            if isSecret || scope.path.hasPrefix("connections.*") { mask(member.value) }
            log.error(
                ConfigErrorCode.unknownField, "unknown field \(quoted(member.key))",
                at: member.keySpan, note: nearest.map { "did you mean \"\($0)\"?" },
                objectPath: scope.path)
        }
        return meant
    }

    /// Checks the named fields of an object and fills in their defaults.
    ///
    /// - Parameter meant: keys that are there, but misspelt.
    mutating func fields(
        _ fields: [ConfigField], in scope: ObjectScope, meant: Set<String> = []
    ) -> CheckedFields {
        var checked = CheckedFields()
        for field in fields {
            guard let member = scope[field.name] else {
                if meant.contains(field.name) {
                    checked.failed.insert(field.name)
                } else if field.isRequired {
                    missing(field.name, in: scope, example: field.exampleJSON)
                    checked.failed.insert(field.name)
                } else if let value = Self.defaultValue(field) {
                    checked.values[field.name] = value
                }
                continue
            }
            let value = value(
                member.value, field.type, label: "\"\(field.name)\"", field.name,
                anchor: member.keySpan,
                path: scope.path.isEmpty ? field.name : "\(scope.path).\(field.name)")
            if let value {
                checked.values[field.name] = value
            } else {
                checked.failed.insert(field.name)
            }
        }
        return checked
    }

    mutating func missing(
        _ key: String, in scope: ObjectScope, example: String? = nil, note: String? = nil
    ) {
        let added = example.map { "add \"\(key)\": \($0)" }
        log.error(
            ConfigErrorCode.missingField, "missing field \"\(key)\"", at: scope.anchor,
            note: note ?? added, objectPath: scope.path)
    }

    mutating func wrongType(
        _ node: JSONNode, label: String, expected: String, note: String? = nil
    ) {
        let found: String
        switch node.value {
        case .object: found = "an object"
        case .array: found = "a list"
        case .string: found = "text"
        case .number: found = "a number"
        case .bool(let flag): found = "\(flag)"
        case .null: found = "null"
        }
        let leaveOut = node.value == .null ? "leave the key out instead" : nil
        log.error(
            ConfigErrorCode.wrongType, "\(label) must be \(expected), not \(found)", at: node.span,
            note: note ?? leaveOut)
    }

    /// Names of connections, pipelines and sinks go into file names, slots and event ids.
    mutating func checkName(_ member: JSONNode.Member, of kind: String, reserved: String? = nil)
        -> Bool
    {
        let name = member.key
        if name == reserved {
            log.error(
                ConfigErrorCode.badName, "a \(kind) cannot be called \(quoted(name))",
                at: member.keySpan)
            return false
        }
        if ConfigShape.isName(name) { return true }
        let lowered = name.lowercased().map { $0 == " " || $0 == "." ? "-" : $0 }
        let tried = String(lowered)
        log.error(
            ConfigErrorCode.badName,
            "the \(kind) name \(quoted(name)) is not 1 to 40 lower-case letters, digits, - and _",
            at: member.keySpan, note: ConfigShape.isName(tried) ? "did you mean \"\(tried)\"?" : nil
        )
        return false
    }

    // MARK: Masks

    /// Hides every text in a value from excerpts.
    mutating func mask(_ node: JSONNode) {
        switch node.value {
        case .string, .number: masks.insert(node.span)
        case .array(let elements): for element in elements { mask(element) }
        case .object(let members): for member in members { mask(member.value) }
        case .bool, .null: break
        }
    }

    private func isMasked(_ node: JSONNode) -> Bool { masks.contains(node.span) }
}
