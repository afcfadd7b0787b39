import Synchronization
import WeirTesting

/// A database of its own for one test, on a server that all tests of that version share.
final class TestDatabase: Sendable {
    let server: PostgresServer
    let name: String

    private static let servers = Mutex<[PostgresVersion: Task<PostgresServer, any Error>]>([:])
    private static let count = Atomic<Int>(0)

    private static func sharedServer(_ version: PostgresVersion) async throws -> PostgresServer {
        let task = servers.withLock { servers in
            let known =
                servers[version]
                ?? Task {
                    try await PostgresServer.start(
                        version: version,
                        settings: [
                            "max_wal_senders": "50", "max_replication_slots": "100",
                            "track_commit_timestamp": "on",
                        ])
                }
            servers[version] = known
            return known
        }
        return try await task.value
    }

    /// - Parameters:
    ///   - sql: run in the new database.
    ///   - server: for tests that stop or configure it; the shared one otherwise.
    ///   - options: of CREATE DATABASE.
    init(
        _ sql: String = "", version: PostgresVersion = .debian15, server: PostgresServer? = nil,
        options: String = ""
    ) async throws {
        if let server {
            self.server = server
        } else {
            self.server = try await Self.sharedServer(version)
        }
        name = "t\(Self.count.add(1, ordering: .relaxed).newValue)"
        _ = try self.server.psql("CREATE DATABASE \(name) \(options)")
        if !sql.isEmpty { try run(sql) }
    }

    deinit {
        // Slots go with their database, once nobody streams from them.
        _ = try? server.psql(
            """
            SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots
            WHERE database = '\(name)' AND active;
            DROP DATABASE \(name) WITH (FORCE);
            """)
    }

    /// What a test names its pipeline; slot and publication follow from it.
    var pipeline: String { name }
    var slot: String { "weir_\(name)" }

    @discardableResult
    func run(_ sql: String, user: String = "postgres") throws -> String {
        try server.psql(sql, database: name, user: user)
    }

    /// One column of our slot, as text.
    func slot(_ column: String) throws -> String {
        try run("SELECT \(column) FROM pg_replication_slots WHERE slot_name = '\(slot)'")
    }
}
