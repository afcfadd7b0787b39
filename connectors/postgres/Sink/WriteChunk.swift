import WeirCore
import WeirValues

/// What one target transaction, or a part of it, is made of: batches and how each of their tables
/// is written. Pure.
struct WriteChunk {
    let batches: [EventBatch]
    /// By batch and table; nil for a table that is not taken.
    let plans: [[CopyPlan?]]
    /// Which events of each batch belong to it.
    private let ranges: [Range<Int>]
    private(set) var taken = 0
    private(set) var filtered = 0
    /// Events whose rows the source read later than they changed.
    private(set) var late = 0
    /// Some row was not sent whole.
    private(set) var hasParts = false
    /// Some change must be found by its whole row.
    private(set) var needsOrder = false
    private(set) var truncates = false
    /// Where targets were to be emptied, and are not.
    private(set) var ignoredTruncates: [(target: TableName, position: Position)] = []
    /// Targets of which a document was left out because its `_id` is null.
    private(set) var withoutKey: Set<TableName> = []

    /// - Parameters:
    ///   - start: the first event that belongs to it; nil for the first there is.
    ///   - end: the first event that does not belong to it; nil when all do.
    init(
        _ batches: [EventBatch], _ plans: [[CopyPlan?]], from start: EventPlace? = nil,
        before end: EventPlace? = nil
    ) {
        let ranges = batches.indices.map { index in
            let count = batches[index].events.count
            let first =
                start.map { index < $0.batch ? count : index == $0.batch ? $0.event : 0 } ?? 0
            let last =
                end.map { index < $0.batch ? count : index == $0.batch ? $0.event : 0 } ?? count
            return min(first, last)..<last
        }
        self.init(batches, plans, ranges)
    }

    private init(_ batches: [EventBatch], _ plans: [[CopyPlan?]], _ ranges: [Range<Int>]) {
        self.batches = batches
        self.plans = plans
        self.ranges = ranges
        for (index, batch) in batches.enumerated() {
            for event in batch.events[ranges[index]] { count(event, of: batch, plans[index]) }
        }
    }

    /// What lies before one of its events, and the rest.
    func split(at place: EventPlace) -> (before: WriteChunk, rest: WriteChunk) {
        var (before, rest) = (ranges, ranges)
        for batch in ranges.indices {
            let middle =
                batch < place.batch
                ? ranges[batch].upperBound
                : batch == place.batch ? place.event : ranges[batch].lowerBound
            before[batch] = ranges[batch].lowerBound..<middle
            rest[batch] = middle..<ranges[batch].upperBound
        }
        return (WriteChunk(batches, plans, before), WriteChunk(batches, plans, rest))
    }

    /// Whether some batch is so large that its values should be sent in slices.
    var isHuge: Bool { batches.contains { $0.arena.count > PostgresSink.hugeBytes } }

    /// The batches without the events that lie before it.
    var ownBatches: [EventBatch] {
        guard let first = batches.indices.first(where: { !ranges[$0].isEmpty }) else { return [] }
        let position = batches[first].position(of: batches[first].events[ranges[first].lowerBound])
        return batches.map { batch in
            var batch = batch
            batch.drop(through: position)
            return batch
        }
    }

    /// Where the last transaction of some batches begins; nil when there is no other before it.
    static func lastTransaction(of batches: [EventBatch]) -> EventPlace? {
        var start: EventPlace?
        var commit: UInt64?
        for batch in batches.indices.reversed() {
            let events = batches[batch].events
            for event in events.indices.reversed() {
                if let commit, events[event].commit != commit { return start }
                commit = events[event].commit
                start = EventPlace(batch: batch, event: event)
            }
        }
        return nil
    }

    /// The first event of the transaction that an event belongs to, as far as it is here.
    func start(of place: EventPlace) -> EventPlace {
        let commit = event(place).commit
        var start = place
        for batch in (0...place.batch).reversed() {
            let events = batches[batch].events
            let end = batch == place.batch ? place.event : events.count
            for event in (0..<end).reversed() {
                if events[event].commit != commit { return start }
                start = EventPlace(batch: batch, event: event)
            }
        }
        return start
    }

    private mutating func count(_ event: Event, of batch: EventBatch, _ plans: [CopyPlan?]) {
        guard let plan = plans[Int(event.table)], plan.takes(event, of: batch) else {
            filtered += 1
            if let plan = plans[Int(event.table)] { leaveOut(event, of: batch, plan) }
            return
        }
        taken += 1
        if event.has(Event.late) { late += 1 }
        // A row of no columns can be inserted, but not copied.
        if plan.outputs.isEmpty { needsOrder = true }
        switch event.operation {
        case .update:
            if !plan.isKeyed { needsOrder = true }
            if plan.unsent(event.after, in: batch) { hasParts = true }
        case .delete:
            if !plan.isKeyed { needsOrder = true }
        case .truncate: truncates = true
        case .insert, .read, .message: break
        }
    }

    private mutating func leaveOut(_ event: Event, of batch: EventBatch, _ plan: CopyPlan) {
        switch event.operation {
        case .truncate: ignoredTruncates.append((plan.target.name, batch.position(of: event)))
        case .insert, .update, .read:
            if plan.hasNullKey(event, of: batch) { withoutKey.insert(plan.target.name) }
        case .delete, .message: break
        }
    }

    func event(_ place: EventPlace) -> Event { batches[place.batch].events[place.event] }

    /// It changes a row that no condition finds.
    func isUnfindable(_ place: EventPlace) -> Bool {
        guard let plan = plan(place), plan.key.isEmpty, !plan.outputs.isEmpty else { return false }
        return [.update, .delete].contains(event(place).operation)
    }

    /// The plan of an event that is taken.
    func plan(_ place: EventPlace) -> CopyPlan? {
        let event = event(place)
        guard let plan = plans[place.batch][Int(event.table)],
            plan.takes(event, of: batches[place.batch])
        else { return nil }
        return plan
    }

    /// All events that are taken, in source order.
    func visit<Failure: Error>(
        _ body: (EventPlace, Event, CopyPlan) throws(Failure) -> Void
    ) throws(Failure) {
        for batch in batches.indices {
            for index in ranges[batch] {
                let event = batches[batch].events[index]
                if let plan = plans[batch][Int(event.table)],
                    plan.takes(event, of: batches[batch])
                {
                    try body(EventPlace(batch: batch, event: index), event, plan)
                }
            }
        }
    }

    /// The source's transactions, in order, as the events of each that are taken.
    var transactions: [[EventPlace]] {
        var all: [[EventPlace]] = []
        var commit: UInt64?
        visit { place, event, _ in
            if event.commit != commit { all.append([]) }
            commit = event.commit
            all[all.count - 1].append(place)
        }
        return all
    }

    // MARK: Rows that come back

    /// The insert by which a deleted row comes back in the same transaction: as the next change of
    /// its table, under its own key or, of a partitioned table, under one that differs in the
    /// partition key only. So does PostgreSQL write an UPDATE that moves a row to another
    /// partition.
    ///
    /// - Complexity: O(events up to the next of the same table).
    func comesBack(_ place: EventPlace, _ plan: CopyPlan) -> EventPlace? {
        let deleted = event(place)
        var next = place.event + 1
        for batch in place.batch..<batches.count {
            while next < ranges[batch].upperBound {
                let event = batches[batch].events[next]
                if event.commit != deleted.commit { return nil }
                if let other = plans[batch][Int(event.table)],
                    other.target.name == plan.target.name
                {
                    let isBack =
                        other === plan && event.operation == .insert
                        && isSameRow(
                            deleted.before, batches[place.batch], event.after, batches[batch], plan)
                    return isBack ? EventPlace(batch: batch, event: next) : nil
                }
                next += 1
            }
            next = 0
        }
        return nil
    }

    private func isSameRow(
        _ old: Slice, _ oldBatch: EventBatch, _ new: Slice, _ newBatch: EventBatch, _ plan: CopyPlan
    ) -> Bool {
        var isSameInPart = false
        for reference in plan.keyReferences {
            let left = oldBatch.values[Int(old.start) + reference.column]
            let right = newBatch.values[Int(new.start) + reference.column]
            if left.form == right.form,
                oldBatch.arena[left.bytes.range] == newBatch.arena[right.bytes.range]
            {
                isSameInPart = true
            } else if !plan.schema.columns[reference.column].isPartitionKey {
                return false
            }
        }
        return isSameInPart
    }

    /// The last event, if it is the delete of a row that may come back with the first event behind
    /// it.
    var openDelete: EventPlace? {
        guard let batch = ranges.lastIndex(where: { !$0.isEmpty }) else { return nil }
        let place = EventPlace(batch: batch, event: ranges[batch].upperBound - 1)
        guard event(place).operation == .delete, let plan = plan(place), plan.mindsDeletes else {
            return nil
        }
        return place
    }
}
