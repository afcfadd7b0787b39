import WeirConfig
import WeirCore
import WeirEngine

/// The facts of `status` while no daemon runs: the state store, and what the sources keep for us.
struct OfflineStatus {
    let directory: StateDirectory
    let restore: OrphanWatch.Restore

    func report(_ configuration: Configuration) async throws -> StatusReport {
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
                reports.append(try await Self.report(pipeline.plan, store, thread))
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

    /// What the state alone knows, while the configuration does not load: no source can be asked.
    func remembered(unread path: String) async throws -> StatusReport {
        let thread = ThreadExecutor(name: "state")
        defer { thread.stop() }
        do throws(WeirError) {
            let store = try StateStore(directory: directory, executor: thread, isReadOnly: true)
            let error = WeirError(
                .configurationUnread, .blocked,
                "the configuration \(absolute(path)) does not load: shown is what was known last",
                hint: "weir validate -c \(absolute(path).shellWord)")
            var reports: [PipelineReport] = []
            for name in try await store.pipelineNames() {
                let plan = PipelinePlan(
                    remembered: name, try await store.configured(of: name),
                    try await store.checkpoints(of: name).map(\.sink), restore, because: error)
                reports.append(try await Self.report(plan, store, thread))
            }
            return StatusReport(
                version: weirVersion, isRunning: false, pid: nil, startedMicros: nil,
                lastSeenMicros: try await store.lastSeen(), pipelines: reports)
        } catch {
            throw Failure(error)
        }
    }

    private static func report(
        _ plan: PipelinePlan, _ store: StateStore, _ thread: ThreadExecutor
    ) async throws(WeirError) -> PipelineReport {
        let since = WallClock.micros() - 86_400_000_000
        var rows: [CheckpointRow] = []
        var retention: Result<SourceRetention, WeirError>?
        var stopped: ProblemReport?
        var known: KnownRetention?
        do throws(WeirError) {
            rows = try await store.checkpoints(of: plan.name)
            stopped = try await store.stopped(of: plan.name)
            known = try await store.knownRetention(of: plan.name)
            retention = await probe(plan, store, thread)
        } catch {
            // One that is damaged says so, and the others are shown all the same.
            retention = .failure(error)
        }
        return PipelineReport(
            offline: plan, rows: rows,
            failures: try await store.failures(of: plan.name, sinceMicros: since),
            gaps: try await store.openGaps(of: plan.name),
            configured: try await store.configured(of: plan.name), stopped: stopped,
            retention: retention, known: known)
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
