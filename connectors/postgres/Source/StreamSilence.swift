import WeirCore
import WeirPostgresClient

/// Whether the server still answers on the replication connection. Pure.
///
/// One that has nothing to send answers all the same where feedback asks for it. The ordinary
/// connection does not show it: its session may work while the other hangs, or a proxy has lost the
/// other alone.
struct StreamSilence {
    /// For so long nothing may come before the server is asked, and again until it counts as
    /// silent.
    let limit: Duration
    /// Something came since the last look; set for each message, so it is no time.
    var hasHeard = false
    private var heard: ContinuousClock.Instant
    private var asked: ContinuousClock.Instant?
    private(set) var isSilent = false

    init(limit: Duration, at now: ContinuousClock.Instant) {
        self.limit = limit
        heard = now
    }

    /// Whether the next feedback asks for an answer.
    mutating func asks(at now: ContinuousClock.Instant) -> Bool {
        guard !hasHeard, heard.duration(to: now) >= limit else { return false }
        asked = asked ?? now
        return true
    }

    /// All that had arrived was read. While nobody reads, nothing is concluded.
    mutating func looked(at now: ContinuousClock.Instant) {
        if hasHeard {
            (hasHeard, heard, asked, isSilent) = (false, now, nil, false)
        } else if let asked, asked.duration(to: now) >= limit {
            isSilent = true
        }
    }
}

extension PostgresSource {
    /// Says so when the stream has become silent, and when it is heard again.
    func report(_ silence: StreamSilence?) {
        let isSilent = silence?.isSilent ?? false
        guard isSilent != isSilenceSaid else { return }
        isSilenceSaid = isSilent
        guard isSilent else {
            context.reports.settle(.streamSilent, config.slot)
            return
        }
        let slot = PostgresConnection.literal(config.slot)
        context.reports.raise(
            Finding(
                .streamSilent, .warning, config.slot,
                "the server does not answer on the replication connection, though it was asked to",
                detail: "Nothing is lost: what is committed meanwhile stays in its log. A server "
                    + "before version 16 may be silent while it skips a very large transaction.",
                hint: "If that lasts, end the session, and Weir connects anew: SELECT "
                    + "pg_terminate_backend(active_pid) FROM pg_replication_slots "
                    + "WHERE slot_name = \(slot) AND active;"))
    }
}
