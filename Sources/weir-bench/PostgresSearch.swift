import WeirTesting

extension BenchmarkCase {
    static let postgresSearch = BenchmarkCase(
        name: "postgres-search",
        summary: "inserts of texts of 46 words, drained to a search table, beside COPY of the same "
            + "rows straight into an equal table"
    ) { session in
        try await Backlog(
            name: "postgres-search", defaultChanges: 200_000, unit: 1_000, table: Articles.table,
            destination: { scene in try await SearchBacklog(scene) },
            load: { changes in Articles.inserts(changes, by: 1_000) }
        )
        .measure(session)
    }
}

/// A backlog that goes to a search table, which Weir made.
private struct SearchBacklog: BacklogDestination {
    let yardstick = Yardstick(program: "COPY", ratioMin: nil)

    private let server: PostgresServer
    private let pid: Int32
    private let database: TargetDatabase

    private static let searched = Articles.table.name
    private static let copied = "copied"

    /// Has Weir make the table, from one row that is gone again, and makes an equal one.
    init(_ scene: Backlog.Scene) async throws {
        server = try await PostgresServer.quiet()
        guard let pid = server.pid else { throw TestingError("PostgreSQL ended at once") }
        self.pid = pid
        database = try TargetDatabase("weir", on: server)
        let pipeline = try BenchmarkPipeline(
            "first", scene.source, scene.table, to: place(0), in: scene.folder)
        let run = pipeline.arguments(["run", "--once"])
        _ = try MeasuredRun(scene.session.weir.path, run)
        _ = try scene.source.psql(Articles.insert("generate_series(1, 1)"))
        _ = try MeasuredRun(scene.session.weir.path, run)
        _ = try scene.source.psql("TRUNCATE \(Self.searched)")
        _ = try database.psql("CREATE TABLE \(Self.copied) (LIKE \(Self.searched) INCLUDING ALL)")
        try empty()
    }

    func place(_ round: Int) -> any Destination {
        TargetTable(
            database,
            keys: """
                "write": "search", "table": "public.\(Self.searched)",
                "text": { "config": "english", "A": ["title"], "B": ["body"] }
                """)
    }

    /// What it copies stays until Weir's turn is compared with it.
    func limit(_ round: Int, _ changes: Int, from source: PostgresServer) throws -> Drain? {
        let file = "\(source.directory)/rows"
        _ = try source.psql("COPY \(Self.searched) TO '\(file)'")
        return try Drain(yardstick.program, changes, server: pid) {
            try MeasuredRun(
                server.program("psql"),
                [
                    "-X", "-q", "-v", "ON_ERROR_STOP=1", "-h", server.directory,
                    "-p", "\(server.port)", "-U", "postgres", "-d", database.name,
                    "-c", "COPY \(Self.copied) FROM '\(file)'",
                ])
        }
    }

    func drain(
        _ round: Int, _ changes: Int, from source: PostgresServer, run: () throws -> MeasuredRun
    ) throws -> Drain {
        _ = try server.psql("CHECKPOINT")
        let drain = try Drain("weir", changes, server: pid, run: run)
        let expected = try server.fingerprint(Self.copied, database: database.name)
        let found = try server.fingerprint(Self.searched, database: database.name)
        guard found == expected, found.hasPrefix("\(changes)|") else {
            throw TestingError("the search table is \(found) instead of \(expected)")
        }
        try empty()
        return drain
    }

    private func empty() throws {
        _ = try database.psql("TRUNCATE \(Self.searched), \(Self.copied); CHECKPOINT")
    }
}
