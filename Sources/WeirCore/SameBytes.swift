extension UnsafeRawBufferPointer {
    /// Whether the other holds the same bytes. `elementsEqual` looks at one at a time, this at
    /// eight.
    public func isSame(as other: UnsafeRawBufferPointer) -> Bool {
        guard count == other.count else { return false }
        var index = 0
        while index + 8 <= count {
            let one = unsafe loadUnaligned(fromByteOffset: index, as: UInt64.self)
            guard unsafe one == other.loadUnaligned(fromByteOffset: index, as: UInt64.self) else {
                return false
            }
            index += 8
        }
        while index < count {
            guard unsafe self[index] == other[index] else { return false }
            index += 1
        }
        return true
    }

    public func isSame(as text: StaticString) -> Bool {
        unsafe isSame(
            as: UnsafeRawBufferPointer(start: text.utf8Start, count: text.utf8CodeUnitCount))
    }
}
