package import WeirCore
import WeirMongoDBClient
import WeirValues

/// Follows a MongoDB deployment, a database or some collections through a change stream.
///
/// One connection: it streams, looks documents up at the same server, and asks for the time. There
/// is nothing to acknowledge: the oplog ends where it ends, and `status` shows how far that is.
package actor MongoSource: SourceConnector {
    package typealias Config = MongoSourceConfig

    let config: MongoSourceConfig
    let context: ConnectorContext
    private let executor: any SerialExecutor

    package nonisolated var unownedExecutor: UnownedSerialExecutor {
        unsafe executor.asUnownedSerialExecutor()
    }

    private var reader: StreamReader?
    /// Where reading began if the stream had to begin earlier: what it repeats is left out.
    private var floor: Position?
    private var nextSchemaVersion: UInt32 = 1

    package init(_ config: MongoSourceConfig, _ context: ConnectorContext) throws(WeirError) {
        self.config = config
        self.context = context
        executor = context.executor
    }

    var failures: MongoFailureMap {
        MongoFailureMap(
            place: config.url.place, pipeline: context.pipeline, scope: config.scope)
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
        let connection = try connect()
        let facts = try checkedFacts(connection)
        try checkCollections(connection)
        let identity = facts.identity(of: config.scope)
        var start: ResumeToken?
        floor = nil
        if let stored {
            let token = try checked(stored, facts)
            start = token
            if try await isOfAnotherStream(stored, identity) {
                start = .at(clusterTime: token.clusterTime)
                floor = stored.position
            }
        }
        let opener = opener(connection, facts)
        let stream = try opener.begin(at: start, .images, doing: "open the change stream")
        let here = stream.here
        reader = StreamReader(
            opener, stream,
            decoder: EventDecoder(config.scope, firstSchemaVersion: nextSchemaVersion))
        return SourceStart(
            identity: identity, position: stored?.position ?? here.position,
            keepalive: .seconds(1), server: facts.description,
            warnings: warnings(facts, stored?.identity, identity))
    }

    /// Whether the stored place is of a stream of another scope, which may show the event of its
    /// token when this one does not (CORRECTNESS 62).
    ///
    /// The engine stores the scope with the first open, and a place of the new stream only with its
    /// first batch: until then a note tells.
    private func isOfAnotherStream(
        _ stored: StoredPosition, _ identity: SourceIdentity
    ) async throws(WeirError) -> Bool {
        if let scope = stored.identity["scope"], scope != identity["scope"] {
            try await context.notes.set(Self.lastOfOtherStream, stored.position.token)
            return true
        }
        guard let last = try await context.notes.get(Self.lastOfOtherStream) else { return false }
        return stored.position <= Position(token: last)
    }

    /// Note: the last place of a stream of another scope.
    private static let lastOfOtherStream = "other_stream_end"

    func opener(_ connection: MongoConnection, _ facts: ServerFacts) -> StreamOpener {
        StreamOpener(
            connection: connection, facts: facts, config: config, failures: failures,
            comment: "weir \(context.pipeline)", log: context.log)
    }

    func connect() throws(WeirError) -> MongoConnection {
        do throws(MongoFailure) {
            return try MongoConnection(config.url, name: "weir \(context.pipeline)")
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
        let others: [(name: TableName, kind: String)]
        do throws(MongoFailure) { others = try connection.otherThanCollections(names) } catch {
            throw failures.error(error, doing: "look at the collections")
        }
        guard let (name, kind) = others.first else { return }
        throw WeirError(
            .notACollection, .blocked, "\"\(name)\" is no collection but a \(kind)",
            hint: ErrorCode.notACollection.remedy)
    }

    /// The stored place, if this deployment can have it.
    private func checked(
        _ stored: StoredPosition, _ facts: ServerFacts
    ) throws(WeirError) -> ResumeToken {
        guard let token = ResumeToken(stored.position) else {
            throw WeirError(
                .tokenUnfit, .positionLost,
                "the stored position \"\(stored.position)\" is none of a change stream",
                hint: failures.restartHint)
        }
        let identity = facts.identity(of: config.scope)
        if let set = stored.identity["set"], set != identity["set"] {
            throw WeirError(
                .mongoIdentityChanged, .positionLost,
                "\(config.url.place) belongs to replica set \"\(identity["set"] ?? "")\", and the "
                    + "stored position to \"\(set)\"",
                hint: ErrorCode.mongoIdentityChanged.remedy)
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

    private func warnings(
        _ facts: ServerFacts, _ stored: SourceIdentity?, _ identity: SourceIdentity
    ) -> [String] {
        var warnings: [String] = []
        if !facts.hasImages {
            warnings.append(
                "MongoDB \(facts.version) keeps no images: the documents of updates are looked up, "
                    + "and may be later than the change")
        }
        // Of one database, a collection more or less is no surprise to who wrote it down.
        if let scope = stored?["scope"], let now = identity["scope"],
            scope.prefix(while: { $0 != "." }) != now.prefix(while: { $0 != "." })
        {
            warnings.append("the change stream covered \(scope), it covers \(now) now")
        }
        return warnings
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
            throw error
        }
        var here = reader.stream.here.position
        self.reader = consume reader
        guard let floor else { return batch.seal(resume: isSplit ? nil : here, end: here) }
        here = max(here, floor)
        var sealed = batch.seal(resume: isSplit ? nil : here, end: here)
        sealed.drop(through: floor)
        return sealed
    }
}
