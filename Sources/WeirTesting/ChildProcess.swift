import Foundation
import Glibc
import Synchronization

/// A process in the background whose output goes to files. It is killed, with its process group,
/// when the last reference goes or when the test process dies.
package final class ChildProcess: Sendable {
    package let pid: Int32
    package let stdoutFile: String
    package let stderrFile: String

    private let path: String
    private let orphanSignal: String
    private let folder: TemporaryDirectory?
    private let status = Mutex<ExitStatus?>(nil)

    /// Starts `path`, looked for on the PATH when it has no slash, with `environment` put over this
    /// process's own. Output is appended to the given files; without names, to files in a temporary
    /// folder that lives as long as this object.
    package convenience init(
        _ path: String,
        _ arguments: [String] = [],
        environment additions: [String: String] = [:],
        directory: String? = nil,
        stdin: String = "/dev/null",
        stdout: String? = nil,
        stderr: String? = nil
    ) throws {
        let command = Command(
            path: path,
            arguments: arguments,
            environment: environment(adding: additions),
            directory: directory
        )
        try self.init(command, stdin: stdin, stdout: stdout, stderr: stderr, orphanSignal: "KILL")
    }

    /// `orphanSignal` is what the process gets first when the test process dies.
    init(
        _ command: Command,
        stdin: String = "/dev/null",
        stdout: String? = nil,
        stderr: String? = nil,
        orphanSignal: String
    ) throws {
        let orphans = try OrphanGuard.shared.get()
        let folder = stdout == nil || stderr == nil ? try TemporaryDirectory() : nil
        self.folder = folder
        stdoutFile = stdout ?? folder?.file("stdout") ?? "/dev/null"
        stderrFile = stderr ?? folder?.file("stderr") ?? "/dev/null"
        path = command.path
        self.orphanSignal = orphanSignal
        let input = try openFile(stdin, O_RDONLY)
        defer { close(input) }
        let output = try openFile(stdoutFile, O_WRONLY | O_CREAT | O_APPEND)
        defer { close(output) }
        let errors = try openFile(stderrFile, O_WRONLY | O_CREAT | O_APPEND)
        defer { close(errors) }
        pid = try spawn(command, input: input, output: output, errors: errors)
        orphans.watch(process: pid, signal: orphanSignal)
    }

    deinit {
        // Unreaped, the process id is still ours, and so is the group of the same number.
        if isRunning { Glibc.kill(-pid, SIGKILL) }
        _ = try? waitBlocking(within: .seconds(10))
    }

    package var isRunning: Bool { (try? pollStatus()) == .some(nil) }

    /// How it ended; nil while it runs.
    package var exitStatus: ExitStatus? { (try? pollStatus()) ?? nil }

    /// Sends a signal; does nothing when the process has ended.
    package func signal(_ number: Int32) {
        status.withLock { ended in
            // Under the lock: the process cannot be reaped, and its id given away, meanwhile.
            if ended == nil { _ = Glibc.kill(pid, number) }
        }
    }

    /// Waits for the end. Throws, and leaves the process running, when it takes longer.
    @discardableResult
    package func wait(within limit: Duration = .seconds(30)) async throws -> ExitStatus {
        let deadline = ContinuousClock.now + limit
        while true {
            if let ended = try pollStatus() { return ended }
            guard ContinuousClock.now < deadline else { throw stillRunning(after: limit) }
            try await Task.sleep(for: .milliseconds(2))
        }
    }

    /// As `wait`, for code that cannot suspend.
    @discardableResult
    package func waitBlocking(within limit: Duration) throws -> ExitStatus {
        let deadline = ContinuousClock.now + limit
        while true {
            if let ended = try pollStatus() { return ended }
            guard ContinuousClock.now < deadline else { throw stillRunning(after: limit) }
            usleep(1_000)
        }
    }

    package func standardOutput() throws -> String { try readText(stdoutFile) }

    package func standardError() throws -> String { try readText(stderrFile) }

    private func pollStatus() throws -> ExitStatus? {
        try status.withLock { ended in
            if ended == nil, let now = try reap(pid) {
                ended = now
                try? OrphanGuard.shared.get().forget(process: pid, signal: orphanSignal)
            }
            return ended
        }
    }

    private func stillRunning(after limit: Duration) -> TestingError {
        TestingError("\"\(path)\" (process \(pid)) still runs after \(limit)")
    }
}

package struct ProcessResult: Sendable {
    package let status: ExitStatus
    package let stdout: String
    package let stderr: String
}

/// Runs a program to its end and returns what it wrote. Throws when it cannot start or takes longer
/// than `limit` (it is killed then), not when it fails.
package func runProcess(
    _ path: String,
    _ arguments: [String] = [],
    environment additions: [String: String] = [:],
    directory: String? = nil,
    stdin: String = "",
    within limit: Duration = .seconds(120)
) throws -> ProcessResult {
    let command = Command(
        path: path,
        arguments: arguments,
        environment: environment(adding: additions),
        directory: directory
    )
    return try runCommand(command, stdin: stdin, within: limit)
}

func runCommand(
    _ command: Command,
    stdin: String = "",
    within limit: Duration = .seconds(120)
) throws -> ProcessResult {
    // Files, not pipes: neither side ever waits for the other.
    let folder = try TemporaryDirectory()
    let process = try ChildProcess(
        command,
        stdin: stdin.isEmpty ? "/dev/null" : folder.write(stdin, to: "stdin"),
        stdout: folder.file("stdout"),
        stderr: folder.file("stderr"),
        orphanSignal: "KILL"
    )
    let status = try process.waitBlocking(within: limit)
    return ProcessResult(
        status: status,
        stdout: try process.standardOutput(),
        stderr: try process.standardError()
    )
}

/// The text of a file; bytes that are not UTF-8 are replaced.
func readText(_ path: String) throws -> String {
    String(decoding: try Data(contentsOf: URL(fileURLWithPath: path)), as: UTF8.self)
}
