import WeirTesting

extension PostgresServer {
    /// A server as in production, but that no checkpoint or vacuum disturbs the measurement.
    ///
    /// - Parameter slots: how many replication slots it has room for.
    static func quiet(
        slots: Int = 8, settings: [String: String] = [:]
    ) async throws -> PostgresServer {
        let usual = [
            "fsync": "on", "shared_buffers": "256MB", "max_wal_size": "32GB",
            "checkpoint_timeout": "1h", "autovacuum": "off",
            "max_replication_slots": "\(slots)", "max_wal_senders": "\(slots + 4)",
        ]
        return try await start(settings: usual.merging(settings) { $1 })
    }
}
