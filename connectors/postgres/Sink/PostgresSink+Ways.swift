import WeirCore
import WeirPostgresClient
import WeirValues

/// The ways to write a chunk, from the fastest to the most careful.
extension PostgresSink {
    /// Up to so many changes are written one by one: fewer round trips than with sets.
    private static let fewMax = 48
    /// Another row has the value, or one that excludes it.
    private static let takenStates = ["23505", "23P01"]
    /// So many rows are read beside the stream at once.
    private static let lateMax = 64

    /// Returns how many rows were read beside the stream.
    func write(
        _ chunk: WriteChunk, from old: SinkPosition, to next: SinkPosition?, isDurable: Bool,
        _ session: TargetSession
    ) async throws(TargetFailure) -> Int {
        let move = next.map { PositionMove(from: old, to: $0, source: source) }
        // A copy sends a huge value in slices; a parameter is in memory twice more at once.
        let isFew = chunk.taken <= Self.fewMax && !chunk.isHuge
        if isFew, !isInside, !isDurable, !chunk.hasParts, !chunk.truncates, let move {
            if try writeAtOnce(chunk, moving: move, session) { return 0 }
            return try await writeCarefully(chunk, move, isDurable, session)
        }
        let isPart = session.isInTransaction
        if !chunk.needsOrder, !isFew {
            if try writeSets(chunk, session), try constraintsHold(chunk, session) {
                if let move { try commit(move, isDurable, session) }
                return 0
            }
            try again(isPart: isPart, session)
        } else {
            try server { () throws(PostgresFailure) in try session.begin() }
        }
        // All in order, as if nothing could go wrong.
        let all = chunk.transactions.flatMap(\.self)
        var outcome = try server { () throws(PostgresFailure) in
            try rows.writeInOrder(all, of: chunk, .moving, session)
        }
        tell(outcome.skipped.compactMap { chunk.plan($0)?.target.name })
        if outcome.refusal == nil {
            outcome.refusal = try await complete(outcome.missing, of: chunk, session)
            if outcome.refusal == nil, try constraintsHold(chunk, session) {
                if let move { try commit(move, isDurable, session) }
                return outcome.missing.count
            }
        }
        try check(outcome.refusal)
        try again(isPart: isPart, session)
        return try await writeTransactions(chunk, move, isDurable, session)
    }

    /// One round trip for few rows. False when they do not fit as they are.
    private func writeAtOnce(
        _ chunk: WriteChunk, moving move: PositionMove, _ session: TargetSession
    ) throws(TargetFailure) -> Bool {
        let outcome = try server { () throws(PostgresFailure) in
            try rows.write(chunk, moving: move, session)
        }
        tell(outcome.skipped.compactMap { chunk.plan($0)?.target.name })
        guard let refusal = outcome.refusal else { return true }
        try check(refusal)
        session.forgetPrepared()
        return false
    }

    /// False when the rows do not fit as sets; the transaction is then to be begun again.
    private func writeSets(
        _ chunk: WriteChunk, _ session: TargetSession
    ) throws(TargetFailure) -> Bool {
        let isPart = session.isInTransaction
        try server { () throws(PostgresFailure) in
            try session.begin()
        }
        while true {
            do throws(PostgresFailure) {
                let outcome = try sets.write(chunk, session)
                tell(Array(sets.skipped))
                return outcome == .written
            } catch {
                guard kind(of: error) == .data else { throw .server(error) }
                guard error.sqlState == "23505", sets.mergeFromNowOn(chunk) else { return false }
            }
            try again(isPart: isPart, session)
        }
    }

    private func writeCarefully(
        _ chunk: WriteChunk, _ move: PositionMove?, _ isDurable: Bool, _ session: TargetSession
    ) async throws(TargetFailure) -> Int {
        try server { () throws(PostgresFailure) in try session.begin() }
        return try await writeTransactions(chunk, move, isDurable, session)
    }

    /// One transaction of the source after the other, each in the ways there are, so that only a
    /// row that fits in none of them is refused.
    private func writeTransactions(
        _ chunk: WriteChunk, _ move: PositionMove?, _ isDurable: Bool, _ session: TargetSession
    ) async throws(TargetFailure) -> Int {
        var late = 0
        for (index, places) in chunk.transactions.enumerated() {
            do throws(TargetFailure) {
                late += try await writeTransaction(places, of: chunk, session)
            } catch {
                if index > 0, let move, let first = places.first, error.isOfRows {
                    try keep(before: chunk.start(of: first), of: chunk, move, session)
                }
                throw error
            }
        }
        if let move { try commit(move, isDurable, session) }
        return late
    }

    /// Commits what lies before a transaction that cannot be written, so that whatever mends that
    /// one finds the target as the source was just before it.
    private func keep(
        before place: EventPlace, of chunk: WriteChunk, _ move: PositionMove,
        _ session: TargetSession
    ) throws(TargetFailure) {
        let position = chunk.batches[place.batch].position(of: chunk.event(place))
        let next = SinkPosition(epoch: move.to.epoch, position: position)
        try control("ROLLBACK TO SAVEPOINT \(Self.savepoint)", session)
        try commit(
            PositionMove(from: move.from, to: next, source: move.source), true, session)
        kept(next)
    }

    private static let savepoint = "weir_transaction"

    /// Looks at the constraints that wait for the commit, where there are any: a commit that fails
    /// would not tell which row is to blame.
    private func constraintsHold(
        _ chunk: WriteChunk, _ session: TargetSession
    ) throws(TargetFailure) -> Bool {
        try violation(in: chunk, session) == nil
    }

    private func violation(
        in chunk: WriteChunk, _ session: TargetSession
    ) throws(TargetFailure) -> PostgresFailure? {
        guard chunk.plans.joined().contains(where: { $0?.target.isDeferring ?? false }) else {
            return nil
        }
        do throws(PostgresFailure) {
            _ = try session.connection.query(
                "SET CONSTRAINTS ALL IMMEDIATE; SET CONSTRAINTS ALL DEFERRED",
                within: TargetSession.statementLimit)
            return nil
        } catch {
            guard kind(of: error) == .data else { throw .server(error) }
            return error
        }
    }

    private func writeTransaction(
        _ places: [EventPlace], of chunk: WriteChunk, _ session: TargetSession
    ) async throws(TargetFailure) -> Int {
        try control("SAVEPOINT \(Self.savepoint)", session)
        if let place = places.first(where: chunk.isUnfindable) {
            throw .weir(unfindable(place, of: chunk))
        }
        var refusal: RowWriter.Refusal?
        for way in RowWriter.Way.allCases where isOpen(way, places, of: chunk, after: refusal) {
            let tried = try server { () throws(PostgresFailure) in
                try rows.write(places, of: chunk, way, session)
            }
            guard var outcome = tried else { continue }
            tell(outcome.skipped.compactMap { chunk.plan($0)?.target.name })
            if outcome.refusal == nil {
                outcome.refusal = try await complete(outcome.missing, of: chunk, session)
            }
            if outcome.refusal == nil {
                guard let failure = try violation(in: chunk, session), let last = places.last else {
                    try control("RELEASE SAVEPOINT \(Self.savepoint)", session)
                    return outcome.missing.count
                }
                outcome.refusal = RowWriter.Refusal(place: last, failure: failure)
            }
            try check(outcome.refusal)
            refusal = refusal ?? outcome.refusal
            try control("ROLLBACK TO SAVEPOINT \(Self.savepoint)", session)
            session.forgetPrepared()
        }
        guard let refusal else { return 0 }
        let error = try refused(refusal, of: chunk, session)
        // The row it refers to may come with another sink, a moment later.
        let position = chunk.batches[refusal.place.batch].position(of: chunk.event(refusal.place))
        if refusal.failure.sqlState == "23503", !isInside, waitsForParent(of: position) {
            throw .weir(
                WeirError(
                    error.code, .transient, error.message, detail: error.detail, hint: error.hint))
        }
        if Self.takenStates.contains(refusal.failure.sqlState) { throw .taken(error) }
        throw .weir(error)
    }

    /// Whether to try a way after others were refused. Rows that go in another way than they did at
    /// the source must take no other rows along, and are put back only for values in each other's
    /// way: what a trigger refuses stays refused.
    private func isOpen(
        _ way: RowWriter.Way, _ places: [EventPlace], of chunk: WriteChunk,
        after refusal: RowWriter.Refusal?
    ) -> Bool {
        guard way != .moving else { return true }
        guard let state = refusal?.failure.sqlState, Self.takenStates.contains(state) else {
            return false
        }
        return way == .swapping
            || !places.contains { chunk.plan($0)?.target.isCascading ?? false }
    }

    // MARK: Rows beside the stream

    /// Inserts the rows the target lacks and of which the stream brought only a part.
    ///
    /// Of several changes of one row the last counts: what it did not send is read.
    ///
    /// - Returns: what the target refuses of it.
    private func complete(
        _ missing: [EventPlace], of chunk: WriteChunk, _ session: TargetSession
    ) async throws(TargetFailure) -> RowWriter.Refusal? {
        if missing.isEmpty { return nil }
        var last: [RowName: Int] = [:]
        for (index, place) in missing.enumerated() { last[RowName(place, of: chunk)] = index }
        let places = last.values.sorted().map { missing[$0] }
        var start = 0
        while start < places.count {
            let end = min(start + Self.lateMax, places.count)
            if let refusal = try await completeSome(Array(places[start..<end]), of: chunk, session)
            {
                return refusal
            }
            start = end
        }
        return nil
    }

    private func completeSome(
        _ places: [EventPlace], of chunk: WriteChunk, _ session: TargetSession
    ) async throws(TargetFailure) -> RowWriter.Refusal? {
        var whole: [EventBatch] = []
        var plans: [[CopyPlan?]] = []
        /// The change that each of `whole` completes.
        var changes: [EventPlace] = []
        var rest = places[...]
        while let first = rest.first {
            let batch = chunk.batches[first.batch]
            let table = chunk.event(first).table
            let same = rest.prefix { $0.batch == first.batch && chunk.event($0).table == table }
            rest = rest.dropFirst(same.count)
            let events = same.map(chunk.event)
            let read: EventBatch
            do throws(WeirError) {
                read = try await reader().rows(
                    of: batch.tables[Int(table)], keys: events.map(batch.keyBytes(of:)),
                    showing: Array(Set(events.map(\.transaction))))
            } catch {
                throw .weir(error)
            }
            let completion = RowCompletion(read)
            for (place, event) in zip(same, events) {
                // When it is gone, what became of it comes through the stream.
                guard let complete = completion.complete(event, of: batch) else { continue }
                whole.append(complete)
                plans.append([chunk.plan(first)])
                changes.append(place)
            }
        }
        let late = WriteChunk(whole, plans)
        let outcome = try server { () throws(PostgresFailure) in
            try rows.insertMissing(late, session)
        }
        return outcome.refusal.map { refusal in
            RowWriter.Refusal(place: changes[refusal.place.batch], failure: refusal.failure)
        }
    }

    // MARK: Transactions

    private func commit(
        _ move: PositionMove, _ isDurable: Bool, _ session: TargetSession
    ) throws(TargetFailure) {
        try server { () throws(PostgresFailure) in
            try session.commit(move, isDurable: isDurable)
        }
    }

    private func again(isPart: Bool, _ session: TargetSession) throws(TargetFailure) {
        try server { () throws(PostgresFailure) in try session.beginAgain(isPart: isPart) }
        session.forgetPrepared()
    }

    private func control(_ sql: String, _ session: TargetSession) throws(TargetFailure) {
        try server { () throws(PostgresFailure) in
            _ = try session.connection.query(sql, within: TargetSession.statementLimit)
        }
    }

    /// Throws what no other way of writing can mend.
    private func check(_ refusal: RowWriter.Refusal?) throws(TargetFailure) {
        guard let refusal, kind(of: refusal.failure) != .data else { return }
        throw .server(refusal.failure)
    }

    private func server<R>(
        _ body: () throws(PostgresFailure) -> R
    ) throws(TargetFailure) -> R {
        do throws(PostgresFailure) { return try body() } catch { throw .server(error) }
    }
}

/// A row of a target by its key.
private struct RowName: Hashable {
    /// Of whatever shape its table is: a later shape of a row replaces an earlier one.
    let target: TableName?
    let key: [[UInt8]]

    init(_ place: EventPlace, of chunk: WriteChunk) {
        target = chunk.plan(place)?.target.name
        key = chunk.batches[place.batch].keyBytes(of: chunk.event(place))
    }
}
