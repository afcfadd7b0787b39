import WeirTesting

/// A load that is drained after it happened, by `pg_recvlogical` and by Weir in turn.
struct Backlog: Sendable {
    typealias Destinations =
        @Sendable (TemporaryDirectory, Session) async throws -> any BacklogDestination

    let name: String
    let defaultChanges: Int
    /// The number of changes is a multiple of it.
    let unit: Int
    /// Makes what Weir drains to.
    var destination: Destinations = { folder, _ in FileBacklog(folder: folder) }
    /// SQL that makes this many changes.
    let load: @Sendable (_ changes: Int) -> String

    /// The goal.
    private static let peakBytesMax = 64.0 * 1_048_576

    func measure(_ session: Session) async throws -> CaseReport {
        let wanted = session.rows ?? defaultChanges
        let changes = max(unit, wanted / unit * unit)
        let server = try await Orders.server(slots: 2 * session.rounds + 2)
        let folder = try TemporaryDirectory()
        let destination = try await destination(folder, session)
        let pipelines = try pipelines(server, to: destination, in: folder, session)
        let loadStart = ContinuousClock.now
        _ = try server.psql(load(changes))
        _ = try server.psql("CHECKPOINT")
        let end = try server.psql("SELECT pg_current_wal_flush_lsn()")
        let loadSeconds = (ContinuousClock.now - loadStart).inSeconds
        session.console.line(
            "  \(grouped(Double(changes))) changes made in \(Unit.seconds.text(loadSeconds))")
        session.console.line(Drain.header)
        var rounds: [Round] = []
        for (index, pipeline) in pipelines.enumerated() {
            let number = index + 1
            let limit = try limit(changes, server, slot: "bench_\(number)", to: end, in: folder)
            session.console.line(limit.row(number))
            let beside = try destination.limit(changes, of: server)
            if let beside { session.console.line(beside.row(number)) }
            let weir = try destination.drain(number, changes, of: server) {
                try MeasuredRun(session.weir.path, pipeline.arguments(["run", "--once"]))
            }
            let round = Round(limit: limit, beside: beside, weir: weir)
            session.console.line(weir.row(number, ratio: round.ratio))
            rounds.append(round)
        }
        try await server.stop(.immediate)
        return report(changes, rounds, ratioMin: destination.ratioMin)
    }

    /// One per round, ready to drain: a slot that was consumed cannot go back, so each round has
    /// its own pair, made before the load.
    private func pipelines(
        _ server: PostgresServer, to destination: any BacklogDestination,
        in folder: TemporaryDirectory, _ session: Session
    ) throws -> [BenchmarkPipeline] {
        _ = try server.psql("CREATE PUBLICATION bench FOR TABLE orders")
        return try (1...session.rounds).map { round in
            _ = try server.psql(
                "SELECT pg_create_logical_replication_slot('bench_\(round)', 'pgoutput')")
            let pipeline = try BenchmarkPipeline(
                "round\(round)", server, to: destination.place(round), in: folder)
            _ = try MeasuredRun(session.weir.path, pipeline.arguments(["run", "--once"]))
            return pipeline
        }
    }

    private func limit(
        _ changes: Int, _ server: PostgresServer, slot: String, to end: String,
        in folder: TemporaryDirectory
    ) throws -> Drain {
        let raw = OutputFile(path: folder.file("limit"))
        return try Drain("pg_recvlogical", changes, raw) {
            try MeasuredRun(
                server.program("pg_recvlogical"),
                [
                    "-h", "127.0.0.1", "-p", "\(server.port)", "-U", "postgres",
                    "-d", "postgres", "-S", slot, "--start",
                    "-o", "proto_version=1", "-o", "publication_names=bench",
                    "-f", raw.path, "--endpos=\(end)", "--no-loop",
                ])
        } count: {
            try raw.pgOutputChangeCount()
        }
    }

    private func report(_ changes: Int, _ rounds: [Round], ratioMin: Double) -> CaseReport {
        let ratios = rounds.map(\.ratio)
        var figures = [
            Figure("weir / pg_recvlogical", .ratio, median(ratios), atLeast: ratioMin),
            Figure(
                "weir peak RSS", .bytes, rounds.map(\.weir.run.peakBytes).max() ?? .nan,
                atMost: Self.peakBytesMax),
            Figure(
                "pg_recvlogical peak RSS", .bytes,
                rounds.map(\.limit.run.peakBytes).max() ?? .nan),
        ]
        var samples = [Samples(name: "weir / pg_recvlogical", unit: .ratio, values: ratios)]
        for drains in [rounds.map(\.weir), rounds.map(\.limit), rounds.compactMap(\.beside)] {
            guard let name = drains.first?.program else { continue }
            let seconds = drains.map(\.run.seconds)
            figures += [
                Figure("\(name) time", .seconds, median(seconds)),
                Figure("\(name) speed", .rowsPerSecond, Double(changes) / median(seconds)),
            ]
            samples.append(Samples(name: "\(name) time", unit: .seconds, values: seconds))
            let more: [(String, Unit, [Double])] = [
                ("output", .bytes, drains.compactMap(\.bytes)),
                ("fsync after", .seconds, drains.compactMap(\.syncSeconds)),
                ("user CPU", .seconds, drains.map(\.run.userSeconds)),
                ("system CPU", .seconds, drains.map(\.run.systemSeconds)),
                ("server CPU", .seconds, drains.compactMap(\.serverSeconds)),
            ]
            for (what, unit, values) in more where !values.isEmpty {
                figures.append(Figure("\(name) \(what)", unit, median(values)))
            }
        }
        figures.append(Figure("changes", .count, Double(changes)))
        return CaseReport(name: name, figures: figures, samples: samples)
    }
}

/// What one round measured.
private struct Round {
    let limit: Drain
    /// The destination's own limit, where it has one.
    let beside: Drain?
    let weir: Drain

    var ratio: Double { limit.run.seconds / weir.run.seconds }
}
