import GRDB
import Synchronization
import WeirCore
import WeirTesting

@testable import WeirEngine

/// Checks invariants 1 and 2 at the moment the source is acknowledged, against what is on disk
/// then.
final class InvariantWatch: Sendable {
    private let database: DatabaseQueue
    private let disks: [String: SinkDisk]
    private let last = Mutex<[String: Position]>([:])

    /// - Parameter disks: by the names of their sinks.
    init(_ state: TestState, _ disks: [String: SinkDisk]) throws {
        var settings = GRDB.Configuration()
        settings.busyMode = .timeout(5)
        database = try DatabaseQueue(
            path: state.directory.databasePath, configuration: settings)
        self.disks = disks
    }

    /// What is wrong with acknowledging `position` now; nil when all is well.
    func fault(_ position: Position, _ log: [ScriptedServer.Transaction]) -> String? {
        let rows: [CheckpointRow]
        do { rows = try database.read { try CheckpointRow.all($0, of: "p") } } catch {
            return "no checkpoint to be read: \(error)"
        }
        if rows.isEmpty { return "acknowledged \(position) without a checkpoint" }
        for row in rows {
            guard let disk = disks[row.sink] else { continue }
            if position > row.covered {
                return "acknowledged \(position); \(row.sink) has stored \(row.covered)"
            }
            // Before `durable` is looked at, so that it can only be more.
            let wanted = Self.count(before: row.position, in: log)
            if disk.durable < wanted {
                return "\(row.sink) holds \(disk.durable) safely, its checkpoint says \(wanted)"
            }
            let before = last.withLock { last in
                defer { last[row.sink] = max(row.position, last[row.sink] ?? row.position) }
                return last[row.sink]
            }
            if let before, row.position < before {
                return "\(row.sink) went back from \(before) to \(row.position)"
            }
        }
        return nil
    }

    private static func count(
        before position: Position, in log: [ScriptedServer.Transaction]
    ) -> Int {
        log.reduce(0) { $0 + (Position(high: $1.end) <= position ? $1.count : 0) }
    }
}
