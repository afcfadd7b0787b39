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

/// Compares a sink's target with the source's tables before its first write, and reports what it
/// finds.
struct LaneCheck: Sendable {
    let sink: String
    let tables: KnownTables
    let monitor: PipelineMonitor
    let reports: any OperatorReports
    /// Takes the sink's configuration up once the target fits it, before the first write.
    let adopt: @Sendable () async throws(WeirError) -> Void

    /// The sink is opened anew: what it had reported may be mended.
    func begin() { monitor.forgetFindings(of: sink) }

    /// - Throws: a blocking finding, or what kept the sink from looking.
    func run(_ connector: any SinkConnector, _ tables: [TableSchema]) async throws(WeirError) {
        if let checker = connector as? any SinkCheck {
            let findings = try await checker.check(tables)
            for finding in findings { reports.raise(finding) }
            if let finding = findings.first(where: { $0.severity == .blocking }) {
                throw WeirError(finding)
            }
        }
        try await adopt()
        monitor.update { $0.checked.insert(sink) }
    }
}
