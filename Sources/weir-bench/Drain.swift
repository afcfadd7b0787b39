import WeirTesting

/// One program's turn at a backlog.
struct Drain: Sendable {
    let program: String
    let run: MeasuredRun
    /// Of a file it wrote, and how long another fsync of that took; nil without a file.
    let bytes: Double?
    let syncSeconds: Double?
    /// CPU of the server it wrote to, meanwhile; nil without a server.
    let serverSeconds: Double?
    private let changes: Int

    /// A turn that writes a file, which is checked and removed.
    init(
        _ program: String, _ changes: Int, _ output: OutputFile, run: () throws -> MeasuredRun,
        count: () throws -> Int
    ) throws {
        self.program = program
        self.run = try run()
        // Before the next turn, so that it does not write this one's bytes.
        syncSeconds = try output.syncSeconds()
        bytes = output.bytes
        serverSeconds = nil
        self.changes = changes
        let found = try count()
        guard found == changes else {
            throw TestingError("\"\(output.path)\" holds \(found) changes instead of \(changes)")
        }
        output.remove()
    }

    /// A turn that writes to a server, a running process.
    init(
        _ program: String, _ changes: Int, server: Int32, run: () throws -> MeasuredRun
    ) throws {
        self.program = program
        let ticks = processTicks(server)
        self.run = try run()
        serverSeconds = (processTicks(server) - ticks) / 100
        bytes = nil
        syncSeconds = nil
        self.changes = changes
    }

    private static let widths = [7, 17, 10, 16, 10, 10, 10, 9, 9, 9, 8]

    static let header = tableRow(
        [
            "round", "program", "time", "speed", "output", "fsync", "peak", "user", "system",
            "server", "ratio",
        ], widths)

    func row(_ round: Int, ratio: Double? = nil) -> String {
        tableRow(
            [
                "\(round)", program, Unit.seconds.text(run.seconds),
                Unit.rowsPerSecond.text(Double(changes) / run.seconds),
                bytes.map(Unit.bytes.text) ?? "", syncSeconds.map(Unit.seconds.text) ?? "",
                Unit.bytes.text(run.peakBytes), Unit.seconds.text(run.userSeconds),
                Unit.seconds.text(run.systemSeconds),
                serverSeconds.map(Unit.seconds.text) ?? "", ratio.map(Unit.ratio.text) ?? "",
            ], Self.widths)
    }
}
