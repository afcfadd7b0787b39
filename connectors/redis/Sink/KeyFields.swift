import WeirCore
import WeirValues

/// The fields that a key template names, held against what the source says an update changed.
struct KeyFields: Sendable {
    private let names: FieldNames
    /// One of them is the whole document.
    private let isWhole: Bool

    /// - Parameter template: text that `KeyTemplate` takes.
    init(_ template: String) {
        let bytes = Array(template.utf8)
        var paths: [String] = []
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
            paths.append(FieldPath(text)?.dotted ?? text)
            index = end + 1
        }
        names = FieldNames(paths)
        isWhole = paths.contains(TableSchema.wholeDocument)
    }

    /// Whether the row may have had another key before an update: the source says that it may have
    /// touched a field of the key, or says nothing, as of a document that was replaced.
    func mayHaveChanged(
        by event: Event, in view: BatchView, _ notation: SourceNotation
    ) -> Bool {
        guard !isWhole, let changes = view.detail(.changes, of: event) else { return true }
        return unsafe notation.mayTouch(view.bytes(of: changes).bytes, names)
    }
}
