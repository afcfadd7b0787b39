import Foundation
import Glibc
import Synchronization

/// A private `mongod` on a free port of 127.0.0.1, in a temporary folder: alone, or a node of a
/// `MongoReplicaSet`. It is killed, and the folder goes, with the last reference or the test
/// process.
package final class MongoServer: Sendable {
    /// What a server is started with.
    package struct Options: Sendable {
        /// Of the oplog of a node; the server cuts it down to that now and then.
        package var oplogMegabytes: Int
        /// Whether every connection must use TLS.
        package var tls: Bool
        /// With one, every client must log in; the user is `root`, who may do everything.
        package var password: String?
        /// How often the server writes a checkpoint; 60 s if nil.
        package var syncDelaySeconds: Int?
        /// Of `--setParameter`, put over the ones a test server has.
        package var parameters: [String: String]
        /// More of the command line.
        package var arguments: [String]

        package init(
            oplogMegabytes: Int = 64,
            tls: Bool = false,
            password: String? = nil,
            syncDelaySeconds: Int? = nil,
            parameters: [String: String] = [:],
            arguments: [String] = []
        ) {
            self.oplogMegabytes = oplogMegabytes
            self.tls = tls
            self.password = password
            self.syncDelaySeconds = syncDelaySeconds
            self.parameters = parameters
            self.arguments = arguments
        }
    }

    private struct State {
        var port: Int
        var process: ChildProcess?
        var isSuspended = false
    }

    let access: MongoAccess
    private let program: String
    private let options: Options
    private let replicaSet: String?
    private let home: TemporaryDirectory
    private let state: Mutex<State>

    private static let startLimit: Duration = .seconds(30)
    private static let stopLimit: Duration = .seconds(30)

    /// What a test server has unless the test says otherwise. Test commands are what makes
    /// `failCommand` work.
    private static let parameters = [
        "diagnosticDataCollectionEnabled": "false", "enableTestCommands": "1",
        "shutdownTimeoutMillisForSignaledShutdown": "100", "ttlMonitorEnabled": "false",
    ]

    /// Starts a server that is no replica set, so it has no change streams and no transactions, and
    /// waits until it answers.
    package static func start(_ options: Options = Options()) async throws -> MongoServer {
        let server = try MongoServer(options, access: MongoAccess(options), replicaSet: nil)
        try await server.launch(mayChangePort: true)
        try await server.createRoot()
        return server
    }

    init(_ options: Options, access: MongoAccess, replicaSet: String?) throws {
        program = try MongoProgram.path.get()
        self.options = options
        self.access = access
        self.replicaSet = replicaSet
        home = try TemporaryDirectory()
        try FileManager.default.createDirectory(
            atPath: home.file("data"), withIntermediateDirectories: false)
        state = Mutex(State(port: try freePort()))
    }

    deinit { kill() }

    package var port: Int { state.withLock { $0.port } }

    /// `127.0.0.1:PORT`.
    package var address: String { "127.0.0.1:\(port)" }

    /// The folder of the unix socket, the log and the data.
    package var directory: String { home.path }

    package var logFile: String { home.file("log") }

    /// Of TLS: the server's certificate, which is its own authority.
    package var certificateFile: String { access.certificateFile }

    package var isRunning: Bool { state.withLock { $0.process }?.isRunning ?? false }

    package var isSuspended: Bool { state.withLock { $0.isSuspended } }

    /// Nil when stopped.
    package var pid: Int32? {
        state.withLock { $0.process }.flatMap { $0.isRunning ? $0.pid : nil }
    }

    /// Leads to this server and no other, even where it is a node of a set.
    ///
    /// - Parameters:
    ///   - user: nil for a client that does not log in; who the user is does not matter to a server
    ///     without a password.
    ///   - password: the one of `root` if nil.
    ///   - options: more of the URL's, as `name=value`.
    package func url(
        database: String = "",
        user: String? = "root",
        password: String? = nil,
        options: [String] = []
    ) -> String {
        access.url(
            [address], database: database, user: user, password: password,
            options: ["directConnection=true"] + options)
    }

    /// A client of this server and no other, logged in as `root` where that is needed.
    package func shell() throws -> MongoShell { try MongoShell(url()) }

    /// Ends the server in order.
    package func stop() async throws {
        guard let process = state.withLock({ $0.process }) else { return }
        // A stopped process takes no other signal.
        resume()
        process.signal(SIGTERM)
        try await process.wait(within: Self.stopLimit)
        state.withLock { $0.process = nil }
    }

    /// Kills the server with SIGKILL, as a crash does.
    package func kill() {
        guard let process = state.withLock({ $0.process }) else { return }
        process.signal(SIGKILL)
        _ = try? process.waitBlocking(within: .seconds(10))
        state.withLock { state in
            state.process = nil
            state.isSuspended = false
        }
    }

    /// Starts the server again after `stop` or `kill`, with its data and its port, and waits until
    /// it answers. A node of a set is not primary or secondary at once.
    package func start() async throws {
        guard !isRunning else { return }
        try await launch(mayChangePort: false)
    }

    /// Stops the process with SIGSTOP: its port accepts connections and nobody answers.
    package func suspend() { signal(SIGSTOP, isSuspended: true) }

    package func resume() { signal(SIGCONT, isSuspended: false) }

    private func signal(_ number: Int32, isSuspended: Bool) {
        state.withLock { state in
            guard let process = state.process else { return }
            process.signal(number)
            state.isSuspended = isSuspended
        }
    }

    /// The end of what the server wrote, a JSON object a line.
    package func logTail(lines: Int = 20) -> String {
        let log = (try? readText(logFile)) ?? ""
        return log.split(separator: "\n").suffix(lines).joined(separator: "\n")
    }

    /// Creates the first user, as a server allows from its own host while it has none. Does nothing
    /// on a server without a password.
    func createRoot() async throws {
        guard let password = access.password else { return }
        let text = String(decoding: try JSONEncoder().encode(password), as: UTF8.self)
        let shell = try MongoShell(url(user: nil))
        try await shell.run(#"{"createUser": "root", "pwd": \#(text), "roles": ["root"]}"#)
    }

    /// Starts the process and waits until it listens; takes another port when this one is taken.
    func launch(mayChangePort: Bool) async throws {
        let deadline = ContinuousClock.now + Self.startLimit
        while true {
            let logged = (try? FileManager.default.attributesOfItem(atPath: logFile)[.size]) as? Int
            let process = try ChildProcess(
                Command(
                    path: program,
                    arguments: arguments(port: port),
                    environment: environment(adding: ["LC_ALL": "C"]),
                    directory: directory
                ),
                stdout: logFile,
                stderr: logFile,
                orphanSignal: "KILL"
            )
            if try await becomesReady(process, logged: UInt64(logged ?? 0), by: deadline) {
                state.withLock { $0.process = process }
                return
            }
            let log = try newLog(from: UInt64(logged ?? 0))
            guard ContinuousClock.now < deadline, log.contains("Address already in use") else {
                throw TestingError("\(program) did not start:\n\(logTail())")
            }
            if mayChangePort {
                let other = try freePort()
                state.withLock { $0.port = other }
            }
            try await Task.sleep(for: .milliseconds(20))
        }
    }

    /// Waits for the log to say so. False when the process ended or did not get there in time.
    private func becomesReady(
        _ process: ChildProcess,
        logged: UInt64,
        by deadline: ContinuousClock.Instant
    ) async throws -> Bool {
        while process.isRunning, ContinuousClock.now < deadline {
            if try newLog(from: logged).contains("\"Waiting for connections\"") { return true }
            try await Task.sleep(for: .milliseconds(5))
        }
        return false
    }

    private func newLog(from offset: UInt64) throws -> String {
        let file = try FileHandle(forReadingFrom: URL(fileURLWithPath: logFile))
        defer { try? file.close() }
        try file.seek(toOffset: offset)
        return String(decoding: try file.readToEnd() ?? Data(), as: UTF8.self)
    }

    private func arguments(port: Int) -> [String] {
        var all = [
            "--dbpath", home.file("data"), "--port", "\(port)", "--bind_ip", "127.0.0.1",
            "--unixSocketPrefix", directory, "--wiredTigerCacheSizeGB", "0.25",
        ]
        if let replicaSet {
            all += ["--replSet", replicaSet, "--oplogSize", "\(options.oplogMegabytes)"]
        }
        if let seconds = options.syncDelaySeconds { all += ["--syncdelay", "\(seconds)"] }
        let parameters = Self.parameters.merging(options.parameters) { $1 }
        for (name, value) in parameters.sorted(by: { $0.key < $1.key }) {
            all += ["--setParameter", "\(name)=\(value)"]
        }
        return all + access.arguments + options.arguments
    }
}

/// How one gets into a server or a set: the files that all its nodes share, and URLs.
struct MongoAccess: Sendable {
    let password: String?
    let isTLS: Bool
    private let folder: TemporaryDirectory

    init(_ options: MongoServer.Options) throws {
        password = options.password
        isTLS = options.tls
        folder = try TemporaryDirectory()
        if isTLS {
            let certificate = try RedisServer.makeCertificate("server", in: folder)
            let both = try readText(folder.file("server.key")) + readText(certificate)
            try folder.write(both, to: "server.pem")
        }
        if password != nil {
            // By this key nodes know one another. The server wants it to be nobody else's to read.
            try folder.write("c2VjcmV0IG9mIHRoZSBub2Rlcw==", to: "key")
            try FileManager.default.setAttributes(
                [.posixPermissions: 0o600], ofItemAtPath: folder.file("key"))
        }
    }

    var certificateFile: String { folder.file("server.crt") }

    /// Of `mongod`.
    var arguments: [String] {
        var all: [String] = []
        if isTLS {
            all += [
                "--tlsMode", "requireTLS", "--tlsCertificateKeyFile", folder.file("server.pem"),
                "--tlsCAFile", certificateFile, "--tlsAllowConnectionsWithoutCertificates",
            ]
        }
        if password != nil { all += ["--auth", "--keyFile", folder.file("key")] }
        return all
    }

    func url(
        _ addresses: [String], database: String, user: String?, password: String?,
        options: [String]
    ) -> String {
        var options = options
        var login = ""
        if let user, let password = password ?? self.password, self.password != nil {
            login = "\(quoted(user)):\(quoted(password))@"
            options.append("authSource=admin")
        }
        if isTLS { options += ["tls=true", "tlsCAFile=\(certificateFile)"] }
        let places = addresses.joined(separator: ",")
        return "mongodb://\(login)\(places)/\(database)?\(options.joined(separator: "&"))"
    }

    private func quoted(_ text: String) -> String {
        text.addingPercentEncoding(withAllowedCharacters: .alphanumerics) ?? text
    }
}

/// Where the program lies. `config/setup` looks in the same places.
private enum MongoProgram {
    /// Of a `mongod` that Weir is tested against: version 6.0 or later.
    static let path = Result { try find() }

    private static func find() throws -> String {
        let environment = ProcessInfo.processInfo.environment
        if let named = environment["WEIR_TEST_MONGOD"] { return named }
        let installed = (environment["PATH"] ?? "/usr/bin").split(separator: ":")
            .map { "\($0)/mongod" }
            .filter { FileManager.default.isExecutableFile(atPath: $0) }
        let cached = "\(cacheFolder())/mongod-0.4.0/mongod"
        for path in installed.prefix(1) + [cached] where (try? major(path)) ?? 0 >= 6 {
            return path
        }
        throw TestingError("no mongod of version 6.0 or later was found; Tests/run installs it")
    }

    private static func major(_ path: String) throws -> Int? {
        let version = try runProcess(path, ["--version"]).stdout
        return version.firstMatch(of: /db version v(\d+)\./).flatMap { Int($0.1) }
    }
}
