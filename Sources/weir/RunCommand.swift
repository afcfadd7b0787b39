import ArgumentParser
import Glibc
import Logging
import Synchronization
import UnixSignals
import WeirConfig
import WeirCore
import WeirEngine

struct RunCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "run",
        abstract: "Run the pipelines in the foreground.",
        discussion: """
            The first SIGTERM or SIGINT delivers what was read, stores it and ends with 0; a second
            one ends at once with 128 and its number. Nothing is lost either way.
            """)

    /// Nothing came for so long: a burst is over, or the start.
    private static let quietTime = Duration.seconds(3)

    @OptionGroup var config: ConfigOptions
    @OptionGroup var state: StateOptions
    @Flag(help: "End when everything committed before the start has been delivered.")
    var once = false

    func run() async throws {
        try ProcessSetup.checkDescriptors()
        let (settings, report) = try config.loadFile()
        SpareMemory.limit()
        Hints.nameBoth(configuration: config.path, stateDirectory: state.directory.path)
        LogOutput.bootstrap(settings.daemon)
        // Reloading on SIGHUP is a later feature; until then it must not end the daemon.
        signal(SIGHUP, SIG_IGN)
        let logger = Logger(label: "weir")
        ProcessSetup.warnOfRoot(logger)
        do {
            let directory = state.directory
            try directory.create()
            // Before the lock tells others our pid: whoever knows it can stop us in good order.
            let signals = await UnixSignalsSequence(trapping: .sigterm, .sigint)
            let lock = try directory.lock()
            let daemon = try Daemon(
                settings.pipelines.map(\.plan), directory: directory, version: weirVersion,
                logger: logger, configuration: report, restore: config.restore)
            let endings = try await run(
                daemon, until: signals, settings.daemon.shutdownTimeout, logger)
            _ = consume lock
            try finish(endings)
        } catch let error as WeirError {
            throw Failure(error)
        }
    }

    private func run(
        _ daemon: Daemon, until signals: UnixSignalsSequence, _ shutdownTimeout: Duration,
        _ logger: Logger
    ) async throws -> [Pipeline.Ending] {
        let listener = Task {
            var count = 0
            for await signal in signals {
                count += 1
                if count > 1 { _exit(128 + signal.number) }
                logger.info("stopping")
                daemon.stop()
                Task {
                    try await Task.sleep(for: shutdownTimeout)
                    logger.warning(
                        "a sink or a source did not answer within shutdown_timeout; what was not delivered comes again at the next start"
                    )
                    _exit(0)
                }
            }
        }
        defer { listener.cancel() }
        let settling = Task { try await releaseMemoryWhenQuiet(daemon) }
        defer { settling.cancel() }
        let count = daemon.pipelines.count
        return try await daemon.run(isOnce: once) {
            logger.info("weir \(weirVersion) runs \(count) pipeline\(count == 1 ? "" : "s")")
        }
    }

    /// Once at the beginning of each quiet time.
    private func releaseMemoryWhenQuiet(_ daemon: Daemon) async throws {
        var received = daemon.receivedEvents
        var isReleased = false
        while true {
            try await Task.sleep(for: Self.quietTime)
            let now = daemon.receivedEvents
            if now == received && !isReleased { SpareMemory.release() }
            isReleased = now == received
            received = now
        }
    }

    /// A daemon that was told to stop ends well whatever its pipelines did; `--once` has a result.
    private func finish(_ endings: [Pipeline.Ending]) throws {
        guard once else { return }
        for case .failed(let error) in endings { throw Failure(error) }
    }
}

extension UnixSignal {
    /// The number the shell knows it by.
    fileprivate var number: Int32 { self == .sigint ? SIGINT : SIGTERM }
}
