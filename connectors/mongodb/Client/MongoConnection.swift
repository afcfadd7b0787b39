import CLibMongoC
import WeirCore

/// A client of a deployment, with a session of its own. Every call blocks; use it on one thread.
///
/// Commands go to the server that was chosen last, until it fails or `choose` is called: a cursor
/// lives on one server. A command may run ahead, while the caller works on the answer before.
package final class MongoConnection {
    private let handle: MongoHandle
    private var ahead: AheadThread<MongoReply>?
    /// Runs what the caller waits for, if that may be interrupted: libmongoc itself cannot be.
    private var worker: AheadThread<MongoReply>?
    private let interruption: Interruption?

    /// Connects when it is first asked something.
    ///
    /// - Parameters:
    ///   - name: what the server's log and `currentOp` call us.
    ///   - atPrimary: read there, whatever the URL prefers.
    ///   - patience: how many times longer an answer may take than the URL's `socketTimeoutMS`, or
    ///     a minute.
    ///   - interruption: once it is set, the call under way fails within a moment, and so does
    ///     every later one; what the server was asked is left to a thread that ends with it.
    package init(
        _ url: MongoURL, name: String, atPrimary: Bool = false, patience: Int = 1,
        interruption: Interruption? = nil
    ) throws(MongoFailure) {
        self.interruption = interruption
        handle = try MongoHandle(url, name: name, atPrimary: atPrimary, patience: patience)
    }

    deinit {
        ahead?.stop()
        worker?.stop()
    }

    /// Chooses a server by the URL's read preference, and begins a session there. What ran ahead
    /// is waited for and forgotten.
    package func choose() throws(MongoFailure) {
        ahead?.cancel()
        try checkInterruption()
        try handle.choose()
    }

    /// Runs one command, at the chosen server if there is one, behind the one that runs ahead.
    ///
    /// - Parameter command: a BSON document (`BSONWriter`).
    package func run(
        _ command: [UInt8], database: String
    ) throws(MongoFailure) -> MongoReply {
        ahead?.wait()
        try checkInterruption()
        if worker == nil, interruption != nil { worker = makeThread() }
        guard let worker else { return try handle.run(command, database: database) }
        // No answer is that large: it runs once.
        worker.begin(AheadThread.Job(command: command, database: database, largeBytes: .max))
        guard let result = worker.take() else {
            throw MongoFailure(.client, "a command was not run")
        }
        return try result.get()
    }

    private func checkInterruption() throws(MongoFailure) {
        // A thread may still be using what libmongoc lets one use at a time.
        if interruption?.isSet == true { throw .interrupted }
    }

    /// Runs a command on another thread, again and again until an answer has fewer than
    /// `largeBytes`; `finish` takes each answer. A later call replaces the command, but begins
    /// nothing behind an answer that ended the repetition and waits to be taken. Where there is no
    /// thread, nothing runs ahead.
    package func begin(_ command: [UInt8], database: String, whileAnswersHave largeBytes: Int) {
        if ahead == nil { ahead = makeThread() }
        ahead?.begin(
            AheadThread.Job(command: command, database: database, largeBytes: largeBytes))
    }

    private func makeThread() -> AheadThread<MongoReply>? {
        AheadThread(interruption ?? Interruption()) { [handle] job in
            do throws(MongoFailure) {
                let reply = try handle.run(job.command, database: job.database)
                return AheadThread.Outcome(
                    result: .success(reply), isLarge: reply.byteCount >= job.largeBytes)
            } catch {
                return AheadThread.Outcome(result: .failure(error), isLarge: false)
            }
        }
    }

    /// Gives the memory of large answers back that was kept for the next ones, unless some
    /// connection still uses it.
    package func releaseMemory() { PageMemory.releaseIfUnused() }

    /// Waits for the next answer of what runs ahead; nil when nothing does.
    package func finish() throws(MongoFailure) -> MongoReply? {
        try ahead?.take()?.get()
    }
}

/// What the server answered. Owns its bytes.
@safe
package final class MongoReply {
    let pointer: OpaquePointer

    init() { unsafe pointer = weir_reply_new() }

    deinit { unsafe weir_reply_free(pointer) }

    /// Of the whole document.
    var byteCount: Int { unsafe weir_bson_length(pointer) }

    /// Lends the whole document.
    package func withBytes<R, Failure: Error>(
        _ body: (UnsafeRawBufferPointer) throws(Failure) -> R
    ) throws(Failure) -> R {
        try unsafe body(
            UnsafeRawBufferPointer(start: bson_get_data(pointer), count: byteCount))
    }

    fileprivate func has(_ label: String) -> Bool {
        unsafe mongoc_error_has_label(pointer, label)
    }
}

extension MongoFailure {
    /// The labels anyone here asks for.
    package static let resumable = "ResumableChangeStreamError"
    package static let notResumable = "NonResumableChangeStreamError"

    init(_ error: bson_error_t, _ reply: MongoReply? = nil) {
        let kind: Kind =
            switch mongoc_error_domain_t(error.domain) {
            case MONGOC_ERROR_SERVER, MONGOC_ERROR_WRITE_CONCERN: .command
            case MONGOC_ERROR_STREAM, MONGOC_ERROR_SERVER_SELECTION, MONGOC_ERROR_PROTOCOL:
                .network
            // What a search for a server met with, such as one that does not answer.
            case MONGOC_ERROR_CLIENT where error.code == MONGOC_ERROR_STREAM_CONNECT.rawValue:
                .network
            case MONGOC_ERROR_CLIENT where error.code == MONGOC_ERROR_CLIENT_AUTHENTICATE.rawValue:
                .authentication
            case MONGOC_ERROR_SCRAM, MONGOC_ERROR_SASL: .authentication
            default: .client
            }
        let labels = [Self.resumable, Self.notResumable].filter { reply?.has($0) ?? false }
        self.init(
            kind, code: kind == .command ? Int(error.code) : 0,
            error.text.isEmpty ? "connection lost" : error.text, labels: labels)
    }
}
