import CLibPQ
import Glibc

extension PostgresConnection {
    /// As `query`, for a command that may wait long: calls `meanwhile` after about a second of
    /// waiting, and every ten seconds from then on. A command that is given up is cancelled at the
    /// server too.
    package func query(
        _ sql: String, within limit: Duration, meanwhile: () -> Void
    ) throws(PostgresFailure) -> [TextRow] {
        let deadline = ContinuousClock.now + limit
        guard unsafe PQsendQuery(connection, sql) == 1 else { throw lastFailure() }
        beginAnswer(atMost: Self.answerBytesMax)
        do throws(PostgresFailure) {
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
        } catch {
            if error.kind != .statement { cancel() }
            throw error
        }
    }

    /// Asks the server to give up the command under way.
    private func cancel() {
        guard let request = unsafe PQgetCancel(connection) else { return }
        var message = [CChar](repeating: 0, count: 256)
        unsafe PQcancel(request, &message, Int32(message.count))
        unsafe PQfreeCancel(request)
    }
}
