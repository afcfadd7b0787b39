/// Finds values in JSON text without building anything: the text is walked once, by bytes.
///
/// The text is taken to be what PostgreSQL accepted as json or jsonb. Other text gives `absent` or
/// some part of it, and never reads outside.
@safe
struct JSONPath {
    /// What was found: offsets into the text.
    enum Found: Equatable {
        case absent
        case null
        /// With its quotes.
        case string(Range<Int>)
        /// A number, `true`, `false`, an object or an array.
        case other(Range<Int>)
    }

    private let text: UnsafeRawBufferPointer

    private init(_ text: UnsafeRawBufferPointer) { unsafe self.text = text }

    /// - Parameter path: names of members, or indexes of elements in decimal. Of members with one
    ///   name the last counts, as for PostgreSQL's `->`.
    /// Complexity: O(length of the text).
    static func find(_ path: [[UInt8]], in text: UnsafeRawBufferPointer) -> Found {
        let walker = unsafe JSONPath(text)
        var start = walker.skipBlanks(0)
        for part in path {
            guard let next = walker.step(into: part, at: start) else { return .absent }
            start = next
        }
        return walker.classify(start)
    }

    private func classify(_ start: Int) -> Found {
        guard let first = byte(start), let end = skipValue(start) else { return .absent }
        switch first {
        case UInt8(ascii: "\""): return .string(start..<end)
        case UInt8(ascii: "n"): return .null
        default: return end > start ? .other(start..<end) : .absent
        }
    }

    /// The start of the value named by one part, inside the value at `start`.
    private func step(into part: [UInt8], at start: Int) -> Int? {
        switch byte(start) {
        case UInt8(ascii: "{"): member(part, at: start)
        case UInt8(ascii: "["): element(part, at: start)
        default: nil
        }
    }

    private func member(_ name: [UInt8], at start: Int) -> Int? {
        var found: Int?
        var index = skipBlanks(start + 1)
        while byte(index) == UInt8(ascii: "\"") {
            guard let nameEnd = skipString(index) else { return found }
            let isWanted = isEqual(index..<nameEnd, name)
            index = skipBlanks(nameEnd)
            guard byte(index) == UInt8(ascii: ":") else { return found }
            index = skipBlanks(index + 1)
            if isWanted { found = index }
            guard let end = skipValue(index), end > index else { return found }
            index = skipBlanks(end)
            guard byte(index) == UInt8(ascii: ",") else { return found }
            index = skipBlanks(index + 1)
        }
        return found
    }

    private func element(_ position: [UInt8], at start: Int) -> Int? {
        guard var left = Self.index(position) else { return nil }
        var index = skipBlanks(start + 1)
        while let first = byte(index), first != UInt8(ascii: "]") {
            if left == 0 { return index }
            left -= 1
            guard let end = skipValue(index), end > index else { return nil }
            index = skipBlanks(end)
            guard byte(index) == UInt8(ascii: ",") else { return nil }
            index = skipBlanks(index + 1)
        }
        return nil
    }

    /// Digits without a leading zero, at most nine.
    static func index(_ digits: [UInt8]) -> Int? {
        guard (1...9).contains(digits.count), digits.count == 1 || digits[0] != UInt8(ascii: "0")
        else { return nil }
        var number = 0
        for digit in digits {
            guard (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(digit) else { return nil }
            number = number * 10 + Int(digit - UInt8(ascii: "0"))
        }
        return number
    }

    // MARK: Walking

    private func byte(_ index: Int) -> UInt8? {
        unsafe index < text.count ? text[index] : nil
    }

    private func skipBlanks(_ start: Int) -> Int {
        var index = start
        while let next = byte(index), next == 0x20 || (0x09...0x0D).contains(next) { index += 1 }
        return index
    }

    /// Behind the string's closing quote; nil when it has none.
    private func skipString(_ start: Int) -> Int? {
        var index = start + 1
        while let next = byte(index) {
            if next == UInt8(ascii: "\"") { return index + 1 }
            index += next == UInt8(ascii: "\\") ? 2 : 1
        }
        return nil
    }

    /// Behind the value. Counts brackets instead of recursing: depth costs nothing.
    private func skipValue(_ start: Int) -> Int? {
        var index = start
        var depth = 0
        while let next = byte(index) {
            switch next {
            case UInt8(ascii: "\""):
                guard let end = skipString(index) else { return nil }
                index = end
                if depth == 0 { return index }
            case UInt8(ascii: "{"), UInt8(ascii: "["):
                depth += 1
                index += 1
            case UInt8(ascii: "}"), UInt8(ascii: "]"):
                if depth == 0 { return index }
                depth -= 1
                index += 1
                if depth == 0 { return index }
            case UInt8(ascii: ","), 0x20, 0x09...0x0D:
                if depth == 0 { return index }
                index += 1
            default: index += 1
            }
        }
        return depth == 0 ? index : nil
    }

    /// Whether the string at `range`, quotes included, means `name`.
    private func isEqual(_ range: Range<Int>, _ name: [UInt8]) -> Bool {
        let inner = unsafe UnsafeRawBufferPointer(
            rebasing: text[(range.lowerBound + 1)..<(range.upperBound - 1)])
        if unsafe !inner.contains(UInt8(ascii: "\\")) { return unsafe inner.elementsEqual(name) }
        var index = 0
        var isSame = true
        unsafe decodeJSONString(inner) { part in
            let end = index + part.count
            isSame = unsafe isSame && end <= name.count && part.elementsEqual(name[index..<end])
            index = end
        }
        return isSame && index == name.count
    }
}

/// Hands out, part by part, what the inside of a JSON string means in UTF-8. The escape of half a
/// surrogate pair means no character and is handed out as it is written.
func decodeJSONString(
    _ text: UnsafeRawBufferPointer, _ body: (UnsafeRawBufferPointer) -> Void
) {
    var index = 0
    var run = 0
    while index < text.count {
        guard unsafe text[index] == UInt8(ascii: "\\"), index + 1 < text.count else {
            index += 1
            continue
        }
        if run < index { unsafe body(UnsafeRawBufferPointer(rebasing: text[run..<index])) }
        let (scalar, count) = unsafe decodeEscape(text, at: index)
        if let scalar {
            unsafe withUTF8(of: scalar, body)
        } else {
            unsafe body(UnsafeRawBufferPointer(rebasing: text[index..<(index + count)]))
        }
        index += count
        run = index
    }
    if run < text.count {
        unsafe body(UnsafeRawBufferPointer(rebasing: text[run...]))
    }
}

/// What an escape means, nil when it means nothing, and how long it is written.
private func decodeEscape(
    _ text: UnsafeRawBufferPointer, at index: Int
) -> (scalar: Unicode.Scalar?, count: Int) {
    switch unsafe text[index + 1] {
    case UInt8(ascii: "b"): return ("\u{8}", 2)
    case UInt8(ascii: "f"): return ("\u{C}", 2)
    case UInt8(ascii: "n"): return ("\n", 2)
    case UInt8(ascii: "r"): return ("\r", 2)
    case UInt8(ascii: "t"): return ("\t", 2)
    case UInt8(ascii: "u"): break
    case let other where other < 0x80: return (Unicode.Scalar(other), 2)
    default: return (nil, 2)
    }
    guard let first = unsafe hexUnit(text, at: index + 2) else { return (nil, 2) }
    var scalar = first
    var count = 6
    if (0xD800..<0xDC00).contains(first), index + 7 < text.count,
        unsafe text[index + 6] == UInt8(ascii: "\\"), unsafe text[index + 7] == UInt8(ascii: "u"),
        let second = unsafe hexUnit(text, at: index + 8), (0xDC00..<0xE000).contains(second)
    {
        scalar = 0x10000 + (first - 0xD800) << 10 + (second - 0xDC00)
        count = 12
    }
    // Half a pair is no scalar.
    return (Unicode.Scalar(scalar), count)
}

/// Lends the one to four bytes of a scalar.
private func withUTF8(
    of scalar: Unicode.Scalar, _ body: (UnsafeRawBufferPointer) -> Void
) {
    var word: UInt32 = 0
    var count = 0
    for byte in UTF8.encode(scalar) ?? UTF8.encodedReplacementCharacter {
        word |= UInt32(byte) << UInt32(8 * count)
        count += 1
    }
    unsafe withUnsafeBytes(of: word.littleEndian) { bytes in
        unsafe body(UnsafeRawBufferPointer(rebasing: bytes[..<count]))
    }
}

private func hexUnit(_ text: UnsafeRawBufferPointer, at index: Int) -> UInt32? {
    guard index + 4 <= text.count else { return nil }
    var unit: UInt32 = 0
    for offset in 0..<4 {
        let digit: UInt8
        switch unsafe text[index + offset] {
        case let byte where (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte):
            digit = byte - UInt8(ascii: "0")
        case let byte where (UInt8(ascii: "a")...UInt8(ascii: "f")).contains(byte):
            digit = byte - UInt8(ascii: "a") + 10
        case let byte where (UInt8(ascii: "A")...UInt8(ascii: "F")).contains(byte):
            digit = byte - UInt8(ascii: "A") + 10
        default: return nil
        }
        unit = unit << 4 | UInt32(digit)
    }
    return unit
}
