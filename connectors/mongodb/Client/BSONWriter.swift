/// Puts one BSON document together, for commands: small, and never per event.
///
///     var command = BSONWriter()
///     command.append("find", "orders")
///     command.appendDocument("filter") { $0.append("total", int32: 5) }
package struct BSONWriter: Sendable {
    private var body: [UInt8] = []

    package init() {}

    /// The document.
    package var bytes: [UInt8] {
        littleEndian(Int32(body.count + 5)) + body + [0]
    }

    package mutating func append(_ name: String, _ text: String) {
        begin(0x02, name)
        body += littleEndian(Int32(text.utf8.count + 1))
        body += Array(text.utf8) + [0]
    }

    package mutating func append(_ name: String, _ flag: Bool) {
        begin(0x08, name)
        body.append(flag ? 1 : 0)
    }

    package mutating func append(_ name: String, int32: Int32) {
        begin(0x10, name)
        body += littleEndian(int32)
    }

    package mutating func append(_ name: String, int64: Int64) {
        begin(0x12, name)
        body += littleEndian(int64)
    }

    /// - Parameter timestamp: seconds in the upper half, increment in the lower.
    package mutating func append(_ name: String, timestamp: UInt64) {
        begin(0x11, name)
        body += littleEndian(timestamp)
    }

    package mutating func append(_ name: String, binary: [UInt8]) {
        begin(0x05, name)
        body += littleEndian(Int32(binary.count)) + [0] + binary
    }

    package mutating func appendNull(_ name: String) { begin(0x0A, name) }

    package mutating func append(_ name: String, document: [UInt8]) {
        begin(0x03, name)
        body += document
    }

    /// A value as it stands in another document.
    package mutating func append(_ name: String, type: UInt8, value: UnsafeRawBufferPointer) {
        begin(type, name)
        unsafe body.append(contentsOf: value)
    }

    package mutating func appendDocument(_ name: String, _ build: (inout BSONWriter) -> Void) {
        var inner = BSONWriter()
        build(&inner)
        append(name, document: inner.bytes)
    }

    package mutating func append(_ name: String, array: [[UInt8]]) {
        var inner = BSONWriter()
        for (index, document) in array.enumerated() {
            inner.append("\(index)", document: document)
        }
        begin(0x04, name)
        body += inner.bytes
    }

    package mutating func append(_ name: String, strings: [String]) {
        var inner = BSONWriter()
        for (index, text) in strings.enumerated() { inner.append("\(index)", text) }
        begin(0x04, name)
        body += inner.bytes
    }

    /// An array whose elements are written by `build`, named `0`, `1`, ….
    package mutating func appendArray(_ name: String, _ build: (inout BSONWriter) -> Void) {
        var inner = BSONWriter()
        build(&inner)
        begin(0x04, name)
        body += inner.bytes
    }

    /// A document from its members.
    package static func document(_ build: (inout BSONWriter) -> Void) -> [UInt8] {
        var writer = BSONWriter()
        build(&writer)
        return writer.bytes
    }

    private mutating func begin(_ type: UInt8, _ name: String) {
        precondition(!name.utf8.contains(0), "a name in BSON has no NUL")
        body.append(type)
        body += Array(name.utf8) + [0]
    }

    private func littleEndian<T: FixedWidthInteger>(_ number: T) -> [UInt8] {
        (0..<(T.bitWidth / 8)).map { UInt8(truncatingIfNeeded: number >> T($0 * 8)) }
    }
}
