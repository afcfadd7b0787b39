import ArgumentParser
import Glibc
import WeirConfig
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
        let target: Int32?
        do { target = try directory.signalTarget() } catch { throw Failure(error) }
        guard let pid = target else {
            // The folder of another user looks to us as if nothing ran there.
            guard unsafe access(directory.lockPath, R_OK | W_OK) == 0 || errno != EACCES else {
                throw Failure(
                    .permission,
                    "error: the state directory \"\(VisibleText.of(directory.path))\" belongs to "
                        + "another user\n  Stop its daemon as that user, or as root.")
            }
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
