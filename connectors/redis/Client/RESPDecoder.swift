package import NIOCore

/// What one reply may be at most. Nothing is ever allocated by a length that was only announced.
package struct RESPLimits: Sendable {
    /// Of all strings and lines of one reply together. What Weir asks is answered with kilobytes.
    package var replyBytes = 64 << 20
    /// Of the line that holds a short value or an error.
    package var lineBytes = 64 << 10
    /// Of all arrays, maps, sets of one reply together.
    package var elements = 1 << 20
    package var depth = 32

    package init() {}
}

/// Bytes that are not RESP, or more than `RESPLimits` allows.
package struct MalformedRESP: Error, Equatable {
    package let reason: String

    init(_ reason: String) { self.reason = reason }
}

/// Takes replies out of a stream of bytes that arrives in pieces.
///
/// A line is a type, a short text and CRLF; `$`, `=` and `!` have bytes and CRLF behind their line,
/// the collections have elements:
///
///     | type | text or length | CR LF | bytes … CR LF        (bulk)
///     | type | count          | CR LF | count × element      (array; map and attribute: 2 × count)
///
/// Complexity: O(bytes), however small the pieces: neither a line nor a bulk string is looked at
/// again when more of it comes.
package struct RESPDecoder {
    private let limits: RESPLimits
    private var buffer = ByteBuffer()
    /// How many unread bytes are known to hold no line end.
    private var searched = 0
    /// The string whose line was read and whose bytes are not all here.
    private var string: (kind: StringKind, count: Int)?
    /// The collections that are being read, the innermost last.
    private var open: [Collection] = []
    private var elements = 0
    private var replyBytes = 0
    /// Of the value `next` returned last.
    package private(set) var lastReplyBytes = 0
    private var failure: MalformedRESP?

    private enum StringKind { case bulk, error, verbatim }

    private struct Collection {
        enum Kind { case array, map, set, push, attribute }

        let kind: Kind
        var remaining: Int
        var values: [RESPValue] = []

        var value: RESPValue {
            switch kind {
            case .array: .array(values)
            case .map, .attribute: .map(values)
            case .set: .set(values)
            case .push: .push(values)
            }
        }
    }

    private enum Step {
        case needsBytes
        case opened
        case value(RESPValue)
    }

    package init(limits: RESPLimits = RESPLimits()) { self.limits = limits }

    /// Adds what was received. Call `next` until it returns nil before the next call.
    package mutating func feed(_ bytes: ByteBuffer) {
        guard buffer.readableBytes > 0 else {
            buffer = bytes
            return
        }
        // Never moves more than was consumed since it last moved.
        if buffer.readerIndex > buffer.readableBytes { buffer.discardReadBytes() }
        buffer.writeImmutableBuffer(bytes)
    }

    /// The next whole reply or push; nil when more bytes are needed.
    ///
    /// - Throws: the same again in every later call.
    package mutating func next() throws(MalformedRESP) -> RESPValue? {
        if let failure { throw failure }
        do throws(MalformedRESP) {
            while true {
                switch try step() {
                case .needsBytes: return nil
                case .opened: continue
                case .value(let value):
                    guard let reply = complete(value) else { continue }
                    elements = 0
                    lastReplyBytes = replyBytes
                    replyBytes = 0
                    return reply
                }
            }
        } catch {
            failure = error
            buffer = ByteBuffer()
            open = []
            throw error
        }
    }

    /// Puts a value where it belongs; returns the reply that it ends, if it ends one.
    private mutating func complete(_ value: RESPValue) -> RESPValue? {
        var value = value
        while let last = open.indices.last {
            if open[last].kind != .attribute { open[last].values.append(value) }
            open[last].remaining -= 1
            if open[last].remaining > 0 { return nil }
            let collection = open.removeLast()
            // It says something of the value that follows, which nobody here wants to know.
            if collection.kind == .attribute { return nil }
            value = collection.value
        }
        return value
    }

    private mutating func step() throws(MalformedRESP) -> Step {
        if let string { return try readString(string.kind, count: string.count) }
        guard let length = try lineLength() else { return .needsBytes }
        // The line has its type at least, else `lineLength` had refused it.
        let kind = buffer.readInteger(as: UInt8.self) ?? 0
        let text = buffer.readSlice(length: length - 1) ?? ByteBuffer()
        buffer.moveReaderIndex(forwardBy: 2)
        searched = 0
        try count(length)
        switch kind {
        case UInt8(ascii: "$"): return try openString(.bulk, text)
        case UInt8(ascii: "!"): return try openString(.error, text)
        case UInt8(ascii: "="): return try openString(.verbatim, text)
        case UInt8(ascii: "*"): return try openCollection(.array, text)
        case UInt8(ascii: "%"): return try openCollection(.map, text)
        case UInt8(ascii: "~"): return try openCollection(.set, text)
        case UInt8(ascii: ">"): return try openCollection(.push, text)
        case UInt8(ascii: "|"): return try openCollection(.attribute, text)
        default: return .value(try RESPLine.value(kind, text))
        }
    }

    /// Bytes before the next CRLF, at least one; nil when it is not here yet.
    private mutating func lineLength() throws(MalformedRESP) -> Int? {
        let bytes = buffer.readableBytesView
        guard let kind = bytes.first else { return nil }
        guard RESPLine.isKind(kind) else {
            // What a TLS server says to those who do not speak TLS begins so.
            throw MalformedRESP(kind == 0x15 ? "the server speaks TLS" : "unknown type of a reply")
        }
        let end = bytes[(bytes.startIndex + searched)...].firstIndex(of: UInt8(ascii: "\r"))
        let length = (end ?? bytes.endIndex) - bytes.startIndex
        guard length <= limits.lineBytes else { throw MalformedRESP("a line is too long") }
        searched = length
        guard let end, end + 1 < bytes.endIndex else { return nil }
        guard bytes[end + 1] == UInt8(ascii: "\n") else {
            throw MalformedRESP("a line has a carriage return in it")
        }
        return length
    }

    private mutating func openString(
        _ kind: StringKind, _ text: ByteBuffer
    ) throws(MalformedRESP) -> Step {
        guard let count = RESPLine.count(text) else {
            if kind == .bulk, RESPLine.isMinusOne(text) { return .value(.null) }
            throw MalformedRESP("a string without a length")
        }
        try self.count(count)
        string = (kind, count)
        return .opened
    }

    /// Before anything is kept of so many bytes.
    private mutating func count(_ bytes: Int) throws(MalformedRESP) {
        guard bytes <= limits.replyBytes - replyBytes else {
            throw MalformedRESP("a reply is too long")
        }
        replyBytes += bytes
    }

    private mutating func readString(
        _ kind: StringKind, count: Int
    ) throws(MalformedRESP) -> Step {
        guard buffer.readableBytes >= count + 2, var bytes = buffer.readSlice(length: count),
            let end = buffer.readInteger(as: UInt16.self)
        else { return .needsBytes }
        guard end == 0x0d0a else { throw MalformedRESP("a string does not end where it should") }
        string = nil
        switch kind {
        case .bulk: return .value(.bulk(bytes))
        case .error:
            let kept = bytes.readSlice(length: min(count, RESPError.bytesMax)) ?? ByteBuffer()
            return .value(.error(RESPError(String(buffer: kept))))
        case .verbatim:
            guard let format = bytes.readString(length: 3),
                bytes.readInteger(as: UInt8.self) == UInt8(ascii: ":")
            else { throw MalformedRESP("a verbatim string without a format") }
            return .value(.verbatim(format: format, bytes))
        }
    }

    private mutating func openCollection(
        _ kind: Collection.Kind, _ text: ByteBuffer
    ) throws(MalformedRESP) -> Step {
        guard let count = RESPLine.count(text) else {
            if kind == .array, RESPLine.isMinusOne(text) { return .value(.null) }
            throw MalformedRESP("a collection without a count")
        }
        if kind == .push, !open.isEmpty { throw MalformedRESP("a push inside a reply") }
        let isPairs = kind == .map || kind == .attribute
        guard count <= (limits.elements - elements) / (isPairs ? 2 : 1) else {
            throw MalformedRESP("a reply has too many elements")
        }
        let collection = Collection(kind: kind, remaining: isPairs ? 2 * count : count)
        if count == 0 { return kind == .attribute ? .opened : .value(collection.value) }
        guard open.count < limits.depth else { throw MalformedRESP("a reply is nested too deep") }
        elements += collection.remaining
        open.append(collection)
        return .opened
    }
}
