import Foundation
import GRDB
import Logging
package import WeirCore

/// Why a pipeline stopped for good, as `status` showed it: kept, so that it shows the same while
/// the daemon is down. A pipeline that streams again, or was put at another position, has none.
enum StoppedNote {
    private static let key = "stopped"

    static func save(
        _ database: Database, _ pipeline: String, _ problem: ProblemReport
    ) throws {
        let text = String(decoding: try JSONEncoder().encode(problem), as: UTF8.self)
        try NoteRow.save(database, pipeline, key, text)
    }

    static func forget(_ database: Database, _ pipeline: String) throws {
        try database.execute(
            sql: "DELETE FROM note WHERE pipeline = ? AND key = ?", arguments: [pipeline, key])
    }

    static func find(_ database: Database, _ pipeline: String) throws -> ProblemReport? {
        guard let text = try NoteRow.find(database, pipeline, key) else { return nil }
        // Of another version, it may not be understood; the errors of the last day name it too.
        return try? JSONDecoder().decode(ProblemReport.self, from: Data(text.utf8))
    }
}

extension StateStore {
    func setStopped(_ problem: ProblemReport, of pipeline: String) throws(WeirError) {
        try write { try StoppedNote.save($0, pipeline, problem) }
    }

    func forgetStopped(of pipeline: String) throws(WeirError) {
        guard try stopped(of: pipeline) != nil else { return }
        try write { try StoppedNote.forget($0, pipeline) }
    }

    package func stopped(of pipeline: String) throws(WeirError) -> ProblemReport? {
        try read { try StoppedNote.find($0, pipeline) }
    }
}

extension Pipeline {
    /// Said by `status` from now on, whether the daemon runs or not.
    func stopped(by error: WeirError) async {
        monitor.update {
            $0.state = .stopped
            $0.stopped = error
            $0.stoppedMicros = WallClock.micros()
        }
        let problems = Problems(
            plan: plan, facts: monitor.now, lanes: [:], nowMicros: WallClock.micros())
        guard let problem = problems.all.first else { return }
        do throws(WeirError) { try await store.setStopped(problem, of: plan.name) } catch {
            logger.warning("\(error)")
        }
    }
}
