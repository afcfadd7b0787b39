import WeirCore
import WeirPostgresClient
import WeirValues

/// What is said of a row that the target refuses.
extension PostgresSink {
    /// - Throws: what is no fault of the row, although it failed alone: a state that passes, unless
    ///   a function of the target's, which may raise any, looked at the row and raised it.
    func refused(
        _ refusal: RowWriter.Refusal, of chunk: WriteChunk, _ session: TargetSession
    ) throws(TargetFailure) -> WeirError {
        let reason = reason(of: refusal, in: chunk, session)
        if ServerFailureMap.passes(refusal.failure.sqlState), reason?.isOfFunction != true {
            throw .server(refusal.failure)
        }
        return refused(
            refusal.place, of: chunk, refusal.failure.words, state: refusal.failure.sqlState,
            reason)
    }

    /// Says which targets left out rows without refusing them, once each.
    func tell(_ targets: [TableName]) {
        for target in targets where skipping.insert(target).inserted {
            context.reports.raise(TargetCheck.skipped(target))
        }
    }

    /// A change that no condition finds the row of.
    func unfindable(_ place: EventPlace, of chunk: WriteChunk) -> WeirError {
        refused(
            place, of: chunk, "nothing tells the table's rows apart", state: nil,
            TargetRefusal(
                hint: "Give the source's table a primary key or a replica identity. Weir goes on "
                    + "behind this change after weir position set."))
    }

    private func refused(
        _ event: EventPlace, of chunk: WriteChunk, _ words: String, state: String?,
        _ reason: TargetRefusal?
    ) -> WeirError {
        let target = chunk.plan(event)?.target.name
        let batch = chunk.batches[event.batch]
        let event = chunk.event(event)
        let schema = batch.tables[Int(event.table)]
        let keys =
            event.operation == .truncate ? "" : " (\(Self.keyWords(of: event, schema, batch)))"
        let position = batch.position(of: event)
        let table = TableName(schema: schema.schema, name: schema.name)
        let id = EventID.shown(position, context.notation, source: context.pipeline)
        let details = [
            "Event \(id)"
                + (state.map { ", SQLSTATE \($0)." } ?? "."), reason?.detail,
        ]
        return WeirError(
            .rowRefused, .rejected,
            "\(place) refuses \(event.operation.name) of \"\(table)\"\(keys) in "
                + "\"\(target?.description ?? "")\": \(words)",
            detail: details.compactMap(\.self).joined(separator: " "),
            hint: reason?.hint ?? ErrorCode.rowRefused.remedy)
    }

    private func reason(
        of refusal: RowWriter.Refusal, in chunk: WriteChunk, _ session: TargetSession
    ) -> TargetRefusal? {
        guard let plan = chunk.plan(refusal.place) else { return nil }
        let target = plan.target
        if chunk.event(refusal.place).operation == .truncate {
            let commit = chunk.event(refusal.place).commit
            var tables: [TargetTable] = []
            chunk.visit { _, event, plan in
                if event.operation == .truncate, event.commit == commit {
                    tables.append(plan.target)
                }
            }
            return TargetRefusal.ofTruncate(tables, session.connection)
        }
        return TargetRefusal.inFunction(refusal.failure, writing: target, session.connection)
            ?? TargetRefusal.ofLongKey(refusal.failure)
            ?? TargetRefusal.ofOtherKey(
                refusal.failure, plan.key.map { plan.outputs[$0].name }, of: target,
                session.connection)
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
}
