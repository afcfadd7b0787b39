package import WeirCore

extension PipelinePlan {
    /// For a command that speaks to a source without running the pipeline.
    package func makeOfflineSource(
        _ store: StateStore, on thread: ThreadExecutor
    ) throws(WeirError) -> any SourceConnector {
        try makeSource(
            ConnectorContext(
                pipeline: name, name: "source", executor: thread,
                notes: StoredNotes(store: store, pipeline: name), reports: NoReports(),
                log: { _, _ in }))
    }
}

/// For a command, which prints what it has to say.
private struct NoReports: OperatorReports {
    func raise(_ finding: Finding) {}
    func settle(_ code: ErrorCode, _ subject: String) {}
    func declare(_ gap: DeclaredGap) async throws(WeirError) {}
}

/// Moves a stopped pipeline to another position, on an operator's word.
package struct Seek: Sendable {
    private let plan: PipelinePlan
    private let store: StateStore

    package init(plan: PipelinePlan, store: StateStore) {
        self.plan = plan
        self.store = store
    }

    /// Where the pipeline stands; nil before its first start.
    package func stored() async throws(WeirError) -> StoredPosition? {
        guard let known = try await store.pipeline(plan.name),
            let position = try await store.checkpoints(of: plan.name).map(\.covered).min()
        else { return nil }
        return StoredPosition(position: position, identity: known.identity)
    }

    /// Carries a plan out: at the source, then in the state, where the epoch rises and the gap is
    /// written down.
    package func apply(
        _ source: any SourceSeek, _ seekPlan: SeekPlan
    ) async throws(WeirError) -> StoredPosition {
        let before = try await stored()
        let epoch = try await store.pipeline(plan.name)?.epoch
        let moved = try await source.seek(seekPlan)
        let now = WallClock.micros()
        try await store.declare(
            DeclaredGap(
                .positionSet, from: before?.position.display ?? "", to: moved.position.display,
                "the position was set to \(seekPlan.target)",
                hint: ErrorCode.positionSet.remedy),
            of: plan.name, component: "source", atMicros: now)
        // Without marks, sinks go on with what they hold now.
        try await store.begin(
            PipelineRow(name: plan.name, identity: moved.identity, epoch: Epoch.next(after: epoch)),
            checkpoints: plan.sinks.map {
                CheckpointRow(
                    pipeline: plan.name, sink: $0.name, position: moved.position, mark: nil,
                    updatedMicros: now)
            })
        return moved
    }
}

extension PipelineReport {
    /// From the state store and the source, while no daemon runs.
    package init(
        offline plan: PipelinePlan, rows: [CheckpointRow], failures: [FailureRow],
        gaps: [GapRow],
        retention: Result<SourceRetention, WeirError>?
    ) {
        var problems: [ProblemReport] = []
        var kept: SourceRetention?
        switch retention {
        case .success(let facts): kept = facts
        case .failure(let error): problems = [ProblemReport(error, component: "source")]
        case nil: break
        }
        self.init(
            name: plan.name, state: .stopped,
            source: SourceReport(
                type: plan.sourceType, connection: plan.connection, server: "", received: 0,
                receivedBytes: 0, filtered: 0, lastEvent: nil, lastHeartbeat: nil,
                retention: kept),
            sinks: plan.sinks.map { sink in
                SinkReport(offline: sink, rows.first { $0.sink == sink.name })
            },
            lagSeconds: 0, queuedEvents: 0, receivedPerSecond: 0, deliveredPerSecond: 0,
            deliveredLastMinutes: [],
            errorsLastHour: Self.errors(failures, since: WallClock.micros() - 3_600_000_000),
            warnings: plan.warnings, findings: [], gaps: gaps.map(GapReport.init),
            problems: problems, errors: failures.map(ErrorReport.init))
    }
}

extension SinkReport {
    fileprivate init(offline plan: SinkPlan, _ row: CheckpointRow?) {
        self.init(
            name: plan.name, type: plan.type, state: "unknown",
            position: row?.position.display ?? "", lagSeconds: 0, queuedEvents: 0,
            queuedBytes: 0, inFlightEvents: 0, spilledBytes: row?.spill?.length ?? 0,
            delivered: 0, filtered: 0, late: 0, bytes: 0, retries: 0, p50Ms: nil, p99Ms: nil,
            errorsLastHour: 0)
    }
}

extension ErrorCode {
    static let positionSet = ErrorCode(
        "engine.position_set",
        meaning: "An operator moved the pipeline's position: changes between the old and the new "
            + "one were skipped or came again.",
        remedy: "Bring the targets in step with the source, then: weir gap resolve ID.")
}
