import WeirCore
import WeirPostgresClient

/// The replication origin the sink writes under, so that a source that reads these tables can leave
/// out what comes from us (CORRECTNESS 83).
extension PostgresSink {
    /// A session that has just ended holds its origin for a moment longer than its lock.
    private static let originPatience = Duration.seconds(3)

    /// What `pg_replication_origin_…` functions the sink calls. Nobody but a superuser may, unless
    /// allowed to.
    private static let functions = ["create", "session_setup", "drop"]

    func setUp(_ origin: String, _ session: TargetSession) throws(WeirError) {
        let literal = PostgresConnection.literal(origin)
        let connection = session.connection
        do throws(PostgresFailure) {
            if try !Self.exists(origin, connection) {
                do throws(PostgresFailure) {
                    _ = try connection.query(
                        "SELECT pg_catalog.pg_replication_origin_create(\(literal))")
                    context.log(.info, "made replication origin \"\(origin)\" at \(place)")
                } catch {
                    // Another session was faster.
                    guard error.sqlState == "42710" || error.sqlState == "23505" else {
                        throw error
                    }
                }
            }
            try Self.query(
                "SELECT pg_catalog.pg_replication_origin_session_setup(\(literal))", connection)
        } catch {
            throw originError(error, origin, doing: "write under replication origin \"\(origin)\"")
        }
    }

    /// Waits for a moment until no other session has the origin.
    private static func query(
        _ sql: String, _ connection: PostgresConnection
    ) throws(PostgresFailure) {
        let deadline = ContinuousClock.now + originPatience
        while true {
            do throws(PostgresFailure) {
                _ = try connection.query(sql)
                return
            } catch {
                guard error.sqlState == "55006", ContinuousClock.now < deadline else { throw error }
                _ = try connection.query("SELECT pg_catalog.pg_sleep(0.05)")
            }
        }
    }

    private static func exists(
        _ origin: String, _ connection: PostgresConnection
    ) throws(PostgresFailure) -> Bool {
        let literal = PostgresConnection.literal(origin)
        return try !connection.query(
            "SELECT roident FROM pg_catalog.pg_replication_origin WHERE roname = \(literal)"
        ).isEmpty
    }

    private func originError(
        _ failure: PostgresFailure, _ origin: String, doing work: String
    ) -> WeirError {
        let server = failures.server
        switch failure.sqlState {
        case "42501":
            let names = Self.functions.map { "pg_catalog.pg_replication_origin_\($0)" }
            return server.make(
                .permission, .transient, failure, work,
                hint: "Run as superuser in database \(server.database): GRANT EXECUTE ON FUNCTION "
                    + "\(names.joined(separator: ", ")) TO \(server.role);")
        case "55006":
            // "replication origin with ID 1 is already active for PID 4711"
            let pid = failure.message.split(whereSeparator: { !("0"..."9").contains($0) }).last
            let end = pid.map { "SELECT pg_catalog.pg_terminate_backend(\($0));" } ?? ""
            return server.make(
                .originActive, .transient, failure, work,
                hint: "Give every sink and subscription that writes to this server an origin of "
                    + "its own. If what holds it should not run any more, end it: \(end)")
        case "53400", "55000":
            let setting =
                failure.message.contains("max_active_replication_origins")
                    || failure.hint?.contains("max_active_replication_origins") == true
                ? "max_active_replication_origins" : "max_replication_slots"
            return server.make(
                .limitReached, .transient, failure, work,
                hint: "Each origin in use takes one of \(setting) at the target. Raise it and "
                    + "restart that server: ALTER SYSTEM SET \(setting) = 20;")
        default: return failures.error(failure, doing: work)
        }
    }

    // MARK: Removal

    /// What removing the origin would do; nil when there is none. Connects by itself.
    func describeOriginCleanUp(leaving others: Set<String>) throws(WeirError) -> String? {
        guard let origin = config.origin, try hasOrigin(origin, cleaningConnection()) else {
            return nil
        }
        if config.isOriginUsed(by: others) {
            return "Leave replication origin \"\(origin)\" at \(place): another pipeline uses it."
        }
        return "Drop replication origin \"\(origin)\" at \(place). Readers that leave it out take "
            + "what they have not read by then for the application's own: let them catch up first."
    }

    /// Removes the origin; nil when there was none. Connects by itself.
    func dropOrigin(leaving others: Set<String>) throws(WeirError) -> String? {
        guard let origin = config.origin else { return nil }
        let connection = try cleaningConnection()
        guard try hasOrigin(origin, connection) else { return nil }
        // Without it, a reader takes what the other one writes for the application's own.
        if config.isOriginUsed(by: others) {
            return "left replication origin \"\(origin)\" at \(place): another pipeline uses it"
        }
        do throws(PostgresFailure) {
            try Self.query(
                "SELECT pg_catalog.pg_replication_origin_drop("
                    + "\(PostgresConnection.literal(origin)))", connection)
        } catch {
            throw originError(error, origin, doing: "drop replication origin \"\(origin)\"")
        }
        return "dropped replication origin \"\(origin)\" at \(place)"
    }

    private func cleaningConnection() throws(WeirError) -> PostgresConnection {
        do {
            return try PostgresConnection(
                config.connection, mode: .sink, name: "weir \(sessionName)")
        } catch {
            throw failures.error(error, doing: "connect")
        }
    }

    private func hasOrigin(
        _ origin: String, _ connection: PostgresConnection
    ) throws(WeirError) -> Bool {
        do { return try Self.exists(origin, connection) } catch {
            throw failures.error(error, doing: "look for replication origin \"\(origin)\"")
        }
    }
}
