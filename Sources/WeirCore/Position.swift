/// A place in one source's log. Everything before it has been handed over.
///
/// Positions of one source are ordered by the bytes of their token, so the engine compares them
/// without knowing the source; positions of different sources are never compared.
/// PostgreSQL: 16 hex digits of an LSN, ":", 8 hex digits of an ordinal. MongoDB: for an event its
/// resume token's `_data`; for a place to resume at the same and "+", because a token means what is
/// behind it, or the cluster time alone (`ResumeToken` of the source has the rules).
public struct Position: Sendable, Hashable, Comparable, CustomStringConvertible {
    public let token: String

    public init(token: String) {
        self.token = token
    }

    /// The position just before the change `ordinal` of the transaction that committed at `commit`.
    ///
    /// A change is covered by a position P exactly when its own position is less than P.
    public init(commit: UInt64, ordinal: UInt32 = 0) {
        token = Self.hex(commit, digits: 16) + ":" + Self.hex(UInt64(ordinal), digits: 8)
    }

    /// The two numbers `init(commit:ordinal:)` was made from; nil for other kinds of token.
    public var commitAndOrdinal: (commit: UInt64, ordinal: UInt32)? {
        let parts = token.split(separator: ":", omittingEmptySubsequences: false)
        guard parts.count == 2, parts.allSatisfy({ $0.utf8.allSatisfy(Self.isHexDigit) }),
            parts[0].utf8.count == 16, parts[1].utf8.count == 8,
            let commit = UInt64(parts[0], radix: 16), let ordinal = UInt32(parts[1], radix: 16)
        else { return nil }
        return (commit, ordinal)
    }

    /// The cluster time a token of MongoDB begins with, seconds in the upper half; nil for other
    /// kinds of token.
    public var clusterTime: UInt64? {
        let digits = token.utf8.prefix(18)
        guard digits.count == 18, digits.allSatisfy(Self.isHexDigit), token.hasPrefix("82") else {
            return nil
        }
        return UInt64(token.dropFirst(2).prefix(16), radix: 16)
    }

    public static func < (left: Position, right: Position) -> Bool {
        left.token.utf8.lexicographicallyPrecedes(right.token.utf8)
    }

    public var description: String { token }

    /// The token for messages: one of MongoDB holds the whole `_id`, which may have thousands of
    /// bytes.
    public var shown: String {
        token.utf8.count <= Self.shownMax ? token : token.prefix(Self.shownMax) + "…"
    }

    private static let shownMax = 160

    /// As the source's own tools write it, where that is known.
    public var display: String {
        if let time = clusterTime {
            // MongoDB's, as its shell's Timestamp(seconds, increment).
            return "\(time >> 32).\(time & 0xFFFF_FFFF)"
        }
        guard let (commit, ordinal) = commitAndOrdinal else { return token }
        let high = String(commit >> 32, radix: 16, uppercase: true)
        let low = String(commit & 0xFFFF_FFFF, radix: 16, uppercase: true)
        return ordinal == 0 ? "\(high)/\(low)" : "\(high)/\(low)+\(ordinal)"
    }

    private static func isHexDigit(_ byte: UInt8) -> Bool {
        // Radix parsing alone would take a sign.
        (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte)
            || (UInt8(ascii: "A")...UInt8(ascii: "F")).contains(byte)
            || (UInt8(ascii: "a")...UInt8(ascii: "f")).contains(byte)
    }

    private static func hex(_ number: UInt64, digits: Int) -> String {
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
