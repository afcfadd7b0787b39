import Synchronization
package import WeirCore

/// Looks after pipelines that the state holds and the configuration does not name: what they keep
/// at their source stays there, above all a replication slot and the log it holds on to.
package final class OrphanWatch: Sendable {
    /// What the configuration can still say of what the state remembers.
    package struct Restore: Sendable {
        package let notation: @Sendable (_ sourceType: String) -> SourceNotation
        /// Makes a plan, or says why it cannot, as where the connection is not configured any more.
        package let plan:
            @Sendable (_ pipeline: String, _ settings: [String: ConnectorSettings])
                throws(WeirError) -> PipelinePlan

        package init(
            notation: @escaping @Sendable (_ sourceType: String) -> SourceNotation,
            plan:
                @escaping @Sendable (_ pipeline: String, _ settings: [String: ConnectorSettings])
                throws(WeirError) -> PipelinePlan
        ) {
            self.notation = notation
            self.plan = plan
        }
    }

    private let store: StateStore
    private let configured: Set<String>
    private let restore: Restore
    private let seen = Mutex<[OrphanReport]>([])

    package init(store: StateStore, configured: Set<String>, restore: Restore) {
        self.store = store
        self.configured = configured
        self.restore = restore
    }

    /// As of the last look.
    package var now: [OrphanReport] { seen.withLock { $0 } }

    /// Reads the state; what was known of the sources stays until they are asked again.
    @discardableResult
    package func look() async throws(WeirError) -> [OrphanReport] {
        var reports: [OrphanReport] = []
        let known = now
        for name in try await store.pipelineNames() where !configured.contains(name) {
            let before = known.first { $0.name == name }
            var report: OrphanReport
            do throws(WeirError) {
                report = try await facts(name)
                report.problem = before?.problem
            } catch {
                // What is damaged of one that is gone must not stop those that are configured.
                report = OrphanReport(
                    name: name, type: nil, connection: nil, place: nil, holds: [], sinks: [],
                    position: "", stored: nil, spilledBytes: 0, gaps: [])
                report.problem = error.message
            }
            report.retention = before?.retention
            reports.append(report)
        }
        seen.withLock { $0 = reports }
        return reports
    }

    /// Asks the sources what they keep. Each may take as long as connecting takes.
    package func probe() async throws(WeirError) {
        for report in try await look() {
            let (retention, problem) = await probe(report)
            seen.withLock { reports in
                guard let index = reports.firstIndex(where: { $0.name == report.name }) else {
                    return
                }
                reports[index].retention = retention
                reports[index].problem = problem
            }
        }
    }

    private func facts(_ name: String) async throws(WeirError) -> OrphanReport {
        let rows = try await store.checkpoints(of: name)
        let source = try await store.configured(of: name)["source"]?.settings
        let notation = source.flatMap { restore.notation($0.type) } ?? .unknown
        return OrphanReport(
            name: name, type: source?.type, connection: source?.connection, place: source?.place,
            holds: source?.claims ?? [], sinks: rows.map(\.sink),
            position: rows.map(\.position).min().map(notation.display) ?? "",
            stored: rows.map(\.updatedMicros).max().map(ISOTime.text),
            spilledBytes: rows.reduce(0) { $0 + ($1.spill?.length ?? 0) },
            gaps: try await store.openGaps(of: name).map(GapReport.init))
    }

    private func probe(_ report: OrphanReport) async -> (SourceRetention?, String?) {
        do throws(WeirError) {
            let settings = try await store.configured(of: report.name).mapValues(\.settings)
            guard !settings.isEmpty else {
                return (nil, "it last ran under a Weir that did not remember its configuration")
            }
            let plan = try restore.plan(report.name, settings)
            let thread = ThreadExecutor(name: "\(report.name)/src")
            defer { thread.stop() }
            let held = try await store.checkpoints(of: report.name).map(\.covered).min()
            let source = try plan.makeOfflineSource(store, on: thread)
            guard let prober = source as? any SourceProbe else { return (nil, nil) }
            return (try await prober.probe(held: held), nil)
        } catch {
            return (nil, error.message)
        }
    }
}

/// A pipeline that is in the state and not in the configuration.
package struct OrphanReport: Codable, Sendable, Equatable {
    package var name: String
    /// The type of its source.
    @Nullable package var type: String?
    @Nullable package var connection: String?
    @Nullable package var place: String?
    /// What it keeps at the source, in words.
    package var holds: [String]
    package var sinks: [String]
    /// Everything before it is at all of its sinks.
    package var position: String
    /// When a position of it was stored last.
    @Nullable package var stored: String?
    package var spilledBytes: Int
    @Nullable package var retention: SourceRetention?
    /// Why the source could not be asked what it keeps.
    @Nullable package var problem: String?
    package var gaps: [GapReport]

    package init(
        name: String, type: String?, connection: String?, place: String?, holds: [String],
        sinks: [String], position: String, stored: String?, spilledBytes: Int, gaps: [GapReport]
    ) {
        self.name = name
        self.type = type
        self.connection = connection
        self.place = place
        self.holds = holds
        self.sinks = sinks
        self.position = position
        self.stored = stored
        self.spilledBytes = spilledBytes
        self.gaps = gaps
    }

    /// For log and status: worded as an error's message.
    package var message: String {
        let kept =
            holds.isEmpty ? "" : " and still holds \(holds.joined(separator: ", "))"
        return "pipeline \"\(name)\" is no longer configured\(kept)"
    }

    /// What to do about it.
    package var hint: String {
        "weir drop \(name) --yes removes what it keeps; or name it in the configuration again."
    }
}
