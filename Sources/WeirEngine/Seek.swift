import GRDB
package import WeirCore

/// Moves a stopped pipeline to another position, on an operator's word.
package struct Seek: Sendable {
    private let plan: PipelinePlan
    private let store: StateStore
    private let directory: StateDirectory

    package init(plan: PipelinePlan, store: StateStore, directory: StateDirectory) {
        self.plan = plan
        self.store = store
        self.directory = directory
    }

    /// What the state holds of the pipeline. Damaged rows count as none: moving the position is the
    /// way out of that.
    private func known() async throws(WeirError) -> (row: PipelineRow?, rows: [CheckpointRow]) {
        do throws(WeirError) {
            return (
                try await store.pipeline(plan.name), try await store.checkpoints(of: plan.name)
            )
        } catch  where error.code == .stateDamaged {
            return (nil, [])
        }
    }

    /// Where the pipeline stands; nil before its first start.
    package func stored() async throws(WeirError) -> StoredPosition? {
        let (known, rows) = try await known()
        guard let known, let position = rows.map(\.covered).min() else { return nil }
        return StoredPosition(position: position, identity: known.identity)
    }

    /// Carries a plan out: at the source, then in the state, where the epoch rises and what is
    /// skipped is written down.
    package func apply(
        _ source: any SourceSeek, _ seekPlan: SeekPlan
    ) async throws(WeirError) -> StoredPosition {
        let (known, rows) = try await known()
        let moved = try await source.seek(seekPlan)
        let now = WallClock.micros()
        let isInPlace = seekPlan.isInPlace && !rows.isEmpty
        let isSame = known?.identity == moved.identity
        // Nothing moved: what each sink left for itself still holds, also of sinks that are no
        // longer configured: the next start compares them all with the configuration.
        let checkpoints =
            isInPlace
            ? rows
            : plan.sinks.map { sink in
                // Without marks, sinks go on with what they hold now.
                CheckpointRow(
                    pipeline: plan.name, sink: sink.name, position: moved.position, mark: nil,
                    updatedMicros: now)
            }
        let gaps = isInPlace ? [] : self.gaps(rows, to: moved, isSame: isSame, seekPlan)
        let gone = isInPlace ? [] : try await goneSinks()
        try await store.move(
            PipelineRow(
                name: plan.name, identity: moved.identity, epoch: Epoch.next(after: known?.epoch)),
            checkpoints: checkpoints, gaps: gaps, gone: gone, isContinuous: gaps.isEmpty,
            atMicros: now)
        // After the gaps are on disk: what waited there is skipped.
        directory.removeSpills(of: plan.name, sinks: gone)
        guard isInPlace, let position = checkpoints.map(\.covered).min() else { return moved }
        return StoredPosition(position: position, identity: moved.identity)
    }

    /// Sinks of the state that are not configured any more.
    private func goneSinks() async throws(WeirError) -> [String] {
        let configured = try await store.configured(of: plan.name).keys.filter { $0 != "source" }
        return Set(try await store.sinkNames(of: plan.name)).union(configured)
            .subtracting(plan.sinks.map(\.name)).sorted()
    }

    /// What the sinks will lack: of each what lies between its own place and the new one.
    ///
    /// - Parameter isSame: positions before and after are of one source and can be compared.
    private func gaps(
        _ rows: [CheckpointRow], to moved: StoredPosition, isSame: Bool, _ seekPlan: SeekPlan
    ) -> [StateStore.ComponentGap] {
        let notation = plan.notation
        func gap(from: Position?) -> DeclaredGap {
            DeclaredGap(
                .positionSet, from: from.map(notation.display) ?? "",
                to: notation.display(moved.position),
                "the position was set to \(seekPlan.target)", hint: ErrorCode.positionSet.remedy)
        }
        let behind = isSame ? rows.filter { $0.position < moved.position } : rows
        guard let first = behind.first else {
            return rows.isEmpty ? [("source", gap(from: nil))] : []
        }
        let isOneForAll =
            behind.count == rows.count && behind.allSatisfy { $0.position == first.position }
        return isOneForAll
            ? [("source", gap(from: first.position))]
            : behind.map { ($0.sink, gap(from: $0.position)) }
    }
}

extension StateStore {
    typealias ComponentGap = (component: String, gap: DeclaredGap)

    private static let continuousEpoch = "continuous_epoch"

    /// Puts a pipeline at another position in one transaction, whatever was stored before.
    ///
    /// - Parameter gone: sinks that are forgotten.
    func move(
        _ row: PipelineRow, checkpoints: [CheckpointRow], gaps: [ComponentGap], gone: [String],
        isContinuous: Bool, atMicros: Int64
    ) throws(WeirError) {
        try write { database in
            for (component, gap) in gaps {
                _ = try GapRow.declare(database, row.name, component, gap, atMicros: atMicros)
            }
            for sink in gone { try ConfiguredComponent.forget(database, row.name, sink) }
            let configured = try ConfiguredComponent.all(database, of: row.name)
            try database.execute(
                sql: "DELETE FROM checkpoint WHERE pipeline = ?", arguments: [row.name])
            try row.save(database)
            // The way on from a stop is to move the position.
            try StoppedNote.forget(database, row.name)
            for checkpoint in checkpoints {
                if configured[checkpoint.sink]?.began == nil {
                    try checkpoint.saveAsBeginning(database)
                } else {
                    try checkpoint.save(database)
                }
            }
            if isContinuous {
                try NoteRow.save(database, row.name, Self.continuousEpoch, "\(row.epoch)")
            }
        }
    }

    /// See `ConnectorContext.isContinuous`.
    func isContinuous(_ pipeline: String, epoch: Int) throws(WeirError) -> Bool {
        try note(Self.continuousEpoch, of: pipeline) == "\(epoch)"
    }
}

extension ErrorCode {
    static let positionSet = ErrorCode(
        "engine.position_set",
        meaning: "An operator moved the pipeline's position: changes between the old and the new "
            + "one were skipped.",
        remedy: "Bring the targets in step with the source, then: weir gap resolve ID.")
}
