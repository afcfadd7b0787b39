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
        let isFew = chunk.taken <= Self.fewMax
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
        let outcome = try server { () throws(PostgresFailure) in
            try rows.writeInOrder(all, of: chunk, .moving, session)
        }
        if outcome.refusal == nil {
            let late = try await complete(outcome.missing, of: chunk, session)
            if try constraintsHold(chunk, session) {
                if let move { try commit(move, isDurable, session) }
                return late
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
                return try sets.write(chunk, session) == .written
            } catch {
                guard FailureClass(error) == .data else { throw .server(error) }
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
        for places in chunk.transactions {
            late += try await writeTransaction(places, of: chunk, session)
        }
        if let move { try commit(move, isDurable, session) }
        return late
    }

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
            guard FailureClass(error) == .data else { throw .server(error) }
            return error
        }
    }

    private func writeTransaction(
        _ places: [EventPlace], of chunk: WriteChunk, _ session: TargetSession
    ) async throws(TargetFailure) -> Int {
        let savepoint = "weir_transaction"
        try control("SAVEPOINT \(savepoint)", session)
        var refusal: RowWriter.Refusal?
        for way in RowWriter.Way.allCases where isOpen(way, places, of: chunk, after: refusal) {
            let tried = try server { () throws(PostgresFailure) in
                try rows.write(places, of: chunk, way, session)
            }
            guard var outcome = tried else { continue }
            if outcome.refusal == nil {
                let late = try await complete(outcome.missing, of: chunk, session)
                guard let failure = try violation(in: chunk, session), let last = places.last else {
                    try control("RELEASE SAVEPOINT \(savepoint)", session)
                    return late
                }
                outcome.refusal = RowWriter.Refusal(place: last, failure: failure)
            }
            try check(outcome.refusal)
            refusal = refusal ?? outcome.refusal
            try control("ROLLBACK TO SAVEPOINT \(savepoint)", session)
            session.forgetPrepared()
        }
        guard let refusal else { return 0 }
        let error = refused(refusal, of: chunk)
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

    private func refused(_ refusal: RowWriter.Refusal, of chunk: WriteChunk) -> WeirError {
        let event = chunk.event(refusal.place)
        let batch = chunk.batches[refusal.place.batch]
        let schema = batch.tables[Int(event.table)]
        let target = chunk.plan(refusal.place)?.target.name
        let keys = Self.keyWords(of: event, schema, batch)
        let position = batch.position(of: event)
        let table = TableName(schema: schema.schema, name: schema.name)
        // As the first part of the identity in a line of the format `weir`.
        let kind = schema.isCollection ? "mg" : "pg"
        return WeirError(
            .rowRefused, .rejected,
            "\(place) refuses \(event.operation.name) of \"\(table)\" (\(keys)) in "
                + "\"\(target?.description ?? "")\": \(refusal.failure.words)",
            detail: "Event \(kind):\(context.pipeline):\(position.token), SQLSTATE "
                + "\(refusal.failure.sqlState).",
            hint: ErrorCode.rowRefused.remedy)
    }

    /// The key for people, as `a=1, b=2`.
    private static func keyWords(
        of event: Event, _ schema: TableSchema, _ batch: EventBatch
    ) -> String {
        var parts: [(name: String, value: [UInt8])] = []
        if schema.isCollection {
            guard !event.key.isEmpty, let id = schema.keyReferences.first else { return "" }
            var text = OutputText()
            var value = Array("null".utf8)
            if batch.withView({ text.render(id, Int(event.key.start), in: $0) }) {
                value = []
                text.append(to: &value)
            }
            parts = [("_id", value)]
        } else {
            parts = zip(schema.key, batch.keyBytes(of: event)).map { (schema.columns[$0].name, $1) }
        }
        return parts.map { "\($0.name)=\(String(decoding: $0.value.prefix(200), as: UTF8.self))" }
            .joined(separator: ", ")
    }

    // MARK: Rows beside the stream

    /// Inserts the rows the target lacks and of which the stream brought only a part.
    ///
    /// Of several changes of one row the last counts: what it did not send is read.
    private func complete(
        _ missing: [EventPlace], of chunk: WriteChunk, _ session: TargetSession
    ) async throws(TargetFailure) -> Int {
        if missing.isEmpty { return 0 }
        var last: [RowName: Int] = [:]
        for (index, place) in missing.enumerated() { last[RowName(place, of: chunk)] = index }
        let places = last.values.sorted().map { missing[$0] }
        var start = 0
        while start < places.count {
            let end = min(start + Self.lateMax, places.count)
            try await completeSome(Array(places[start..<end]), of: chunk, session)
            start = end
        }
        return missing.count
    }

    private func completeSome(
        _ places: [EventPlace], of chunk: WriteChunk, _ session: TargetSession
    ) async throws(TargetFailure) {
        var whole: [EventBatch] = []
        var plans: [[CopyPlan?]] = []
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
            for event in events {
                // When it is gone, what became of it comes through the stream.
                guard let complete = completion.complete(event, of: batch) else { continue }
                whole.append(complete)
                plans.append([chunk.plan(first)])
            }
        }
        let late = WriteChunk(whole, plans)
        let outcome = try server { () throws(PostgresFailure) in
            try rows.insertMissing(late, session)
        }
        if let refusal = outcome.refusal {
            try check(refusal)
            throw .weir(refused(refusal, of: late))
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
        guard let refusal, FailureClass(refusal.failure) != .data else { return }
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
    let plan: Int
    let key: [[UInt8]]

    init(_ place: EventPlace, of chunk: WriteChunk) {
        plan = chunk.plan(place)?.number ?? 0
        key = chunk.batches[place.batch].keyBytes(of: chunk.event(place))
    }
}
