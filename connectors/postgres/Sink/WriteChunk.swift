import WeirCore

/// What one target transaction, or a part of it, is made of: batches and how each of their tables
/// is written. Pure.
struct WriteChunk {
    let batches: [EventBatch]
    /// By batch and table; nil for a table that is not taken.
    let plans: [[CopyPlan?]]
    private(set) var taken = 0
    private(set) var filtered = 0
    /// Events whose rows the source read later than they changed.
    private(set) var late = 0
    /// Some row was not sent whole.
    private(set) var hasParts = false
    /// Some change must be found by its whole row.
    private(set) var needsOrder = false
    private(set) var truncates = false

    init(_ batches: [EventBatch], _ plans: [[CopyPlan?]]) {
        self.batches = batches
        self.plans = plans
        for (index, batch) in batches.enumerated() {
            for event in batch.events { count(event, of: batch, plans[index]) }
        }
    }

    private mutating func count(_ event: Event, of batch: EventBatch, _ plans: [CopyPlan?]) {
        guard let plan = plans[Int(event.table)], plan.takes(event) else {
            filtered += 1
            return
        }
        taken += 1
        if event.has(Event.late) { late += 1 }
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

    func event(_ place: EventPlace) -> Event { batches[place.batch].events[place.event] }

    /// The plan of an event that is taken.
    func plan(_ place: EventPlace) -> CopyPlan? {
        let event = event(place)
        guard let plan = plans[place.batch][Int(event.table)], plan.takes(event) else {
            return nil
        }
        return plan
    }

    /// All events that are taken, in source order.
    func visit<Failure: Error>(
        _ body: (EventPlace, Event, CopyPlan) throws(Failure) -> Void
    ) throws(Failure) {
        for batch in batches.indices {
            for index in batches[batch].events.indices {
                let event = batches[batch].events[index]
                if let plan = plans[batch][Int(event.table)], plan.takes(event) {
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
}
