import CLibMongoC
import Foundation

/// One BSON document that the client library can read.
@safe
final class BSONDocument {
    let pointer: OpaquePointer

    /// Takes Extended JSON, canonical or relaxed.
    init(json: String) throws {
        var problem = bson_error_t()
        var text = json
        let made = text.withUTF8 { bytes in
            unsafe bson_new_from_json(bytes.baseAddress, bytes.count, &problem)
        }
        guard let made = unsafe made else {
            throw TestingError("not Extended JSON: \(problem.text): \(json)")
        }
        unsafe pointer = made
    }

    /// Takes any bytes whose length is right, also those that no valid document has.
    init(bytes: [UInt8]) throws {
        let made = unsafe bytes.withUnsafeBufferPointer { bytes in
            unsafe bson_new_from_data(bytes.baseAddress, bytes.count)
        }
        guard let made = unsafe made else {
            throw TestingError("\(bytes.count) bytes are no BSON document")
        }
        unsafe pointer = made
    }

    deinit { unsafe bson_destroy(pointer) }
}

/// A blocking client with at most one transaction. Use it on one thread at a time.
@safe
final class MongoClient {
    private let client: OpaquePointer
    /// Of the open transaction.
    private var session: OpaquePointer?

    /// Once per process. The library's own log would go to standard error.
    private static let library: Void = {
        mongoc_init()
        mongoc_log_set_handler(nil, nil)
    }()

    /// A step-down is waited out unless the URL says otherwise.
    private static let defaults: [(name: String, value: Int32)] = [
        ("serverselectiontimeoutms", 20_000), ("sockettimeoutms", 60_000),
    ]

    /// Connects when it is first asked something.
    init(_ url: String) throws {
        Self.library
        var problem = bson_error_t()
        guard let uri = unsafe mongoc_uri_new_with_error(url, &problem) else {
            throw MongoShell.Failure(problem)
        }
        defer { unsafe mongoc_uri_destroy(uri) }
        for (name, value) in Self.defaults where unsafe !mongoc_uri_has_option(uri, name) {
            _ = unsafe mongoc_uri_set_option_as_int32(uri, name, value)
        }
        let tryOnce = "serverselectiontryonce"
        if unsafe !mongoc_uri_has_option(uri, tryOnce) {
            _ = unsafe mongoc_uri_set_option_as_bool(uri, tryOnce, false)
        }
        guard let client = unsafe mongoc_client_new_from_uri_with_error(uri, &problem) else {
            throw MongoShell.Failure(problem)
        }
        unsafe mongoc_client_set_error_api(client, MONGOC_ERROR_API_VERSION_2)
        unsafe self.client = client
    }

    deinit {
        // The server is told, and a suspended one does not answer: nobody waits for that.
        nonisolated(unsafe) let (client, session) = unsafe (client, session)
        Thread.detachNewThread {
            if let session = unsafe session { unsafe mongoc_client_session_destroy(session) }
            unsafe mongoc_client_destroy(client)
        }
    }

    func run(_ command: BSONDocument, database: String) throws -> String {
        let options = try self.options("{}")
        let reply = Reply()
        var problem = bson_error_t()
        guard
            unsafe mongoc_client_command_with_opts(
                client, database, command.pointer, nil, options.pointer, reply.pointer, &problem)
        else { throw MongoShell.Failure(problem, reply.json) }
        guard let json = reply.json else {
            throw TestingError("the reply cannot be written as JSON")
        }
        return json
    }

    /// Sent as they are: the library checks nothing and adds an `_id` where there is none.
    func insert(_ documents: [BSONDocument], into collection: String) throws {
        var pointers = unsafe documents.map { unsafe $0.pointer as OpaquePointer? }
        try withExtendedLifetime(documents) {
            let asTheyAre = #"{"validate": false}"#
            _ = try unsafe write(collection, asTheyAre) { target, options, reply, problem in
                unsafe mongoc_collection_insert_many(
                    target, &pointers, documents.count, options, reply, &problem)
            }
        }
    }

    /// Returns the reply, with `matchedCount` and `modifiedCount`.
    func update(
        _ filter: BSONDocument, _ change: BSONDocument, in collection: String, upsert: Bool,
        kind: MongoShell.Update
    ) throws -> String {
        let function =
            switch kind {
            case .one: unsafe mongoc_collection_update_one
            case .many: unsafe mongoc_collection_update_many
            case .replacement: unsafe mongoc_collection_replace_one
            }
        let options = #"{"upsert": \#(upsert)}"#
        return try withExtendedLifetime((filter, change)) {
            try unsafe write(collection, options) { target, options, reply, problem in
                unsafe function(
                    target, filter.pointer, change.pointer, options, reply, &problem)
            }
        }
    }

    /// Returns the reply, with `deletedCount`.
    func delete(_ filter: BSONDocument, from collection: String, many: Bool) throws -> String {
        let function =
            many ? unsafe mongoc_collection_delete_many : unsafe mongoc_collection_delete_one
        return try withExtendedLifetime(filter) {
            try unsafe write(collection, "{}") { target, options, reply, problem in
                unsafe function(target, filter.pointer, options, reply, &problem)
            }
        }
    }

    /// Calls `body` with each document; the pointer lives as long as the call.
    func find(
        _ filter: BSONDocument, in collection: String, options: String,
        body: (OpaquePointer) throws -> Void
    ) throws {
        let options = try self.options(options)
        let target = try unsafe open(collection)
        defer { unsafe mongoc_collection_destroy(target) }
        let cursor = unsafe mongoc_collection_find_with_opts(
            target, filter.pointer, options.pointer, nil)
        defer { unsafe mongoc_cursor_destroy(cursor) }
        var document: OpaquePointer?
        while unsafe mongoc_cursor_next(cursor, &document) {
            if let document = unsafe document { try unsafe body(document) }
        }
        var problem = bson_error_t()
        var reply: OpaquePointer?
        if unsafe mongoc_cursor_error_document(cursor, &problem, &reply) {
            throw MongoShell.Failure(problem, unsafe reply.flatMap { unsafe extendedJSON($0) })
        }
    }

    func count(_ filter: BSONDocument, in collection: String) throws -> Int {
        let options = try self.options("{}")
        let target = try unsafe open(collection)
        defer { unsafe mongoc_collection_destroy(target) }
        let reply = Reply()
        var problem = bson_error_t()
        let count = unsafe mongoc_collection_count_documents(
            target, filter.pointer, options.pointer, nil, reply.pointer, &problem)
        guard count >= 0 else { throw MongoShell.Failure(problem, reply.json) }
        return Int(count)
    }

    func begin() throws {
        guard unsafe session == nil else { throw TestingError("a transaction is open") }
        var problem = bson_error_t()
        guard let session = unsafe mongoc_client_start_session(client, nil, &problem) else {
            throw MongoShell.Failure(problem)
        }
        guard unsafe mongoc_client_session_start_transaction(session, nil, &problem) else {
            unsafe mongoc_client_session_destroy(session)
            throw MongoShell.Failure(problem)
        }
        unsafe self.session = session
    }

    func commit() throws {
        let session = try unsafe endTransaction()
        defer { unsafe mongoc_client_session_destroy(session) }
        let reply = Reply()
        var problem = bson_error_t()
        guard
            unsafe mongoc_client_session_commit_transaction(session, reply.pointer, &problem)
        else { throw MongoShell.Failure(problem, reply.json) }
    }

    func abort() throws {
        let session = try unsafe endTransaction()
        defer { unsafe mongoc_client_session_destroy(session) }
        var problem = bson_error_t()
        guard unsafe mongoc_client_session_abort_transaction(session, &problem) else {
            throw MongoShell.Failure(problem)
        }
    }

    /// The caller owns the session.
    private func endTransaction() throws -> OpaquePointer {
        guard let session = unsafe session else { throw TestingError("no transaction is open") }
        unsafe self.session = nil
        return unsafe session
    }

    /// Runs one write of the library and returns the reply.
    private func write(
        _ collection: String, _ options: String,
        _ operation: (OpaquePointer, OpaquePointer, OpaquePointer, inout bson_error_t) -> Bool
    ) throws -> String {
        let options = try self.options(options)
        let target = try unsafe open(collection)
        defer { unsafe mongoc_collection_destroy(target) }
        let reply = Reply()
        var problem = bson_error_t()
        guard unsafe operation(target, options.pointer, reply.pointer, &problem) else {
            throw MongoShell.Failure(problem, reply.json)
        }
        return reply.json ?? "{}"
    }

    /// Options of a call, with the transaction if one is open.
    private func options(_ json: String) throws -> BSONDocument {
        let options = try BSONDocument(json: json)
        guard let session = unsafe session else { return options }
        var problem = bson_error_t()
        guard unsafe mongoc_client_session_append(session, options.pointer, &problem) else {
            throw MongoShell.Failure(problem)
        }
        return options
    }

    /// Takes `database.collection`. The caller destroys what it gets.
    private func open(_ collection: String) throws -> OpaquePointer {
        let parts = collection.split(separator: ".", maxSplits: 1)
        guard parts.count == 2,
            let target = unsafe mongoc_client_get_collection(
                client, String(parts[0]), String(parts[1]))
        else { throw TestingError("\"\(collection)\" is not database.collection") }
        return unsafe target
    }
}

/// The document a reply is written to. Owns its bytes.
@safe
private final class Reply {
    let pointer = unsafe weir_reply_new()

    deinit { unsafe weir_reply_free(pointer) }

    /// Canonical; nil when a text in it is not UTF-8.
    var json: String? { unsafe extendedJSON(pointer) }
}

/// Canonical Extended JSON; nil when a text in the document is not UTF-8.
func extendedJSON(_ document: OpaquePointer) -> String? {
    guard let text = unsafe bson_as_canonical_extended_json(document, nil) else { return nil }
    defer { unsafe bson_free(text) }
    return unsafe String(cString: text)
}

/// A copy of the document as it stands.
func bytes(of document: OpaquePointer) -> [UInt8] {
    unsafe Array(
        UnsafeBufferPointer(start: bson_get_data(document), count: weir_bson_length(document)))
}

extension bson_error_t {
    fileprivate var text: String {
        unsafe withUnsafeBytes(of: message) { bytes in
            unsafe String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
        }
    }
}

extension MongoShell.Failure {
    /// - Parameter reply: the server's, as JSON, if there is one.
    fileprivate init(_ problem: bson_error_t, _ reply: String? = nil) {
        struct Labels: Decodable { var errorLabels: [String]? }
        let labels = reply.flatMap {
            try? JSONDecoder().decode(Labels.self, from: Data($0.utf8)).errorLabels
        }
        let domain = mongoc_error_domain_t(problem.domain)
        self.init(
            code: Int(problem.code),
            isFromServer: [MONGOC_ERROR_SERVER, MONGOC_ERROR_WRITE_CONCERN].contains(domain),
            labels: labels ?? [], message: problem.text)
    }
}
