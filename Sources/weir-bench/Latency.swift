import Glibc
import WeirTesting

extension BenchmarkCase {
    static let latency = BenchmarkCase(
        name: "latency", summary: "from commit to the line in the file, at 1,000 transactions/s",
        run: measureLatency)
}

/// A commit's time is taken before its WAL is flushed, so every figure includes the server's own
/// fsync; `pg_recvlogical` shows how much that is.
private func measureLatency(_ session: Session) async throws -> CaseReport {
    let server = try await Orders.server()
    let folder = try TemporaryDirectory()
    try SteadyLoad.prepare(server)

    let output = OutputFile(path: folder.file("latency.jsonl"))
    let pipeline = try BenchmarkPipeline("latency", server, to: output, in: folder)
    let daemon = try RunningDaemon(session.weir, pipeline)
    let weir = try follow(
        LineFollower(output.path, timeAfter: #""ts":""#), server, folder)
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
        name: "latency",
        figures: SteadyLoad.figures("weir", weir) + SteadyLoad.figures("pg_recvlogical", limit),
        samples: [
            Samples(name: "weir", unit: .milliseconds, values: weir),
            Samples(name: "pg_recvlogical", unit: .milliseconds, values: limit),
        ])
}

/// Makes the load and returns, in milliseconds, how late each of its commits was in the file.
private func follow(
    _ follower: consuming LineFollower, _ server: PostgresServer, _ folder: TemporaryDirectory
) throws -> [Double] {
    try SteadyLoad.run(server, in: folder, followedBy: &follower)
    return follower.milliseconds
}
