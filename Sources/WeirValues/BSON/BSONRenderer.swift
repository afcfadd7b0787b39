package import WeirJSON

/// How documents look as JSON.
package enum DocumentMode: String, Sendable, BitwiseCopyable, CaseIterable {
    /// MongoDB's Extended JSON v2, relaxed: numbers and dates of these centuries as everyone writes
    /// them, other types in their `$…` form.
    case relaxed
    /// The same, canonical: every type in its `$…` form, so that nothing is lost.
    case canonical
    /// What a cache or a search wants: no `$…` forms at all.
    case plain
}

/// Writes BSON as JSON, straight from the bytes.
///
/// Relaxed and canonical are Extended JSON v2 in its compact form, as libbson writes it but for
/// its blanks, and but for these, where libbson leaves the specification or loses something:
/// doubles have the fewest digits that are read back as the same number; relaxed dates after the
/// year 9999 are numbers; a Decimal128 above 34 digits is 0, whatever its encoding; options of a
/// regular expression that MongoDB does not know are kept.
/// https://github.com/mongodb/specifications/blob/master/source/extended-json/extended-json.md
///
/// Members come in the document's order, all of those with one name. Text that is no valid UTF-8
/// has U+FFFD for each bad part. Bytes that do not follow BSON's rules, and documents nested deeper
/// than `depthMax`, are written whole as a string of hexadecimal digits. Output is always one line.
package struct BSONRenderer: Sendable {
    let mode: DocumentMode

    /// Documents in documents; a server takes 180.
    package static let depthMax = 256

    package init(_ mode: DocumentMode) { self.mode = mode }

    /// Appends a whole document as an object. Complexity: O(bytes), without an allocation but for
    /// the writer's.
    package func append(
        document: UnsafeRawBufferPointer, into writer: inout JSONWriter
    ) -> ValueRenderer.Note {
        unsafe append(.document, document, into: &writer)
    }

    /// Appends one value: `value` is all of its bytes, a string's length and NUL included.
    package func append(
        _ type: BSONType, _ value: UnsafeRawBufferPointer, into writer: inout JSONWriter
    ) -> ValueRenderer.Note {
        let start = writer.count
        var walk = unsafe BSONWalk(bytes: value, mode: mode)
        let end = walk.append(type, at: 0, before: value.count, depth: 0, into: &writer)
        if end == value.count { return walk.note }
        writer.truncate(to: start)
        unsafe writer.appendQuotedHex(value)
        return .malformed
    }

    /// Appends one value as text without quotes, for keys, strings and SQL: text, an id, a number,
    /// a date or a UUID as people write them, other bytes in base64, a timestamp as
    /// `seconds:increment`, a regular expression between slashes; what has parts is JSON. What is
    /// malformed is `\x…`.
    package func appendPlain(
        _ type: BSONType, _ value: UnsafeRawBufferPointer, into writer: inout JSONWriter
    ) -> PlainRenderer.Outcome {
        if type == .null || type == .undefined { return .null }
        let start = writer.count
        var walk = unsafe BSONWalk(bytes: value, mode: mode)
        if walk.appendPlain(type, into: &writer) == value.count { return .written }
        writer.truncate(to: start)
        writer.append("\\x")
        unsafe writer.appendHex(value)
        return .written
    }

    /// Appends text from a document, which may be no UTF-8, as a JSON string.
    func appendText(
        _ text: UnsafeRawBufferPointer, _ note: inout ValueRenderer.Note,
        into writer: inout JSONWriter
    ) {
        if unsafe writer.appendQuoted(0..<text.count, of: text) { note = .replaced }
    }
}

extension UnsafeRawBufferPointer {
    /// The bytes of a string's value: without its length and its NUL.
    var text: UnsafeRawBufferPointer {
        unsafe UnsafeRawBufferPointer(rebasing: self[4..<(count - 1)])
    }
}
