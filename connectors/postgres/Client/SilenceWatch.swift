/// What becomes of a wait in which nothing at all comes from the server.
///
/// TCP tells of a peer that is gone, but a proxy in between answers for it: then only the server
/// can tell whether it still works on what we wait for.
package struct SilenceWatch {
    /// How long nothing may come before it is looked into.
    package let limit: Duration
    private let look: () -> Verdict

    package enum Verdict {
        /// It works: wait on.
        case working
        /// It seems to wait for us. Looked at again soon: an answer may be on its way.
        case suspicious(String)
        /// The session is gone.
        case lost(String)
    }

    /// So often in a row a session may look suspicious.
    private static let suspicionsMax = 2
    /// And so long lies between.
    private static let soon = Duration.seconds(1)

    package init(limit: Duration, look: @escaping () -> Verdict) {
        self.limit = limit
        self.look = look
    }

    /// Looks into a silence, and returns how long the next may last.
    ///
    /// - Parameter suspicions: how often in a row this wait looked suspicious.
    func check(_ suspicions: inout Int) throws(PostgresFailure) -> Duration {
        switch look() {
        case .working:
            suspicions = 0
            return limit
        case .suspicious(let why):
            suspicions += 1
            guard suspicions < Self.suspicionsMax else {
                throw PostgresFailure(.connection, why)
            }
            return min(Self.soon, limit)
        case .lost(let why): throw PostgresFailure(.connection, why)
        }
    }
}
