// Strings are most of what is written, so they are scanned and copied eight bytes at a time: a word
// is loaded, stored to the output whole, and its bytes tested all at once for one that must be
// escaped. If there is one, only the bytes before it count as written and the rest is overwritten.
// On a 2-core machine a clean string of 200 bytes takes 26 ns, and nine columns of 220 bytes in all
// take 66 ns.

/// Marks the top bit of each lane whose byte must be escaped: below 0x20, `"` or `\`.
///
/// `x - n` borrows out of a lane exactly if its byte is below n, and `& ~x` drops the bytes from
/// 0x80 on. A borrow can mark a wrong lane only above a right one, so the lowest mark is exact.
/// Flipping bit 1 sends `"` (0x22) to 0x20 and keeps 0x00...0x1F below 0x20, while space (0x20)
/// goes to 0x22: one comparison with 0x21 covers both the quote and the control characters.
@inline(__always)
private func escapeMarks(_ word: UInt64) -> UInt64 {
    let quoteOrControl = (word ^ lanes(0x02)) &- lanes(0x21)
    let backslash = (word ^ lanes(ASCII.backslash)) &- lanes(1)
    return (quoteOrControl | backslash) & ~word & lanes(0x80)
}

/// Marks the line breaks, LF and CR, in the same way.
@inline(__always)
private func lineBreakMarks(_ word: UInt64) -> UInt64 {
    let lf = (word ^ lanes(ASCII.lf)) &- lanes(1)
    let cr = (word ^ lanes(ASCII.cr)) &- lanes(1)
    return (lf | cr) & ~word & lanes(0x80)
}

@inline(__always)
private func loadWord(_ source: UnsafeRawPointer) -> UInt64 {
    UInt64(littleEndian: unsafe source.loadUnaligned(as: UInt64.self))
}

/// Loads the last `count` (1...7) bytes of a buffer of `total` bytes into the low lanes and fills
/// the others with spaces, without touching a byte outside the buffer.
@inline(__always)
private func loadTail(_ source: UnsafeRawPointer, count: Int, total: Int) -> UInt64 {
    let padding = lanes(ASCII.space) &<< UInt64(truncatingIfNeeded: count &* 8)
    if total >= 8 {
        // Reads back into what was written already and shifts it out.
        let word = unsafe loadWord(source + count - 8)
        return word &>> UInt64(truncatingIfNeeded: 64 &- count &* 8) | padding
    }
    // The first and the last bytes, in loads that may overlap.
    if count >= 4 {
        let first = UInt32(littleEndian: unsafe source.loadUnaligned(as: UInt32.self))
        let last = UInt32(littleEndian: unsafe (source + count - 4).loadUnaligned(as: UInt32.self))
        let lastShift = UInt64(truncatingIfNeeded: count &* 8 &- 32)
        return UInt64(first) | UInt64(last) &<< lastShift | padding
    }
    let first = UInt64(unsafe source.load(as: UInt8.self))
    let middle = UInt64(unsafe source.load(fromByteOffset: count / 2, as: UInt8.self))
    let last = UInt64(unsafe source.load(fromByteOffset: count - 1, as: UInt8.self))
    let middleShift = UInt64(truncatingIfNeeded: (count / 2) &* 8)
    let lastShift = UInt64(truncatingIfNeeded: count &* 8 &- 8)
    return first | middle &<< middleShift | last &<< lastShift | padding
}

extension JSONWriter {
    /// Room that `appendQuoted` keeps beyond the input: both quotes, and a word stored whole.
    private static let quotingRoom = 2 + 8
    /// `\u00xx`
    private static let escapeBytesMax = 6

    /// Appends a JSON string, escaped byte for byte as PostgreSQL's `escape_json` does it.
    ///
    /// `\b \f \n \r \t \" \\` are escaped by letter and other bytes below 0x20 as `\u00xx`; all
    /// others are copied, 0x7F and what may not be valid UTF-8 included.
    package mutating func appendQuoted(_ bytes: UnsafeRawBufferPointer) {
        let total = bytes.count
        reserve(total + Self.quotingRoom)
        append(ASCII.quote)
        guard var source = bytes.baseAddress else { return append(ASCII.quote) }
        var remaining = total
        var target = unsafe base + used
        while remaining > 0 {
            let step = min(remaining, 8)
            let word =
                remaining >= 8
                ? unsafe loadWord(source)
                : unsafe loadTail(source, count: remaining, total: total)
            unsafe target.storeBytes(of: word.littleEndian, as: UInt64.self)
            // The padding of a tail is spaces, so a mark is always at a byte of the input.
            let marks = escapeMarks(word)
            // A branch, so that the next load need not wait for the marks of this one.
            if marks == 0 {
                unsafe source += step
                unsafe target += step
                remaining &-= step
                continue
            }
            let clean = firstLane(marks)
            used = unsafe target + clean - base
            remaining &-= clean + 1
            unsafe source += clean
            appendEscape(of: unsafe source.load(as: UInt8.self), before: remaining)
            unsafe source += 1
            unsafe target = base + used
        }
        used = unsafe target - base
        append(ASCII.quote)
    }

    /// Appends a JSON string; see the method for bytes.
    package mutating func appendQuoted(string: String) {
        var string = string
        string.withUTF8 { unsafe appendQuoted(UnsafeRawBufferPointer($0)) }
    }

    private mutating func appendEscape(of byte: UInt8, before remaining: Int) {
        reserve(Self.escapeBytesMax + remaining + Self.quotingRoom)
        append(ASCII.backslash)
        switch byte {
        case ASCII.quote, ASCII.backslash: append(byte)
        case 0x08: append(UInt8(ascii: "b"))
        case 0x0C: append(UInt8(ascii: "f"))
        case ASCII.lf: append(UInt8(ascii: "n"))
        case ASCII.cr: append(UInt8(ascii: "r"))
        case ASCII.tab: append(UInt8(ascii: "t"))
        default:
            append("u00")
            appendHex(UInt64(byte), digits: 2, uppercase: false)
        }
    }

    /// Appends the JSON string of PostgreSQL's bytea hex form: `"\\x6869"` for two bytes `hi`.
    package mutating func appendQuotedHex(_ bytes: UnsafeRawBufferPointer) {
        reserve(bytes.count * 2 + 5)
        append("\"\\\\x")
        unsafe appendHex(bytes)
        append(ASCII.quote)
    }

    /// Appends a JSON text as it is, but with a space for each LF and CR.
    ///
    /// In JSON these bytes are only ever white space between tokens, so the value stays the same,
    /// and one record stays one line.
    package mutating func appendSpliced(_ bytes: UnsafeRawBufferPointer) {
        let start = used
        unsafe append(raw: bytes)
        var offset = start
        while used - offset >= 8 {
            let marks = lineBreakMarks(unsafe loadWord(base + offset))
            if marks == 0 {
                offset += 8
            } else {
                offset += firstLane(marks)
                unsafe base.storeBytes(of: ASCII.space, toByteOffset: offset, as: UInt8.self)
                offset += 1
            }
        }
        while offset < used {
            let byte = unsafe base.load(fromByteOffset: offset, as: UInt8.self)
            if byte == ASCII.lf || byte == ASCII.cr {
                unsafe base.storeBytes(of: ASCII.space, toByteOffset: offset, as: UInt8.self)
            }
            offset += 1
        }
    }
}

/// A text as a JSON string.
package func quotedJSON(_ text: String) -> String {
    var writer = JSONWriter(capacity: text.utf8.count + 2)
    writer.appendQuoted(string: text)
    return unsafe writer.withBytes { unsafe String(decoding: $0, as: UTF8.self) }
}
