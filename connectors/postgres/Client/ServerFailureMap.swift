package import WeirCore

extension ErrorCode {
    package static let connectionFailed = ErrorCode(
        "postgres.connection_failed",
        meaning: "Weir could not reach PostgreSQL, or the server closed the connection.",
        remedy: "Check host, port, password and pg_hba.conf. Weir retries by itself.")
    package static let timeout = ErrorCode(
        "postgres.timeout",
        meaning: "PostgreSQL did not answer a command in time.",
        remedy: "Look at the server's load and locks. Weir retries by itself.")
    package static let serverVersion = ErrorCode(
        "postgres.server_version",
        meaning: "The server is older than PostgreSQL 14.",
        remedy: "Upgrade the server.")
    package static let permission = ErrorCode(
        "postgres.permission",
        meaning: "The role may not do what replication needs.",
        remedy: "ALTER ROLE … REPLICATION; GRANT CREATE ON DATABASE …; GRANT SELECT ON …;")
    package static let limitReached = ErrorCode(
        "postgres.limit_reached",
        meaning: "The server has no replication slot, WAL sender or connection left.",
        remedy: "Raise max_replication_slots, max_wal_senders or max_connections and restart, or "
            + "drop slots nobody uses.")
    package static let commandFailed = ErrorCode(
        "postgres.command_failed",
        meaning: "PostgreSQL refused a command for a reason Weir has no rule for.",
        remedy: "Read the server's message. Where waiting may help, Weir retries by itself; "
            + "otherwise it stops, and goes on when the pipeline is started again.")

    /// What may happen to any connection.
    package static let postgresClient: [ErrorCode] = [
        connectionFailed, timeout, serverVersion, permission, limitReached, commandFailed,
    ]
}

/// Turns a server's error into what the engine acts on, where it means the same whatever the
/// connection is for. Pure.
package struct ServerFailureMap: Sendable {
    /// Host, port and database.
    package let place: String
    /// As SQL, where the URL names them.
    package let role: String
    package let database: String

    package init(place: String, role: String, database: String) {
        self.place = place
        self.role = role
        self.database = database
    }

    package init(_ connection: ConnectionString) {
        place = connection.place
        role = connection["user"].map(PostgresConnection.identifier) ?? "…"
        database = connection["dbname"].map(PostgresConnection.identifier) ?? "…"
    }

    package func error(_ failure: PostgresFailure, doing work: String) -> WeirError {
        switch failure.kind {
        case .cancelled:
            return WeirError(.cancelled, .transient, "cancelled while \(work)")
        case .timeout:
            return make(.timeout, .transient, failure, work)
        case .connection where failure.sqlState.isEmpty:
            return make(.connectionFailed, .transient, failure, work, hint: connectHint(failure))
        default: break
        }
        switch failure.sqlState {
        case "53300", "53400":
            return make(
                .limitReached, .transient, failure, work, hint: ErrorCode.limitReached.remedy)
        case let state where state.hasPrefix("57P") || state.hasPrefix("08"):
            return make(.connectionFailed, .transient, failure, work)
        case let state where state.hasPrefix("28") || state == "3D000":
            return make(.connectionFailed, .transient, failure, work, hint: connectHint(failure))
        default:
            let isPassing = failure.kind != .statement || Self.passes(failure.sqlState)
            return make(
                .commandFailed, isPassing ? .transient : .blocked, failure, work,
                hint: failure.hint ?? ErrorCode.commandFailed.remedy)
        }
    }

    /// Whether the same command may succeed later, though nobody changes anything: the server, its
    /// machine, or other sessions are to blame.
    ///
    /// All other states blame what was asked, the data, or the schema, and come again for ever:
    /// data (22, 23), syntax, names and rights (42), limits of the program (54), what a function
    /// raises (P0, 2F, 38, 39), what the server does not do (0A), damaged files (XX001, XX002).
    /// https://www.postgresql.org/docs/current/errcodes-appendix.html
    package static func passes(_ sqlState: String) -> Bool {
        switch sqlState.prefix(2) {
        // No code at all: libpq's own words.
        case "": true
        // Connection, authorization, which a reload may change, and a database that is not there.
        case "08", "0L", "0P", "28", "3D": true
        // A transaction's state, which ends with the connection; so do cursors and statements.
        case "24", "25", "26", "2D", "34", "3B": true
        // Serialization and deadlock.
        case "40": true
        // Resources, object state (a slot in use, a lock, recovery), operators, the machine.
        case "53", "55", "57", "58": true
        // A snapshot too old, and the server's configuration file.
        case "72", "F0": true
        // Mostly a race with somebody's DDL.
        case "XX": sqlState == "XX000"
        default: false
        }
    }

    private func connectHint(_ failure: PostgresFailure) -> String? {
        let message = failure.message
        if message.contains("password authentication failed") || message.contains("no password") {
            return "Check user and password of the connection."
        }
        if message.contains("pg_hba.conf") {
            return "Allow this host in the server's pg_hba.conf and reload it."
        }
        if message.contains("does not exist") { return "Check the names in the connection's url." }
        if message.contains("SSL") || message.contains("certificate") {
            return "Check sslmode and sslrootcert in the connection's url."
        }
        return nil
    }

    /// The server's words with the place and, beside them, its code.
    package func make(
        _ code: ErrorCode, _ disposition: Disposition, _ failure: PostgresFailure, _ work: String,
        hint: String? = nil
    ) -> WeirError {
        let state = failure.sqlState.isEmpty ? nil : "SQLSTATE \(failure.sqlState)."
        return WeirError(
            code, disposition, "could not \(work) at \(place): \(failure.message)",
            detail: state, hint: hint ?? failure.hint)
    }
}
