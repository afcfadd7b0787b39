// Text that nobody has checked, into JSON strings in one pass: words of eight bytes are copied as
// in `JSONWriter+Strings.swift`, but a byte that is not ASCII ends a word too, and is checked to
// begin a well-formed sequence (see `UTF8Validation.swift`).

/// Marks the top bit of each lane that cannot be copied unseen: below 0x20, `"`, `\` or from 0x80
/// on. The lowest mark is exact, as in `JSONWriter+Strings.swift`.
@inline(__always)
private func specialMarks(_ word: UInt64) -> UInt64 {
    let quoteOrControl = (word ^ lanes(0x02)) &- lanes(0x21)
    let backslash = (word ^ lanes(ASCII.backslash)) &- lanes(1)
    return (quoteOrControl | backslash | word) & lanes(0x80)
}

/// The eight bytes from `offset` on, with spaces in place of those from `end` on.
@inline(__always)
private func loadWord(_ bytes: UnsafeRawBufferPointer, _ offset: Int, end: Int) -> UInt64 {
    let left = end &- offset
    if left >= 8 {
        return UInt64(
            littleEndian: unsafe bytes.loadUnaligned(fromByteOffset: offset, as: UInt64.self))
    }
    let padding = lanes(ASCII.space) &<< UInt64(truncatingIfNeeded: left &* 8)
    let kept = (1 as UInt64) &<< UInt64(truncatingIfNeeded: left &* 8) &- 1
    if offset &+ 8 <= bytes.count {
        let word = unsafe bytes.loadUnaligned(fromByteOffset: offset, as: UInt64.self)
        return UInt64(littleEndian: word) & kept | padding
    }
    var word: UInt64 = 0
    var index = end
    while index > offset {
        index &-= 1
        word = word &<< 8 | UInt64(unsafe bytes[index])
    }
    return word | padding
}

/// The four bytes from `offset` on, zeros in place of those behind the buffer.
@inline(__always)
private func loadFour(_ bytes: UnsafeRawBufferPointer, _ offset: Int) -> UInt32 {
    if offset &+ 4 <= bytes.count {
        return UInt32(
            littleEndian: unsafe bytes.loadUnaligned(fromByteOffset: offset, as: UInt32.self))
    }
    var four: UInt32 = 0
    var index = bytes.count
    while index > offset {
        index &-= 1
        four = four &<< 8 | UInt32(unsafe bytes[index])
    }
    return four
}

/// The length of the well-formed sequence of more than one byte that a word begins with; 0 if there
/// is none. The first byte is the lowest.
@inline(__always)
private func sequenceLength(_ four: UInt32) -> Int {
    if four & 0xC0E0 == 0x80C0 {
        // C0 and C1 would be overlong.
        return four & 0x1E != 0 ? 2 : 0
    }
    if four & 0xC0C0F0 == 0x8080E0 {
        // E0 with 80...9F would be overlong, ED with A0...BF a surrogate.
        let edge = four & 0x200F
        return edge != 0 && edge != 0x200D ? 3 : 0
    }
    if four & 0xC0C0_C0F8 == 0x8080_80F0 {
        // F0 with 80...8F would be overlong, F4 with 90...BF and all above beyond U+10FFFF.
        let isOverlong = four & 0x3007 == 0
        let isBeyond = four & 7 > 4 || (four & 7 == 4 && four & 0x3000 != 0)
        return isOverlong || isBeyond ? 0 : 4
    }
    return 0
}

/// The length of what one U+FFFD stands for where no sequence is well-formed: the longest beginning
/// of one, or a byte (The Unicode Standard, section 3.9, as `String(decoding:as:)` does it).
private func illFormedLength(_ four: UInt32) -> Int {
    let first = UInt8(truncatingIfNeeded: four)
    let second = UInt8(truncatingIfNeeded: four >> 8)
    guard first >= 0xE0, first <= 0xF4 else { return 1 }
    let low: UInt8 = first == 0xE0 ? 0xA0 : first == 0xF0 ? 0x90 : 0x80
    let high: UInt8 = first == 0xED ? 0x9F : first == 0xF4 ? 0x8F : 0xBF
    guard second >= low, second <= high else { return 1 }
    return first >= 0xF0 && four & 0xC0_0000 == 0x80_0000 ? 3 : 2
}

extension JSONWriter {
    /// Room kept beyond the input: a word stored whole, and a quote.
    private static let room = 8 + 2

    /// Appends a JSON string of the text in a part of `bytes`, and U+FFFD for each part of it that
    /// is no UTF-8. Escapes are those of `appendQuoted(_:)`.
    ///
    /// - Parameter bytes: what may be read; the more stands behind `range`, the faster.
    /// - Returns: whether something was replaced.
    package mutating func appendQuoted(
        _ range: Range<Int>, of bytes: UnsafeRawBufferPointer
    ) -> Bool {
        reserve(range.count + 1 + Self.room)
        append(ASCII.quote)
        let isReplaced = unsafe appendEscaped(range, of: bytes)
        append(ASCII.quote)
        return isReplaced
    }

    /// Appends what stands between the quotes of such a string, behind its opening quote.
    @inline(__always)
    package mutating func appendEscaped(
        _ range: Range<Int>, of bytes: UnsafeRawBufferPointer
    ) -> Bool {
        precondition(range.upperBound <= bytes.count, "the text lies in its bytes")
        reserve(range.count + Self.room)
        let end = range.upperBound
        var offset = range.lowerBound
        var target = unsafe base + used
        var isReplaced = false
        while offset < end {
            let word = unsafe loadWord(bytes, offset, end: end)
            unsafe target.storeBytes(of: word.littleEndian, as: UInt64.self)
            let marks = specialMarks(word)
            let clean = marks == 0 ? min(8, end &- offset) : firstLane(marks)
            offset &+= clean
            unsafe target += clean
            if marks == 0 { continue }
            used = unsafe target - base
            unsafe appendSpecial(at: &offset, before: end, of: bytes, &isReplaced)
            unsafe target = base + used
        }
        used = unsafe target - base
        return isReplaced
    }

    /// Appends the bytes at `offset`, the first of which is not plain ASCII, and steps past them.
    @inline(never)
    private mutating func appendSpecial(
        at offset: inout Int, before end: Int, of bytes: UnsafeRawBufferPointer,
        _ isReplaced: inout Bool
    ) {
        if unsafe bytes[offset] < 0x80 {
            let byte = unsafe UnsafeRawBufferPointer(rebasing: bytes[offset..<(offset + 1)])
            unsafe appendEscape(of: byte)
            offset &+= 1
            return reserve(end &- offset &+ Self.room)
        }
        var index = offset
        repeat {
            let four = unsafe loadFour(bytes, index)
            var length = sequenceLength(four)
            if length > 0, index &+ length <= end {
                unsafe base.storeBytes(of: four.littleEndian, toByteOffset: used, as: UInt32.self)
                used &+= length
            } else {
                // What stands behind the end is no part of the text.
                let left = UInt32(truncatingIfNeeded: min(end &- index, 4))
                length = illFormedLength(left == 4 ? four : four & (1 << (left * 8) - 1))
                append("\u{FFFD}")
                isReplaced = true
                reserve(end &- index &+ Self.room)
            }
            index &+= length
            // One blank between two words of another script.
            if index &+ 1 < end, unsafe bytes[index] == ASCII.space,
                unsafe bytes[index &+ 1] >= 0x80
            {
                append(ASCII.space)
                index &+= 1
            }
        } while unsafe index < end && bytes[index] >= 0x80
        offset = index
    }

    /// Appends the escape of one byte. `appendQuoted` alone knows the escapes: its first quote
    /// goes over the byte before, which is put back.
    private mutating func appendEscape(of byte: UnsafeRawBufferPointer) {
        precondition(used > 0, "a quote stands before text")
        used &-= 1
        let place = used
        let before = unsafe base.load(fromByteOffset: place, as: UInt8.self)
        unsafe appendQuoted(byte)
        unsafe base.storeBytes(of: before, toByteOffset: place, as: UInt8.self)
        used &-= 1
    }

    /// Appends `"name":` of the text that begins at `start` and ends with a NUL.
    ///
    /// - Returns: the offset of the NUL; nil if there is none, and then nothing is appended that
    ///   means anything.
    @inline(__always)
    package mutating func appendName(
        at start: Int, of bytes: UnsafeRawBufferPointer, _ isReplaced: inout Bool
    ) -> Int? {
        let mark = used
        append(ASCII.quote)
        var offset = start
        while offset &+ 8 <= bytes.count {
            reserve(Self.room)
            let loaded = unsafe bytes.loadUnaligned(fromByteOffset: offset, as: UInt64.self)
            unsafe base.storeBytes(of: loaded, toByteOffset: used, as: UInt64.self)
            let word = UInt64(littleEndian: loaded)
            let marks = specialMarks(word)
            if marks == 0 {
                used &+= 8
                offset &+= 8
                continue
            }
            let clean = firstLane(marks)
            if UInt8(truncatingIfNeeded: word &>> UInt64(clean &* 8)) != 0 { break }
            used &+= clean
            let ending = UInt16(ASCII.colon) << 8 | UInt16(ASCII.quote)
            unsafe base.storeBytes(of: ending.littleEndian, toByteOffset: used, as: UInt16.self)
            used &+= 2
            return offset &+ clean
        }
        used = mark
        return unsafe appendUnusualName(at: start, of: bytes, &isReplaced)
    }

    /// As above, for names that are not plain ASCII, and those at the end of the buffer.
    @inline(never)
    private mutating func appendUnusualName(
        at start: Int, of bytes: UnsafeRawBufferPointer, _ isReplaced: inout Bool
    ) -> Int? {
        var end = start
        while unsafe end < bytes.count && bytes[end] != 0 { end &+= 1 }
        guard end < bytes.count else { return nil }
        if unsafe appendQuoted(start..<end, of: bytes) { isReplaced = true }
        append(ASCII.colon)
        return end
    }

    /// Appends text as it is, and U+FFFD for each part of it that is no UTF-8.
    ///
    /// - Returns: whether something was replaced.
    package mutating func appendChecked(_ bytes: UnsafeRawBufferPointer) -> Bool {
        var rest = unsafe bytes
        var isReplaced = false
        while let bad = unsafe firstInvalidUTF8Offset(in: rest) {
            unsafe append(raw: UnsafeRawBufferPointer(rebasing: rest[..<bad]))
            append("\u{FFFD}")
            isReplaced = true
            let length = unsafe illFormedLength(loadFour(rest, bad))
            unsafe rest = UnsafeRawBufferPointer(rebasing: rest[(bad + length)...])
        }
        unsafe append(raw: rest)
        return isReplaced
    }

    /// Appends two hexadecimal digits for each byte, in lower case.
    package mutating func appendHex(_ bytes: UnsafeRawBufferPointer) {
        reserve(bytes.count * 2)
        var index = 0
        while bytes.count - index >= 4 {
            let four = unsafe bytes.loadUnaligned(fromByteOffset: index, as: UInt32.self)
            var spread = UInt64(UInt32(littleEndian: four))
            // Four bytes to every second lane, then both halves of each to a lane of its own.
            spread = (spread | spread << 16) & 0x0000_FFFF_0000_FFFF
            spread = (spread | spread << 8) & 0x00FF_00FF_00FF_00FF
            let nibbles = (spread >> 4 | spread << 8) & lanes(0x0F)
            let digits = hexDigits(nibbles).littleEndian
            unsafe base.storeBytes(of: digits, toByteOffset: used, as: UInt64.self)
            used &+= 8
            index += 4
        }
        while index < bytes.count {
            appendHex(UInt64(unsafe bytes[index]), digits: 2, uppercase: false)
            index += 1
        }
    }
}
