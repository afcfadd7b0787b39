package import NIOCore

/// One reply, in RESP2 or RESP3.
///
/// Bytes are slices of what was received and share its memory: copy what is kept for long.
package enum RESPValue: Sendable, Equatable {
    /// `+OK`
    case simple(String)
    /// `-ERR …`, or RESP3's `!` with bytes of its own length.
    case error(RESPError)
    /// `:1`
    case integer(Int64)
    /// `$3 foo`
    case bulk(ByteBuffer)
    /// `*2 …`
    case array([RESPValue])
    /// `_`, and RESP2's `$-1` and `*-1`.
    case null
    /// `,1.5`
    case double(Double)
    /// `#t`
    case boolean(Bool)
    /// `(123…`: a sign and digits.
    case bigNumber(String)
    /// `=7 txt:foo`; the format is the three letters.
    case verbatim(format: String, ByteBuffer)
    /// `%1 …`: key, value, key, value, as RESP2 gives the same in an array.
    case map([RESPValue])
    /// `~1 …`
    case set([RESPValue])
    /// `>2 …`: not a reply; only `RESPDecoder` hands these out.
    case push([RESPValue])

    package var integer: Int64? {
        if case .integer(let number) = self { number } else { nil }
    }

    package var error: RESPError? {
        if case .error(let error) = self { error } else { nil }
    }

    package var isNull: Bool { self == .null }

    /// The elements of an array, a map (keys and values in turn), a set or a push.
    package var elements: [RESPValue]? {
        switch self {
        case .array(let elements), .map(let elements), .set(let elements), .push(let elements):
            elements
        default: nil
        }
    }

    /// The bytes of a bulk or verbatim string.
    package var bytes: ByteBuffer? {
        switch self {
        case .bulk(let bytes), .verbatim(format: _, let bytes): bytes
        default: nil
        }
    }

    /// The text of a simple, bulk or verbatim string; bytes that are not UTF-8 are replaced.
    package var text: String? {
        if case .simple(let text) = self { return text }
        return bytes.map { String(buffer: $0) }
    }
}

/// An error reply: `-WRONGTYPE Operation against a key …`
package struct RESPError: Sendable, Equatable {
    /// What is kept of one that has a length of its own; others are lines.
    static let bytesMax = 64 << 10
    private static let codeBytesMax = 32

    /// The first word, such as `ERR`, `NOSCRIPT` or `READONLY`; empty where there is none.
    package let code: String
    /// All of it, the code too. May quote the arguments of the command: see `safeText`.
    package let text: String

    package init(_ text: String) {
        self.text = text
        let word = text.prefix { $0 != " " }
        let isCode =
            1...Self.codeBytesMax ~= word.utf8.count
            && word.utf8.allSatisfy { byte in
                UInt8(ascii: "A")...UInt8(ascii: "Z") ~= byte || byte == UInt8(ascii: "_")
                    || UInt8(ascii: "0")...UInt8(ascii: "9") ~= byte
            }
        code = isCode ? String(word) : ""
    }

    /// The text for messages: without the arguments that the server quotes when it does not know a
    /// command, which may be a password or a row's values.
    package var safeText: String {
        guard let arguments = text.firstRange(of: ", with args beginning with") else { return text }
        return String(text[..<arguments.lowerBound])
    }
}
