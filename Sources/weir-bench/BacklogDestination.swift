import WeirTesting

/// Where Weir drains a backlog to, in each round to a place of its own.
protocol BacklogDestination: Sendable {
    /// The least ratio to `pg_recvlogical` that the project promises.
    var ratioMin: Double { get }

    /// - Parameter round: counted from 1.
    func place(_ round: Int) -> any Destination

    /// Measures what this destination takes at best, just before Weir's turn; nil for nothing.
    func limit(_ rows: Int, of table: PostgresServer) throws -> Drain?

    /// Weir's turn. What it wrote is checked and removed.
    func drain(
        _ round: Int, _ changes: Int, of table: PostgresServer, run: () throws -> MeasuredRun
    ) throws -> Drain
}

/// A backlog that goes to files: `pg_recvlogical` writes one too, and is the only limit.
struct FileBacklog: BacklogDestination {
    let folder: TemporaryDirectory

    let ratioMin = 0.95

    func place(_ round: Int) -> any Destination { file(round) }

    func limit(_ rows: Int, of table: PostgresServer) -> Drain? { nil }

    func drain(
        _ round: Int, _ changes: Int, of table: PostgresServer, run: () throws -> MeasuredRun
    ) throws -> Drain {
        let file = file(round)
        return try Drain("weir", changes, file, run: run) { try file.lineCount() }
    }

    private func file(_ round: Int) -> OutputFile {
        OutputFile(path: folder.file("round\(round).jsonl"))
    }
}
