import WeirCore
import WeirPostgresClient

/// A target that was restored, and a sink that was given another name in the configuration.
extension PostgresSink {
    /// Looks whether the target still has what the sink of the earlier name delivered, as it would
    /// under that name, and goes by what that one noted about it.
    ///
    /// - Returns: the targets that one wrote to.
    func takeOver(
        from sink: String, _ mark: SinkPosition, _ session: TargetSession
    ) async throws(WeirError) -> Set<String> {
        let found: SinkPosition?
        let targets: Set<String>
        do { (found, targets) = try session.readPosition(of: sink) } catch {
            throw positionFailure(error, session, doing: "read the position of \(sink)")
        }
        if let found, found.epoch > context.epoch() { throw otherWriter() }
        if mark.position != nil, found.map(mark.isAhead) ?? true {
            guard mark.epoch < context.epoch() else { throw restored(found, mark) }
            try await declareRestored(found, mark)
        }
        for key in [memoryNote, numbersNote] {
            let former = key.dropLast(context.name.count) + sink
            if let note = try await context.notes.get(String(former)) {
                try await context.notes.set(key, note)
            }
        }
        memory = nil
        return targets
    }

    /// For an operator who was told and went on with what is there.
    func declareRestored(
        _ found: SinkPosition?, _ mark: SinkPosition
    ) async throws(WeirError) {
        let lost = words(mark.position) ?? "-"
        try await context.reports.declare(
            DeclaredGap(
                .targetRestored, place, from: words(found?.position) ?? "",
                to: words(mark.position) ?? "",
                "\(place) was restored, or its position removed: it may lack changes "
                    + (words(found?.position).map { "from \($0) to \(lost)" } ?? "before \(lost)"),
                hint: "Compare it with the source; an UPDATE there that changes nothing sends rows "
                    + "again. Then: weir gap resolve ID"))
    }
}
