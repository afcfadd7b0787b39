import WeirTesting

/// Where Weir drains a backlog to, in each round to a place of its own.
protocol BacklogDestination: Sendable {
    var yardstick: Yardstick { get }

    /// - Parameter round: counted from 1.
    func place(_ round: Int) -> any Destination

    /// Called for each round before the load.
    func prepare(_ round: Int, from source: PostgresServer) throws

    /// Measures what this destination takes at best, just before Weir's turn; nil for nothing.
    func limit(_ round: Int, _ changes: Int, from source: PostgresServer) throws -> Drain?

    /// Weir's turn. What it wrote is checked and removed.
    func drain(
        _ round: Int, _ changes: Int, from source: PostgresServer, run: () throws -> MeasuredRun
    ) throws -> Drain
}

extension BacklogDestination {
    func prepare(_ round: Int, from source: PostgresServer) {}

    func limit(_ round: Int, _ changes: Int, from source: PostgresServer) throws -> Drain? { nil }
}

/// A backlog that goes to files: `pg_recvlogical` writes one too, and is the only limit.
struct FileBacklog: BacklogDestination {
    let folder: TemporaryDirectory

    let yardstick = Yardstick(program: Backlog.receiver, ratioMin: 0.95)

    func place(_ round: Int) -> any Destination { file(round) }

    func drain(
        _ round: Int, _ changes: Int, from source: PostgresServer, run: () throws -> MeasuredRun
    ) throws -> Drain {
        let file = file(round)
        return try Drain("weir", changes, file, run: run) { try file.lineCount() }
    }

    private func file(_ round: Int) -> OutputFile {
        OutputFile(path: folder.file("round\(round).jsonl"))
    }
}
