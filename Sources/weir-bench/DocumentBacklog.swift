import Foundation
import WeirTesting

/// Changes of a collection, drained after they happened, by a bare loop and by Weir in turn, both
/// from the same place of the same oplog.
struct DocumentBacklog: Sendable {
    enum Change: Sendable { case insert, update }

    let change: Change
    let defaultChanges: Int
    /// Whether the collection keeps its documents as they were before and after a change.
    var keepsImages = false
    /// Options of the bare loop's stream.
    var streamOptions: [(name: String, value: String)] = []
    /// What a line of Weir's has; the last one is looked at.
    var mark = #","after":{"_id":{"$oid":"#

    private static let database = "bench"
    private static let collection = "bench.items"
    /// The number of changes is a multiple of it.
    private static let unit = 1_000

    func changes(_ session: Session) -> Int {
        max(Self.unit, (session.rows ?? defaultChanges) / Self.unit * Self.unit)
    }

    func measure(_ session: Session) async throws -> [BacklogRound] {
        let changes = changes(session)
        let servers = try await MongoReplicaSet.quiet()
        guard let pid = servers.nodes[0].pid else { throw TestingError("mongod ended at once") }
        let shell = try servers.shell()
        let images = #""changeStreamPreAndPostImages": {"enabled": \#(keepsImages)}"#
        try await shell.run(#"{"create": "items", \#(images)}"#, database: Self.database)
        if change == .update { try await Products.insert(changes, into: Self.collection, shell) }
        let folder = try TemporaryDirectory()
        let pipelines = try pipelines(session, servers, in: folder)
        let token = try await token(shell)

        let loadStart = ContinuousClock.now
        try await load(changes, shell)
        try await shell.run(#"{"fsync": 1}"#)
        let loadSeconds = (ContinuousClock.now - loadStart).inSeconds
        session.console.line(
            "  \(grouped(Double(changes))) changes made in \(Unit.seconds.text(loadSeconds))")

        let loop = ChangeLoop(
            url: servers.url(), database: Self.database, token: token, changes: changes,
            options: streamOptions)
        // Whoever comes first would read the oplog into the server's cache for the other.
        _ = try loop.measure()
        session.console.line(Drain.header)
        var rounds: [BacklogRound] = []
        for (index, pipeline) in pipelines.enumerated() {
            let number = index + 1
            let limit = try Drain(ChangeLoop.program, changes, server: pid, run: loop.measure)
            session.console.line(limit.row(number))
            let file = output(number, folder)
            let weir = try Drain("weir", changes, file, server: pid) {
                try MeasuredRun(session.weir.path, pipeline.arguments(["run", "--once"]))
            } count: {
                guard try file.lastLine().contains(mark) else {
                    throw TestingError("Weir's last line has no \(mark): \(try file.lastLine())")
                }
                return try file.lineCount()
            }
            let round = BacklogRound(weir: weir, limits: [limit])
            session.console.line(weir.row(number, ratio: round.ratio(to: ChangeLoop.program)))
            rounds.append(round)
        }
        try await servers.nodes[0].stop()
        return rounds
    }

    /// One per round, whose stored position is here and now.
    private func pipelines(
        _ session: Session, _ servers: MongoReplicaSet, in folder: TemporaryDirectory
    ) throws -> [BenchmarkPipeline] {
        let source = BenchmarkSource(
            connection: #""type": "mongodb", "url": "\#(servers.url())""#,
            keys: #""collections": ["\#(Self.collection)"]"#)
        return try (1...session.rounds).map { round in
            let pipeline = try BenchmarkPipeline(
                "round\(round)", source, to: output(round, folder), in: folder)
            _ = try MeasuredRun(session.weir.path, pipeline.arguments(["run", "--once"]))
            return pipeline
        }
    }

    private func output(_ round: Int, _ folder: TemporaryDirectory) -> OutputFile {
        OutputFile(path: folder.file("round\(round).jsonl"))
    }

    private func load(_ changes: Int, _ shell: MongoShell) async throws {
        switch change {
        case .insert: try await Products.insert(changes, into: Self.collection, shell)
        case .update:
            try await Products.update(changes, by: Self.unit, in: Self.collection, shell)
        }
    }

    /// The resume token of here and now.
    private func token(_ shell: MongoShell) async throws -> String {
        struct Reply: Decodable {
            struct Cursor: Decodable { let postBatchResumeToken: Token }
            struct Token: Decodable { let _data: String }
            let cursor: Cursor
        }
        let reply = try await shell.run(
            #"{"aggregate": 1, "pipeline": [{"$changeStream": {}}], "cursor": {"batchSize": 0}}"#,
            database: Self.database)
        return try JSONDecoder().decode(Reply.self, from: Data(reply.utf8))
            .cursor.postBatchResumeToken._data
    }
}
