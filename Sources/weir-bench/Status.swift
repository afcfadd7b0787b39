import WeirTesting

extension BenchmarkCase {
    static let status = BenchmarkCase(
        name: "status", summary: "weir status against a running daemon", run: measureStatus)
}

private let millisecondsMax = 50.0
private let tries = 20

private func measureStatus(_ session: Session) async throws -> CaseReport {
    let server = try await Orders.server()
    let folder = try TemporaryDirectory()
    let pipeline = try BenchmarkPipeline("status", server, in: folder)
    let daemon = try RunningDaemon(session.weir, pipeline)
    var figures: [Figure] = []
    var samples: [Samples] = []
    for (name, words) in [
        ("weir status", ["status"]), ("weir status --json", ["status", "--json"]),
    ] {
        let times = try (0..<tries).map { _ in
            try MeasuredRun(session.weir.path, pipeline.arguments(words)).seconds * 1_000
        }
        figures += [
            Figure(name, .milliseconds, median(times), atMost: millisecondsMax),
            Figure("\(name), slowest", .milliseconds, times.max() ?? .nan),
        ]
        samples.append(Samples(name: name, unit: .milliseconds, values: times))
    }
    try await daemon.stop()
    return CaseReport(name: "status", figures: figures, samples: samples)
}
