import ArgumentParser
import Foundation
import Glibc
import WeirConfig
import WeirCore
import WeirEngine

struct StatusCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "status",
        abstract: "Show how far behind the pipelines are and what is wrong.",
        discussion: """
            LAG counts from the oldest change that is not delivered, and at least from the last \
            time the source was heard; "?" means not known. QUEUED is what waits in memory. IN/s \
            and OUT/s are of the last ten seconds, OUT/s and LAST 10m of the fastest sink. ERR/h \
            counts failed attempts of the last hour, since the daemon's start at most.

            A pipeline is starting, streaming, catching_up (more than five seconds behind), \
            failing (tried again by itself) or stopped (needs an operator). A sink is ok, retrying, \
            stuck (has not answered for ten seconds), spilling (what comes for it goes to disk), \
            waiting (for another sink or the source), failed (it stopped the pipeline), stopped \
            (with its pipeline) or unknown (the daemon is down).

            Works with the daemon down too: positions then come from the state directory and what \
            the sources keep from the sources themselves.

            Exit code: 0 all pipelines run; 75 at least one is failing or still starting and none \
            is stopped; 69 at least one is stopped, or the daemon is down or does not answer; 77 \
            the daemon is another user's; 78 the daemon is down and the configuration does not \
            load.
            """)

    @Argument(help: "One pipeline in detail.") var pipeline: String?
    @OptionGroup var config: ConfigOptions
    @OptionGroup var state: StateOptions
    @Flag(help: "Print everything as JSON (schema weir.status/1).") var json = false
    @Flag(help: "Show it again every second until interrupted.") var watch = false
    @Flag(help: "Use ASCII characters only.") var ascii = false

    func run() async throws {
        while true {
            let (known, misfit) = try await report()
            let report = known.completed(by: Hints.commands(of: known.configuration?.path))
            let names = report.pipelines.map(\.name) + report.orphans.map(\.name)
            if let pipeline, !names.contains(pipeline) {
                let near =
                    names.nearest(to: pipeline)
                    .map { " Did you mean \"\($0)\"?" } ?? ""
                throw Failure(.usage, "error: there is no pipeline \"\(pipeline)\".\(near)")
            }
            if watch && isatty(STDOUT_FILENO) == 1 { printData("\u{1B}[H\u{1B}[2J") }
            printData(try text(report))
            guard watch else {
                if let misfit { throw misfit }
                let code = Self.exitCode(report, of: pipeline)
                if code != .ok { Glibc.exit(code.rawValue) }
                return
            }
            try await Task.sleep(for: .seconds(1))
        }
    }

    /// Of one pipeline, or the worst of all.
    static func exitCode(_ report: StatusReport, of pipeline: String?) -> WeirExit {
        guard report.isRunning else { return .unavailable }
        let states = report.pipelines.filter { $0.name == pipeline ?? $0.name }.map(\.state)
        if states.contains(.stopped) { return .unavailable }
        // One that is starting cannot know yet whether all is well.
        return states.contains(.failing) || states.contains(.starting) ? .temporary : .ok
    }

    private func text(_ report: StatusReport) throws -> String {
        if json {
            var report = report
            if let pipeline {
                report.pipelines.removeAll { $0.name != pipeline }
                report.orphans.removeAll { $0.name != pipeline }
            }
            return VisibleText.json(String(decoding: try report.json(), as: UTF8.self)) + "\n"
        }
        let isPlain = ascii || environment("LANG")?.uppercased().contains("UTF") == false
        let table = StatusTable(isASCII: isPlain, nowMicros: WallClock.micros())
        if let pipeline, let found = report.pipelines.first(where: { $0.name == pipeline }) {
            return table.detail(found, isRunning: report.isRunning)
        }
        if let pipeline, let orphan = report.orphans.first(where: { $0.name == pipeline }) {
            return table.lines(orphan)
        }
        return table.overview(report)
    }

    /// With why the configuration does not load, where it was needed: what the state knows is shown
    /// all the same.
    private func report() async throws -> (StatusReport, Failure?) {
        let directory = state.directory
        do throws(WeirError) {
            if let report = try await ControlClient.running(in: directory) { return (report, nil) }
        } catch {
            throw Failure(error)
        }
        let status = OfflineStatus(directory: directory, restore: config.restore)
        do {
            return (try await status.report(config.load(outcome: nil)), nil)
        } catch let failure as Failure where failure.exitCode == .configuration {
            guard directory.hasStore else { throw failure }
            return (try await status.remembered(unread: config.path), failure)
        }
    }
}
