import Foundation
import Glibc
import Synchronization

/// A private Redis or Valkey server on a free port of 127.0.0.1 and on a unix socket, in a folder
/// of its own. It is killed, and the folder goes, with the last reference or the test process.
package final class RedisServer: Sendable {
    package let password: String?
    /// The port speaks TLS only.
    package let isTLS: Bool

    private struct State {
        var port: Int
        var settings: [String: String]
        var process: ChildProcess?
    }

    private let program: String
    private let arguments: [String]
    private let home: TemporaryDirectory
    private let state: Mutex<State>

    private static let startLimit: Duration = .seconds(30)
    private static let stopLimit: Duration = .seconds(30)

    /// What a test server has unless the test says otherwise: it forgets its data when it ends.
    private static let defaults = [
        "appendonly": "no", "bind": "127.0.0.1", "daemonize": "no", "protected-mode": "no",
        "save": "\"\"",
    ]

    /// Starts a new server and waits until it answers.
    ///
    /// `settings` are lines of `redis.conf`, the values as they stand there; `arguments` follow the
    /// file on the command line. With `tls` the port speaks TLS only, with a certificate that names
    /// `certificateNames` (as in openssl's subjectAltName).
    package static func start(
        settings: [String: String] = [:],
        arguments: [String] = [],
        password: String? = nil,
        tls: Bool = false,
        certificateNames: String = "DNS:localhost,IP:127.0.0.1"
    ) async throws -> RedisServer {
        let home = try TemporaryDirectory()
        var all = defaults
        all["dir"] = home.path
        all["unixsocket"] = home.file("socket")
        if let password { all["requirepass"] = "\"\(password)\"" }
        if tls {
            let certificate = try makeCertificate("server", in: home, names: certificateNames)
            all["tls-cert-file"] = certificate
            all["tls-key-file"] = home.file("server.key")
            all["tls-ca-cert-file"] = certificate
            all["tls-auth-clients"] = "no"
        }
        let server = RedisServer(
            program: try find("server"),
            arguments: arguments,
            home: home,
            settings: all.merging(settings) { $1 },
            port: try freePort(),
            password: password,
            isTLS: tls
        )
        try await server.launch(mayChangePort: true)
        return server
    }

    private init(
        program: String,
        arguments: [String],
        home: TemporaryDirectory,
        settings: [String: String],
        port: Int,
        password: String?,
        isTLS: Bool
    ) {
        self.program = program
        self.arguments = arguments
        self.home = home
        self.password = password
        self.isTLS = isTLS
        state = Mutex(State(port: port, settings: settings, process: nil))
    }

    deinit { kill() }

    package var port: Int { state.withLock { $0.port } }

    /// The folder of the socket, the log and the data.
    package var directory: String { home.path }

    package var socketFile: String { home.file("socket") }

    package var logFile: String { home.file("log") }

    /// The server's certificate, which is its own authority.
    package var certificateFile: String { home.file("server.crt") }

    package var isRunning: Bool { state.withLock { $0.process }?.isRunning ?? false }

    /// Nil when stopped.
    package var pid: Int32? {
        state.withLock { $0.process }.flatMap { $0.isRunning ? $0.pid : nil }
    }

    /// With the server's password, unless there is none or `password` says otherwise.
    package func url(
        database: Int = 0,
        user: String = "",
        password: String? = nil,
        host: String = "127.0.0.1"
    ) -> String {
        let password = password ?? self.password
        let credentials = password.map { "\(user):\($0)@" } ?? (user.isEmpty ? "" : "\(user)@")
        return "\(isTLS ? "rediss" : "redis")://\(credentials)\(host):\(port)/\(database)"
    }

    /// Runs one command with `redis-cli` and returns what it printed, without the last newline:
    /// bytes as they are, or, not `raw`, quoted and with types as for a terminal.
    ///
    /// Error replies are printed, not thrown.
    package func cli(_ arguments: String..., raw: Bool = true) throws -> String {
        let result = try runCommand(
            Command(
                path: try Self.find("cli"),
                arguments: ["-s", socketFile, raw ? "--raw" : "--no-raw"] + arguments,
                environment: environment(adding: password.map { ["REDISCLI_AUTH": $0] } ?? [:])
            )
        )
        guard result.status == .exited(0) || !result.stdout.isEmpty else {
            throw TestingError("redis-cli failed with \(result.status): \(result.stderr)")
        }
        return result.stdout.hasSuffix("\n") ? String(result.stdout.dropLast()) : result.stdout
    }

    /// Sends one command over the unix socket and returns its reply.
    package func command(_ parts: [[UInt8]]) throws -> RedisReply {
        let socket = try RedisSocket(path: socketFile)
        if let password {
            let reply = try socket.command([Array("AUTH".utf8), Array(password.utf8)])
            if case .error(let text) = reply { throw TestingError("could not log in: \(text)") }
        }
        return try socket.command(parts)
    }

    @discardableResult
    package func command(_ parts: String...) throws -> RedisReply {
        try command(parts.map { Array($0.utf8) })
    }

    /// The bytes of a string; nil when there is no such key.
    package func get(_ key: [UInt8]) throws -> [UInt8]? {
        switch try command([Array("GET".utf8), key]) {
        case .bulk(let bytes): return bytes
        case .null: return nil
        case let other: throw TestingError("GET returned \(other)")
        }
    }

    package func get(_ key: String) throws -> [UInt8]? { try get(Array(key.utf8)) }

    /// Ends the server in order; it writes what its settings keep, and nothing else.
    package func stop() async throws {
        guard let process = state.withLock({ $0.process }) else { return }
        // A stopped process takes no other signal.
        process.signal(SIGCONT)
        process.signal(SIGTERM)
        try await process.wait(within: Self.stopLimit)
        state.withLock { $0.process = nil }
    }

    /// Stops the server if it runs and starts it again on the same port, `settings` put over the
    /// ones it had. Also brings it back after `stop` or `kill`.
    ///
    /// A running server comes back with all its data, or with none; one that had ended, with what
    /// its settings kept, or with none.
    package func restart(keepingData: Bool, settings: [String: String] = [:]) async throws {
        if keepingData, isRunning { try command("SAVE") }
        try await stop()
        if !keepingData {
            for name in ["dump.rdb", "appendonlydir", "appendonly.aof"] {
                try? FileManager.default.removeItem(atPath: home.file(name))
            }
        }
        state.withLock { $0.settings.merge(settings) { $1 } }
        try await launch(mayChangePort: false)
    }

    /// Kills the server with SIGKILL, as a crash does.
    package func kill() {
        guard let process = state.withLock({ $0.process }) else { return }
        process.signal(SIGKILL)
        _ = try? process.waitBlocking(within: .seconds(10))
        state.withLock { $0.process = nil }
    }

    /// Stops the process with SIGSTOP: its port accepts connections and nobody answers.
    package func pause() { state.withLock { $0.process }?.signal(SIGSTOP) }

    package func resume() { state.withLock { $0.process }?.signal(SIGCONT) }

    /// Makes a self-signed certificate with its key beside it (`NAME.crt`, `NAME.key`) and returns
    /// its path.
    package static func makeCertificate(
        _ name: String,
        in folder: TemporaryDirectory,
        names: String = "DNS:localhost,IP:127.0.0.1"
    ) throws -> String {
        let path = folder.file("\(name).crt")
        let made = try runProcess(
            "/usr/bin/openssl",
            [
                "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
                "-nodes", "-days", "30", "-subj", "/CN=localhost", "-addext",
                "subjectAltName=\(names)", "-keyout", folder.file("\(name).key"), "-out", path,
            ]
        )
        guard made.status == .exited(0) else {
            throw TestingError("could not make a certificate: \(made.stderr)")
        }
        return path
    }

    /// `redis-server` or `redis-cli`, or Valkey's.
    private static func find(_ role: String) throws -> String {
        let environment = ProcessInfo.processInfo.environment
        if role == "server", let named = environment["WEIR_TEST_REDIS"] { return named }
        // Where `config/setup` puts one when the machine has the tools only.
        let folders =
            (environment["PATH"] ?? "/usr/bin").split(separator: ":").map(String.init)
            + [cacheFolder() + "/redis"]
        for product in ["redis", "valkey"] {
            for folder in folders {
                let path = "\(folder)/\(product)-\(role)"
                if FileManager.default.isExecutableFile(atPath: path) { return path }
            }
        }
        throw TestingError("no redis-\(role) was found; Tests/run installs it")
    }

    /// Starts the process and waits until it answers; takes another port when this one is taken.
    private func launch(mayChangePort: Bool) async throws {
        let deadline = ContinuousClock.now + Self.startLimit
        while true {
            let (port, settings) = state.withLock { ($0.port, $0.settings) }
            try writeSettings(settings, port: port)
            let logged = (try? readText(logFile).utf8.count) ?? 0
            let process = try ChildProcess(
                Command(
                    path: program,
                    arguments: [home.file("redis.conf")] + arguments,
                    environment: environment(adding: ["LC_ALL": "C"]),
                    directory: directory
                ),
                stdout: logFile,
                stderr: logFile,
                orphanSignal: "KILL"
            )
            if try await becomesReady(process, by: deadline) {
                state.withLock { $0.process = process }
                return
            }
            let log = String(decoding: try readText(logFile).utf8.dropFirst(logged), as: UTF8.self)
            let portIsTaken = log.contains("Address already in use")
            guard ContinuousClock.now < deadline, portIsTaken else {
                throw TestingError("\(program) did not start:\n\(log)")
            }
            if mayChangePort {
                let other = try freePort()
                state.withLock { $0.port = other }
            }
            try await Task.sleep(for: .milliseconds(20))
        }
    }

    /// False when the process ended or did not answer in time.
    private func becomesReady(
        _ process: ChildProcess,
        by deadline: ContinuousClock.Instant
    ) async throws -> Bool {
        while process.isRunning, ContinuousClock.now < deadline {
            // The socket of the process before may still be there: nobody listens on it.
            if let reply = try? command("PING") {
                // While the data is loaded, PING is refused. A login that fails is the test's.
                guard case .error(let text) = reply, text.hasPrefix("LOADING") else { return true }
            }
            try await Task.sleep(for: .milliseconds(5))
        }
        return false
    }

    private func writeSettings(_ settings: [String: String], port: Int) throws {
        var all = settings
        all["port"] = isTLS ? "0" : "\(port)"
        if isTLS { all["tls-port"] = "\(port)" }
        let lines = all.sorted { $0.key < $1.key }.map { "\($0.key) \($0.value)\n" }
        try home.write(lines.joined(), to: "redis.conf")
    }
}
