/// Something that speaks to one outside system.
///
/// `init` is pure: it checks and derives, and does no I/O. `close` may be called at any time and
/// more than once.
public protocol Connector: Actor {
    associatedtype Config: ConnectorConfig
    init(_ config: Config, _ context: ConnectorContext) throws(WeirError)
    func close() async
}

/// Reads changes. The engine pulls: one call at a time, from one task.
///
/// Order of calls: `open`, then `read` and `acknowledge` in any order, then `close`. After a
/// throwing call the engine closes, waits, and opens again at the last batch's `end`.
public protocol SourceConnector: Connector {
    /// How its positions are written.
    static var notation: SourceNotation { get }
    /// Each row is one document, a value of form `bson`, without columns of its own.
    static var sendsDocuments: Bool { get }
    /// Others may read beside a pipeline that reads, and leave nothing at the source.
    static var hasManyReaders: Bool { get }

    /// Connects and starts streaming.
    ///
    /// - Parameter stored: where to go on; nil at the very first start, when the source creates
    ///   what it needs. Every event returned later lies at or after it.
    /// - Returns: who the source is and where streaming starts.
    /// - Throws: `positionLost` when the source cannot go on exactly there.
    func open(at stored: StoredPosition?) async throws(WeirError) -> SourceStart

    /// Returns at `limit` at the latest, perhaps with an empty batch; at once when something was
    /// read and nothing more is waiting.
    func read(into batch: consuming BatchBuilder, within limit: Duration) async throws(WeirError)
        -> EventBatch

    /// Tells the source that everything before `durable` is safe everywhere; nil says only that
    /// we are alive. The engine calls it at least once a second while it does not read.
    func acknowledge(_ durable: Position?) async throws(WeirError)
}

extension SourceConnector {
    public static var sendsDocuments: Bool { false }
    public static var hasManyReaders: Bool { false }
}

/// A position and whose it is; neither means anything alone.
public struct StoredPosition: Sendable, Equatable {
    public let position: Position
    public let identity: SourceIdentity

    public init(position: Position, identity: SourceIdentity) {
        self.position = position
        self.identity = identity
    }
}

/// The outcome of opening a source.
public struct SourceStart: Sendable {
    public let identity: SourceIdentity
    public let position: Position
    /// How often `acknowledge` must be called while nothing is read.
    public let keepalive: Duration
    /// The server in words, such as "PostgreSQL 15.20".
    public let server: String

    public init(
        identity: SourceIdentity, position: Position, keepalive: Duration, server: String
    ) {
        self.identity = identity
        self.position = position
        self.keepalive = keepalive
        self.server = server
    }
}

/// Optional ability: write a marker into the source's log and learn where it stands.
///
/// Everything committed before the call lies before the returned position, so the engine measures
/// true lag with it, moves a quiet database's position, and knows when `--once` is done.
public protocol SourceMarker: SourceConnector {
    /// Nil when the source cannot be written to.
    func mark() async throws(WeirError) -> Position?
}

/// Optional ability: let go of a server that does not answer.
public protocol SourceInterrupt: SourceConnector {
    /// The pipeline is to stop, and a call of the source does not end. That call fails soon, and
    /// so does every later one. Called from any thread.
    nonisolated func interrupt()
}

/// Optional ability: facts about what the source keeps for us, also without streaming.
public protocol SourceProbe: SourceConnector {
    /// Connects by itself, changes nothing, and leaves no connection behind.
    ///
    /// - Parameter held: everything before it is safe everywhere; nil when that is not known.
    func probe(held: Position?) async throws(WeirError) -> SourceRetention
}

/// Optional ability: remove what `open(at: nil)` created.
public protocol SourceCleanup: SourceConnector {
    /// What `cleanUp` would do, one sentence each.
    ///
    /// - Parameter others: what other pipelines claim and use; it stays.
    func describeCleanUp(leaving others: Set<String>) async throws(WeirError) -> [String]
    /// Removes slot and publication; says what it did. Repeating it is harmless.
    func cleanUp(leaving others: Set<String>) async throws(WeirError) -> [String]
}

extension SourceCleanup {
    /// As where no other pipeline uses anything of it.
    public func describeCleanUp() async throws(WeirError) -> [String] {
        try await describeCleanUp(leaving: [])
    }

    /// As where no other pipeline uses anything of it.
    public func cleanUp() async throws(WeirError) -> [String] { try await cleanUp(leaving: []) }
}

/// Optional ability: put the position somewhere else, on an operator's word.
public protocol SourceSeek: SourceConnector {
    /// What a target means here and what taking it would lose. Changes nothing.
    ///
    /// - Parameter target: `now`, `confirmed`, or a position in the source's notation.
    func planSeek(to target: String, from stored: StoredPosition?) async throws(WeirError)
        -> SeekPlan
    /// Carries the plan out at the source and returns where streaming starts from now on.
    func seek(_ plan: SeekPlan) async throws(WeirError) -> StoredPosition
}

/// What moving a position would do.
public struct SeekPlan: Sendable {
    public let target: String
    /// One sentence each: what happens, what is skipped or comes again.
    public let effects: [String]
    /// The target is where the pipeline stands: nothing is skipped, and sinks stay where they are.
    public let isInPlace: Bool

    public init(target: String, effects: [String], isInPlace: Bool = false) {
        self.target = target
        self.effects = effects
        self.isInPlace = isInPlace
    }
}

/// Optional ability: the shapes of the followed tables as they are now, so that sinks are checked
/// against them before the first event comes.
public protocol SourceTables: SourceConnector {
    /// Called after `open`. Versions mean nothing here.
    func tables() async throws(WeirError) -> [TableSchema]
}

/// What a source keeps for us and how close that is to being lost.
public struct SourceRetention: Sendable, Codable, Equatable {
    /// What the source keeps for us.
    public enum Kind: String, Sendable, Codable {
        /// All that a replication slot holds on to.
        case slot
        /// A log that waits for nobody, and ends where it ends.
        case oplog
    }

    public var kind: Kind
    /// The slot or stream by name.
    public var name: String
    /// Whether a consumer is connected.
    public var active: Bool
    /// PostgreSQL's `wal_status`, or the like.
    public var status: String
    /// The newest position of the source, and the last one we confirmed, in the source's notation.
    /// Nil where it is not known, as of a slot that does not exist.
    public var head: String?
    public var confirmed: String?
    /// Bytes the source keeps because of us.
    public var retainedBytes: Int64?
    /// How many more bytes may be written before they are lost; nil without limit.
    public var safeBytes: Int64?
    /// The limit itself; nil without limit.
    public var limitBytes: Int64?
    /// Bytes between confirmed and head.
    public var lagBytes: Int64?
    /// Where the source keeps its log for a time and not by bytes (MongoDB's oplog): how long the
    /// log is, and how much of it is left before what we still need is gone.
    public var windowSeconds: Double?
    public var headroomSeconds: Double?

    /// The source no longer has what comes after our position.
    public var isLost: Bool { status == "missing" || status == "lost" }

    public init(
        _ kind: Kind, name: String, active: Bool, status: String, head: String, confirmed: String
    ) {
        self.kind = kind
        self.name = name
        self.active = active
        self.status = status
        self.head = head.isEmpty ? nil : head
        self.confirmed = confirmed.isEmpty ? nil : confirmed
    }

    /// With null for what is not known; numbers that mean nothing for its kind are left out.
    public func encode(to encoder: any Encoder) throws {
        var container = encoder.container(keyedBy: CodingKeys.self)
        try container.encode(kind, forKey: .kind)
        try container.encode(name, forKey: .name)
        try container.encode(active, forKey: .active)
        try container.encode(status, forKey: .status)
        try container.encode(head, forKey: .head)
        try container.encode(confirmed, forKey: .confirmed)
        try container.encodeIfPresent(retainedBytes, forKey: .retainedBytes)
        try container.encodeIfPresent(safeBytes, forKey: .safeBytes)
        try container.encodeIfPresent(limitBytes, forKey: .limitBytes)
        try container.encodeIfPresent(lagBytes, forKey: .lagBytes)
        guard kind == .oplog else { return }
        try container.encode(windowSeconds, forKey: .windowSeconds)
        try container.encode(headroomSeconds, forKey: .headroomSeconds)
    }
}

/// How safe what a sink has taken is.
public enum Durability: Sendable {
    /// The sink has it; `flush` makes it durable.
    case accepted
    /// Nothing can lose it any more.
    case durable
}

/// What a sink wants to find again at the next start, kept in the checkpoint beside its position:
/// the file sink's length, for instance. At most a few hundred bytes.
public struct SinkMark: Sendable, Equatable {
    public let text: String
    public init(_ text: String) { self.text = text }

    private static let renamedPrefix = "renamed "

    /// For a sink that goes on in the place of one that is gone: what that one left, and under
    /// which name it wrote its own notes and rows there. The sink judges by it whether all that was
    /// delivered is still there.
    public init(of sink: String, _ mark: SinkMark) {
        text = mark.renamed == nil ? "\(Self.renamedPrefix)\(sink) \(mark.text)" : mark.text
    }

    /// The sink that left the mark, where that was another one.
    public var renamed: (sink: String, mark: SinkMark)? {
        guard text.hasPrefix(Self.renamedPrefix) else { return nil }
        let words = text.dropFirst(Self.renamedPrefix.count)
            .split(separator: " ", maxSplits: 1, omittingEmptySubsequences: false)
        return words.count == 2 ? (String(words[0]), SinkMark(String(words[1]))) : nil
    }
}

/// Takes batches to one place. The engine makes one call at a time.
public protocol SinkConnector: Connector {
    /// - Parameter mark: what `write` returned for the checkpoint this start goes back to; nil
    ///   before the first. Of a renamed sink it is its predecessor's: `renamed`. The sink forgets
    ///   everything it took after that mark, so that the events which now come again are there
    ///   once.
    /// - Returns: the mark where the sink stands now; the engine stores it before the first write.
    func open(at mark: SinkMark?) async throws(WeirError) -> SinkMark?

    /// Takes all that waited, in order. Idempotent: after a throwing call the engine calls again
    /// with at least the same batches, and their effect is there once. A sink with a connection
    /// makes a new one by itself.
    ///
    /// - Throws: `rewind` when events it had accepted are lost; `flush` throws as well from then
    ///   on, so that no checkpoint counts on them.
    func write(_ batches: [EventBatch]) async throws(WeirError) -> WriteOutcome

    /// Turns everything accepted before the call durable. May run beside a `write`. A throwing
    /// flush means that accepted events may be lost: the engine goes back to the last checkpoint.
    func flush() async throws(WeirError)
}

/// Optional ability: compare the target and the sink's configuration with the source's tables.
public protocol SinkCheck: SinkConnector {
    /// Called after `open` and before the first `write` of a life, with the tables the source
    /// follows. Reads only. What it throws is retried as a write is.
    ///
    /// - Returns: all that would fail or be left out later; a blocking one stops the pipeline.
    func check(_ tables: [TableSchema]) async throws(WeirError) -> [Finding]
}

/// Optional ability: remove what the sink keeps at its target for itself, such as its position.
/// Never what it delivered.
public protocol SinkCleanup: SinkConnector {
    /// What `cleanUp` would do, one sentence each. Connects by itself.
    ///
    /// - Parameter others: what other pipelines claim and use; it stays.
    func describeCleanUp(leaving others: Set<String>) async throws(WeirError) -> [String]
    /// Says what it did. Repeating it is harmless.
    func cleanUp(leaving others: Set<String>) async throws(WeirError) -> [String]
}

extension SinkCleanup {
    /// As where no other pipeline uses anything of it.
    public func describeCleanUp() async throws(WeirError) -> [String] {
        try await describeCleanUp(leaving: [])
    }

    /// As where no other pipeline uses anything of it.
    public func cleanUp() async throws(WeirError) -> [String] { try await cleanUp(leaving: []) }
}

/// What one `write` did.
public struct WriteOutcome: Sendable {
    public let durability: Durability
    public let delivered: Int
    /// Events left out by this sink's routing.
    public let filtered: Int
    /// Events completed with values read from the source later than the change.
    public let late: Int
    public let bytes: Int
    /// The mark that belongs to the last batch whose `resume` was not nil; nil keeps the one
    /// before.
    public let mark: SinkMark?

    public init(
        _ durability: Durability,
        delivered: Int,
        filtered: Int = 0,
        late: Int = 0,
        bytes: Int = 0,
        mark: SinkMark? = nil
    ) {
        self.mark = mark
        self.durability = durability
        self.delivered = delivered
        self.filtered = filtered
        self.late = late
        self.bytes = bytes
    }
}

/// What a connector gets from the engine.
public struct ConnectorContext: Sendable {
    public let pipeline: String
    /// The sink's name in its pipeline, or "source".
    public let name: String
    /// How the pipeline's source writes positions.
    public let notation: SourceNotation
    /// The connector's own thread: blocking there stalls nobody else. Pin the actor to it.
    public let executor: any SerialExecutor
    /// A small durable memory of this connector's own.
    public let notes: any ConnectorNotes
    /// Findings and gaps for the operator.
    public let reports: any OperatorReports
    /// The epoch of the source's positions now: it rises when the source's identity changes or an
    /// operator moves the position, never falls, and versions that a sink keeps begin with it.
    public let epoch: @Sendable () -> UInt32
    /// Whether the epoch began on an operator's word that skipped nothing: what a sink took in the
    /// epoch before is then as good as ever. False after a failover, and where changes may be
    /// missing.
    public let isContinuous: @Sendable () -> Bool
    /// Whose positions are being delivered; nil before it is known. It changes with the epoch,
    /// before the first batch of the source's new life arrives.
    public let source: @Sendable () -> SourceIdentity?
    /// For a sink: makes a reader of the source's rows; nil when the source has none. Whoever
    /// makes one closes it.
    public let makeRowReader: (@Sendable () throws(WeirError) -> any RowReader)?
    /// Says one line to the operator's log; never per event.
    public let log: @Sendable (LogLevel, String) -> Void

    public init(
        pipeline: String,
        name: String,
        notation: SourceNotation,
        executor: any SerialExecutor,
        notes: any ConnectorNotes,
        reports: any OperatorReports,
        epoch: @escaping @Sendable () -> UInt32 = { 1 },
        isContinuous: @escaping @Sendable () -> Bool = { false },
        source: @escaping @Sendable () -> SourceIdentity? = { nil },
        makeRowReader: (@Sendable () throws(WeirError) -> any RowReader)? = nil,
        log: @escaping @Sendable (LogLevel, String) -> Void
    ) {
        self.pipeline = pipeline
        self.name = name
        self.notation = notation
        self.executor = executor
        self.notes = notes
        self.reports = reports
        self.epoch = epoch
        self.isContinuous = isContinuous
        self.source = source
        self.makeRowReader = makeRowReader
        self.log = log
    }
}

/// How loud a line of the log is.
public enum LogLevel: String, Sendable {
    case debug, info, warning, error
}

/// A few durable words a connector keeps under its pipeline: a value set is on disk on return.
public protocol ConnectorNotes: Sendable {
    func get(_ key: String) async throws(WeirError) -> String?
    func set(_ key: String, _ value: String) async throws(WeirError)
}
