package import Foundation
package import WeirCore

/// What `weir status --json` prints: a contract, additive only; `Status.md` says what each field
/// means. Times are ISO 8601, durations seconds, sizes bytes; what is not known is null.
package struct StatusReport: Codable, Sendable {
    /// Names this document's shape.
    package var schema = "weir.status/1"
    package var version: String
    /// False when the daemon is down and the facts come from the state store and the sources.
    package var isRunning: Bool
    @Nullable package var pid: Int?
    @Nullable package var started: String?
    @Nullable package var uptimeSeconds: Double?
    @Nullable package var lastSeen: String?
    /// The file the daemon runs, as it was when it was read.
    @Nullable package var configuration: ConfigurationReport?
    package var pipelines: [PipelineReport]
    /// Pipelines of the state that are no longer configured.
    @Later package var orphans: [OrphanReport]

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
    @Later package var checked: Bool
    package var source: SourceReport
    package var sinks: [SinkReport]
    /// The worst of its sinks; null when one of them is not known.
    @Nullable package var lagSeconds: Double?
    /// In memory, over all sinks; each sink counts for itself.
    @Nullable package var queuedEvents: Int?
    /// Over the last ten seconds; of the fastest sink.
    @Nullable package var receivedPerSecond: Double?
    @Nullable package var deliveredPerSecond: Double?
    /// Events delivered by the fastest sink in each of the last ten minutes, oldest first.
    package var deliveredLastMinutes: [Int]
    /// Of the source and the sinks, in the last 60 minutes and since the daemon's start.
    @Nullable package var errorsLastHour: Int?
    package var warnings: [String]
    /// What its checks found and still holds.
    @Later package var findings: [FindingReport]
    /// What targets lack, until the operator says that it is closed.
    @Later package var gaps: [GapReport]
    /// What stands in the way now.
    package var problems: [ProblemReport]
    /// The last 24 hours.
    package var errors: [ErrorReport]
}

package struct SourceReport: Codable, Sendable {
    package var type: String
    package var connection: String
    package var server: String
    @Nullable package var received: Int?
    @Nullable package var receivedBytes: Int?
    @Nullable package var filtered: Int?
    @Nullable package var lastEvent: String?
    @Nullable package var lastHeartbeat: String?
    /// When a read of the source ended well last; cut off from it, lag counts from here.
    @Nullable package var lastRead: String?
    @Nullable package var retention: SourceRetention?
    /// When the source was asked for it.
    @Nullable package var retentionAsOf: String?
}

package struct SinkReport: Codable, Sendable {
    package var name: String
    package var type: String
    package var state: SinkState
    /// Everything before it is at this sink.
    package var position: String
    /// Where the sink began: rows and changes from before were not delivered to it.
    @Nullable package var began: String?
    @Nullable package var beganAt: String?
    @Nullable package var lagSeconds: Double?
    @Nullable package var queuedEvents: Int?
    @Nullable package var queuedBytes: Int?
    @Nullable package var inFlightEvents: Int?
    package var spilledBytes: Int
    @Nullable package var delivered: Int?
    @Nullable package var filtered: Int?
    /// Completed with values read from the source later than the change.
    @Nullable package var late: Int?
    @Nullable package var bytes: Int?
    @Nullable package var retries: Int?
    @Nullable package var p50Ms: Double?
    @Nullable package var p99Ms: Double?
    @Nullable package var errorsLastHour: Int?
}

/// How a sink is, as `status` tells it.
package enum SinkState: String, Codable, Sendable {
    /// It takes what comes.
    case ok
    /// Its last call failed and is tried again.
    case retrying
    /// It has not answered a call for ten seconds.
    case stuck
    /// It fails or is slow, and what comes for it goes to disk meanwhile.
    case spilling
    /// It is well and gets nothing: the pipeline waits for another sink, or for the source.
    case waiting
    /// It stopped the pipeline.
    case failed
    /// It is well, but its pipeline has stopped.
    case stopped
    /// The daemon is down.
    case unknown
}

package struct ProblemReport: Codable, Sendable {
    package var component: String
    package var code: String
    package var message: String
    @Nullable package var detail: String?
    @Nullable package var hint: String?
    /// What the number of attempts says, once it says something.
    @Nullable package var note: String?
    @Nullable package var since: String?
    @Nullable package var attempt: Int?
    @Nullable package var nextAttemptSeconds: Double?
}

package struct FindingReport: Codable, Sendable {
    /// The sink's name, or `source`.
    package var component: String
    package var code: String
    /// `warning` or `blocking`.
    package var severity: Finding.Severity
    package var subject: String
    package var message: String
    @Nullable package var detail: String?
    @Nullable package var hint: String?
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

extension SinkReport {
    func began(
        _ began: ConfiguredComponent.Beginning?, _ notation: SourceNotation
    ) -> SinkReport {
        var report = self
        report.began = began.map { began in
            Position(text: began.position).map(notation.display) ?? began.position
        }
        report.beganAt = began.map { ISOTime.text($0.micros) }
        return report
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
