import ArgumentParser
import WeirConfig
import WeirCore
import WeirEngine

struct DropCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "drop",
        abstract: "Remove a pipeline's slot, publication and state.",
        discussion: """
            The daemon must be stopped. Without --yes it only says what would happen. What sinks
            hold is left as it is.
            """)

    @Argument(help: "The pipeline.") var pipeline: String
    @Flag(help: "Do it.") var yes = false
    @OptionGroup var config: ConfigOptions
    @OptionGroup var state: StateOptions

    func run() async throws {
        let plan = try config.load(outcome: nil).pipeline(pipeline).plan
        try await withStore(state.directory, isReadOnly: false) { store, thread in
            let source = try plan.makeOfflineSource(store, on: thread)
            let cleaner = source as? any SourceCleanup
            let effects = try await cleaner?.describeCleanUp() ?? []
            for effect in effects { print(effect) }
            print("Forget the positions and errors of \(plan.name).")
            guard yes else {
                print("Nothing was changed. Do it with: --yes")
                return
            }
            for sentence in try await cleaner?.cleanUp() ?? [] { print(sentence) }
            try await store.remove(plan.name)
            state.directory.removeSpills(of: plan.name, sinks: plan.sinks.map(\.name))
            print("dropped \(plan.name)")
        }
    }
}
