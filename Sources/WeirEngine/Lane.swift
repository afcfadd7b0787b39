import Histogram
import Synchronization
import WeirCore

/// One sink of a pipeline: what waits for it, its delivery, its statistics.
///
/// The reader offers, the lane's own task delivers, the checkpointer asks what is safe.
final class Lane: Sendable {
    let plan: SinkPlan
    let sink: any SinkConnector
    let executor: ThreadExecutor
    private let machine: Mutex<LaneMachine>
    private let spill: Spill?
    let statistics = Mutex(LaneStatistics())
    private let report: @Sendable (WeirError, _ attempt: Int, _ delay: Duration?) -> Void
    private let recycler: BatchRecycler
    private let pace: Pace
    /// So many failures in a row are too many; nil retries for ever.
    private let attemptsMax: Int?
    private let storeMark: @Sendable (SinkMark?) async throws(WeirError) -> Void
    private let check: LaneCheck

    /// Rung when there is something to deliver, when to retry at once, and when room was made.
    private let work = Doorbell()
    private let retry = Doorbell()
    private let room: Doorbell
    private let isStopping = Mutex(false)

    init(
        _ plan: SinkPlan,
        sink: any SinkConnector,
        executor: ThreadExecutor,
        checkpoint: CheckpointRow,
        spillPath: String?,
        room: Doorbell,
        recycler: BatchRecycler,
        pace: Pace,
        attemptsMax: Int? = nil,
        storeMark: @escaping @Sendable (SinkMark?) async throws(WeirError) -> Void,
        check: LaneCheck,
        report: @escaping @Sendable (WeirError, Int, Duration?) -> Void
    ) throws(WeirError) {
        self.plan = plan
        self.sink = sink
        self.executor = executor
        self.room = room
        self.recycler = recycler
        self.pace = pace
        self.attemptsMax = attemptsMax
        self.report = report
        self.storeMark = storeMark
        self.check = check
        if let spillPath {
            spill = try Spill(
                path: spillPath, stored: checkpoint.spill, written: checkpoint.position)
        } else {
            spill = nil
        }
        var machine = LaneMachine(
            start: checkpoint.position, mark: checkpoint.mark, queueLimit: plan.queueBytes,
            spillLimit: spill == nil ? 0 : plan.spillBytes)
        if let stored = checkpoint.spill, let spill, !spill.isFullyRead {
            machine.resumeSpill(to: stored.end, bytes: spill.length)
        }
        self.machine = Mutex(machine)
    }

    // MARK: The reader's side

    /// Takes a batch; `hasRoom` was asked before. Blocks only while a spill is written.
    func offer(_ batch: EventBatch) throws(WeirError) {
        do throws(WeirError) {
            try machine.withLock { (machine) throws(WeirError) in
                guard case .spill(let copies, let new) = machine.offer(batch), let spill else {
                    return
                }
                if !copies.isEmpty {
                    try spill.append(copies)
                    // Memory delivers those itself.
                    spill.skipToEnd()
                }
                try spill.append([new])
            }
        } catch {
            throw error.of(plan.name)
        }
        work.ring()
    }

    var hasRoom: Bool { machine.withLock { $0.hasRoom() } }

    /// No more batches come: deliver what is there and finish. A sink that is down is given up.
    func close() {
        isStopping.withLock { $0 = true }
        machine.withLock { $0.close() }
        work.ring()
        retry.ring()
    }

    // MARK: Delivery

    /// Delivers until the lane is closed and empty.
    ///
    /// - Throws: what retrying cannot mend.
    func run() async throws(WeirError) {
        let mark = machine.withLock { $0.mark }
        let isOpen = try await attempt { () async throws(WeirError) in
            check.begin()
            let now = try await sink.open(at: mark)
            // Stored before the first write, so that a crash right after it finds its way back.
            if now != mark { try await storeMark(now) }
            machine.withLock { $0.opened(at: now) }
            return WriteOutcome(.durable, delivered: 0)
        }
        guard isOpen != nil else { return }
        check.tables.ring(work)
        var isChecked = false
        while !Task.isCancelled {
            if !isChecked, let tables = check.tables.now {
                let isFit = try await attempt { () async throws(WeirError) in
                    try await check.run(sink, tables)
                    return WriteOutcome(.durable, delivered: 0)
                }
                guard isFit != nil else { return }
                isChecked = true
            }
            switch try next() {
            case .finished: return
            case .wait, .readSpill: await work.wait()
            case .write(let batches):
                let start = ContinuousClock.now
                guard
                    let outcome = try await attempt({ () async throws(WeirError) in
                        machine.withLock { $0.began(at: .now) }
                        return try await sink.write(batches)
                    })
                else { return }
                finish(batches, outcome, took: .now - start)
            }
        }
    }

    private func next() throws(WeirError) -> LaneMachine.Taken {
        do throws(WeirError) {
            return try machine.withLock { (machine) throws(WeirError) in
                let taken = machine.take()
                guard case .readSpill = taken, let spill else { return taken }
                return machine.tookSpilled(try spill.read())
            }
        } catch {
            throw error.of(plan.name)
        }
    }

    private func finish(_ batches: [EventBatch], _ outcome: WriteOutcome, took: Duration) {
        let finished = machine.withLock { $0.wrote(outcome) }
        statistics.withLock { $0.wrote(outcome, batches: finished, took: took) }
        for batch in finished { recycler.give(batch) }
        room.ring()
    }

    /// Tries until it works; nil when the lane is stopped meanwhile.
    private func attempt(
        _ body: () async throws(WeirError) -> WriteOutcome
    ) async throws(WeirError) -> WriteOutcome? {
        var backoff = Backoff(first: pace.retry)
        while true {
            do throws(WeirError) {
                let outcome = try await body()
                if backoff.attempts > 0 { statistics.withLock { $0.recovered() } }
                return outcome
            } catch {
                guard error.disposition == .transient else { throw error.of(plan.name) }
                if isStopping.withLock({ $0 }) || Task.isCancelled { return nil }
                machine.withLock { $0.failed() }
                let delay = backoff.next()
                let attempts = backoff.attempts
                statistics.withLock { $0.failed(error, attempt: attempts, retryIn: delay) }
                report(error, attempts, delay)
                if let attemptsMax, attempts >= attemptsMax { throw error.of(plan.name) }
                room.ring()
                await retry.wait(upTo: delay)
                if isStopping.withLock({ $0 }) || Task.isCancelled { return nil }
            }
        }
    }

    // MARK: The checkpointer's side

    /// What the sink has taken, to be stored once a flush that starts now has ended.
    struct Progress: Sendable {
        let written: Position
        let mark: SinkMark?
        /// What the spill holds behind `written`, of the same moment: a later extent may begin
        /// behind a later `written`. Nil while the spill does not hold all of
        /// that.
        let extent: Spill.Extent?
        let isSpilling: Bool
        let delivered: Int
    }

    func progress() -> Progress {
        machine.withLock {
            Progress(
                written: $0.written, mark: $0.mark,
                extent: $0.isSpilling && $0.isSpillWhole ? spill?.extent : nil,
                isSpilling: $0.isSpilling,
                delivered: $0.delivered)
        }
    }

    /// Makes what `progress` saw of the spill durable.
    func syncSpill() throws(WeirError) { try spill?.sync() }

    /// After a checkpoint that does not count on the spill: gives disk space back.
    func releaseSpill() throws(WeirError) {
        guard let spill, !spill.isEmpty else { return }
        try machine.withLock { (machine) throws(WeirError) in
            if !machine.isSpilling, spill.isFullyRead {
                try spill.reset()
                machine.emptiedSpill()
            }
        }
    }

    /// Facts for `status`.
    func snapshot() -> LaneSnapshot {
        let statistics = statistics.withLock { $0 }
        return machine.withLock { machine in
            LaneSnapshot(
                written: machine.written, waitingEvents: machine.waitingEvents,
                waitingBytes: machine.queuedBytes + machine.inFlightBytes,
                inFlightEvents: machine.inFlightEvents, spilledBytes: machine.spilledBytes,
                isSpilling: machine.isSpilling, isStuck: machine.isStuck(),
                oldestMicros: machine.oldestMicros,
                statistics: statistics)
        }
    }
}

/// What `status` reads of a lane.
struct LaneSnapshot: Sendable {
    let written: Position
    let waitingEvents: Int
    let waitingBytes: Int
    let inFlightEvents: Int
    let spilledBytes: Int
    let isSpilling: Bool
    /// A write has been going on for suspiciously long.
    let isStuck: Bool
    let oldestMicros: Int64?
    var statistics: LaneStatistics
}

/// Counters of one lane, updated per write.
struct LaneStatistics: Sendable {
    private(set) var delivered = 0
    private(set) var filtered = 0
    private(set) var late = 0
    private(set) var bytes = 0
    private(set) var retries = 0
    /// When the newest event that was written had been committed.
    private(set) var lastCommitMicros: Int64 = 0
    var rate = RateHistory(atSeconds: WallClock.seconds())
    var errors = RateHistory(atSeconds: WallClock.seconds())
    private(set) var failure: LaneFailure?
    private var latencies = Histogram<UInt32>(
        lowestDiscernibleValue: 1, highestTrackableValue: 3_600_000_000,
        numberOfSignificantValueDigits: .two)

    /// The row of failed attempts that is going on.
    struct LaneFailure: Sendable {
        let error: WeirError
        let sinceMicros: Int64
        var attempt: Int
        var retryAtMicros: Int64
    }

    mutating func wrote(_ outcome: WriteOutcome, batches: [EventBatch], took: Duration) {
        delivered += outcome.delivered
        filtered += outcome.filtered
        late += outcome.late
        bytes += outcome.bytes
        if let event = batches.last(where: { !$0.events.isEmpty })?.events.last {
            if event.commitMicros != Event.noTime { lastCommitMicros = event.commitMicros }
            latencies.record(UInt64(max(1, took.seconds * 1_000_000)))
        }
        rate.add(outcome.delivered, atSeconds: WallClock.seconds())
    }

    mutating func failed(_ error: WeirError, attempt: Int, retryIn delay: Duration) {
        retries += 1
        let now = WallClock.micros()
        errors.add(1, atSeconds: now / 1_000_000)
        failure = LaneFailure(
            error: error, sinceMicros: failure?.sinceMicros ?? now, attempt: attempt,
            retryAtMicros: now + Int64(delay.seconds * 1_000_000))
    }

    mutating func recovered() { failure = nil }

    /// Microseconds of one write at the percentile, nil before the first.
    func latencyMicros(_ percentile: Double) -> Int? {
        latencies.totalCount == 0 ? nil : Int(latencies.valueAtPercentile(percentile))
    }
}

/// Keeps the storage of a few finished batches for the reader.
final class BatchRecycler: Sendable {
    private struct Spare {
        var batches: [EventBatch] = []
        var bytes = 0
    }

    private let spare = Mutex(Spare())
    /// What a page of a fast source makes of itself at once, and one batch more.
    private static let bytesMax = 5 << 20

    func take() -> EventBatch {
        spare.withLock { spare in
            guard let batch = spare.batches.popLast() else { return EventBatch() }
            spare.bytes -= batch.storageBytes
            return batch
        }
    }

    func give(_ batch: EventBatch) {
        // One that held a huge row would keep its memory for as long as it lies here.
        guard batch.arena.capacity > 0, batch.arena.capacity <= 4 * Reader.byteLimit else { return }
        let bytes = batch.storageBytes
        spare.withLock { spare in
            guard spare.bytes + bytes <= Self.bytesMax else { return }
            spare.batches.append(batch)
            spare.bytes += bytes
        }
    }
}
