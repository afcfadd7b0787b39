import Foundation

/// Initialised data folders, one per version and `initdb` arguments, copied for each server: a copy
/// takes a tenth of the time of `initdb`. They go when the process ends.
actor PostgresTemplates {
    static let shared = PostgresTemplates()

    private struct Key: Hashable {
        let folder: String
        let arguments: [String]
    }

    private var templates: [Key: Task<TemporaryDirectory, any Error>] = [:]

    /// The folder that holds an initialised `data`; concurrent callers share one `initdb`.
    func template(
        _ programs: PostgresPrograms,
        _ account: ServerAccount?,
        arguments: [String]
    ) async throws -> TemporaryDirectory {
        let key = Key(folder: programs.folder, arguments: arguments)
        if let known = templates[key] { return try await known.value }
        let task = Task { try await Self.initialise(programs, account, arguments) }
        templates[key] = task
        return try await task.value
    }

    private static func initialise(
        _ programs: PostgresPrograms,
        _ account: ServerAccount?,
        _ arguments: [String]
    ) async throws -> TemporaryDirectory {
        let folder = try TemporaryDirectory()
        try account?.own(folder.path)
        let command = Command(
            path: programs.path("initdb"),
            arguments: [
                "-D", folder.file("data"), "-U", "postgres", "-A", "trust", "-E", "UTF8",
                "--locale=C.UTF-8", "--no-sync",
            ] + arguments,
            environment: PostgresServer.environment,
            directory: folder.path
        )
        let initdb = try ChildProcess(
            account?.running(command) ?? command,
            orphanSignal: "KILL"
        )
        let status = try await initdb.wait(within: .seconds(120))
        guard status == .exited(0) else {
            throw TestingError("initdb failed with \(status): \(try initdb.standardError())")
        }
        let configuration = folder.file("data/postgresql.conf")
        let text = try readText(configuration)
        try Data("\(text)\ninclude 'weir.conf'\n".utf8)
            .write(to: URL(fileURLWithPath: configuration))
        return folder
    }
}
