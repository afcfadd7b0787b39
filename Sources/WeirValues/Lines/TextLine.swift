import WeirCore
import WeirJSON

extension LineEncoder {
    /// Appends one short line for people:
    ///
    ///     2026-11-21T02:03:04.123Z update cms.articles {"_id":1} {"_id":1,"title":"a"} late
    ///
    /// Time, operation, table, key, the row after, and what must be known about it. A program reads
    /// the format `weir`. What acts on a terminal is still in it: it is escaped once per batch.
    mutating func appendTextLine(
        _ event: Event,
        _ table: borrowing CompiledTable,
        _ batch: BatchView,
        into writer: inout JSONWriter
    ) {
        rows.begin(table.projection)
        if event.commitMicros != Event.noTime {
            writer.append(date: event.commitMicros / 1000, keepsZeros: true)
            writer.append(UInt8(ascii: " "))
        }
        writer.append(event.operation.name)
        writer.append(contentsOf: table.constants.source)
        if event.operation == .message {
            writer.append(UInt8(ascii: " "))
            unsafe writer.appendQuoted(batch.bytes(of: batch.value(0, of: event.after)))
        }
        if !event.key.isEmpty {
            writer.append(UInt8(ascii: " "))
            rows.appendObject(
                table.projection.keyTuple, of: event.key, in: batch, table.projection,
                into: &writer)
        }
        if !event.after.isEmpty, event.operation != .message {
            writer.append(UInt8(ascii: " "))
            rows.appendObject(
                table.projection.fields, of: event.after, in: batch, table.projection,
                into: &writer)
        }
        if event.has(Event.late) { writer.append(" late") }
        if event.has(Event.rowGone) { writer.append(" gone") }
        if event.has(Event.dropped) { writer.append(" dropped") }
        writer.append(UInt8(ascii: "\n"))
    }
}

extension JSONWriter {
    /// Replaces what acts on a terminal, in the lines of JSON appended since `start`, by JSON's own
    /// escapes: control characters of both sets and what changes the direction of text. A reader of
    /// JSON gets the same values. Complexity: O(bytes), and a copy of what follows the first that
    /// acts.
    package mutating func escapeForTerminal(from start: Int) {
        let first = unsafe withBytes { bytes in
            unsafe ActingBytes.next(in: bytes, from: start)
        }
        guard let first else { return }
        let rest = unsafe withBytes { bytes in unsafe Array(bytes[first.lowerBound...]) }
        truncate(to: first.lowerBound)
        unsafe rest.withUnsafeBytes { bytes in
            var done = 0
            while let found = unsafe ActingBytes.next(in: bytes, from: done) {
                unsafe append(raw: UnsafeRawBufferPointer(rebasing: bytes[done..<found.lowerBound]))
                unsafe appendEscape(of: UnsafeRawBufferPointer(rebasing: bytes[found]))
                done = found.upperBound
            }
            unsafe append(raw: UnsafeRawBufferPointer(rebasing: bytes[done...]))
        }
    }

    /// U+FFFD, as it is, for what is no UTF-8.
    private mutating func appendEscape(of sequence: UnsafeRawBufferPointer) {
        guard let scalar = unsafe ActingBytes.decode(sequence, 0)?.scalar else {
            append("\u{FFFD}")
            return
        }
        for unit in UTF16.encode(scalar) ?? .init() {
            append(#"\u"#)
            appendHex(UInt64(unit), digits: 4, uppercase: false)
        }
    }
}

/// Finds what acts on a terminal in UTF-8, byte by byte.
private enum ActingBytes {
    /// The next sequence that acts, or a byte that belongs to none; line feeds end lines and stay.
    static func next(in bytes: UnsafeRawBufferPointer, from start: Int) -> Range<Int>? {
        var index = start
        while index < bytes.count {
            let byte = unsafe bytes[index]
            if byte >= 0x20 && byte < 0x7F || byte == UInt8(ascii: "\n") {
                index += 1
                continue
            }
            guard let (scalar, count) = unsafe decode(bytes, index) else {
                return index..<index + 1
            }
            if ForeignText.acts(scalar) { return index..<index + count }
            index += count
        }
        return nil
    }

    /// The scalar that is encoded at a place; nil where none is.
    static func decode(
        _ bytes: UnsafeRawBufferPointer, _ index: Int
    ) -> (scalar: Unicode.Scalar, count: Int)? {
        let lead = unsafe bytes[index]
        let (count, least): (Int, UInt32)
        switch lead {
        case 0..<0x80: return (Unicode.Scalar(lead), 1)
        case 0xC0..<0xE0: (count, least) = (2, 0x80)
        case 0xE0..<0xF0: (count, least) = (3, 0x800)
        case 0xF0..<0xF8: (count, least) = (4, 0x10000)
        default: return nil
        }
        guard index + count <= bytes.count else { return nil }
        var value = UInt32(lead) & (0x7F >> UInt32(count))
        for offset in 1..<count {
            let byte = unsafe bytes[index + offset]
            guard byte & 0xC0 == 0x80 else { return nil }
            value = value << 6 | UInt32(byte & 0x3F)
        }
        guard value >= least, let scalar = Unicode.Scalar(value) else { return nil }
        return (scalar, count)
    }
}

extension LineConstants {
    /// The table's name behind a blank, with JSON's escapes: no name breaks the line or commands a
    /// terminal.
    static func text(_ schema: TableSchema) -> LineConstants {
        var constants = LineConstants()
        if schema.isMessages { return constants }
        var writer = JSONWriter(capacity: 128)
        writer.appendQuoted(string: "\(TableName(schema: schema.schema, name: schema.name))")
        constants.source = [UInt8(ascii: " ")] + writer.bytes.dropFirst().dropLast()
        return constants
    }
}
