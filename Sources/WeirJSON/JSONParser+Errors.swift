// What the parser says about input it refuses.

extension JSONParser {
    /// The most bytes of the input that a message repeats.
    private static let excerptBytesMax = 40

    /// `end` nil: the error has no extent, because it is about something missing.
    func error(_ message: String, from start: Int, to end: Int? = nil) -> JSONSyntaxError {
        JSONSyntaxError(message: message, span: SourceSpan(start: start, end: end ?? start))
    }

    /// An error at `offset` that says what is there instead of what should be.
    func unexpected(insteadOf expected: String) -> JSONSyntaxError {
        guard let byte = current else {
            return error("expected \(expected), found end of input", from: offset)
        }
        let end = max(wordEnd(from: offset), scalarEnd(from: offset))
        let found: String
        switch byte {
        case ASCII.quote: found = "a string"
        case UInt8(ascii: "'"): found = "\"'\" (strings are written in double quotes)"
        case 0x21...0x7E: found = "\"\(excerpt(from: offset, to: end))\""
        default: found = describeScalar(from: offset, to: end)
        }
        return error("expected \(expected), found \(found)", from: offset, to: end)
    }

    /// A control byte as `U+0000`.
    func describe(_ byte: UInt8) -> String { "U+\(hex(UInt32(byte), digits: 4))" }

    /// The text between two offsets, cut if it is long.
    func excerpt(from start: Int, to end: Int) -> String {
        let cut = min(end, start + Self.excerptBytesMax)
        let text = String(decoding: bytes[start..<cut], as: UTF8.self)
        return cut < end ? "\(text)…" : text
    }

    /// Where a run of ASCII letters, digits and underscores that starts at `start` ends.
    func wordEnd(from start: Int) -> Int {
        var end = start
        while end < bytes.count, isWord(bytes[end]) { end += 1 }
        return end
    }

    private func isWord(_ byte: UInt8) -> Bool {
        ASCII.isLetter(byte) || ASCII.isDigit(byte) || byte == UInt8(ascii: "_")
    }

    private func scalarEnd(from start: Int) -> Int {
        var end = start + 1
        while end < bytes.count, bytes[end] & 0xC0 == 0x80 { end += 1 }
        return end
    }

    /// Many scalars that get into a file by accident cannot be seen, so they are named by number.
    private func describeScalar(from start: Int, to end: Int) -> String {
        let text = String(decoding: bytes[start..<end], as: UTF8.self)
        guard let scalar = text.unicodeScalars.first else { return "nothing" }
        let name = "U+\(hex(scalar.value, digits: 4))"
        return scalar.value == 0xFEFF ? "\(name) (byte order mark)" : name
    }
}
