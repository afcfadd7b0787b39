import WeirCore

extension PipelineReport {
    /// Pure: what the facts mean.
    ///
    /// - Parameter lanes: by the names of their sinks; none before the first has been made.
    init(
        _ plan: PipelinePlan, _ facts: PipelineMonitor.Facts, lanes: [String: LaneSnapshot],
        failures: [FailureRow], gaps: [GapRow], configured: [String: ConfiguredComponent] = [:],
        nowMicros: Int64
    ) {
        let seconds = nowMicros / 1_000_000
        var rate = facts.rate
        let sinks = plan.sinks.map { sink in
            SinkReport(
                sink, lanes[sink.name], facts, plan.notation,
                isHeldUp: Self.isHeldUp(sink, lanes), nowMicros: nowMicros
            ).began(configured[sink.name]?.began, plan.notation)
        }
        let histories = lanes.values.map(\.statistics.rate)
        let minutes = histories.map { history in
            var history = history
            return history.lastMinutes(atSeconds: seconds)
        }
        let delivered = histories.map { history in
            var history = history
            return history.rate(atSeconds: seconds)
        }
        let lags = sinks.map(\.lagSeconds)
        let lag = lags.contains(nil) ? nil : lags.compactMap { $0 }.max()
        var state = facts.state
        if state == .streaming {
            let isDown =
                facts.unansweredSeconds(nowMicros: nowMicros) != nil
                || lanes.values.contains { $0.statistics.failure != nil || $0.isStuck }
            state =
                isDown ? .failing : lag ?? 0 > Self.behindSeconds ? .catchingUp : .streaming
        }
        let components = ["source"] + plan.sinks.map(\.name)
        self.init(
            name: plan.name, state: state, checked: facts.checked.count == plan.sinks.count,
            source: SourceReport(plan, facts), sinks: sinks, lagSeconds: lag,
            queuedEvents: lanes.values.reduce(0) { $0 + $1.waitingEvents },
            receivedPerSecond: rate.rate(atSeconds: seconds),
            deliveredPerSecond: delivered.max() ?? 0,
            deliveredLastMinutes: (0..<RateHistory.minutes).map { minute in
                minutes.map { $0[minute] }.max() ?? 0
            },
            errorsLastHour: components.reduce(0) {
                $0 + facts.errorsLastHour(of: $1, nowMicros: nowMicros)
            },
            warnings: facts.warnings, findings: facts.findings.map(FindingReport.init),
            gaps: gaps.map(GapReport.init),
            problems: Problems(plan: plan, facts: facts, lanes: lanes, nowMicros: nowMicros).all,
            errors: failures.map(ErrorReport.init))
    }

    /// Lag above this is called catching up.
    private static let behindSeconds = 5.0

    /// Another sink has kept the reader waiting for longer than a batch takes.
    private static func isHeldUp(_ sink: SinkPlan, _ lanes: [String: LaneSnapshot]) -> Bool {
        guard lanes[sink.name]?.fullMicros == nil else { return false }
        return lanes.contains { $0.key != sink.name && $0.value.spillLimit != nil }
    }
}

extension SourceReport {
    fileprivate init(_ plan: PipelinePlan, _ facts: PipelineMonitor.Facts) {
        self.init(
            type: plan.sourceType, connection: plan.connection, server: facts.server,
            received: facts.received, receivedBytes: facts.receivedBytes, filtered: facts.filtered,
            lastEvent: facts.lastEventMicros.map(ISOTime.text),
            lastHeartbeat: facts.lastMarkMicros.map(ISOTime.text),
            lastRead: facts.lastReadMicros.map(ISOTime.text),
            retention: facts.retention,
            retentionAsOf: facts.retentionMicros.map(ISOTime.text))
    }
}

extension SinkReport {
    /// - Parameter isHeldUp: the pipeline waits for another sink.
    fileprivate init(
        _ plan: SinkPlan, _ lane: LaneSnapshot?, _ facts: PipelineMonitor.Facts,
        _ notation: SourceNotation, isHeldUp: Bool, nowMicros: Int64
    ) {
        let statistics = lane?.statistics
        self.init(
            name: plan.name, type: plan.type,
            state: Self.state(plan.name, lane, facts, isHeldUp: isHeldUp),
            position: lane.map { notation.display($0.written) } ?? "", began: nil, beganAt: nil,
            lagSeconds: lane.flatMap {
                facts.lagSeconds(
                    at: $0.written, oldestMicros: $0.oldestMicros,
                    lastCommitMicros: $0.statistics.lastCommitMicros, nowMicros: nowMicros)
            },
            queuedEvents: lane?.waitingEvents ?? 0, queuedBytes: lane?.waitingBytes ?? 0,
            inFlightEvents: lane?.inFlightEvents ?? 0, spilledBytes: lane?.spilledBytes ?? 0,
            delivered: statistics?.delivered ?? 0, filtered: statistics?.filtered ?? 0,
            late: statistics?.late ?? 0, bytes: statistics?.bytes ?? 0,
            retries: statistics?.retries ?? 0,
            p50Ms: statistics?.latencyMicros(50).map { Double($0) / 1000 },
            p99Ms: statistics?.latencyMicros(99).map { Double($0) / 1000 },
            errorsLastHour: facts.errorsLastHour(of: plan.name, nowMicros: nowMicros))
    }

    private static func state(
        _ name: String, _ lane: LaneSnapshot?, _ facts: PipelineMonitor.Facts, isHeldUp: Bool
    ) -> SinkState {
        if let stopped = facts.stopped { return stopped.component == name ? .failed : .stopped }
        if facts.failure?.error.component == name { return .retrying }
        if let lane {
            if lane.isSpilling { return .spilling }
            if lane.isStuck { return .stuck }
            if lane.statistics.failure != nil { return .retrying }
        }
        return isHeldUp || facts.failure != nil ? .waiting : .ok
    }
}
