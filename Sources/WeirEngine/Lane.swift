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
    let statistics: Mutex<LaneStatistics>
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
    /// Since when the reader has been waiting for this lane.
    private let fullMicros = Mutex<Int64?>(nil)
    /// When a disk that was full is tried again.
    private let nextTry = Mutex(ContinuousClock.now)
    private static let tryInterval = Duration.seconds(1)

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
        statistics: LaneStatistics = LaneStatistics(),
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
        self.statistics = Mutex(statistics)
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
                let before = machine.spillState
                guard case .spill(let copies, let new) = machine.offer(batch), let spill else {
                    return
                }
                guard try spill.append(copies + [new], memoryHas: copies.count) else {
                    machine.refused(new, backTo: before)
                    return
                }
            }
        } catch {
            throw error.of(plan.name)
        }
        work.ring()
    }

    /// Whether the reader may go on. A disk that was full is looked at again.
    func hasRoom() throws(WeirError) -> Bool {
        do throws(WeirError) {
            let hasRoom = try machine.withLock { (machine) throws(WeirError) in
                if machine.isDiskFull, let spill { try tryAgain(spill, &machine) }
                return machine.hasRoom()
            }
            fullMicros.withLock { $0 = hasRoom ? nil : $0 ?? WallClock.micros() }
            return hasRoom
        } catch {
            throw error.of(plan.name)
        }
    }

    /// The disk was full: may the spill go on by now?
    private func tryAgain(_ spill: Spill, _ machine: inout LaneMachine) throws(WeirError) {
        let isDue = nextTry.withLock { next in
            guard ContinuousClock.now >= next else { return false }
            next = .now + Self.tryInterval
            return true
        }
        guard isDue else { return }
        // One moment for both: what is not in the batches must not count as spilled.
        let now = ContinuousClock.now
        let batches = machine.refusedBatches(at: now)
        let copies = machine.overflow == nil ? batches.count : 0
        guard spill.hasRoom(for: batches.reduce(0) { $0 + $1.byteCount }) else { return }
        if !batches.isEmpty {
            guard try spill.append(batches, memoryHas: copies) else { return }
        }
        machine.diskHasRoom(at: now)
    }

    /// The reader waited until some lane had room.
    func waited(_ time: Duration) {
        guard fullMicros.withLock({ $0 != nil }) else { return }
        statistics.withLock { $0.waited(time) }
    }

    /// No more batches come.
    var isClosing: Bool { isStopping.withLock { $0 } }

    /// No more batches come: deliver what is there and finish. A sink that is down is given up.
    func close() {
        isStopping.withLock { $0 = true }
        machine.withLock { $0.close() }
        fullMicros.withLock { $0 = nil }
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
        var early = LaneCheck.Early()
        while !Task.isCancelled {
            if !isChecked, let tables = check.tables.now {
                let isFit = try await attempt { () async throws(WeirError) in
                    try await check.run(sink, tables, after: early)
                    return WriteOutcome(.durable, delivered: 0)
                }
                guard isFit != nil else { return }
                isChecked = true
            }
            switch try next() {
            case .finished: return
            case .wait, .readSpill: await work.wait()
            case .write(let batches):
                if !isChecked {
                    // Known by now: what is in flight is taken again behind the check.
                    if check.tables.now != nil { continue }
                    guard try await checkSpilled(batches, &early) else { return }
                }
                let start = ContinuousClock.now
                guard
                    let outcome = try await attempt({ () async throws(WeirError) in
                        try await sink.write(batches)
                    })
                else { return }
                finish(batches, outcome, took: .now - start)
            }
        }
    }

    /// Before the source is open: an earlier life left these batches, with the tables they are of.
    ///
    /// - Returns: false when the lane is stopped meanwhile.
    private func checkSpilled(
        _ batches: [EventBatch], _ early: inout LaneCheck.Early
    ) async throws(WeirError) -> Bool {
        guard let tables = early.unknown(batches) else { return true }
        var findings: [Finding] = []
        let isFit = try await attempt { () async throws(WeirError) in
            findings = try await check.run(sink, spilled: tables)
            return WriteOutcome(.durable, delivered: 0)
        }
        early.add(tables, findings)
        return isFit != nil
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
        var backoff = pace.backoff
        while true {
            machine.withLock { $0.began(at: .now) }
            do throws(WeirError) {
                let outcome = try await body()
                machine.withLock { $0.answered() }
                if backoff.attempts > 0 { statistics.withLock { $0.recovered() } }
                return outcome
            } catch {
                machine.withLock { $0.failed() }
                guard error.disposition == .transient else { throw error.of(plan.name) }
                if isStopping.withLock({ $0 }) || Task.isCancelled { return nil }
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
        let fullMicros = fullMicros.withLock { $0 }
        let now = ContinuousClock.now
        return machine.withLock { machine in
            LaneSnapshot(
                written: machine.written, waitingEvents: machine.waitingEvents,
                waitingBytes: machine.waitingBytes,
                inFlightEvents: machine.inFlightEvents, spilledBytes: machine.spilledBytes,
                isSpilling: machine.isSpilling,
                silentSeconds: machine.silence(at: now)?.seconds,
                isStuck: machine.isStuck(at: now),
                fullMicros: fullMicros, spillLimit: machine.spillBound(at: now),
                oldestMicros: machine.oldestMicros,
                statistics: statistics)
        }
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
