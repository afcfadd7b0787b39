import Glibc
import WeirTesting

/// Notes the time at which each commit becomes visible somewhere.
protocol CommitFollower: ~Copyable {
    /// How many it has seen.
    var count: Int { get }

    /// Looks once, and sleeps 0.1 ms when there is nothing new. So a figure may be that much too
    /// high.
    mutating func look() throws
}

/// Single-row inserts at a fixed rate, with ids from a sequence that begins at 1.
enum SteadyLoad {
    private static let transactionsPerSecond = 1_000
    private static let seconds = 10
    /// They commit in an order of their own.
    static let clients = 4

    /// Once per server, before the first load.
    static func prepare(_ server: PostgresServer) throws {
        _ = try server.psql("CREATE SEQUENCE order_ids")
    }

    /// Makes the load and returns when the follower has seen each of its commits.
    static func run(
        _ server: PostgresServer, in folder: TemporaryDirectory,
        followedBy follower: inout some CommitFollower & ~Copyable
    ) throws {
        let before = try rowCount(server)
        let script = try folder.write(Orders.insert("nextval('order_ids')"), to: "load.sql")
        let load = try ChildProcess(
            server.program("pgbench"),
            [
                "-h", server.directory, "-p", "\(server.port)", "-U", "postgres", "-n",
                "-c", "\(clients)", "-R", "\(transactionsPerSecond)", "-T", "\(seconds)",
                "-f", script, "postgres",
            ])
        while load.isRunning { try follower.look() }
        guard load.exitStatus == .exited(0) else {
            throw TestingError("pgbench failed: \(try load.standardError())")
        }
        let expected = try rowCount(server) - before
        let deadline = ContinuousClock.now + .seconds(10)
        while follower.count < expected {
            guard ContinuousClock.now < deadline else {
                throw TestingError("only \(follower.count) of \(expected) commits arrived")
            }
            try follower.look()
        }
    }

    /// What is reported of the latencies of one program, in milliseconds.
    static func figures(_ name: String, _ latencies: [Double], p50Max: Double? = nil) -> [Figure] {
        let sorted = latencies.sorted()
        return [
            Figure(
                "\(name) p50", .milliseconds, percentile(0.5, ofSorted: sorted),
                goal: p50Max.map { Figure.Goal(isUpperLimit: true, limit: $0) }),
            Figure("\(name) p99", .milliseconds, percentile(0.99, ofSorted: sorted)),
            Figure("\(name) max", .milliseconds, sorted.last ?? .nan),
            Figure("\(name) commits", .count, Double(sorted.count)),
        ]
    }

    private static func rowCount(_ server: PostgresServer) throws -> Int {
        Int(try server.psql("SELECT count(*) FROM orders")) ?? 0
    }
}

/// Microseconds since 1970.
func microsNow() -> Int64 {
    var now = timespec()
    unsafe clock_gettime(CLOCK_REALTIME, &now)
    return Int64(now.tv_sec) * 1_000_000 + Int64(now.tv_nsec) / 1_000
}
