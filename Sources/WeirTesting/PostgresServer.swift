import Foundation
import Glibc
import Synchronization

/// A private PostgreSQL server on a free port of 127.0.0.1, in a temporary folder. It stops, and
/// the folder goes, with the last reference or with the test process.
package final class PostgresServer: Sendable {
    package enum StopMode: Sendable {
        /// Ends sessions in order, waits for walsenders, writes a checkpoint.
        case fast
        /// As after a crash, but leaving no process behind.
        case immediate

        fileprivate var signal: Int32 { self == .fast ? SIGINT : SIGQUIT }
    }

    package let version: PostgresVersion

    private struct State {
        var port: Int
        var settings: [String: String]
        var postmaster: ChildProcess?
    }

    private let programs: PostgresPrograms
    private let account: ServerAccount?
    private let home: TemporaryDirectory
    private let state: Mutex<State>

    private static let startLimit: Duration = .seconds(30)
    private static let stopLimit: Duration = .seconds(60)

    /// What a test server has unless the test says otherwise.
    private static let defaults = [
        "wal_level": "logical", "fsync": "off", "max_wal_senders": "20",
        "max_replication_slots": "20", "shared_buffers": "64MB", "timezone": "UTC",
        "log_timezone": "UTC", "listen_addresses": "127.0.0.1",
    ]

    /// Our own variables without libpq's (PGHOST and its like), so that nobody's shell decides
    /// which server is meant.
    static var environment: [String: String] {
        var variables = ProcessInfo.processInfo.environment.filter { !$0.key.hasPrefix("PG") }
        variables["HOME"] = "/tmp"
        variables["PGCLIENTENCODING"] = "UTF8"
        return variables
    }

    /// Starts a new server and waits until it accepts connections.
    ///
    /// `settings` go into a file that `postgresql.conf` includes, so `ALTER SYSTEM` still wins.
    package static func start(
        version: PostgresVersion = .debian15,
        settings: [String: String] = [:],
        initdbArguments: [String] = []
    ) async throws -> PostgresServer {
        let programs = try PostgresPrograms.find(version)
        let account = try ServerAccount.find()
        let template = try await PostgresTemplates.shared.template(
            programs,
            account,
            arguments: initdbArguments
        )
        let home = try TemporaryDirectory()
        let copy = try runProcess(
            "cp",
            ["-a", "--reflink=auto", template.file("data"), home.file("data")]
        )
        guard copy.status == .exited(0) else {
            throw TestingError("could not copy the data folder: \(copy.stderr)")
        }
        try account?.own(home.path)
        let server = PostgresServer(
            programs: programs,
            account: account,
            home: home,
            settings: defaults.merging(settings) { $1 },
            port: try freePort()
        )
        try await server.launch(mayChangePort: true)
        return server
    }

    /// Starts a physical copy of this server, as `pg_basebackup` makes one, on a port of its own.
    /// It is a server of its own from then on, with the same system identifier.
    package func clone() async throws -> PostgresServer {
        let home = try TemporaryDirectory()
        try account?.own(home.path)
        let command = Command(
            path: programs.path("pg_basebackup"),
            arguments: [
                "-h", directory, "-p", "\(port)", "-U", "postgres", "-D", home.file("data"),
                "--checkpoint=fast", "--no-sync",
            ],
            environment: Self.environment,
            directory: home.path
        )
        let backup = try ChildProcess(
            account?.running(command) ?? command,
            orphanSignal: "KILL"
        )
        let status = try await backup.wait(within: .seconds(60))
        guard status == .exited(0) else {
            throw TestingError("pg_basebackup failed with \(status): \(try backup.standardError())")
        }
        let server = PostgresServer(
            programs: programs,
            account: account,
            home: home,
            settings: state.withLock { $0.settings },
            port: try freePort()
        )
        try await server.launch(mayChangePort: true)
        return server
    }

    private init(
        programs: PostgresPrograms,
        account: ServerAccount?,
        home: TemporaryDirectory,
        settings: [String: String],
        port: Int
    ) {
        version = programs.version
        self.programs = programs
        self.account = account
        self.home = home
        state = Mutex(State(port: port, settings: settings, postmaster: nil))
    }

    deinit {
        guard let postmaster = state.withLock({ $0.postmaster }) else { return }
        // Not SIGKILL at once: the postmaster takes its children and its shared memory along.
        postmaster.signal(SIGQUIT)
        _ = try? postmaster.waitBlocking(within: .seconds(10))
    }

    package var port: Int { state.withLock { $0.port } }

    /// The folder of the unix socket, the log and the data.
    package var directory: String { home.path }

    package var dataDirectory: String { home.file("data") }

    package var logFile: String { home.file("log") }

    package var isRunning: Bool { state.withLock { $0.postmaster }?.isRunning ?? false }

    /// The process id of the postmaster; nil when stopped.
    package var pid: Int32? {
        state.withLock { $0.postmaster }.flatMap { $0.isRunning ? $0.pid : nil }
    }

    package func url(database: String = "postgres", user: String = "postgres") -> String {
        "postgres://\(user)@127.0.0.1:\(port)/\(database)"
    }

    /// The path of a program of this version, such as `pg_recvlogical`.
    package func program(_ name: String) -> String { programs.path(name) }

    /// Runs SQL with `psql` over the unix socket and returns the rows unaligned, columns separated
    /// by `|`, without the last newline. Throws with psql's messages when a statement fails.
    package func psql(
        _ sql: String,
        database: String = "postgres",
        user: String = "postgres"
    ) throws -> String {
        let command = Command(
            path: programs.path("psql"),
            arguments: [
                "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-h", directory, "-p", "\(port)",
                "-U", user, "-d", database,
            ],
            environment: Self.environment
        )
        let result = try runCommand(command, stdin: sql)
        guard result.status == .exited(0) else {
            throw TestingError("psql failed with \(result.status): \(result.stderr)")
        }
        return result.stdout.hasSuffix("\n") ? String(result.stdout.dropLast()) : result.stdout
    }

    package func stop(_ mode: StopMode = .fast) async throws {
        guard let postmaster = state.withLock({ $0.postmaster }) else { return }
        postmaster.signal(mode.signal)
        try await postmaster.wait(within: Self.stopLimit)
        state.withLock { $0.postmaster = nil }
    }

    /// Stops the server if it runs and starts it again on the same port, `settings` put over the
    /// ones it had. Also brings it back after `stop` or `kill`.
    package func restart(
        _ mode: StopMode = .fast,
        settings: [String: String] = [:]
    ) async throws {
        try await stop(mode)
        state.withLock { $0.settings.merge(settings) { $1 } }
        try await launch(mayChangePort: false)
    }

    /// Kills the postmaster with SIGKILL, as a crash does; its children follow on their own.
    package func kill() {
        guard let postmaster = state.withLock({ $0.postmaster }) else { return }
        postmaster.signal(SIGKILL)
        _ = try? postmaster.waitBlocking(within: .seconds(10))
        state.withLock { $0.postmaster = nil }
    }

    /// Starts the postmaster and waits until it is ready. Tries again while what is in the way goes
    /// by itself: children of a killed postmaster, or a port that somebody else took.
    private func launch(mayChangePort: Bool) async throws {
        let deadline = ContinuousClock.now + Self.startLimit
        while true {
            let (port, settings) = state.withLock { ($0.port, $0.settings) }
            try writeSettings(settings, port: port)
            let logged = (try? readText(logFile).utf8.count) ?? 0
            let postmaster = try spawnPostmaster()
            if try await becomesReady(postmaster, by: deadline) {
                state.withLock { $0.postmaster = postmaster }
                return
            }
            let log = String(decoding: try readText(logFile).utf8.dropFirst(logged), as: UTF8.self)
            let portIsTaken = log.contains("could not bind")
            let childrenLinger = log.contains("pre-existing shared memory block")
            guard ContinuousClock.now < deadline, portIsTaken || childrenLinger else {
                throw TestingError("PostgreSQL \(version) did not start:\n\(log)")
            }
            if portIsTaken && mayChangePort {
                let other = try freePort()
                state.withLock { $0.port = other }
            }
            try await Task.sleep(for: .milliseconds(20))
        }
    }

    private func spawnPostmaster() throws -> ChildProcess {
        let command = Command(
            path: programs.path("postgres"),
            arguments: ["-D", dataDirectory],
            environment: Self.environment,
            directory: directory
        )
        return try ChildProcess(
            account?.running(command) ?? command,
            stdout: logFile,
            stderr: logFile,
            orphanSignal: "QUIT"
        )
    }

    /// Waits for "ready" in the postmaster's lock file, as `pg_ctl -w` does. False when the
    /// postmaster ended or did not get ready in time.
    private func becomesReady(
        _ postmaster: ChildProcess,
        by deadline: ContinuousClock.Instant
    ) async throws -> Bool {
        while postmaster.isRunning, ContinuousClock.now < deadline {
            let lock = (try? readText(home.file("data/postmaster.pid"))) ?? ""
            let lines = lock.split(separator: "\n", omittingEmptySubsequences: false)
            if lines.count > 7, lines[0] == "\(postmaster.pid)",
                ["ready", "standby"].contains(lines[7].trimmingCharacters(in: .whitespaces))
            {
                return true
            }
            try await Task.sleep(for: .milliseconds(5))
        }
        return false
    }

    private func writeSettings(_ settings: [String: String], port: Int) throws {
        var all = settings
        all["port"] = "\(port)"
        all["unix_socket_directories"] = directory
        let lines = all.sorted { $0.key < $1.key }.map { name, value in
            "\(name) = '\(value.replacing("'", with: "''"))'\n"
        }
        try home.write(lines.joined(), to: "data/weir.conf")
    }
}
