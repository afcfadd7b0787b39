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
    /// The disk takes no more, though the spill's own limit is not reached: as good as a full
    /// spill.
    private(set) var isDiskFull = false
    /// What was read before that was known, behind all that the spill holds. One batch at most: the
    /// reader asks `hasRoom` before each.
    private(set) var overflow: EventBatch?
    /// The last attempt failed.
    private(set) var isDown = false
    /// When the call of the sink that is under way began.
    private var callSince: ContinuousClock.Instant?

    /// A sink that has not answered for so long does not hold its neighbours back any more: once
    /// its memory is full, what comes goes to the spill. Much shorter would write to disk what a
    /// sink that is only busy takes a moment later.
    static let slowLimit = Duration.seconds(2)
    /// A call that takes so long is said to the operator.
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
            beginSpill()
            spilledBytes += batch.byteCount + Self.recordBytes
            return .spill(copies: inFlight + Array(queue), new: batch)
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

    // MARK: A full disk

    /// What `refused` goes back to.
    struct SpillState: Sendable {
        fileprivate let isSpilling: Bool
        fileprivate let spilledBytes: Int
    }

    var spillState: SpillState { SpillState(isSpilling: isSpilling, spilledBytes: spilledBytes) }

    /// The disk had no room for what `offer` wanted in the spill, and nothing of it is there. The
    /// batch stays in memory, and the reader waits.
    mutating func refused(_ batch: EventBatch, backTo before: SpillState) {
        isDiskFull = true
        spilledBytes = before.spilledBytes
        isSpilling = before.isSpilling
        if isSpilling { overflow = batch } else { enqueue(batch) }
    }

    /// What a disk that has room again should hold: what it refused, or copies of all that waits
    /// when the spill could not be begun.
    func refusedBatches(at now: ContinuousClock.Instant) -> [EventBatch] {
        if let overflow { return [overflow] }
        guard !isSpilling, isAway(at: now), !isWithinQueue else { return [] }
        return inFlight + Array(queue)
    }

    /// The spill holds `refusedBatches` now.
    mutating func diskHasRoom(at now: ContinuousClock.Instant) {
        isDiskFull = false
        if let batch = overflow.take() {
            spilledBytes += batch.byteCount + Self.recordBytes
        } else if !isSpilling, isAway(at: now), !isWithinQueue {
            beginSpill()
        }
    }

    /// From here on the spill holds all that waits; memory keeps its copy as read-ahead.
    private mutating func beginSpill() {
        isSpilling = true
        isSpillWhole = !isInsideTransaction
        spilledBytes += queuedBytes + inFlightBytes
        spilledBytes += (inFlight.count + queue.count) * Self.recordBytes
    }

    // MARK: Room

    /// Whether the reader may go on (back-pressure is the full lane).
    func hasRoom(at now: ContinuousClock.Instant = .now) -> Bool {
        if isSpilling { return canSpill }
        return isWithinQueue || isAway(at: now) && canSpill
    }

    /// What keeps a sink that is away from being left behind by its neighbours; nil while nothing
    /// does.
    func spillBound(at now: ContinuousClock.Instant = .now) -> LaneSnapshot.SpillBound? {
        guard !hasRoom(at: now), isSpilling || isAway(at: now) else { return nil }
        return isDiskFull ? .disk : .limit(spillLimit)
    }

    /// The sink refuses, or takes long to answer.
    private func isAway(at now: ContinuousClock.Instant) -> Bool {
        isDown || silence(at: now).map { $0 >= Self.slowLimit } ?? false
    }

    /// For how long the sink has not answered the call that is under way.
    func silence(at now: ContinuousClock.Instant = .now) -> Duration? { callSince.map { now - $0 } }

    func isStuck(at now: ContinuousClock.Instant = .now) -> Bool {
        silence(at: now).map { $0 >= Self.stuckLimit } ?? false
    }

    private var isWithinQueue: Bool { queuedBytes + inFlightBytes < queueLimit }
    private var canSpill: Bool { spilledBytes < spillLimit && !isDiskFull }

    mutating func close() { isClosed = true }

    // MARK: Inputs of the delivery

    enum Taken {
        /// Write these; everything that waited, in order, up to where a table changes its columns:
        /// a sink that cannot go on with the new ones has taken what lies before.
        case write([EventBatch])
        /// Memory is empty: read on from the spill and hand that to `tookSpilled`, under one lock.
        case readSpill
        case wait
        case finished
    }

    mutating func take() -> Taken {
        if !inFlight.isEmpty { return .write(inFlight) }
        if !queue.isEmpty {
            let count = Self.ofOneShape(queue)
            if count == queue.count {
                inFlight = Array(queue)
                inFlightBytes = queuedBytes
                queue.removeAll(keepingCapacity: true)
                queuedBytes = 0
            } else {
                inFlight = Array(queue.prefix(count))
                inFlightBytes = inFlight.reduce(0) { $0 + $1.byteCount }
                queue.removeFirst(count)
                queuedBytes -= inFlightBytes
            }
            return .write(inFlight)
        }
        if isSpilling { return isClosed ? .finished : .readSpill }
        return isClosed ? .finished : .wait
    }

    /// What the spill gave; nothing means the lane has caught up and goes back to memory.
    mutating func tookSpilled(_ batches: [EventBatch]) -> Taken {
        guard !batches.isEmpty else {
            isSpilling = false
            if let batch = overflow.take() { enqueue(batch) }
            if let boundary = spareBoundary.take() { enqueue(boundary) }
            return take()
        }
        // What is not written yet is written from memory, before reading goes on.
        for batch in batches {
            queue.append(batch)
            queuedBytes += batch.byteCount
        }
        return take()
    }

    /// How many batches of the first have each of their tables with the same columns.
    private static func ofOneShape(_ batches: Deque<EventBatch>) -> Int {
        if batches.count == 1 { return 1 }
        var versions: Set<UInt32> = []
        var shapes: [TableName: [Column]] = [:]
        for (index, batch) in batches.enumerated() {
            for table in batch.tables where versions.insert(table.version).inserted {
                let name = TableName(schema: table.schema, name: table.name)
                let known = shapes.updateValue(table.columns, forKey: name)
                if let known, known != table.columns, index > 0 { return index }
            }
        }
        return batches.count
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
        answered()
        inFlightBytes = 0
        defer { inFlight = [] }
        return inFlight
    }

    mutating func opened(at mark: SinkMark?) { self.mark = mark }

    /// A call of the sink begins: it is opened, looked at, or handed what is in flight.
    mutating func began(at now: ContinuousClock.Instant) { callSince = now }

    /// The call ended well.
    mutating func answered() {
        isDown = false
        callSince = nil
    }

    mutating func failed() {
        isDown = true
        callSince = nil
    }

    mutating func emptiedSpill() {
        spilledBytes = 0
        isDiskFull = false
    }

    // MARK: Facts

    var isIdle: Bool { queue.isEmpty && inFlight.isEmpty && !isSpilling }

    var waitingEvents: Int {
        queue.reduce(inFlightEvents + (overflow?.events.count ?? 0)) { $0 + $1.events.count }
    }

    var waitingBytes: Int { queuedBytes + inFlightBytes + (overflow?.byteCount ?? 0) }

    var inFlightEvents: Int { inFlight.reduce(0) { $0 + $1.events.count } }

    /// When the oldest event that waits in memory was committed.
    var oldestMicros: Int64? {
        for batch in inFlight { if let event = batch.events.first { return event.commitMicros } }
        for batch in queue { if let event = batch.events.first { return event.commitMicros } }
        return nil
    }
}
