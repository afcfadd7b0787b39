import Glibc
package import Logging
import Synchronization
package import WeirCore

/// Runs every pipeline of a configuration and answers for them on the control socket.
package final class Daemon: Sendable {
    package let pipelines: [Pipeline]
    private let store: StateStore
    private let directory: StateDirectory
    private let logger: Logger
    private let startedMicros = WallClock.micros()
    private let storeThread: ThreadExecutor
    private let version: String

    /// How often the state store notes that the daemon is alive, for `status` after its end.
    private static let lastSeenInterval = Duration.seconds(10)

    /// Opens the state store. The caller holds the directory's lock.
    package init(
        _ plans: [PipelinePlan], directory: StateDirectory, version: String, logger: Logger
    ) throws(WeirError) {
        let storeThread = ThreadExecutor(name: "state")
        let store = try StateStore(directory: directory, executor: storeThread)
        self.storeThread = storeThread
        self.store = store
        self.directory = directory
        self.logger = logger
        self.version = version
        pipelines = plans.map { Pipeline($0, store: store, directory: directory, logger: logger) }
    }

    /// Runs until every pipeline has ended; with one that failed for good, the others go on.
    ///
    /// - Parameter onReady: called once the control socket answers.
    /// - Returns: how each pipeline ended, in the order of the configuration.
    package func run(
        isOnce: Bool, onReady: @Sendable () -> Void
    ) async throws(WeirError) -> [Pipeline.Ending] {
        let server = ControlServer(path: directory.socketPath) { [self] in await report() }
        try await server.start()
        onReady()
        for pipeline in pipelines {
            let sinks = pipeline.plan.sinks.map(\.name).joined(separator: ", ")
            pipeline.logger.info("\(pipeline.plan.connection) -> \(sinks)")
        }
        let beat = Task { await noteLastSeen() }
        let endings = await withTaskGroup(of: (Int, Pipeline.Ending).self) { group in
            for (index, pipeline) in pipelines.enumerated() {
                group.addTask { (index, await pipeline.run(isOnce: isOnce)) }
            }
            var endings = pipelines.map { _ in Pipeline.Ending.stopped }
            for await (index, ending) in group { endings[index] = ending }
            return endings
        }
        // A pipeline that stopped for good must stay visible: wait for the operator.
        if !isOnce, !isStopping.withLock({ $0 }) { await stopBell.wait() }
        beat.cancel()
        await beat.value
        await server.stop()
        storeThread.stop()
        return endings
    }

    private let isStopping = Mutex(false)
    private let stopBell = Doorbell()

    /// Starts the drain of every pipeline; `run` returns when they are done.
    package func stop() {
        isStopping.withLock { $0 = true }
        for pipeline in pipelines { pipeline.stop() }
        stopBell.ring()
    }

    private func noteLastSeen() async {
        while !Task.isCancelled {
            do { try await store.setLastSeen(WallClock.micros()) } catch {
                logger.warning("\(error)")
            }
            try? await Task.sleep(for: Self.lastSeenInterval)
        }
        try? await store.setLastSeen(WallClock.micros())
    }

    /// Of all pipelines since the start.
    package var receivedEvents: Int { pipelines.reduce(0) { $0 + $1.monitor.now.received } }

    /// The facts of the moment.
    package func report() async -> StatusReport {
        let now = WallClock.micros()
        var reports: [PipelineReport] = []
        for pipeline in pipelines {
            let failures =
                (try? await store.failures(
                    of: pipeline.plan.name, sinceMicros: now - 86_400_000_000)) ?? []
            let gaps = (try? await store.openGaps(of: pipeline.plan.name)) ?? []
            reports.append(
                PipelineReport(pipeline, failures: failures, gaps: gaps, nowMicros: now))
        }
        return StatusReport(
            version: version, isRunning: true, pid: Int(getpid()),
            startedMicros: startedMicros, lastSeenMicros: now, pipelines: reports)
    }
}
