import WeirCore

/// Where a change stream goes on: MongoDB's resume token, or a cluster time where there is none
/// yet. Pure.
///
/// As a `Position` it is one of:
///
///     826B…04+        behind the event, or the moment, whose token has this `_data`
///     826B…04+8180    the same, with the token's `_typeBits` in hexadecimal
///     826B01850A00000014   at this cluster time, before everything that happened then
///
/// The `_data` of tokens is text that orders like the events (CORRECTNESS 70): it begins with `82`
/// and the cluster time, and no token begins another. "+" makes a place behind an event greater
/// than the event's own position, which is the bare `_data`, and less than every later one.
enum ResumeToken: Equatable, Sendable {
    /// - `data`: hexadecimal digits.
    case after(data: String, typeBits: [UInt8])
    /// Seconds in the upper half, increment in the lower.
    case at(clusterTime: UInt64)

    /// Nil when the text is no position of this source.
    init?(_ position: Position) {
        // Positions are compared as text, and the server's digits are capitals.
        let parts = position.token.uppercased()
            .split(separator: "+", omittingEmptySubsequences: false)
        guard parts.count <= 2, let first = parts.first, first.hasPrefix("82"),
            first.utf8.allSatisfy(Self.isHexDigit), first.utf8.count.isMultiple(of: 2)
        else { return nil }
        if parts.count == 1 {
            guard first.utf8.count == 18, let time = UInt64(first.dropFirst(2), radix: 16) else {
                return nil
            }
            self = .at(clusterTime: time)
            return
        }
        guard first.utf8.count >= 18, let bits = Self.bytes(parts[1]) else { return nil }
        self = .after(data: String(first), typeBits: bits)
    }

    var position: Position {
        switch self {
        case .after(let data, let typeBits):
            Position(token: data + "+" + typeBits.map { Self.hex(UInt64($0), 2) }.joined())
        case .at(let time): Position(token: "82" + Self.hex(time, 16))
        }
    }

    var clusterTime: UInt64 { position.clusterTime ?? 0 }

    private static func bytes(_ text: Substring) -> [UInt8]? {
        guard text.utf8.count.isMultiple(of: 2), text.utf8.allSatisfy(isHexDigit) else {
            return nil
        }
        let digits = Array(text)
        return stride(from: 0, to: digits.count, by: 2).compactMap {
            UInt8(String(digits[$0...($0 + 1)]), radix: 16)
        }
    }

    private static func isHexDigit(_ byte: UInt8) -> Bool {
        (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte)
            || (UInt8(ascii: "A")...UInt8(ascii: "F")).contains(byte)
            || (UInt8(ascii: "a")...UInt8(ascii: "f")).contains(byte)
    }

    private static func hex(_ number: UInt64, _ digits: Int) -> String {
        let text = String(number, radix: 16, uppercase: true)
        return String(repeating: "0", count: max(0, digits - text.utf8.count)) + text
    }
}

/// A cluster time holds seconds in its upper half.
extension UInt64 {
    /// Seconds since 1970 of a cluster time.
    var clusterSeconds: Int64 { Int64(self >> 32) }
}
