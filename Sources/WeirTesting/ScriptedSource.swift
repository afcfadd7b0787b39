import Synchronization
package import WeirCore

/// The outside system of a `ScriptedSource`: a log of transactions that outlives the source, what
/// was acknowledged of it, and the faults to come.
package final class ScriptedServer: Sendable {
    package struct Transaction: Sendable {
        package let commit: UInt64
        package let count: Int
        package var end: UInt64 { commit + 8 }
    }

    struct State {
        var log: [Transaction] = []
        var confirmed = Position(high: 8)
        var acknowledged: [Position] = []
        var violations: [String] = []
        var generation = 0
        var opens = 0
        var keepalives = 0
        var readsUntilCut: Int?
        var refusedOpens = 0
        var isPositionLost = false
        var poison: UInt64?
        /// What `probe` answers; nil is refused.
        var retention: SourceRetention? = SourceRetention(
            .slot, name: "test", active: true, status: "reserved", head: "", confirmed: "")
    }
    let state = Mutex(State())
    /// Batches end after so many events, wherever that is.
    let batchEventsMax: Int
    /// Asked with every position that is acknowledged; what it says is a violation.
    private let check: @Sendable (Position, [Transaction]) -> String?

    package init(
        batchEventsMax: Int = 4,
        check: @escaping @Sendable (Position, [Transaction]) -> String? = { _, _ in nil }
    ) {
        self.batchEventsMax = batchEventsMax
        self.check = check
    }

    /// Appends a transaction of `count` events.
    package func commit(_ count: Int) {
        state.withLock { state in
            // Commits follow one another at once, as the log of a busy server has them.
            state.log.append(Transaction(commit: state.log.last?.end ?? 16, count: count))
        }
    }

    /// The next so many reads work, then the connection breaks and so many attempts to open fail.
    package func cut(afterReads reads: Int, refusingOpens opens: Int = 0) {
        state.withLock {
            $0.readsUntilCut = reads
            $0.refusedOpens = opens
        }
    }

    /// From now on the server no longer has what comes next.
    package func losePosition() {
        state.withLock {
            $0.isPositionLost = true
            $0.readsUntilCut = 0
        }
    }

    /// The stream breaks, as often as it is tried, where the transaction with this number of the
    /// log stands; nil ends that.
    package func poison(_ index: Int?) {
        state.withLock { state in state.poison = index.map { state.log[$0].commit } }
    }

    /// What is answered to the question what the server keeps; nil refuses the question.
    package func keep(_ retention: SourceRetention?) {
        state.withLock { $0.retention = retention }
    }

    /// Nothing an earlier source does has an effect from now on, as after a crash of its process.
    package func crash() {
        state.withLock {
            $0.generation += 1
            $0.readsUntilCut = nil
            $0.refusedOpens = 0
        }
    }

    package var log: [Transaction] { state.withLock { $0.log } }
    package var acknowledged: [Position] { state.withLock { $0.acknowledged } }
    package var confirmed: Position { state.withLock { $0.confirmed } }
    package var violations: [String] { state.withLock { $0.violations } }
    package var opens: Int { state.withLock { $0.opens } }
    package var keepalives: Int { state.withLock { $0.keepalives } }
    /// Behind everything.
    package var head: Position {
        state.withLock { Position(high: $0.log.last?.end ?? 8) }
    }
    /// The ids of all events, in order.
    package var ids: [String] {
        log.flatMap { transaction in
            (0..<transaction.count).map { SampleBatch.id(transaction.commit, UInt32($0)) }
        }
    }

    func acknowledge(_ position: Position) {
        let violation = check(position, log)
        state.withLock { state in
            if let violation { state.violations.append(violation) }
            if position < state.confirmed {
                state.violations.append("acknowledged \(position) after \(state.confirmed)")
            }
            state.confirmed = max(state.confirmed, position)
            state.acknowledged.append(position)
        }
    }
}

/// Reads the log of a `ScriptedServer` the way a replication slot is read.
package actor ScriptedSource: SourceMarker, SourceProbe {
    package static let notation = SourceNotation.numbers

    package struct Config: ConnectorConfig {
        package static let fields: [ConfigField] = []
        let server: ScriptedServer
        package init(_ scope: ConfigScope) throws(ConfigIssue) {
            throw ConfigIssue(field: nil, "only for tests")
        }
        package init(server: ScriptedServer) { self.server = server }
    }

    private let server: ScriptedServer
    private var generation = 0
    private var cursor: (transaction: Int, ordinal: Int)?
    private let executor: any SerialExecutor
    package nonisolated var unownedExecutor: UnownedSerialExecutor {
        unsafe executor.asUnownedSerialExecutor()
    }

    /// How long a read at the end of the log takes, at most.
    private static let patience = Duration.milliseconds(1)

    package init(_ config: Config, _ context: ConnectorContext) {
        server = config.server
        executor = context.executor
    }

    package static let identity = SourceIdentity([("system", "1"), ("slot", "test")])

    package func open(at stored: StoredPosition?) throws(WeirError) -> SourceStart {
        let (confirmed, isRefused, isLost, now) = server.state.withLock { state in
            state.opens += 1
            let isRefused = state.refusedOpens > 0
            if isRefused { state.refusedOpens -= 1 }
            return (state.confirmed, isRefused, state.isPositionLost, state.generation)
        }
        if isRefused { throw .fault("the server refuses", .transient) }
        let start = stored?.position ?? confirmed
        if isLost || start < confirmed {
            throw .fault("the server has only what follows \(confirmed)", .positionLost)
        }
        generation = now
        let log = server.log
        let first = log.firstIndex { Position(high: $0.end) > start } ?? log.count
        var ordinal = 0
        if first < log.count, start.high == log[first].commit { ordinal = Int(start.low) }
        cursor = (first, ordinal)
        return SourceStart(
            identity: Self.identity, position: start, keepalive: .milliseconds(20),
            server: "scripted")
    }

    private func checkAlive() throws(WeirError) {
        let isCut = server.state.withLock { state in
            if state.generation != generation { return true }
            guard let left = state.readsUntilCut else { return false }
            state.readsUntilCut = left > 0 ? left - 1 : nil
            return left == 0
        }
        if isCut || cursor == nil {
            cursor = nil
            throw .fault("the connection broke", .transient)
        }
    }

    package func read(
        into batch: consuming BatchBuilder, within limit: Duration
    ) async throws(WeirError) -> EventBatch {
        try checkAlive()
        if let at = cursor, at.transaction >= server.log.count {
            try? await Task.sleep(for: min(limit, Self.patience))
        }
        guard var at = cursor else { throw .fault("the source is not open", .transient) }
        let log = server.log
        let poison = server.state.withLock { $0.poison }
        var sample = SampleBatch(into: batch)
        while at.transaction < log.count, sample.count < server.batchEventsMax {
            let transaction = log[at.transaction]
            if transaction.commit == poison {
                guard sample.count == 0 else { break }
                cursor = nil
                throw .fault("what stands there cannot be read", .transient)
            }
            if at.ordinal < transaction.count {
                sample.add(commit: transaction.commit, ordinal: UInt32(at.ordinal))
                at.ordinal += 1
            }
            if at.ordinal >= transaction.count { at = (at.transaction + 1, 0) }
        }
        cursor = at
        if at.ordinal > 0 {
            let inside = Position(
                high: log[at.transaction].commit, low: UInt32(at.ordinal))
            return sample.seal(resume: nil, end: inside)
        }
        let boundary = Position(high: at.transaction == 0 ? 8 : log[at.transaction - 1].end)
        return sample.seal(resume: boundary, end: boundary)
    }

    package func acknowledge(_ durable: Position?) throws(WeirError) {
        let isCurrent = server.state.withLock { $0.generation == generation }
        guard isCurrent, cursor != nil else { throw .fault("the connection broke", .transient) }
        if let durable {
            server.acknowledge(durable)
        } else {
            server.state.withLock { $0.keepalives += 1 }
        }
    }

    package func probe(held: Position?) throws(WeirError) -> SourceRetention {
        let (answer, isOpen) = server.state.withLock { ($0.retention, $0.generation == generation) }
        guard var answer else { throw .fault("the server does not answer", .transient) }
        answer.active = isOpen && cursor != nil
        return answer
    }

    package func mark() throws(WeirError) -> Position? { server.head }

    package func close() { cursor = nil }
}

extension WeirError {
    /// An error a test wants to happen.
    package static func fault(_ message: String, _ disposition: Disposition) -> WeirError {
        WeirError(.injectedFault, disposition, message)
    }
}

extension ErrorCode {
    static let injectedFault = ErrorCode(
        "testing.fault", meaning: "A test made it happen.", remedy: "Nothing.")
}
