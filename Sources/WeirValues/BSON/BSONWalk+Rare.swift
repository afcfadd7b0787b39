import WeirJSON

// The types that most documents do not have.

extension BSONWalk {
    @inline(never)
    mutating func appendRare(
        _ type: BSONType, at offset: Int, before end: Int, depth: Int,
        into writer: inout JSONWriter
    ) -> Int? {
        switch type {
        case .decimal128:
            guard end - offset >= 16 else { return nil }
            writer.append(mode == .plain ? "\"" : #"{"$numberDecimal":""#)
            writer.append(decimal128: unsafe Decimal128Bits(part(offset..<(offset + 16))))
            writer.append(mode == .plain ? "\"" : #""}"#)
            return offset + 16
        case .timestamp:
            guard let time = load(UInt64.self, at: offset, before: end) else { return nil }
            writer.append(mode == .plain ? #"{"t":"# : #"{"$timestamp":{"t":"#)
            writer.appendDecimal(time >> 32)
            writer.append(#","i":"#)
            writer.appendDecimal(time & 0xFFFF_FFFF)
            writer.append(mode == .plain ? "}" : "}}")
            return offset + 8
        case .undefined: writer.append(mode == .plain ? "null" : #"{"$undefined":true}"#)
        case .minKey: writer.append(mode == .plain ? #""MinKey""# : #"{"$minKey":1}"#)
        case .maxKey: writer.append(mode == .plain ? #""MaxKey""# : #"{"$maxKey":1}"#)
        case .binary: return appendBinary(at: offset, before: end, into: &writer)
        case .regex: return appendRegex(at: offset, before: end, into: &writer)
        case .symbol, .code:
            guard let text = text(at: offset, before: end) else { return nil }
            if mode != .plain { writer.append(type == .code ? #"{"$code":"# : #"{"$symbol":"#) }
            appendQuoted(text, into: &writer)
            if mode != .plain { writer.append(UInt8(ascii: "}")) }
            return text.upperBound + 1
        case .codeWithScope:
            return appendCodeWithScope(at: offset, before: end, depth: depth, into: &writer)
        case .dbPointer:
            guard let name = text(at: offset, before: end), end - name.upperBound > 12 else {
                return nil
            }
            writer.append(mode == .plain ? #"{"ref":"# : #"{"$dbPointer":{"$ref":"#)
            appendQuoted(name, into: &writer)
            writer.append(mode == .plain ? #","id":"# : #","$id":"#)
            appendObjectId(at: name.upperBound + 1, into: &writer)
            writer.append(mode == .plain ? "}" : "}}")
            return name.upperBound + 13
        case .double, .string, .document, .array, .objectId, .bool, .dateTime, .null, .int32,
            .int64:
            return append(type, at: offset, before: end, depth: depth, into: &writer)
        }
        return offset
    }

    /// A length of all, a string, and a document that ends where all ends.
    private mutating func appendCodeWithScope(
        at offset: Int, before end: Int, depth: Int, into writer: inout JSONWriter
    ) -> Int? {
        guard let length = load(Int32.self, at: offset, before: end), Int(length) <= end - offset,
            let code = text(at: offset + 4, before: offset + Int(length))
        else { return nil }
        let behind = offset + Int(length)
        writer.append(mode == .plain ? #"{"code":"# : #"{"$code":"#)
        appendQuoted(code, into: &writer)
        writer.append(mode == .plain ? #","scope":"# : #","$scope":"#)
        let scopeEnd = appendMembers(
            at: code.upperBound + 1, before: behind, depth: depth + 1, into: &writer)
        writer.append(UInt8(ascii: "}"))
        return scopeEnd == behind ? behind : nil
    }

    // MARK: Binary

    /// The bytes of a binary value and their subtype. Those of the old subtype 2 have a length of
    /// their own, which must be right.
    private func binary(
        at offset: Int, before end: Int
    ) -> (subtype: UInt8, content: Range<Int>)? {
        guard let length = load(Int32.self, at: offset, before: end), length >= 0,
            Int(length) <= end - offset - 5
        else { return nil }
        let subtype = unsafe bytes[offset + 4]
        let content = (offset + 5)..<(offset + 5 + Int(length))
        guard subtype == 2 else { return (subtype, content) }
        guard let inner = load(Int32.self, at: offset + 5, before: content.upperBound),
            Int(inner) == content.count - 4
        else { return nil }
        return (subtype, content.dropFirst(4))
    }

    private func appendBinary(
        at offset: Int, before end: Int, into writer: inout JSONWriter
    ) -> Int? {
        guard let (subtype, content) = binary(at: offset, before: end) else { return nil }
        if mode == .plain {
            writer.append(UInt8(ascii: "\""))
            unsafe writer.append(plainBinary: part(content), subtype: subtype)
            writer.append(UInt8(ascii: "\""))
        } else {
            writer.append(#"{"$binary":{"base64":""#)
            unsafe writer.append(base64: part(content))
            writer.append(#"","subType":""#)
            writer.appendHex(UInt64(subtype), digits: 2, uppercase: false)
            writer.append(#""}}"#)
        }
        return content.upperBound
    }

    // MARK: Regular expressions

    /// Two texts, each with a NUL behind it.
    private func regex(at offset: Int, before end: Int) -> (Range<Int>, options: Range<Int>)? {
        guard let middle = nul(from: offset, before: end),
            let last = nul(from: middle + 1, before: end)
        else { return nil }
        return (offset..<middle, (middle + 1)..<last)
    }

    private mutating func appendRegex(
        at offset: Int, before end: Int, into writer: inout JSONWriter
    ) -> Int? {
        guard let (pattern, options) = regex(at: offset, before: end) else { return nil }
        writer.append(mode == .plain ? #""/"# : #"{"$regularExpression":{"pattern":""#)
        appendEscaped(pattern, into: &writer)
        writer.append(mode == .plain ? "/" : #"","options":""#)
        appendOptions(options, into: &writer)
        writer.append(mode == .plain ? "\"" : #""}}"#)
        return options.upperBound + 1
    }

    private mutating func appendEscaped(_ text: Range<Int>, into writer: inout JSONWriter) {
        if unsafe writer.appendEscaped(text, of: bytes) { note = .replaced }
    }

    /// Appends options in the order of their letters, each once; those that are no ASCII as they
    /// stand.
    private mutating func appendOptions(_ options: Range<Int>, into writer: inout JSONWriter) {
        var letters: UInt128 = 0
        for index in options {
            let letter = unsafe bytes[index]
            if letter >= 0x80 { return appendEscaped(options, into: &writer) }
            letters |= 1 << UInt128(letter)
        }
        while letters != 0 {
            let letter = UInt8(letters.trailingZeroBitCount)
            letters &= letters - 1
            _ = unsafe withUnsafeBytes(of: letter) { unsafe writer.appendEscaped(0..<1, of: $0) }
        }
    }

    // MARK: Plain text

    /// Appends a whole value as `BSONRenderer.appendPlain` says.
    mutating func appendPlain(_ type: BSONType, into writer: inout JSONWriter) -> Int? {
        let end = unsafe bytes.count
        switch type {
        case .string, .symbol, .code:
            guard let text = text(at: 0, before: end) else { return nil }
            if unsafe writer.appendChecked(part(text)) { note = .replaced }
            return text.upperBound + 1
        case .int64:
            guard let number = load(Int64.self, at: 0, before: end) else { return nil }
            writer.appendDecimal(number)
            return 8
        case .int32:
            guard let number = load(Int32.self, at: 0, before: end) else { return nil }
            writer.appendDecimal(Int64(number))
            return 4
        case .double:
            guard let bits = load(UInt64.self, at: 0, before: end) else { return nil }
            writer.append(plainDouble: Double(bitPattern: bits))
            return 8
        case .dateTime:
            guard let millis = load(Int64.self, at: 0, before: end) else { return nil }
            writer.append(plainDate: millis)
            return 8
        case .timestamp:
            guard let time = load(UInt64.self, at: 0, before: end) else { return nil }
            writer.appendDecimal(time >> 32)
            writer.append(UInt8(ascii: ":"))
            writer.appendDecimal(time & 0xFFFF_FFFF)
            return 8
        case .objectId:
            guard end == 12 else { return nil }
            unsafe writer.appendHex(bytes)
            return 12
        case .decimal128:
            guard end == 16 else { return nil }
            writer.append(decimal128: unsafe Decimal128Bits(bytes))
            return 16
        case .binary:
            guard let (subtype, content) = binary(at: 0, before: end) else { return nil }
            unsafe writer.append(plainBinary: part(content), subtype: subtype)
            return content.upperBound
        case .regex:
            guard let (pattern, options) = regex(at: 0, before: end) else { return nil }
            writer.append(UInt8(ascii: "/"))
            if unsafe writer.appendChecked(part(pattern)) { note = .replaced }
            writer.append(UInt8(ascii: "/"))
            if unsafe writer.appendChecked(part(options)) { note = .replaced }
            return options.upperBound + 1
        case .minKey: writer.append("MinKey")
        case .maxKey: writer.append("MaxKey")
        case .bool, .null, .undefined, .document, .array, .codeWithScope, .dbPointer:
            return append(type, at: 0, before: end, depth: 0, into: &writer)
        }
        return 0
    }
}

extension JSONWriter {
    /// A UUID in its own form, other bytes in base64.
    ///
    /// The old subtype 3 is a UUID too, but Java's, C#'s and Python's drivers each wrote its bytes
    /// in another order, and nothing says in which: any UUID made of it may be another one.
    fileprivate mutating func append(plainBinary bytes: UnsafeRawBufferPointer, subtype: UInt8) {
        guard subtype == 4, bytes.count == 16 else {
            return unsafe append(base64: bytes)
        }
        for index in 0..<16 {
            if index == 4 || index == 6 || index == 8 || index == 10 { append(UInt8(ascii: "-")) }
            appendHex(UInt64(unsafe bytes[index]), digits: 2, uppercase: false)
        }
    }
}
