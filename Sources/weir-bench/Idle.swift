import WeirTesting

extension BenchmarkCase {
    static let idle = BenchmarkCase(
        name: "idle", summary: "memory and CPU 5 s after a load, nothing happening",
        run: measureIdle)
}

private let residentBytesMax = 30.0 * 1_048_576

private func measureIdle(_ session: Session) async throws -> CaseReport {
    let changes = max(1_000, (session.rows ?? 500_000) / 1_000 * 1_000)
    let server = try await Orders.server()
    let folder = try TemporaryDirectory()
    let pipeline = try BenchmarkPipeline("idle", server, in: folder)
    let daemon = try RunningDaemon(session.weir, pipeline)
    let fresh = ProcessMemory(daemon.pid)?.residentBytes ?? .nan
    _ = try server.psql(Orders.inserts(changes, by: 1_000))
    try await daemon.waitUntilDelivered(changes)
    try await Task.sleep(for: .seconds(5))
    let before = ProcessTimes(daemon.pid)
    let seconds = 10
    try await Task.sleep(for: .seconds(seconds))
    guard let before, let after = ProcessTimes(daemon.pid),
        let memory = ProcessMemory(daemon.pid)
    else {
        throw TestingError("the daemon ended while it was idle")
    }
    try await daemon.stop()
    return CaseReport(
        name: "idle",
        figures: [
            Figure("idle RSS", .bytes, memory.residentBytes, atMost: residentBytesMax),
            Figure("of it not pages of files", .bytes, memory.anonymousBytes),
            Figure("RSS just started", .bytes, fresh),
            Figure("peak RSS", .bytes, memory.peakBytes),
            Figure("CPU", .ticksPerSecond, (after.ticks - before.ticks) / Double(seconds)),
        ])
}
