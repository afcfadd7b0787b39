package import WeirCore
import WeirJSON

/// The bytes and values of one batch, lent for the time of one `encode`.
@safe
package struct BatchView {
    @usableFromInline let arena: UnsafeRawBufferPointer
    @usableFromInline let values: UnsafeBufferPointer<Value>

    @inlinable package init(arena: UnsafeRawBufferPointer, values: UnsafeBufferPointer<Value>) {
        unsafe self.arena = arena
        unsafe self.values = values
    }

    /// The bytes of a value. Valid as long as the view.
    @inlinable @inline(__always)
    package func bytes(of value: Value) -> UnsafeRawBufferPointer {
        let range = value.bytes.range
        unsafe precondition(range.upperBound <= arena.count, "a value lies in its batch's arena")
        return unsafe UnsafeRawBufferPointer(rebasing: arena[range])
    }

    @inline(__always)
    func value(_ index: Int, of image: Slice) -> Value { value(at: index + Int(image.start)) }

    /// A value by its place among the batch's.
    @inlinable @inline(__always)
    package func value(at index: Int) -> Value {
        unsafe precondition(index < values.count, "an image lies in its batch's values")
        return unsafe values[index]
    }

    /// Nil where the source has no such detail, or none for this event.
    package func detail(_ detail: Event.Detail, of event: Event) -> Value? {
        if event.details.isEmpty { return nil }
        let value = value(detail.rawValue, of: event.details)
        return value.form == .null ? nil : value
    }
}

extension EventBatch {
    /// Lends the batch's bytes and values.
    package func withView<R>(_ body: (BatchView) -> R) -> R {
        unsafe arena.withUnsafeBytes { arena in
            unsafe values.withUnsafeBufferPointer { values in
                body(unsafe BatchView(arena: arena, values: values))
            }
        }
    }
}

/// Writes row images as JSON objects and keeps what must be said beside them.
struct RowWriter: ~Copyable {
    /// What a line says about a column.
    struct Notes: OptionSet, BitwiseCopyable {
        let rawValue: UInt8
        static let binary = Notes(rawValue: 1)
        static let malformed = Notes(rawValue: 2)
        static let unchanged = Notes(rawValue: 4)
        static let changed = Notes(rawValue: 8)
        static let replaced = Notes(rawValue: 16)
    }

    /// What stands for a value that the source did not send.
    enum Missing {
        /// Nothing.
        case leftOut
        /// Nothing, and a note.
        case noted
        /// A member with this JSON.
        case shown(StaticString)
    }

    var renderer = ValueRenderer()
    /// One per slot of the projection.
    private var notes: [Notes] = []
    /// All notes of the line; almost always none.
    private(set) var noted: Notes = []

    /// Forgets the notes of the line before.
    @inline(__always)
    mutating func begin(_ projection: borrowing Projection) {
        let count = projection.slots.count
        if noted.isEmpty && notes.count >= count { return }
        notes.removeAll(keepingCapacity: true)
        notes.append(contentsOf: repeatElement([], count: count))
        noted = []
    }

    /// Appends `{"name":value,…}`, or a document that is the whole row as it is. Returns the number
    /// of members.
    ///
    /// A path that leads to nothing has no member: rows of one table may differ in shape there.
    /// - Parameter fields: of `projection`.
    @discardableResult
    mutating func appendObject(
        _ fields: [Projection.Field],
        of image: Slice,
        in batch: BatchView,
        _ projection: borrowing Projection,
        missing: Missing = .leftOut,
        into writer: inout JSONWriter
    ) -> Int {
        if let field = fields.first, case .row = field.place {
            return appendDocument(field, of: image, in: batch, missing: missing, into: &writer)
        }
        writer.append(UInt8(ascii: "{"))
        var members = 0
        for field in fields {
            let value = batch.value(field.column, of: image)
            var isSent = value.form != .unchanged
            if isSent, case .path(let index) = field.place {
                let start = writer.count
                writer.append(projection.names, field.name, isFirst: members == 0)
                let path = projection.paths[Int(index)]
                switch appendFound(path, value, field, in: batch, into: &writer) {
                case .written:
                    members += 1
                    continue
                case .absent:
                    writer.truncate(to: start)
                    continue
                case .notSent:
                    writer.truncate(to: start)
                    isSent = false
                }
            }
            if !isSent {
                switch missing {
                case .leftOut: continue
                case .noted:
                    note(.unchanged, field.slot)
                    continue
                case .shown(let json):
                    writer.append(projection.names, field.name, isFirst: members == 0)
                    writer.append(json)
                    members += 1
                    continue
                }
            }
            writer.append(projection.names, field.name, isFirst: members == 0)
            members += 1
            let bytes = unsafe batch.bytes(of: value)
            let outcome = unsafe renderer.append(value.form, bytes, as: field.kind, into: &writer)
            if outcome != .none { take(outcome, field.slot) }
        }
        writer.append(UInt8(ascii: "}"))
        return members
    }

    /// Notes the columns whose values differ; a value the source did not send is not compared.
    mutating func noteChanges(
        _ fields: [Projection.Field],
        from before: Slice,
        to after: Slice,
        in batch: BatchView,
        _ projection: borrowing Projection
    ) {
        for field in fields {
            let old = batch.value(field.column, of: before)
            let new = batch.value(field.column, of: after)
            if old.form == .unchanged || new.form == .unchanged { continue }
            if old.form == new.form, unsafe isEqual(batch.bytes(of: old), batch.bytes(of: new)) {
                continue
            }
            if case .path(let index) = field.place,
                isSame(projection.paths[Int(index)], old, new, in: batch)
            {
                continue
            }
            note(.changed, field.slot)
        }
    }

    /// Appends `,"label":["name",…]` with the columns that carry `note`, and `[]` if none does.
    func appendList(
        _ label: StaticString,
        of note: Notes,
        _ projection: borrowing Projection,
        into writer: inout JSONWriter
    ) {
        writer.append(label)
        writer.append(UInt8(ascii: "["))
        var isFirst = true
        if noted.contains(note) {
            for slot in projection.slots.indices where notes[slot].contains(note) {
                let name = projection.slots[slot]
                let withoutColon = Slice(start: name.start, count: name.count - 1)
                writer.append(projection.names, withoutColon, isFirst: isFirst)
                isFirst = false
            }
        }
        writer.append(UInt8(ascii: "]"))
    }

    /// Appends `,"types":{…}`: the columns no rule exists for, and those whose text broke its
    /// rules.
    func appendTypes(_ projection: borrowing Projection, into writer: inout JSONWriter) {
        writer.append(#","types":{"#)
        writer.append(contentsOf: projection.opaqueTypes)
        var isFirst = projection.opaqueTypes.isEmpty
        if noted.contains(.malformed) {
            for slot in projection.slots.indices where notes[slot].contains(.malformed) {
                writer.append(projection.names, projection.slots[slot], isFirst: isFirst)
                writer.appendQuoted(string: projection.type(ofSlot: slot).name)
                isFirst = false
            }
        }
        writer.append(UInt8(ascii: "}"))
    }

    mutating func note(_ note: Notes, _ slot: Int) {
        notes[slot].insert(note)
        noted.insert(note)
    }

    mutating func take(_ outcome: ValueRenderer.Note, _ slot: Int) {
        switch outcome {
        case .none: break
        case .binary: note(.binary, slot)
        case .malformed: note(.malformed, slot)
        case .replaced: note(.replaced, slot)
        }
    }
}

func isEqual(_ left: UnsafeRawBufferPointer, _ right: UnsafeRawBufferPointer) -> Bool {
    guard left.count == right.count else { return false }
    var index = 0
    while left.count - index >= 8 {
        let a = unsafe left.loadUnaligned(fromByteOffset: index, as: UInt64.self)
        let b = unsafe right.loadUnaligned(fromByteOffset: index, as: UInt64.self)
        if a != b { return false }
        index += 8
    }
    while index < left.count {
        if unsafe left[index] != right[index] { return false }
        index += 1
    }
    return true
}

extension JSONWriter {
    /// Appends a part of `bytes`, without its leading comma if nothing stands before it.
    @inline(__always)
    mutating func append(_ bytes: [UInt8], _ part: Slice, isFirst: Bool = false) {
        unsafe bytes.withUnsafeBytes { bytes in
            let start = Int(part.start) + (isFirst ? 1 : 0)
            unsafe append(
                raw: UnsafeRawBufferPointer(rebasing: bytes[start..<part.range.upperBound])
            )
        }
    }
}
