/// Waits until `condition` holds, asking every `poll`.
///
/// An error thrown by `condition` ends the wait; use `try?` inside it where failing is part of the
/// way. When `limit` is over, throws an error that names `what`.
package func eventually(
    within limit: Duration = .seconds(20),
    _ what: String,
    poll: Duration = .milliseconds(10),
    condition: () async throws -> Bool
) async throws {
    let clock = ContinuousClock()
    let deadline = clock.now + limit
    while try await !condition() {
        guard clock.now < deadline else {
            throw TestingError("not within \(limit): \(what)")
        }
        try await Task.sleep(for: poll)
    }
}
