import Histogram
import WeirCore

/// What `status` reads of a lane.
struct LaneSnapshot: Sendable {
    let written: Position
    let waitingEvents: Int
    let waitingBytes: Int
    let inFlightEvents: Int
    let spilledBytes: Int
    let isSpilling: Bool
    /// For how long the sink has not answered the call that is under way.
    let silentSeconds: Double?
    /// The call has been under way for suspiciously long.
    let isStuck: Bool
    /// Since when the pipeline has been waiting for this lane; nil while it has room.
    let fullMicros: Int64?
    /// It is full because its spill is, or has none, and not only because the sink is at work.
    let spillLimit: SpillBound?
    let oldestMicros: Int64?
    var statistics: LaneStatistics

    /// What keeps a spill from taking more.
    enum SpillBound: Sendable, Equatable {
        /// `"spill"` of the sink's configuration.
        case limit(Int)
        /// The disk of the state directory.
        case disk
    }
}

/// Counters of one sink since the daemon's start, updated per write: a pipeline that goes back to
/// its checkpoint goes on counting, so what is delivered again counts again.
struct LaneStatistics: Sendable {
    private(set) var delivered = 0
    private(set) var filtered = 0
    private(set) var late = 0
    private(set) var bytes = 0
    private(set) var retries = 0
    /// When the newest event that was written had been committed.
    private(set) var lastCommitMicros: Int64 = 0
    var rate = RateHistory(atSeconds: WallClock.seconds())
    /// Microseconds that the reader waited for this lane.
    private var waited = RateHistory(atSeconds: WallClock.seconds())
    private(set) var failure: LaneFailure?
    private var latencies = Histogram<UInt32>(
        lowestDiscernibleValue: 1, highestTrackableValue: 3_600_000_000,
        numberOfSignificantValueDigits: .two)

    /// The row of failed attempts that is going on.
    struct LaneFailure: Sendable {
        let error: WeirError
        let sinceMicros: Int64
        let attempt: Int
        /// Attempts in a row that ended with these very words.
        let unchanged: Int
        let retryAtMicros: Int64

        /// - Parameter sinceMicros: when the row began, if that is not in `earlier`.
        init(
            _ error: WeirError, after earlier: LaneFailure?, sinceMicros: Int64? = nil,
            attempt: Int, retryIn delay: Duration
        ) {
            let now = WallClock.micros()
            self.error = error
            self.sinceMicros = sinceMicros ?? earlier?.sinceMicros ?? now
            self.attempt = attempt
            let isSame =
                earlier.map {
                    $0.error.code == error.code && $0.error.message == error.message
                        && $0.error.component == error.component
                } ?? false
            unchanged = isSame ? (earlier?.unchanged ?? 0) + 1 : 1
            retryAtMicros = now + Int64(delay.seconds * 1_000_000)
        }
    }

    mutating func wrote(_ outcome: WriteOutcome, batches: [EventBatch], took: Duration) {
        delivered += outcome.delivered
        filtered += outcome.filtered
        late += outcome.late
        bytes += outcome.bytes
        if let event = batches.last(where: { !$0.events.isEmpty })?.events.last {
            if event.commitMicros != Event.noTime { lastCommitMicros = event.commitMicros }
            latencies.record(UInt64(max(1, took.seconds * 1_000_000)))
        }
        rate.add(outcome.delivered, atSeconds: WallClock.seconds())
    }

    mutating func failed(_ error: WeirError, attempt: Int, retryIn delay: Duration) {
        retries += 1
        failure = LaneFailure(error, after: failure, attempt: attempt, retryIn: delay)
    }

    mutating func recovered() { failure = nil }

    mutating func waited(_ time: Duration) {
        waited.add(Int(time.seconds * 1_000_000), atSeconds: WallClock.seconds())
    }

    /// The part of the last ten seconds that the reader waited for this lane, 0 to 1.
    func waitedShare(atSeconds now: Int64) -> Double {
        var history = waited
        return min(1, history.rate(atSeconds: now) / 1_000_000)
    }

    /// Microseconds of one write at the percentile, nil before the first.
    func latencyMicros(_ percentile: Double) -> Int? {
        latencies.totalCount == 0 ? nil : Int(latencies.valueAtPercentile(percentile))
    }
}
