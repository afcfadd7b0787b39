import Synchronization
import WeirCore

/// What a pipeline is doing, as `status` tells it.
package enum PipelineState: String, Sendable, Codable {
    case starting, streaming, failing, stopped
    /// Behind, and working through what the source kept.
    case catchingUp = "catching_up"
}

/// The facts of one pipeline, written by its tasks per batch or less, read by `status`.
final class PipelineMonitor: Sendable {
    struct Facts: Sendable {
        var state = PipelineState.starting
        var server = ""
        var identity: SourceIdentity?
        var warnings: [String] = []
        /// Sinks whose target was compared with the source's tables in this life.
        var checked: Set<String> = []
        /// What stands now, and what was logged of it, which a reconnect does not end.
        var findings: [StandingFinding] = []
        var said: [StandingFinding] = []
        var received = 0
        var receivedBytes = 0
        var filtered = 0
        var lastEventMicros: Int64?
        var rate = RateHistory(atSeconds: WallClock.seconds())
        /// Errors of the source that stand now.
        var failure: LaneStatistics.LaneFailure?
        /// Why the pipeline stopped for good.
        var stopped: WeirError?
        var stoppedMicros: Int64?
        var retention: SourceRetention?
        /// When the source was asked for that.
        var retentionMicros: Int64?
        /// When a read of the source ended well last; nil before the first.
        var lastReadMicros: Int64?
        /// Since when a call of the source is under way, and what it does.
        var sourceCall: (micros: Int64, work: SourceWork)?
        /// Errors of the last hour, by component.
        var errors: [String: HourCount] = [:]
        var lastMarkMicros: Int64?
        /// The furthest position that was safe everywhere.
        var passed: Position?
        /// Markers that some lane has not passed, oldest first.
        var marks: [Mark] = []
    }

    /// What the source was asked to do.
    enum SourceWork: String, Sendable {
        case opening = "opening it"
        case reading = "a read"
        case looking = "a look at what it keeps"
    }

    /// A marker in the source's log.
    struct Mark: Sendable {
        let position: Position
        let micros: Int64
    }

    private let facts = Mutex(Facts())
    /// More than this many markers under way say nothing new; the oldest gives the lag.
    private static let marksMax = 1000

    var now: Facts { facts.withLock { $0 } }

    func update(_ change: (inout sending Facts) -> Void) { facts.withLock { change(&$0) } }

    func received(_ batch: EventBatch) {
        let micros = WallClock.micros()
        facts.withLock { facts in
            facts.lastReadMicros = micros
            facts.received += batch.events.count
            facts.receivedBytes += batch.arena.count
            facts.filtered += batch.filtered
            if let event = batch.events.last, event.commitMicros != Event.noTime {
                facts.lastEventMicros = event.commitMicros
            }
            facts.rate.add(batch.events.count, atSeconds: micros / 1_000_000)
        }
    }

    func marked(_ position: Position, atMicros micros: Int64) {
        facts.withLock { facts in
            facts.lastMarkMicros = micros
            if facts.marks.count < Self.marksMax {
                facts.marks.append(Mark(position: position, micros: micros))
            }
        }
    }

    func sourceBegan(_ work: SourceWork) {
        let micros = WallClock.micros()
        facts.withLock { $0.sourceCall = (micros, work) }
    }

    func sourceEnded() { facts.withLock { $0.sourceCall = nil } }

    /// What the source says that it keeps.
    func keeps(_ retention: SourceRetention) {
        let micros = WallClock.micros()
        facts.withLock { facts in
            facts.retention = retention
            facts.retentionMicros = micros
        }
    }

    /// Nothing reads from the source now, whatever it said when it was asked last.
    func disconnected() { facts.withLock { $0.retention?.active = false } }

    /// Counts an error of the source or of a sink.
    func countError(of component: String) {
        let seconds = WallClock.seconds()
        facts.withLock {
            $0.errors[component, default: HourCount(atSeconds: seconds)].add(atSeconds: seconds)
        }
    }

    /// Reading works again.
    ///
    /// - Returns: whether the error that was shown is over by that; one of a sink that took the
    ///   pipeline back is not, before something more is safe or the stream has held for a while.
    func recovered(_ proof: StreamPatience.Proof) -> Bool {
        facts.withLock { facts in
            guard let failure = facts.failure else { return true }
            switch proof {
            case .nothing: return false
            case .progress where failure.error.component != nil: return false
            case .progress, .calm:
                facts.recover()
                return true
            }
        }
    }

    /// Everything before `position` is safe everywhere: forgets the markers before it.
    func passed(_ position: Position) {
        facts.withLock { facts in
            let isFurther = facts.passed.map { position > $0 } ?? true
            if isFurther, facts.failure?.error.component != nil { facts.recover() }
            facts.passed = max(facts.passed ?? position, position)
            let kept = facts.marks.firstIndex { $0.position > position } ?? facts.marks.count
            facts.marks.removeFirst(kept)
        }
    }
}

extension PipelineMonitor.Facts {
    /// The error that stood is over.
    fileprivate mutating func recover() {
        failure = nil
        state = .streaming
    }

    /// A read ends several times a second while all is well; when the last one is older than this,
    /// the source has not been heard, or the pipeline does not ask it, and what it holds is
    /// unknown.
    static let silenceMicros: Int64 = 2_000_000

    /// A source that answers ends each call within a second or so.
    static let unansweredMicros: Int64 = 10_000_000

    /// For how many seconds the source has not answered, once that is too long.
    func unansweredSeconds(nowMicros: Int64) -> Double? {
        guard let sourceCall, nowMicros - sourceCall.micros >= Self.unansweredMicros else {
            return nil
        }
        return Double(nowMicros - sourceCall.micros) / 1_000_000
    }

    /// Lag in seconds of something that stands at `position`: 0 when it has passed every marker,
    /// nothing waits and the source is being read. Never less than the time since the last read:
    /// cut off from the source, it may be that far behind. Nil before the first read. A skewed
    /// clock never makes it negative.
    func lagSeconds(
        at position: Position, oldestMicros: Int64?, lastCommitMicros: Int64, nowMicros: Int64
    ) -> Double? {
        guard let lastReadMicros else { return nil }
        var since: Int64?
        if let mark = marks.first(where: { $0.position > position }) {
            since = mark.micros
            // Behind a marker, the age of what was delivered last is the better bound; unless the
            // marker is only under way, as it is for a moment in quiet times.
            let isBehind = nowMicros - mark.micros > 1_000_000
            if isBehind, lastCommitMicros > 0 { since = min(mark.micros, lastCommitMicros) }
        }
        if let oldestMicros, oldestMicros != Event.noTime {
            since = min(since ?? oldestMicros, oldestMicros)
        }
        if Double(nowMicros) - Double(lastReadMicros) > Double(Self.silenceMicros) {
            since = min(since ?? lastReadMicros, lastReadMicros)
        }
        guard let since else { return 0 }
        return max(0, Double(nowMicros) - Double(since)) / 1_000_000
    }

    /// Errors of the last hour, no earlier than the daemon's start.
    func errorsLastHour(of component: String, nowMicros: Int64) -> Int {
        var count = errors[component]
        return count?.sum(atSeconds: nowMicros / 1_000_000) ?? 0
    }
}
