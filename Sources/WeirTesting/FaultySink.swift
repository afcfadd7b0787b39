import Synchronization
package import WeirCore

/// What a `FaultySink` does instead of working well.
package enum SinkFault: Sendable {
    /// Takes nothing and says so.
    case reject(Disposition)
    /// Takes everything and then says that it failed: the answer was lost.
    case failAfterWrite(Disposition)
    /// Takes the first half, then fails.
    case failHalfway(Disposition)
    /// Waits until `SinkDisk.release`, or until the task is cancelled.
    case hold
    /// Loses what was accepted since the last flush, and says so; opened again, it works.
    case lose
    case slow(Duration)
}

/// What a `FaultySink` wrote, and what it will do next. It outlives the sink, as a disk does.
package final class SinkDisk: Sendable {
    /// One call of the engine, in the order they arrived.
    package enum Call: Sendable, Equatable {
        case open(mark: String?)
        case write([String])
        case flush
        case close
    }

    struct State {
        var kept: [String] = []
        var durable = 0
        var generation = 0
        var calls: [Call] = []
        var openFaults: [SinkFault] = []
        var writeFaults: [SinkFault] = []
        var flushFaults: [SinkFault] = []
        var isHeld = false
        var waiters: [Int: CheckedContinuation<Void, Never>] = [:]
        var nextWaiter = 0
    }
    let state = Mutex(State())

    package init() {}

    /// The ids of the events it holds, and how many of them no power loss can take.
    package var kept: [String] { state.withLock { $0.kept } }
    package var durable: Int { state.withLock { $0.durable } }
    package var calls: [Call] { state.withLock { $0.calls } }
    package var isHeld: Bool { state.withLock { $0.isHeld } }

    /// What the next calls do; after these they work.
    package func fail(
        open: [SinkFault] = [], write: [SinkFault] = [], flush: [SinkFault] = []
    ) {
        state.withLock {
            $0.openFaults += open
            $0.writeFaults += write
            $0.flushFaults += flush
        }
    }

    /// No more faults; what is held goes on.
    package func heal() {
        state.withLock {
            $0.openFaults = []
            $0.writeFaults = []
            $0.flushFaults = []
        }
        release()
    }

    package func release() {
        let waiters = state.withLock { state in
            defer { state.waiters = [:] }
            state.isHeld = false
            return Array(state.waiters.values)
        }
        for waiter in waiters { waiter.resume() }
    }

    /// The power goes: sinks that are open have no effect any more, and of what was not flushed
    /// only the first `keeping` events are left.
    package func crash(keeping: (_ unsynced: Int) -> Int) {
        state.withLock { state in
            state.generation += 1
            state.kept.removeSubrange(
                (state.durable + keeping(state.kept.count - state.durable))...)
        }
        heal()
    }

    /// As a crash in which nothing that was not flushed is kept, but nobody ends.
    func lose() {
        state.withLock { state in
            state.generation += 1
            state.kept.removeSubrange(state.durable...)
        }
    }

    func hold() async {
        let number = state.withLock { state in
            state.nextWaiter += 1
            state.isHeld = true
            return state.nextWaiter
        }
        await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                let isOver = state.withLock { state in
                    if Task.isCancelled || !state.isHeld { return true }
                    state.waiters[number] = continuation
                    return false
                }
                if isOver { continuation.resume() }
            }
        } onCancel: {
            state.withLock { $0.waiters.removeValue(forKey: number) }?.resume()
        }
    }
}

/// A sink that keeps ids in memory, fails as it is told, and honours marks as the file sink does:
/// at `open` it cuts off what follows its mark.
package actor FaultySink: SinkConnector {
    package struct Config: ConnectorConfig {
        package static let fields: [ConfigField] = []
        let disk: SinkDisk
        package init(_ scope: ConfigScope) throws(ConfigIssue) {
            throw ConfigIssue(field: nil, "only for tests")
        }
        package init(disk: SinkDisk) { self.disk = disk }
    }

    private let disk: SinkDisk
    private var generation: Int?
    private var length = 0
    private var boundary = 0
    private let executor: any SerialExecutor
    package nonisolated var unownedExecutor: UnownedSerialExecutor {
        unsafe executor.asUnownedSerialExecutor()
    }

    package init(_ config: Config, _ context: ConnectorContext) {
        disk = config.disk
        executor = context.executor
    }

    package func open(at mark: SinkMark?) async throws(WeirError) -> SinkMark? {
        let now = disk.state.withLock { state in
            state.calls.append(.open(mark: mark?.text))
            return state.generation
        }
        let fault = disk.state.withLock { state in
            state.openFaults.isEmpty ? nil : state.openFaults.removeFirst()
        }
        try await suffer(fault)
        let count = disk.kept.count
        // One of another name wrote elsewhere.
        let mark = mark?.renamed == nil ? mark : nil
        let kept = mark.map { Int($0.text) ?? .max } ?? count
        guard kept <= count else {
            throw .fault("holds \(count) events, its mark counts on \(kept)", .positionLost)
        }
        disk.state.withLock { state in
            state.kept.removeSubrange(kept...)
            state.durable = min(state.durable, kept)
        }
        generation = now
        length = kept
        boundary = kept
        return SinkMark("\(kept)")
    }

    package func write(_ batches: [EventBatch]) async throws(WeirError) -> WriteOutcome {
        let fault = disk.state.withLock { state in
            state.calls.append(.write(batches.flatMap(\.ids)))
            return state.writeFaults.isEmpty ? nil : state.writeFaults.removeFirst()
        }
        var ids: [String] = []
        var boundary = boundary
        for batch in batches {
            ids += batch.ids
            if batch.resume != nil { boundary = length + ids.count }
        }
        if case .failHalfway(let disposition)? = fault {
            try put(Array(ids.prefix(ids.count / 2)))
            throw .fault("failed halfway", disposition)
        }
        if case .failAfterWrite(let disposition)? = fault {
            try put(ids)
            throw .fault("the answer was lost", disposition)
        }
        try await suffer(fault)
        try put(ids)
        length += ids.count
        self.boundary = boundary
        return WriteOutcome(.accepted, delivered: ids.count, mark: SinkMark("\(boundary)"))
    }

    /// Over whatever an earlier attempt left behind `length`.
    private func put(_ ids: [String]) throws(WeirError) {
        let isAlive = disk.state.withLock { state in
            guard state.generation == generation else { return false }
            state.kept.replaceSubrange(length..., with: ids)
            state.durable = min(state.durable, length)
            return true
        }
        if !isAlive { throw .fault("the sink is gone", .transient) }
    }

    package func flush() async throws(WeirError) {
        let fault = disk.state.withLock { state in
            state.calls.append(.flush)
            return state.flushFaults.isEmpty ? nil : state.flushFaults.removeFirst()
        }
        try await suffer(fault)
        let isAlive = disk.state.withLock { state in
            guard state.generation == generation else { return false }
            state.durable = length
            return true
        }
        if !isAlive { throw .fault("the sink is gone", .transient) }
    }

    package func close() {
        disk.state.withLock { $0.calls.append(.close) }
        generation = nil
    }

    private func suffer(_ fault: SinkFault?) async throws(WeirError) {
        switch fault {
        case nil: return
        case .slow(let duration): try? await Task.sleep(for: duration)
        case .hold: await disk.hold()
        case .lose:
            disk.lose()
            throw .fault("what was accepted is lost", .rewind)
        case .reject(let disposition), .failAfterWrite(let disposition),
            .failHalfway(let disposition):
            throw .fault("the sink refuses", disposition)
        }
    }
}
