import WeirCore
import WeirMongoDBClient

/// Opens a source's change streams, and says what follows from a failure of one. Blocks.
struct StreamOpener {
    let connection: MongoConnection
    private(set) var facts: ServerFacts
    let config: MongoSourceConfig
    let failures: MongoFailureMap
    /// What the server's `currentOp` shows beside the stream.
    let comment: String
    let log: @Sendable (LogLevel, String) -> Void

    /// Opens the stream and takes a first look: only that shows whether the server can go on there.
    /// Learns whether the server sends images.
    mutating func begin(
        at start: ResumeToken?, _ fullness: ChangeStream.Fullness, doing work: String
    ) throws(WeirError) -> ChangeStream {
        do throws(StreamFailure) {
            var stream = try open(at: start, fullness)
            try stream.fetch(within: .milliseconds(1))
            return stream
        } catch {
            if case .server(let reason) = error, facts.hasImages,
                MongoFailureMap.refusesImages(reason)
            {
                facts.refusesImages = true
                return try begin(at: start, fullness, doing: work)
            }
            guard let less = less(than: fullness, after: error) else {
                throw failed(error, doing: work)
            }
            return try begin(at: start, less, doing: work)
        }
    }

    /// Opens the stream anew, at a server that is chosen anew.
    func reopen(
        at start: ResumeToken, _ fullness: ChangeStream.Fullness
    ) throws(WeirError) -> ChangeStream {
        do throws(MongoFailure) { try connection.choose() } catch {
            throw failures.error(error, doing: "connect")
        }
        do throws(StreamFailure) { return try open(at: start, fullness) } catch {
            throw failed(error, doing: "open the change stream")
        }
    }

    private func open(
        at start: ResumeToken?, _ fullness: ChangeStream.Fullness
    ) throws(StreamFailure) -> ChangeStream {
        try ChangeStream(connection, config, facts, at: start, fullness, comment: comment)
    }

    /// What to ask for where so much was too much; nil for other failures, and where nothing is
    /// less.
    func less(
        than fullness: ChangeStream.Fullness, after failure: StreamFailure
    ) -> ChangeStream.Fullness? {
        guard case .server(let reason) = failure, MongoFailureMap.isTooLarge(reason) else {
            return nil
        }
        switch fullness {
        case .images: return .oneByOne
        case .oneByOne:
            log(
                .warning,
                "a change is too large to come with its documents; they are looked up instead")
            return .keysOnly
        case .keysOnly: return nil
        }
    }

    /// Whether opening the stream again helps; says so.
    func isMended(_ failure: StreamFailure) -> Bool {
        switch failure {
        case .ended:
            log(.info, "the stream ended with what it covers and is opened anew behind that")
            return true
        case .server(let reason) where MongoFailureMap.isResumable(reason):
            log(.info, "the change stream broke off and is resumed: \(reason.message)")
            return true
        default: return false
        }
    }

    func failed(_ failure: StreamFailure, doing work: String) -> WeirError {
        switch failure {
        case .server(let failure): failures.error(ofStream: failure, doing: work)
        case .weir(let error): error
        case .ended: .badAnswer("no open cursor")
        }
    }

    /// A rename that the pipeline does not go beyond by itself.
    func replaced(_ name: TableName, _ event: RawEvent) -> WeirError {
        let token = unsafe ResumeToken(
            document: UnsafeRawBufferPointer(rebasing: event.bytes[event.token]))
        let place = token.map { ResumeToken.notation.exact($0.position) } ?? ""
        // Behind the rename nobody is told any more that the old name has no documents.
        let old = unsafe EventDecoder.name(
            UnsafeRawBufferPointer(rebasing: event.bytes[event.namespace]))
        let emptied = old.flatMap { old in
            config.scope.covers(database: old.schema, collection: old.name)
                ? ", empty there what is \"\(old)\"" : nil
        }
        return WeirError(
            .collectionReplaced, .blocked,
            "another collection was renamed to \"\(name)\", which is followed",
            detail: "Its documents came without events, so no sink has them.",
            hint: "Load them into the sinks\(emptied ?? ""), then go on behind the rename: "
                + "weir position set \(failures.pipeline) \(place) --yes")
    }
}
