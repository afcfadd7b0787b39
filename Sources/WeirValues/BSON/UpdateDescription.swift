package import WeirCore
import WeirJSON

/// MongoDB's `updateDescription`: what an update changed. Lends the batch's bytes.
///
/// https://www.mongodb.com/docs/manual/reference/change-events/update/
@safe
package struct UpdateDescription {
    private let bytes: UnsafeRawBufferPointer
    /// A document: paths and their new values.
    private var updatedRange = 0..<0
    /// An array of paths.
    private var removedRange = 0..<0
    /// An array of documents, each a path and a new size.
    private var truncatedRange = 0..<0

    /// Nil when the event has none.
    init?(_ event: Event, _ batch: BatchView) {
        guard let value = batch.detail(.changes, of: event),
            var cursor = unsafe BSONCursor(batch.bytes(of: value))
        else { return nil }
        unsafe bytes = cursor.bytes
        while cursor.next() {
            switch cursor.type {
            case .document where cursor.isNamed("updatedFields"):
                updatedRange = cursor.valueRange
            case .array where cursor.isNamed("removedFields"):
                removedRange = cursor.valueRange
            case .array where cursor.isNamed("truncatedArrays"):
                truncatedRange = cursor.valueRange
            default: break
            }
        }
    }

    /// Each is empty where the server sent none.
    var updated: UnsafeRawBufferPointer {
        unsafe UnsafeRawBufferPointer(rebasing: bytes[updatedRange])
    }
    private var removed: UnsafeRawBufferPointer {
        unsafe UnsafeRawBufferPointer(rebasing: bytes[removedRange])
    }
    private var truncated: UnsafeRawBufferPointer {
        unsafe UnsafeRawBufferPointer(rebasing: bytes[truncatedRange])
    }

    /// Appends `"a.b","c"`: the paths of all that was set, removed or cut off, in this order.
    func appendNames(into writer: inout JSONWriter) {
        var list = NameList()
        if var fields = unsafe BSONCursor(updated) {
            while fields.next() { unsafe list.append(fields.name, into: &writer) }
        }
        if var names = unsafe BSONCursor(removed) {
            while names.next() {
                guard names.type == .string else { continue }
                unsafe list.append(names.value.text, into: &writer)
            }
        }
        if var arrays = unsafe BSONCursor(truncated) {
            while arrays.next() {
                guard arrays.type == .document, let (name, _) = unsafe Self.array(arrays.value)
                else { continue }
                unsafe list.append(name, into: &writer)
            }
        }
    }

    /// Appends `["a.b"]` with what was removed, or null.
    func appendRemoved(into writer: inout JSONWriter) {
        let start = writer.count
        writer.append(UInt8(ascii: "["))
        var list = NameList()
        if var names = unsafe BSONCursor(removed) {
            while names.next() {
                guard names.type == .string else { continue }
                unsafe list.append(names.value.text, into: &writer)
            }
        }
        Self.close(list, from: start, into: &writer)
    }

    /// Appends `[{"field":"a","size":3}]` with the arrays that were cut off, or null.
    func appendTruncated(into writer: inout JSONWriter) {
        let start = writer.count
        writer.append(UInt8(ascii: "["))
        var list = NameList()
        if var arrays = unsafe BSONCursor(truncated) {
            while arrays.next() {
                guard arrays.type == .document, let (name, size) = unsafe Self.array(arrays.value)
                else { continue }
                unsafe list.append(name, after: #"{"field":"#, into: &writer)
                writer.append(#","size":"#)
                writer.appendDecimal(size)
                writer.append(UInt8(ascii: "}"))
            }
        }
        Self.close(list, from: start, into: &writer)
    }

    private static func close(
        _ list: NameList, from start: Int, into writer: inout JSONWriter
    ) {
        if list.isEmpty {
            writer.truncate(to: start)
            writer.append("null")
        } else {
            writer.append(UInt8(ascii: "]"))
        }
    }

    /// The members `field` and `newSize`; nil when one is missing.
    private static func array(
        _ document: UnsafeRawBufferPointer
    ) -> (name: UnsafeRawBufferPointer, size: Int64)? {
        guard var cursor = unsafe BSONCursor(document) else { return nil }
        var name: UnsafeRawBufferPointer?
        var size: Int64?
        while cursor.next() {
            switch cursor.type {
            case .string where cursor.isNamed("field"): unsafe name = cursor.value.text
            case .int32 where cursor.isNamed("newSize"):
                size = Int64(unsafe cursor.value.loadUnaligned(as: Int32.self))
            case .int64 where cursor.isNamed("newSize"):
                size = unsafe cursor.value.loadUnaligned(as: Int64.self)
            default: break
            }
        }
        guard let name = unsafe name, let size else { return nil }
        return unsafe (name, size)
    }
}

// MARK: Fields

extension UpdateDescription {
    /// Whether the update that these bytes describe may have touched one of the fields.
    ///
    /// True where it does not say, as for a kind of change that later servers may tell of.
    package static func mayTouch(_ bytes: RawSpan, _ fields: FieldNames) -> Bool {
        unsafe bytes.withUnsafeBytes { unsafe mayTouch($0, fields) }
    }

    private static func mayTouch(_ bytes: UnsafeRawBufferPointer, _ fields: FieldNames) -> Bool {
        guard var changes = unsafe BSONCursor(bytes) else { return true }
        while changes.next() {
            let isTouched: Bool
            switch changes.type {
            case .document where changes.isNamed("updatedFields"):
                isTouched = unsafe mayTouch(namesIn: changes.value, fields)
            case .array where changes.isNamed("removedFields"):
                isTouched = unsafe mayTouch(textsIn: changes.value, fields)
            case .array where changes.isNamed("truncatedArrays"):
                isTouched = unsafe mayTouch(arraysIn: changes.value, fields)
            // It only says which parts of a name are an index, and which a name.
            case _ where changes.isNamed("disambiguatedPaths"): isTouched = false
            case .null: isTouched = false
            default: isTouched = true
            }
            if isTouched { return true }
        }
        return changes.isMalformed
    }

    private static func mayTouch(
        namesIn document: UnsafeRawBufferPointer, _ fields: FieldNames
    ) -> Bool {
        guard var names = unsafe BSONCursor(document) else { return true }
        while names.next() {
            if unsafe fields.meet(names.name) { return true }
        }
        return names.isMalformed
    }

    private static func mayTouch(
        textsIn array: UnsafeRawBufferPointer, _ fields: FieldNames
    ) -> Bool {
        guard var names = unsafe BSONCursor(array) else { return true }
        while names.next() {
            guard names.type == .string else { return true }
            if unsafe fields.meet(names.value.text) { return true }
        }
        return names.isMalformed
    }

    private static func mayTouch(
        arraysIn array: UnsafeRawBufferPointer, _ fields: FieldNames
    ) -> Bool {
        guard var cuts = unsafe BSONCursor(array) else { return true }
        while cuts.next() {
            guard cuts.type == .document, var cut = unsafe BSONCursor(cuts.value) else {
                return true
            }
            while cut.next() {
                guard cut.isNamed("field") else { continue }
                if unsafe cut.type != .string || fields.meet(cut.value.text) { return true }
            }
            if cut.isMalformed { return true }
        }
        return cuts.isMalformed
    }
}

/// Names with commas between them.
private struct NameList {
    private(set) var isEmpty = true
    private let renderer = BSONRenderer(.relaxed)

    mutating func append(
        _ name: UnsafeRawBufferPointer, after opening: StaticString = "",
        into writer: inout JSONWriter
    ) {
        if !isEmpty { writer.append(UInt8(ascii: ",")) }
        isEmpty = false
        writer.append(opening)
        // A document that holds a bad name too is what says so.
        var note = ValueRenderer.Note.none
        unsafe renderer.appendText(name, &note, into: &writer)
    }
}
