/// One thing to measure.
struct BenchmarkCase: Sendable {
    let name: String
    let summary: String
    let run: @Sendable (Session) async throws -> CaseReport

    /// In the order they run.
    static let all = [
        backlogRows, backlogOne, backlogSmall, mixed, redisBacklog, idle, start, status, latency,
        redisLatency, postgresInserts, postgresUpdates, postgresDeletes, postgresSearch,
        postgresLatency, mongoDBBacklog, mongoDBImages, bsonToJSON,
    ]

    /// Columns that a name takes in a list.
    static let nameWidth = 2 + (all.map(\.name.count).max() ?? 0)
}

/// What the cases of one run share.
struct Session: Sendable {
    let weir: WeirProgram
    let console: Console
    /// Nil means each case's own number.
    let rows: Int?
    let rounds: Int
}
