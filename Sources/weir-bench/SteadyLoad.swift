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

    /// What a server needs that keeps the times of its commits.
    static let settings = ["track_commit_timestamp": "on"]

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

    /// Makes the load and returns how late each of its commits was in a store, in the order of the
    /// ids.
    ///
    /// The server keeps each commit's time, taken before its WAL is flushed, so every figure
    /// includes the server's own fsync.
    static func milliseconds<Store: RowStore & ~Copyable>(
        _ server: PostgresServer, in folder: TemporaryDirectory, until store: consuming Store
    ) throws -> [Double] {
        let lastID = try integer(
            server, "SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM order_ids")
        var follower = RowFollower(store, from: lastID + 1)
        try run(server, in: folder, followedBy: &follower)
        return try commitTimes(server, after: lastID).map { id, committed in
            guard let seen = follower.seen[id] else {
                throw TestingError("row \(id) was not seen")
            }
            return Double(seen - committed) / 1_000
        }
    }

    /// When each row was committed, in microseconds since 1970, in the order of the ids.
    private static func commitTimes(
        _ server: PostgresServer, after lastID: Int
    ) throws -> [(id: Int, micros: Int64)] {
        try server.psql(
            """
            SELECT id, (extract(epoch FROM pg_xact_commit_timestamp(xmin)) * 1000000)::bigint
            FROM orders WHERE id > \(lastID) ORDER BY id
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
        try integer(server, "SELECT count(*) FROM orders")
    }

    private static func integer(_ server: PostgresServer, _ sql: String) throws -> Int {
        let text = try server.psql(sql)
        guard let number = Int(text) else { throw TestingError("\"\(text)\" is no number") }
        return number
    }
}

/// Microseconds since 1970.
func microsNow() -> Int64 {
    var now = timespec()
    unsafe clock_gettime(CLOCK_REALTIME, &now)
    return Int64(now.tv_sec) * 1_000_000 + Int64(now.tv_nsec) / 1_000
}
