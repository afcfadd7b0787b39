import WeirTesting

/// A load that is drained after it happened, by `pg_recvlogical` and by Weir in turn.
struct Backlog: Sendable {
    /// What a destination is made from: a folder of its own, and the source before the load.
    struct Scene: Sendable {
        let folder: TemporaryDirectory
        let session: Session
        let source: PostgresServer
        let table: SourceTable
    }

    let name: String
    let defaultChanges: Int
    /// The number of changes is a multiple of it.
    let unit: Int
    var table = Orders.table
    /// SQL that makes the rows that are there before, of which Weir learns nothing.
    var rowsBefore: (@Sendable (_ changes: Int) -> String)?
    /// Makes what Weir drains to.
    var destination: @Sendable (Scene) async throws -> any BacklogDestination = {
        FileBacklog(folder: $0.folder)
    }
    /// SQL that makes this many changes.
    let load: @Sendable (_ changes: Int) -> String

    static let receiver = "pg_recvlogical"

    func measure(_ session: Session) async throws -> CaseReport {
        let wanted = session.rows ?? defaultChanges
        let changes = max(unit, wanted / unit * unit)
        // A round has one for pg_recvlogical, one for Weir, and perhaps one for the destination.
        let server = try await PostgresServer.quiet(slots: 3 * session.rounds + 2)
        _ = try server.psql(table.definition)
        if let rowsBefore {
            _ = try server.psql(rowsBefore(changes))
            _ = try server.psql("VACUUM ANALYZE \(table.name)")
        }
        let scene = Scene(
            folder: try TemporaryDirectory(), session: session, source: server, table: table)
        let destination = try await destination(scene)
        let pipelines = try pipelines(scene, to: destination)
        let loadStart = ContinuousClock.now
        _ = try server.psql(load(changes))
        _ = try server.psql("CHECKPOINT")
        let end = try server.psql("SELECT pg_current_wal_flush_lsn()")
        let loadSeconds = (ContinuousClock.now - loadStart).inSeconds
        session.console.line(
            "  \(grouped(Double(changes))) changes made in \(Unit.seconds.text(loadSeconds))")
        session.console.line(Drain.header)
        var rounds: [BacklogRound] = []
        for (index, pipeline) in pipelines.enumerated() {
            let number = index + 1
            let limit = try limit(changes, scene, slot: "bench_\(number)", to: end)
            session.console.line(limit.row(number))
            let beside = try destination.limit(number, changes, from: server)
            if let beside { session.console.line(beside.row(number)) }
            let weir = try destination.drain(number, changes, from: server) {
                try MeasuredRun(session.weir.path, pipeline.arguments(["run", "--once"]))
            }
            let round = BacklogRound(weir: weir, limits: [limit, beside].compactMap(\.self))
            let ratio = round.ratio(to: destination.yardstick.program)
            session.console.line(weir.row(number, ratio: ratio))
            rounds.append(round)
        }
        try await server.stop(.immediate)
        return CaseReport(name, changes, rounds, destination.yardstick)
    }

    /// One per round, ready to drain: a slot that was consumed cannot go back, so each round has
    /// its own, made before the load.
    private func pipelines(
        _ scene: Scene, to destination: any BacklogDestination
    ) throws -> [BenchmarkPipeline] {
        _ = try scene.source.psql("CREATE PUBLICATION bench FOR TABLE \(table.name)")
        return try (1...scene.session.rounds).map { round in
            _ = try scene.source.psql(
                "SELECT pg_create_logical_replication_slot('bench_\(round)', 'pgoutput')")
            try destination.prepare(round, from: scene.source)
            let pipeline = try BenchmarkPipeline(
                "round\(round)", scene.source, table, to: destination.place(round),
                in: scene.folder)
            _ = try MeasuredRun(scene.session.weir.path, pipeline.arguments(["run", "--once"]))
            return pipeline
        }
    }

    private func limit(
        _ changes: Int, _ scene: Scene, slot: String, to end: String
    ) throws -> Drain {
        let raw = OutputFile(path: scene.folder.file("limit"))
        return try Drain(Self.receiver, changes, raw) {
            try MeasuredRun(
                scene.source.program(Self.receiver),
                [
                    "-h", "127.0.0.1", "-p", "\(scene.source.port)", "-U", "postgres",
                    "-d", "postgres", "-S", slot, "--start",
                    "-o", "proto_version=1", "-o", "publication_names=bench",
                    "-f", raw.path, "--endpos=\(end)", "--no-loop",
                ])
        } count: {
            try raw.pgOutputChangeCount()
        }
    }
}
