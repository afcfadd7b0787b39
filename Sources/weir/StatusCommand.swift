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
            Works with the daemon down too: positions then come from the state directory and what
            the sources keep from the sources themselves; the exit code is 69.
            """)

    @Argument(help: "One pipeline in detail.") var pipeline: String?
    @OptionGroup var config: ConfigOptions
    @OptionGroup var state: StateOptions
    @Flag(help: "Print everything as JSON (schema weir.status/1).") var json = false
    @Flag(help: "Show it again every second until interrupted.") var watch = false
    @Flag(help: "Use ASCII characters only.") var ascii = false

    func run() async throws {
        while true {
            let report = try await report()
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
                if !report.isRunning { Glibc.exit(WeirExit.unavailable.rawValue) }
                return
            }
            try await Task.sleep(for: .seconds(1))
        }
    }

    private func text(_ report: StatusReport) throws -> String {
        if json {
            var report = report
            if let pipeline {
                report.pipelines.removeAll { $0.name != pipeline }
                report.orphans.removeAll { $0.name != pipeline }
            }
            return String(decoding: try report.json(), as: UTF8.self) + "\n"
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

    private func report() async throws -> StatusReport {
        let directory = state.directory
        do {
            if let report = try ControlClient(path: directory.socketPath).status() { return report }
        } catch {
            throw Failure(error)
        }
        return try await OfflineStatus(
            configuration: config.load(outcome: nil), directory: directory, restore: config.restore
        )
        .report()
    }
}
