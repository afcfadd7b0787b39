/// Fields of documents, held against the names that a source gives for what an update changed.
public struct FieldNames: Sendable {
    /// Such as `tenant_id` or `name.en`.
    private let paths: [[UInt8]]

    public init(_ paths: [String]) { self.paths = paths.map { Array($0.utf8) } }

    /// Whether the name is one of these fields, holds one or is a part of one.
    ///
    /// A name that has a dot of its own counts as a path, so a change is never overlooked.
    public func meet(_ name: UnsafeRawBufferPointer) -> Bool {
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
