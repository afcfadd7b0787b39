package import WeirCore
import WeirMongoDBClient
import WeirValues

/// Follows a MongoDB deployment, a database or some collections through a change stream.
///
/// One connection: it streams, looks documents up at the same server, and asks for the time. There
/// is nothing to acknowledge: the oplog ends where it ends, and `status` shows how far that is.
package actor MongoSource: SourceConnector {
    package typealias Config = MongoSourceConfig
    package static let notation = ResumeToken.notation
    package static let sendsDocuments = true
    package static let hasManyReaders = true

    let config: MongoSourceConfig
    let context: ConnectorContext
    private let executor: any SerialExecutor

    package nonisolated var unownedExecutor: UnownedSerialExecutor {
        unsafe executor.asUnownedSerialExecutor()
    }

    private let interruption = Interruption()
    private var reader: StreamReader?
    private var nextSchemaVersion: UInt32 = 1
    private var patience = Patience()
    /// Of the last `open`.
    private var identity: SourceIdentity?
    /// Listed collections that did not exist at the last `open`, and of which nothing has come.
    var missing: Set<TableName> = []

    package init(_ config: MongoSourceConfig, _ context: ConnectorContext) throws(WeirError) {
        self.config = config
        self.context = context
        executor = context.executor
    }

    var failures: MongoFailureMap {
        MongoFailureMap(
            place: config.url.place, pipeline: context.pipeline, scope: config.scope,
            user: config.url.user, userDatabase: config.url.userDatabase)
    }

    /// Of the open stream.
    var connection: MongoConnection? { reader?.stream.connection }
    var isOpen: Bool { reader != nil }

    package func close() {
        guard let reader = reader.take() else { return }
        nextSchemaVersion = reader.nextSchemaVersion
        reader.stream.close()
    }

    /// There is nothing to tell the server: its oplog waits for nobody.
    package func acknowledge(_ durable: Position?) {}

    // MARK: Opening

    package func open(at stored: StoredPosition?) async throws(WeirError) -> SourceStart {
        close()
        patience = try await context.notes.get(Patience.key).flatMap { Patience($0) } ?? Patience()
        let connection = try connect(patience: patience.factor)
        let facts = try checkedFacts(connection)
        try checkCollections(connection)
        let identity = facts.identity(of: config.scope)
        self.identity = identity
        var start = try stored.map { (stored) throws(WeirError) in try checked(stored, facts) }
        let note = try await noted(facts, stored)
        var floor: Position?
        if let stored, let token = start {
            // CORRECTNESS 62: this stream may not show the event of the token.
            if note.mayBeAnothers(stored.position) {
                start = .at(clusterTime: token.clusterTime)
                floor = stored.position
            }
        }
        var opener = opener(connection, facts)
        let stream: ChangeStream
        do throws(WeirError) {
            stream = try opener.begin(at: start, .images, doing: "open the change stream")
        } catch {
            try await failed(error)
            throw error
        }
        let here = stream.here
        reader = StreamReader(
            opener, stream,
            decoder: EventDecoder(config.scope, firstSchemaVersion: nextSchemaVersion),
            behind: floor)
        raiseFindings(opener.facts, scope: stored?.identity["scope"], scope: identity["scope"])
        return SourceStart(
            identity: identity, position: stored?.position ?? here.position,
            keepalive: .seconds(1), server: facts.description)
    }

    private func failed(_ error: WeirError) async throws(WeirError) {
        guard error.code == .mongoAnswerTimeout else { return }
        patience.ranOut()
        try await context.notes.set(Patience.key, patience.text)
    }

    /// The note of the stream that is opened now, which is kept if it is news.
    private func noted(
        _ facts: ServerFacts, _ stored: StoredPosition?
    ) async throws(WeirError) -> StreamNote {
        let name = config.scope.name
        let last = try await streamNote()
        if let last, last.stream == name { return last }
        let note =
            if let stored {
                StreamNote(
                    stream: name, takingOverAt: facts.clusterTimeOrClock, stored.position,
                    from: last)
            } else {
                StreamNote(stream: name, othersEnd: nil)
            }
        try await context.notes.set(StreamNote.key, note.text)
        return note
    }

    func streamNote() async throws(WeirError) -> StreamNote? {
        try await context.notes.get(StreamNote.key).flatMap { StreamNote($0) }
    }

    func opener(_ connection: MongoConnection, _ facts: ServerFacts) -> StreamOpener {
        StreamOpener(
            connection: connection, facts: facts, config: config, failures: failures,
            comment: "weir \(context.pipeline)", log: context.log)
    }

    func connect(patience: Int = 1) throws(WeirError) -> MongoConnection {
        do throws(MongoFailure) {
            return try MongoConnection(
                config.url, name: "weir \(context.pipeline)", patience: patience,
                interruption: interruption)
        } catch {
            throw failures.error(error, doing: "connect")
        }
    }

    func checkedFacts(_ connection: MongoConnection) throws(WeirError) -> ServerFacts {
        let facts: ServerFacts
        do { facts = try ServerFacts(connection) } catch {
            throw failures.error(error, doing: "connect")
        }
        // CORRECTNESS 63.
        guard facts.isRouter || facts.replicaSet != nil else {
            throw WeirError(
                .notReplicaSet, .blocked,
                "\(config.url.place) is no member of a replica set",
                hint: ErrorCode.notReplicaSet.remedy)
        }
        guard facts.isSupported else {
            throw WeirError(
                .mongoServerVersion, .blocked,
                "\(config.url.place) is MongoDB \(facts.version); Weir needs 4.2 or newer",
                hint: ErrorCode.mongoServerVersion.remedy)
        }
        return facts
    }

    private func checkCollections(_ connection: MongoConnection) throws(WeirError) {
        guard case .collections(let names) = config.scope else { return }
        let kinds: [TableName: String]
        do throws(MongoFailure) { kinds = try connection.kinds(of: names) } catch {
            throw failures.error(error, doing: "look at the collections")
        }
        missing = Set(names.filter { kinds[$0] == nil })
        for name in names {
            guard let kind = kinds[name], kind != "collection" else { continue }
            throw WeirError(
                .notACollection, .blocked, "\"\(name)\" is no collection but a \(kind)",
                hint: ErrorCode.notACollection.remedy)
        }
    }

    /// The stored place, if this deployment can have it.
    private func checked(
        _ stored: StoredPosition, _ facts: ServerFacts
    ) throws(WeirError) -> ResumeToken {
        guard let token = ResumeToken(stored.position) else {
            throw WeirError(
                .tokenUnfit, .positionLost,
                "the stored position \"\(stored.position.text.prefix(160))\" is none of a change stream",
                hint: failures.restartHint)
        }
        let identity = facts.identity(of: config.scope)
        if let set = stored.identity["set"], set != identity["set"] {
            throw WeirError(
                .mongoIdentityChanged, .positionLost,
                "\(config.url.place) belongs to replica set \"\(identity["set"] ?? "")\", and the "
                    + "stored position to \"\(set)\"",
                hint: ErrorCode.mongoIdentityChanged.remedy(for: context.pipeline))
        }
        // The server would wait there without a word. A minute is for clocks that differ.
        let ahead = token.clusterTime.clusterSeconds - facts.clusterTime.clusterSeconds
        if facts.clusterTime != 0, ahead > 60 {
            throw WeirError(
                .mongoPositionAhead, .positionLost,
                "the stored position is \(ahead) s later than the deployment's own time",
                hint: failures.restartHint)
        }
        return token
    }

    // MARK: Reading

    package func read(
        into builder: consuming BatchBuilder, within limit: Duration
    ) async throws(WeirError) -> EventBatch {
        guard var reader = reader.take() else {
            throw WeirError(.mongoConnectionFailed, .transient, "the source is not open")
        }
        var batch = builder
        let isSplit: Bool
        do throws(WeirError) { isSplit = try reader.fill(&batch, within: limit) } catch {
            nextSchemaVersion = reader.nextSchemaVersion
            try await failed(error)
            // Its server would keep the cursor; one that cannot be reached cannot be told.
            let unreached: [ErrorCode] = [.mongoConnectionFailed, .mongoAnswerTimeout, .cancelled]
            if !unreached.contains(error.code) {
                reader.stream.close()
            }
            throw error
        }
        let isAtEnd = batch.isEmpty
        let here = reader.place
        self.reader = consume reader
        if isAtEnd, patience.isMore, let identity {
            patience.caughtUp()
            try await context.notes.set(Patience.key, patience.text)
            // The connection would go on waiting as long as it had to until now.
            _ = try await open(at: StoredPosition(position: here, identity: identity))
        }
        let sealed = batch.seal(resume: isSplit ? nil : here, end: here)
        if !missing.isEmpty { settleMissing(sealed.tables) }
        return sealed
    }
}

extension MongoSource: SourceInterrupt {
    package nonisolated func interrupt() { interruption.set() }
}
