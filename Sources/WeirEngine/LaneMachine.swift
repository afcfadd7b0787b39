import DequeModule
import WeirCore

/// The decisions of one lane, apart from any I/O: what waits where, when it is full, what is safe.
///
/// A batch goes memory → sink. While the sink is down and its memory is full, batches overflow to
/// the spill instead, if there is one: everything that waits is copied there first, so that the
/// spill alone, once synced, holds all that the sink has not (invariant 1).
struct LaneMachine: ~Copyable {
    let queueLimit: Int
    /// 0: no spill; the lane then waits, and the reader with it.
    let spillLimit: Int

    private(set) var queue: Deque<EventBatch> = []
    private(set) var queuedBytes = 0
    private(set) var inFlight: [EventBatch] = []
    private(set) var inFlightBytes = 0

    /// Batches go to the spill, not to the queue.
    private(set) var isSpilling = false
    /// The spill holds everything behind `written`. It does not while the sink is inside a
    /// transaction whose first part it took from memory: opened again, it forgets that part.
    private(set) var isSpillWhole = true
    /// Bytes appended to the spill since it was empty; the bound on its file.
    private(set) var spilledBytes = 0
    /// The newest boundary that came without events while spilling, and how many did.
    private var spareBoundary: EventBatch?
    private var spareBoundaries = 0
    /// The last attempt failed, and when the first of the row did.
    private(set) var isDown = false
    /// When what is in flight was handed to the sink.
    private var inFlightSince: ContinuousClock.Instant?

    /// A sink that has not answered for so long is as good as down: its neighbours go on.
    static let stuckLimit = Duration.seconds(10)

    /// Events below this were delivered in an earlier life and are dropped on arrival.
    private var covered: Position
    /// The last boundary written to the sink, and its mark.
    private(set) var written: Position
    private(set) var mark: SinkMark?
    /// Events the sink has taken; beside `written`, so that both are read at one moment.
    private(set) var delivered = 0
    /// What the sink took last ended inside a transaction.
    private var isInsideTransaction = false
    private var isClosed = false

    /// A record's frame and positions, which also empty batches take.
    private static let recordBytes = 128
    /// An idle source says so five times a second; of these boundaries one in so many goes to the
    /// spill, so that weeks of idling do not fill it and the source may forget all the same.
    private static let boundaryStride = 64

    init(start: Position, mark: SinkMark?, queueLimit: Int, spillLimit: Int) {
        covered = start
        written = start
        self.mark = mark
        self.queueLimit = queueLimit
        self.spillLimit = spillLimit
    }

    /// Takes up a spill that an earlier life left: the sink stands at `written`, the spill goes on
    /// to `end`.
    mutating func resumeSpill(to end: Position, bytes: Int) {
        covered = max(covered, end)
        isSpilling = true
        spilledBytes = bytes
    }

    // MARK: Inputs of the reader

    enum Offered {
        /// Queued; ring the bell if the lane was idle.
        case queued
        /// Append to the spill: first copies of what memory holds and will deliver itself, then the
        /// new batch, which only the spill has.
        case spill(copies: [EventBatch], new: EventBatch)
    }

    /// Takes a batch in source order. Never refuses: the reader asks `hasRoom` before it reads.
    mutating func offer(_ incoming: EventBatch, at now: ContinuousClock.Instant = .now) -> Offered {
        var batch = incoming
        batch.drop(through: covered)
        if batch.events.isEmpty {
            // The bytes of events that are covered take no room here.
            batch = EventBatch(
                tables: [], events: [], values: [], arena: [], resume: batch.resume, end: batch.end)
        }
        if batch.events.isEmpty && batch.resume == nil { return .queued }
        if isSpilling { return offerToSpill(batch) }
        if isAway(at: now) && canSpill && !isWithinQueue {
            // From here on the spill holds all that waits; memory keeps its copy as read-ahead.
            isSpilling = true
            isSpillWhole = !isInsideTransaction
            let copies = inFlight + Array(queue)
            spilledBytes += queuedBytes + inFlightBytes + batch.byteCount
            spilledBytes += (copies.count + 1) * Self.recordBytes
            return .spill(copies: copies, new: batch)
        }
        enqueue(batch)
        return .queued
    }

    private mutating func offerToSpill(_ batch: EventBatch) -> Offered {
        if batch.events.isEmpty {
            spareBoundaries += 1
            spareBoundary = batch
            if spareBoundaries < Self.boundaryStride { return .queued }
        }
        spareBoundaries = 0
        spareBoundary = nil
        spilledBytes += batch.byteCount + Self.recordBytes
        return .spill(copies: [], new: batch)
    }

    private mutating func enqueue(_ batch: EventBatch) {
        // Positions without events only move the boundary: fold them into one.
        if batch.events.isEmpty, let last = queue.last, last.events.isEmpty {
            queuedBytes -= queue.removeLast().byteCount
        }
        queue.append(batch)
        queuedBytes += batch.byteCount
    }

    /// Whether the reader may go on (back-pressure is the full lane).
    func hasRoom(at now: ContinuousClock.Instant = .now) -> Bool {
        if isSpilling { return canSpill }
        return isWithinQueue || isAway(at: now) && canSpill
    }

    /// The sink refuses, or does not answer.
    private func isAway(at now: ContinuousClock.Instant) -> Bool { isDown || isStuck(at: now) }

    func isStuck(at now: ContinuousClock.Instant = .now) -> Bool {
        inFlightSince.map { now - $0 >= Self.stuckLimit } ?? false
    }

    private var isWithinQueue: Bool { queuedBytes + inFlightBytes < queueLimit }
    private var canSpill: Bool { spilledBytes < spillLimit }

    mutating func close() { isClosed = true }

    // MARK: Inputs of the delivery

    enum Taken {
        /// Write these; everything that waited, in order.
        case write([EventBatch])
        /// Memory is empty: read on from the spill and hand that to `tookSpilled`, under one lock.
        case readSpill
        case wait
        case finished
    }

    mutating func take() -> Taken {
        if !inFlight.isEmpty { return .write(inFlight) }
        if !queue.isEmpty {
            inFlight = Array(queue)
            inFlightBytes = queuedBytes
            queue.removeAll(keepingCapacity: true)
            queuedBytes = 0
            return .write(inFlight)
        }
        if isSpilling { return isClosed ? .finished : .readSpill }
        return isClosed ? .finished : .wait
    }

    /// What the spill gave; nothing means the lane has caught up and goes back to memory.
    mutating func tookSpilled(_ batches: [EventBatch]) -> Taken {
        guard !batches.isEmpty else {
            isSpilling = false
            if let boundary = spareBoundary.take() { enqueue(boundary) }
            return take()
        }
        inFlight = batches
        inFlightBytes = batches.reduce(0) { $0 + $1.byteCount }
        return .write(batches)
    }

    /// The sink has taken what was in flight. Gives the batches back for their storage.
    mutating func wrote(_ outcome: WriteOutcome) -> [EventBatch] {
        delivered += outcome.delivered
        if let resume = inFlight.last(where: { $0.resume != nil })?.resume {
            written = max(written, resume)
            if let mark = outcome.mark { self.mark = mark }
            isSpillWhole = true
        }
        if let last = inFlight.last { isInsideTransaction = last.resume == nil }
        isDown = false
        inFlightSince = nil
        inFlightBytes = 0
        defer { inFlight = [] }
        return inFlight
    }

    mutating func opened(at mark: SinkMark?) {
        self.mark = mark
        isDown = false
    }

    /// What is in flight was handed to the sink.
    mutating func began(at now: ContinuousClock.Instant) { inFlightSince = now }

    mutating func failed() {
        isDown = true
        inFlightSince = nil
    }

    mutating func emptiedSpill() { spilledBytes = 0 }

    // MARK: Facts

    var isIdle: Bool { queue.isEmpty && inFlight.isEmpty && !isSpilling }

    var waitingEvents: Int {
        queue.reduce(0) { $0 + $1.events.count } + inFlight.reduce(0) { $0 + $1.events.count }
    }

    var inFlightEvents: Int { inFlight.reduce(0) { $0 + $1.events.count } }

    /// When the oldest event that waits in memory was committed.
    var oldestMicros: Int64? {
        for batch in inFlight { if let event = batch.events.first { return event.commitMicros } }
        for batch in queue { if let event = batch.events.first { return event.commitMicros } }
        return nil
    }
}
