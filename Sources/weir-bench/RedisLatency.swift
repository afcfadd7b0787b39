import WeirTesting

extension BenchmarkCase {
    static let redisLatency = BenchmarkCase(
        name: "redis-latency",
        summary: "from commit to the value in Redis, at 1,000 transactions/s",
        run: measureRedisLatency)
}

private let p50MillisecondsMax = 1.0

private func measureRedisLatency(_ session: Session) async throws -> CaseReport {
    let server = try await Orders.server(settings: SteadyLoad.settings)
    let redis = try await RedisServer.start()
    let folder = try TemporaryDirectory()
    try SteadyLoad.prepare(server)
    let pipeline = try BenchmarkPipeline(
        "latency", server, to: RedisDatabase(server: redis, number: 0), in: folder)
    let daemon = try RunningDaemon(session.weir, pipeline)
    let latencies = try SteadyLoad.milliseconds(server, in: folder, until: RedisKeys(redis))
    guard let memory = ProcessMemory(daemon.pid) else {
        throw TestingError("the daemon ended after the load")
    }
    try await daemon.stop()
    return CaseReport(
        name: "redis-latency",
        figures: SteadyLoad.figures("weir", latencies, p50Max: p50MillisecondsMax) + [
            Figure("weir RSS", .bytes, memory.residentBytes),
            Figure("weir peak RSS", .bytes, memory.peakBytes),
        ],
        samples: [Samples(name: "weir", unit: .milliseconds, values: latencies)])
}
