package import Foundation
package import WeirCore

/// What `weir status --json` prints: a contract, additive only. Times are ISO 8601, durations
/// seconds, sizes bytes.
package struct StatusReport: Codable, Sendable {
    /// Names this document's shape.
    package var schema = "weir.status/1"
    package var version: String
    /// False when the daemon is down and the facts come from the state store and the sources.
    package var isRunning: Bool
    package var pid: Int?
    package var started: String?
    package var uptimeSeconds: Double?
    package var lastSeen: String?
    /// The file the daemon runs, as it was when it was read.
    package var configuration: ConfigurationReport?
    package var pipelines: [PipelineReport]
    /// Pipelines of the state that are no longer configured.
    package var orphans: [OrphanReport]

    package init(
        version: String, isRunning: Bool, pid: Int?, startedMicros: Int64?, lastSeenMicros: Int64?,
        configuration: ConfigurationReport? = nil, pipelines: [PipelineReport],
        orphans: [OrphanReport] = []
    ) {
        self.configuration = configuration
        self.orphans = orphans
        self.version = version
        self.isRunning = isRunning
        self.pid = pid
        started = startedMicros.map(ISOTime.text)
        if let startedMicros, let lastSeenMicros {
            uptimeSeconds = Double(lastSeenMicros - startedMicros) / 1_000_000
        }
        lastSeen = lastSeenMicros.map(ISOTime.text)
        self.pipelines = pipelines
    }

    package func json() throws -> Data {
        let encoder = JSONEncoder()
        encoder.keyEncodingStrategy = .convertToSnakeCase
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes, .prettyPrinted]
        return try encoder.encode(self)
    }

    package init(json: Data) throws {
        let decoder = JSONDecoder()
        decoder.keyDecodingStrategy = .convertFromSnakeCase
        self = try decoder.decode(StatusReport.self, from: json)
    }
}

/// Which configuration a daemon runs.
package struct ConfigurationReport: Codable, Sendable, Equatable {
    package var path: String
    /// Of the file's bytes: another one means that it was edited.
    package var checksum: String

    package init(path: String, bytes: [UInt8]) {
        self.path = path
        checksum = String(SpillCodec.checksum(bytes), radix: 16)
    }
}

/// One pipeline.
package struct PipelineReport: Codable, Sendable {
    package var name: String
    package var state: PipelineState
    /// Every target was compared with the source's tables since the daemon's start.
    package var checked: Bool
    package var source: SourceReport
    package var sinks: [SinkReport]
    /// The worst of its sinks.
    package var lagSeconds: Double
    package var queuedEvents: Int
    package var receivedPerSecond: Double
    package var deliveredPerSecond: Double
    /// Events delivered in each of the last ten minutes, oldest first.
    package var deliveredLastMinutes: [Int]
    package var errorsLastHour: Int
    package var warnings: [String]
    /// What its checks found and still holds.
    package var findings: [FindingReport]
    /// What targets lack, until the operator says that it is closed.
    package var gaps: [GapReport]
    /// What stands in the way now.
    package var problems: [ProblemReport]
    /// The last 24 hours.
    package var errors: [ErrorReport]
}

package struct SourceReport: Codable, Sendable {
    package var type: String
    package var connection: String
    package var server: String
    package var received: Int
    package var receivedBytes: Int
    package var filtered: Int
    package var lastEvent: String?
    package var lastHeartbeat: String?
    package var retention: SourceRetention?
}

package struct SinkReport: Codable, Sendable {
    package var name: String
    package var type: String
    /// `ok`, `retrying`, `stuck` (does not answer) or `spilling`; `unknown` while the daemon is
    /// down.
    package var state: String
    /// Everything before it is at this sink.
    package var position: String
    /// Where the sink began: rows and changes from before were not delivered to it.
    package var began: String?
    package var beganAt: String?
    package var lagSeconds: Double
    package var queuedEvents: Int
    package var queuedBytes: Int
    package var inFlightEvents: Int
    package var spilledBytes: Int
    package var delivered: Int
    package var filtered: Int
    /// Completed with values read from the source later than the change.
    package var late: Int
    package var bytes: Int
    package var retries: Int
    package var p50Ms: Double?
    package var p99Ms: Double?
    package var errorsLastHour: Int
}

package struct ProblemReport: Codable, Sendable {
    package var component: String
    package var code: String
    package var message: String
    package var detail: String?
    package var hint: String?
    package var since: String?
    package var attempt: Int?
    package var nextAttemptSeconds: Double?
}

package struct FindingReport: Codable, Sendable {
    /// The sink's name, or `source`.
    package var component: String
    package var code: String
    /// `warning` or `blocking`.
    package var severity: Finding.Severity
    package var subject: String
    package var message: String
    package var detail: String?
    package var hint: String?
}

package struct GapReport: Codable, Sendable, Equatable {
    package var id: Int64
    /// The sink that lacks something, or `source` when all do.
    package var component: String
    package var code: String
    /// A table, or empty for all of the pipeline's.
    package var subject: String
    package var from: String
    package var to: String
    package var message: String
    package var hint: String
    package var declared: String
}

package struct ErrorReport: Codable, Sendable {
    package var component: String
    package var code: String
    package var message: String
    package var first: String
    package var last: String
    package var count: Int
}

/// Microseconds since 1970 as `2026-11-21T02:03:04.123Z`.
package enum ISOTime {
    package static func text(_ micros: Int64) -> String {
        let date = Date(timeIntervalSince1970: Double(micros) / 1_000_000)
        return date.formatted(Date.ISO8601FormatStyle(includingFractionalSeconds: true))
    }

    package static func micros(_ text: String) -> Int64? {
        let style = Date.ISO8601FormatStyle(includingFractionalSeconds: true)
        guard let date = try? style.parse(text) else { return nil }
        return Int64(date.timeIntervalSince1970 * 1_000_000)
    }
}

extension PipelineReport {
    /// From a running pipeline.
    init(
        _ pipeline: Pipeline, failures: [FailureRow], gaps: [GapRow],
        configured: [String: ConfiguredComponent] = [:], nowMicros: Int64
    ) {
        let facts = pipeline.monitor.now
        let seconds = nowMicros / 1_000_000
        var rate = facts.rate
        let lanes = pipeline.lanes.map { ($0.plan, $0.snapshot()) }
        let sinks = pipeline.plan.sinks.map { plan in
            SinkReport(
                plan, lanes.first { $0.0.name == plan.name }?.1, facts, nowMicros: nowMicros
            ).began(configured[plan.name]?.began)
        }
        let minutes = lanes.map { lane in
            var history = lane.1.statistics.rate
            return history.lastMinutes(atSeconds: seconds)
        }
        let delivered = lanes.map { lane in
            var history = lane.1.statistics.rate
            return history.rate(atSeconds: seconds)
        }
        let isLaneDown = lanes.contains { $0.1.statistics.failure != nil }
        let lag = sinks.map(\.lagSeconds).max() ?? 0
        var state = facts.state
        if state == .streaming {
            state = isLaneDown ? .failing : lag > Self.behindSeconds ? .catchingUp : .streaming
        }
        self.init(
            name: pipeline.plan.name, state: state,
            checked: facts.checked.count == pipeline.plan.sinks.count,
            source: SourceReport(
                type: pipeline.plan.sourceType, connection: pipeline.plan.connection,
                server: facts.server, received: facts.received,
                receivedBytes: facts.receivedBytes, filtered: facts.filtered,
                lastEvent: facts.lastEventMicros.map(ISOTime.text),
                lastHeartbeat: facts.lastMarkMicros.map(ISOTime.text),
                retention: facts.retention),
            sinks: sinks, lagSeconds: lag, queuedEvents: sinks.reduce(0) { $0 + $1.queuedEvents },
            receivedPerSecond: rate.rate(atSeconds: seconds),
            deliveredPerSecond: delivered.max() ?? 0,
            deliveredLastMinutes: (0..<RateHistory.minutes).map { minute in
                minutes.map { $0[minute] }.max() ?? 0
            },
            errorsLastHour: Self.errors(failures, since: nowMicros - 3_600_000_000),
            warnings: facts.warnings, findings: facts.findings.map(FindingReport.init),
            gaps: gaps.map(GapReport.init),
            problems: Self.problems(facts, lanes, nowMicros: nowMicros),
            errors: failures.map(ErrorReport.init))
    }

    /// Lag above this is called catching up.
    private static let behindSeconds = 5.0

    /// Failures keep one count per code; those of the hour count whole.
    static func errors(_ failures: [FailureRow], since micros: Int64) -> Int {
        failures.filter { $0.lastMicros >= micros }.reduce(0) { $0 + $1.count }
    }

    private static func problems(
        _ facts: PipelineMonitor.Facts, _ lanes: [(SinkPlan, LaneSnapshot)], nowMicros: Int64
    ) -> [ProblemReport] {
        var problems: [ProblemReport] = []
        if let error = facts.stopped {
            problems.append(ProblemReport(error, component: error.component ?? "source"))
        } else if let failure = facts.failure {
            let component = failure.error.component ?? "source"
            problems.append(ProblemReport(failure, component: component, nowMicros: nowMicros))
        }
        for (plan, lane) in lanes {
            guard facts.stopped == nil, let failure = lane.statistics.failure else { continue }
            problems.append(ProblemReport(failure, component: plan.name, nowMicros: nowMicros))
        }
        return problems
    }
}

extension SinkReport {
    init(
        _ plan: SinkPlan, _ lane: LaneSnapshot?, _ facts: PipelineMonitor.Facts, nowMicros: Int64
    ) {
        name = plan.name
        type = plan.type
        position = lane?.written.display ?? ""
        lagSeconds =
            lane.map {
                facts.lagSeconds(
                    at: $0.written, oldestMicros: $0.oldestMicros,
                    lastCommitMicros: $0.statistics.lastCommitMicros, nowMicros: nowMicros)
            } ?? 0
        queuedEvents = lane?.waitingEvents ?? 0
        queuedBytes = lane?.waitingBytes ?? 0
        inFlightEvents = lane?.inFlightEvents ?? 0
        spilledBytes = lane?.spilledBytes ?? 0
        delivered = lane?.statistics.delivered ?? 0
        filtered = lane?.statistics.filtered ?? 0
        late = lane?.statistics.late ?? 0
        bytes = lane?.statistics.bytes ?? 0
        retries = lane?.statistics.retries ?? 0
        p50Ms = lane?.statistics.latencyMicros(50).map { Double($0) / 1000 }
        p99Ms = lane?.statistics.latencyMicros(99).map { Double($0) / 1000 }
        var errors = lane?.statistics.errors
        errorsLastHour = errors?.lastMinutes(atSeconds: nowMicros / 1_000_000).reduce(0, +) ?? 0
        state =
            if lane?.isSpilling == true {
                "spilling"
            } else if lane?.isStuck == true {
                "stuck"
            } else {
                lane?.statistics.failure == nil ? "ok" : "retrying"
            }
    }
}

extension SinkReport {
    func began(_ began: ConfiguredComponent.Beginning?) -> SinkReport {
        var report = self
        report.began = began?.position
        report.beganAt = began.map { ISOTime.text($0.micros) }
        return report
    }
}

extension ProblemReport {
    init(_ error: WeirError, component: String) {
        self.init(
            component: component, code: error.code.name, message: error.message,
            detail: error.detail, hint: error.hint)
    }

    init(_ failure: LaneStatistics.LaneFailure, component: String, nowMicros: Int64) {
        self.init(failure.error, component: component)
        since = ISOTime.text(failure.sinceMicros)
        attempt = failure.attempt
        nextAttemptSeconds = Double(max(0, failure.retryAtMicros - nowMicros)) / 1_000_000
    }
}

extension FindingReport {
    init(_ standing: StandingFinding) {
        let finding = standing.finding
        self.init(
            component: standing.component, code: finding.code.name, severity: finding.severity,
            subject: finding.subject, message: finding.message, detail: finding.detail,
            hint: finding.hint)
    }
}

extension GapReport {
    package init(_ row: GapRow) {
        self.init(
            id: row.id, component: row.component, code: row.code, subject: row.subject,
            from: row.from, to: row.to, message: row.message, hint: row.hint,
            declared: ISOTime.text(row.declaredMicros))
    }
}

extension ErrorReport {
    package init(_ row: FailureRow) {
        self.init(
            component: row.component, code: row.code, message: row.message,
            first: ISOTime.text(row.firstMicros), last: ISOTime.text(row.lastMicros),
            count: row.count)
    }
}

extension Position {
    /// As the source's own tools write it, where that is known.
    package var display: String {
        if let time = clusterTime {
            // MongoDB's, as its shell's Timestamp(seconds, increment).
            return "\(time >> 32).\(time & 0xFFFF_FFFF)"
        }
        guard let (commit, ordinal) = commitAndOrdinal else { return token }
        let high = String(commit >> 32, radix: 16, uppercase: true)
        let low = String(commit & 0xFFFF_FFFF, radix: 16, uppercase: true)
        return ordinal == 0 ? "\(high)/\(low)" : "\(high)/\(low)+\(ordinal)"
    }
}
