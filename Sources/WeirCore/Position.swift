/// A place in one source's log. Everything before it has been handed over.
///
/// Two numbers and a tail, compared in that order. Only the source that made a position knows what
/// they mean (`SourceNotation` is how it writes them); everybody else compares and stores it.
/// Positions of different sources are never compared.
///
/// PostgreSQL: commit LSN, ordinal of the change in its transaction, no tail. MongoDB: cluster
/// time, 0, and the part of the resume token that stands behind the cluster time.
public struct Position: Sendable, Hashable, Comparable, CustomStringConvertible {
    public let high: UInt64
    public let low: UInt32
    /// Compared byte for byte. Printable ASCII without spaces, since it is kept in text columns.
    public let tail: String

    /// The position just before a change. A change is covered by a position P exactly when its own
    /// position is less than P.
    public init(high: UInt64, low: UInt32 = 0, tail: String = "") {
        self.high = high
        self.low = low
        self.tail = tail
    }

    public static func < (left: Position, right: Position) -> Bool {
        if left.high != right.high { return left.high < right.high }
        if left.low != right.low { return left.low < right.low }
        return left.tail.utf8.lexicographicallyPrecedes(right.tail.utf8)
    }
}

// The text, in which states and targets keep positions:
//
//     00000000016B37A0:00000000           high, low
//     6B01850A00000014:00000000:2B042C…   and the tail
//
// Until 2026-12-01 a change stream's position was its resume token, which begins with `82` and the
// cluster time: `826B01850A000000142B042C…`.

extension Position {
    /// Nil when the text is no position.
    public init?(text: some StringProtocol) {
        let bytes = text.utf8
        guard let colon = bytes.index(bytes.startIndex, offsetBy: 16, limitedBy: bytes.endIndex),
            colon < bytes.endIndex, bytes[colon] == UInt8(ascii: ":")
        else {
            self.init(formerText: text)
            return
        }
        let start = bytes.index(after: colon)
        guard let end = bytes.index(start, offsetBy: 8, limitedBy: bytes.endIndex),
            let high = Self.number(text[..<colon]), let low = Self.number(text[start..<end])
        else { return nil }
        var tail = ""
        if end < bytes.endIndex {
            guard bytes[end] == UInt8(ascii: ":") else { return nil }
            tail = String(text[bytes.index(after: end)...])
            guard Self.isTail(tail), !tail.isEmpty else { return nil }
        }
        self.init(high: high, low: UInt32(truncatingIfNeeded: low), tail: tail)
    }

    private init?(formerText text: some StringProtocol) {
        let bytes = text.utf8
        guard text.hasPrefix("82"), bytes.count >= 18, bytes.allSatisfy({ $0 < 0x80 }) else {
            return nil
        }
        let time = bytes.index(bytes.startIndex, offsetBy: 2)
        let end = bytes.index(time, offsetBy: 16)
        let tail = String(text[end...])
        guard let high = Self.number(text[time..<end]), Self.isTail(tail) else { return nil }
        self.init(high: high, tail: tail)
    }

    public var text: String {
        let numbers = "\(Self.hex(high, digits: 16)):\(Self.hex(UInt64(low), digits: 8))"
        return tail.isEmpty ? numbers : "\(numbers):\(tail)"
    }

    /// The text for messages: a tail may hold the whole key of a row, thousands of bytes.
    public var description: String {
        let text = text
        return text.utf8.count <= Self.shownMax ? text : text.prefix(Self.shownMax) + "…"
    }

    private static let shownMax = 160

    private static func isTail(_ text: String) -> Bool {
        text.utf8.allSatisfy { $0 > UInt8(ascii: " ") && $0 < 0x7F }
    }

    private static func number(_ digits: some StringProtocol) -> UInt64? {
        // Radix parsing alone would take a sign.
        digits.utf8.allSatisfy(isHexDigit) ? UInt64(digits, radix: 16) : nil
    }

    private static func isHexDigit(_ byte: UInt8) -> Bool {
        (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte)
            || (UInt8(ascii: "A")...UInt8(ascii: "F")).contains(byte)
            || (UInt8(ascii: "a")...UInt8(ascii: "f")).contains(byte)
    }

    /// Capital digits, filled up with zeros.
    public static func hex(_ number: UInt64, digits: Int) -> String {
        let text = String(number, radix: 16, uppercase: true)
        return String(repeating: "0", count: max(0, digits - text.utf8.count)) + text
    }
}

/// Who a position belongs to. A position is meaningless at any other source.
///
/// Fields in a stable order, such as `system=7431…`, `database=shop`, `slot=weir_shop`.
public struct SourceIdentity: Sendable, Equatable, CustomStringConvertible {
    public let fields: [(name: String, value: String)]

    public init(_ fields: [(name: String, value: String)]) {
        self.fields = fields
    }

    /// The form the state store keeps.
    public init(parsing text: String) {
        fields = text.split(separator: " ").compactMap { part in
            guard let equals = part.firstIndex(of: "=") else { return nil }
            return (String(part[..<equals]), String(part[part.index(after: equals)...]))
        }
    }

    public subscript(name: String) -> String? {
        fields.first { $0.name == name }?.value
    }

    public static func == (left: SourceIdentity, right: SourceIdentity) -> Bool {
        left.description == right.description
    }

    public var description: String {
        fields.map { "\($0.name)=\($0.value)" }.joined(separator: " ")
    }
}
