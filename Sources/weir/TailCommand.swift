import ArgumentParser
import Glibc
import Logging
import Synchronization
import UnixSignals
import WeirConfig
import WeirCore
import WeirEngine
import WeirJSON

struct TailCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "tail",
        abstract: "Print changes as they happen.",
        discussion: """
            Of a database by its URL, mongodb://host/database, or of the source of a pipeline of the
            configuration. Nothing is stored, and what pipelines do is not touched. Ends with ^C, or
            after -n changes.
            """)

    @Argument(help: "A mongodb:// URL, or a pipeline.") var source: String
    @Option(
        name: [.customShort("t"), .customLong("table")],
        help: "Only this collection, as database.collection; may be given more than once.")
    var tables: [String] = []
    @Flag(help: "One JSON object per change, as the format weir.") var json = false
    @Option(name: [.customShort("n"), .customLong("number")], help: "End after so many changes.")
    var number: Int?
    @Flag(help: "Read a server on another host although the URL asks for no TLS.")
    var allowPlaintext = false
    @OptionGroup var config: ConfigOptions

    func validate() throws {
        if let number, number < 1 { throw ValidationError("-n must be at least 1") }
    }

    func run() async throws {
        let (plan, daemon) = try source.contains("://") ? forURL() : forPipeline()
        LogOutput.bootstrap(daemon)
        var logger = Logger(label: "weir")
        logger.logLevel = .warning
        let folder = try Self.temporaryFolder()
        defer { try? folder.remove() }
        do {
            try folder.directory.create()
            let thread = ThreadExecutor(name: "state")
            defer { thread.stop() }
            let store = try StateStore(directory: folder.directory, executor: thread)
            let stop = Stop()
            let pipeline = Pipeline(
                limited(plan, stop), store: store,
                directory: folder.directory, logger: logger)
            stop.action = { pipeline.stop() }
            let signals = await UnixSignalsSequence(trapping: .sigterm, .sigint)
            let listener = Task { for await _ in signals { pipeline.stop() } }
            defer { listener.cancel() }
            if case .failed(let error) = await pipeline.run(isOnce: false) { throw error }
        } catch let error as WeirError {
            throw Failure(error)
        }
    }

    // MARK: What is followed

    private func forURL() throws -> (PipelinePlan, DaemonSettings) {
        let scheme = source.prefix { $0 != ":" }
        guard scheme == "mongodb" || scheme == "mongodb+srv" else {
            throw Failure(
                .usage,
                "error: weir tail does not read \(scheme):// URLs\n"
                    + "  For PostgreSQL, make a pipeline with a sink { \"type\": \"stdout\" }: its "
                    + "slot must be somebody's.")
        }
        warnOfPassword()
        let made = try load(
            source: #"{ "connection": "tail"\#(sourceKeys(database: Self.database(of: source))) }"#,
            url: #"{ "env": "WEIR_TAIL_URL" }"#)
        return (made.pipelines[0].plan, made.daemon)
    }

    /// The keys that say what of it is followed.
    private func sourceKeys(database: String?) -> String {
        if !tables.isEmpty {
            return #", "collections": [\#(tables.map(Self.quoted).joined(separator: ", "))]"#
        }
        return database.map { #", "database": \#(Self.quoted($0))"# } ?? ""
    }

    /// A configuration of one pipeline, made as a user would write it.
    private func load(source: String, url: String) throws -> Configuration {
        let format = json ? "weir" : "text"
        let text = """
            { "connections": { "tail": { "type": "mongodb", "url": \(url), "allow_plaintext": \(allowPlaintext) } }, "pipelines": { "tail": { "source": \(source),
              "sinks": { "out": { "type": "stdout", "format": "\(format)" } } } } }
            """
        let given = self.source
        let environment = ConfigEnvironment(
            variable: { $0 == "WEIR_TAIL_URL" ? given : nil },
            readFile: ConfigEnvironment.process.readFile)
        let check = ConfigLoader(descriptors: connectors).check(
            bytes: Array(text.utf8), fileName: "weir tail", environment: environment)
        guard let configuration = check.configuration else {
            throw Failure(
                .usage, "error: " + check.diagnostics.map(\.message).joined(separator: "\nerror: "))
        }
        return configuration
    }

    private func forPipeline() throws -> (PipelinePlan, DaemonSettings) {
        let configuration = try config.load(outcome: nil)
        let found = try configuration.pipeline(source)
        guard found.source.role.hasManyReaders else {
            throw Failure(
                .usage,
                "error: weir tail cannot read the source of \(source) beside its pipeline: a "
                    + "source of type \(found.source.type) has one reader\n"
                    + "  Give the pipeline a sink { \"type\": \"stdout\" } or { \"type\": \"file\" }."
            )
        }
        // Only its sink is used.
        let made = try load(
            source: #"{ "connection": "tail" }"#, url: #""mongodb://localhost""#)
        let plan = PipelinePlan(
            name: "tail", sourceType: found.source.type, notation: found.plan.notation,
            connection: found.plan.connection,
            sinks: made.pipelines[0].plan.sinks, makeSource: found.plan.makeSource)
        return (plan, made.daemon)
    }

    private static func quoted(_ text: String) -> String {
        var writer = JSONWriter(capacity: 64)
        writer.appendQuoted(string: text)
        return unsafe writer.withBytes { unsafe String(decoding: $0, as: UTF8.self) }
    }

    /// What stands between the host and the options.
    private static func database(of url: String) -> String? {
        guard let rest = url.split(separator: "://", maxSplits: 1).last,
            let slash = rest.firstIndex(of: "/")
        else { return nil }
        let name = rest[rest.index(after: slash)...].prefix { $0 != "?" }
        return name.isEmpty ? nil : String(name)
    }

    // MARK: Secrets

    /// A password in an argument is seen by everyone on the machine: it is wiped from the process's
    /// title, which does not help against who looked before.
    private func warnOfPassword() {
        guard let at = source.firstIndex(of: "@"), source[..<at].split(separator: ":").count > 2
        else { return }
        printError("warning: the URL's password was visible to every user of this machine\n")
        let arguments = unsafe UnsafeMutableBufferPointer(
            start: CommandLine.unsafeArgv, count: Int(CommandLine.argc))
        for index in 0..<arguments.count {
            guard let argument = unsafe arguments[index], unsafe String(cString: argument) == source
            else { continue }
            unsafe memset(argument, Int32(UInt8(ascii: "*")), strlen(argument))
        }
    }

    // MARK: Running

    private struct Folder {
        let directory: StateDirectory

        func remove() throws {
            let path = directory.path
            for name in [
                "state.sqlite", "state.sqlite-wal", "state.sqlite-shm", "state.reserve", "weir.pid",
            ] {
                unsafe unlink("\(path)/\(name)")
            }
            unsafe rmdir("\(path)/spill")
            unsafe rmdir(path)
        }
    }

    private static func temporaryFolder() throws -> Folder {
        var template = Array("\(environment("TMPDIR") ?? "/tmp")/weir-tail.XXXXXX".utf8CString)
        let made = unsafe template.withUnsafeMutableBufferPointer { buffer -> String? in
            guard let start = buffer.baseAddress, let path = unsafe mkdtemp(start) else {
                return nil
            }
            return unsafe String(cString: path)
        }
        guard let made else { throw Failure(.temporary, "error: could not make a folder in /tmp") }
        return Folder(directory: StateDirectory(made))
    }

    private func limited(_ plan: PipelinePlan, _ stop: Stop) -> PipelinePlan {
        let limit = number ?? .max
        let out = plan.sinks[0]
        return PipelinePlan(
            name: plan.name, sourceType: plan.sourceType, notation: plan.notation,
            connection: plan.connection,
            sinks: [
                SinkPlan(name: out.name, type: out.type) { (context) throws(WeirError) in
                    LimitedSink(try out.make(context), context, limit: limit) { stop.action?() }
                }
            ], makeSource: plan.makeSource)
    }

    /// Ends the pipeline, which does not exist yet when its sink is made.
    private final class Stop: Sendable {
        private let stored = Mutex<(@Sendable () -> Void)?>(nil)
        var action: (@Sendable () -> Void)? {
            get { stored.withLock { $0 } }
            set { stored.withLock { $0 = newValue } }
        }
    }
}

/// Hands a sink so many events and no more, and none when nobody reads what it writes any more.
private actor LimitedSink: SinkConnector {
    struct Config: ConnectorConfig {
        static let fields: [ConfigField] = []
        init(_ scope: ConfigScope) throws(ConfigIssue) {}
    }

    private let sink: any SinkConnector
    private let executor: any SerialExecutor
    private var left: Int
    private let done: @Sendable () -> Void

    nonisolated var unownedExecutor: UnownedSerialExecutor {
        unsafe executor.asUnownedSerialExecutor()
    }

    init(_ config: Config, _ context: ConnectorContext) throws(WeirError) {
        throw WeirError(.bug, .bug, "made from a configuration")
    }

    init(
        _ sink: any SinkConnector, _ context: ConnectorContext, limit: Int,
        done: @escaping @Sendable () -> Void
    ) {
        self.sink = sink
        executor = context.executor
        left = limit
        self.done = done
    }

    func open(at mark: SinkMark?) async throws(WeirError) -> SinkMark? {
        try await sink.open(at: mark)
    }

    func write(_ batches: [EventBatch]) async throws(WeirError) -> WriteOutcome {
        var taken: [EventBatch] = []
        var count = 0
        for batch in batches where count < left {
            let events = Array(batch.events.prefix(left - count))
            count += events.count
            taken.append(
                EventBatch(
                    tables: batch.tables, events: events, values: batch.values,
                    arena: batch.arena, resume: batch.resume, end: batch.end))
        }
        do throws(WeirError) {
            let outcome = try await sink.write(taken)
            left -= count
            if left == 0 { done() }
            return outcome
        } catch {
            // A reader such as `head` that has gone away has seen what it wanted.
            guard error.code.name == "file.write_failed", error.disposition == .blocked else {
                throw error
            }
            left = 0
            done()
            return WriteOutcome(.durable, delivered: 0)
        }
    }

    func flush() async throws(WeirError) { try await sink.flush() }
    func close() async { await sink.close() }
}
