import WeirCore
import WeirPostgresClient

/// The ways to write a chunk, from the fastest to the most careful.
extension PostgresSink {
    /// Up to so many changes are written one by one: fewer round trips than with sets.
    private static let fewMax = 48
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
        let isPart = isInside
        if !chunk.needsOrder, !isFew {
            if try writeSets(chunk, session) {
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
            if let move { try commit(move, isDurable, session) }
            return late
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
        let isPart = isInside
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

    private func writeTransaction(
        _ places: [EventPlace], of chunk: WriteChunk, _ session: TargetSession
    ) async throws(TargetFailure) -> Int {
        let savepoint = "weir_transaction"
        try control("SAVEPOINT \(savepoint)", session)
        var first: RowWriter.Refusal?
        for way in RowWriter.Way.allCases {
            let tried = try server { () throws(PostgresFailure) in
                try rows.write(places, of: chunk, way, session)
            }
            guard let outcome = tried else { continue }
            if outcome.refusal == nil {
                let late = try await complete(outcome.missing, of: chunk, session)
                try control("RELEASE SAVEPOINT \(savepoint)", session)
                return late
            }
            try check(outcome.refusal)
            first = first ?? outcome.refusal
            try control("ROLLBACK TO SAVEPOINT \(savepoint)", session)
            session.forgetPrepared()
        }
        guard let first else { return 0 }
        throw .weir(refused(first, of: chunk))
    }

    private func refused(_ refusal: RowWriter.Refusal, of chunk: WriteChunk) -> WeirError {
        let event = chunk.event(refusal.place)
        let batch = chunk.batches[refusal.place.batch]
        let schema = batch.tables[Int(event.table)]
        let target = chunk.plan(refusal.place)?.target.name
        let keys = zip(schema.key, batch.keyBytes(of: event)).map { column, bytes in
            "\(schema.columns[column].name)=\(String(decoding: bytes.prefix(200), as: UTF8.self))"
        }
        let position = batch.position(of: event)
        let table = TableName(schema: schema.schema, name: schema.name)
        return WeirError(
            .rowRefused, .rejected,
            "\(place) refuses \(event.operation.name) of \"\(table)\" (\(keys.joined(separator: ", "))) "
                + "in \"\(target?.description ?? "")\": \(refusal.failure.message)",
            detail: "Event pg:\(context.pipeline):\(position.token), SQLSTATE "
                + "\(refusal.failure.sqlState).",
            hint: ErrorCode.rowRefused.remedy)
    }

    // MARK: Rows beside the stream

    /// Inserts the rows the target lacks and of which the stream brought only a part.
    private func complete(
        _ missing: [EventPlace], of chunk: WriteChunk, _ session: TargetSession
    ) async throws(TargetFailure) -> Int {
        var start = 0
        while start < missing.count {
            let end = min(start + Self.lateMax, missing.count)
            try await completeSome(Array(missing[start..<end]), of: chunk, session)
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
            try rows.writeInOrder(
                late.transactions.flatMap(\.self), of: late, .replacing, session)
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
