import Glibc
import Testing
import WeirCore
import WeirPostgresClient
import WeirTesting

@testable import WeirPostgresSink

/// Which server a session of the sink is in, and whose the session is.
struct SinkInstanceTests {
    private static let items = TableSchema.test("items", version: 31, ["id int4", "v"], key: [0])
    private static let table = "CREATE TABLE items (id int PRIMARY KEY, v text);"

    private func instance(_ database: TestDatabase) throws -> ServerInstance {
        try ServerInstance(try database.connect())
    }

    private func identity(_ database: TestDatabase) throws -> SourceIdentity {
        let system = try database.run("SELECT system_identifier FROM pg_control_system()")
        return SourceIdentity([("system", system), ("database", database.name)])
    }

    // MARK: The source

    private enum Note: CaseIterable {
        /// The source reads the target's own server, and knows it.
        case own
        /// A copy of it, or a server whose role tells no system.
        case other, otherUnknown
        case none
    }

    /// Without the right to ask for the system, the server is known by when it was started.
    @Test(arguments: [true, false], Note.allCases)
    private func theFollowedTableIsNotWrittenTo(mayAsk: Bool, note: Note) async throws {
        let database = try await TestDatabase(Self.table)
        let harness = SinkHarness(database)
        let identity = try identity(database)
        let own = try instance(database)
        if !mayAsk {
            try database.run("REVOKE EXECUTE ON FUNCTION pg_control_system() FROM PUBLIC")
        }
        let role = "clerk_\(database.name)"
        try database.run(
            "CREATE ROLE \(role) LOGIN; GRANT CREATE ON SCHEMA public TO \(role); "
                + "GRANT ALL ON items TO \(role)")
        defer { _ = try? database.run("DROP OWNED BY \(role); DROP ROLE \(role)") }
        let text: String? =
            switch note {
            case .own: own.text
            case .other: "\(own.system ?? "") \(database.name) 1 primary"
            case .otherUnknown: "- \(database.name) 1 primary"
            case .none: nil
            }
        if let text { try await harness.notes.set(ServerInstance.noteKey, text) }
        let sink = try harness.sink(user: role, source: identity)
        _ = try await sink.open(at: nil)
        let findings = try await sink.check([Self.items])
        let isRefused = note == .own || note == .none
        #expect(findings.map(\.code) == (isRefused ? [.targetUnfit] : []))
        guard isRefused else { return await sink.close() }
        #expect(findings[0].severity == .blocking)
        #expect(findings[0].message.contains("the very table it follows"))
        await #expect(throws: WeirError.self) {
            try await sink.write([.insert([1, "v"])], of: Self.items, commit: 16)
        }
        #expect(try database.run("SELECT count(*) FROM items") == "0")
        await sink.close()
    }

    /// Where neither side tells which server it is, a table of that name is not written to before
    /// the target does.
    @Test func aServerThatIsNotKnownIsTakenForTheSourcesUntilItTells() async throws {
        let database = try await TestDatabase(
            Self.table + "REVOKE EXECUTE ON FUNCTION pg_control_system() FROM PUBLIC")
        let role = "clerk_\(database.name)"
        try database.run(
            "CREATE ROLE \(role) LOGIN; GRANT CREATE ON SCHEMA public TO \(role); "
                + "GRANT ALL ON items TO \(role)")
        let elsewhere = SourceIdentity([("system", "1"), ("database", database.name)])
        let sink = try SinkHarness(database).sink(user: role, source: elsewhere)
        let mark = try await sink.open(at: nil)
        let findings = try await sink.check([Self.items])
        #expect(findings.map(\.code) == [.targetUnfit] && findings[0].severity == .blocking)
        let grant = statements(in: findings[0].hint)
        #expect(grant.hasPrefix("GRANT EXECUTE"))
        try database.run(grant)
        _ = try await sink.open(at: mark)
        #expect(try await sink.check([Self.items]) == [])
        try await sink.write([.insert([1, "v"])], of: Self.items, commit: 16)
        #expect(try database.run("SELECT id FROM items") == "1")
        await sink.close()
        try database.run("DROP OWNED BY \(role); DROP ROLE \(role)")
    }

    @Test func anInstanceIsReadAsItWasWritten() throws {
        for text in ["7 shop 99 primary", "- shop 99 standby"] {
            let parsed = try #require(ServerInstance(parsing: text))
            #expect(parsed.text == text)
        }
        #expect(ServerInstance(parsing: "") == nil && ServerInstance(parsing: "7 shop 99") == nil)
    }

    @Test func twoInstancesAreComparedByWhatIsKnown() throws {
        func isSame(_ left: String, _ right: String) throws -> Bool {
            let left = try #require(ServerInstance(parsing: left))
            let right = try #require(ServerInstance(parsing: right))
            #expect(left.isSame(as: right) == right.isSame(as: left))
            return left.isSame(as: right)
        }
        #expect(try isSame("7 shop 99 primary", "7 shop 99 primary"))
        #expect(try isSame("7 shop 99 primary", "- shop 99 primary"))
        #expect(try isSame("7 shop 99 primary", "7 shop 11 standby"))
        #expect(try isSame("- shop 99 primary", "- shop 11 standby"))
        #expect(try !isSame("7 shop 99 primary", "7 shop 11 primary"))
        #expect(try !isSame("7 shop 99 primary", "- shop 11 primary"))
        #expect(try !isSame("7 shop 99 primary", "8 shop 99 primary"))
        #expect(try !isSame("7 shop 99 primary", "7 other 99 primary"))
    }

    // MARK: Silence

    private enum Verdict: Equatable {
        case working, suspicious, lost
    }

    private func verdict(
        at database: TestDatabase, of instance: ServerInstance, session: String = "1 1"
    ) throws -> Verdict {
        let probe = SilenceProbe(
            connection: try ConnectionString(
                "postgres://postgres@127.0.0.1:\(database.server.port)/\(database.name)"),
            name: "weir probe", session: session, instance: instance)
        switch probe.verdict(after: .seconds(1)) {
        case .working: return .working
        case .suspicious: return .suspicious
        case .lost: return .lost
        }
    }

    /// A new connection may lead to another server of several, where the session never was.
    @Test func onlyTheSessionsOwnServerSaysThatItIsGone() async throws {
        let database = try await TestDatabase()
        let other = try await TestDatabase(version: .wheel16)
        let own = try instance(database)
        #expect(try verdict(at: database, of: own) == .lost)
        #expect(try verdict(at: other, of: own) == .working)
        // The same server started again, or a standby in its place.
        let before = try #require(
            ServerInstance(parsing: "\(own.system ?? "") \(database.name) 1 primary"))
        #expect(try verdict(at: database, of: before) == .suspicious)
        // What the server does not show says nothing.
        #expect(try verdict(at: database, of: own, session: "") == .working)
    }

    /// As a role that owns the tables, a session may not look at itself: `ALTER ROLE … SET role`.
    @Test func honestWorkAsAnotherRoleMayTakeLong() async throws {
        let database = try await TestDatabase(
            Self.table + """
                CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS
                    $$BEGIN PERFORM pg_catalog.pg_sleep(1.5); RETURN new; END$$;
                CREATE TRIGGER slow BEFORE INSERT ON items
                    FOR EACH ROW EXECUTE FUNCTION slow();
                """)
        let (role, owner) = ("clerk_\(database.name)", "owner_\(database.name)")
        try database.run(
            """
            CREATE ROLE \(owner); CREATE ROLE \(role) LOGIN IN ROLE \(owner);
            ALTER ROLE \(role) SET role = \(owner);
            GRANT CREATE ON SCHEMA public TO \(owner); ALTER TABLE items OWNER TO \(owner)
            """)
        let sink = try SinkHarness(database).sink(
            user: role, silenceLimit: .milliseconds(300))
        _ = try await sink.open(at: nil)
        #expect(try await sink.check([Self.items]) == [])
        try await sink.write([.insert([1, "v"])], of: Self.items, commit: 16)
        #expect(try database.run("SELECT id FROM items") == "1")
        await sink.close()
        try database.run("DROP OWNED BY \(owner); DROP ROLE \(role), \(owner)")
    }

    // MARK: The owner of a session

    @Test func aProcessHasLeftOnlyWhereThatIsCertain() throws {
        let current = try #require(SessionOwner.current)
        #expect(current.hasLeft, "this process ends its own sessions")
        let host = current.host
        func owner(_ pid: Int32, _ began: String = "1") throws -> SessionOwner {
            try #require(SessionOwner(parsing: "\(host) \(pid) \(began)"))
        }
        // The parent lives; by another beginning it is another process of that number.
        #expect(try owner(getppid()).hasLeft)
        let other = try owner(1)
        #expect(other.hasLeft(beginning: "2", exists: true))
        #expect(!other.hasLeft(beginning: "1", exists: true))
        // It is there, and the system does not show when it began.
        #expect(!other.hasLeft(beginning: nil, exists: true))
        #expect(other.hasLeft(beginning: nil, exists: false))
        // No process has such a number.
        #expect(try owner(Int32.max).hasLeft)
        let elsewhere = try #require(SessionOwner(parsing: "else/where \(Int32.max) 1"))
        #expect(!elsewhere.hasLeft)
    }
}
