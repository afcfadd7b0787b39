import ArgumentParser
import Foundation
import WeirConfig
import WeirCore
import WeirEngine

struct GapCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "gap",
        abstract: "List what targets lack, and say that it is closed.",
        discussion: """
            A gap is declared when changes or rows will not reach a target and nothing will bring
            them by itself. It is shown here and in `weir status` until it is resolved. Works beside
            a running daemon, and for pipelines that are no longer configured.
            """,
        subcommands: [List.self, Resolve.self])

    struct List: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "List the open gaps.")

        @Argument(help: "Those of one pipeline.") var pipeline: String?
        @Flag(help: "Print them as JSON (schema weir.gaps/1).") var json = false
        @OptionGroup var config: ConfigOptions
        @OptionGroup var state: StateOptions

        func run() async throws {
            var gaps: [GapRow] = []
            if state.directory.hasStore {
                try await withStore(state.directory, .reading) { store, _ in
                    gaps = try await store.openGaps(of: pipeline)
                }
            }
            let isRunning = state.directory.runningPID() != nil
            let daemon =
                isRunning ? try? ControlClient(path: state.directory.socketPath).status() : nil
            let commands = Hints.commands(of: daemon?.configuration?.path)
            gaps = gaps.map { $0.completed(by: commands, besideDaemon: isRunning) }
            if json {
                try printData(VisibleText.json(GapList(gaps).text))
            } else if gaps.isEmpty {
                print("no gaps")
            } else {
                for gap in gaps { print(Self.text(gap)) }
            }
        }

        private static func text(_ gap: GapRow) -> String {
            var lines = [
                "\(gap.id)  \(gap.pipeline)/\(gap.component)  \(ISOTime.text(gap.declaredMicros))  "
                    + gap.code, "    \(gap.message)",
            ]
            if !gap.from.isEmpty || !gap.to.isEmpty {
                let ends = [gap.from, gap.to].map { $0.isEmpty ? "?" : $0 }
                lines.append("    from \(ends[0]) to \(ends[1])")
            }
            if !gap.hint.isEmpty { lines.append("    \(gap.hint)") }
            return VisibleText.ofLines(lines.joined(separator: "\n"))
        }
    }

    struct Resolve: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Say that gaps are closed, or that you live with them.",
            discussion: "Nothing is written to any target; the gaps are no longer shown.")

        @Argument(help: "The numbers of gaps.") var ids: [Int64] = []
        @Option(help: "All open gaps of this pipeline.") var all: String?
        @OptionGroup var config: ConfigOptions
        @OptionGroup var state: StateOptions

        func validate() throws {
            if ids.isEmpty == (all == nil) {
                throw ValidationError("Name gaps by their numbers, or a pipeline with --all.")
            }
        }

        func run() async throws {
            guard state.directory.hasStore else {
                throw Failure(.usage, "error: there are no gaps: no daemon was ever started here")
            }
            var unknown: [Int64] = []
            try await withStore(state.directory, .writingBesideADaemon) { store, _ in
                let open = try await store.openGaps()
                if let all, !open.contains(where: { $0.pipeline == all }) {
                    let names = Set(open.map(\.pipeline)).sorted()
                    let near = names.nearest(to: all).map { " Did you mean \"\($0)\"?" } ?? ""
                    throw Failure(
                        .usage, "error: pipeline \"\(all)\" has no open gaps.\(near)")
                }
                let chosen =
                    all.map { name in open.filter { $0.pipeline == name }.map(\.id) } ?? ids
                for id in chosen {
                    let isDone = try await store.resolveGap(id, atMicros: WallClock.micros())
                    if isDone { print("resolved gap \(id)") } else { unknown.append(id) }
                }
            }
            guard unknown.isEmpty else {
                let list = unknown.map { "\($0)" }.joined(separator: ", ")
                throw Failure(
                    .usage,
                    "error: there is no open gap \(list). weir gap list shows those there are.")
            }
        }
    }
}

/// What `weir gap list --json` prints: a contract, additive only.
private struct GapList: Encodable {
    struct Gap: Encodable {
        let pipeline: String
        let gap: GapReport

        private enum Key: String, CodingKey {
            case pipeline
        }

        func encode(to encoder: any Encoder) throws {
            try gap.encode(to: encoder)
            var members = encoder.container(keyedBy: Key.self)
            try members.encode(pipeline, forKey: .pipeline)
        }
    }

    let schema = "weir.gaps/1"
    let gaps: [Gap]

    init(_ rows: [GapRow]) {
        gaps = rows.map { Gap(pipeline: $0.pipeline, gap: GapReport($0)) }
    }

    var text: String {
        get throws {
            let encoder = JSONEncoder()
            encoder.keyEncodingStrategy = .convertToSnakeCase
            encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes, .prettyPrinted]
            return String(decoding: try encoder.encode(self), as: UTF8.self) + "\n"
        }
    }
}
