/// A growing byte buffer that output is encoded into, reused from batch to batch.
///
/// The writer does not check that what is appended is JSON: the caller writes commas and brackets
/// as raw bytes and values through the methods that quote. It owns its memory, which grows, and
/// falls back only in `shrink`; appending costs amortised constant time per byte. Buffers passed in
/// are only read during the call, and must not be the writer's own.
@safe
package struct JSONWriter: ~Copyable {
    @usableFromInline var base: UnsafeMutableRawPointer
    @usableFromInline var used: Int
    @usableFromInline var capacity: Int

    /// `capacity` is the number of bytes that fit before the first growth.
    package init(capacity: Int = 4096) {
        precondition(capacity >= 0, "a capacity is not negative")
        let bytes = max(capacity, 64)
        unsafe base = .allocate(byteCount: bytes, alignment: 16)
        used = 0
        self.capacity = bytes
    }

    deinit {
        unsafe base.deallocate()
    }

    /// The number of bytes written.
    @inlinable package var count: Int { used }

    @inlinable package var isEmpty: Bool { used == 0 }

    /// Lends the bytes written; the pointer is valid only inside `body`.
    @inlinable
    package borrowing func withBytes<Result: ~Copyable, Failure: Error>(
        _ body: (UnsafeRawBufferPointer) throws(Failure) -> Result
    ) throws(Failure) -> Result {
        try unsafe body(UnsafeRawBufferPointer(start: base, count: used))
    }

    // MARK: Room

    /// Forgets the bytes and keeps the memory.
    @inlinable
    package mutating func removeAll() {
        used = 0
    }

    /// Forgets the bytes from `newCount` on: undoes what was appended since the count was that.
    @inlinable
    package mutating func truncate(to newCount: Int) {
        precondition(newCount >= 0 && newCount <= used, "can only truncate to what was written")
        used = newCount
    }

    /// Gives memory back that one huge value had asked for. Only an empty writer, and only one that
    /// holds several times as much, so that values of like sizes do not allocate again and again.
    package mutating func shrink(to bytes: Int) {
        guard used == 0, capacity > 4 * max(bytes, 64) else { return }
        unsafe base.deallocate()
        capacity = max(bytes, 64)
        unsafe base = .allocate(byteCount: capacity, alignment: 16)
    }

    /// Makes room for `additional` more bytes, so that appending them does not allocate.
    @inlinable
    package mutating func reserve(_ additional: Int) {
        if capacity - used < additional { grow(by: additional) }
    }

    /// At least doubles, so that all growth together copies less than twice the final size.
    @usableFromInline
    @inline(never)
    mutating func grow(by additional: Int) {
        let newCapacity = max(capacity * 2, used + additional)
        let newBase = UnsafeMutableRawPointer.allocate(byteCount: newCapacity, alignment: 16)
        unsafe newBase.copyMemory(from: base, byteCount: used)
        unsafe base.deallocate()
        unsafe base = newBase
        capacity = newCapacity
    }

    /// Puts a byte before one that was appended, and moves what is behind it. Complexity: O(bytes
    /// behind it).
    package mutating func insert(_ byte: UInt8, at index: Int) {
        precondition(index >= 0 && index <= used, "can only insert into what was written")
        reserve(1)
        unsafe (base + index + 1).copyMemory(from: base + index, byteCount: used - index)
        unsafe base.storeBytes(of: byte, toByteOffset: index, as: UInt8.self)
        used += 1
    }

    // MARK: Raw bytes

    @inlinable
    package mutating func append(_ byte: UInt8) {
        reserve(1)
        unsafe base.storeBytes(of: byte, toByteOffset: used, as: UInt8.self)
        used += 1
    }

    @inlinable
    package mutating func append(raw bytes: UnsafeRawBufferPointer) {
        guard let source = bytes.baseAddress else { return }
        reserve(bytes.count)
        unsafe (base + used).copyMemory(from: source, byteCount: bytes.count)
        used += bytes.count
    }

    @inlinable
    package mutating func append(contentsOf bytes: [UInt8]) {
        unsafe bytes.withUnsafeBytes { unsafe append(raw: $0) }
    }

    /// Appends a literal, such as a key with its quotes and colon.
    @inlinable
    package mutating func append(_ literal: StaticString) {
        literal.withUTF8Buffer { unsafe append(raw: UnsafeRawBufferPointer($0)) }
    }

    /// Appends the UTF-8 of a string as it is, without quotes or escapes.
    package mutating func append(string: String) {
        var string = string
        string.withUTF8 { unsafe append(raw: UnsafeRawBufferPointer($0)) }
    }
}
