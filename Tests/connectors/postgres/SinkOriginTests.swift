import Foundation
import Testing
import WeirCore
import WeirPostgresClient
import WeirTesting

@testable import WeirPostgresSink

/// A sink that writes under a replication origin of its own.
struct SinkOriginTests {
    private static let log = TableSchema.test(
        "log", version: 21, ["n int4"], key: [0], isKeyUnique: false)

    private func sink(
        _ harness: SinkHarness, _ origin: String, url: String? = nil
    ) throws -> PostgresSink {
        try harness.sink(["origin": .string(origin)], tables: ["public.log"], url: url)
    }

    private func insert(_ numbers: ClosedRange<Int>, _ sink: PostgresSink) async throws {
        try await sink.write(
            numbers.map { .insert([Field("\($0)")]) }, of: Self.log,
            commit: UInt64(numbers.upperBound * 16))
    }

    private func origins(_ database: TestDatabase) throws -> String {
        try database.run(
            "SELECT coalesce(string_agg(roname, ' '), '') FROM pg_replication_origin "
                + "WHERE roname LIKE '%\(database.name)'")
    }

    /// Drops what a test made, which belongs to the whole server.
    private func drop(_ database: TestDatabase) {
        _ = try? database.run(
            "SELECT pg_replication_origin_drop(roname) FROM pg_replication_origin "
                + "WHERE roname LIKE '%\(database.name)'")
    }

    @Test(
        "CORRECTNESS 83: what a sink writes has its origin, however it is written",
        arguments: PostgresVersion.allCases)
    func writesUnderOrigin(version: PostgresVersion) async throws {
        let database = try await TestDatabase(
            "CREATE TABLE log (n int PRIMARY KEY)", version: version)
        defer { drop(database) }
        let origin = "weir_\(database.name)"
        let all = try await SourceHarness.open(database, tables: ["log"])
        let others = try SourceHarness(
            database, tables: ["log"],
            config: [
                "slot": .string("\(database.slot)_others"), "origin": .list([.string(origin)]),
            ])
        try await others.open()
        let harness = SinkHarness(database)
        let sink = try sink(harness, origin)
        _ = try await sink.open(at: nil)
        try await insert(1...1, sink)
        try await insert(2...80, sink)
        // A connection made anew writes under it too.
        try harness.disconnect(database.connect())
        try await eventually("it writes again") {
            do { try await insert(81...83, sink) } catch let error as WeirError {
                guard error.disposition == .transient else { throw error }
                return false
            }
            return true
        }
        try database.run("INSERT INTO log VALUES (100)")
        try await sink.flush()
        let numbers = (Array(1...83) + [100]).map { JSON.number(Decimal($0)) }
        #expect(try await all.drain().compactMap { $0.after?["n"] } == numbers)
        #expect(try await others.drain().compactMap { $0.after?["n"] } == [100])
        await sink.close()
    }

    /// The hint, run as superuser, is all it takes.
    @Test func missingRightsAreNamedAsSQL() async throws {
        let database = try await TestDatabase()
        let role = "plain_\(database.name)"
        try database.run(
            """
            CREATE ROLE \(role) LOGIN; GRANT CREATE ON SCHEMA public TO \(role);
            GRANT TEMPORARY ON DATABASE \(database.name) TO \(role);
            """)
        defer {
            drop(database)
            _ = try? database.run("DROP OWNED BY \(role); DROP ROLE \(role)")
        }
        let harness = SinkHarness(database)
        let url = database.server.url(database: database.name, user: role)
        let origin = "weir_\(database.name)"
        let sink = try sink(harness, origin, url: url)
        let error = await #expect(throws: WeirError.self) { try await sink.open(at: nil) }
        #expect(error?.code == .permission && error?.disposition == .transient)
        let hint = try #require(error?.hint)
        let start = try #require(hint.firstRange(of: "GRANT"))
        #expect(hint.hasPrefix("Run as superuser in database \"\(database.name)\": GRANT EXECUTE"))
        try database.run(String(hint[start.lowerBound...]))
        _ = try await sink.open(at: nil)
        try await insert(1...3, sink)
        #expect(try origins(database) == origin)
        await sink.close()
        #expect(
            try await sink.describeOriginCleanUp(leaving: [])?.contains("\"\(origin)\"") == true)
        #expect(
            try await sink.dropOrigin(leaving: [])?.hasPrefix("dropped replication origin") == true)
        #expect(try origins(database).isEmpty)
        #expect(try await sink.dropOrigin(leaving: []) == nil)
    }

    @Test func anOriginInUseNamesTheSessionThatHasIt() async throws {
        let database = try await TestDatabase()
        defer { drop(database) }
        let origin = "weir_\(database.name)"
        let other = try database.connect()
        _ = try other.query(
            "SELECT pg_replication_origin_create('\(origin)'), "
                + "pg_replication_origin_session_setup('\(origin)')")
        let sink = try sink(SinkHarness(database), origin)
        let error = await #expect(throws: WeirError.self) { try await sink.open(at: nil) }
        #expect(error?.code == .originActive && error?.disposition == .transient)
        let pid = try other.queryRow("SELECT pg_backend_pid()")[0] ?? ""
        let command = "SELECT pg_catalog.pg_terminate_backend(\(pid));"
        #expect(error?.hint?.hasSuffix(command) == true, "\(error?.hint ?? "")")
        try database.run(command)
        try await eventually("the sink opens") { (try? await sink.open(at: nil)) != nil }
        await sink.close()
    }

    @Test func aServerWithoutRoomForOriginsSaysWhichSetting() async throws {
        for (version, setting) in [
            (PostgresVersion.debian15, "max_replication_slots"),
            (.wheel18, "max_active_replication_origins"),
        ] {
            let server = try await PostgresServer.start(version: version, settings: [setting: "0"])
            let database = try await TestDatabase(server: server)
            let sink = try sink(SinkHarness(database), "weir_o")
            let error = await #expect(throws: WeirError.self) { try await sink.open(at: nil) }
            #expect(error?.code == .limitReached && error?.disposition == .transient)
            let hint = try #require(error?.hint)
            let start = try #require(hint.firstRange(of: "ALTER SYSTEM"))
            #expect(hint.contains(setting), "\(hint)")
            // The file that tests start servers with stands behind what ALTER SYSTEM writes.
            try database.run(String(hint[start.lowerBound...]))
            try await server.restart()
            try await eventually("the sink opens") { (try? await sink.open(at: nil)) != nil }
            await sink.close()
        }
    }

    // MARK: Configuration

    @Test(arguments: [
        ("", "1 to 63 bytes"), ("two words", "none of them a blank"), ("a\u{7}b", "blank"),
        ("any", "cannot be the name"), ("None", "cannot be the name"),
        ("pg_16389", "belong to subscriptions"), (String(repeating: "o", count: 64), "63 bytes"),
    ])
    func whatIsNoOriginIsRefused(name: String, words: String) {
        let issue = #expect(throws: ConfigIssue.self) {
            try SinkHarness.config(
                url: "postgres://127.0.0.1/orders", ["origin": .string(name)])
        }
        #expect(issue?.field == "origin")
        #expect(issue?.message.contains(words) == true, "\(issue?.message ?? "")")
    }

    @Test func anOriginIsForOneSinkOfAServer() throws {
        let config = try SinkHarness.config(
            url: "postgres://[::1]:5433/orders", ["origin": .string("weir_a")])
        #expect(config.claims.contains("origin weir_a of postgres localhost:5433"))
        guard case .writes(let targets, let origin)? = config.reach?.role else {
            throw TestingError("a sink writes")
        }
        let items = TableName(schema: "public", name: "items")
        #expect(targets == [items: items] && origin == "weir_a")
        #expect(config.reach?.databases == ["postgres localhost:5433/orders"])
    }

    @Test(arguments: [
        ("postgres://db.example/shop", ["db.example:5432/shop"]),
        ("postgres://DB.example:5433/shop", ["db.example:5433/shop"]),
        ("postgres://weir@localhost", ["localhost:5432/weir"]),
        ("postgres://weir@127.0.0.1:5432/shop", ["localhost:5432/shop"]),
        ("host=/run/postgresql dbname=shop", ["localhost:5432/shop"]),
        ("dbname=shop", ["localhost:5432/shop"]),
        ("host=a,b port=1,2 dbname=shop", ["a:1/shop", "b:2/shop"]),
        ("host=a,b port=7 dbname=shop", ["a:7/shop", "b:7/shop"]),
        ("host=a hostaddr=10.0.0.1 dbname=shop", ["a:5432/shop", "10.0.0.1:5432/shop"]),
        ("hostaddr=127.0.0.1 dbname=shop", ["localhost:5432/shop"]),
    ])
    func waysToOneDatabaseHaveOneName(url: String, names: [String]) throws {
        #expect(try ConnectionString(url).databases == Set(names.map { "postgres \($0)" }))
    }
}
