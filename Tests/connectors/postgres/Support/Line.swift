import Foundation
import Testing

/// A line of the format `weir`, read by Foundation: an independent check that it is JSON.
@dynamicMemberLookup
struct Line: Equatable, CustomStringConvertible {
    let text: String
    let members: [String: JSON]

    init(_ text: some StringProtocol) throws {
        self.text = String(text)
        guard case .object(let members) = try JSONDecoder().decode(JSON.self, from: Data(text.utf8))
        else { throw JSON.NotAnObject() }
        self.members = members
    }

    /// A member of the envelope by its name, such as `after` or `old_key`; nil when absent.
    subscript(dynamicMember name: String) -> JSON? { members[name] }

    /// `schema.table`.
    var table: String {
        "\(self.source?["schema"]?.string ?? "").\(self.source?["table"]?.string ?? "")"
    }

    var description: String { text }
}

/// A JSON value that tests compare with literals.
enum JSON: Equatable, Decodable {
    struct NotAnObject: Error {}

    case null
    case bool(Bool)
    case number(Decimal)
    case string(String)
    case array([JSON])
    case object([String: JSON])

    init(from decoder: any Decoder) throws {
        let container = try decoder.singleValueContainer()
        if container.decodeNil() {
            self = .null
        } else if let bool = try? container.decode(Bool.self) {
            self = .bool(bool)
        } else if let string = try? container.decode(String.self) {
            self = .string(string)
        } else if let number = try? container.decode(Decimal.self) {
            self = .number(number)
        } else if let array = try? container.decode([JSON].self) {
            self = .array(array)
        } else {
            self = .object(try container.decode([String: JSON].self))
        }
    }

    subscript(name: String) -> JSON? {
        if case .object(let members) = self { members[name] } else { nil }
    }

    var string: String? { if case .string(let string) = self { string } else { nil } }
    var number: Int? {
        if case .number(let number) = self { Int(truncating: number as NSNumber) } else { nil }
    }
}

extension JSON: ExpressibleByStringLiteral, ExpressibleByIntegerLiteral, ExpressibleByNilLiteral,
    ExpressibleByBooleanLiteral, ExpressibleByArrayLiteral, ExpressibleByDictionaryLiteral
{
    init(stringLiteral value: String) { self = .string(value) }
    init(integerLiteral value: Int) { self = .number(Decimal(value)) }
    init(nilLiteral: ()) { self = .null }
    init(booleanLiteral value: Bool) { self = .bool(value) }
    init(arrayLiteral elements: JSON...) { self = .array(elements) }
    init(dictionaryLiteral elements: (String, JSON)...) {
        self = .object(Dictionary(uniqueKeysWithValues: elements))
    }
}
