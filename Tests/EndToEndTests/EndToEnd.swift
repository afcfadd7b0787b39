import Foundation
import Testing
import WeirTesting

/// The real binary against real servers. One test after the other: most of them watch the clock or
/// load the machine on purpose.
@Suite(.serialized, .timeLimit(.minutes(5)))
enum EndToEnd {}

/// The server that tests share, each with a database of its own.
actor SharedServer {
    static let shared = SharedServer()

    private var starting: Task<PostgresServer, any Error>?
    private var databases = 0

    private func server() async throws -> PostgresServer {
        let task = starting ?? Task { try await PostgresServer.start() }
        starting = task
        return try await task.value
    }

    func makeDatabase() async throws -> TestDatabase {
        let server = try await server()
        // Slots belong to the whole server, and tests that failed leave theirs behind.
        _ = try server.psql(
            """
            SELECT pg_terminate_backend(active_pid, 5000) FROM pg_replication_slots WHERE active;
            SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots;
            """)
        databases += 1
        let name = "e2e_\(databases)"
        _ = try server.psql("CREATE DATABASE \(name)")
        return TestDatabase(server: server, name: name)
    }
}

/// One database of a server.
struct TestDatabase: Sendable {
    let server: PostgresServer
    let name: String

    /// A fresh database of the shared server.
    static func make() async throws -> TestDatabase {
        try await SharedServer.shared.makeDatabase()
    }

    /// The first database of a server of the test's own.
    static func alone(settings: [String: String] = [:]) async throws -> TestDatabase {
        TestDatabase(server: try await PostgresServer.start(settings: settings), name: "postgres")
    }

    var url: String { server.url(database: name) }

    @discardableResult
    func sql(_ text: String) throws -> String { try server.psql(text, database: name) }

    /// A number, such as a count or a position made one.
    func number(_ text: String) throws -> Int {
        guard let value = Int(try sql(text)) else { throw TestingError("no number: \(text)") }
        return value
    }

    /// What a slot was told is safe, as a number that can be compared; nil without the slot.
    func confirmed(_ slot: String) throws -> Int? {
        Int(
            try sql(
                "SELECT confirmed_flush_lsn - '0/0'::pg_lsn FROM pg_replication_slots "
                    + "WHERE slot_name = '\(slot)'"))
    }

    /// As an operator might, while no daemon runs.
    func dropSlots() throws {
        try sql(
            "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots")
    }
}

/// Random numbers of a seed that is printed, so that a run can be repeated (`WEIR_E2E_SEED`).
struct SeededRandom: RandomNumberGenerator {
    private var generator: SeededGenerator

    init(_ test: String) {
        let given = ProcessInfo.processInfo.environment["WEIR_E2E_SEED"].flatMap(UInt64.init)
        let seed = given ?? UInt64.random(in: 0...UInt64(UInt32.max))
        generator = SeededGenerator(seed: seed)
        print("\(test): seed \(seed)")
    }

    mutating func next() -> UInt64 { generator.next() }

    mutating func milliseconds(_ range: ClosedRange<Int>) -> Duration {
        .milliseconds(Int.random(in: range, using: &self))
    }
}
