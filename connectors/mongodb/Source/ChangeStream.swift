import WeirCore
import WeirMongoDBClient
import WeirValues

/// One open change stream: a cursor at one server and the events it sent last. Blocks.
///
/// The commands are our own and not the driver's change-stream interface: a whole answer is taken
/// at once, and when to resume is decided, counted and reported here (CORRECTNESS 54).
@safe
struct ChangeStream: ~Copyable {
    /// How much of a change is asked for.
    enum Fullness {
        /// With images where the collections have them.
        case images
        /// The same, one event at a time: with one of those that come, an answer is larger than it
        /// can be, and the server sends none of them (CORRECTNESS 71).
        case oneByOne
        /// Without documents: that one. They are looked up.
        case keysOnly
    }

    let connection: MongoConnection
    private let database: String
    private(set) var fullness: Fullness
    private var page: CursorReply
    /// Everything before it was taken from the stream.
    private(set) var here: ResumeToken
    private var fetchCount = 0
    private var hasTaken = false
    /// Events taken of the page, and the token of the last one, which lies in the page.
    private var taken = 0
    private var lastToken: UnsafeRawBufferPointer?
    /// The number of events to ask for: about `pageBytes` of them.
    ///
    /// One at first, since a server that has to look far for each would not answer for long; then
    /// more and more, as long as it finds so many.
    private var pageEvents = 1

    /// Large enough that a round trip costs nothing per event, small enough for the memory goal.
    private static let pageBytes = 2 << 20
    private static let pageEventsMax = 16384
    /// Answers with one event each, before more are asked for again.
    private static let oneByOneFetches = 16384
    /// Of an array without elements.
    private static let emptyBytes = 5
    /// A page of so many says that there is much to read.
    private static let largeBytes = pageBytes / 4

    /// Opens a cursor.
    ///
    /// - Parameter start: where to go on; nil for now.
    init(
        _ connection: MongoConnection, _ config: MongoSourceConfig, _ facts: ServerFacts,
        at start: ResumeToken?, _ fullness: Fullness, comment: String
    ) throws(StreamFailure) {
        var command = BSONWriter()
        if let collection = config.scope.collection {
            command.append("aggregate", collection)
        } else {
            command.append("aggregate", int32: 1)
        }
        command.append("pipeline", array: Self.pipeline(config, facts, at: start, fullness))
        // Nothing is read yet, so this returns at once however far away the next event is.
        command.appendDocument("cursor") { $0.append("batchSize", int32: 0) }
        command.appendMajority()
        command.append("comment", comment)
        let database = config.scope.database ?? "admin"
        let page = try Self.run(command, connection, database)
        // CORRECTNESS 53: the first answer says where the stream begins.
        guard let begin = start ?? page.postBatch else {
            throw .weir(.badAnswer("no postBatchResumeToken"))
        }
        self.connection = connection
        self.fullness = fullness
        self.database = database
        self.page = page
        here = begin
    }

    private static func run(
        _ command: BSONWriter, _ connection: MongoConnection, _ database: String
    ) throws(StreamFailure) -> CursorReply {
        let reply: MongoReply
        do throws(MongoFailure) {
            reply = try connection.run(command.bytes, database: database)
        } catch {
            throw .server(error)
        }
        do throws(WeirError) { return try CursorReply(reply) } catch { throw .weir(error) }
    }

    /// Asks for events, and waits for some if there are none; at most `limit`.
    ///
    /// While there is much to read, the next page is made by the server and received while this one
    /// is decoded.
    mutating func fetch(within limit: Duration) throws(StreamFailure) {
        guard page.id != 0 else { throw .ended }
        if taken > 0, fullness == .images {
            let fitting = max(16, Self.pageBytes / max(64, page.byteCount / taken))
            pageEvents = min(
                taken >= pageEvents ? 4 * pageEvents : pageEvents, fitting, Self.pageEventsMax)
        }
        var next = try ahead()
        if next == nil { next = try Self.run(getMore(page, within: limit), connection, database) }
        guard let next else { return }
        unsafe lastToken = nil
        page = next
        taken = 0
        fetchCount += 1
        readAhead()
        // The one that was too large is not: its images have expired, say.
        if fullness == .oneByOne, fetchCount > Self.oneByOneFetches { fullness = .images }
    }

    /// Has the pages behind this one fetched, if it says that there is much to read.
    private func readAhead() {
        guard page.byteCount >= Self.largeBytes, fullness == .images, page.id != 0 else {
            connection.releaseMemory()
            return
        }
        connection.begin(
            getMore(page, within: .zero).bytes, database: database,
            whileAnswersHave: Self.largeBytes)
    }

    /// The page that was asked for ahead, if one was and is not empty.
    private func ahead() throws(StreamFailure) -> CursorReply? {
        while true {
            let reply: MongoReply?
            do throws(MongoFailure) { reply = try connection.finish() } catch {
                throw .server(error)
            }
            // Nothing is asked for here as long as something may be under way.
            guard let reply else { return nil }
            let page: CursorReply
            do throws(WeirError) { page = try CursorReply(reply) } catch { throw .weir(error) }
            if page.byteCount > Self.emptyBytes || page.id == 0 { return page }
        }
    }

    private func getMore(_ page: borrowing CursorReply, within limit: Duration) -> BSONWriter {
        page.more(batchSize: fullness == .images ? Int32(pageEvents) : 1, within: limit)
    }

    /// The change that was too large is behind; documents may be asked for again.
    var isBehindTooLarge: Bool { fullness == .keysOnly && hasTaken }

    /// The next event that was fetched, which stays the next. Valid until the next `fetch`.
    mutating func peek() throws(StreamFailure) -> RawEvent? {
        guard let bytes = unsafe page.peek() else {
            if page.isMalformed { throw .weir(.badAnswer("documents that are no BSON")) }
            settle()
            // All that was sent is taken; what the server looked at and did not send counts too.
            if let postBatch = page.postBatch { here = postBatch }
            return nil
        }
        guard let event = unsafe RawEvent(bytes) else {
            throw .weir(.badAnswer("an event without token or type"))
        }
        return event
    }

    /// Takes the event that was looked at.
    mutating func take(_ event: RawEvent) {
        page.advance()
        taken += 1
        hasTaken = true
        unsafe lastToken = UnsafeRawBufferPointer(rebasing: event.bytes[event.token])
    }

    /// Moves `here` behind the event taken last; done once per batch.
    mutating func settle() {
        guard let token = unsafe lastToken else { return }
        if let token = unsafe ResumeToken(document: token) { here = token }
        unsafe lastToken = nil
    }

    /// Ends the cursor.
    func close() { connection.end(page, database: database) }

    // MARK: The pipeline

    private static func pipeline(
        _ config: MongoSourceConfig, _ facts: ServerFacts, at start: ResumeToken?,
        _ fullness: Fullness
    ) -> [[UInt8]] {
        var stages = [
            BSONWriter.document { stage in
                stage.appendDocument("$changeStream") { options in
                    if config.scope.database == nil {
                        options.append("allChangesForCluster", true)
                    }
                    // CORRECTNESS 51: of the ways to start, one; `startAfter` takes every token.
                    switch start {
                    case .after(let data, let typeBits):
                        options.append(
                            "startAfter",
                            document: ResumeToken.document(data: data, typeBits: typeBits))
                    case .at(let time): options.append("startAtOperationTime", timestamp: time)
                    case nil: break
                    }
                    guard fullness != .keysOnly, facts.hasImages else { return }
                    options.append("fullDocument", "whenAvailable")
                    if config.wantsBefore {
                        options.append("fullDocumentBeforeChange", "whenAvailable")
                    }
                }
            }
        ]
        if case .collections(let names) = config.scope, names.count > 1 {
            stages.append(
                BSONWriter.document {
                    $0.appendDocument("$match") { match(&$0, names, from: start) }
                })
        }
        if fullness == .keysOnly {
            // `_id` stays: without it a stream cannot be resumed (CORRECTNESS 62).
            stages.append(
                BSONWriter.document {
                    $0.appendDocument("$project") { fields in
                        for field in [
                            "fullDocument", "fullDocumentBeforeChange", "updateDescription",
                        ] { fields.append(field, int32: 0) }
                    }
                })
        }
        return stages
    }

    /// Events of the collections, those that make one of them, and those of no collection: the end
    /// of everything, which a condition on names would hide (CORRECTNESS 56).
    ///
    /// Every clause costs the server time for every event of the oplog; these are the cheapest that
    /// say it (`weir-bench --case mongodb-backlog`).
    ///
    /// The server applies the condition to its oplog, where it then looks for the event of the
    /// token too: that one is taken whatever collection it is of, since it may not be followed any
    /// more (CORRECTNESS 62).
    private static func match(
        _ condition: inout BSONWriter, _ names: [TableName], from start: ResumeToken?
    ) {
        var choices: [[UInt8]] = []
        let databases = Set(names.map(\.schema)).sorted()
        for database in databases {
            let collections = names.filter { $0.schema == database }.map(\.name)
            for place in ["ns", "to"] {
                choices.append(
                    BSONWriter.document { choice in
                        if databases.count > 1 { choice.append("\(place).db", database) }
                        choice.appendDocument("\(place).coll") { condition in
                            // null is what has no collection.
                            condition.appendArray("$in") { list in
                                for (index, name) in collections.enumerated() {
                                    list.append("\(index)", name)
                                }
                                if place == "ns" { list.appendNull("\(collections.count)") }
                            }
                        }
                    })
            }
        }
        if let start {
            choices.append(
                BSONWriter.document { $0.append("clusterTime", timestamp: start.clusterTime) })
        }
        condition.append("$or", array: choices)
    }
}

/// Why a stream broke off.
enum StreamFailure: Error {
    case server(MongoFailure)
    case weir(WeirError)
    /// The server ended it, behind an invalidate event.
    case ended
}
