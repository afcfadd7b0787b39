import WeirCore

/// Finds a value in a document by its path, without building anything.
package enum BSONPath {
    /// Goes down one name of a member, or one index of an array's element in decimal, at a time.
    ///
    /// Of members with one name the last counts. Elements count by their place, whatever names the
    /// array stores them under. Nil when the document has no such value, when the path goes on
    /// below a value that is neither document nor array, and where the bytes are no BSON.
    /// Complexity: O(elements passed).
    package static func find(
        _ path: [[UInt8]], in document: UnsafeRawBufferPointer
    ) -> (type: BSONType, value: UnsafeRawBufferPointer)? {
        var type = BSONType.document
        var value = unsafe document
        for part in path {
            let next: (type: BSONType, value: UnsafeRawBufferPointer)? =
                switch type {
                case .document: unsafe member(part, of: value)
                case .array: unsafe element(part, of: value)
                default: nil
                }
            guard let next = unsafe next else { return nil }
            unsafe (type, value) = next
        }
        return unsafe (type, value)
    }

    private static func member(
        _ name: [UInt8], of document: UnsafeRawBufferPointer
    ) -> (type: BSONType, value: UnsafeRawBufferPointer)? {
        guard var cursor = unsafe BSONCursor(document) else { return nil }
        var found: (type: BSONType, value: UnsafeRawBufferPointer)?
        while cursor.next() {
            guard unsafe name.withUnsafeBytes({ unsafe cursor.name.isSame(as: $0) }) else {
                continue
            }
            unsafe found = (cursor.type, cursor.value)
        }
        return unsafe found
    }

    private static func element(
        _ index: [UInt8], of array: UnsafeRawBufferPointer
    ) -> (type: BSONType, value: UnsafeRawBufferPointer)? {
        guard var left = JSONPath.index(index), var cursor = unsafe BSONCursor(array) else {
            return nil
        }
        while cursor.next() {
            if left == 0 { return unsafe (cursor.type, cursor.value) }
            left -= 1
        }
        return nil
    }
}
