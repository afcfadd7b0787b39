import ArgumentParser
import WeirConfig
import WeirCore
import WeirEngine

struct DropCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "drop",
        abstract: "Remove what a pipeline keeps: slot, publication, positions, gaps.",
        discussion: """
            Works for a pipeline that is no longer in the configuration, from what the state
            remembers of it; the connection must still be there. Without --yes it only says what
            would happen. What sinks were delivered is left as it is. A daemon that runs the pipeline
            must be stopped.
            """)

    @Argument(help: "The pipeline.") var pipeline: String
    @Flag(help: "Do it.") var yes = false
    @Flag(help: "Forget the pipeline even where its servers cannot be reached; says what stays.")
    var forget = false
    @OptionGroup var config: ConfigOptions
    @OptionGroup var state: StateOptions

    func run() async throws {
        let directory = state.directory
        var configuration: Configuration?
        var fault: Failure?
        do { configuration = try config.load(outcome: nil) } catch let failure as Failure {
            fault = failure
        }
        let isConfigured = configuration?.pipelines.contains { $0.name == pipeline } == true
        if !isConfigured { try await checkKnown(configuration, fault) }
        // The state may know enough without the file.
        fault?.printToStderr()
        // One that the running daemon does not have may go beside it.
        let isRunning = try runs(pipeline)
        let access: StoreAccess = isConfigured || isRunning ? .writing : .writingBesideADaemon
        try await withStore(directory, access) { store, thread in
            let remembered = try await store.configured(of: pipeline).mapValues(\.settings)
            let configured = configuration?.pipelines.first { $0.name == pipeline }?.plan
            let work = DropWork(
                pipeline: pipeline, plan: configured ?? config.restore(pipeline, remembered),
                remembered: remembered, others: claims(configuration), store: store,
                thread: thread, directory: directory, forgets: forget)
            try await work.describe()
            guard yes else {
                print("Nothing was changed. Do it with: --yes")
                return
            }
            try await work.carryOut()
            print("dropped \(pipeline)")
        }
    }

    /// A name that neither the configuration nor the state has is a slip.
    private func checkKnown(_ configuration: Configuration?, _ fault: Failure?) async throws {
        var names = configuration?.pipelines.map(\.name) ?? []
        if state.directory.hasStore {
            try await withStore(state.directory, .reading) { store, _ in
                names += try await store.pipelineNames()
            }
        }
        if names.contains(pipeline) { return }
        if let fault { throw fault }
        let near = names.nearest(to: pipeline).map { " Did you mean \"\($0)\"?" } ?? ""
        throw Failure(
            .usage,
            "error: there is no pipeline \"\(pipeline)\" in the configuration or the state.\(near)")
    }

    private func runs(_ name: String) throws -> Bool {
        do throws(WeirError) {
            let report = try ControlClient(path: state.directory.socketPath).status()
            return report?.pipelines.contains { $0.name == name } == true
        } catch {
            throw Failure(error)
        }
    }

    /// What other pipelines use; it must stay.
    private func claims(_ configuration: Configuration?) -> Set<String> {
        Set(
            configuration?.pipelines.filter { $0.name != pipeline }
                .flatMap(\.source.settings.claims) ?? [])
    }
}

/// Removes what one pipeline keeps at its source, at its targets, and in the state.
private struct DropWork {
    let pipeline: String
    /// Nil when a connection is no longer configured.
    let plan: PipelinePlan?
    let remembered: [String: ConnectorSettings]
    /// Claims of the other pipelines.
    let others: Set<String>
    let store: StateStore
    let thread: ThreadExecutor
    let directory: StateDirectory
    let forgets: Bool

    /// What another pipeline's source uses as well, such as a slot both name.
    private var shared: [String] {
        let own = plan?.settings?.settings ?? remembered["source"]
        return own?.claims.filter { others.contains($0) } ?? []
    }

    func describe() async throws {
        for claim in shared { print("Leave \(claim): another pipeline uses it.") }
        try await clean(
            source: { (source) async throws(WeirError) in try await source.describeCleanUp() },
            sink: { (sink) async throws(WeirError) in try await sink.describeCleanUp() })
        print("Forget the positions, errors and gaps of \(pipeline).")
    }

    func carryOut() async throws {
        try await clean(
            source: { (source) async throws(WeirError) in try await source.cleanUp() },
            sink: { (sink) async throws(WeirError) in try await sink.cleanUp() })
        let sinks = try await store.checkpoints(of: pipeline).map(\.sink)
        try await store.remove(pipeline)
        directory.removeSpills(
            of: pipeline, sinks: Set(sinks + (plan?.sinks.map(\.name) ?? [])).sorted())
    }

    private func clean(
        source: (any SourceCleanup) async throws(WeirError) -> [String],
        sink: (any SinkCleanup) async throws(WeirError) -> [String]
    ) async throws {
        guard let plan else {
            let names = Set(remembered.values.compactMap(\.connection)).sorted()
            let reason =
                remembered.isEmpty
                ? "the state does not remember how \"\(pipeline)\" was configured"
                : "a connection of \"\(pipeline)\" is not in the configuration any more "
                    + "(it used \(names.map { "\"\($0)\"" }.joined(separator: ", ")))"
            try stays(WeirError(.dropIncomplete, .blocked, reason), Set(remembered.keys))
            return
        }
        if shared.isEmpty {
            do throws(WeirError) {
                let connector = try plan.makeOfflineSource(store, on: thread)
                if let cleaner = connector as? any SourceCleanup {
                    for sentence in try await source(cleaner) { print(sentence) }
                }
            } catch {
                try stays(error, ["source"])
            }
        }
        for planned in plan.sinks {
            do throws(WeirError) {
                let connector = try plan.makeOfflineSink(planned, store, on: thread)
                if let cleaner = connector as? any SinkCleanup {
                    for sentence in try await sink(cleaner) { print(sentence) }
                }
            } catch {
                try stays(error, [planned.name])
            }
        }
    }

    /// A server cannot be reached: without `--forget` nothing may be forgotten, or nobody would
    /// know of what stays there.
    private func stays(_ error: WeirError, _ components: Set<String>) throws {
        var lines: [String] = []
        for component in components.sorted() {
            let planned = component == "source" ? plan?.settings : settings(of: component)
            guard let settings = planned?.settings ?? remembered[component],
                !settings.removal.isEmpty
            else { continue }
            lines.append("at \(settings.place ?? settings.type):")
            lines += settings.removal.map { "  " + $0 }
        }
        let sql = lines.isEmpty ? nil : "Run by hand:\n  " + lines.joined(separator: "\n  ")
        if forgets {
            print("Left as it is: \(VisibleText.ofLines(error.message)).")
            if let sql { print(VisibleText.ofLines(sql)) }
            return
        }
        throw Failure(
            WeirError(
                .dropIncomplete, .blocked, error.message,
                detail: [error.detail, sql].compactMap(\.self).joined(separator: "\n  "),
                hint: "When it is reachable or removed by hand: weir drop \(pipeline) --yes, with "
                    + "--forget where it stays out of reach."))
    }

    private func settings(of sink: String) -> ComparedSettings? {
        plan?.sinks.first { $0.name == sink }?.settings
    }
}
