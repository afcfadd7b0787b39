import WeirCore
import WeirValues

/// Where a change stream goes on: MongoDB's resume token, or a cluster time where there is none
/// yet. Pure.
///
/// The text form, for people and in ids of events, is one of:
///
///     826B…04+        behind the event, or the moment, whose token has this `_data`
///     826B…04+8180    the same, with the token's `_typeBits` in hexadecimal
///     826B01850A00000014   at this cluster time, before everything that happened then
///
/// The `_data` of tokens is text that orders like the events (CORRECTNESS 70): it begins with `82`
/// and the cluster time, and no token begins another. The `Position` has the cluster time as its
/// high number, and as its tail what follows. "+" makes a place behind an event greater than the
/// event's own position, which is the bare `_data`, and less than every later one.
enum ResumeToken: Equatable, Sendable {
    /// - `data`: hexadecimal digits.
    case after(data: String, typeBits: [UInt8])
    /// Seconds in the upper half, increment in the lower.
    case at(clusterTime: UInt64)

    /// What `_data` begins with, before the cluster time.
    static let head = "82"
    /// The bytes of `head` and the cluster time.
    static let headBytes = 18

    /// How positions of change streams are written.
    static let notation = SourceNotation(
        idPrefix: "mg", idHead: head,
        retention: RetentionWords(
            holder: "stream", inFull: "change stream", log: "oplog",
            unknown: "the user may not read local.oplog.rs"),
        mayTouch: { UpdateDescription.mayTouch($0, $1) },
        // As MongoDB's shell does: Timestamp(seconds, increment).
        display: { "\($0.high >> 32).\($0.high & 0xFFFF_FFFF)" })

    /// Nil when the position is none of this source.
    init?(_ position: Position) {
        guard position.low == 0 else { return nil }
        self.init(text: Self.notation.exact(position))
    }

    /// Nil when the text is no token and no cluster time.
    init?(text: String) {
        // Tails are compared as text, and the server's digits are capitals.
        let parts = text.uppercased().split(separator: "+", omittingEmptySubsequences: false)
        guard parts.count <= 2, let first = parts.first, let time = Self.clusterTime(of: first)
        else { return nil }
        if parts.count == 1 {
            guard first.utf8.count == Self.headBytes else { return nil }
            self = .at(clusterTime: time)
            return
        }
        guard let bits = Self.bytes(parts[1]) else { return nil }
        self = .after(data: String(first), typeBits: bits)
    }

    var position: Position {
        switch self {
        case .after(let data, let typeBits):
            Position(
                high: clusterTime,
                tail: data.dropFirst(Self.headBytes) + "+"
                    + typeBits.map { Position.hex(UInt64($0), digits: 2) }.joined())
        case .at(let time): Position(high: time)
        }
    }

    var clusterTime: UInt64 {
        switch self {
        case .after(let data, _): Self.clusterTime(of: data[...]) ?? 0
        case .at(let time): time
        }
    }

    /// Nil when the text is no `_data`.
    static func clusterTime(of data: Substring) -> UInt64? {
        guard data.utf8.count >= headBytes, data.utf8.count.isMultiple(of: 2),
            data.hasPrefix(head), data.utf8.allSatisfy(isHexDigit)
        else { return nil }
        return UInt64(data.dropFirst(head.count).prefix(headBytes - head.count), radix: 16)
    }

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
}

/// A cluster time holds seconds in its upper half.
extension UInt64 {
    /// Seconds since 1970 of a cluster time.
    var clusterSeconds: Int64 { Int64(self >> 32) }
}
