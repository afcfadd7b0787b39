import Foundation
import Glibc

/// How a process ended.
package enum ExitStatus: Sendable, Equatable, CustomStringConvertible {
    case exited(Int32)
    case signalled(Int32)

    /// Decodes a status word of `waitpid`.
    init(waitStatus: Int32) {
        let signal = waitStatus & 0x7f
        self = signal == 0 ? .exited((waitStatus >> 8) & 0xff) : .signalled(signal)
    }

    package var description: String {
        switch self {
        case .exited(let code): "exit code \(code)"
        case .signalled(let signal): "signal \(signal)"
        }
    }
}

/// What to start: the program is looked for on the PATH when it has no slash. With a directory a
/// program that does not exist shows as exit code 127, without one as an error.
struct Command: Sendable {
    var path: String
    var arguments: [String]
    var environment: [String: String]
    var directory: String?
}

/// The environment of this process with `additions` put over it.
func environment(adding additions: [String: String]) -> [String: String] {
    ProcessInfo.processInfo.environment.merging(additions) { $1 }
}

/// Starts `command` as the leader of its own session, with these three descriptors and no others,
/// and with default signal handling. The caller owns the process and must reap it.
func spawn(
    _ command: Command,
    input: Int32,
    output: Int32,
    errors: Int32
) throws -> Int32 {
    var actions = unsafe posix_spawn_file_actions_t()
    var attributes = posix_spawnattr_t()
    unsafe posix_spawn_file_actions_init(&actions)
    unsafe posix_spawnattr_init(&attributes)
    defer {
        unsafe posix_spawn_file_actions_destroy(&actions)
        unsafe posix_spawnattr_destroy(&attributes)
    }
    unsafe posix_spawn_file_actions_adddup2(&actions, input, STDIN_FILENO)
    unsafe posix_spawn_file_actions_adddup2(&actions, output, STDOUT_FILENO)
    unsafe posix_spawn_file_actions_adddup2(&actions, errors, STDERR_FILENO)
    for descriptor in try openDescriptors() where descriptor > STDERR_FILENO {
        unsafe posix_spawn_file_actions_addclose(&actions, descriptor)
    }
    // A session of its own: an interrupt from the terminal reaches the tests, not their servers.
    let flags = Int16(POSIX_SPAWN_SETSIGDEF) | Int16(POSIX_SPAWN_SETSIGMASK) | setSession
    unsafe posix_spawnattr_setflags(&attributes, flags)
    var signals = sigset_t()
    unsafe sigemptyset(&signals)
    unsafe posix_spawnattr_setsigmask(&attributes, &signals)
    unsafe sigfillset(&signals)
    unsafe posix_spawnattr_setsigdefault(&attributes, &signals)

    var pid = pid_t()
    var words = [command.path] + command.arguments
    if let directory = command.directory { words = ["env", "-C", directory] + words }
    let variables = command.environment.map { "\($0)=\($1)" }
    let failure = unsafe withCStrings(words) { arguments in
        unsafe withCStrings(variables) { environment in
            unsafe posix_spawnp(&pid, words[0], &actions, &attributes, arguments, environment)
        }
    }
    guard failure == 0 else {
        throw TestingError("could not start \"\(command.path)\": \(errorText(failure))")
    }
    return pid
}

/// POSIX_SPAWN_SETSID of <spawn.h>, which Swift's Glibc module leaves out as a GNU extension.
private let setSession: Int16 = 0x80

private func openDescriptors() throws -> [Int32] {
    try FileManager.default.contentsOfDirectory(atPath: "/proc/self/fd").compactMap(Int32.init)
}

/// Passes `strings` as C strings, ended by a null pointer, that live as long as the call.
private func withCStrings<Result>(
    _ strings: [String],
    _ body: ([UnsafeMutablePointer<CChar>?]) -> Result
) -> Result {
    let copies = unsafe strings.map { unsafe strdup($0) }
    defer { for index in unsafe copies.indices { unsafe free(copies[index]) } }
    return unsafe body(copies + [nil])
}

func errorText(_ code: Int32) -> String {
    unsafe String(cString: strerror(code))
}

/// Reaps `pid` if it has ended; nil while it runs.
func reap(_ pid: Int32) throws -> ExitStatus? {
    var status: Int32 = 0
    while true {
        let reaped = unsafe waitpid(pid, &status, WNOHANG)
        if reaped == pid { return ExitStatus(waitStatus: status) }
        if reaped == 0 { return nil }
        guard errno == EINTR else {
            throw TestingError("could not wait for process \(pid): \(errorText(errno))")
        }
    }
}

/// Opens `path` with the flag close-on-exec.
func openFile(_ path: String, _ flags: Int32) throws -> Int32 {
    let descriptor = unsafe open(path, flags | O_CLOEXEC, 0o644)
    guard descriptor >= 0 else {
        throw TestingError("could not open \"\(path)\": \(errorText(errno))")
    }
    return descriptor
}
