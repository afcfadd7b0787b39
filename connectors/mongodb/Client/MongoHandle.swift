import CLibMongoC

/// libmongoc's client and session of one connection. Every call blocks; one thread at a time may
/// use it.
@safe
final class MongoHandle {
    private let client: OpaquePointer
    private var session: OpaquePointer?
    private var server: UInt32 = 0
    /// How long the server may take to answer; nil for ever.
    private let answerLimit: Duration?

    /// How long a search for a server, a new connection and an answer may take.
    private static let selectionMillis: Int32 = 5000
    private static let connectMillis: Int32 = 5000
    private static let socketMillis: Int32 = 60000

    /// Connects when it is first asked something.
    ///
    /// - Parameters:
    ///   - name: what the server's log and `currentOp` call us.
    ///   - patience: how many times longer than otherwise an answer may take.
    init(
        _ url: MongoURL, name: String, atPrimary: Bool, patience: Int
    ) throws(MongoFailure) {
        _ = MongoURL.library
        var problem = bson_error_t()
        guard let uri = unsafe mongoc_uri_new_with_error(url.text, &problem) else {
            throw MongoFailure(.client, "the url is no MongoDB URL")
        }
        defer { unsafe mongoc_uri_destroy(uri) }
        for (option, millis) in [
            ("serverselectiontimeoutms", Self.selectionMillis),
            ("connecttimeoutms", Self.connectMillis), ("sockettimeoutms", Self.socketMillis),
        ] where unsafe !mongoc_uri_has_option(uri, option) {
            _ = unsafe mongoc_uri_set_option_as_int32(uri, option, millis)
        }
        answerLimit = unsafe Self.limitAnswers(uri, patience)
        guard let client = unsafe mongoc_client_new_from_uri_with_error(uri, &problem) else {
            throw MongoFailure(.client, problem.text)
        }
        if atPrimary {
            let primary = unsafe mongoc_read_prefs_new(MONGOC_READ_PRIMARY)
            defer { unsafe mongoc_read_prefs_destroy(primary) }
            unsafe mongoc_client_set_read_prefs(client, primary)
        }
        unsafe mongoc_client_set_error_api(client, MONGOC_ERROR_API_VERSION_2)
        _ = unsafe mongoc_client_set_appname(client, String(name.prefix(127)))
        unsafe self.client = client
        PageMemory.addUser()
    }

    private static func limitAnswers(_ uri: OpaquePointer, _ patience: Int) -> Duration? {
        let option = "sockettimeoutms"
        let millis = unsafe mongoc_uri_get_option_as_int32(uri, option, socketMillis)
        guard millis > 0 else { return nil }
        let limit = Int32(clamping: Int(millis) * patience)
        _ = unsafe mongoc_uri_set_option_as_int32(uri, option, limit)
        return .milliseconds(Int(limit))
    }

    deinit {
        PageMemory.removeUser()
        // The server is told of the end. One that hangs does not answer, and nobody waits for that.
        let remains = unsafe Remains(client: client, session: session)
        if !runDetached(remains.free) { remains.free() }
    }

    /// What is left of a connection when nobody uses it any more.
    @safe
    private final class Remains {
        private let client: OpaquePointer
        private let session: OpaquePointer?

        init(client: OpaquePointer, session: OpaquePointer?) {
            unsafe self.client = client
            unsafe self.session = session
        }

        func free() {
            if let session = unsafe session { unsafe mongoc_client_session_destroy(session) }
            unsafe mongoc_client_destroy(client)
        }
    }

    /// Chooses a server by the URL's read preference, and begins a session there.
    func choose() throws(MongoFailure) {
        endSession()
        var problem = bson_error_t()
        guard
            let description = unsafe mongoc_client_select_server(
                client, false, mongoc_client_get_read_prefs(client), &problem)
        else { throw MongoFailure(problem) }
        server = unsafe mongoc_server_description_id(description)
        unsafe mongoc_server_description_destroy(description)
        let options = unsafe mongoc_session_opts_new()
        defer { unsafe mongoc_session_opts_destroy(options) }
        // Nothing is written in it, and reads ask for a majority by themselves.
        unsafe mongoc_session_opts_set_causal_consistency(options, false)
        guard let session = unsafe mongoc_client_start_session(client, options, &problem) else {
            throw MongoFailure(problem)
        }
        unsafe self.session = session
    }

    private func endSession() {
        if let session = unsafe session { unsafe mongoc_client_session_destroy(session) }
        unsafe session = nil
    }

    /// Runs one command, at the chosen server if there is one.
    ///
    /// - Parameter command: a BSON document (`BSONWriter`).
    func run(
        _ command: [UInt8], database: String
    ) throws(MongoFailure) -> MongoReply {
        if unsafe session == nil { try choose() }
        let document = unsafe command.withUnsafeBytes { bytes in
            unsafe bson_new_from_data(
                bytes.baseAddress?.assumingMemoryBound(to: UInt8.self), bytes.count)
        }
        guard let document = unsafe document else {
            throw MongoFailure(.client, "the command is no BSON")
        }
        defer { unsafe bson_destroy(document) }
        let options = unsafe bson_new()
        defer { unsafe bson_destroy(options) }
        var problem = bson_error_t()
        guard unsafe bson_append_int32(options, "serverId", -1, Int32(bitPattern: server)),
            unsafe mongoc_client_session_append(session, options, &problem)
        else { throw MongoFailure(problem) }
        let reply = MongoReply()
        let start = ContinuousClock.now
        let isDone = unsafe mongoc_client_command_with_opts(
            client, database, document, mongoc_client_get_read_prefs(client), options,
            reply.pointer, &problem)
        guard isDone else {
            var failure = MongoFailure(problem, reply)
            // The library's words are the same for a connection that broke, and its clock has whole
            // milliseconds.
            if failure.kind == .network, let answerLimit,
                ContinuousClock.now - start >= answerLimit - .milliseconds(50)
            {
                failure = failure.with(.timeout)
            }
            // The next command looks for a server anew.
            if failure.kind != .command { endSession() }
            throw failure
        }
        return reply
    }
}
