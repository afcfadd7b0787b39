import WeirTesting

/// A load that is drained after it happened, by `pg_recvlogical` and by Weir in turn.
struct Backlog: Sendable {
    let name: String
    let defaultChanges: Int
    /// The number of changes is a multiple of it.
    let unit: Int
    /// SQL that makes this many changes.
    let load: @Sendable (_ changes: Int) -> String

    /// The goals.
    private static let ratioMin = 0.95
    private static let peakBytesMax = 64.0 * 1_048_576

    func measure(_ session: Session) async throws -> CaseReport {
        let wanted = session.rows ?? defaultChanges
        let changes = max(unit, wanted / unit * unit)
        let server = try await Orders.server(slots: 2 * session.rounds + 2)
        let folder = try TemporaryDirectory()
        // A slot that was consumed cannot go back, so each round has its own pair, made before
        // the load.
        _ = try server.psql("CREATE PUBLICATION bench FOR TABLE orders")
        var pipelines: [BenchmarkPipeline] = []
        for round in 1...session.rounds {
            _ = try server.psql(
                "SELECT pg_create_logical_replication_slot('bench_\(round)', 'pgoutput')")
            let pipeline = try BenchmarkPipeline("round\(round)", server, in: folder)
            _ = try MeasuredRun(session.weir.path, pipeline.arguments(["run", "--once"]))
            pipelines.append(pipeline)
        }
        let loadStart = ContinuousClock.now
        _ = try server.psql(load(changes))
        _ = try server.psql("CHECKPOINT")
        let end = try server.psql("SELECT pg_current_wal_flush_lsn()")
        let loadSeconds = (ContinuousClock.now - loadStart).inSeconds
        session.console.line(
            "  \(grouped(Double(changes))) changes made in \(Unit.seconds.text(loadSeconds))")
        session.console.line(Drain.header)
        var rounds: [(limit: Drain, weir: Drain)] = []
        for (index, pipeline) in pipelines.enumerated() {
            let raw = OutputFile(path: folder.file("limit"))
            let limit = try Drain(changes, raw) {
                try MeasuredRun(
                    server.program("pg_recvlogical"),
                    [
                        "-h", "127.0.0.1", "-p", "\(server.port)", "-U", "postgres",
                        "-d", "postgres", "-S", "bench_\(index + 1)", "--start",
                        "-o", "proto_version=1", "-o", "publication_names=bench",
                        "-f", raw.path, "--endpos=\(end)", "--no-loop",
                    ])
            } count: {
                try raw.pgOutputChangeCount()
            }
            session.console.line(limit.row("\(index + 1)", "pg_recvlogical", ratio: nil))
            let weir = try Drain(changes, pipeline.output) {
                try MeasuredRun(session.weir.path, pipeline.arguments(["run", "--once"]))
            } count: {
                try pipeline.output.lineCount()
            }
            let ratio = limit.run.seconds / weir.run.seconds
            session.console.line(weir.row("\(index + 1)", "weir", ratio: ratio))
            rounds.append((limit, weir))
        }
        try await server.stop(.immediate)
        return report(changes, rounds)
    }

    private func report(_ changes: Int, _ rounds: [(limit: Drain, weir: Drain)]) -> CaseReport {
        let ratios = rounds.map { $0.limit.run.seconds / $0.weir.run.seconds }
        var figures = [
            Figure("weir / pg_recvlogical", .ratio, median(ratios), atLeast: Self.ratioMin),
            Figure(
                "weir peak RSS", .bytes, rounds.map(\.weir.run.peakBytes).max() ?? .nan,
                atMost: Self.peakBytesMax),
            Figure(
                "pg_recvlogical peak RSS", .bytes,
                rounds.map(\.limit.run.peakBytes).max() ?? .nan),
        ]
        var samples = [Samples(name: "weir / pg_recvlogical", unit: .ratio, values: ratios)]
        for (name, drains) in [
            ("weir", rounds.map(\.weir)), ("pg_recvlogical", rounds.map(\.limit)),
        ] {
            let seconds = drains.map(\.run.seconds)
            figures += [
                Figure("\(name) time", .seconds, median(seconds)),
                Figure("\(name) speed", .rowsPerSecond, Double(changes) / median(seconds)),
                Figure("\(name) output", .bytes, median(drains.map(\.bytes))),
                Figure("\(name) fsync after", .seconds, median(drains.map(\.syncSeconds))),
                Figure("\(name) user CPU", .seconds, median(drains.map(\.run.userSeconds))),
                Figure("\(name) system CPU", .seconds, median(drains.map(\.run.systemSeconds))),
            ]
            samples.append(Samples(name: "\(name) time", unit: .seconds, values: seconds))
        }
        figures.append(Figure("changes", .count, Double(changes)))
        return CaseReport(name: name, figures: figures, samples: samples)
    }
}

/// One program's turn. Its output is checked and removed.
private struct Drain {
    let run: MeasuredRun
    let bytes: Double
    let syncSeconds: Double
    private let changes: Int

    init(
        _ changes: Int, _ output: OutputFile, run: () throws -> MeasuredRun,
        count: () throws -> Int
    ) throws {
        self.run = try run()
        // Before the next turn, so that it does not write this one's bytes.
        syncSeconds = try output.syncSeconds()
        bytes = output.bytes
        self.changes = changes
        let found = try count()
        guard found == changes else {
            throw TestingError("\"\(output.path)\" holds \(found) changes instead of \(changes)")
        }
        output.remove()
    }

    private static let widths = [7, 16, 10, 16, 10, 10, 10, 9, 9, 8]

    static let header = tableRow(
        [
            "round", "program", "time", "speed", "output", "fsync", "peak", "user", "system",
            "ratio",
        ], widths)

    func row(_ round: String, _ program: String, ratio: Double?) -> String {
        tableRow(
            [
                round, program, Unit.seconds.text(run.seconds),
                Unit.rowsPerSecond.text(Double(changes) / run.seconds), Unit.bytes.text(bytes),
                Unit.seconds.text(syncSeconds), Unit.bytes.text(run.peakBytes),
                Unit.seconds.text(run.userSeconds), Unit.seconds.text(run.systemSeconds),
                ratio.map(Unit.ratio.text) ?? "",
            ], Self.widths)
    }
}
