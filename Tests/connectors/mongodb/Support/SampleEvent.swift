import WeirMongoDBClient
import WeirTesting

@testable import WeirMongoDBSource

/// An event of a change stream as a server would send it.
struct SampleEvent {
    /// Its name in `operationType`.
    var kind = "insert"
    /// `82`, seconds 1, increment 2, and something behind.
    var token: String? = "8200000001000000022B04"
    var database = "shop"
    /// Nil for events of a whole database.
    var collection: String? = "orders"
    var renamedTo: String?
    var key: [UInt8]? = document { $0.append("_id", int32: 1) }
    /// Of `fullDocument`; `null` there is what a server says that has none.
    var document: [UInt8]? = Self.document { $0.append("_id", int32: 1) }
    var hasNullDocument = false
    var documentBefore: [UInt8]?
    var changes: [UInt8]?
    var wallMillis: Int64? = 1_795_226_584_123
    /// The first byte of a session's UUID, and the number of the transaction.
    var transaction: (session: UInt8, number: Int64)?

    static func document(_ build: (inout BSONWriter) -> Void) -> [UInt8] {
        BSONWriter.document(build)
    }

    var bytes: [UInt8] {
        BSONWriter.document { event in
            if let token { event.appendDocument("_id") { $0.append("_data", token) } }
            event.append("operationType", kind)
            event.append("clusterTime", timestamp: 1 << 32 | 2)
            if let wallMillis {
                let value = unsafe withUnsafeBytes(of: wallMillis.littleEndian) { unsafe Array($0) }
                append("wallTime", type: 0x09, value, to: &event)
            }
            if let transaction {
                event.append("txnNumber", int64: transaction.number)
                // A UUID, as binary of subtype 4.
                let id = [16, 0, 0, 0, 4, transaction.session] + Array(1...15)
                event.appendDocument("lsid") { append("id", type: 0x05, id, to: &$0) }
            }
            if let document {
                event.append("fullDocument", document: document)
            } else if hasNullDocument {
                append("fullDocument", type: 0x0A, [], to: &event)
            }
            if let documentBefore {
                event.append("fullDocumentBeforeChange", document: documentBefore)
            }
            event.appendDocument("ns") { append(collection, to: &$0) }
            if let renamedTo { event.appendDocument("to") { append(renamedTo, to: &$0) } }
            if let key { event.append("documentKey", document: key) }
            if let changes { event.append("updateDescription", document: changes) }
        }
    }

    private func append(_ collection: String?, to namespace: inout BSONWriter) {
        namespace.append("db", database)
        if let collection { namespace.append("coll", collection) }
    }

    private func append(
        _ name: String, type: UInt8, _ value: [UInt8], to document: inout BSONWriter
    ) {
        unsafe value.withUnsafeBytes { unsafe document.append(name, type: type, value: $0) }
    }

    /// One of everything an event can have.
    static let full = SampleEvent(
        kind: "update", renamedTo: "other",
        documentBefore: document { $0.append("_id", int32: 1) },
        changes: document { $0.appendDocument("updatedFields") { $0.append("a.0", "x") } },
        transaction: (7, 3))

    /// The event with a few bytes changed, or cut short.
    func mutated(_ random: inout SeededGenerator) -> [UInt8] {
        var bytes = self.bytes
        for _ in 0...random.below(4) {
            let value = [0, 1, 2, 3, 4, 5, 0x7F, 0x80, 0xFF, UInt8(random.below(256))]
            bytes[random.below(bytes.count)] = value[random.below(value.count)]
        }
        if random.below(8) == 0 { bytes.removeLast(random.below(bytes.count)) }
        return bytes
    }
}

extension [UInt8] {
    /// Lends the event these bytes are, if they are one, in a block of memory that ends with them,
    /// so that a sanitizer sees every byte read behind them.
    func withEvent<R>(_ body: (RawEvent?) throws -> R) rethrows -> R {
        let block = UnsafeMutableRawBufferPointer.allocate(byteCount: count, alignment: 1)
        defer { unsafe block.deallocate() }
        unsafe block.copyBytes(from: self)
        return try body(unsafe RawEvent(UnsafeRawBufferPointer(block)))
    }
}
