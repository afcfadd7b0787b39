import Glibc
import Synchronization
import WeirTesting

/// A daemon started for a case. It goes with the last reference.
final class RunningDaemon: Sendable {
    private let process: ChildProcess
    private let control: ControlSocket

    /// Returns when the pipeline streams.
    init(_ weir: WeirProgram, _ pipeline: BenchmarkPipeline) throws {
        process = try ChildProcess(weir.path, pipeline.arguments(["run"]))
        control = pipeline.control
        let deadline = ContinuousClock.now + .seconds(20)
        while control.status()?.isStreaming != true {
            guard ContinuousClock.now < deadline, process.isRunning else {
                throw TestingError("the daemon does not stream: \(try process.standardError())")
            }
            usleep(1_000)
        }
    }

    var pid: Int32 { process.pid }

    /// Waits until the file holds everything that was loaded.
    func waitUntilDelivered(_ changes: Int) async throws {
        try await eventually(
            within: .seconds(120), "\(changes) changes delivered", poll: .milliseconds(50)
        ) {
            guard let status = control.status() else { return false }
            return status.delivered >= changes
        }
    }

    /// As an operator does: SIGTERM, and it drains.
    func stop() async throws {
        process.signal(SIGTERM)
        try await process.wait(within: .seconds(30))
    }

    /// `weir start` leaves our process group; interrupted meanwhile, we take it along.
    static func killWhenInterrupted() {
        for number in [SIGINT, SIGTERM, SIGHUP] {
            signal(number) { number in
                let pid = detachedDaemon.load(ordering: .relaxed)
                if pid > 0 { kill(pid, SIGKILL) }
                _exit(128 + number)
            }
        }
    }
}

/// The daemon that `weir start` left behind, while one runs; else 0.
let detachedDaemon = Atomic<Int32>(0)
