/// Events in source order that own one byte arena; everything in them is a slice of it.
///
/// Sealed: read-only outside this file. Copies share storage, so handing a batch to several sinks
/// costs nothing; `BatchBuilder(reusing:)` takes the storage back when no copy is left.
public struct EventBatch: Sendable {
    public fileprivate(set) var tables: [TableSchema] = []
    public fileprivate(set) var events: [Event] = []
    public fileprivate(set) var values: [Value] = []
    public fileprivate(set) var arena: [UInt8] = []
    /// Where a restart may resume once this batch is durable; nil inside a split transaction.
    public fileprivate(set) var resume: Position?
    /// Where reading went on after this batch, also inside a transaction; for a reconnect that
    /// keeps what was read, never for a restart.
    public fileprivate(set) var end: Position?
    /// Events the source left out by configuration while it filled this batch.
    public fileprivate(set) var filtered: Int = 0

    public init() {}

    /// What a lane's limits count: the bytes this batch keeps in memory.
    public var byteCount: Int {
        arena.count + values.count * MemoryLayout<Value>.stride
            + events.count * MemoryLayout<Event>.stride
    }

    /// The bytes of its storage, used or not.
    public var storageBytes: Int {
        arena.capacity + values.capacity * MemoryLayout<Value>.stride
            + events.capacity * MemoryLayout<Event>.stride
    }

    /// The position just before `event`.
    public func position(of event: Event) -> Position {
        guard let tail = detail(.tail, of: event) else {
            return Position(high: event.commit, low: event.ordinal)
        }
        return Position(
            high: event.commit, low: event.ordinal,
            tail: String(decoding: arena[tail.bytes.range], as: UTF8.self))
    }

    /// Nil where the source has no such detail, or none for this event.
    public func detail(_ detail: Event.Detail, of event: Event) -> Value? {
        if event.details.isEmpty { return nil }
        let value = values[Int(event.details.start) + detail.rawValue]
        return value.form == .null ? nil : value
    }

    /// Leaves out the events that `position` covers. Complexity: O(events), and O(1) when it covers
    /// none, which is the case but right after a start.
    public mutating func drop(through position: Position) {
        guard let first = events.first, self.position(of: first) < position else { return }
        let kept = events.firstIndex { self.position(of: $0) >= position } ?? events.count
        events.removeFirst(kept)
    }

    /// Puts a batch together from its parts, as a spill that reads one back does.
    public init(
        tables: [TableSchema],
        events: [Event],
        values: [Value],
        arena: [UInt8],
        resume: Position?,
        end: Position?
    ) {
        self.tables = tables
        self.events = events
        self.values = values
        self.arena = arena
        self.resume = resume
        self.end = end
    }
}

/// Fills one batch. Sources append bytes and values, then an event that points at them.
public struct BatchBuilder: ~Copyable, Sendable {
    private var batch: EventBatch
    /// The source should seal when either limit is passed.
    public let eventLimit: Int
    public let byteLimit: Int

    /// A batch stays below this, so that slices fit in 32 bits whatever one message adds.
    public static let arenaCeiling = 1 << 31

    /// Takes over the storage of `old` when nobody else holds it, else starts anew.
    public init(reusing old: consuming EventBatch, eventLimit: Int, byteLimit: Int) {
        // Not `batch = old`: with a second owner, each array would be made anew.
        batch = EventBatch()
        swap(&batch, &old)
        batch.tables.removeAll(keepingCapacity: true)
        batch.events.removeAll(keepingCapacity: true)
        batch.values.removeAll(keepingCapacity: true)
        // A batch that once held a huge row must not keep its memory for ever.
        if batch.arena.capacity > 4 * byteLimit {
            batch.arena = []
        } else {
            batch.arena.removeAll(keepingCapacity: true)
        }
        batch.resume = nil
        batch.end = nil
        batch.filtered = 0
        self.eventLimit = eventLimit
        self.byteLimit = byteLimit
    }

    public var isEmpty: Bool { batch.events.isEmpty }
    public var isFull: Bool {
        batch.events.count >= eventLimit || batch.arena.count >= byteLimit
    }
    public var eventCount: Int { batch.events.count }
    public var arenaCount: Int { batch.arena.count }
    public var valueCount: Int { batch.values.count }

    /// Copies `bytes` into the arena and returns where they begin.
    public mutating func append(_ bytes: UnsafeRawBufferPointer) -> Int {
        let start = batch.arena.count
        unsafe batch.arena.append(contentsOf: bytes)
        return start
    }

    public mutating func append(_ value: Value) {
        batch.values.append(value)
    }

    public mutating func append(_ event: Event) {
        batch.events.append(event)
    }

    public func value(_ index: Int) -> Value { batch.values[index] }

    public func event(_ index: Int) -> Event { batch.events[index] }

    public mutating func replaceEvent(_ index: Int, with event: Event) {
        batch.events[index] = event
    }

    /// A copy of bytes that were appended.
    public func bytes(_ slice: Slice) -> [UInt8] { Array(batch.arena[slice.range]) }

    public mutating func replaceValue(_ index: Int, with value: Value) {
        batch.values[index] = value
    }

    /// The index of `schema` in this batch, adding it when it is new.
    public mutating func table(_ schema: TableSchema) -> UInt32 {
        // Batches name few tables, and mostly the last one again.
        if let index = batch.tables.lastIndex(where: { $0.version == schema.version }) {
            return UInt32(index)
        }
        batch.tables.append(schema)
        return UInt32(batch.tables.count - 1)
    }

    public mutating func countFiltered(_ count: Int = 1) { batch.filtered += count }

    /// - Parameters:
    ///   - resume: where a restart may resume, nil inside a transaction.
    ///   - end: where reading stands.
    public consuming func seal(resume: Position?, end: Position?) -> EventBatch {
        batch.resume = resume
        batch.end = end
        return batch
    }
}
