import Testing
import WeirCore
import WeirPostgresClient
import WeirTesting

@testable import WeirPostgresSink

/// A target that is lost without a sign, and the session that stays behind there.
struct SinkSilenceTests {
    private static let log = TableSchema.test(
        "log", version: 21, ["n int4"], key: [0], isKeyUnique: false)
    private static let limit = Duration.milliseconds(300)

    private func insert(_ number: Int, _ sink: PostgresSink) async throws {
        try await sink.write(
            [.insert([Field("\(number)")])], of: Self.log, commit: UInt64(number * 16))
    }

    private func rows(_ database: TestDatabase) throws -> String {
        try database.run("SELECT coalesce(string_agg(n::text, ' ' ORDER BY n), '') FROM log")
    }

    private func sessions(_ database: TestDatabase) throws -> Int {
        let count = try database.run(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = '\(database.name)' "
                + "AND application_name LIKE 'weir test/copy%'")
        return Int(count) ?? -1
    }

    /// A sink behind a proxy.
    private func proxied(
        _ harness: SinkHarness, notes: MemoryNotes? = nil
    ) throws -> (TCPProxy, PostgresSink) {
        let database = harness.database
        let proxy = try TCPProxy(to: database.server.port)
        let url = "postgres://postgres@127.0.0.1:\(proxy.port)/\(database.name)"
        let sink = try harness.sink(
            tables: ["public.log"], url: url, notes: notes, silenceLimit: Self.limit)
        return (proxy, sink)
    }

    /// As the engine does: what may pass is tried again.
    private func untilDone(_ body: () async throws -> Void) async throws -> [WeirError] {
        var errors: [WeirError] = []
        try await eventually("it works again") {
            do { try await body() } catch let error as WeirError {
                guard error.disposition == .transient else { throw error }
                errors.append(error)
                return false
            }
            return true
        }
        return errors
    }

    @Test func aConnectionAProxyLosesIsGivenUpAndItsSessionEnded() async throws {
        let database = try await TestDatabase()
        let harness = SinkHarness(database)
        let (proxy, sink) = try proxied(harness)
        _ = try await sink.open(at: nil)
        try await insert(1, sink)
        proxy.lose()
        let start = ContinuousClock.now
        let error = await #expect(throws: WeirError.self) { try await insert(2, sink) }
        #expect(error?.code == .connectionFailed && error?.disposition == .transient)
        #expect(error?.message.contains("the server waits for us as we for it") == true)
        #expect(.now - start < .seconds(10))
        #expect(try sessions(database) == 1, "the server does not know yet")
        #expect(try await untilDone { try await insert(2, sink) }.isEmpty)
        #expect(try rows(database) == "1 2")
        #expect(try sessions(database) == 1)
        #expect(harness.log.all.contains { $0.contains("ended our own earlier session") })
        await sink.close()
    }

    @Test func aTargetThatCannotBeReachedAnewIsGivenUpToo() async throws {
        let database = try await TestDatabase()
        let harness = SinkHarness(database)
        let (proxy, sink) = try proxied(harness)
        _ = try await sink.open(at: nil)
        try await insert(1, sink)
        proxy.lose(new: true)
        let error = await #expect(throws: WeirError.self) { try await insert(2, sink) }
        #expect(error?.code == .connectionFailed)
        #expect(error?.message.contains("no new connection") == true, "\(error?.message ?? "")")
        proxy.heal()
        _ = try await untilDone { try await insert(2, sink) }
        #expect(try rows(database) == "1 2")
        await sink.close()
    }

    /// A later life of the daemon knows the session by its note.
    @Test func theSessionOfAnEarlierLifeIsEnded() async throws {
        let database = try await TestDatabase()
        let harness = SinkHarness(database)
        let (proxy, sink) = try proxied(harness)
        let mark = try await sink.open(at: nil)
        proxy.lose()
        await sink.close()
        let next = try harness.sink(tables: ["public.log"])
        _ = try await next.open(at: mark)
        try await insert(1, next)
        #expect(try sessions(database) == 1)
        await next.close()
    }

    /// Two daemons must not end each other's sessions for ever.
    @Test func theSessionOfAnotherDaemonIsOnlyNamed() async throws {
        let database = try await TestDatabase()
        let harness = SinkHarness(database)
        let other = try harness.sink(tables: ["public.log"], notes: MemoryNotes())
        _ = try await other.open(at: nil)
        let sink = try harness.sink(tables: ["public.log"])
        let error = await #expect(throws: WeirError.self) { try await sink.open(at: nil) }
        #expect(error?.code == .otherWriter && error?.disposition == .transient)
        let pid = try database.run(
            "SELECT pid FROM pg_stat_activity WHERE application_name = 'weir test/copy' "
                + "AND datname = '\(database.name)'")
        #expect(error?.message.contains("(pid \(pid) from 127.0.0.1 since 20") == true)
        let command = "SELECT pg_catalog.pg_terminate_backend(\(pid));"
        #expect(error?.hint?.hasSuffix(command) == true)
        try await insert(1, other)
        try database.run(command)
        _ = try await untilDone { _ = try await sink.open(at: SinkMark("100 ")) }
        try await insert(2, sink)
        #expect(try rows(database) == "1 2")
        await sink.close()
        await other.close()
    }

    /// A role that may not end it says so.
    @Test func aSessionOfAnotherRoleIsOnlyNamed() async throws {
        let database = try await TestDatabase()
        let role = "plain_\(database.name)"
        try database.run("CREATE ROLE \(role) LOGIN; GRANT CREATE ON SCHEMA public TO \(role)")
        defer { _ = try? database.run("DROP OWNED BY \(role); DROP ROLE \(role)") }
        let harness = SinkHarness(database)
        let sink = try harness.sink(tables: ["public.log"])
        _ = try await sink.open(at: nil)
        let plain = try harness.sink(
            tables: ["public.log"],
            url: database.server.url(database: database.name, user: role))
        let error = await #expect(throws: WeirError.self) { try await plain.open(at: nil) }
        #expect(error?.code == .otherWriter)
        #expect(error?.hint?.contains("pg_terminate_backend(") == true)
        try await insert(1, sink)
        await sink.close()
    }

    @Test func honestWorkMayTakeLong() async throws {
        let database = try await TestDatabase(
            """
            CREATE TABLE log (n int);
            CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS
                $$BEGIN PERFORM pg_catalog.pg_sleep(2); RETURN new; END$$;
            CREATE TRIGGER slow BEFORE INSERT ON log FOR EACH ROW EXECUTE FUNCTION slow();
            """)
        let sink = try SinkHarness(database).sink(
            tables: ["public.log"], silenceLimit: Self.limit)
        _ = try await sink.open(at: nil)
        try await insert(1, sink)
        #expect(try rows(database) == "1")
        await sink.close()
    }

    @Test func honestWorkUnderALockMayTakeLong() async throws {
        let database = try await TestDatabase("CREATE TABLE log (n int)")
        let sink = try SinkHarness(database).sink(
            tables: ["public.log"], silenceLimit: Self.limit)
        _ = try await sink.open(at: nil)
        try await insert(1, sink)
        let other = try database.connect()
        _ = try other.query("BEGIN; LOCK TABLE public.log IN ACCESS EXCLUSIVE MODE")
        async let written: Void = insert(2, sink)
        try await eventually("the sink waits for the lock") {
            try database.run("SELECT count(*) FROM pg_locks WHERE NOT granted") != "0"
        }
        _ = try other.query("SELECT pg_sleep(2); COMMIT")
        try await written
        #expect(try rows(database) == "1 2")
        await sink.close()
    }
}
