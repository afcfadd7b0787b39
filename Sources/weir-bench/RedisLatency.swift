import WeirTesting

extension BenchmarkCase {
    static let redisLatency = BenchmarkCase(
        name: "redis-latency",
        summary: "from commit to the value in Redis, at 1,000 transactions/s",
        run: measureRedisLatency)
}

private let p50MillisecondsMax = 1.0

/// The server keeps each commit's time, taken before its WAL is flushed, so every figure includes
/// the server's own fsync.
private func measureRedisLatency(_ session: Session) async throws -> CaseReport {
    let server = try await Orders.server(settings: ["track_commit_timestamp": "on"])
    let redis = try await RedisServer.start()
    let folder = try TemporaryDirectory()
    try SteadyLoad.prepare(server)
    let pipeline = try BenchmarkPipeline(
        "latency", server, to: RedisDatabase(server: redis, number: 0), in: folder)
    let daemon = try RunningDaemon(session.weir, pipeline)
    var follower = try KeyFollower(redis.socketFile)
    try SteadyLoad.run(server, in: folder, followedBy: &follower)
    guard let memory = ProcessMemory(daemon.pid) else {
        throw TestingError("the daemon ended after the load")
    }
    try await daemon.stop()
    let latencies = try commitTimes(server).map { id, committed in
        guard let seen = follower.seen[id] else {
            throw TestingError("row \(id) was not seen in Redis")
        }
        return Double(seen - committed) / 1_000
    }
    return CaseReport(
        name: "redis-latency",
        figures: SteadyLoad.figures("weir", latencies, p50Max: p50MillisecondsMax) + [
            Figure("weir RSS", .bytes, memory.residentBytes),
            Figure("weir peak RSS", .bytes, memory.peakBytes),
        ],
        samples: [Samples(name: "weir", unit: .milliseconds, values: latencies)])
}

/// When each row was committed, in microseconds since 1970, in the order of the ids.
private func commitTimes(_ server: PostgresServer) throws -> [(id: Int, micros: Int64)] {
    try server.psql(
        """
        SELECT id, (extract(epoch FROM pg_xact_commit_timestamp(xmin)) * 1000000)::bigint
        FROM orders ORDER BY id
        """
    )
    .split(separator: "\n")
    .map { line in
        let fields = line.split(separator: "|")
        guard fields.count == 2, let id = Int(fields[0]), let micros = Int64(fields[1]) else {
            throw TestingError("no commit time in \"\(line)\"")
        }
        return (id, micros)
    }
}
