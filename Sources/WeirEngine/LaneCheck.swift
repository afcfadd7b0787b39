import Synchronization
import WeirCore

/// The shapes of the source's tables, known once the source is open; lanes wait for them before
/// they check their targets.
final class KnownTables: Sendable {
    private struct State {
        var tables: [TableSchema]?
        var waiting: [Doorbell] = []
    }
    private let state = Mutex(State())

    /// Nil until the source is open.
    var now: [TableSchema]? { state.withLock { $0.tables } }

    func set(_ tables: [TableSchema]) {
        let waiting = state.withLock { state in
            state.tables = tables
            defer { state.waiting = [] }
            return state.waiting
        }
        for bell in waiting { bell.ring() }
    }

    /// Rings `bell` once they are known, at once when they are.
    func ring(_ bell: Doorbell) {
        let isKnown = state.withLock { state in
            if state.tables == nil { state.waiting.append(bell) }
            return state.tables != nil
        }
        if isKnown { bell.ring() }
    }
}

/// Compares a sink's target with the tables of what it is to write before its first write, and
/// reports what it finds.
struct LaneCheck: Sendable {
    let sink: String
    let tables: KnownTables
    let monitor: PipelineMonitor
    let reports: any OperatorReports
    /// Takes the sink's configuration up once the target fits it, before the first write.
    let adopt: @Sendable () async throws(WeirError) -> Void

    /// The sink is opened anew: what it had reported may be mended.
    func begin() { monitor.forgetFindings(of: sink) }

    /// With the tables the source follows.
    ///
    /// - Parameter early: what was checked before they were known, and is checked again here.
    /// - Throws: a blocking finding, or what kept the sink from looking.
    func run(
        _ connector: any SinkConnector, _ tables: [TableSchema], after early: Early
    ) async throws(WeirError) {
        for finding in early.findings { reports.settle(finding.code, finding.subject) }
        _ = try await find(connector, tables)
        monitor.update { $0.checked.insert(sink) }
    }

    /// With the tables of what a spill holds: its sink takes that also while the source is down.
    ///
    /// - Returns: what `Early` is to remember.
    func run(
        _ connector: any SinkConnector, spilled tables: [TableSchema]
    ) async throws(WeirError) -> [Finding] {
        try await find(connector, tables)
    }

    private func find(
        _ connector: any SinkConnector, _ tables: [TableSchema]
    ) async throws(WeirError) -> [Finding] {
        var findings: [Finding] = []
        if let checker = connector as? any SinkCheck {
            findings = try await checker.check(tables)
            for finding in findings { reports.raise(finding) }
            if let finding = findings.first(where: { $0.severity == .blocking }) {
                throw WeirError(finding)
            }
        }
        try await adopt()
        return findings
    }

    /// What a lane has checked before the source was open.
    struct Early {
        private var tables: [TableSchema]?
        private(set) var findings: [Finding] = []

        /// The tables of `batches` that were not checked; nil when there is nothing to check.
        func unknown(_ batches: [EventBatch]) -> [TableSchema]? {
            var unknown: [TableSchema] = []
            for table in batches.flatMap(\.tables)
            where !table.isMessages && !unknown.contains(table)
                && tables?.contains(table) != true
            {
                unknown.append(table)
            }
            return unknown.isEmpty && tables != nil ? nil : unknown
        }

        mutating func add(_ checked: [TableSchema], _ found: [Finding]) {
            tables = (tables ?? []) + checked
            findings += found
        }
    }
}
