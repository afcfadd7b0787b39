import WeirTesting

extension BenchmarkCase {
    static let postgresLatency = BenchmarkCase(
        name: "postgres-latency",
        summary: "from commit to the row visible in a second PostgreSQL, at 1,000 transactions/s, "
            + "beside a native subscription",
        run: measurePostgresLatency)
}

/// The most times a native subscription's p50 that Weir's may be.
private let p50RatioMax = 2.0

/// Alternating, because the machine is not as fast at one time as at another.
private let turns = 3

/// In turn one load for Weir and one for the subscription, each to a new database of one server.
private func measurePostgresLatency(_ session: Session) async throws -> CaseReport {
    let server = try await Orders.server(settings: SteadyLoad.settings)
    let target = try await PostgresServer.quiet(settings: NativeSubscription.settings)
    try SteadyLoad.prepare(server)
    _ = try server.psql("CREATE PUBLICATION bench FOR TABLE \(Orders.table.name)")
    var weir: [Double] = []
    var native: [Double] = []
    var peaks: [Double] = []
    for turn in 1...turns {
        let (latencies, memory) = try await weirTurn(
            session.weir, server, try database("weir_\(turn)", on: target))
        weir += latencies
        peaks.append(memory.peakBytes)
        native += try await nativeTurn(server, try database("native_\(turn)", on: target))
    }
    let p50 = { (values: [Double]) in percentile(0.5, ofSorted: values.sorted()) }
    return CaseReport(
        name: "postgres-latency",
        figures: [
            Figure(
                "weir p50 / subscription p50", .ratio, p50(weir) / p50(native), atMost: p50RatioMax)
        ] + SteadyLoad.figures("weir", weir) + SteadyLoad.figures("subscription", native) + [
            Figure("weir peak RSS", .bytes, peaks.max() ?? .nan)
        ],
        samples: [
            Samples(name: "weir", unit: .milliseconds, values: weir),
            Samples(name: "subscription", unit: .milliseconds, values: native),
        ])
}

private func weirTurn(
    _ weir: WeirProgram, _ server: PostgresServer, _ database: TargetDatabase
) async throws -> ([Double], ProcessMemory) {
    let folder = try TemporaryDirectory()
    let pipeline = try BenchmarkPipeline(
        database.name, server, to: TargetTable(database), in: folder)
    let daemon = try RunningDaemon(weir, pipeline)
    let latencies = try SteadyLoad.milliseconds(
        server, in: folder, until: TableRows(database, Orders.table))
    guard let memory = ProcessMemory(daemon.pid) else {
        throw TestingError("the daemon ended after the load")
    }
    try await daemon.stop()
    return (latencies, memory)
}

private func nativeTurn(
    _ server: PostgresServer, _ database: TargetDatabase
) async throws -> [Double] {
    let subscription = NativeSubscription(name: database.name, source: server, database: database)
    try subscription.makeSlot()
    try subscription.create()
    _ = try database.psql(subscription.enable)
    try await eventually("the subscription streams") {
        try server.psql("SELECT state FROM pg_stat_replication") == "streaming"
    }
    let latencies = try SteadyLoad.milliseconds(
        server, in: try TemporaryDirectory(), until: TableRows(database, Orders.table))
    try subscription.drop()
    return latencies
}

/// Has the table, empty.
private func database(_ name: String, on server: PostgresServer) throws -> TargetDatabase {
    let database = try TargetDatabase(name, on: server)
    _ = try database.psql(Orders.table.definition)
    return database
}
