import WeirCore

/// Whether a source's stream gets anywhere: an outage, which ends by itself, is told from an error
/// that comes back at the same place for ever.
///
/// A source that cannot be opened is an outage and is retried for ever. A stream that opens and
/// then breaks, each time before it has brought anything, fails at what stands there: every attempt
/// costs the source the same work again, so their number has an end.
struct StreamPatience: Sendable {
    /// So many streams in a row that broke at one position; with the waits between them this takes
    /// about six minutes (`Backoff`), longer than a failover.
    static let failuresMax = 20
    /// An error is over when the stream has held for so long, though nothing came.
    static let calmTime = Duration.seconds(5)
    /// A stream that held for so long is not what fails; the next failure is a first one.
    static let healthyTime = Duration.seconds(60)

    private var backoff: Backoff
    /// Streams in a row that broke while they were read and had brought nothing.
    private(set) var failuresHere = 0
    /// When the first failure of the row was.
    private(set) var sinceMicros: Int64?
    private var openedAt: ContinuousClock.Instant?

    init(_ backoff: Backoff = Backoff()) { self.backoff = backoff }

    /// Failures in a row, of opening and of streaming.
    var attempts: Int { backoff.attempts }
    var isSpent: Bool { failuresHere >= Self.failuresMax }

    mutating func opened(at now: ContinuousClock.Instant) { openedAt = now }

    /// What a read that ended well says about the errors before it.
    enum Proof: Sendable {
        case nothing
        /// The stream has held for a while, though nothing came.
        case calm
        /// It had events, or ends behind what the failing stream had reached.
        case progress
    }

    mutating func read(brought: Bool, at now: ContinuousClock.Instant) -> Proof {
        if brought {
            forget()
            return .progress
        }
        let held = openedAt.map { now - $0 } ?? .zero
        if held >= Self.healthyTime { forget() }
        return held >= Self.calmTime ? .calm : .nothing
    }

    /// Opening or streaming failed.
    ///
    /// - Parameter isRead: the stream was open and was being read.
    /// - Returns: how long to wait.
    mutating func failed(
        isRead: Bool, atMicros micros: Int64, jitter: Double = .random(in: 0..<1)
    ) -> Duration {
        openedAt = nil
        if isRead { failuresHere += 1 }
        sinceMicros = sinceMicros ?? micros
        return backoff.next(jitter: jitter)
    }

    private mutating func forget() {
        backoff.succeed()
        failuresHere = 0
        sinceMicros = nil
    }
}

extension WeirError {
    /// What a pipeline stops with when its stream breaks at one place again and again.
    static func streamStuck(
        _ error: WeirError, at place: String, pipeline: String, attempts: Int,
        sinceMicros: Int64
    ) -> WeirError {
        let since = ISOTime.text(sinceMicros).prefix(19).replacing("T", with: " ")
        var detail = "\(attempts) attempts since \(since) UTC brought nothing. The last one: "
        detail += "\(error.code.name): \(error.message)."
        if let more = error.detail { detail += " \(more)" }
        let giveUp =
            "If the cause cannot be removed at the source: weir stop; "
            + "weir position set \(pipeline) now --yes; weir start. That leaves out what was "
            + "committed up to now and declares the gap."
        return WeirError(
            .streamStuck, .blocked,
            "the stream breaks at position \(place) at every attempt",
            detail: detail, hint: [error.hint, giveUp].compactMap { $0 }.joined(separator: " "))
    }
}

extension ErrorCode {
    static let streamStuck = ErrorCode(
        "engine.stream_stuck",
        meaning: "The source can be opened, but its stream breaks at one position at every attempt "
            + "(\(StreamPatience.failuresMax) in a row). Each attempt costs the source the same "
            + "work again, so the pipeline stopped. The source keeps what follows.",
        remedy: "Remove the cause the error names at the source, then: weir stop; weir start. To "
            + "leave out what stands there and declare the gap: weir stop; "
            + "weir position set PIPELINE now --yes; weir start.")
}
