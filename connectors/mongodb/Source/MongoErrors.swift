package import WeirCore
import WeirMongoDBClient

extension ErrorCode {
    static let mongoConnectionFailed = ErrorCode(
        "mongodb.connection_failed",
        meaning: "Weir could not reach a server of the deployment, or the connection broke.",
        remedy: "Check hosts, port, replica set name and TLS in the url. Weir retries by itself.")
    static let mongoAnswerTimeout = ErrorCode(
        "mongodb.answer_timeout",
        meaning: "The server did not answer in time: a minute, or what socketTimeoutMS in the url "
            + "says. It may hang; or few of its changes are followed, and it was still looking "
            + "through its oplog for the next one.",
        remedy: "Weir asks again by itself, and waits four times as long after each time, up to "
            + "sixteen times.")
    static let mongoAuthentication = ErrorCode(
        "mongodb.authentication",
        meaning: "The server did not accept user and password.",
        remedy:
            "Check them and authSource in the url. Weir retries by itself, in case the password "
            + "is being changed.")
    static let mongoPermission = ErrorCode(
        "mongodb.permission",
        meaning: "The user may not read what the pipeline follows.",
        remedy: "Grant the role read on the database, or readAnyDatabase for a whole deployment.")
    static let notReplicaSet = ErrorCode(
        "mongodb.not_replica_set",
        meaning: "The server is no member of a replica set. Change streams read the oplog, which "
            + "only replica sets have; one member is enough.",
        remedy: "Start mongod with --replSet rs0 and run rs.initiate() once.")
    static let mongoServerVersion = ErrorCode(
        "mongodb.server_version",
        meaning: "The server is older than MongoDB 4.2.",
        remedy: "Upgrade the server.")
    static let mongoUnsupported = ErrorCode(
        "mongodb.unsupported",
        meaning: "The server does not know a part of change streams that Weir needs; servers that "
            + "only resemble MongoDB may lack it.",
        remedy: "Follow a MongoDB deployment.")
    static let notACollection = ErrorCode(
        "mongodb.not_a_collection",
        meaning: "A name in \"collections\" is a view, a time series, or one of the server's own "
            + "collections. MongoDB has no change streams of those.",
        remedy: "List the collection that the view reads, or take the name off.")
    static let collectionMissing = ErrorCode(
        "mongodb.collection_missing",
        meaning:
            "A name in \"collections\" is no collection yet, or one that the user may not see.",
        remedy:
            "Nothing, if it comes later: it is followed from its first document on. Else correct "
            + "\"collections\", or grant the user read on it.")
    static let noImages = ErrorCode(
        "mongodb.no_images",
        meaning:
            "The server keeps no documents as they were after a change (MongoDB 6.0 and newer do, "
            + "with feature compatibility version 6.0), so they are looked up later.",
        remedy: "Upgrade the server, or after an upgrade run db.adminCommand({ "
            + "setFeatureCompatibilityVersion: \"6.0\" }). Where late documents do no harm, nothing."
    )
    static let scopeChanged = ErrorCode(
        "mongodb.scope_changed",
        meaning:
            "Other collections are followed than before: documents and changes from before that, "
            + "of collections that are new here, are not delivered.",
        remedy:
            "Load what the new collections held before into the sinks, if they need it. It is said "
            + "once, at the first start after the change.")
    static let historyLost = ErrorCode(
        "mongodb.history_lost",
        meaning:
            "The oplog no longer holds what comes after the stored position: Weir was away for "
            + "longer than the oplog reaches back.",
        remedy: "weir position set PIPELINE now --yes goes on from now and declares the gap. Give "
            + "the oplog more room: replSetResizeOplog.")
    static let tokenUnfit = ErrorCode(
        "mongodb.token_unfit",
        meaning: "The server cannot go on at the stored position: it is damaged, or of another "
            + "deployment.",
        remedy: "weir position set PIPELINE now --yes goes on from now and declares the gap.")
    static let mongoIdentityChanged = ErrorCode(
        "mongodb.identity_changed",
        meaning: "The url leads to another replica set than the stored position belongs to.",
        remedy: "Correct the url; or, if the change is meant, weir position set PIPELINE now --yes."
    )
    static let mongoPositionAhead = ErrorCode(
        "mongodb.position_ahead",
        meaning:
            "The stored position is later than the deployment's own time: it was restored from "
            + "a backup. Waiting there would skip what is written until then.",
        remedy: "weir position set PIPELINE now --yes goes on from now and declares the gap.")
    static let collectionReplaced = ErrorCode(
        "mongodb.collection_replaced",
        meaning: "Another collection was renamed to one that is followed, by renameCollection or "
            + "$out. Its documents came without events, so sinks do not have them.",
        remedy: "weir position set PIPELINE with the position in the message goes on behind it; or "
            + "set \"on_rename\": \"continue\".")
    static let eventTooLarge = ErrorCode(
        "mongodb.event_too_large",
        meaning: "A change is larger than the 16 MB a server sends, even without its documents.",
        remedy: "weir position set PIPELINE with a later time goes on behind it and declares the "
            + "gap.")
    static let mongoProtocol = ErrorCode(
        "mongodb.protocol_error",
        meaning: "The server's answer was not understood.",
        remedy: "If it is no proxy's doing, report it. Weir connects again by itself.")
    static let mongoCommandFailed = ErrorCode(
        "mongodb.command_failed",
        meaning: "MongoDB refused a command for a reason Weir has no rule for.",
        remedy: "Read the server's message. Weir retries by itself.")

    package static let mongoSource: [ErrorCode] = [
        mongoConnectionFailed, mongoAnswerTimeout, mongoAuthentication, mongoPermission,
        notReplicaSet,
        mongoServerVersion, mongoUnsupported, notACollection, collectionMissing, noImages,
        scopeChanged, historyLost, tokenUnfit,
        mongoIdentityChanged, mongoPositionAhead, collectionReplaced, eventTooLarge,
        mongoProtocol, mongoCommandFailed,
    ]
}

extension WeirError {
    static func badAnswer(_ what: String) -> WeirError {
        WeirError(.mongoProtocol, .transient, "the server's answer has \(what)")
    }
}

/// Turns a server's error into what the engine acts on (CORRECTNESS 54). Pure.
struct MongoFailureMap {
    /// The seeds.
    let place: String
    let pipeline: String
    let scope: Scope
    /// Who logs in, and where it is known.
    var user: String?
    var userDatabase = "admin"

    /// Whether opening the stream again at the same place mends it; once, before the engine's own
    /// back-off.
    static func isResumable(_ failure: MongoFailure) -> Bool {
        switch failure.kind {
        case .network: return true
        // More patience is needed, which a new connection has.
        case .timeout, .authentication, .client, .interrupted: return false
        case .command:
            if failure.has(MongoFailure.notResumable) { return false }
            // Servers since 4.4 say so themselves; a killed cursor is a cursor to open again.
            return failure.has(MongoFailure.resumable) || failure.code == 43
                || olderResumable.contains(failure.code)
        }
    }

    /// Of the change-streams specification, for servers without the label.
    private static let olderResumable: Set<Int> = [
        6, 7, 63, 89, 91, 133, 150, 189, 234, 262, 9001, 10107, 11600, 11602, 13388, 13435, 13436,
    ]

    /// The event was too large for an answer; without documents it may fit (CORRECTNESS 71).
    static func isTooLarge(_ failure: MongoFailure) -> Bool { failure.code == 10334 }

    /// The server does not know the options that ask for images (BadValue).
    static func refusesImages(_ failure: MongoFailure) -> Bool {
        failure.code == 2 && failure.message.contains("whenAvailable")
    }

    /// - Parameter failure: of a command that opens or reads a change stream: only there an error
    ///   may mean that the position is lost.
    func error(ofStream failure: MongoFailure, doing work: String) -> WeirError {
        guard failure.kind == .command else { return error(failure, doing: work) }
        switch failure.code {
        case 286, 136:
            return make(.historyLost, .positionLost, failure, work, hint: restartHint)
        // 280 and 260: not in this stream. The others: no token at all, found while its bytes were
        // taken apart, as a server of 6.0 says it.
        case 280, 260, 9, 14, 15, 207, 40644...40650, 50780...50880, 51055...51070:
            return make(.tokenUnfit, .positionLost, failure, work, hint: restartHint)
        default: break
        }
        let error = error(failure, doing: work)
        guard error.code == .mongoCommandFailed, failure.has(MongoFailure.notResumable) else {
            return error
        }
        return make(.tokenUnfit, .positionLost, failure, work, hint: restartHint)
    }

    func error(_ failure: MongoFailure, doing work: String) -> WeirError {
        switch failure.kind {
        case .network:
            return make(
                .mongoConnectionFailed, .transient, failure, work, hint: connectHint(failure))
        case .timeout:
            return make(
                .mongoAnswerTimeout, .transient, failure, work,
                hint: ErrorCode.mongoAnswerTimeout.remedy)
        case .authentication:
            return make(
                .mongoAuthentication, .transient, failure, work,
                hint: ErrorCode.mongoAuthentication.remedy)
        case .client: return make(.mongoCommandFailed, .transient, failure, work)
        case .interrupted: return make(.cancelled, .transient, failure, work)
        case .command: break
        }
        switch failure.code {
        case 10334: return make(.eventTooLarge, .blocked, failure, work)
        case 13:
            return make(.mongoPermission, .blocked, failure, work, hint: permissionHint)
        case 18, 11, 31: return make(.mongoAuthentication, .transient, failure, work)
        case 73:
            return make(
                .notACollection, .blocked, failure, work, hint: ErrorCode.notACollection.remedy)
        case 40573, 76:
            return make(
                .notReplicaSet, .blocked, failure, work, hint: ErrorCode.notReplicaSet.remedy)
        case 40324, 59, 303, 115: return make(.mongoUnsupported, .blocked, failure, work)
        default: return make(.mongoCommandFailed, .transient, failure, work)
        }
    }

    var restartHint: String {
        "Go on from now and declare the gap: weir position set \(pipeline) now --yes"
    }

    private var permissionHint: String {
        let (role, database) = scope.database.map { ("read", $0) } ?? ("readAnyDatabase", "admin")
        let grant =
            "db.getSiblingDB(\(Self.quoted(userDatabase))).grantRolesToUser("
            + "\(Self.quoted(user ?? "USER")), [{ role: \"\(role)\", db: \(Self.quoted(database)) }])"
        let why =
            scope.database == nil
            ? "Several databases are followed by one stream of the whole deployment."
            : "A role of your own needs find and changeStream on "
                + "\(scope.collection == nil ? "all of it" : scope.name)."
        return "In mongosh, as an administrator: \(grant)\n\(why)"
    }

    /// As a string of JavaScript.
    private static func quoted(_ text: String) -> String {
        "\"" + text.replacing("\\", with: "\\\\").replacing("\"", with: "\\\"") + "\""
    }

    private func connectHint(_ failure: MongoFailure) -> String? {
        let message = failure.message
        if message.contains("TLS") || message.contains("certificate") || message.contains("SSL") {
            return "Check tls, tlsCAFile and the host name in the connection's url."
        }
        if message.contains("No suitable servers") {
            return "Check hosts, replicaSet, tls and the files it names in the connection's url; a "
                + "set without a primary is waited for."
        }
        return nil
    }

    private func make(
        _ code: ErrorCode, _ disposition: Disposition, _ failure: MongoFailure, _ work: String,
        hint: String? = nil
    ) -> WeirError {
        WeirError(
            code, disposition, "could not \(work) at \(place): \(failure.message)",
            detail: failure.code == 0 ? nil : "The server's code is \(failure.code).", hint: hint)
    }
}
