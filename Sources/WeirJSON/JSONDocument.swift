/// Why a text is not JSON, and where.
package struct JSONSyntaxError: Error, Sendable, Equatable {
    /// Lower case, no period, says what was found.
    package let message: String
    /// What the message is about; empty at the end of the input.
    package let span: SourceSpan

    package init(message: String, span: SourceSpan) {
        self.message = message
        self.span = span
    }
}

/// JSON text as people write it in a configuration file: RFC 8259 plus `//` line comments.
///
/// Everything else that RFC 8259 does not allow is refused, trailing commas included, and nothing
/// is repaired: what the file says is what the reader gets.
package enum JSONDocument {
    /// The largest accepted input. A configuration is a few KiB; this only stops a wrong file name
    /// from filling the memory.
    package static let bytesMax = 4 * 1024 * 1024
    /// The deepest accepted nesting of objects and arrays. The parser recurses once per level, so
    /// this also bounds its stack.
    package static let depthMax = 128

    /// Parses a whole text that holds exactly one value.
    ///
    /// - Complexity: O(bytes).
    package static func parse(_ bytes: [UInt8]) throws(JSONSyntaxError) -> JSONNode {
        try checkEncoding(bytes)
        var parser = JSONParser(bytes: bytes)
        return try parser.parseDocument()
    }

    /// Refuses what no parser should look at, so that the parser may take valid UTF-8 for granted.
    private static func checkEncoding(_ bytes: [UInt8]) throws(JSONSyntaxError) {
        guard bytes.count <= bytesMax else {
            throw JSONSyntaxError(
                message: "input of \(bytes.count) bytes is over the limit of \(bytesMax) bytes",
                span: SourceSpan(start: bytesMax, end: bytes.count)
            )
        }
        if bytes.starts(with: [0xEF, 0xBB, 0xBF]) {
            throw JSONSyntaxError(
                message: "byte order mark at the start of the input",
                span: SourceSpan(start: 0, end: 3)
            )
        }
        if bytes.starts(with: [0xFF, 0xFE]) || bytes.starts(with: [0xFE, 0xFF]) {
            throw JSONSyntaxError(
                message: "byte order mark of UTF-16 at the start of the input, which must be UTF-8",
                span: SourceSpan(start: 0, end: 2)
            )
        }
        let invalidOffset = unsafe bytes.withUnsafeBytes { unsafe firstInvalidUTF8Offset(in: $0) }
        if let invalidOffset {
            throw JSONSyntaxError(
                message: "invalid UTF-8 at byte 0x\(hex(UInt32(bytes[invalidOffset]), digits: 2))",
                span: SourceSpan(start: invalidOffset, end: invalidOffset + 1)
            )
        }
    }
}

/// Upper-case hexadecimal with leading zeros, for messages.
func hex(_ value: UInt32, digits: Int) -> String {
    let plain = String(value, radix: 16, uppercase: true)
    return String(repeating: "0", count: max(0, digits - plain.count)) + plain
}
