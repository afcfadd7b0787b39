package import Logging
import Synchronization
package import WeirCore

/// One pipeline: keeps it running, whatever fails, until it is stopped or cannot go on.
package final class Pipeline: Sendable {
    package let plan: PipelinePlan
    let store: StateStore
    let directory: StateDirectory
    let logger: Logger
    let pace: Pace
    let monitor = PipelineMonitor()
    private let currentLanes = Mutex<[Lane]>([])
    let sourceNow = SourceNow()
    /// Whether the configuration has a pipeline of this name.
    let isConfigured: @Sendable (String) -> Bool
    private let stopping = Mutex(false)
    private let stopBell = Doorbell()
    private let onStop = Mutex<(@Sendable () -> Void)?>(nil)

    package init(
        _ plan: PipelinePlan, store: StateStore, directory: StateDirectory, logger: Logger,
        pace: Pace = Pace(), isConfigured: (@Sendable (String) -> Bool)? = nil
    ) {
        self.plan = plan
        self.isConfigured = isConfigured ?? { [name = plan.name] in $0 == name }
        self.pace = pace
        self.store = store
        self.directory = directory
        var logger = logger
        logger[metadataKey: "pipeline"] = "\(plan.name)"
        self.logger = logger
    }

    var isStopping: Bool { stopping.withLock { $0 } }
    var lanes: [Lane] { currentLanes.withLock { $0 } }

    /// Stop reading, deliver what was read, store it, acknowledge it, end. Returns at once.
    package func stop() {
        stopping.withLock { $0 = true }
        onStop.withLock { $0 }?()
        stopBell.ring()
    }

    /// Runs `body`; a stop that comes meanwhile, or has come, calls `handler`, perhaps twice.
    func withStopHandler<R: Sendable>(
        _ handler: @escaping @Sendable () -> Void, _ body: () async -> R
    ) async -> R {
        onStop.withLock { $0 = handler }
        if isStopping { handler() }
        defer { onStop.withLock { $0 = nil } }
        return await body()
    }

    func waitForStop(upTo limit: Duration) async { await stopBell.wait(upTo: limit) }

    /// How a pipeline ended.
    package enum Ending: Sendable {
        /// Stopped, or done with `--once`.
        case stopped
        case failed(WeirError)
    }

    /// In `--once`, this many failed attempts in a row are one too many.
    private static let onceAttemptsMax = 6

    /// - Parameter isOnce: end when everything committed before the start has been delivered.
    package func run(isOnce: Bool) async -> Ending {
        var backoff = pace.backoff
        while true {
            let before = monitor.now.passed
            do throws(WeirError) {
                try await runFromCheckpoint(isOnce: isOnce)
                monitor.update { $0.state = .stopped }
                return .stopped
            } catch let failure {
                if isStopping {
                    monitor.update { $0.state = .stopped }
                    return .stopped
                }
                let error = failure.naming(plan.name)
                if error.disposition != .transient, error.disposition != .rewind {
                    await record(error, component: error.component ?? "source")
                    await stopped(by: error)
                    logger.error("stopped: \(error)")
                    return .failed(error)
                }
                // Only what became safe is progress: events that come again in every life are not.
                if let before, let now = monitor.now.passed, now > before { backoff.succeed() }
                let delay = backoff.next()
                // A sink has had its own attempts, but for what only going back can mend.
                let isSpent = error.component != nil && error.disposition != .rewind
                if isOnce && (isSpent || backoff.attempts >= Self.onceAttemptsMax) {
                    return .failed(error)
                }
                await failed(error, attempt: backoff.attempts, since: nil, retryIn: delay)
                await stopBell.wait(upTo: delay)
                if isStopping {
                    monitor.update { $0.state = .stopped }
                    return .stopped
                }
            }
        }
    }

    /// One life: from the stored positions until a stop or an error.
    private func runFromCheckpoint(isOnce: Bool) async throws(WeirError) {
        let threads = Threads(plan)
        let source: any SourceConnector
        do throws(WeirError) {
            source = try plan.makeSource(context(name: "source", on: threads.source))
        } catch {
            threads.stop()
            throw error
        }
        do throws(WeirError) {
            try await run(source, threads, isOnce: isOnce)
        } catch {
            await source.close()
            monitor.disconnected()
            threads.stop()
            throw error
        }
        await source.close()
        monitor.disconnected()
        threads.stop()
    }

    private func run(
        _ source: any SourceConnector, _ threads: Threads, isOnce: Bool
    ) async throws(WeirError) {
        let start = try await resolveStart(source)
        sourceNow.value = SourceNow.Facts(
            epoch: start.epoch, identity: start.stored.identity,
            isContinuous: try await store.isContinuous(plan.name, epoch: start.epoch))
        let room = Doorbell()
        let tables = KnownTables()
        let lanes = try makeLanes(start.rows, threads, tables, room: room, isOnce: isOnce)
        currentLanes.withLock { $0 = lanes.lanes }
        let checkpointer = Checkpointer(
            pipeline: plan.name, lanes: lanes.lanes, stored: start.rows, store: store,
            progressed: room, pace: pace)
        let reader = Reader(
            source: source, pipeline: self, lanes: lanes.lanes, checkpointer: checkpointer,
            recycler: lanes.recycler, bell: room, tables: tables, start: start, isOnce: isOnce)
        let onStop: @Sendable () -> Void = { [self] in letGo(of: source) }
        let (failure, isDrained) = await withStopHandler(onStop) {
            await runTasks(reader, lanes.lanes, checkpointer, threads)
        }
        for lane in lanes.lanes { lane.close() }
        var ending = failure
        if isDrained {
            // Drained as far as the sinks would: store it, then let the source forget it.
            do throws(WeirError) { try await checkpointer.checkpoint(isFinal: true) } catch {
                ending = ending ?? error
            }
            if let safe = checkpointer.safe { try? await source.acknowledge(safe) }
        }
        for lane in lanes.lanes { await lane.sink.close() }
        if let ending { throw ending }
    }

    /// How long a call of the source may go on after a stop: an answer may be on its way.
    private static let sourceLimit = Duration.seconds(2)

    /// A server that hangs must not hold up a stop; what it has not sent comes at the next start.
    private func letGo(of source: any SourceConnector) {
        guard let source = source as? any SourceInterrupt else { return }
        Task { [monitor] in
            try? await Task.sleep(for: Self.sourceLimit)
            if monitor.now.sourceCall != nil { source.interrupt() }
        }
    }

    /// How long sinks may take for what was read before something stopped for an operator.
    private static let drainLimit = Duration.seconds(10)

    /// Runs reader, lanes and checkpointer; ends when the reader is done and the lanes are empty,
    /// or with the first error.
    ///
    /// A source or a sink that stops for an operator has all lanes drained first: its hint may be
    /// to go on behind the place where it stopped, or with another configuration, and what lies
    /// before that place must be delivered and known to be.
    private func runTasks(
        _ reader: Reader, _ lanes: [Lane], _ checkpointer: Checkpointer, _ threads: Threads
    ) async -> (failure: WeirError?, isDrained: Bool) {
        enum Done { case reader, lane, checkpointer, drainLimit }
        return await withTaskGroup(of: (Done, WeirError?).self) { group in
            group.addTask(executorPreference: threads.source) {
                do throws(WeirError) { try await reader.run() } catch { return (.reader, error) }
                return (.reader, nil)
            }
            for lane in lanes {
                group.addTask(executorPreference: lane.executor) {
                    do throws(WeirError) { try await lane.run() } catch { return (.lane, error) }
                    return (.lane, nil)
                }
            }
            group.addTask(executorPreference: threads.checkpoint) {
                do throws(WeirError) { try await checkpointer.run() } catch {
                    return (.checkpointer, error)
                }
                return (.checkpointer, nil)
            }
            var lanesLeft = lanes.count
            var stopped: WeirError?
            for await (done, error) in group {
                // Cut short at the end of a drain: the last checkpoint is still to come.
                if let error, error.code != .cancelled {
                    for lane in lanes { lane.close() }
                    if done == .reader || done == .lane, error.needsOperator {
                        if stopped == nil {
                            group.addTask {
                                try? await Task.sleep(for: Self.drainLimit)
                                return (.drainLimit, nil)
                            }
                        }
                        stopped = stopped ?? error
                        if done == .lane { lanesLeft -= 1 }
                        if lanesLeft == 0 { group.cancelAll() }
                        continue
                    }
                    group.cancelAll()
                    await group.waitForAll()
                    return (stopped ?? error, false)
                }
                switch done {
                case .reader: for lane in lanes { lane.close() }
                case .lane: lanesLeft -= 1
                case .checkpointer: break
                case .drainLimit: group.cancelAll()
                }
                if lanesLeft == 0 { group.cancelAll() }
            }
            return (stopped, true)
        }
    }

    // MARK: Starting

    private func makeLanes(
        _ rows: [CheckpointRow], _ threads: Threads, _ tables: KnownTables, room: Doorbell,
        isOnce: Bool
    ) throws(WeirError) -> (lanes: [Lane], recycler: BatchRecycler) {
        let recycler = BatchRecycler()
        var lanes: [Lane] = []
        for (index, sink) in plan.sinks.enumerated() {
            let context = context(
                name: sink.name, on: threads.sinks[index],
                makeRowReader: rowReader(for: sink.name, threads))
            // A sink alone has no neighbours to let by: it waits, and the source keeps the log.
            let spills = plan.sinks.count > 1 && sink.spillBytes > 0 || rows[index].spill != nil
            do throws(WeirError) {
                let made = try sink.make(context)
                let lane = try Lane(
                    sink, sink: made, executor: threads.sinks[index], checkpoint: rows[index],
                    spillPath: spills
                        ? directory.spillPath(pipeline: plan.name, sink: sink.name) : nil,
                    room: room, recycler: recycler, pace: pace,
                    attemptsMax: isOnce ? Self.onceAttemptsMax : nil,
                    statistics: statistics(of: sink.name),
                    storeMark: { [store, plan] mark throws(WeirError) in
                        try await store.setMark(mark, of: plan.name, sink: sink.name)
                    },
                    check: LaneCheck(
                        sink: sink.name, tables: tables, monitor: monitor,
                        reports: context.reports,
                        adopt: { [weak self] () async throws(WeirError) in
                            try await self?.adopt(sink.name)
                        }),
                    report: { [weak self] error, attempt, delay in
                        self?.sinkFailed(sink.name, error, attempt: attempt, retryIn: delay)
                    })
                lanes.append(lane)
            } catch {
                throw error.of(sink.name)
            }
        }
        return (lanes, recycler)
    }

    /// Of its lane in an earlier life, whose failure is over.
    private func statistics(of sink: String) -> LaneStatistics {
        var statistics =
            lanes.first { $0.plan.name == sink }?.statistics.withLock { $0 } ?? LaneStatistics()
        statistics.recovered()
        return statistics
    }

    private func rowReader(
        for sink: String, _ threads: Threads
    ) -> (@Sendable () throws(WeirError) -> any RowReader)? {
        guard let make = plan.makeRowReader else { return nil }
        // Lanes keep sinks, and sinks keep this: it must not keep us.
        return { [weak self] () throws(WeirError) -> any RowReader in
            guard let self else {
                throw WeirError(.cancelled, .transient, "the pipeline has ended")
            }
            return try make(context(name: sink, on: threads.addRowReader(plan.name)))
        }
    }

    private func context(
        name: String, on executor: ThreadExecutor,
        makeRowReader: (@Sendable () throws(WeirError) -> any RowReader)? = nil
    ) -> ConnectorContext {
        var logger = logger
        if name != "source" { logger[metadataKey: "sink"] = "\(name)" }
        return ConnectorContext(
            pipeline: plan.name, name: name, notation: plan.notation, executor: executor,
            notes: StoredNotes(store: store, pipeline: plan.name),
            reports: ComponentReports(
                pipeline: plan.name, component: name, monitor: monitor, store: store,
                logger: logger),
            epoch: { [sourceNow] in UInt32(clamping: sourceNow.value.epoch) },
            isContinuous: { [sourceNow] in sourceNow.value.isContinuous },
            source: { [sourceNow] in sourceNow.value.identity },
            makeRowReader: makeRowReader,
            log: { [logger] level, message in logger.log(level: level.logging, "\(message)") })
    }

    // MARK: Failures

    /// The source failed, or a sink in a way that takes the whole pipeline back.
    ///
    /// - Parameter since: when the row of failures began, where it may have been hidden meanwhile.
    func failed(
        _ failure: WeirError, attempt: Int, since: Int64?, retryIn delay: Duration
    ) async {
        let error = failure.naming(plan.name)
        monitor.update {
            $0.state = .failing
            $0.failure = LaneStatistics.LaneFailure(
                error, after: $0.failure, sinceMicros: since, attempt: attempt, retryIn: delay)
        }
        let component = error.component ?? "source"
        log(error, component: component, attempt: attempt, retryIn: delay)
        await record(error, component: component)
    }

    /// A read of the source ended well.
    ///
    /// - Returns: whether no error is shown any more.
    func recovered(_ proof: StreamPatience.Proof) -> Bool {
        let isOver = monitor.recovered(proof)
        if isOver { logger.info("streaming again") }
        return isOver
    }

    private func sinkFailed(_ sink: String, _ error: WeirError, attempt: Int, retryIn: Duration?) {
        log(error.naming(plan.name), component: sink, attempt: attempt, retryIn: retryIn)
        Task { await record(error, component: sink) }
    }

    /// The first of a row of failures is said, then the 2nd, 4th, 8th and so on: a long outage must
    /// not fill a disk.
    private func log(
        _ error: WeirError, component: String, attempt: Int, retryIn delay: Duration?
    ) {
        guard attempt & (attempt - 1) == 0 else { return }
        let next = delay.map { " (attempt \(attempt), next in \($0.rounded))" } ?? ""
        logger.warning("\(component): \(error)\(next)")
    }

    private func record(_ error: WeirError, component: String) async {
        monitor.countError(of: component)
        let now = WallClock.micros()
        let row = FailureRow(
            pipeline: plan.name, component: component, code: error.code.name,
            message: error.message, firstMicros: now, lastMicros: now, count: 1)
        do { try await store.record(row) } catch { logger.warning("\(error)") }
    }
}

/// The threads of one life of a pipeline: each connector its own, so that blocking stalls only it.
final class Threads: Sendable {
    let source: ThreadExecutor
    let sinks: [ThreadExecutor]
    let checkpoint: ThreadExecutor
    private let rowReaders = Mutex<[ThreadExecutor]>([])

    init(_ plan: PipelinePlan) {
        source = ThreadExecutor(name: "\(plan.name)/src")
        sinks = plan.sinks.map { ThreadExecutor(name: "\(plan.name)/\($0.name)") }
        checkpoint = ThreadExecutor(name: "\(plan.name)/ckpt")
    }

    /// Few sinks ever read rows, so these start when the first is made.
    func addRowReader(_ pipeline: String) -> ThreadExecutor {
        let thread = ThreadExecutor(name: "\(pipeline)/rows")
        rowReaders.withLock { $0.append(thread) }
        return thread
    }

    func stop() {
        let added = rowReaders.withLock { $0 }
        for thread in [source, checkpoint] + sinks + added { thread.stop() }
    }
}

/// A connector's notes, kept in the state store.
struct StoredNotes: ConnectorNotes {
    let store: StateStore
    let pipeline: String

    func get(_ key: String) async throws(WeirError) -> String? {
        try await store.note(key, of: pipeline)
    }

    func set(_ key: String, _ value: String) async throws(WeirError) {
        try await store.setNote(key, value, of: pipeline)
    }
}

extension LogLevel {
    var logging: Logger.Level {
        switch self {
        case .debug: .debug
        case .info: .info
        case .warning: .warning
        case .error: .error
        }
    }
}

extension Duration {
    /// For messages: one decimal below ten seconds.
    var rounded: String {
        let value = seconds
        return value < 10 ? "\((value * 10).rounded() / 10)s" : "\(Int(value.rounded()))s"
    }
}
