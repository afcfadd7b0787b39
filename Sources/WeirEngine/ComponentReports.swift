import Logging
import WeirCore

/// Takes what one connector reports: findings go to the monitor and, once, to the log; gaps to the
/// state store.
struct ComponentReports: OperatorReports {
    let pipeline: String
    /// The sink's name, or "source".
    let component: String
    let monitor: PipelineMonitor
    let store: StateStore
    let logger: Logger

    func raise(_ finding: Finding) {
        var finding = finding
        finding.hint = finding.hint?.naming(pipeline)
        guard monitor.raised(finding, by: component) else { return }
        let level: Logger.Level = finding.severity == .blocking ? .error : .warning
        logger.log(level: level, "\(component): \(WeirError(finding))")
    }

    func settle(_ code: ErrorCode, _ subject: String) {
        monitor.settled(code, subject, by: component)
    }

    func declare(_ gap: DeclaredGap) async throws(WeirError) {
        let new = try await store.declare(
            gap, of: pipeline, component: component, atMicros: WallClock.micros())
        if let new { logger.error("\(component): \(new.words)") }
    }
}

/// A finding and who raised it.
struct StandingFinding: Sendable, Equatable {
    let component: String
    let finding: Finding

    /// One of these replaces the other.
    func isSame(as other: StandingFinding) -> Bool {
        isAbout(other.finding.code, other.finding.subject, by: other.component)
    }

    func isAbout(_ code: ErrorCode, _ subject: String, by component: String) -> Bool {
        self.component == component && finding.code == code && finding.subject == subject
    }
}

extension PipelineMonitor {
    /// - Returns: whether it is new, or says something else than before.
    func raised(_ finding: Finding, by component: String) -> Bool {
        var isNew = false
        update { facts in
            let new = StandingFinding(component: component, finding: finding)
            if let index = facts.findings.firstIndex(where: { $0.isSame(as: new) }) {
                facts.findings[index] = new
            } else {
                facts.findings.append(new)
            }
            isNew = !facts.said.contains(new)
            // A connection that comes and goes must not fill the log with what is known.
            facts.said.removeAll { $0.isSame(as: new) }
            facts.said.append(new)
        }
        return isNew
    }

    func settled(_ code: ErrorCode, _ subject: String, by component: String) {
        update { facts in
            facts.findings.removeAll { $0.isAbout(code, subject, by: component) }
            facts.said.removeAll { $0.isAbout(code, subject, by: component) }
        }
    }

    /// The connector is opened anew and raises what still holds.
    func forgetFindings(of component: String) {
        update { $0.findings.removeAll { $0.component == component } }
    }
}
