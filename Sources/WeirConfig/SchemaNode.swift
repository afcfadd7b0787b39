import WeirJSON

/// A JSON value to print, with its keys in the order given.
indirect enum SchemaNode: Sendable {
    typealias Member = (key: String, value: SchemaNode)

    case object([Member])
    case list([SchemaNode])
    case text(String)
    case number(Int)
    case boolean(Bool)
    /// JSON text as it is.
    case raw(String)

    /// With two blanks per level; a list of scalars that fits stays on one line.
    func printed() -> String {
        var text = ""
        print(into: &text, indent: 0)
        return text + "\n"
    }

    private func print(into text: inout String, indent: Int) {
        let inner = String(repeating: " ", count: indent + 2)
        let outer = String(repeating: " ", count: indent)
        switch self {
        case .text(let string): text += Self.quoted(string)
        case .number(let number): text += "\(number)"
        case .boolean(let flag): text += "\(flag)"
        case .raw(let json): text += json
        case .list(let elements):
            if let line = oneLine(elements), indent + line.utf8.count <= 80 {
                text += line
                return
            }
            text += "[\n"
            for (index, element) in elements.enumerated() {
                text += inner
                element.print(into: &text, indent: indent + 2)
                text += index == elements.count - 1 ? "\n" : ",\n"
            }
            text += outer + "]"
        case .object(let members) where members.isEmpty: text += "{}"
        case .object(let members):
            text += "{\n"
            for (index, member) in members.enumerated() {
                text += "\(inner)\(Self.quoted(member.key)): "
                member.value.print(into: &text, indent: indent + 2)
                text += index == members.count - 1 ? "\n" : ",\n"
            }
            text += outer + "}"
        }
    }

    /// Nil when an element is no scalar.
    private func oneLine(_ elements: [SchemaNode]) -> String? {
        var texts: [String] = []
        for element in elements {
            switch element {
            case .object, .list: return nil
            default:
                var text = ""
                element.print(into: &text, indent: 0)
                texts.append(text)
            }
        }
        return "[" + texts.joined(separator: ", ") + "]"
    }

    private static func quoted(_ string: String) -> String {
        var writer = JSONWriter()
        writer.appendQuoted(string: string)
        return unsafe writer.withBytes { unsafe String(decoding: $0, as: UTF8.self) }
    }
}
