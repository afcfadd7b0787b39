/// How long to wait before the next attempt: exponential with full jitter, so that many pipelines
/// that lost one server do not come back in step.
package struct Backoff: Sendable {
    /// The first wait is at most this long.
    package static let base = Duration.milliseconds(200)
    package static let ceiling = Duration.seconds(60)
    /// Waiting less than this would be a busy loop when the jitter is near zero.
    package static let floor = Duration.milliseconds(20)

    /// Attempts that failed in a row.
    package private(set) var attempts = 0

    private let first: Duration
    private let most: Duration

    package init(first: Duration = base, most: Duration = ceiling) {
        self.first = first
        self.most = most
    }

    /// - Parameter jitter: evenly from 0 ..< 1.
    package mutating func next(jitter: Double = .random(in: 0..<1)) -> Duration {
        let doubled = first * (1 << min(attempts, 16))
        attempts += 1
        return max(min(Self.floor, first), min(most, doubled) * jitter)
    }

    package mutating func succeed() { attempts = 0 }
}
