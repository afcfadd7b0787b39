package import WeirCore
package import WeirJSON

/// How the key of a row is made: `shop:product:{id}`, `{{{tenant}}}:cart:{id}`.
///
/// `{…}` stands for a column or a path; `{{` and `}}` are literal braces, which Redis Cluster reads
/// as a hash tag. In values `%`, `:`, `{`, `}` and control characters become `%XX`, so a value can
/// never be taken for a part of the template.
package struct KeyTemplate: Sendable, Equatable {
    enum Part: Sendable, Equatable {
        case literal([UInt8])
        case field(FieldPath)
    }

    /// As the configuration writes it.
    private let text: String
    let parts: [Part]
    /// Only what is between the first `{` and the next `}` decides about a key's slot in a cluster.
    package let hasHashTag: Bool
    /// The fields that decide about the slot, when nothing else does: all between the braces of a
    /// hash tag, or all of a key without text of its own. Together they may be empty, and an empty
    /// tag is none, be it the key's or its side key's.
    let tagFields: Range<Int>?

    /// The columns and paths it names.
    package var paths: [FieldPath] {
        parts.compactMap { if case .field(let path) = $0 { path } else { nil } }
    }

    // MARK: Parsing

    /// - Throws: at the field "key", with the place.
    package init(_ text: String) throws(ConfigIssue) {
        var parts: [Part] = []
        var literal: [UInt8] = []
        let bytes = Array(text.utf8)
        var index = 0
        func issue(_ message: String) -> ConfigIssue {
            ConfigIssue(field: "key", "key template \"\(text)\": \(message)")
        }
        func place(_ offset: Int) -> String {
            "character \(String(decoding: bytes[..<offset], as: UTF8.self).count + 1)"
        }
        if let offset = bytes.firstIndex(of: 0) { throw issue("NUL at \(place(offset))") }
        while index < bytes.count {
            let byte = bytes[index]
            let isDouble = index + 1 < bytes.count && bytes[index + 1] == byte
            switch byte {
            case UInt8(ascii: "{"), UInt8(ascii: "}"):
                if isDouble {
                    literal.append(byte)
                    index += 2
                    continue
                }
                guard byte == UInt8(ascii: "{") else {
                    throw issue(
                        "\"}\" at \(place(index)) closes nothing; write }} for a brace")
                }
                let rest = bytes[(index + 1)...]
                guard let end = rest.firstIndex(of: UInt8(ascii: "}")) else {
                    throw issue("\"{\" at \(place(index)) is not closed")
                }
                let name = String(decoding: rest[..<end], as: UTF8.self)
                guard let path = FieldPath(name), !name.utf8.contains(UInt8(ascii: "{")) else {
                    throw issue("\"{\(name)}\" at \(place(index)) names no column")
                }
                if !literal.isEmpty { parts.append(.literal(literal)) }
                literal = []
                parts.append(.field(path))
                index = end + 1
            default:
                literal.append(byte)
                index += 1
            }
        }
        if !literal.isEmpty { parts.append(.literal(literal)) }
        guard parts.contains(where: { if case .field = $0 { true } else { false } }) else {
            throw issue("it names no column, so all rows would have one key")
        }
        self.text = text
        self.parts = parts
        switch Self.hashTag(of: parts) {
        case .none:
            let isAllFields = parts.allSatisfy { if case .field = $0 { true } else { false } }
            (hasHashTag, tagFields) = (false, isAllFields ? parts.indices : nil)
        case .tag(let fields): (hasHashTag, tagFields) = (true, fields)
        case .unfit:
            throw issue(
                "its literal braces are not one hash tag; write {{…}} once, around a part of it")
        }
    }

    private enum HashTag {
        case none
        case tag(fields: Range<Int>?)
        case unfit
    }

    /// Redis takes what is between the first `{` and the first `}` behind it.
    private static func hashTag(of parts: [Part]) -> HashTag {
        let braceCount = parts.reduce(0) { count, part in
            guard case .literal(let bytes) = part else { return count }
            return count + bytes.count { $0 == UInt8(ascii: "{") || $0 == UInt8(ascii: "}") }
        }
        if braceCount == 0 { return .none }
        if braceCount != 2 { return .unfit }
        var open: (part: Int, offset: Int)?
        for (index, part) in parts.enumerated() {
            guard case .literal(let bytes) = part else { continue }
            for (offset, byte) in bytes.enumerated() {
                switch (byte, open) {
                case (UInt8(ascii: "{"), nil): open = (index, offset)
                case (UInt8(ascii: "}"), nil): return .unfit
                case (UInt8(ascii: "}"), let open?):
                    if open.part == index {
                        return offset == open.offset + 1 ? .unfit : .tag(fields: nil)
                    }
                    guard case .literal(let first) = parts[open.part] else { return .unfit }
                    let isTight = open.offset == first.count - 1 && offset == 0
                    let inside = (open.part + 1)..<index
                    let isAllFields = parts[inside].allSatisfy {
                        if case .field = $0 { true } else { false }
                    }
                    return .tag(fields: isTight && isAllFields ? inside : nil)
                default: break
                }
            }
        }
        return .unfit
    }

    // MARK: Facts

    /// The template with every field as `{}`: two that are equal make keys of one form.
    package var normalized: String {
        String(
            decoding: parts.flatMap { part in
                if case .literal(let bytes) = part { bytes } else { Array("{}".utf8) }
            }, as: UTF8.self)
    }

    /// A key of the form, with one text in the place of every field, and its side key.
    package func sample(_ value: String) -> [[UInt8]] {
        let key: [UInt8] = parts.flatMap { part in
            if case .literal(let bytes) = part { bytes } else { Array(value.utf8) }
        }
        let side =
            hasHashTag
            ? key + Array(":v".utf8) : Array("{".utf8) + key + Array("}:v".utf8)
        return [key, side]
    }

    /// The bytes every key begins with.
    package var literalPrefix: [UInt8] {
        if case .literal(let bytes)? = parts.first { bytes } else { [] }
    }

    /// Whether no two rows with different values have one key.
    ///
    /// True when the text between any two fields holds a byte that no escaped value has: the first
    /// such byte behind a field's beginning is then the separator's, so where the value ends is
    /// certain; and escaping is reversible.
    package var isInjective: Bool {
        var isSeparated = true
        for part in parts {
            switch part {
            case .field:
                if !isSeparated { return false }
                isSeparated = false
            case .literal(let bytes):
                isSeparated = isSeparated || bytes.contains { ":{}".utf8.contains($0) }
            }
        }
        return true
    }

    package var warning: String? {
        isInjective
            ? nil
            : "key template \"\(text)\" can give two rows one key; put \":\" between its columns"
    }

    /// A pattern for SCAN that matches every key of the template, and others.
    package var globPattern: [UInt8] {
        parts.flatMap { part in
            guard case .literal(let bytes) = part else { return [UInt8(ascii: "*")] }
            return bytes.flatMap { byte in
                "*?[]\\^-".utf8.contains(byte) ? [UInt8(ascii: "\\"), byte] : [byte]
            }
        }
    }

    /// The same for the keys beside them.
    package var sideGlobPattern: [UInt8] {
        hasHashTag
            ? globPattern + Array(":v".utf8)
            : Array("{".utf8) + globPattern + Array("}:v".utf8)
    }

    // MARK: Keys

    /// Where in a side key its key stands; nil when it is no side key of the template's.
    package func key(ofSide side: UnsafeRawBufferPointer) -> Range<Int>? {
        let head = hasHashTag ? 0 : 1
        let tail: StaticString = hasHashTag ? ":v" : "}:v"
        guard side.count >= head + tail.utf8CodeUnitCount else { return nil }
        let range = head..<(side.count - tail.utf8CodeUnitCount)
        let hasTail = tail.withUTF8Buffer { expected in
            unsafe side[range.upperBound...].elementsEqual(expected)
        }
        guard hasTail, unsafe head == 0 || side[0] == UInt8(ascii: "{"),
            unsafe matches(UnsafeRawBufferPointer(rebasing: side[range]))
        else { return nil }
        return range
    }

    /// Appends the key beside `key`: in its slot, and of no other row.
    package func appendSideKey(of key: UnsafeRawBufferPointer, into writer: inout JSONWriter) {
        if hasHashTag {
            unsafe writer.append(raw: key)
            writer.append(":v")
        } else {
            writer.append("{")
            unsafe writer.append(raw: key)
            writer.append("}:v")
        }
    }

    /// Whether some row could have this key. Complexity: O(parts × length).
    package func matches(_ key: UnsafeRawBufferPointer) -> Bool {
        // Where the next part may begin; a value may end at several places.
        var starts = [Bool](repeating: false, count: key.count + 1)
        starts[0] = true
        var tagStart = 0
        for (index, part) in parts.enumerated() {
            if index == tagFields?.lowerBound {
                // No value holds a brace, so there is one place at most.
                guard let start = starts.firstIndex(of: true) else { return false }
                tagStart = start
            }
            var next = [Bool](repeating: false, count: key.count + 1)
            switch part {
            case .literal(let bytes):
                guard bytes.count <= key.count else { return false }
                for index in 0...(key.count - bytes.count) where starts[index] {
                    let slice = unsafe UnsafeRawBufferPointer(
                        rebasing: key[index..<(index + bytes.count)])
                    if unsafe slice.elementsEqual(bytes) { next[index + bytes.count] = true }
                }
            case .field:
                for index in 0...key.count where starts[index] || next[index] {
                    next[index] = true
                    let width = unsafe escapedWidth(key, at: index)
                    if width > 0 { next[index + width] = true }
                }
            }
            if index + 1 == tagFields?.upperBound {
                next[tagStart] = false
                if tagStart < key.count, unsafe key[tagStart] == UInt8(ascii: "%") {
                    next[tagStart + 1] = true
                }
            }
            starts = next
        }
        return starts[key.count]
    }

    /// Finds the columns in a table.
    ///
    /// - Throws: `values.unknown_column`.
    package func compile(for schema: TableSchema) throws(WeirError) -> CompiledKey {
        try CompiledKey(self, schema)
    }
}

/// How many bytes at this place are one byte of a value, escaped: 1, 3, or 0 when none are.
private func escapedWidth(_ key: UnsafeRawBufferPointer, at index: Int) -> Int {
    guard index < key.count else { return 0 }
    let byte = unsafe key[index]
    if byte != UInt8(ascii: "%") { return needsEscape(byte) ? 0 : 1 }
    guard index + 2 < key.count, let high = unsafe hexDigit(key[index + 1]),
        let low = unsafe hexDigit(key[index + 2])
    else { return 0 }
    return needsEscape(high << 4 | low) ? 3 : 0
}

private func hexDigit(_ byte: UInt8) -> UInt8? {
    switch byte {
    case UInt8(ascii: "0")...UInt8(ascii: "9"): byte - UInt8(ascii: "0")
    case UInt8(ascii: "A")...UInt8(ascii: "F"): byte - UInt8(ascii: "A") + 10
    default: nil
    }
}

@inline(__always)
func needsEscape(_ byte: UInt8) -> Bool {
    byte == UInt8(ascii: ":") || byte == UInt8(ascii: "%") || byte == UInt8(ascii: "{")
        || byte == UInt8(ascii: "}") || byte < 0x20 || byte == 0x7F
}
