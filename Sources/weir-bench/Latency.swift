import Glibc
import WeirTesting

extension BenchmarkCase {
    static let latency = BenchmarkCase(
        name: "latency", summary: "from commit to the line in the file, at 1,000 transactions/s",
        run: measureLatency)
}

private let transactionsPerSecond = 1_000
private let seconds = 10

/// A commit's time is taken before its WAL is flushed, so every figure includes the server's own
/// fsync; `pg_recvlogical` shows how much that is.
private func measureLatency(_ session: Session) async throws -> CaseReport {
    let server = try await Orders.server()
    let folder = try TemporaryDirectory()
    _ = try server.psql("CREATE SEQUENCE order_ids")

    let pipeline = try BenchmarkPipeline("latency", server, in: folder)
    let daemon = try RunningDaemon(session.weir, pipeline)
    let weir = try follow(
        LineFollower(pipeline.output.path, timeAfter: #""ts":""#), server, folder)
    try await daemon.stop()

    _ = try server.psql("SELECT pg_create_logical_replication_slot('bench', 'test_decoding')")
    let file = folder.file("limit")
    let receiver = try ChildProcess(
        server.program("pg_recvlogical"),
        [
            "-h", "127.0.0.1", "-p", "\(server.port)", "-U", "postgres", "-d", "postgres",
            "-S", "bench", "--start", "-o", "include-timestamp=1", "-o", "skip-empty-xacts=1",
            "-f", file, "--no-loop",
        ])
    try await eventually("pg_recvlogical streams") {
        try server.psql("SELECT active FROM pg_replication_slots WHERE slot_name = 'bench'") == "t"
    }
    let limit = try follow(LineFollower(file, timeAfter: "(at "), server, folder)
    receiver.signal(SIGINT)
    try await receiver.wait(within: .seconds(10))

    return CaseReport(
        name: "latency", figures: figures("weir", weir) + figures("pg_recvlogical", limit),
        samples: [
            Samples(name: "weir", unit: .milliseconds, values: weir),
            Samples(name: "pg_recvlogical", unit: .milliseconds, values: limit),
        ])
}

private func figures(_ name: String, _ latencies: [Double]) -> [Figure] {
    let sorted = latencies.sorted()
    return [
        Figure("\(name) p50", .milliseconds, percentile(0.5, ofSorted: sorted)),
        Figure("\(name) p99", .milliseconds, percentile(0.99, ofSorted: sorted)),
        Figure("\(name) max", .milliseconds, sorted.last ?? .nan),
        Figure("\(name) commits", .count, Double(sorted.count)),
    ]
}

/// Makes the load and returns, in milliseconds, how late each of its commits was in the file.
private func follow(
    _ follower: consuming LineFollower, _ server: PostgresServer, _ folder: TemporaryDirectory
) throws -> [Double] {
    let before = try rowCount(server)
    let script = try folder.write(Orders.insert("nextval('order_ids')"), to: "load.sql")
    let load = try ChildProcess(
        server.program("pgbench"),
        [
            "-h", server.directory, "-p", "\(server.port)", "-U", "postgres", "-n", "-c", "4",
            "-R", "\(transactionsPerSecond)", "-T", "\(seconds)", "-f", script, "postgres",
        ])
    while load.isRunning { try follower.readNew() }
    guard load.exitStatus == .exited(0) else {
        throw TestingError("pgbench failed: \(try load.standardError())")
    }
    let expected = try rowCount(server) - before
    let deadline = ContinuousClock.now + .seconds(10)
    while follower.milliseconds.count < expected {
        guard ContinuousClock.now < deadline else {
            throw TestingError(
                "only \(follower.milliseconds.count) of \(expected) commits reached the file")
        }
        try follower.readNew()
    }
    return follower.milliseconds
}

private func rowCount(_ server: PostgresServer) throws -> Int {
    Int(try server.psql("SELECT count(*) FROM orders")) ?? 0
}
