import ArgumentParser
import Glibc
import WeirConfig
import WeirCore
import WeirEngine

struct StartCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "start",
        abstract: "Run the pipelines in the background.",
        discussion: "Returns when the daemon is ready, or prints why it is not.")

    @OptionGroup var config: ConfigOptions
    @OptionGroup var state: StateOptions

    /// How long the daemon may take until its socket answers, and then until its sources stream.
    private static let readyLimit = Duration.seconds(20)
    private static let streamingLimit = Duration.seconds(3)

    func run() async throws {
        // Errors of the file belong on this terminal, not in the log.
        let file = try config.loadFile().report
        let directory = state.directory
        do { try directory.create() } catch { throw Failure(error) }
        if let pid = directory.runningPID() {
            try sayRunning(pid, file)
            return
        }
        let logStart = Self.size(of: directory.logPath)
        let child = try Self.spawn(
            ["run", "--config", absolute(config.path), "--state-dir", directory.path],
            log: directory.logPath)
        let client = ControlClient(path: directory.socketPath)
        let deadline = ContinuousClock.now + Self.readyLimit
        while ContinuousClock.now < deadline {
            var status: Int32 = 0
            if unsafe waitpid(child, &status, WNOHANG) == child {
                throw Failure(
                    Self.exitCode(status), Self.tail(of: directory.logPath, from: logStart))
            }
            if let report = try? client.status(), report.pid == Int(child) {
                try await ready(client, child, report)
                return
            }
            try await Task.sleep(for: .milliseconds(5))
        }
        kill(child, SIGTERM)
        throw Failure(
            .temporary, "error: the daemon did not get ready; its log is \(directory.logPath)")
    }

    /// Running already is what was asked for, unless it runs something else than the file says.
    private func sayRunning(_ pid: Int32, _ file: ConfigurationReport) throws {
        let report = try? ControlClient(path: state.directory.socketPath).status()
        guard let running = report?.configuration, running != file else {
            // What was put right meanwhile is looked at by a new start only.
            if let report { try refuseStopped(report, "weir stop, then weir start tries it again") }
            print("weir is already running (pid \(pid))")
            return
        }
        let what =
            running.path == file.path
            ? "\(file.path) as it was before it was changed"
            : "\(running.path), not \(file.path)"
        throw Failure(
            .unavailable,
            """
            error: weir is already running (pid \(pid)) with \(what)
              \(Hints.completed("To run it as it is now: weir stop, then weir start."))
            """)
    }

    private func ready(
        _ client: ControlClient, _ pid: pid_t, _ first: StatusReport
    ) async throws {
        var report = first
        let deadline = ContinuousClock.now + Self.streamingLimit
        while !report.pipelines.allSatisfy(Self.isSettled), ContinuousClock.now < deadline {
            try await Task.sleep(for: .milliseconds(5))
            report = try client.status() ?? report
        }
        report = report.completed(by: Hints.commands())
        print("weir \(report.version) started (pid \(pid))")
        for pipeline in report.pipelines { say(pipeline, since: report.started ?? "") }
        for orphan in report.orphans {
            printError(
                VisibleText.ofLines("warning: \(orphan.message)\n  \(Hints.completed(orphan.hint))")
            )
        }
        try refuseStopped(report, "when that is put right: weir stop, then weir start")
    }

    /// A daemon goes on without pipelines that need an operator.
    private func refuseStopped(_ report: StatusReport, _ way: String) throws {
        let stopped = report.pipelines.filter { $0.state == .stopped }.map(\.name)
        guard !stopped.isEmpty else { return }
        throw Failure(
            .unavailable,
            """
            error: the daemon runs (pid \(report.pid ?? 0)), but stopped: \(stopped.joined(separator: ", "))
              \(Hints.completed("weir status shows why; \(way)."))
            """)
    }

    /// What its checks have to say is known.
    private static func isSettled(_ pipeline: PipelineReport) -> Bool {
        switch pipeline.state {
        case .starting: false
        case .stopped: true
        default: pipeline.checked || !pipeline.problems.isEmpty
        }
    }

    private func say(_ pipeline: PipelineReport, since started: String) {
        print("  \(pipeline.name): \(pipeline.state.rawValue)")
        for sink in pipeline.sinks {
            guard let began = sink.began, let at = sink.beganAt, at >= started else { continue }
            print("    \(sink.name) begins at \(began): what came before is not delivered to it")
        }
        for problem in pipeline.problems {
            say(
                "error", problem.code, problem.message,
                [problem.detail, problem.note, problem.hint])
        }
        for finding in pipeline.findings where finding.severity == .warning {
            say("warning", finding.code, finding.message, [finding.detail, finding.hint])
        }
        for gap in pipeline.gaps {
            say("gap \(gap.id)", gap.code, gap.message, [gap.hint])
        }
    }

    private func say(_ kind: String, _ code: String, _ message: String, _ lines: [String?]) {
        printError("\(kind) \(code): \(VisibleText.of(message))")
        for line in lines.compactMap(\.self) where !line.isEmpty {
            printError("  \(VisibleText.ofLines(line))")
        }
    }

    private static func spawn(_ arguments: [String], log: String) throws -> pid_t {
        // In a session of its own, the daemon outlives this terminal. `setsid` comes from a second
        // fork's child being no group leader; posix_spawn's flag for it is Linux's 0x80.
        var attributes = posix_spawnattr_t()
        unsafe posix_spawnattr_init(&attributes)
        defer { unsafe posix_spawnattr_destroy(&attributes) }
        unsafe posix_spawnattr_setflags(&attributes, 0x80)
        var actions = unsafe posix_spawn_file_actions_t()
        unsafe posix_spawn_file_actions_init(&actions)
        defer { unsafe posix_spawn_file_actions_destroy(&actions) }
        unsafe posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0)
        unsafe posix_spawn_file_actions_addopen(
            &actions, 1, log, O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW, 0o600)
        unsafe posix_spawn_file_actions_adddup2(&actions, 1, 2)
        let program = "/proc/self/exe"
        var list = unsafe (["weir"] + arguments).map { unsafe strdup($0) } + [nil]
        let count = unsafe list.count
        defer { for index in 0..<count { unsafe free(list[index]) } }
        var pid: pid_t = 0
        let code = unsafe posix_spawn(&pid, program, &actions, &attributes, &list, environ)
        guard code == 0 else {
            let reason = unsafe String(cString: strerror(code))
            throw Failure(.unavailable, "error: could not start the daemon: \(reason)")
        }
        return pid
    }

    private static func exitCode(_ status: Int32) -> WeirExit {
        // WIFEXITED and WEXITSTATUS are macros.
        status & 0x7F == 0 ? WeirExit(rawValue: status >> 8 & 0xFF) ?? .unavailable : .bug
    }

    private static func size(of path: String) -> Int {
        var facts = stat()
        return unsafe lstat(path, &facts) == 0 ? Int(facts.st_size) : 0
    }

    /// What the daemon said before it ended.
    private static func tail(of path: String, from offset: Int) -> String {
        let file = unsafe open(path, O_RDONLY | O_NOFOLLOW)
        guard file >= 0 else { return "error: the daemon ended at once" }
        defer { close(file) }
        var bytes = [UInt8](repeating: 0, count: 16_384)
        let count = unsafe pread(file, &bytes, bytes.count, off_t(offset))
        return count > 0
            ? VisibleText.ofLines(String(decoding: bytes[..<count], as: UTF8.self))
            : "error: the daemon ended at once"
    }
}
