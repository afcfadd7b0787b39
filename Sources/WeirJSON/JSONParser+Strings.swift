extension JSONParser {
    /// Decodes the string whose opening quote is at `offset` and steps past its closing quote.
    mutating func parseString() throws(JSONSyntaxError) -> String {
        let start = offset
        offset += 1
        var decoded: [UInt8] = []
        var runStart = offset
        while let byte = current {
            switch byte {
            case ASCII.quote:
                decoded.append(contentsOf: bytes[runStart..<offset])
                offset += 1
                return String(decoding: decoded, as: UTF8.self)
            case ASCII.backslash:
                decoded.append(contentsOf: bytes[runStart..<offset])
                try parseEscape(into: &decoded)
                runStart = offset
            case ASCII.lf, ASCII.cr:
                throw error(
                    "line break in a string, its closing quote may be missing",
                    from: offset,
                    to: offset + 1
                )
            case 0..<ASCII.space:
                throw error(
                    "unescaped control character \(describe(byte)) in a string",
                    from: offset,
                    to: offset + 1
                )
            default:
                offset += 1
            }
        }
        throw error("string without a closing quote, found end of input", from: start, to: offset)
    }

    private mutating func parseEscape(into decoded: inout [UInt8]) throws(JSONSyntaxError) {
        let start = offset
        offset += 1
        guard let letter = current else {
            throw error("unfinished escape, found end of input", from: start, to: offset)
        }
        switch letter {
        case ASCII.quote, ASCII.backslash, ASCII.slash: decoded.append(letter)
        case UInt8(ascii: "b"): decoded.append(0x08)
        case UInt8(ascii: "f"): decoded.append(0x0C)
        case UInt8(ascii: "n"): decoded.append(ASCII.lf)
        case UInt8(ascii: "r"): decoded.append(ASCII.cr)
        case UInt8(ascii: "t"): decoded.append(ASCII.tab)
        case UInt8(ascii: "u"):
            let scalar = try parseUnicodeEscape(from: start)
            decoded.append(contentsOf: String(Character(scalar)).utf8)
            return
        case 0x21...0x7E:
            let found = Character(Unicode.Scalar(letter))
            throw error("unknown escape \"\\\(found)\"", from: start, to: offset + 1)
        default:
            throw error("backslash that begins no known escape", from: start, to: offset)
        }
        offset += 1
    }

    /// Decodes `\uXXXX`, or a pair of them for a scalar beyond U+FFFF, and steps past it.
    private mutating func parseUnicodeEscape(
        from start: Int
    ) throws(JSONSyntaxError) -> Unicode.Scalar {
        let first = try parseFourHexDigits(from: start)
        if let scalar = Unicode.Scalar(first) { return scalar }
        // Not a scalar: a surrogate. Only a high one followed by a low one means something.
        let firstEnd = offset
        let hasSecond = bytes[offset...].starts(with: [ASCII.backslash, UInt8(ascii: "u")])
        if first < 0xDC00, hasSecond {
            let second = try parseFourHexDigits(from: offset)
            if second & 0xFC00 == 0xDC00 {
                let combined = 0x10000 + ((first & 0x3FF) << 10) + (second & 0x3FF)
                if let scalar = Unicode.Scalar(combined) { return scalar }
            }
        }
        let found = excerpt(from: start, to: firstEnd)
        throw error("lone surrogate \"\(found)\" in a string", from: start, to: firstEnd)
    }

    /// Reads the digits of the `\u` that starts at `start`, and steps past them.
    private mutating func parseFourHexDigits(from start: Int) throws(JSONSyntaxError) -> UInt32 {
        var value: UInt32 = 0
        offset = start + 2
        for _ in 0..<4 {
            let character = current.map { Character(Unicode.Scalar($0)) }
            guard let digit = character?.hexDigitValue else {
                let found = excerpt(from: start, to: offset)
                throw error("\"\(found)\" without four hexadecimal digits", from: start, to: offset)
            }
            value = value << 4 | UInt32(digit)
            offset += 1
        }
        return value
    }
}
