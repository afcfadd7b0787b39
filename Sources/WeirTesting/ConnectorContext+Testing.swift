import Synchronization
package import WeirCore

extension ConnectorContext {
    /// For a connector that is tested alone, by default on a thread of its own.
    package static func test(
        _ name: String = "sink", pipeline: String = "test",
        notation: SourceNotation = .numbers,
        executor: any SerialExecutor = BlockingExecutor(), notes: MemoryNotes = MemoryNotes(),
        reports: CollectedReports = CollectedReports(),
        epoch: @escaping @Sendable () -> UInt32 = { 1 },
        source: @escaping @Sendable () -> SourceIdentity? = { nil },
        rows: (any RowReader)? = nil, log: LogLines = LogLines()
    ) -> ConnectorContext {
        var makeRowReader: (@Sendable () throws(WeirError) -> any RowReader)?
        if let rows { makeRowReader = { () throws(WeirError) -> any RowReader in rows } }
        return ConnectorContext(
            pipeline: pipeline, name: name, notation: notation, executor: executor, notes: notes,
            reports: reports, epoch: epoch,
            source: source, makeRowReader: makeRowReader,
            log: { level, line in log.append("\(level.rawValue): \(line)") })
    }
}

/// Notes in memory, which may outlive their connector.
package final class MemoryNotes: ConnectorNotes {
    private let notes: Mutex<[String: String]>

    package init(_ notes: [String: String] = [:]) { self.notes = Mutex(notes) }

    package func get(_ key: String) async throws(WeirError) -> String? {
        notes.withLock { $0[key] }
    }

    package func set(_ key: String, _ value: String) async throws(WeirError) {
        notes.withLock { $0[key] = value }
    }
}

/// What a connector logged: `warning: …`.
package final class LogLines: Sendable {
    private let lines = Mutex<[String]>([])

    package init() {}

    package func append(_ line: String) { lines.withLock { $0.append(line) } }
    package var all: [String] { lines.withLock { $0 } }
}

/// What a connector reported, in memory.
package final class CollectedReports: OperatorReports {
    private let reports = Mutex<(findings: [Finding], gaps: [DeclaredGap])>(([], []))

    package init() {}

    package func raise(_ finding: Finding) {
        reports.withLock {
            $0.findings.removeAll { $0.code == finding.code && $0.subject == finding.subject }
            $0.findings.append(finding)
        }
    }

    package func settle(_ code: ErrorCode, _ subject: String) {
        reports.withLock { $0.findings.removeAll { $0.code == code && $0.subject == subject } }
    }

    package func declare(_ gap: DeclaredGap) async throws(WeirError) {
        reports.withLock { if !$0.gaps.contains(gap) { $0.gaps.append(gap) } }
    }

    /// Those that stand.
    package var findings: [Finding] { reports.withLock { $0.findings } }
    package var gaps: [DeclaredGap] { reports.withLock { $0.gaps } }
}
