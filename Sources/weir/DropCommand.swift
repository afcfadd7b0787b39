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
            must be stopped. What another pipeline uses as well stays; while the configuration cannot
            be read, that is not known, and nothing is removed.
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
            let work = DropWork(
                pipeline: pipeline, plan: plan(configuration, remembered, fault),
                remembered: remembered, others: try await used(configuration, store), store: store,
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

    private func plan(
        _ configuration: Configuration?, _ remembered: [String: ConnectorSettings],
        _ fault: Failure?
    ) -> Result<PipelinePlan, WeirError> {
        if let found = configuration?.pipelines.first(where: { $0.name == pipeline }) {
            return .success(found.plan)
        }
        if fault != nil {
            // One that was never started is in the file alone.
            return .failure(
                WeirError(
                    .dropIncomplete, .blocked,
                    "the configuration cannot be read, so what other pipelines use of it is not "
                        + "known",
                    hint: "Put the configuration right, then: weir drop \(pipeline) --yes. With "
                        + "--forget it is forgotten, and what it keeps at its servers stays."))
        }
        return Result { () throws(WeirError) in try config.restore.plan(pipeline, remembered) }
    }

    /// What other pipelines claim and use, those of the file and those of the state; it must stay.
    private func used(
        _ configuration: Configuration?, _ store: StateStore
    ) async throws -> Set<String> {
        var settings: [ConnectorSettings] = []
        for other in configuration?.pipelines ?? [] where other.name != pipeline {
            settings += [other.source.settings] + other.sinks.map(\.settings)
        }
        for name in try await store.pipelineNames() where name != pipeline {
            settings += try await store.configured(of: name).values.map(\.settings)
        }
        return Set(settings.flatMap { $0.claims + $0.uses })
    }
}

/// Removes what one pipeline keeps at its source, at its targets, and in the state.
private struct DropWork {
    let pipeline: String
    /// Or why there is none, as where a connection is no longer configured.
    let plan: Result<PipelinePlan, WeirError>
    let remembered: [String: ConnectorSettings]
    /// What the other pipelines claim and use.
    let others: Set<String>
    let store: StateStore
    let thread: ThreadExecutor
    let directory: StateDirectory
    let forgets: Bool

    func describe() async throws {
        try await clean(
            source: { [others] (source) async throws(WeirError) in
                try await source.describeCleanUp(leaving: others)
            },
            sink: { [others] (sink) async throws(WeirError) in
                try await sink.describeCleanUp(leaving: others)
            })
        print("Forget the positions, errors and gaps of \(pipeline).")
    }

    func carryOut() async throws {
        try await clean(
            source: { [others] (source) async throws(WeirError) in
                try await source.cleanUp(leaving: others)
            },
            sink: { [others] (sink) async throws(WeirError) in
                try await sink.cleanUp(leaving: others)
            })
        let sinks = try await store.sinkNames(of: pipeline) + planned.map(\.name)
        try await store.remove(pipeline)
        directory.removeSpills(of: pipeline, sinks: Set(sinks).sorted())
    }

    private var planned: [SinkPlan] { (try? plan.get())?.sinks ?? [] }

    private func clean(
        source: (any SourceCleanup) async throws(WeirError) -> [String],
        sink: (any SinkCleanup) async throws(WeirError) -> [String]
    ) async throws {
        let plan: PipelinePlan
        switch self.plan {
        case .success(let made): plan = made
        case .failure(let error):
            try stays(error, Set(remembered.keys))
            return
        }
        do throws(WeirError) {
            let connector = try plan.makeOfflineSource(store, on: thread)
            if let cleaner = connector as? any SourceCleanup {
                for sentence in try await source(cleaner) { print(sentence) }
            }
        } catch {
            try stays(error, ["source"])
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

    /// A server cannot be cleaned: without `--forget` nothing may be forgotten, or no trace would
    /// be left of what stays there.
    private func stays(_ error: WeirError, _ components: Set<String>) throws {
        var lines: [String] = []
        for component in components.sorted() {
            guard let settings = settings(of: component) ?? remembered[component],
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
        let again = "weir drop \(pipeline) --yes"
        throw Failure(
            WeirError(
                .dropIncomplete, .blocked, error.message,
                detail: [error.detail, sql].compactMap(\.self).joined(separator: "\n  "),
                hint: error.code == .dropIncomplete
                    ? error.hint
                    : "When it is reachable or removed by hand: \(again), with --forget where it "
                        + "stays out of reach."))
    }

    private func settings(of component: String) -> ConnectorSettings? {
        guard let plan = try? plan.get() else { return nil }
        return component == "source"
            ? plan.settings?.settings
            : plan.sinks.first { $0.name == component }?.settings?.settings
    }
}
