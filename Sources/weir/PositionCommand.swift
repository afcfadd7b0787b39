import ArgumentParser
import WeirConfig
import WeirCore
import WeirEngine

struct PositionCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "position",
        abstract: "Show or move where a pipeline stands.",
        subcommands: [Show.self, Set.self])

    struct Show: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Show the stored position of each sink.")

        @Argument(help: "The pipeline.") var pipeline: String
        @OptionGroup var config: ConfigOptions
        @OptionGroup var state: StateOptions

        func run() async throws {
            var misfit: Failure?
            var notation: SourceNotation?
            do {
                notation = try config.load(outcome: nil).pipeline(pipeline).plan.notation
            } catch let failure as Failure where failure.exitCode == .configuration {
                // The state knows the position all the same.
                guard state.directory.hasStore else { throw failure }
                misfit = failure
            }
            try await show(notation)
            if let misfit { throw misfit }
        }

        private func show(_ notation: SourceNotation?) async throws {
            let directory = state.directory
            guard directory.hasStore else {
                print("\(pipeline) has not been started yet")
                return
            }
            try await withStore(directory, .reading) { store, _ in
                let rows = try await store.checkpoints(of: pipeline)
                guard let known = try await store.pipeline(pipeline), !rows.isEmpty else {
                    if notation != nil { print("\(pipeline) has not been started yet") }
                    return
                }
                let source = try await store.configured(of: pipeline)["source"]?.settings
                let notation = notation ?? .of(source?.type)
                print("\(pipeline)  \(known.identity)  epoch \(known.epoch)")
                for row in rows {
                    let mark = row.mark.map { "  mark \($0.text)" } ?? ""
                    print(
                        "  \(row.sink)  \(notation.display(row.position))  "
                            + "stored \(ISOTime.text(row.updatedMicros))\(mark)")
                    if notation.hasLongForm {
                        print("    \(notation.exact(row.position))")
                    }
                }
            }
        }
    }

    struct Set: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Move a pipeline to another position, declaring the gap.",
            discussion: """
                now        the source's present (PostgreSQL: a new slot): what came before is not
                           delivered
                confirmed  where the source's slot (PostgreSQL) or the last of the sinks (MongoDB)
                           stands
                an LSN     PostgreSQL: between where the slot stands and the end of the log
                a time     MongoDB: such as 2026-11-21T02:03:04Z, within the oplog
                a token    MongoDB: as weir position show or an error prints it

                The daemon must be stopped. Without --yes it only says what would happen. Files
                are continued at their present end.
                """)

        @Argument(help: "The pipeline.") var pipeline: String
        @Argument(help: "now, confirmed, or a position in the source's own notation.") var target:
            String
        @Flag(help: "Do it.") var yes = false
        @OptionGroup var config: ConfigOptions
        @OptionGroup var state: StateOptions

        func run() async throws {
            let plan = try config.load(outcome: nil).pipeline(pipeline).plan
            try await withStore(state.directory, .writing) { store, thread in
                let source = try plan.makeOfflineSource(store, on: thread)
                guard let seeker = source as? any SourceSeek else {
                    throw Failure(.usage, "error: the source of \(plan.name) cannot be moved")
                }
                let seek = Seek(plan: plan, store: store, directory: state.directory)
                let seekPlan = try await seeker.planSeek(to: target, from: try await seek.stored())
                for effect in seekPlan.effects { print(effect) }
                guard yes else {
                    print("Nothing was changed. Do it with: --yes")
                    return
                }
                let moved = try await seek.apply(seeker, seekPlan)
                print("\(plan.name) goes on at \(plan.notation.display(moved.position))")
            }
        }
    }
}

/// What a command does with the state store.
enum StoreAccess {
    case reading
    /// Takes the daemon's lock.
    case writing
    /// Only what no daemon has in memory.
    case writingBesideADaemon
}

/// Opens the state store for one command.
func withStore(
    _ directory: StateDirectory, _ access: StoreAccess,
    _ body: (StateStore, ThreadExecutor) async throws -> Void
) async throws {
    let thread = ThreadExecutor(name: "state")
    defer { thread.stop() }
    do {
        // Who only looks, also root, changes nothing about the folder.
        if access != .reading { try directory.create() }
        guard access == .writing else {
            let isReadOnly = access == .reading
            try await body(
                StateStore(directory: directory, executor: thread, isReadOnly: isReadOnly), thread)
            return
        }
        let lock = try directory.lock()
        try await body(StateStore(directory: directory, executor: thread), thread)
        _ = consume lock
    } catch let error as WeirError {
        throw Failure(error)
    }
}
