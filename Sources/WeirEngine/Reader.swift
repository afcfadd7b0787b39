import Logging
import WeirCore

/// Pulls batches from the source into the lanes, connects again after an outage, writes markers and
/// acknowledges what is safe. Runs on the source's own thread, so that its calls do not hop.
final class Reader: Sendable {
    private let source: any SourceConnector
    private let pipeline: Pipeline
    private let lanes: [Lane]
    private let checkpointer: Checkpointer
    private let recycler: BatchRecycler
    /// Rung when a lane has room again and when a checkpoint was stored.
    private let bell: Doorbell
    private let tables: KnownTables
    private let start: Pipeline.Start
    private let isOnce: Bool

    /// A batch's caps: large enough that a hop between threads costs nothing per event, small
    /// enough that a handful of batches under way stay far below the memory goal. See
    /// `weir-bench --case backlog-rows`.
    static let eventLimit = 8192
    static let byteLimit = 512 << 10

    /// A stop, and a checkpoint that is to be acknowledged, wait no longer than this.
    static let readLimit = Duration.milliseconds(200)

    /// Between two markers; they measure lag and move a quiet database's slot.
    static let markInterval = Duration.seconds(10)
    /// Between two looks at what the source keeps for us, as `status` shows it.
    static let probeInterval = Duration.seconds(2)
    /// Between two that are written to the state, for `status` without a daemon.
    static let noteInterval = Duration.seconds(60)
    /// So many looks in a row may fail while streaming works.
    static let failedProbesMax = 5

    init(
        source: any SourceConnector, pipeline: Pipeline, lanes: [Lane], checkpointer: Checkpointer,
        recycler: BatchRecycler, bell: Doorbell, tables: KnownTables, start: Pipeline.Start,
        isOnce: Bool
    ) {
        self.source = source
        self.pipeline = pipeline
        self.lanes = lanes
        self.checkpointer = checkpointer
        self.recycler = recycler
        self.bell = bell
        self.tables = tables
        self.start = start
        self.isOnce = isOnce
    }

    /// What changes while reading.
    private struct Progress {
        /// Where a reconnect goes on: behind the last batch that was handed over.
        var stored: StoredPosition
        var epoch: Int
        var acknowledged: Position?
        var nextMark = ContinuousClock.now
        var nextProbe = ContinuousClock.now
        /// When what a look found is written down again.
        var nextNote = ContinuousClock.now
        var failedProbes = 0
        /// While the stream is down: when the source is asked next what it keeps, and for how long
        /// opening had been under way.
        var nextLook = ContinuousClock.now
        var opening: ContinuousClock.Instant?
        /// In `--once`: what must be safe before we end.
        var goal: Position?
        var keepalive = Duration.seconds(1)
        var patience: StreamPatience
        /// The stream is open and waits for the source.
        var isReading = false
        /// `status` shows an error that reading may prove to be over.
        var isErrorShown = false
    }

    /// Reads until the pipeline stops, or the goal of `--once` is reached.
    ///
    /// - Throws: what connecting again cannot mend, and what the spill cannot take. Opening is
    ///   tried for ever; a stream that breaks at one position is not (`StreamPatience`).
    func run() async throws(WeirError) {
        var progress = Progress(
            stored: start.stored, epoch: start.epoch,
            patience: StreamPatience(pipeline.pace.backoff))
        var opened = start.opened
        while !isDone(progress) {
            do throws(WeirError) {
                let now: SourceStart
                if let first = opened.take() {
                    now = first
                } else {
                    pipeline.monitor.forgetFindings(of: "source")
                    progress.opening = .now
                    now = try await asking(.opening) { () async throws(WeirError) in
                        try await source.open(at: progress.stored)
                    }
                    progress.opening = nil
                }
                try await began(now, &progress)
                try await stream(&progress)
                return
            } catch {
                // Only the source may be opened anew while the lanes go on; the rest restarts all.
                guard error.disposition == .transient, !error.isState, !isOnce else { throw error }
                await source.close()
                if isDone(progress) { return }
                try await recover(from: error, &progress)
            }
        }
    }

    /// Says what failed, looks after the source's log all the same, and waits for the next attempt.
    private func recover(
        from error: WeirError, _ progress: inout Progress
    ) async throws(WeirError) {
        let delay = progress.patience.failed(
            isRead: progress.isReading, atMicros: WallClock.micros())
        progress.isReading = false
        if let since = progress.patience.sinceMicros, progress.patience.isSpent {
            throw .streamStuck(
                error, at: pipeline.plan.notation.display(progress.stored.position),
                pipeline: pipeline.plan.name, attempts: progress.patience.failuresHere,
                sinceMicros: since)
        }
        await pipeline.failed(
            error, attempt: progress.patience.attempts, since: progress.patience.sinceMicros,
            retryIn: delay)
        pipeline.monitor.disconnected()
        await look(&progress)
        await wait(upTo: delay)
    }

    /// A source that does not answer at all would keep this waiting as long as the attempt that
    /// just failed: the longer that took, the longer until the source is asked beside it.
    private func look(_ progress: inout Progress) async {
        if let began = progress.opening.take(), progress.patience.attempts == 1 {
            progress.nextLook = .now + began.duration(to: .now) * Pipeline.lookShare
        }
        let began = ContinuousClock.now
        guard began >= progress.nextLook else { return }
        let held = checkpointer.safe ?? start.stored.position
        let task = Task { await pipeline.look(source, held: held) }
        await pipeline.withStopHandler({ task.cancel() }, { await task.value })
        progress.nextLook =
            .now + max(Pipeline.lookInterval, began.duration(to: .now) * Pipeline.lookShare)
    }

    private func isDone(_ progress: Progress) -> Bool {
        if pipeline.isStopping || Task.isCancelled { return true }
        // One of them has stopped for an operator.
        if lanes.contains(where: \.isClosing) { return true }
        guard let goal = progress.goal else { return false }
        // What follows stores and acknowledges it.
        return lanes.allSatisfy { $0.progress().written >= goal }
    }

    /// Waits in slices, so that a stop is noticed.
    private func wait(upTo limit: Duration) async {
        let deadline = ContinuousClock.now + limit
        while !pipeline.isStopping, !Task.isCancelled {
            let left = ContinuousClock.now.duration(to: deadline)
            if left <= .zero { return }
            await bell.wait(upTo: min(left, .milliseconds(100)))
        }
    }

    private func began(_ now: SourceStart, _ progress: inout Progress) async throws(WeirError) {
        let followed = try await (source as? any SourceTables)?.tables()
        // Before the first batch: lanes check their targets against these.
        tables.set(followed ?? [])
        try await pipeline.adopt("source")
        try await pipeline.store.forgetStopped(of: pipeline.plan.name)
        progress.keepalive = now.keepalive
        // A new connection knows nothing of what the one before was told.
        progress.acknowledged = nil
        progress.nextMark = .now
        if now.identity != progress.stored.identity {
            // The same source as its own check says, but not the same life: a failover.
            progress.epoch = Epoch.next(after: progress.epoch)
            progress.stored = StoredPosition(
                position: progress.stored.position, identity: now.identity)
            try await pipeline.store.begin(
                PipelineRow(
                    name: pipeline.plan.name, identity: now.identity, epoch: progress.epoch),
                checkpoints: [])
            // Before the first batch of the new life reaches a lane.
            pipeline.sourceNow.value = SourceNow.Facts(
                epoch: progress.epoch, identity: now.identity)
        }
        let before = pipeline.monitor.now
        pipeline.monitor.update {
            $0.server = now.server
            $0.identity = now.identity
            $0.warnings = pipeline.plan.warnings
            // An open stream alone proves nothing: the error stays until something was read.
            if $0.failure == nil { $0.state = .streaming }
        }
        progress.failedProbes = 0
        progress.nextLook = .now
        progress.isErrorShown = before.failure != nil
        progress.patience.opened(at: .now)
    }

    private func stream(_ progress: inout Progress) async throws(WeirError) {
        while !isDone(progress) {
            try await asking(.looking) { () async throws(WeirError) in
                try await tend(&progress)
            }
            guard try haveRoom() else {
                // Back-pressure: the source hears from us all the same (CORRECTNESS 8, 9).
                let start = ContinuousClock.now
                await bell.wait(upTo: progress.keepalive)
                for lane in lanes { lane.waited(.now - start) }
                try await source.acknowledge(nil)
                continue
            }
            let builder = BatchBuilder(
                reusing: recycler.take(), eventLimit: Self.eventLimit, byteLimit: Self.byteLimit)
            progress.isReading = true
            let batch = try await read(into: builder, within: limit(progress))
            progress.isReading = false
            let hasMoved = batch.end.map { $0 > progress.stored.position } ?? false
            if let end = batch.end {
                progress.stored = StoredPosition(
                    position: end, identity: progress.stored.identity)
            }
            pipeline.monitor.received(batch)
            proved(hasMoved || !batch.events.isEmpty, &progress)
            for lane in lanes { try lane.offer(batch) }
        }
    }

    private func read(
        into builder: consuming BatchBuilder, within limit: Duration
    ) async throws(WeirError) -> EventBatch {
        pipeline.monitor.sourceBegan(.reading)
        defer { pipeline.monitor.sourceEnded() }
        return try await source.read(into: builder, within: limit)
    }

    /// Runs a call of the source, which `status` shows when it does not end.
    private func asking<R>(
        _ work: PipelineMonitor.SourceWork, _ call: () async throws(WeirError) -> R
    ) async throws(WeirError) -> R {
        pipeline.monitor.sourceBegan(work)
        defer { pipeline.monitor.sourceEnded() }
        return try await call()
    }

    /// A read has ended: what is shown as an error may be over.
    private func proved(_ brought: Bool, _ progress: inout Progress) {
        guard progress.isErrorShown || progress.patience.attempts > 0 else { return }
        let proof = progress.patience.read(brought: brought, at: .now)
        if progress.isErrorShown { progress.isErrorShown = !pipeline.recovered(proof) }
    }

    private func haveRoom() throws(WeirError) -> Bool {
        var haveAll = true
        // All are asked: each notes for itself since when it holds the pipeline up.
        for lane in lanes { haveAll = try lane.hasRoom() && haveAll }
        return haveAll
    }

    /// A read ends soon enough for whatever is due next.
    private func limit(_ progress: Progress) -> Duration {
        let due = ContinuousClock.now.duration(to: progress.nextMark)
        let soon = progress.goal != nil ? Duration.milliseconds(20) : Self.readLimit
        return max(.milliseconds(1), min(soon, due, progress.keepalive))
    }

    /// Acknowledges and marks, between two reads.
    private func tend(_ progress: inout Progress) async throws(WeirError) {
        if let safe = checkpointer.safe, progress.acknowledged.map({ safe > $0 }) ?? true {
            // Invariant 1: every sink is durable and the checkpoint is on disk.
            try await source.acknowledge(safe)
            progress.acknowledged = safe
            pipeline.monitor.passed(safe)
        }
        let now = ContinuousClock.now
        if now >= progress.nextProbe, let probe = source as? any SourceProbe {
            progress.nextProbe = now + Self.probeInterval
            do throws(WeirError) {
                let kept = try await probe.probe(
                    held: checkpointer.safe ?? start.stored.position)
                pipeline.monitor.keeps(kept)
                progress.failedProbes = 0
                if now >= progress.nextNote {
                    progress.nextNote = now + Self.noteInterval
                    try await pipeline.store.remember(
                        kept, of: pipeline.plan.name, atMicros: WallClock.micros())
                }
            } catch {
                // Streaming works; what is shown grows old and says so. A connection that is dead
                // for these questions alone is made anew with the others.
                progress.failedProbes += 1
                let isTolerable = progress.failedProbes < Self.failedProbesMax
                guard error.disposition == .transient, isTolerable else { throw error }
            }
        }
        guard now >= progress.nextMark else { return }
        progress.nextMark = now + Self.markInterval
        if let marker = source as? any SourceMarker {
            let micros = WallClock.micros()
            if let position = try await marker.mark() {
                pipeline.monitor.marked(position, atMicros: micros)
                if isOnce && progress.goal == nil { progress.goal = position }
            } else if isOnce {
                throw WeirError(
                    .onceUnsupported, .blocked,
                    "the source cannot be written to, so --once cannot tell when it is done")
            }
        }
    }
}

extension WeirError {
    /// Of this sink, whatever threw it.
    func of(_ sink: String) -> WeirError {
        var error = self
        error.component = sink
        return error
    }

    /// With the pipeline's name in the commands of its hint.
    func naming(_ pipeline: String) -> WeirError {
        var error = self
        error.hint = hint?.naming(pipeline)
        return error
    }

    /// No attempt of our own can help.
    var needsOperator: Bool { disposition != .transient && disposition != .rewind }

    /// Of the state store or a spill, not of a connector.
    var isState: Bool { code.name.hasPrefix("state.") || code.name.hasPrefix("engine.") }
}

extension String {
    /// A remedy of an error's code, which says PIPELINE for the name.
    func naming(_ pipeline: String) -> String { replacing("PIPELINE", with: pipeline) }
}

extension ErrorCode {
    static let onceUnsupported = ErrorCode(
        "engine.once_unsupported",
        meaning: "weir run --once writes a marker into the source and ends when it was delivered; "
            + "this source refuses to be written to.",
        remedy: "Let the role write (pg_logical_emit_message), or run without --once.")
}
