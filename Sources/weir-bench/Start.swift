import Glibc
import Synchronization
import WeirTesting

extension BenchmarkCase {
    static let start = BenchmarkCase(
        name: "start", summary: "a second start: weir start, and the process until it streams",
        run: measureStart)
}

private let millisecondsMax = 100.0
private let tries = 10

private func measureStart(_ session: Session) async throws -> CaseReport {
    let server = try await Orders.server()
    let folder = try TemporaryDirectory()
    let pipeline = try BenchmarkPipeline("start", server, in: folder)
    // The first start makes slot, publication and state.
    _ = try MeasuredRun(session.weir.path, pipeline.arguments(["run", "--once"]))
    var returned: [Double] = []
    var streaming: [Double] = []
    for _ in 0..<tries {
        returned.append(try startInBackground(session.weir, pipeline))
        let start = ContinuousClock.now
        let daemon = try RunningDaemon(session.weir, pipeline)
        streaming.append((ContinuousClock.now - start).inSeconds * 1_000)
        try await daemon.stop()
    }
    return CaseReport(
        name: "start",
        figures: [
            Figure("until streaming", .milliseconds, median(streaming), atMost: millisecondsMax),
            Figure("until streaming, slowest", .milliseconds, streaming.max() ?? .nan),
            Figure("weir start returns", .milliseconds, median(returned), atMost: millisecondsMax),
            Figure("weir start returns, slowest", .milliseconds, returned.max() ?? .nan),
        ],
        samples: [
            Samples(name: "until streaming", unit: .milliseconds, values: streaming),
            Samples(name: "weir start returns", unit: .milliseconds, values: returned),
        ])
}

/// `weir start` and `weir stop`; the milliseconds the first took.
private func startInBackground(
    _ weir: WeirProgram, _ pipeline: BenchmarkPipeline
) throws -> Double {
    let started = try MeasuredRun(weir.path, pipeline.arguments(["start"]))
    let pid = pipeline.control.status()?.pid ?? 0
    detachedDaemon.store(pid, ordering: .relaxed)
    defer { detachedDaemon.store(0, ordering: .relaxed) }
    do {
        _ = try MeasuredRun(weir.path, pipeline.arguments(["stop"]))
    } catch {
        if pid > 0 { kill(pid, SIGKILL) }
        throw error
    }
    return started.seconds * 1_000
}
