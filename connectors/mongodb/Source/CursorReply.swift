import WeirCore
import WeirMongoDBClient
import WeirValues

/// What the server answered to `aggregate`, `find` or `getMore`: some documents and how to ask for
/// more. Keeps the answer as it came.
@safe
struct CursorReply {
    /// Owns the bytes that `documents` walks.
    private let reply: MongoReply
    /// 0 when there is no more.
    private(set) var id: Int64 = 0
    /// What `getMore` calls the collection: `$cmd.aggregate` for a whole database's stream.
    private(set) var collection = ""
    /// Of a change stream: everything up to here has been sent (CORRECTNESS 52).
    private(set) var postBatch: ResumeToken?
    private(set) var byteCount = 0
    private var documents: BSONCursor?
    /// The next document, if there is one; looked at and not yet taken.
    private var isAhead = false

    /// - Throws: `mongodb.protocol_error`.
    init(_ reply: MongoReply) throws(WeirError) {
        self.reply = reply
        // The bytes stay where they are as long as `reply` lives.
        let bytes = unsafe reply.withBytes { unsafe $0 }
        guard var root = unsafe BSONCursor(bytes) else { throw .badAnswer("no document") }
        while root.next() {
            guard root.isNamed("cursor"), root.type == .document,
                var cursor = unsafe BSONCursor(root.value)
            else { continue }
            while cursor.next() { try take(cursor) }
        }
        guard documents != nil else { throw .badAnswer("no cursor") }
    }

    private mutating func take(_ member: BSONCursor) throws(WeirError) {
        switch member.type {
        case .int64 where member.isNamed("id"):
            id = unsafe member.value.loadUnaligned(as: Int64.self)
        case .string where member.isNamed("ns"):
            let name = unsafe String(
                decoding: member.value.dropFirst(4).dropLast(1), as: UTF8.self)
            collection = name.split(separator: ".", maxSplits: 1).last.map(String.init) ?? ""
        case .array where member.isNamed("firstBatch") || member.isNamed("nextBatch"):
            documents = unsafe BSONCursor(member.value)
            byteCount = member.valueRange.count
        case .document where member.isNamed("postBatchResumeToken"):
            postBatch = unsafe ResumeToken(document: member.value)
        default: break
        }
    }

    /// The bytes of the next document, which stays the next; nil behind the last. Valid as long as
    /// the reply.
    mutating func peek() -> UnsafeRawBufferPointer? {
        if !isAhead {
            guard documents?.next() ?? false else { return nil }
            isAhead = true
        }
        return unsafe documents?.value
    }

    /// Goes behind the document that was looked at.
    mutating func advance() { isAhead = false }

    /// The documents were no BSON.
    var isMalformed: Bool { documents?.isMalformed ?? false }
}

extension ResumeToken {
    /// From the server's document; nil when it has no `_data` that is a text.
    init?(document: UnsafeRawBufferPointer) {
        guard var cursor = unsafe BSONCursor(document) else { return nil }
        var data: String?
        var typeBits: [UInt8] = []
        while cursor.next() {
            if cursor.isNamed("_data"), cursor.type == .string {
                data = unsafe String(
                    decoding: cursor.value.dropFirst(4).dropLast(1), as: UTF8.self)
            } else if cursor.isNamed("_typeBits"), cursor.type == .binary {
                typeBits = unsafe Array(cursor.value.dropFirst(5))
            }
        }
        guard let data else { return nil }
        self = .after(data: data, typeBits: typeBits)
    }

    /// The server's document again.
    static func document(data: String, typeBits: [UInt8]) -> [UInt8] {
        BSONWriter.document {
            $0.append("_data", data)
            if !typeBits.isEmpty { $0.append("_typeBits", binary: typeBits) }
        }
    }
}

extension CursorReply {
    /// The command that asks for what follows.
    func more(batchSize: Int32? = nil, within limit: Duration? = nil) -> BSONWriter {
        var command = BSONWriter()
        command.append("getMore", int64: id)
        command.append("collection", collection)
        if let batchSize { command.append("batchSize", int32: batchSize) }
        if let limit {
            command.append("maxTimeMS", int32: Int32(clamping: max(1, limit.milliseconds)))
        }
        return command
    }
}

extension MongoConnection {
    /// Runs a command that answers with a cursor, and lends each document.
    func visit(
        _ command: [UInt8], database: String, _ body: (UnsafeRawBufferPointer) -> Void
    ) throws(MongoFailure) {
        var reply = try run(command, database: database)
        while true {
            var page: CursorReply
            do { page = try CursorReply(reply) } catch {
                throw MongoFailure(.client, error.message)
            }
            while let document = unsafe page.peek() {
                unsafe body(document)
                page.advance()
            }
            if page.isMalformed { throw MongoFailure(.client, "documents that are no BSON") }
            if page.id == 0 { return }
            reply = try run(page.more().bytes, database: database)
        }
    }

    /// Ends the cursor at its server, which would keep it for ten minutes.
    func end(_ page: CursorReply, database: String) {
        guard page.id != 0 else { return }
        var command = BSONWriter()
        command.append("killCursors", page.collection)
        command.appendArray("cursors") { $0.append("0", int64: page.id) }
        _ = try? run(command.bytes, database: database)
    }
}

extension BSONWriter {
    /// Appends the read concern: what a majority has, which includes everything up to `time`.
    mutating func appendMajority(after time: UInt64? = nil) {
        appendDocument("readConcern") {
            $0.append("level", "majority")
            if let time { $0.append("afterClusterTime", timestamp: time) }
        }
    }
}

extension Duration {
    var milliseconds: Int {
        Int(components.seconds * 1000 + components.attoseconds / 1_000_000_000_000_000)
    }
}
