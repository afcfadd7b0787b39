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
        var retention: SourceRetention?
        var lastMarkMicros: Int64?
        /// The furthest position that was safe everywhere.
        var passed: Position?
        /// Markers that some lane has not passed, oldest first.
        var marks: [Mark] = []
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
        let seconds = WallClock.seconds()
        facts.withLock { facts in
            facts.received += batch.events.count
            facts.receivedBytes += batch.arena.count
            facts.filtered += batch.filtered
            if let event = batch.events.last, event.commitMicros != Event.noTime {
                facts.lastEventMicros = event.commitMicros
            }
            facts.rate.add(batch.events.count, atSeconds: seconds)
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

    /// Everything before `position` is safe everywhere: forgets the markers before it.
    func passed(_ position: Position) {
        facts.withLock { facts in
            facts.passed = max(facts.passed ?? position, position)
            let kept = facts.marks.firstIndex { $0.position > position } ?? facts.marks.count
            facts.marks.removeFirst(kept)
        }
    }
}

extension PipelineMonitor.Facts {
    /// True lag in seconds of something that stands at `position`: 0 when it has passed every
    /// marker and nothing waits. A skewed clock never makes it negative.
    func lagSeconds(
        at position: Position, oldestMicros: Int64?, lastCommitMicros: Int64, nowMicros: Int64
    ) -> Double {
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
        guard let since else { return 0 }
        return max(0, Double(nowMicros) - Double(since)) / 1_000_000
    }
}
