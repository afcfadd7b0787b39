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
    private let configuration: ConfigurationReport?
    private let orphans: OrphanWatch

    /// How often the state store notes that the daemon is alive, for `status` after its end.
    private static let lastSeenInterval = Duration.seconds(10)
    /// How often the sources of pipelines that are no longer configured are asked what they keep.
    private static let orphanInterval = Duration.seconds(60)

    /// Opens the state store. The caller holds the directory's lock.
    ///
    /// - Parameter restore: see `OrphanWatch`.
    package init(
        _ plans: [PipelinePlan], directory: StateDirectory, version: String, logger: Logger,
        configuration: ConfigurationReport? = nil,
        restore: OrphanWatch.Restore
    ) throws(WeirError) {
        let storeThread = ThreadExecutor(name: "state")
        let store = try StateStore(directory: directory, executor: storeThread)
        self.storeThread = storeThread
        self.store = store
        self.directory = directory
        self.logger = logger
        self.version = version
        let names = Set(plans.map(\.name))
        self.configuration = configuration
        orphans = OrphanWatch(store: store, configured: names, restore: restore)
        pipelines = plans.map {
            Pipeline(
                $0, store: store, directory: directory, logger: logger,
                isConfigured: { names.contains($0) })
        }
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
        await sayOrphans()
        let beat = Task { await noteLastSeen() }
        let watch = Task { await watchOrphans() }
        let endings = await withTaskGroup(of: (Int, Pipeline.Ending).self) { group in
            for (index, pipeline) in pipelines.enumerated() {
                group.addTask {
                    let ending = await pipeline.run(isOnce: isOnce)
                    // What stopped for good stays visible, and so does what its source keeps.
                    if !isOnce, case .failed = ending { await pipeline.watchRetention() }
                    return (index, ending)
                }
            }
            var endings = pipelines.map { _ in Pipeline.Ending.stopped }
            for await (index, ending) in group { endings[index] = ending }
            return endings
        }
        // A pipeline that stopped for good must stay visible: wait for the operator.
        if !isOnce, !isStopping.withLock({ $0 }) { await stopBell.wait() }
        beat.cancel()
        watch.cancel()
        await beat.value
        await server.stop()
        storeThread.stop()
        return endings
    }

    /// What cannot be read of those that are gone stops none that is configured.
    private func sayOrphans() async {
        do throws(WeirError) {
            for orphan in try await orphans.look() {
                let problem = orphan.problem.map { " (\($0))" } ?? ""
                logger.warning("\(orphan.message)\(problem); \(orphan.hint)")
            }
        } catch {
            logger.warning("could not look for pipelines that are no longer configured: \(error)")
        }
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

    private func watchOrphans() async {
        while !Task.isCancelled {
            // What stands in the way is in the report.
            try? await orphans.probe()
            try? await Task.sleep(for: Self.orphanInterval)
        }
    }

    /// Of all pipelines since the start.
    package var receivedEvents: Int { pipelines.reduce(0) { $0 + $1.monitor.now.received } }

    /// The facts of the moment.
    package func report() async -> StatusReport {
        let now = WallClock.micros()
        var reports: [PipelineReport] = []
        for pipeline in pipelines {
            // Before the rows of the state: what rests on a row, such as `checked` on the gaps that
            // were declared, is never seen without it.
            let facts = pipeline.monitor.now
            let lanes = Dictionary(
                pipeline.lanes.map { ($0.plan.name, $0.snapshot()) }, uniquingKeysWith: { $1 })
            let failures =
                (try? await store.failures(
                    of: pipeline.plan.name, sinceMicros: now - 86_400_000_000)) ?? []
            let gaps = (try? await store.openGaps(of: pipeline.plan.name)) ?? []
            let configured = (try? await store.configured(of: pipeline.plan.name)) ?? [:]
            reports.append(
                PipelineReport(
                    pipeline.plan, facts, lanes: lanes, failures: failures, gaps: gaps,
                    configured: configured, nowMicros: now))
        }
        return StatusReport(
            version: version, isRunning: true, pid: Int(getpid()),
            startedMicros: startedMicros, lastSeenMicros: now, configuration: configuration,
            pipelines: reports, orphans: (try? await orphans.look()) ?? orphans.now)
    }
}
