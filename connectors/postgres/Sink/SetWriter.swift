import WeirCore
import WeirPostgresClient
import WeirValues

/// Writes many changes with few statements: rows are copied, then merged.
struct SetWriter: ~Copyable {
    private var writer = CopyWriter()
    /// Plans whose rows were there already when they were copied, and for how many writes more
    /// their inserts are merged instead.
    private var merged: [Int: Int] = [:]

    /// Targets that did not take all rows, and refused none.
    private(set) var skipped: Set<TableName> = []

    private static let mergedWrites = 64

    enum Outcome {
        case written
        /// Only the order of the changes tells what becomes of a row.
        case needsOrder
    }

    /// What one table's changes amount to.
    private struct Group {
        let plan: CopyPlan
        var places: [EventPlace] = []
        /// Nothing but inserts.
        var isCopied: Bool
    }

    /// Inserts met rows that were there: from now on they are merged. False when none were copied
    /// straight into their tables.
    mutating func mergeFromNowOn(_ chunk: WriteChunk) -> Bool {
        var isNew = false
        for plan in chunk.plans.joined().compactMap(\.self)
        where plan.isKeyed && merged[plan.number] == nil {
            merged[plan.number] = Self.mergedWrites
            isNew = true
        }
        return isNew
    }

    /// Writes the events in the transaction that is open.
    mutating func write(
        _ chunk: WriteChunk, _ session: TargetSession
    ) throws(PostgresFailure) -> Outcome {
        var groups: [Group] = []
        var indexes: [Int: Int] = [:]
        var outcome = Outcome.written
        var truncated: [CopyPlan] = []
        var restarts = false
        try chunk.visit { (place, event, plan) throws(PostgresFailure) in
            if event.operation == .truncate {
                if case .needsOrder = try write(groups, chunk, session) { outcome = .needsOrder }
                groups = []
                indexes = [:]
                if event.has(Event.restartIdentity) != restarts {
                    try Self.truncate(&truncated, restarts: restarts, session)
                    restarts.toggle()
                }
                truncated.append(plan)
                return
            }
            try Self.truncate(&truncated, restarts: restarts, session)
            if indexes[plan.number] == nil {
                // Deletes of all groups come before their inserts. Of one target that holds within
                // a group only, so another shape of its table begins anew.
                if groups.contains(where: { $0.plan.target.name == plan.target.name }) {
                    if case .needsOrder = try write(groups, chunk, session) {
                        outcome = .needsOrder
                    }
                    groups = []
                    indexes = [:]
                }
                indexes[plan.number] = groups.count
                groups.append(Group(plan: plan, isCopied: merged[plan.number] == nil))
            }
            let index = indexes[plan.number] ?? 0
            groups[index].places.append(place)
            if event.operation != .insert { groups[index].isCopied = false }
        }
        try Self.truncate(&truncated, restarts: restarts, session)
        if case .needsOrder = try write(groups, chunk, session) { outcome = .needsOrder }
        for (plan, left) in merged { merged[plan] = left == 1 ? nil : left - 1 }
        return outcome
    }

    private static func truncate(
        _ plans: inout [CopyPlan], restarts: Bool, _ session: TargetSession
    ) throws(PostgresFailure) {
        guard !plans.isEmpty else { return }
        _ = try session.connection.query(
            CopyPlan.truncate(plans, restarts: restarts).joined(separator: "; "),
            within: TargetSession.statementLimit)
        plans = []
    }

    private mutating func write(
        _ groups: [Group], _ chunk: WriteChunk, _ session: TargetSession
    ) throws(PostgresFailure) -> Outcome {
        let groups = Self.parentsFirst(groups)
        var sets: [ChangeSet?] = []
        for group in groups {
            if group.isCopied {
                sets.append(nil)
                continue
            }
            var set = ChangeSet(group.plan)
            for place in group.places { set.add(place, in: chunk.batches) }
            if set.needsOrder { return .needsOrder }
            if group.plan.mayCollide, try collides(set, group.plan, chunk, session) {
                return .needsOrder
            }
            sets.append(set)
        }
        for index in groups.indices.reversed() {
            if let set = sets[index] { try delete(set, groups[index].plan, chunk, session) }
        }
        for index in groups.indices {
            if let set = sets[index] {
                guard try merge(set, groups[index].plan, chunk, session) else { return .needsOrder }
            } else {
                try copy(groups[index], chunk, session)
            }
        }
        return .written
    }

    /// A table after those its foreign keys refer to, as far as they do not refer in circles.
    private static func parentsFirst(_ groups: [Group]) -> [Group] {
        var left = groups
        var sorted: [Group] = []
        while !left.isEmpty {
            let waiting = Set(left.map(\.plan.target.oid))
            let index =
                left.firstIndex { group in
                    group.plan.target.parents.allSatisfy { !waiting.contains($0) }
                } ?? 0
            sorted.append(left.remove(at: index))
        }
        return sorted
    }

    // MARK: Inserts

    /// Copies rows straight into the table.
    private mutating func copy(
        _ group: Group, _ chunk: WriteChunk, _ session: TargetSession
    ) throws(PostgresFailure) {
        try session.connection.beginCopyIn(group.plan.copy, by: session.deadline)
        let places = group.places
        var next = 0
        while next < places.count {
            let batch = chunk.batches[places[next].batch]
            next = batch.withView { view in
                var index = next
                let number = places[next].batch
                while index < places.count, places[index].batch == number, !writer.isFull {
                    let event = batch.events[places[index].event]
                    writer.append(group.plan.references, of: event.after, in: view)
                    index += 1
                }
                return index
            }
            try send(session)
        }
        let count = try session.connection.endCopyIn(by: session.deadline)
        if count < places.count { skipped.insert(group.plan.target.name) }
    }

    /// Sends what was written, if it is enough.
    private mutating func send(
        _ session: TargetSession, isLast: Bool = true
    ) throws(PostgresFailure) {
        guard !writer.isEmpty, isLast || writer.isFull else { return }
        let failure = unsafe writer.withBytes { bytes -> PostgresFailure? in
            do throws(PostgresFailure) {
                unsafe try session.connection.sendCopyData(bytes, by: session.deadline)
                return nil
            } catch {
                return error
            }
        }
        writer.removeAll()
        if let failure { throw failure }
    }

    // MARK: Changes

    /// Copies cells of some rows into a temporary table.
    private mutating func stage(
        _ copy: String, _ rows: [Int], _ references: [FieldReference],
        _ cells: (Int) -> ArraySlice<Cell>, _ chunk: WriteChunk, _ session: TargetSession
    ) throws(PostgresFailure) {
        try session.connection.beginCopyIn(copy, by: session.deadline)
        for row in rows {
            writer.append(references, cells(row), in: chunk.batches)
            try send(session, isLast: false)
        }
        try send(session)
        _ = try session.connection.endCopyIn(by: session.deadline)
    }

    /// Whether two rows of the set are one to the target.
    private mutating func collides(
        _ set: ChangeSet, _ plan: CopyPlan, _ chunk: WriteChunk, _ session: TargetSession
    ) throws(PostgresFailure) -> Bool {
        if set.count < 2 { return false }
        try session.prepareStage("gone", plan)
        try stage(
            plan.copyGone, Array(0..<set.count), plan.keyReferences, { set.key(of: $0) }, chunk,
            session)
        let found = try session.connection.query(
            plan.findCollision, within: TargetSession.statementLimit)
        return !found.isEmpty
    }

    private mutating func delete(
        _ set: ChangeSet, _ plan: CopyPlan, _ chunk: WriteChunk, _ session: TargetSession
    ) throws(PostgresFailure) {
        let rows = set.states.indices.filter { set.states[$0] == .gone }
        guard !rows.isEmpty else { return }
        try session.prepareStage("gone", plan)
        try stage(
            plan.copyGone, rows, plan.keyReferences, { set.key(of: $0) }, chunk, session)
        _ = try session.connection.query(plan.deleteGone, within: TargetSession.statementLimit)
    }

    /// False when the target lacks a row of which only a part is known.
    private mutating func merge(
        _ set: ChangeSet, _ plan: CopyPlan, _ chunk: WriteChunk, _ session: TargetSession
    ) throws(PostgresFailure) -> Bool {
        let whole = set.states.indices.filter { set.states[$0] == .whole }
        let all = Array(plan.outputs.indices)
        for wereThere in [false, true] {
            let rows = whole.filter { set.wereThere[$0] == wereThere }
            guard !rows.isEmpty else { continue }
            try stage(rows, all, of: set, plan, chunk, session)
            // An UPDATE is cheaper than an upsert; rows that are not there after all are inserted.
            if wereThere, try update(all, plan, session) == rows.count { continue }
            let count = try session.connection.command(
                plan.mergeRows, within: TargetSession.statementLimit)
            if plan.countsEachRow, count < rows.count { skipped.insert(plan.target.name) }
        }
        for (columns, rows) in Self.parts(of: set, plan, chunk) {
            try stage(rows, columns, of: set, plan, chunk, session)
            if try update(columns, plan, session) < rows.count { return false }
        }
        return true
    }

    /// Returns how many rows there were.
    private func update(
        _ columns: [Int], _ plan: CopyPlan, _ session: TargetSession
    ) throws(PostgresFailure) -> Int {
        guard let sql = plan.update(staged: columns) else { return 0 }
        return try session.connection.command(sql, within: TargetSession.statementLimit)
    }

    private mutating func stage(
        _ rows: [Int], _ columns: [Int], of set: ChangeSet, _ plan: CopyPlan,
        _ chunk: WriteChunk, _ session: TargetSession
    ) throws(PostgresFailure) {
        try session.prepareStage("rows", plan)
        let isAll = columns.count == plan.outputs.count
        try stage(
            plan.copyRows(columns), rows, columns.map { plan.references[$0] },
            { row in
                let cells = set.cells(of: row)
                return isAll ? cells : columns.map { cells[cells.startIndex + $0] }[...]
            }, chunk, session)
    }

    /// Rows known in part, by the columns that are known.
    private static func parts(
        of set: ChangeSet, _ plan: CopyPlan, _ chunk: WriteChunk
    ) -> [(columns: [Int], rows: [Int])] {
        var parts: [(columns: [Int], rows: [Int])] = []
        for row in set.states.indices where set.states[row] == .part {
            let cells = set.cells(of: row)
            let columns = plan.outputs.indices.filter { index in
                let cell = cells[cells.startIndex + index]
                return chunk.batches[Int(cell.batch)].values[Int(cell.value)].form != .unchanged
            }
            if let index = parts.lastIndex(where: { $0.columns == columns }) {
                parts[index].rows.append(row)
            } else {
                parts.append((columns, [row]))
            }
        }
        return parts
    }
}
