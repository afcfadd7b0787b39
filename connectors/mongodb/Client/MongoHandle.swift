import CLibMongoC
import CMessageGuard

/// libmongoc's client and session of one connection. Every call blocks; one thread at a time may
/// use it.
@safe
final class MongoHandle {
    private let client: OpaquePointer
    private var session: OpaquePointer?
    private var server: UInt32 = 0
    /// How long the server may take to answer; nil for ever.
    private let answerLimit: Duration?
    /// Looks at messages before libmongoc does; nil with TLS, where the server is known.
    private let messageGuard: UnsafeMutablePointer<weir_message_guard>?

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
        // What is not proven to come from the server is not unpacked.
        if !url.isTLS { _ = unsafe mongoc_uri_set_compressors(uri, "") }
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
        unsafe messageGuard = url.isTLS ? nil : weir_guard_messages(client)
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
        let remains = unsafe Remains(
            client: client, session: session, messageGuard: messageGuard)
        if !runDetached(remains.free) { remains.free() }
    }

    /// What is left of a connection when nobody uses it any more.
    @safe
    private final class Remains {
        private let client: OpaquePointer
        private let session: OpaquePointer?
        private let messageGuard: UnsafeMutablePointer<weir_message_guard>?

        init(
            client: OpaquePointer, session: OpaquePointer?,
            messageGuard: UnsafeMutablePointer<weir_message_guard>?
        ) {
            unsafe self.client = client
            unsafe self.session = session
            unsafe self.messageGuard = messageGuard
        }

        func free() {
            if let session = unsafe session { unsafe mongoc_client_session_destroy(session) }
            unsafe mongoc_client_destroy(client)
            unsafe weir_message_guard_free(messageGuard)
        }
    }

    /// Chooses a server by the URL's read preference, and begins a session there.
    func choose() throws(MongoFailure) {
        endSession()
        var problem = bson_error_t()
        guard
            let description = unsafe mongoc_client_select_server(
                client, false, mongoc_client_get_read_prefs(client), &problem)
        else { throw failure(problem) }
        server = unsafe mongoc_server_description_id(description)
        unsafe mongoc_server_description_destroy(description)
        let options = unsafe mongoc_session_opts_new()
        defer { unsafe mongoc_session_opts_destroy(options) }
        // Nothing is written in it, and reads ask for a majority by themselves.
        unsafe mongoc_session_opts_set_causal_consistency(options, false)
        guard let session = unsafe mongoc_client_start_session(client, options, &problem) else {
            throw failure(problem)
        }
        unsafe self.session = session
    }

    /// The library knows only that a connection ended; why, the guard knows.
    private func failure(_ problem: bson_error_t, _ reply: MongoReply? = nil) -> MongoFailure {
        let failure = MongoFailure(problem, reply)
        guard let messageGuard = unsafe messageGuard,
            let reason = unsafe messageGuard.pointee.reason
        else { return failure }
        unsafe messageGuard.pointee.reason = nil
        guard failure.kind == .network else { return failure }
        return unsafe MongoFailure(
            .network, "what answers does not speak MongoDB's protocol: \(String(cString: reason))",
            labels: failure.labels)
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
        else { throw failure(problem) }
        let reply = MongoReply()
        let start = ContinuousClock.now
        let isDone = unsafe mongoc_client_command_with_opts(
            client, database, document, mongoc_client_get_read_prefs(client), options,
            reply.pointer, &problem)
        guard isDone else {
            var failure = self.failure(problem, reply)
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
