import WeirPostgresClient

/// Asks the target, over a connection of its own, what a session of ours is doing.
struct SilenceProbe: Sendable {
    let connection: ConnectionString
    let name: String
    /// As `TargetSession.name`.
    let session: String
    /// The server that has it. A new connection may lead to another: by several hosts, names with
    /// several addresses, or a proxy.
    let instance: ServerInstance

    private static let connectLimitMax = Duration.seconds(10)

    func verdict(after silence: Duration) -> SilenceWatch.Verdict {
        let seconds = max(1, silence.milliseconds / 1000)
        let lost = "no answer for \(seconds) s, and "
        let limit = min(Self.connectLimitMax, silence * 5)
        let reached: ServerInstance
        let rows: [TextRow]
        do throws(PostgresFailure) {
            let probe = try PostgresConnection(
                connection, mode: .sink, name: name, within: limit)
            reached = try ServerInstance(probe, within: limit)
            rows = try probe.query(
                "SELECT coalesce(wait_event, '') FROM pg_catalog.pg_stat_activity "
                    + "WHERE \(TargetSession.nameSQL) = \(PostgresConnection.literal(session))",
                within: limit)
        } catch {
            // A server that refuses is there, and may well work on: there may be no connection
            // left.
            guard error.sqlState.isEmpty else { return .working }
            return .suspicious(lost + "no new connection: \(error.message)")
        }
        guard reached.isSameStart(as: instance) else {
            // Of the session's own server, any other tells nothing; the wait has its limit.
            return reached.hasReplaced(instance)
                ? .suspicious(lost + "another server has taken the place of the session's")
                : .working
        }
        // Its work cannot be looked at.
        if session.isEmpty { return .working }
        guard let row = rows.first else {
            return .lost(lost + "the server no longer has the session")
        }
        switch row[0] {
        case "ClientRead", "ClientWrite":
            return .suspicious(
                lost + "the server waits for us as we for it: something between loses what is sent")
        default: return .working
        }
    }
}
