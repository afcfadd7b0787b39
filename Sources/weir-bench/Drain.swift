import WeirTesting

/// One program's turn at a backlog.
struct Drain: Sendable {
    let program: String
    let seconds: Double
    /// What its process took; nil where a server did the work by itself.
    let run: MeasuredRun?
    /// Of a file it wrote, and how long another fsync of that took; nil without a file.
    let bytes: Double?
    let syncSeconds: Double?
    /// CPU of the server it wrote to, or of the MongoDB it read from, meanwhile; nil where that is
    /// not measured.
    let serverSeconds: Double?
    private let changes: Int

    /// A turn that writes a file, which is checked and removed.
    ///
    /// - Parameter server: a running process, whose CPU time is measured too.
    init(
        _ program: String, _ changes: Int, _ output: OutputFile, server: Int32? = nil,
        run: () throws -> MeasuredRun, count: () throws -> Int
    ) throws {
        self.program = program
        let seconds = server.map(serverCPUSeconds)
        let run = try run()
        serverSeconds = server.map(serverCPUSeconds).map { $0 - (seconds ?? .nan) }
        self.run = run
        self.seconds = run.seconds
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

    /// A turn of a program that works with a server, a running process, and writes no file.
    init(
        _ program: String, _ changes: Int, server: Int32, run: () throws -> MeasuredRun
    ) throws {
        let seconds = serverCPUSeconds(server)
        let run = try run()
        self.init(
            program, changes, seconds: run.seconds, run,
            serverSeconds: serverCPUSeconds(server) - seconds)
    }

    /// A turn of a server by itself, which `work` starts, waits for and returns the seconds of.
    init(
        _ program: String, _ changes: Int, server: Int32, work: () throws -> Double
    ) throws {
        let seconds = serverCPUSeconds(server)
        let taken = try work()
        self.init(
            program, changes, seconds: taken, nil,
            serverSeconds: serverCPUSeconds(server) - seconds)
    }

    private init(
        _ program: String, _ changes: Int, seconds: Double, _ run: MeasuredRun?,
        serverSeconds: Double
    ) {
        self.program = program
        self.seconds = seconds
        self.run = run
        self.serverSeconds = serverSeconds
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
        let values: [(Unit, Double?)] = [
            (.seconds, seconds), (.rowsPerSecond, Double(changes) / seconds), (.bytes, bytes),
            (.seconds, syncSeconds), (.bytes, run?.peakBytes), (.seconds, run?.userSeconds),
            (.seconds, run?.systemSeconds), (.seconds, serverSeconds), (.ratio, ratio),
        ]
        let cells = values.map { unit, value in value.map(unit.text) ?? "" }
        return tableRow(["\(round)", program] + cells, Self.widths)
    }
}
