import ArgumentParser
import Glibc
import WeirEngine

struct StopCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "stop",
        abstract: "Stop the daemon: deliver what was read, store it, end.")

    @OptionGroup var config: ConfigOptions
    @OptionGroup var state: StateOptions

    /// Longer than any sensible `shutdown_timeout`; after it the daemon is stuck.
    private static let limit = Duration.seconds(90)

    func run() async throws {
        let directory = state.directory
        guard let pid = directory.runningPID() else {
            print("weir is not running")
            return
        }
        guard kill(pid, SIGTERM) == 0 || errno == ESRCH else {
            throw Failure(.permission, "error: weir (pid \(pid)) belongs to another user")
        }
        let deadline = ContinuousClock.now + Self.limit
        while directory.runningPID() == pid {
            guard ContinuousClock.now < deadline else {
                throw Failure(.temporary, "error: weir (pid \(pid)) did not stop")
            }
            try await Task.sleep(for: .milliseconds(10))
        }
        print("weir stopped (pid \(pid))")
    }
}
