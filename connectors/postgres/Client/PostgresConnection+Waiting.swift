import CLibPQ
import Glibc

extension PostgresConnection {
    /// As `query`, for a command that may wait long: calls `meanwhile` after about a second of
    /// waiting, and every ten seconds from then on. A command that is given up goes on at the
    /// server: see `cancel`.
    package func query(
        _ sql: String, within limit: Duration, meanwhile: () -> Void
    ) throws(PostgresFailure) -> [TextRow] {
        let deadline = ContinuousClock.now + limit
        guard unsafe PQsendQuery(connection, sql) == 1 else { throw lastFailure() }
        beginAnswer(atMost: Self.answerBytesMax)
        try flush(by: deadline)
        var next = ContinuousClock.now + .seconds(1)
        while unsafe PQisBusy(connection) == 1 {
            do throws(PostgresFailure) {
                try wait(for: POLLIN, by: min(next, deadline))
            } catch {
                guard error.kind == .timeout, ContinuousClock.now < deadline else {
                    throw error
                }
                meanwhile()
                next = .now + .seconds(10)
                continue
            }
            guard unsafe PQconsumeInput(connection) == 1 else { throw lastFailure() }
            try checkAnswer()
        }
        return try results(by: deadline)
    }

    /// Makes the server give up the command of another connection of ours.
    ///
    /// Not by libpq's own request: that makes a connection, which may take minutes where the server
    /// is gone. It works in a cancelled task too, which is when it is needed; so it waits for a
    /// short while only.
    package func cancel(
        _ other: PostgresConnection, within limit: Duration = .seconds(2)
    ) throws(PostgresFailure) {
        let deadline = ContinuousClock.now + limit
        // What it was asked last may have been given up as well.
        try dropResults(by: deadline)
        let command = "SELECT pg_catalog.pg_cancel_backend(\(other.backendPID))"
        guard unsafe PQsendQuery(connection, command) == 1 else { throw lastFailure() }
        beginAnswer(atMost: Self.greetingBytesMax)
        try flush(by: deadline, heedsCancelling: false)
        try dropResults(by: deadline)
    }

    /// Until the connection is free, also when the task is cancelled.
    private func dropResults(by deadline: ContinuousClock.Instant) throws(PostgresFailure) {
        while true {
            while unsafe PQisBusy(connection) == 1 {
                try wait(for: POLLIN, by: deadline, heedsCancelling: false)
                guard unsafe PQconsumeInput(connection) == 1 else { throw lastFailure() }
                try checkAnswer()
            }
            guard let result = unsafe PQgetResult(connection) else { return }
            unsafe PQclear(result)
            if ContinuousClock.now >= deadline {
                throw PostgresFailure(.timeout, "the server did not answer in time")
            }
        }
    }
}
