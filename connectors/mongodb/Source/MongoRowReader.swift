import Synchronization
package import WeirCore
import WeirMongoDBClient
import WeirValues

/// Reads documents as they are now, on a connection of its own. At the primary: elsewhere they
/// might be older than what the stream has sent.
package actor MongoRowReader: RowReader {
    private let config: MongoSourceConfig
    private let context: ConnectorContext
    private let executor: any SerialExecutor
    private var connection: MongoConnection?
    private var isSettled = false
    private var scan = Scan.none

    private enum Scan {
        case none
        /// The documents that came last, and where there are more.
        case going(CursorReply, TableSchema)
        case ended
    }

    package nonisolated var unownedExecutor: UnownedSerialExecutor {
        unsafe executor.asUnownedSerialExecutor()
    }

    /// Of scans, far above those that streams count from 1: sinks keep projections by version.
    private static let nextVersion = Atomic<UInt32>(1 << 31)
    /// Documents of one answer.
    private static let pageEvents: Int32 = 1000
    private static let settleMillis: Int32 = 10_000

    init(_ config: MongoSourceConfig, _ context: ConnectorContext) {
        self.config = config
        self.context = context
        executor = context.executor
    }

    package func close() {
        endScan()
        connection = nil
    }

    private func endScan() {
        if case .going(let reply, let schema) = scan {
            connection?.end(reply, database: schema.schema)
        }
        scan = .none
    }

    /// Waits, once per connection, until a majority has what its server has. One that has just
    /// become primary has all that the stream has sent, and may not know yet that a majority has it
    /// too: what it would show might be older. Not for ever, since a majority may be away.
    private func settle(_ table: TableName) throws(MongoFailure) {
        let connection = try connected()
        guard !isSettled, let time = try connection.times().own else { return }
        var command = BSONWriter()
        command.append("find", table.name)
        command.append("limit", int32: 1)
        command.append("singleBatch", true)
        command.appendDocument("projection") { $0.append("_id", int32: 1) }
        command.append("maxTimeMS", int32: Self.settleMillis)
        command.appendMajority(after: time)
        do throws(MongoFailure) {
            _ = try connection.run(command.bytes, database: table.schema)
        } catch {
            // MaxTimeMSExpired.
            guard error.code == 50 else { throw error }
        }
        isSettled = true
    }

    private var failures: MongoFailureMap {
        MongoFailureMap(
            place: config.url.place, pipeline: context.pipeline, scope: config.scope,
            user: config.url.user, userDatabase: config.url.userDatabase)
    }

    package func rows(
        of schema: TableSchema, keys: [[[UInt8]]], showing transactions: [UInt32]
    ) async throws(WeirError) -> EventBatch {
        var command = BSONWriter()
        command.append("find", schema.name)
        command.appendDocument("filter") { $0.append("$or", array: keys.compactMap(\.first)) }
        command.appendMajority()
        var rows = RowPage(schema)
        do throws(MongoFailure) {
            try settle(TableName(schema: schema.schema, name: schema.name))
            unsafe try connected().visit(command.bytes, database: schema.schema) {
                unsafe rows.add($0)
            }
        } catch {
            // A refusal leaves the connection, and the scan on it, as they were; but for that of a
            // server which is no primary any more.
            if error.kind != .command || MongoFailureMap.isResumable(error) { drop() }
            throw failures.error(
                error, doing: "read documents of \"\(schema.schema).\(schema.name)\"")
        }
        return rows.seal()
    }

    package func scan(
        _ table: TableName, showing transactions: [UInt32]
    ) async throws(WeirError) {
        endScan()
        var command = BSONWriter()
        command.append("find", table.name)
        // In the order of an index, so that a document that moves is not met twice or never.
        command.appendDocument("hint") { $0.append("_id", int32: 1) }
        command.append("batchSize", int32: Self.pageEvents)
        command.appendMajority()
        do throws(MongoFailure) { try settle(table) } catch {
            drop()
            throw failures.error(error, doing: "read \"\(table)\"")
        }
        let schema = TableSchema.collection(
            version: Self.nextVersion.add(1, ordering: .relaxed).oldValue,
            database: table.schema, name: table.name)
        scan = .going(try page(command, of: schema), schema)
    }

    package func next() async throws(WeirError) -> EventBatch? {
        guard case .going(var reply, let schema) = scan else {
            if case .ended = scan { return nil }
            throw WeirError(.mongoConnectionFailed, .transient, "no scan is going on")
        }
        var rows = RowPage(schema)
        while let document = unsafe reply.peek() {
            unsafe rows.add(document)
            reply.advance()
        }
        if reply.isMalformed { throw .badAnswer("documents that are no BSON") }
        if reply.id == 0 {
            scan = .ended
            return rows.isEmpty ? nil : rows.seal()
        }
        scan = .going(try page(reply.more(batchSize: Self.pageEvents), of: schema), schema)
        return rows.seal()
    }

    private func page(
        _ command: BSONWriter, of schema: TableSchema
    ) throws(WeirError) -> CursorReply {
        let reply: MongoReply
        do throws(MongoFailure) {
            reply = try connected().run(command.bytes, database: schema.schema)
        } catch {
            drop()
            throw failures.error(error, doing: "read \"\(schema.schema).\(schema.name)\"")
        }
        return try CursorReply(reply)
    }

    /// Forgets a connection that failed; its server is not told.
    private func drop() {
        scan = .none
        connection = nil
    }

    private func connected() throws(MongoFailure) -> MongoConnection {
        if let connection { return connection }
        let made = try MongoConnection(
            config.url, name: "weir \(context.pipeline) rows", atPrimary: true)
        connection = made
        isSettled = false
        return made
    }
}

/// Documents as `read` events.
private struct RowPage {
    private var documents: [UInt8] = []
    private var ranges: [(document: Range<Int>, key: [UInt8])] = []
    private let schema: TableSchema

    init(_ schema: TableSchema) { self.schema = schema }

    var isEmpty: Bool { ranges.isEmpty }

    mutating func add(_ document: UnsafeRawBufferPointer) {
        let key = unsafe BSONPath.find([Array("_id".utf8)], in: document).map { id in
            BSONWriter.document { unsafe $0.append("_id", type: id.type.rawValue, value: id.value) }
        }
        let start = documents.count
        unsafe documents.append(contentsOf: document)
        ranges.append((start..<documents.count, key ?? BSONWriter().bytes))
    }

    consuming func seal() -> EventBatch {
        var batch = BatchBuilder(
            reusing: EventBatch(), eventLimit: ranges.count, byteLimit: documents.count)
        let table = batch.table(schema)
        _ = unsafe documents.withUnsafeBytes { unsafe batch.append($0) }
        for (range, key) in ranges {
            let start = unsafe key.withUnsafeBytes { unsafe batch.append($0) }
            let first = batch.valueCount
            batch.append(Value(form: .bson, bytes: Slice(start: start, count: key.count)))
            batch.append(
                Value(form: .bson, bytes: Slice(start: range.lowerBound, count: range.count)))
            batch.append(
                Event(
                    operation: .read, table: table, commit: 0, ordinal: 0, transaction: 0,
                    change: 0, commitMicros: Event.noTime,
                    key: Slice(start: first, count: 1), after: Slice(start: first + 1, count: 1)))
        }
        return batch.seal(resume: nil, end: nil)
    }
}
