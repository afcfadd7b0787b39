import WeirTesting

/// A subscription of PostgreSQL itself to the publication "bench", as it is by default.
struct NativeSubscription: Sendable {
    let name: String
    let source: PostgresServer
    let database: TargetDatabase

    /// What the target needs so that a subscription starts at once, soon after another one too.
    static let settings = ["wal_retrieve_retry_interval": "10ms"]

    /// From here on the source keeps the changes.
    func makeSlot() throws {
        _ = try source.psql("SELECT pg_create_logical_replication_slot('\(name)', 'pgoutput')")
    }

    /// Makes it, not started yet. The table must be there.
    func create() throws {
        _ = try database.psql(
            """
            CREATE SUBSCRIPTION \(name)
                CONNECTION 'host=127.0.0.1 port=\(source.port) user=postgres dbname=postgres'
                PUBLICATION bench
                WITH (create_slot = false, enabled = false, copy_data = false)
            """)
    }

    var enable: String { "ALTER SUBSCRIPTION \(name) ENABLE" }

    /// Ends it, and removes the slot.
    func drop() throws { _ = try database.psql("DROP SUBSCRIPTION \(name)") }
}
