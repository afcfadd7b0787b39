import Foundation
import Glibc
import Testing

@testable import WeirTesting

@Suite struct PostgresServerTests {
    @Test(arguments: PostgresVersion.allCases)
    func startsWithLogicalReplicationOnItsOwnPort(_ version: PostgresVersion) async throws {
        let server = try await PostgresServer.start(version: version)
        #expect(server.isRunning)
        #expect(
            try server.psql("show wal_level; show fsync; show port")
                == "logical\noff\n\(server.port)"
        )
        let major = try #require(Int(server.psql("show server_version_num"))) / 10_000
        switch version {
        case .debian15: #expect(major >= 14)
        case .wheel16: #expect(major == 16)
        case .wheel18: #expect(major == 18)
        }
        let slot = try server.psql(
            "select slot_name from pg_create_logical_replication_slot('s', 'pgoutput')"
        )
        #expect(slot == "s")
    }

    @Test(arguments: PostgresVersion.allCases)
    func acceptsTheConnectionItsURLNames(_ version: PostgresVersion) async throws {
        let server = try await PostgresServer.start(version: version)
        _ = try server.psql("create database shop")
        _ = try server.psql("create role reader login")
        let result = try runProcess(
            server.program("psql"),
            [
                "-XAtc", "select current_user, current_database()",
                server.url(database: "shop", user: "reader"),
            ]
        )
        #expect(result.status == .exited(0))
        #expect(result.stdout == "reader|shop\n")
    }

    @Test(arguments: PostgresVersion.allCases)
    func keepsPortAndDataOverRestartAndKill(_ version: PostgresVersion) async throws {
        let server = try await PostgresServer.start(version: version)
        let port = server.port
        _ = try server.psql("create table t (a int); insert into t values (1)")
        try await server.restart(.fast, settings: ["max_wal_senders": "7"])
        #expect(try server.psql("show max_wal_senders") == "7")
        _ = try server.psql("insert into t values (2)")
        try await server.restart(.immediate)
        _ = try server.psql("insert into t values (3)")
        let killed = server.pid
        server.kill()
        #expect(!server.isRunning)
        #expect(server.pid == nil)
        try await server.restart()
        #expect(server.pid != killed)
        #expect(server.port == port)
        #expect(try server.psql("select a from t order by a") == "1\n2\n3")
    }

    @Test func stoppedServerRefusesConnections() async throws {
        let server = try await PostgresServer.start()
        try await server.stop(.fast)
        #expect(!server.isRunning)
        #expect(throws: TestingError.self) { try server.psql("select 1") }
        try await server.stop(.fast)
    }

    @Test func psqlThrowsTheServersMessage() async throws {
        let server = try await PostgresServer.start()
        let error = #expect(throws: TestingError.self) {
            try server.psql("select 1; select 1/0; select 2")
        }
        #expect(error?.description.contains("division by zero") == true)
        #expect(try server.psql("select 'ü', null; select E'a\\nb'") == "ü|\na\nb")
    }

    @Test func alterSystemWinsOverStartSettings() async throws {
        let server = try await PostgresServer.start(
            settings: ["wal_sender_timeout": "10s", "application_name": "it's"])
        #expect(try server.psql("show wal_sender_timeout") == "10s")
        _ = try server.psql("alter system set wal_sender_timeout = '5s'")
        try await server.restart()
        #expect(try server.psql("show wal_sender_timeout") == "5s")
    }

    @Test func passesArgumentsToInitdb() async throws {
        let server = try await PostgresServer.start(initdbArguments: ["--wal-segsize=2"])
        #expect(try server.psql("show wal_segment_size") == "2MB")
    }

    @Test func wrongSettingFailsWithTheServersLog() async throws {
        let error = await #expect(throws: TestingError.self) {
            _ = try await PostgresServer.start(settings: ["wal_level": "lots"])
        }
        #expect(error?.description.contains("wal_level") == true)
    }

    @Test(arguments: PostgresVersion.allCases)
    func leavesNothingBehind(_ version: PostgresVersion) async throws {
        var server: PostgresServer? = try await PostgresServer.start(version: version)
        let directory = try #require(server?.directory)
        let pid = try #require(server?.pid)
        #expect(isAlive(pid))
        server = nil
        #expect(!isAlive(pid))
        #expect(!FileManager.default.fileExists(atPath: directory))
    }

    @Test func diesWithTheTestProcess() async throws {
        let folder = try TemporaryDirectory()
        let note = folder.file("note")
        // This same program, as another process that runs only the test below.
        let process = try ChildProcess(
            FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe"),
            ["--testing-library", "swift-testing", "--filter", "holdsAServerUntilKilled"],
            environment: ["WEIR_TEST_NOTE": note]
        )
        try await eventually(within: .seconds(60), "the other process has a server") {
            FileManager.default.fileExists(atPath: note)
        }
        let lines = try readText(note).split(separator: "\n").map { String($0) }
        let server = try #require(Int32(lines[0]))
        #expect(isAlive(server))
        process.signal(SIGKILL)
        #expect(try await process.wait() == .signalled(SIGKILL))
        try await eventually("the orphaned server and its folder are gone") {
            !isAlive(server) && !FileManager.default.fileExists(atPath: lines[1])
        }
    }

    /// The other process of `diesWithTheTestProcess`; it does nothing in an ordinary run.
    @Test func holdsAServerUntilKilled() async throws {
        guard let note = ProcessInfo.processInfo.environment["WEIR_TEST_NOTE"] else { return }
        let server = try await PostgresServer.start()
        let lines = "\(server.pid ?? 0)\n\(server.directory)"
        try Data(lines.utf8).write(to: URL(fileURLWithPath: note), options: .atomic)
        try await eventually(within: .seconds(120), "the end by SIGKILL") { !server.isRunning }
    }
}

/// A zombie, which only waits for its parent to ask, is not alive.
func isAlive(_ pid: Int32) -> Bool {
    guard let stat = try? readText("/proc/\(pid)/stat") else { return false }
    return !stat.contains(") Z ")
}
