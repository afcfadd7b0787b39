/// Decides when to let rows gather in the socket before they are read.
///
/// Reading a stream that comes at full speed a few rows at a time wakes the server's sender, the
/// reader and the sink for each handful: measured, 5.7 rows a write and twice the processor time
/// (`weir-bench --case backlog-small`). So while rows come fast, the reader sleeps half a
/// millisecond between two looks, and hands over what it has every two. Single rows and small
/// transactions at everyday rates never meet the threshold and are handed over at once. Pure: times
/// come in.
struct GatherPace: Sendable {
    /// So many events within `window` mean full speed.
    static let startEvents = 16
    static let window = Duration.milliseconds(1)
    /// A look that found fewer ends it.
    static let stopEvents = 4
    /// Between two looks.
    static let pauseMicroseconds: UInt32 = 200
    /// What was gathered is handed over after this.
    static let handOver = Duration.milliseconds(2)

    private(set) var isGathering = false
    private var windowStart: ContinuousClock.Instant?
    private var windowEvents = 0

    /// Notes what a look at the socket found.
    mutating func found(_ events: Int, at now: ContinuousClock.Instant) {
        if isGathering {
            isGathering = events >= Self.stopEvents
            return
        }
        if let start = windowStart, now - start < Self.window {
            windowEvents += events
        } else {
            windowStart = now
            windowEvents = events
        }
        if windowEvents >= Self.startEvents {
            isGathering = true
            windowStart = nil
        }
    }
}
