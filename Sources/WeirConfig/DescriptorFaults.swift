import WeirCore

extension ConfigLoader {
    /// What is wrong with the descriptors themselves; a test expects nothing.
    package func descriptorFaults() -> [String] {
        var faults: [String] = []
        var types: Set<String> = []
        for descriptor in descriptors {
            if !ConfigShape.isName(descriptor.type) || !types.insert(descriptor.type).inserted {
                faults.append("type \"\(descriptor.type)\" is no name, or is there twice")
            }
            for kind in [ConnectorKind.connection, .source, .sink] {
                let place = "\(descriptor.type) \(kind.rawValue)"
                let fields = descriptor.fields(as: kind) ?? []
                faults += Self.faults(of: fields, as: kind).map { "\(place): \($0)" }
            }
        }
        return faults
    }

    private static func faults(of fields: [ConfigField], as kind: ConnectorKind) -> [String] {
        var names: Set<String> = ["type"]
        if kind != .connection { names.insert("connection") }
        if kind == .sink { names.formUnion(LaneFields.fields.map(\.name)) }
        return faults(of: fields, beside: names, in: "")
    }

    /// - Parameters:
    ///   - taken: the names that others have in the same object.
    ///   - path: of the nested object they are in, with a dot behind each key.
    private static func faults(
        of fields: [ConfigField], beside taken: Set<String>, in path: String
    ) -> [String] {
        var faults: [String] = []
        // More than a reader takes in at once.
        if fields.count > 20 { faults.append("more than 20 keys") }
        var names = taken
        for field in fields {
            let name = "\"\(path)\(field.name)\""
            let isSnakeCase = field.name.utf8.allSatisfy {
                ($0 >= 0x61 && $0 <= 0x7A) || ($0 >= 0x30 && $0 <= 0x39) || $0 == 0x5F
            }
            // A system may call the things of a nested object by a letter each.
            let isLetter =
                !path.isEmpty && ("A"..."Z").contains(field.name)
                && field.name.utf8.count == 1
            if !isSnakeCase && !isLetter || field.name.isEmpty {
                faults.append("\(name) is not snake_case")
            }
            if !names.insert(field.name).inserted { faults.append("\(name) is taken") }
            if field.summary.last != "." { faults.append("\(name) has no sentence as summary") }
            if field.isRequired && field.defaultJSON != nil {
                faults.append("\(name) is required and has a default")
            }
            for json in [field.defaultJSON, field.exampleJSON].compactMap(\.self)
            where ConfigChecker.literal(json, field) == nil {
                faults.append("\(name) does not take its own default or example \(json)")
            }
            faults += Self.faults(
                of: field.type.fields, beside: [], in: "\(path)\(field.name).")
        }
        return faults
    }
}
