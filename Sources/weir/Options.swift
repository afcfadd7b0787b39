import ArgumentParser
import Glibc
import WeirConfig
import WeirCore
import WeirEngine

/// `--state-dir`, as every command that looks at the daemon takes it.
struct StateOptions: ParsableArguments {
    @Option(
        name: .long,
        help: "Where positions, socket, pid and log are kept (default: $XDG_STATE_HOME/weir).")
    var stateDir: String?

    /// `--state-dir`, else `$STATE_DIRECTORY` (systemd), else `$XDG_STATE_HOME/weir`, else
    /// `~/.local/state/weir`, also where `HOME` is not set; always absolute, because a daemon
    /// changes nothing about its folder.
    var directory: StateDirectory {
        StateDirectory(absolute(chosen))
    }

    func validate() { Hints.use(stateDirectory: directory.path) }

    private var chosen: String {
        if let stateDir { return stateDir }
        // systemd may name several, separated by colons; the first is ours.
        if let given = environment("STATE_DIRECTORY")?.split(separator: ":").first {
            return String(given)
        }
        return Self.defaultPath
    }

    /// Where an operator's command looks that was told nothing.
    static var defaultPath: String {
        if let base = environment("XDG_STATE_HOME") { return base + "/weir" }
        if let home = environment("HOME") ?? homeOfUser() {
            return home + "/.local/state/weir"
        }
        // Never below a folder that others write to, as /tmp is.
        return "/var/lib/weir"
    }

    /// As the system's list of users has it.
    private static func homeOfUser() -> String? {
        var entry = unsafe passwd()
        var found: UnsafeMutablePointer<passwd>?
        var buffer = [CChar](repeating: 0, count: 16_384)
        let code = unsafe getpwuid_r(geteuid(), &entry, &buffer, buffer.count, &found)
        guard code == 0, unsafe found != nil, let home = unsafe entry.pw_dir else { return nil }
        let path = unsafe String(cString: home)
        return path.hasPrefix("/") && path != "/" ? path : nil
    }
}

/// `-c FILE`.
struct ConfigOptions: ParsableArguments {
    @Option(
        name: [.customShort("c"), .customLong("config")],
        help: "The configuration file (default: ./weir.json, then /etc/weir/weir.json).")
    var config: String?

    var path: String {
        if let config { return config }
        if let given = environment("WEIR_CONFIG") { return given }
        return unsafe access("weir.json", F_OK) == 0 ? "weir.json" : Self.systemPath
    }

    /// What a command finds in any folder, unless that has a file of its own.
    static let systemPath = "/etc/weir/weir.json"

    func validate() { Hints.use(configuration: path) }

    /// The checked file; warnings go to stderr.
    ///
    /// - Throws: every error of the file at once, with exit code 78.
    func load(outcome: String? = "nothing was started") throws -> Configuration {
        try loadFile(outcome: outcome, showsRights: false).configuration
    }

    /// The checked file, and what tells it from a later one.
    func loadFile(
        outcome: String? = "nothing was started", showsRights: Bool = true
    ) throws -> (configuration: Configuration, report: ConfigurationReport) {
        let check = ConfigLoader(descriptors: connectors).load(path: path)
        let text = check.rendered(
            colored: isColored(STDERR_FILENO), outcome: outcome, showsRights: showsRights)
        guard let configuration = check.configuration else {
            throw Failure(.configuration, text)
        }
        if !text.isEmpty { printError(text) }
        return (
            configuration, ConfigurationReport(path: resolved(path), bytes: check.bytes)
        )
    }
}

extension Configuration {
    /// One pipeline by name.
    func pipeline(_ name: String) throws -> PipelineConfiguration {
        if let found = pipelines.first(where: { $0.name == name }) { return found }
        let near = pipelines.map(\.name).nearest(to: name).map { " Did you mean \"\($0)\"?" } ?? ""
        throw Failure(
            .usage, "error: there is no pipeline \"\(name)\" in the configuration.\(near)")
    }
}

extension PipelineConfiguration {
    /// What the engine needs of it.
    var plan: PipelinePlan {
        let source = source
        return PipelinePlan(
            name: name, sourceType: source.type, notation: source.role.notation,
            connection: source.connectionName ?? source.type,
            warnings: warnings,
            sinks: sinks.map { sink in
                SinkPlan(
                    name: sink.name, type: sink.type, queueBytes: sink.queueBytes,
                    spillBytes: sink.spillBytes,
                    settings: ComparedSettings(
                        sink.settings, passingKeys: sink.role.passingKeys,
                        isAppendOnly: sink.role.isAppendOnly),
                    make: { (context) throws(WeirError) in
                        try sink.role.make(sink.config, context)
                    })
            },
            settings: ComparedSettings(
                source.settings, passingKeys: source.role.passingKeys),
            makeRowReader: source.makeRowReader,
            makeSource: { (context) throws(WeirError) in
                try source.role.make(source.config, context)
            })
    }
}

extension SourceConfiguration {
    fileprivate var makeRowReader:
        (@Sendable (ConnectorContext) throws(WeirError) -> any RowReader)?
    {
        guard let make = role.makeRowReader else { return nil }
        return { [config] (context) throws(WeirError) -> any RowReader in
            try make(config, context)
        }
    }
}

func environment(_ name: String) -> String? {
    guard let value = unsafe getenv(name) else { return nil }
    let text = unsafe String(cString: value)
    return text.isEmpty ? nil : text
}

func absolute(_ path: String) -> String {
    if path.hasPrefix("/") { return path }
    guard let here = unsafe getcwd(nil, 0) else { return path }
    defer { unsafe free(here) }
    return unsafe String(cString: here) + "/" + path
}

/// Without links and dots, so that two ways to name one file compare equal.
func resolved(_ path: String) -> String {
    guard let real = unsafe realpath(path, nil) else { return absolute(path) }
    defer { unsafe free(real) }
    return unsafe String(cString: real)
}
