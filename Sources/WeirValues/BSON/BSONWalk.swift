import WeirJSON

/// One way through the bytes of a value, writing as it goes. Every method that takes an `end` reads
/// and answers for the bytes before it alone; it returns the offset behind the value, or nil when
/// the bytes are none, and then what was appended means nothing.
@safe
struct BSONWalk {
    /// All that may be read; text is copied fastest where more stands behind it.
    let bytes: UnsafeRawBufferPointer
    let mode: DocumentMode
    /// `none` or `replaced`.
    var note = ValueRenderer.Note.none

    init(bytes: UnsafeRawBufferPointer, mode: DocumentMode) {
        unsafe self.bytes = bytes
        self.mode = mode
    }

    /// - Parameter depth: the number of documents around the value.
    mutating func append(
        _ type: BSONType, at offset: Int, before end: Int, depth: Int,
        into writer: inout JSONWriter
    ) -> Int? {
        switch type {
        case .string:
            guard let text = text(at: offset, before: end) else { return nil }
            appendQuoted(text, into: &writer)
            return text.upperBound + 1
        case .int32:
            guard let number = load(Int32.self, at: offset, before: end) else { return nil }
            if mode == .canonical { writer.append("{\"$numberInt\":\"") }
            writer.appendDecimal(Int64(number))
            if mode == .canonical { writer.append("\"}") }
            return offset + 4
        case .int64:
            guard let number = load(Int64.self, at: offset, before: end) else { return nil }
            appendInt64(number, into: &writer)
            return offset + 8
        case .double:
            guard let bits = load(UInt64.self, at: offset, before: end) else { return nil }
            appendDouble(Double(bitPattern: bits), into: &writer)
            return offset + 8
        case .bool:
            guard offset < end else { return nil }
            writer.append(unsafe bytes[offset] == 0 ? "false" : "true")
            return offset + 1
        case .null:
            writer.append("null")
            return offset
        case .objectId:
            guard end - offset >= 12 else { return nil }
            appendObjectId(at: offset, into: &writer)
            return offset + 12
        case .dateTime:
            guard let millis = load(Int64.self, at: offset, before: end) else { return nil }
            appendDate(millis, into: &writer)
            return offset + 8
        case .document:
            return appendMembers(at: offset, before: end, depth: depth, into: &writer)
        case .array:
            return appendElements(at: offset, before: end, depth: depth, into: &writer)
        default:
            return appendRare(type, at: offset, before: end, depth: depth, into: &writer)
        }
    }

    // MARK: Documents

    mutating func appendMembers(
        at start: Int, before end: Int, depth: Int, into writer: inout JSONWriter
    ) -> Int? {
        guard depth < BSONRenderer.depthMax, let last = documentEnd(at: start, before: end) else {
            return nil
        }
        var offset = start + 4
        writer.append(UInt8(ascii: "{"))
        var isReplaced = false
        while offset < last {
            if offset > start + 4 { writer.append(UInt8(ascii: ",")) }
            guard let type = BSONType(rawValue: unsafe bytes[offset]),
                let nul = unsafe writer.appendName(at: offset + 1, of: bytes, &isReplaced),
                nul < last,
                let next = append(type, at: nul + 1, before: last, depth: depth + 1, into: &writer)
            else { return nil }
            offset = next
        }
        writer.append(UInt8(ascii: "}"))
        if isReplaced { note = .replaced }
        return offset == last ? last + 1 : nil
    }

    /// The names, which should count from 0, are not looked at.
    private mutating func appendElements(
        at start: Int, before end: Int, depth: Int, into writer: inout JSONWriter
    ) -> Int? {
        guard depth < BSONRenderer.depthMax, let last = documentEnd(at: start, before: end) else {
            return nil
        }
        var offset = start + 4
        writer.append(UInt8(ascii: "["))
        while offset < last {
            if offset > start + 4 { writer.append(UInt8(ascii: ",")) }
            guard let type = BSONType(rawValue: unsafe bytes[offset]),
                let nul = nul(from: offset + 1, before: last),
                let next = append(type, at: nul + 1, before: last, depth: depth + 1, into: &writer)
            else { return nil }
            offset = next
        }
        writer.append(UInt8(ascii: "]"))
        return offset == last ? last + 1 : nil
    }

    // MARK: Parts of values

    @inline(__always)
    func load<Number: FixedWidthInteger & BitwiseCopyable>(
        _ type: Number.Type, at offset: Int, before end: Int
    ) -> Number? {
        guard end - offset >= MemoryLayout<Number>.size else { return nil }
        return Number(littleEndian: unsafe bytes.loadUnaligned(fromByteOffset: offset, as: type))
    }

    /// The offset of the NUL that ends the document at `start`.
    @inline(__always)
    func documentEnd(at start: Int, before end: Int) -> Int? {
        guard let length = load(Int32.self, at: start, before: end), length >= 5,
            Int(length) <= end - start
        else { return nil }
        let last = start + Int(length) - 1
        return unsafe bytes[last] == 0 ? last : nil
    }

    /// The text of a string: a length that counts the NUL, the text, the NUL.
    @inline(__always)
    func text(at start: Int, before end: Int) -> Range<Int>? {
        guard let length = load(Int32.self, at: start, before: end), length >= 1,
            Int(length) <= end - start - 4
        else { return nil }
        let last = start + 4 + Int(length) - 1
        return unsafe bytes[last] == 0 ? (start + 4)..<last : nil
    }

    func nul(from start: Int, before end: Int) -> Int? {
        var index = start
        while index < end {
            if unsafe bytes[index] == 0 { return index }
            index += 1
        }
        return nil
    }

    func part(_ range: Range<Int>) -> UnsafeRawBufferPointer {
        unsafe UnsafeRawBufferPointer(rebasing: bytes[range])
    }

    @inline(__always)
    mutating func appendQuoted(_ text: Range<Int>, into writer: inout JSONWriter) {
        if unsafe writer.appendQuoted(text, of: bytes) { note = .replaced }
    }

    // MARK: Common types

    private func appendInt64(_ number: Int64, into writer: inout JSONWriter) {
        switch mode {
        case .relaxed: writer.appendDecimal(number)
        case .canonical:
            writer.append(#"{"$numberLong":""#)
            writer.appendDecimal(number)
            writer.append("\"}")
        case .plain:
            // Readers in JavaScript lose the digits of large ones.
            writer.append(UInt8(ascii: "\""))
            writer.appendDecimal(number)
            writer.append(UInt8(ascii: "\""))
        }
    }

    private func appendDouble(_ number: Double, into writer: inout JSONWriter) {
        if mode != .canonical, number.isFinite { return writer.appendShortest(number) }
        writer.append(mode == .plain ? "\"" : #"{"$numberDouble":""#)
        writer.append(double: number)
        writer.append(mode == .plain ? "\"" : "\"}")
    }

    func appendObjectId(at offset: Int, into writer: inout JSONWriter) {
        writer.append(mode == .plain ? "\"" : #"{"$oid":""#)
        unsafe writer.appendHex(part(offset..<(offset + 12)))
        writer.append(mode == .plain ? "\"" : "\"}")
    }

    private func appendDate(_ millis: Int64, into writer: inout JSONWriter) {
        switch mode {
        case .relaxed where millis >= 0 && millis < BSONDate.year10000:
            writer.append(#"{"$date":""#)
            writer.append(date: millis, keepsZeros: false)
            writer.append("\"}")
        case .relaxed, .canonical:
            writer.append(#"{"$date":{"$numberLong":""#)
            writer.appendDecimal(millis)
            writer.append("\"}}")
        case .plain:
            writer.append(UInt8(ascii: "\""))
            writer.append(plainDate: millis)
            writer.append(UInt8(ascii: "\""))
        }
    }
}

/// Bounds of dates, in milliseconds since 1970.
enum BSONDate {
    static let year1: Int64 = -62_135_596_800_000
    static let year10000: Int64 = 253_402_300_800_000
    /// Those that are a time in other programs too: not before the year 1, which calendars
    /// disagree on, nor beyond what microseconds in 64 bits can say.
    static let calendar = year1...(Int64.max / 1000)
}

extension JSONWriter {
    /// Appends milliseconds since 1970 as `2026-11-21T02:03:04.123Z`.
    ///
    /// - Parameter keepsZeros: whether milliseconds of 0 are written.
    mutating func append(date millis: Int64, keepsZeros: Bool) {
        appendTimestamp(microsSince1970: millis * 1000)
        // `.123000Z` or `.000000Z`
        truncate(to: count - (millis % 1000 == 0 && !keepsZeros ? 8 : 4))
        append(UInt8(ascii: "Z"))
    }

    /// As above; only the milliseconds where the calendar ends.
    mutating func append(plainDate millis: Int64) {
        if BSONDate.calendar.contains(millis) {
            append(date: millis, keepsZeros: true)
        } else {
            appendDecimal(millis)
        }
    }

    /// Appends any number as text alone. A whole one has no `.0`: to MongoDB 1 and 1.0 are one
    /// value, and one `_id`, and an integer column takes it.
    mutating func append(plainDouble number: Double) {
        if let whole = Int64(exactly: number), whole.magnitude < 1 << 53 {
            appendDecimal(whole)
        } else {
            append(double: number)
        }
    }

    /// Appends any number; `NaN`, `Infinity` and `-Infinity` as Extended JSON calls them.
    mutating func append(double number: Double) {
        if number.isFinite { return appendShortest(number) }
        append(number.isNaN ? "NaN" : number < 0 ? "-Infinity" : "Infinity")
    }
}
