import Foundation
import Glibc
import WeirTesting

/// The binary under test: `WEIR_BINARY`, else the one built beside the tests.
let weirBinary: String = {
    if let given = ProcessInfo.processInfo.environment["WEIR_BINARY"] { return given }
    let tests =
        (try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe"))
        ?? CommandLine.arguments[0]
    return URL(fileURLWithPath: tests).deletingLastPathComponent().appendingPathComponent("weir")
        .path
}()

/// One Weir of a test: its folder with configuration, state and outputs, and its commands.
final class WeirHome: Sendable {
    let folder: TemporaryDirectory
    let environment: [String: String]

    var stateDirectory: String { folder.file("state") }
    var configuration: String { folder.file("weir.json") }
    var output: String { folder.file("out.jsonl") }
    var log: String { folder.file("log") }

    /// A pipeline "shop" that writes `tables` of `database` to `output`.
    convenience init(_ database: TestDatabase, tables: [String]) throws {
        try self.init { home in
            """
            {
              "connections": { "db": { "type": "postgres", "url": "\(database.url)" } },
              "pipelines": {
                "shop": {
                  "source": { "connection": "db", "tables": \(json(tables)) },
                  "sinks": { "file": { "type": "file", "path": "\(home.output)" } }
                }
              }
            }
            """
        }
    }

    init(
        environment: [String: String] = [:], _ configuration: (WeirHome) throws -> String
    ) throws {
        folder = try TemporaryDirectory()
        self.environment = environment
        try configure(configuration(self))
    }

    func configure(_ text: String) throws { try folder.write(text, to: "weir.json") }

    /// Runs a command to its end, with this home's configuration and state directory.
    func weir(_ arguments: String..., within limit: Duration = .seconds(60)) throws -> Answer {
        try weir(arguments: arguments, within: limit)
    }

    func weir(arguments: [String], within limit: Duration = .seconds(60)) throws -> Answer {
        try Answer(
            runProcess(
                weirBinary, arguments + places, environment: environment, directory: folder.path,
                within: limit))
    }

    /// What an operator pastes: commands of a hint, as they stand.
    ///
    /// - Parameter knowsPlaces: a plain command finds the configuration and the state.
    func shell(_ commands: String, knowsPlaces: Bool = true) throws -> Answer {
        let folder = URL(fileURLWithPath: weirBinary).deletingLastPathComponent().path
        var places = [
            "PATH": folder + ":" + (ProcessInfo.processInfo.environment["PATH"] ?? "")
        ]
        if knowsPlaces {
            places["WEIR_CONFIG"] = configuration
            places["STATE_DIRECTORY"] = stateDirectory
        }
        return try Answer(
            runProcess(
                "sh", ["-c", "set -e; " + commands],
                environment: environment.merging(places) { $1 }, directory: folder,
                within: .seconds(60)))
    }

    /// Starts `weir run`; what it logs is appended to `log`.
    func run(_ arguments: String..., through wrapper: [String] = []) throws -> ChildProcess {
        let words = wrapper + [weirBinary, "run"] + arguments + places
        return try ChildProcess(
            words[0], Array(words.dropFirst()), environment: environment, directory: folder.path,
            stdout: folder.file("stdout"), stderr: log)
    }

    private var places: [String] { ["-c", configuration, "--state-dir", stateDirectory] }

    // MARK: What it shows

    /// `status --json` as a dictionary; throws when no daemon answers.
    func status() throws -> Status {
        let answer = try weir("status", "--json")
        return try Status(answer.out)
    }

    func isStreaming() -> Bool {
        guard let status = try? status(), status.isRunning else { return false }
        return status.pipelines.allSatisfy { $0.state == "streaming" }
    }

    func untilStreaming() async throws {
        // After an outage the next attempt may be a minute away.
        try await eventually(within: .seconds(90), "every pipeline streams") { isStreaming() }
    }

    func logText() -> String {
        (try? String(contentsOfFile: log, encoding: .utf8)) ?? ""
    }

    /// The process that took the state directory last.
    func lockedBy() throws -> Int32? {
        let text = try String(contentsOfFile: stateDirectory + "/weir.pid", encoding: .utf8)
        return text.split(separator: "\n").first.flatMap { Int32($0) }
    }

    /// What the state store holds of the pipeline "shop", by sink: position and mark.
    func positions(of pipeline: String = "shop") throws -> [String: StoredRow] {
        let answer = try weir("position", "show", pipeline)
        guard answer.code == 0 else { throw TestingError("position show: \(answer.err)") }
        var rows: [String: StoredRow] = [:]
        for line in answer.out.split(separator: "\n").dropFirst() {
            let words = line.split(separator: " ").map(String.init)
            guard words.count >= 4 else { continue }
            let mark = words.firstIndex(of: "mark").flatMap { Int(words[$0 + 1]) }
            rows[words[0]] = StoredRow(position: words[1], mark: mark)
        }
        return rows
    }
}

struct StoredRow {
    /// As PostgreSQL writes it.
    let position: String
    /// Of a file sink: its length there.
    let mark: Int?
}

/// What a command said and how it ended.
struct Answer {
    let out: String
    let err: String
    /// The exit code; for a signal 1000 and its number.
    let code: Int32

    init(_ result: ProcessResult) {
        out = result.stdout
        err = result.stderr
        switch result.status {
        case .exited(let value): code = value
        case .signalled(let number): code = 1000 + number
        }
    }
}

/// What tests read of `weir status --json`.
struct Status: Decodable {
    let schema: String
    let isRunning: Bool
    let pid: Int?
    let pipelines: [Pipeline]

    struct Pipeline: Decodable {
        let name: String
        let state: String
        let source: Source
        let sinks: [Sink]
        let lagSeconds: Double?
        let errorsLastHour: Int?
        let problems: [Problem]
    }

    struct Source: Decodable {
        let retention: Retention?
        let retentionAsOf: String?
        let lastRead: String?
    }

    struct Retention: Decodable {
        let active: Bool
        let status: String
        let retainedBytes: Int?
    }

    struct Sink: Decodable {
        let name: String
        let state: String
        let spilledBytes: Int
        /// Nil while the daemon is down.
        let delivered: Int?
        let lagSeconds: Double?
        let errorsLastHour: Int?
    }

    struct Problem: Decodable {
        let component: String
        let code: String
        let message: String
        let detail: String?
        let hint: String?
        let note: String?
        let attempt: Int?
        let since: String?
    }

    init(_ text: String) throws {
        let decoder = JSONDecoder()
        decoder.keyDecodingStrategy = .convertFromSnakeCase
        self = try decoder.decode(Status.self, from: Data(text.utf8))
    }

    func pipeline(_ name: String) -> Pipeline? { pipelines.first { $0.name == name } }
}

func json(_ words: [String]) -> String {
    "[" + words.map { "\"\($0)\"" }.joined(separator: ", ") + "]"
}

func fileSize(_ path: String) -> Int {
    let facts = try? FileManager.default.attributesOfItem(atPath: path)
    return facts?[.size] as? Int ?? 0
}

func permissions(_ path: String) -> Int {
    let facts = try? FileManager.default.attributesOfItem(atPath: path)
    return facts?[.posixPermissions] as? Int ?? -1
}

func lines(of path: String) -> [String] {
    guard let text = try? String(contentsOfFile: path, encoding: .utf8) else { return [] }
    return text.split(separator: "\n").map(String.init)
}
