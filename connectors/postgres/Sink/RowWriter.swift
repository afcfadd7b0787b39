import WeirCore
import WeirPostgresClient
import WeirValues

/// Writes changes one by one, each with a prepared statement, many of them in one round trip.
struct RowWriter: ~Copyable {
    private var parameters = StatementParameters()
    private var texts = OutputText()
    /// The columns of each statement that changes a part of a row, by its plan.
    private var partColumns: [PartColumns: Int] = [:]
    /// What was sent and is not yet answered: the event each command belongs to.
    private var pending: [Pending] = []
    /// Inserts that were written as updates in the place of the deletes before them.
    private var movedInserts: [EventPlace] = []

    private struct PartColumns: Hashable {
        let plan: Int
        let columns: [Int]
    }

    private struct Pending {
        let place: EventPlace
        /// It changes a part of a row, which must be there.
        let isPart: Bool
        /// It puts a row in, which then is there.
        var isWhole = false
    }

    /// The ways to write a transaction of the source, to be tried in this order.
    enum Way: CaseIterable {
        /// As it happened; another key is an UPDATE, which other tables' foreign keys may follow.
        case moving
        /// As it happened; for another key the old row goes and the new one comes.
        case replacing
        /// All its rows go, then come as they are at its end: values that two rows exchange are in
        /// nobody's way. Only where no other table looks on.
        case swapping
    }

    /// What stopped a row.
    struct Refusal {
        let place: EventPlace
        let failure: PostgresFailure
    }

    struct Outcome {
        var refusal: Refusal?
        /// Events that change a part of a row which the target has not.
        var missing: [EventPlace] = []
        /// Events whose row the target did not take and did not refuse.
        var skipped: [EventPlace] = []
    }

    /// Commands in one round trip: enough to make it cheap, few enough for both sides' memory.
    private static let commandsMax = 512

    /// Writes the events of one transaction of the source, in the transaction that is open. Nil
    /// when they cannot be written in this way.
    mutating func write(
        _ places: [EventPlace], of chunk: WriteChunk, _ way: Way, _ session: TargetSession
    ) throws(PostgresFailure) -> Outcome? {
        way == .swapping
            ? try swap(places, of: chunk, session)
            : try writeInOrder(places, of: chunk, way, session)
    }

    /// Writes the events in order, in the transaction that is open.
    mutating func writeInOrder(
        _ places: [EventPlace], of chunk: WriteChunk, _ way: Way, _ session: TargetSession
    ) throws(PostgresFailure) -> Outcome {
        var outcome = Outcome()
        var next = 0
        movedInserts = []
        while next < places.count, outcome.refusal == nil {
            try session.connection.beginPipeline()
            while next < places.count, pending.count < Self.commandsMax {
                let restarts = chunk.event(places[next]).has(Event.restartIdentity)
                let truncated = places[next...].prefix {
                    let event = chunk.event($0)
                    return event.operation == .truncate
                        && event.has(Event.restartIdentity) == restarts
                }
                if truncated.isEmpty {
                    try add(places[next], of: chunk, way, session)
                    next += 1
                } else {
                    for sql in CopyPlan.truncate(
                        truncated.compactMap(chunk.plan), restarts: restarts)
                    {
                        try session.connection.addCommand(sql)
                        pending.append(Pending(place: places[next], isPart: false))
                    }
                    next += truncated.count
                }
            }
            try finish(session, &outcome)
        }
        return outcome
    }

    /// Writes few events and moves the position, all of it one transaction and one round trip.
    mutating func write(
        _ chunk: WriteChunk, moving move: PositionMove, _ session: TargetSession
    ) throws(PostgresFailure) -> Outcome {
        var failure: PostgresFailure?
        var last = EventPlace(batch: 0, event: 0)
        movedInserts = []
        try session.connection.beginPipeline()
        chunk.visit { place, _, _ in
            if failure != nil { return }
            last = place
            do throws(PostgresFailure) {
                try add(place, of: chunk, .moving, session)
            } catch {
                failure = error
            }
        }
        if let failure { throw failure }
        parameters.removeAll()
        for value in move.values { parameters.append(value) }
        try execute("position", session.sql.preparedMove, last, session)
        var outcome = Outcome()
        try finish(session, &outcome)
        return outcome
    }

    /// Inserts rows that were completed beside the stream, unless a later change of the same
    /// transaction has brought them meanwhile: that one is newer.
    mutating func insertMissing(
        _ chunk: WriteChunk, _ session: TargetSession
    ) throws(PostgresFailure) -> Outcome {
        var outcome = Outcome()
        try session.connection.beginPipeline()
        try chunk.visit { (place, event, plan) throws(PostgresFailure) in
            parameters.removeAll()
            append(plan.references, of: event.after, chunk.batches[place.batch])
            try execute(plan.insertName, plan.insert, place, session)
        }
        try finish(session, &outcome)
        return outcome
    }

    /// Takes the rows of tables that allow it out, writes those of the others in order, and puts
    /// the first back as they are at the end.
    private mutating func swap(
        _ places: [EventPlace], of chunk: WriteChunk, _ session: TargetSession
    ) throws(PostgresFailure) -> Outcome? {
        var swaps: [Swap] = []
        var plans: [CopyPlan] = []
        for place in places {
            guard let plan = chunk.plan(place) else { continue }
            if chunk.event(place).operation == .truncate { return nil }
            if !plans.contains(where: { $0 === plan }) {
                // Two shapes of one table: what becomes of a row is in neither set alone.
                if plans.contains(where: { $0.target.name == plan.target.name }) { return nil }
                plans.append(plan)
            }
            guard plan.canSwap else { continue }
            if let index = swaps.firstIndex(where: { $0.plan === plan }) {
                swaps[index].set.add(place, in: chunk.batches)
                swaps[index].last = place
            } else {
                var set = ChangeSet(plan)
                set.add(place, in: chunk.batches)
                swaps.append(Swap(plan: plan, set: set, last: place))
            }
        }
        swaps.removeAll { $0.set.needsOrder || $0.set.states.contains(.part) }
        if swaps.isEmpty { return nil }
        let others = places.filter { place in
            !swaps.contains { $0.plan === chunk.plan(place) }
        }
        var outcome = Outcome()
        for swap in swaps { try write(swap, isOut: true, chunk, session, &outcome) }
        if outcome.refusal == nil {
            outcome = try writeInOrder(others, of: chunk, .moving, session)
        }
        for swap in swaps { try write(swap, isOut: false, chunk, session, &outcome) }
        return outcome
    }

    /// What becomes of the rows of one table, and the last event that is about them.
    private struct Swap {
        let plan: CopyPlan
        var set: ChangeSet
        var last: EventPlace
    }

    private mutating func write(
        _ swap: Swap, isOut: Bool, _ chunk: WriteChunk, _ session: TargetSession,
        _ outcome: inout Outcome
    ) throws(PostgresFailure) {
        var row = 0
        while row < swap.set.count, outcome.refusal == nil {
            try session.connection.beginPipeline()
            while row < swap.set.count, pending.count < Self.commandsMax {
                parameters.removeAll()
                if isOut {
                    append(swap.plan.keyReferences, swap.set.key(of: row), chunk.batches)
                    try execute(swap.plan.deleteName, swap.plan.delete, swap.last, session)
                } else if swap.set.states[row] == .whole {
                    append(swap.plan.references, swap.set.cells(of: row), chunk.batches)
                    try execute(swap.plan.upsertName, swap.plan.upsert, swap.last, session)
                }
                row += 1
            }
            try finish(session, &outcome)
        }
    }

    /// Reads the answers to all that was added.
    private mutating func finish(
        _ session: TargetSession, _ outcome: inout Outcome
    ) throws(PostgresFailure) {
        let sent = pending
        pending.removeAll(keepingCapacity: true)
        var refusal: Refusal?
        var missing: [EventPlace] = []
        var skipped: [EventPlace] = []
        try session.connection.endPipeline(
            sent.count, within: TargetSession.statementLimit
        ) { index, answer in
            switch answer {
            case .done(let rows, _):
                if rows == 0, sent[index].isPart { missing.append(sent[index].place) }
                if rows == 0, sent[index].isWhole { skipped.append(sent[index].place) }
            case .failed(let failure):
                refusal = refusal ?? Refusal(place: sent[index].place, failure: failure)
            case .skipped: break
            }
        }
        outcome.refusal = refusal
        outcome.missing += missing
        outcome.skipped += skipped
    }

    // MARK: One change

    private mutating func add(
        _ place: EventPlace, of chunk: WriteChunk, _ way: Way, _ session: TargetSession
    ) throws(PostgresFailure) {
        guard let plan = chunk.plan(place) else { return }
        let event = chunk.event(place)
        let batch = chunk.batches[place.batch]
        switch event.operation {
        case .insert, .read:
            if let index = movedInserts.firstIndex(of: place) {
                movedInserts.remove(at: index)
                return
            }
            try upsert(event.after, place, plan, batch, session)
        case .delete:
            // Nothing that refers to the row may go with it.
            if way == .moving, plan.mindsDeletes, plan.canMove,
                let back = chunk.comesBack(place, plan)
            {
                let new = chunk.batches[back.batch]
                parameters.removeAll()
                append(plan.keyReferences, of: event.before, batch)
                append(plan.references, of: chunk.event(back).after, new)
                try execute(plan.moveName, plan.move, back, session)
                movedInserts.append(back)
                return
            }
            try delete(event.before, place, plan, batch, session)
        case .update: try update(event, place, plan, batch, way, session)
        case .truncate, .message: break
        }
    }

    private mutating func update(
        _ event: Event, _ place: EventPlace, _ plan: CopyPlan, _ batch: EventBatch,
        _ way: Way, _ session: TargetSession
    ) throws(PostgresFailure) {
        let isMoved = event.has(Event.keyChanged)
        let way = plan.canMove ? way : .replacing
        let isPart = plan.unsent(event.after, in: batch)
        if !plan.isKeyed {
            try delete(event.before, place, plan, batch, session)
            try upsert(event.after, place, plan, batch, session)
        } else if isPart {
            let old = isMoved && way == .moving ? event.before : event.after
            if isMoved, way == .replacing {
                try delete(event.before, place, plan, batch, session)
            }
            try changePart(event.after, of: old, place, plan, batch, session)
        } else if isMoved && way == .moving || !isMoved && plan.updatesFirst {
            parameters.removeAll()
            append(plan.keyReferences, of: isMoved ? event.before : event.after, batch)
            append(plan.references, of: event.after, batch)
            try execute(plan.moveName, plan.move, place, session)
        } else {
            if isMoved { try delete(event.before, place, plan, batch, session) }
            try upsert(event.after, place, plan, batch, session)
        }
    }

    private mutating func upsert(
        _ image: Slice, _ place: EventPlace, _ plan: CopyPlan, _ batch: EventBatch,
        _ session: TargetSession
    ) throws(PostgresFailure) {
        parameters.removeAll()
        append(plan.references, of: image, batch)
        try execute(
            plan.upsertName, plan.upsert, place, session, isWhole: plan.countsEachRow)
    }

    private mutating func delete(
        _ image: Slice, _ place: EventPlace, _ plan: CopyPlan, _ batch: EventBatch,
        _ session: TargetSession
    ) throws(PostgresFailure) {
        parameters.removeAll()
        append(plan.keyReferences, of: image, batch)
        try execute(plan.deleteName, plan.delete, place, session)
    }

    /// Changes the row that has the key of `old` in the columns that were sent.
    private mutating func changePart(
        _ image: Slice, of old: Slice, _ place: EventPlace, _ plan: CopyPlan, _ batch: EventBatch,
        _ session: TargetSession
    ) throws(PostgresFailure) {
        let columns = plan.outputs.indices.filter {
            plan.outputs[$0].isSettable
                && batch.values[Int(image.start) + plan.references[$0].column].form != .unchanged
        }
        let part = PartColumns(plan: plan.number, columns: columns)
        let number = partColumns[part] ?? partColumns.count
        partColumns[part] = number
        parameters.removeAll()
        append(plan.keyReferences, of: old, batch)
        append(columns.map { plan.references[$0] }, of: image, batch)
        try execute("p\(number)", plan.update(columns), place, session, isPart: true)
    }

    private mutating func append(
        _ references: [FieldReference], of image: Slice, _ batch: EventBatch
    ) {
        batch.withView { view in
            for reference in references {
                append(reference, Int(image.start) + reference.column, in: view)
            }
        }
    }

    private mutating func append(
        _ references: [FieldReference], _ cells: ArraySlice<Cell>, _ batches: [EventBatch]
    ) {
        for (reference, cell) in zip(references, cells) {
            batches[Int(cell.batch)].withView { view in
                append(reference, Int(cell.value), in: view)
            }
        }
    }

    private mutating func append(
        _ reference: FieldReference, _ place: Int, in view: BatchView
    ) {
        let value = view.value(at: place)
        switch value.form {
        case .null, .unchanged: parameters.appendNull()
        case .text where reference.isWholeColumn, .binary where reference.isWholeColumn:
            unsafe parameters.append(view.bytes(of: value))
        case .text, .binary, .bson, .bsonKey:
            if texts.render(reference, place, in: view) {
                texts.append(to: &parameters)
            } else {
                parameters.appendNull()
            }
        }
    }

    private mutating func execute(
        _ name: String, _ sql: @autoclosure () -> String, _ place: EventPlace,
        _ session: TargetSession, isPart: Bool = false, isWhole: Bool = false
    ) throws(PostgresFailure) {
        guard !parameters.hasNUL else {
            // The server would cut the value off; this it refuses.
            try session.connection.addCommand("SELECT pg_catalog.chr(0)")
            pending.append(Pending(place: place, isPart: false))
            return
        }
        let commands = try session.add(name, sql(), parameters)
        // A preparation before it fails as the statement itself would.
        for command in 0..<commands {
            let isLast = command == commands - 1
            pending.append(
                Pending(place: place, isPart: isPart && isLast, isWhole: isWhole && isLast))
        }
    }
}
