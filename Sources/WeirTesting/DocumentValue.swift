/// A BSON value as a test writes it.
package indirect enum DocumentValue: Hashable, Sendable {
    /// Whatever bytes, also such as are no UTF-8.
    case text([UInt8])
    case int32(Int32)
    case int64(Int64)
    case double(Double)
    case bool(Bool)
    case objectId([UInt8])
    /// Milliseconds since 1970.
    case date(Int64)
    case uuid([UInt8])
    /// Coefficient and exponent of a number without sign.
    case decimal(UInt64, exponent: Int)
    case document([Member])
    case array([DocumentValue])
    case null

    package struct Member: Hashable, Sendable {
        package let name: String
        package let value: DocumentValue
    }

    package static func document(_ members: KeyValuePairs<String, DocumentValue>) -> DocumentValue {
        .document(members.map { Member(name: $0, value: $1) })
    }

    // Disfavoured: an empty list is one of members.
    @_disfavoredOverload
    package static func document(_ members: [(String, DocumentValue)]) -> DocumentValue {
        .document(members.map { Member(name: $0, value: $1) })
    }

    private var type: UInt8 {
        switch self {
        case .double: 0x01
        case .text: 0x02
        case .document: 0x03
        case .array: 0x04
        case .uuid: 0x05
        case .objectId: 0x07
        case .bool: 0x08
        case .date: 0x09
        case .null: 0x0A
        case .int32: 0x10
        case .int64: 0x12
        case .decimal: 0x13
        }
    }

    /// As the specification has it; of a document and an array the whole.
    package var bytes: [UInt8] {
        switch self {
        case .text(let text): Self.littleEndian(Int32(text.count + 1)) + text + [0]
        case .int32(let number): Self.littleEndian(number)
        case .int64(let number), .date(let number): Self.littleEndian(number)
        case .double(let number): Self.littleEndian(number.bitPattern)
        case .bool(let flag): [flag ? 1 : 0]
        case .objectId(let id): id
        case .uuid(let id): Self.littleEndian(Int32(id.count)) + [4] + id
        case .decimal(let digits, let exponent):
            Self.littleEndian(digits) + Self.littleEndian(UInt64(exponent + 6176) << 49)
        case .document(let members): Self.whole(members)
        case .array(let elements):
            Self.whole(
                elements.enumerated().map { Member(name: "\($0.offset)", value: $0.element) })
        case .null: []
        }
    }

    private static func whole(_ members: [Member]) -> [UInt8] {
        var elements: [UInt8] = []
        for member in members {
            elements += [member.value.type] + Array(member.name.utf8) + [0] + member.value.bytes
        }
        return littleEndian(Int32(elements.count + 5)) + elements + [0]
    }

    private static func littleEndian(_ number: some FixedWidthInteger) -> [UInt8] {
        (0..<(number.bitWidth / 8)).map { UInt8(truncatingIfNeeded: number >> (8 * $0)) }
    }
}

extension DocumentValue: ExpressibleByStringLiteral, ExpressibleByIntegerLiteral {
    package init(_ text: String) { self = .text(Array(text.utf8)) }
    package init(stringLiteral text: String) { self.init(text) }
    package init(integerLiteral number: Int32) { self = .int32(number) }
}
