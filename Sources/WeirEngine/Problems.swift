import WeirCore

/// What stands in the way of one pipeline at one moment, as `status` shows it. Pure.
struct Problems {
    let plan: PipelinePlan
    let facts: PipelineMonitor.Facts
    let lanes: [String: LaneSnapshot]
    let nowMicros: Int64

    /// From so many equal answers on, waiting alone is not likely to help.
    static let unchangedMax = 10
    /// A sink that kept the reader waiting for this part of the last ten seconds holds its
    /// neighbours back.
    static let slowShare = 0.5

    var all: [ProblemReport] {
        if let error = facts.stopped { return [stopped(error)] }
        var problems: [ProblemReport] = []
        if let failure = facts.failure {
            problems.append(failing(failure, component: failure.error.component ?? "source"))
        } else if let seconds = facts.unansweredSeconds(nowMicros: nowMicros) {
            problems.append(unanswered(seconds: seconds))
        }
        for sink in plan.sinks {
            guard let lane = lanes[sink.name] else { continue }
            if let failure = lane.statistics.failure {
                problems.append(failing(failure, component: sink.name))
            } else if lane.isStuck, let silent = lane.silentSeconds {
                problems.append(stuck(sink, lane, seconds: silent))
            }
            if let bound = lane.spillLimit, neighbours > 0 {
                problems.append(full(sink, lane, bound))
            } else if lane.statistics.failure == nil, !lane.isStuck, neighbours > 0,
                // One that has caught up is slow no more, whatever its last seconds were.
                lane.fullMicros != nil || lane.waitingEvents + lane.inFlightEvents > 0
            {
                let share = lane.statistics.waitedShare(atSeconds: nowMicros / 1_000_000)
                if share >= Self.slowShare { problems.append(slow(sink, lane, share)) }
            }
        }
        return problems
    }

    private var neighbours: Int { plan.sinks.count - 1 }

    private func stopped(_ error: WeirError) -> ProblemReport {
        var problem = ProblemReport(error, component: error.component ?? "source")
        problem.since = facts.stoppedMicros.map(ISOTime.text)
        let others = plan.sinks.map(\.name).filter { $0 != error.component }
        var note = "The pipeline has stopped and does not try again by itself"
        if error.component != nil, !others.isEmpty {
            let names = others.map { "\"\($0)\"" }.joined(separator: ", ")
            note +=
                "; its other sink\(others.count == 1 ? "" : "s") (\(names)) "
                + "\(others.count == 1 ? "gets" : "get") nothing meanwhile"
        }
        problem.note = note + ". When the cause is removed: weir stop; weir start."
        return problem
    }

    private func failing(
        _ failure: LaneStatistics.LaneFailure, component: String
    ) -> ProblemReport {
        var problem = ProblemReport(failure.error.naming(plan.name), component: component)
        problem.since = ISOTime.text(failure.sinceMicros)
        problem.attempt = failure.attempt
        problem.nextAttemptSeconds =
            Double(max(0, failure.retryAtMicros - nowMicros)) / 1_000_000
        if failure.unchanged >= Self.unchangedMax {
            problem.note =
                "The last \(failure.unchanged) attempts ended with the same words. It goes on being "
                + "tried, at least once a minute; unless something is down, it will not pass by "
                + "itself: weir explain \(failure.error.code.name)"
        }
        return problem
    }

    private func unanswered(seconds: Double) -> ProblemReport {
        let work = facts.sourceCall?.work.rawValue ?? "a call"
        var problem = ProblemReport(
            WeirError(
                .sourceSilent, .transient, "the source does not answer",
                detail: "\(work.prefix(1).uppercased() + work.dropFirst()) has been under way for "
                    + "\(Int(seconds)) seconds.",
                hint: ErrorCode.sourceSilent.remedy),
            component: "source")
        problem.since = ISOTime.text(nowMicros - Int64(seconds * 1_000_000))
        return problem
    }

    private func stuck(
        _ sink: SinkPlan, _ lane: LaneSnapshot, seconds: Double
    ) -> ProblemReport {
        let work =
            lane.inFlightEvents == 0
            ? "opening or checking it" : "a write of \(lane.inFlightEvents) changes"
        var problem = ProblemReport(
            WeirError(
                .sinkSilent, .transient, "the sink does not answer",
                detail: "\(work.prefix(1).uppercased() + work.dropFirst()) has been under way for "
                    + "\(Int(seconds)) seconds.",
                hint: ErrorCode.sinkSilent.remedy),
            component: sink.name)
        problem.since = ISOTime.text(nowMicros - Int64(seconds * 1_000_000))
        return problem
    }

    private func full(
        _ sink: SinkPlan, _ lane: LaneSnapshot, _ bound: LaneSnapshot.SpillBound
    ) -> ProblemReport {
        let message: String
        let hint: String
        switch bound {
        case .disk:
            message =
                "the disk of the state directory has no room for the spill; the pipeline waits"
            hint = "Free space there, or get the sink going again. \(ErrorCode.spillFull.remedy)"
        case .limit(0):
            message = "the sink has no spill and its memory is full; the pipeline waits"
            hint = "Give it a \"spill\", or get it going again. \(ErrorCode.spillFull.remedy)"
        case .limit:
            message = "the spill is full; the pipeline waits"
            hint = "Raise its \"spill\", or get it going again. \(ErrorCode.spillFull.remedy)"
        }
        var problem = ProblemReport(
            WeirError(
                .spillFull, .transient, message,
                detail:
                    "\(lane.spilledBytes) bytes wait on disk and \(lane.waitingBytes) in memory; "
                    + "the other sinks get nothing more until this one has taken them.",
                hint: hint),
            component: sink.name)
        problem.since = lane.fullMicros.map(ISOTime.text)
        return problem
    }

    private func slow(
        _ sink: SinkPlan, _ lane: LaneSnapshot, _ share: Double
    ) -> ProblemReport {
        var history = lane.statistics.rate
        let rate = Int(history.rate(atSeconds: nowMicros / 1_000_000).rounded())
        let took = lane.statistics.latencyMicros(99).map { Double($0 / 1000) / 1000 }
        return ProblemReport(
            WeirError(
                .sinkSlow, .transient,
                "the sink is slow and its neighbours wait for it",
                detail:
                    "The pipeline waited for it \(Int((share * 100).rounded()))% of the last 10 "
                    + "seconds. It takes \(rate) changes a second"
                    + (took.map { "; a write takes up to \($0) s." } ?? "."),
                hint: ErrorCode.sinkSlow.remedy),
            component: sink.name)
    }
}

extension ProblemReport {
    init(_ error: WeirError, component: String) {
        self.init(
            component: component, code: error.code.name, message: error.message,
            detail: error.detail, hint: error.hint)
    }
}

extension ErrorCode {
    static let sourceSilent = ErrorCode(
        "engine.source_silent",
        meaning:
            "A call of the source has not ended for ten seconds or more: its server, or the way "
            + "to it, takes requests and does not answer. A MongoDB server that has to look far "
            + "through its oplog for the next change looks the same.",
        remedy: "Look at that server: locks, load, the network between. The call ends by the "
            + "connector's own time limits and is then tried again.")
    static let sinkSilent = ErrorCode(
        "engine.sink_silent",
        meaning: "A call of a sink has not ended for ten seconds or more: the system behind it, or "
            + "the way to it, takes requests and does not answer.",
        remedy: "Look at that system: locks, load, the network between. The call ends by the "
            + "connector's own time limits and is then tried again; other sinks go on.")
    static let spillFull = ErrorCode(
        "engine.spill_full",
        meaning: "A sink fails or is slow, and neither memory nor its spill takes more. The whole "
            + "pipeline waits for it; the source keeps what follows.",
        remedy: "Nothing is lost while the source keeps its log: weir status shows how much that "
            + "is.")
    static let sinkSlow = ErrorCode(
        "engine.sink_slow",
        meaning: "A sink takes changes more slowly than they come and its memory is full, so the "
            + "pipeline reads at its pace. A single write that takes more than two seconds does "
            + "not hold the others back: what comes meanwhile goes to the sink's spill.",
        remedy:
            "Make the sink faster (its indexes, triggers, disk, network), or give it a pipeline "
            + "of its own.")
}
