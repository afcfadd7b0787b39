import Synchronization
import WeirPostgresClient

/// A schema of its own for one test, in a database that such tests share: quicker than a database.
final class TestSchema: Sendable {
    let database: TestDatabase
    let name: String

    /// It stores any bytes but NUL, so that none is refused before a test can compare it.
    private static let shared = Mutex<Task<TestDatabase, any Error>?>(nil)
    private static let count = Atomic<Int>(0)

    /// - Parameter sql: run with this schema as the search path.
    init(_ sql: String = "") async throws {
        let task = Self.shared.withLock { known in
            let task =
                known
                ?? Task {
                    try await TestDatabase(
                        options: "ENCODING 'SQL_ASCII' TEMPLATE template0 LC_COLLATE 'C' "
                            + "LC_CTYPE 'C'")
                }
            known = task
            return task
        }
        database = try await task.value
        name = "s\(Self.count.add(1, ordering: .relaxed).newValue)"
        let connection = try connect()
        _ = try connection.query("CREATE SCHEMA \(name)")
        if !sql.isEmpty { _ = try connection.query(sql) }
    }

    func connect() throws -> PostgresConnection {
        let connection = try database.connect()
        _ = try connection.query("SET search_path = \(name)")
        return connection
    }
}
