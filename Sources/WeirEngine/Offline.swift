package import WeirCore

extension PipelinePlan {
    /// For a command that speaks to a source without running the pipeline.
    package func makeOfflineSource(
        _ store: StateStore, on thread: ThreadExecutor
    ) throws(WeirError) -> any SourceConnector {
        try makeSource(
            ConnectorContext(
                pipeline: name, name: "source", notation: notation, executor: thread,
                notes: StoredNotes(store: store, pipeline: name), reports: NoReports(),
                log: { _, _ in }))
    }
}

extension PipelinePlan {
    /// As of the source.
    package func makeOfflineSink(
        _ sink: SinkPlan, _ store: StateStore, on thread: ThreadExecutor
    ) throws(WeirError) -> any SinkConnector {
        try sink.make(
            ConnectorContext(
                pipeline: name, name: sink.name, notation: notation, executor: thread,
                notes: StoredNotes(store: store, pipeline: name), reports: NoReports(),
                log: { _, _ in }))
    }
}

extension PipelinePlan {
    /// Of a pipeline whose configuration cannot be read: its parts by name, and none can be made.
    package init(
        remembered name: String, _ components: [String: ConfiguredComponent], _ sinks: [String],
        _ restore: OrphanWatch.Restore, because error: WeirError
    ) {
        let source = components["source"]?.settings
        self.init(
            name: name, sourceType: source?.type ?? "?",
            notation: source.flatMap { restore.notation($0.type) } ?? .unknown,
            connection: source?.connection ?? source?.type ?? "?",
            sinks: sinks.map { sink in
                SinkPlan(
                    name: sink, type: components[sink]?.settings.type ?? "?",
                    make: { (_) throws(WeirError) in throw error })
            },
            makeSource: { (_) throws(WeirError) in throw error })
    }
}

/// For a command, which prints what it has to say.
private struct NoReports: OperatorReports {
    func raise(_ finding: Finding) {}
    func settle(_ code: ErrorCode, _ subject: String) {}
    func declare(_ gap: DeclaredGap) async throws(WeirError) {}
}

extension PipelineReport {
    /// From the state store and the source, while no daemon runs.
    ///
    /// - Parameter known: what the source said when it was asked last, shown with its age where it
    ///   cannot be asked now.
    package init(
        offline plan: PipelinePlan, rows: [CheckpointRow], failures: [FailureRow],
        gaps: [GapRow],
        configured: [String: ConfiguredComponent] = [:], stopped: ProblemReport? = nil,
        retention: Result<SourceRetention, WeirError>?, known: KnownRetention? = nil
    ) {
        var problems = stopped.map { [$0.whileDown] } ?? []
        var kept: SourceRetention?
        var asked: Int64?
        switch retention {
        case .success(let facts):
            kept = facts
            asked = WallClock.micros()
            // What it stopped by may have said so, with the same way on.
            let lost = rows.isEmpty ? [] : ProblemReport.lost(facts, of: plan)
            problems += lost.filter { _ in
                !problems.contains { $0.hint?.contains(Self.wayOn(plan.name)) == true }
            }
        case .failure(let error):
            // The same again where that is what it stopped by.
            if error.code.name != stopped?.code {
                problems.append(ProblemReport(error, component: "source"))
            }
            kept = known?.retention
            kept?.active = false
            asked = known?.micros
        case nil: break
        }
        self.init(
            name: plan.name, state: .stopped, checked: false,
            source: SourceReport(
                type: plan.sourceType, connection: plan.connection, server: "", received: nil,
                receivedBytes: nil, filtered: nil, lastEvent: nil, lastHeartbeat: nil,
                lastRead: nil, retention: kept,
                retentionAsOf: asked.map(ISOTime.text)),
            sinks: plan.sinks.map { sink in
                SinkReport(offline: sink, rows.first { $0.sink == sink.name }, plan.notation)
                    .began(configured[sink.name]?.began, plan.notation)
            },
            lagSeconds: nil, queuedEvents: nil, receivedPerSecond: nil, deliveredPerSecond: nil,
            deliveredLastMinutes: [], errorsLastHour: nil,
            warnings: plan.warnings, findings: [], gaps: gaps.map(GapReport.init),
            problems: problems, errors: failures.map(ErrorReport.init))
    }
}

extension PipelineReport {
    fileprivate static func wayOn(_ pipeline: String) -> String {
        "weir position set \(pipeline) now --yes"
    }
}

extension ProblemReport {
    /// Of a pipeline that had stopped when the daemon ended.
    fileprivate var whileDown: Self {
        var problem = self
        problem.note =
            "The pipeline had stopped with this when the daemon ran last. When the cause is "
            + "removed: weir start."
        return problem
    }

    /// What the source no longer has for us: the next start will stop there.
    fileprivate static func lost(_ retention: SourceRetention, of plan: PipelinePlan) -> [Self] {
        guard retention.isLost else { return [] }
        let holder = plan.notation.retention.holderInFull
        return [
            ProblemReport(
                WeirError(
                    .sourceLost, .positionLost,
                    "\(holder) \"\(retention.name)\" is \(retention.status): the source no longer "
                        + "has what comes after the stored position",
                    hint: "Go on at the present and declare the gap: "
                        + PipelineReport.wayOn(plan.name)),
                component: "source")
        ]
    }
}

extension SinkReport {
    fileprivate init(
        offline plan: SinkPlan, _ row: CheckpointRow?, _ notation: SourceNotation
    ) {
        self.init(
            name: plan.name, type: plan.type, state: .unknown,
            position: row.map { notation.display($0.position) } ?? "", began: nil, beganAt: nil,
            lagSeconds: nil,
            queuedEvents: nil, queuedBytes: nil, inFlightEvents: nil,
            spilledBytes: row?.spill?.length ?? 0, delivered: nil, filtered: nil, late: nil,
            bytes: nil, retries: nil, p50Ms: nil, p99Ms: nil, errorsLastHour: nil)
    }
}

extension ErrorCode {
    static let sourceLost = ErrorCode(
        "engine.source_lost",
        meaning: "While no daemon runs, the source was asked what it keeps for the pipeline: the "
            + "replication slot is gone or was given up, or the oplog no longer reaches back to the "
            + "stored position. Changes are missing.",
        remedy: "weir position set PIPELINE now --yes goes on at the present and declares the gap.")
}

extension ErrorCode {
    package static let configurationUnread = ErrorCode(
        "engine.configuration_unread",
        meaning: "While no daemon runs, the configuration does not load: it is missing, has an "
            + "error, or a secret it names is not there. Sources cannot be asked, and status shows "
            + "what was known of them last.",
        remedy: "weir validate shows every error of the file; secrets must be given to the command "
            + "as they are given to the daemon.")
}

extension ErrorCode {
    package static let dropIncomplete = ErrorCode(
        "engine.drop_incomplete",
        meaning: "weir drop could not remove what the pipeline keeps at its servers: one cannot be "
            + "reached, or its connection is no longer configured.",
        remedy: "Make it reachable or name the connection in the configuration again; or remove it "
            + "by hand as the message says, then: weir drop PIPELINE --yes --forget.")
}
