import WeirCore
import WeirValues

/// The fields that a key template names, held against what the source says an update changed.
struct KeyFields: Sendable {
    /// As MongoDB names them, such as `tenant_id` or `name.en`.
    private let paths: [[UInt8]]
    /// One of them is the whole document.
    private let isWhole: Bool

    /// - Parameter template: text that `KeyTemplate` takes.
    init(_ template: String) {
        let bytes = Array(template.utf8)
        var paths: [[UInt8]] = []
        var index = 0
        while index < bytes.count {
            guard bytes[index] == UInt8(ascii: "{") else {
                index += 1
                continue
            }
            let rest = bytes[(index + 1)...]
            if rest.first == UInt8(ascii: "{") {
                index += 2
                continue
            }
            guard let end = rest.firstIndex(of: UInt8(ascii: "}")) else { break }
            let text = String(decoding: rest[..<end], as: UTF8.self)
            paths.append(Array((FieldPath(text)?.dotted ?? text).utf8))
            index = end + 1
        }
        self.paths = paths
        isWhole = paths.contains(Array(TableSchema.wholeDocument.utf8))
    }

    /// Whether the row may have had another key before an update: one of the names the source
    /// gives is a field of the key, holds one or is a part of one; or it gives no names, as for a
    /// document that was replaced.
    ///
    /// A name that has a dot of its own counts as a path, so a change is never overlooked.
    func mayHaveChanged(by event: Event, in view: BatchView) -> Bool {
        guard !isWhole, let detail = view.detail(.changes, of: event),
            var changes = unsafe BSONCursor(view.bytes(of: detail))
        else { return true }
        while changes.next() {
            let isTouched: Bool
            switch changes.type {
            case .document where changes.isNamed("updatedFields"):
                isTouched = unsafe touches(namesIn: changes.value)
            case .array where changes.isNamed("removedFields"):
                isTouched = unsafe touches(textsIn: changes.value)
            case .array where changes.isNamed("truncatedArrays"):
                isTouched = unsafe touches(fieldsIn: changes.value)
            // It only says which parts of a name are an index, and which a name.
            case _ where changes.isNamed("disambiguatedPaths"): isTouched = false
            case .null: isTouched = false
            // A kind of change that later servers may tell of.
            default: isTouched = true
            }
            if isTouched { return true }
        }
        return changes.isMalformed
    }

    private func touches(namesIn document: UnsafeRawBufferPointer) -> Bool {
        guard var fields = unsafe BSONCursor(document) else { return true }
        while fields.next() {
            if unsafe touches(fields.name) { return true }
        }
        return fields.isMalformed
    }

    private func touches(textsIn array: UnsafeRawBufferPointer) -> Bool {
        guard var names = unsafe BSONCursor(array) else { return true }
        while names.next() {
            guard names.type == .string else { return true }
            if unsafe touches(text(of: names.value)) { return true }
        }
        return names.isMalformed
    }

    private func touches(fieldsIn array: UnsafeRawBufferPointer) -> Bool {
        guard var cuts = unsafe BSONCursor(array) else { return true }
        while cuts.next() {
            guard cuts.type == .document, var cut = unsafe BSONCursor(cuts.value) else {
                return true
            }
            while cut.next() {
                guard cut.isNamed("field") else { continue }
                if unsafe cut.type != .string || touches(text(of: cut.value)) { return true }
            }
            if cut.isMalformed { return true }
        }
        return cuts.isMalformed
    }

    /// The bytes of a string's value: without its length and its NUL.
    private func text(of string: UnsafeRawBufferPointer) -> UnsafeRawBufferPointer {
        unsafe UnsafeRawBufferPointer(rebasing: string[4..<(string.count - 1)])
    }

    private func touches(_ name: UnsafeRawBufferPointer) -> Bool {
        for path in paths {
            let common = min(path.count, name.count)
            let isSameStart = unsafe path.withUnsafeBytes { path in
                unsafe path[..<common].elementsEqual(name[..<common])
            }
            guard isSameStart else { continue }
            if path.count == name.count { return true }
            let next = unsafe path.count > common ? path[common] : name[common]
            if next == UInt8(ascii: ".") { return true }
        }
        return false
    }
}
