import WeirCore
import WeirJSON

extension ConfigChecker {
    /// Checks one value; nil when it is wrong, which has been said then.
    ///
    /// - Parameters:
    ///   - label: what messages call it, such as `"queue"` or `an element of "tables"`.
    ///   - key: the key it belongs to.
    ///   - anchor: what a key that an object lacks is shown at.
    ///   - path: as `ObjectScope` has it, if the value is an object.
    mutating func value(
        _ node: JSONNode, _ type: ConfigType, label: String, _ key: String, anchor: SourceSpan,
        path: String
    ) -> ConfigValue? {
        switch type {
        case .string: text(node, label, expected: "text").map { .string($0) }
        case .secret: secret(node, label, key).map { .secret($0) }
        case .boolean: boolean(node, label)
        case .integer(let range): integer(node, range, label)
        case .duration(let range): duration(node, range, label)
        case .size(let range): size(node, range, label)
        case .choice(let choices): choice(node, choices, label)
        case .choiceOrNames(let choices): choiceOrNames(node, choices, label, key, path)
        case .list(let element): list(node, element, label, key, path)
        case .table: table(node, label)
        case .columns: columns(node, label)
        case .object(let fields): object(node, fields, label, anchor, path)
        }
    }

    /// The default of a field as a value; nil when it has none.
    static func defaultValue(_ field: ConfigField) -> ConfigValue? {
        field.defaultJSON.flatMap { literal($0, field) }
    }

    /// A default or example as a value; nil when it does not fit its own field.
    static func literal(_ json: String, _ field: ConfigField) -> ConfigValue? {
        let bytes = Array(json.utf8)
        guard let node = try? JSONDocument.parse(bytes) else { return nil }
        let environment = ConfigEnvironment(
            variable: { $0 }, readFile: { .success(Array($0.utf8)) })
        var scratch = ConfigChecker(
            descriptors: [], environment: environment, source: SourceText(bytes))
        let value = scratch.value(
            node, field.type, label: "", field.name, anchor: node.span, path: "")
        // An object is a value in spite of keys that it should not have.
        return scratch.log.hasErrors ? nil : value
    }

    // MARK: Text

    /// Any text, but for the byte that would end it early in C.
    mutating func text(
        _ node: JSONNode, _ label: String, expected: String, note: String? = nil
    ) -> String? {
        guard case .string(let text) = node.value else {
            wrongType(node, label: label, expected: expected, note: note)
            return nil
        }
        guard !text.utf8.contains(0) else {
            log.error(ConfigErrorCode.invalidValue, "\(label) contains U+0000", at: node.span)
            return nil
        }
        return text
    }

    private mutating func choice(
        _ node: JSONNode, _ choices: [String], _ label: String, or other: String? = nil
    ) -> ConfigValue? {
        let list =
            choices.map { "\"\($0)\"" }.joined(separator: ", ") + (other.map { ", or \($0)" } ?? "")
        guard let text = text(node, label, expected: "one of \(list)") else { return nil }
        if choices.contains(text) { return .string(text) }
        log.error(
            ConfigErrorCode.invalidValue, "\(label) cannot be \(quoted(text))", at: node.span,
            note: didYouMean(text, among: choices) ?? "one of \(list)")
        return nil
    }

    private mutating func choiceOrNames(
        _ node: JSONNode, _ choices: [String], _ label: String, _ key: String, _ path: String
    ) -> ConfigValue? {
        switch node.value {
        case .string: return choice(node, choices, label, or: "a list of names")
        case .array: return list(node, .string, label, key, path)
        default:
            let words = choices.map { "\"\($0)\"" }.joined(separator: ", ")
            wrongType(node, label: label, expected: "\(words) or a list of names")
            return nil
        }
    }

    private mutating func table(_ node: JSONNode, _ label: String) -> ConfigValue? {
        let expected = "a table name such as \"public.orders\""
        guard let text = text(node, label, expected: expected) else { return nil }
        if let name = TableName(parsing: text) { return .table(name) }
        log.error(
            ConfigErrorCode.invalidValue, "\(quoted(text)) is no table name", at: node.span,
            note: #"write schema.table; odd names in quotes: "public.\"odd.name\"""#)
        return nil
    }

    // MARK: Numbers

    private mutating func boolean(_ node: JSONNode, _ label: String) -> ConfigValue? {
        if case .bool(let flag) = node.value { return .boolean(flag) }
        var note: String?
        if case .string(let text) = node.value, text == "true" || text == "false" {
            note = "did you mean \(text)?"
        }
        wrongType(node, label: label, expected: "true or false", note: note)
        return nil
    }

    private mutating func integer(
        _ node: JSONNode, _ range: ClosedRange<Int>, _ label: String
    ) -> ConfigValue? {
        guard case .number(let written) = node.value,
            written.utf8.allSatisfy({ $0 >= 0x30 && $0 <= 0x39 || $0 == UInt8(ascii: "-") })
        else {
            var note: String?
            if case .string(let text) = node.value, let number = Int(text) {
                note = "did you mean \(number)?"
            }
            wrongType(node, label: label, expected: "a whole number", note: note)
            return nil
        }
        if let number = Int(written), range.contains(number) { return .integer(number) }
        outOfRange(node, label, limits(range) { "\($0)" })
        return nil
    }

    private mutating func duration(
        _ node: JSONNode, _ range: ClosedRange<Duration>, _ label: String
    ) -> ConfigValue? {
        var note: String?
        if case .number(let number) = node.value {
            note = DurationNotation.suggestion(for: number).map { "did you mean \"\($0)\"?" }
        }
        guard
            let text = text(node, label, expected: "a duration such as \"30s\"", note: note)
        else { return nil }
        guard let duration = DurationNotation.parse(text) else {
            let meant = DurationNotation.suggestion(for: text).map { "did you mean \"\($0)\"?" }
            log.error(
                ConfigErrorCode.badDuration, "\(label) is no duration: \(quoted(text))",
                at: node.span, note: meant ?? #"write it like "200ms", "30s", "5m" or "1h""#)
            return nil
        }
        if range.contains(duration) { return .duration(duration) }
        let low = "\"\(DurationNotation.text(range.lowerBound))\""
        outOfRange(node, label, "from \(low) to \"\(DurationNotation.text(range.upperBound))\"")
        return nil
    }

    private mutating func size(
        _ node: JSONNode, _ range: ClosedRange<Int>, _ label: String
    ) -> ConfigValue? {
        var note: String?
        if case .number(let number) = node.value, let bytes = Int(number), bytes >= 0 {
            note = "did you mean \"\(SizeNotation.text(bytes))\"?"
        }
        guard let text = text(node, label, expected: "a size such as \"8MiB\"", note: note) else {
            return nil
        }
        guard let bytes = SizeNotation.parse(text) else {
            let meant = SizeNotation.suggestion(for: text).map { "did you mean \"\($0)\"?" }
            log.error(
                ConfigErrorCode.badSize, "\(label) is no size: \(quoted(text))", at: node.span,
                note: meant ?? #"write it like "64KiB", "8MiB" or "1GiB""#)
            return nil
        }
        if range.contains(bytes) { return .integer(bytes) }
        outOfRange(node, label, limits(range) { "\"\(SizeNotation.text($0))\"" })
        return nil
    }

    private func limits(_ range: ClosedRange<Int>, _ text: (Int) -> String) -> String {
        if range.upperBound == .max { return "at least \(text(range.lowerBound))" }
        return "from \(text(range.lowerBound)) to \(text(range.upperBound))"
    }

    private mutating func outOfRange(_ node: JSONNode, _ label: String, _ limits: String) {
        log.error(ConfigErrorCode.outOfRange, "\(label) must be \(limits)", at: node.span)
    }

    // MARK: Lists

    private mutating func list(
        _ node: JSONNode, _ type: ConfigType, _ label: String, _ key: String, _ path: String
    ) -> ConfigValue? {
        guard case .array(let elements) = node.value else {
            var note: String?
            if case .string(let text) = node.value, text.utf8.count <= 60 {
                note = "did you mean [\(quoted(text))]?"
            }
            wrongType(node, label: label, expected: "a list", note: note)
            return nil
        }
        if elements.isEmpty {
            log.error(ConfigErrorCode.empty, "\(label) is an empty list", at: node.span)
            return nil
        }
        let values = elements.map {
            value(
                $0, type, label: "an element of \(label)", key, anchor: $0.span, path: path)
        }
        let good = values.compactMap(\.self)
        return good.count == values.count ? .list(good) : nil
    }

    // MARK: Objects

    private mutating func object(
        _ node: JSONNode, _ fields: [ConfigField], _ label: String, _ anchor: SourceSpan,
        _ path: String
    ) -> ConfigValue? {
        guard let scope = object(node, label: label, anchor: anchor, path: path) else {
            // What stands here in place of the object may be the secret that belongs into it.
            if fields.contains(where: \.type.holdsSecret) { mask(node) }
            return nil
        }
        let meant = refuseUnknown(
            in: scope, known: fields.map(\.name),
            secrets: Set(fields.filter(\.type.holdsSecret).map(\.name)))
        let checked = self.fields(fields, in: scope, meant: meant)
        return checked.isComplete ? .object(ConfigValues(checked.values)) : nil
    }

    private mutating func columns(_ node: JSONNode, _ label: String) -> ConfigValue? {
        var pairs: [(output: JSONNode?, name: String, source: JSONNode)] = []
        switch node.value {
        case .array(let elements): pairs = elements.map { (nil, "", $0) }
        case .object:
            guard let scope = object(node, label: label, anchor: node.span, path: "") else {
                return nil
            }
            pairs = scope.members.map {
                (JSONNode(span: $0.keySpan, value: .string($0.key)), $0.key, $0.value)
            }
        default:
            wrongType(
                node, label: label,
                expected: "a list of columns, or an object from new name to column")
            return nil
        }
        if pairs.isEmpty {
            log.error(ConfigErrorCode.empty, "\(label) names no column", at: node.span)
            return nil
        }
        var choices: [ColumnChoice] = []
        var outputs: Set<String> = []
        var isComplete = true
        for pair in pairs {
            guard
                let column = text(
                    pair.source, "an element of \(label)", expected: "a column name"),
                isColumnName(column, pair.source),
                pair.output == nil || isColumnName(pair.name, pair.output ?? pair.source)
            else {
                isComplete = false
                continue
            }
            let output = pair.output == nil ? PathText.name(column) : pair.name
            if !outputs.insert(output).inserted {
                log.error(
                    ConfigErrorCode.invalidValue, "column \(quoted(output)) is listed twice",
                    at: pair.source.span)
                isComplete = false
            }
            choices.append(ColumnChoice(output: output, source: column))
        }
        return isComplete ? .columns(choices) : nil
    }

    private mutating func isColumnName(_ name: String, _ node: JSONNode) -> Bool {
        guard name.isEmpty || name.utf8.contains(0) else { return true }
        log.error(
            ConfigErrorCode.invalidValue, "\(quoted(name)) is no column name", at: node.span)
        return false
    }
}
