import WeirConfig
import WeirCore
import WeirEngine

/// The facts of `status` while no daemon runs: the state store, and what the sources keep for us.
struct OfflineStatus {
    let configuration: Configuration
    let directory: StateDirectory
    let restore: OrphanWatch.Restore

    func report() async throws -> StatusReport {
        let thread = ThreadExecutor(name: "state")
        defer { thread.stop() }
        guard directory.hasStore else {
            // Never started: there is nothing to read.
            return StatusReport(
                version: weirVersion, isRunning: false, pid: nil, startedMicros: nil,
                lastSeenMicros: nil,
                pipelines: configuration.pipelines.map {
                    PipelineReport(
                        offline: $0.plan, rows: [], failures: [], gaps: [], retention: nil)
                })
        }
        do throws(WeirError) {
            let store = try StateStore(directory: directory, executor: thread, isReadOnly: true)
            var reports: [PipelineReport] = []
            for pipeline in configuration.pipelines {
                let since = WallClock.micros() - 86_400_000_000
                reports.append(
                    PipelineReport(
                        offline: pipeline.plan,
                        rows: try await store.checkpoints(of: pipeline.name),
                        failures: try await store.failures(
                            of: pipeline.name, sinceMicros: since),
                        gaps: try await store.openGaps(of: pipeline.name),
                        configured: try await store.configured(of: pipeline.name),
                        stopped: try await store.stopped(of: pipeline.name),
                        retention: await Self.probe(pipeline.plan, store, thread),
                        known: try await store.knownRetention(of: pipeline.name)))
            }
            let orphans = OrphanWatch(
                store: store, configured: Set(configuration.pipelines.map(\.name)),
                restore: restore)
            try await orphans.probe()
            return StatusReport(
                version: weirVersion, isRunning: false, pid: nil, startedMicros: nil,
                lastSeenMicros: try await store.lastSeen(), pipelines: reports,
                orphans: orphans.now)
        } catch {
            throw Failure(error)
        }
    }

    /// Nil when the source cannot be asked; its own error is then shown as the pipeline's problem.
    private static func probe(
        _ plan: PipelinePlan, _ store: StateStore, _ thread: ThreadExecutor
    ) async -> Result<SourceRetention, WeirError>? {
        do throws(WeirError) {
            let held = try await store.checkpoints(of: plan.name).map(\.covered).min()
            let source = try plan.makeOfflineSource(store, on: thread)
            guard let prober = source as? any SourceProbe else { return nil }
            return .success(try await prober.probe(held: held))
        } catch {
            return .failure(error)
        }
    }
}
