import WeirTesting

extension BenchmarkCase {
    static let redisBacklog = BenchmarkCase(
        name: "redis-backlog",
        summary: "inserts in transactions of 1,000 rows, drained to Redis as JSON with a TTL; "
            + "Redis on the same machine, without persistence"
    ) { session in
        try await Backlog(
            name: "redis-backlog", defaultChanges: 500_000, unit: 1_000,
            destination: { scene in try await RedisBacklog(rounds: scene.session.rounds) },
            load: { changes in Orders.inserts(changes, by: 1_000) }
        )
        .measure(session)
    }
}

/// A backlog that goes to one Redis server, in each round to a database of its own: the marker of
/// a pipeline must stay from its first start on. Each is emptied after its round.
private struct RedisBacklog: BacklogDestination {
    let yardstick = Yardstick(program: Backlog.receiver, ratioMin: 0.6)

    private let server: RedisServer
    private let pid: Int32

    private static let commandsPerPacket = 100

    init(rounds: Int) async throws {
        // Database 0 is for redis-benchmark.
        server = try await RedisServer.start(settings: ["databases": "\(rounds + 1)"])
        guard let pid = server.pid else { throw TestingError("Redis ended at once") }
        self.pid = pid
    }

    func place(_ round: Int) -> any Destination { database(round) }

    /// SET of as many values of the same mean size, to keys drawn from as many.
    func limit(_ round: Int, _ rows: Int, from source: PostgresServer) throws -> Drain? {
        let size = try source.psql(
            "SELECT avg(octet_length(row_to_json(orders)::text))::int FROM orders")
        let drain = try Drain("redis-benchmark", rows, server: pid) {
            try MeasuredRun(
                "redis-benchmark",
                [
                    "-h", "127.0.0.1", "-p", "\(server.port)", "-t", "set", "-d", size,
                    "-n", "\(rows)", "-r", "\(rows)", "-P", "\(Self.commandsPerPacket)", "-q",
                ])
        }
        try database(0).empty()
        return drain
    }

    func drain(
        _ round: Int, _ changes: Int, from source: PostgresServer, run: () throws -> MeasuredRun
    ) throws -> Drain {
        let drain = try Drain("weir", changes, server: pid, run: run)
        try database(round).check(changes, of: source)
        try database(round).empty()
        return drain
    }

    private func database(_ number: Int) -> RedisDatabase {
        RedisDatabase(server: server, number: number)
    }
}
