import Foundation
import Glibc
import WeirTesting

/// The `weir` under test.
struct WeirProgram: Sendable {
    let path: String

    static func besideThisProgram() throws -> WeirProgram {
        let own = try FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe")
        let folder = URL(fileURLWithPath: own).deletingLastPathComponent().path
        let path = folder + "/weir"
        guard FileManager.default.isExecutableFile(atPath: path) else {
            throw TestingError(
                "there is no \"\(path)\"; build it with: "
                    + "swift build -c release --static-swift-stdlib --product weir")
        }
        return WeirProgram(path: path)
    }
}

/// What a pipeline reads, as it stands in the configuration.
struct BenchmarkSource: Sendable {
    /// The connection's keys.
    let connection: String
    /// The source's own keys.
    let keys: String

    init(connection: String, keys: String) {
        self.connection = connection
        self.keys = keys
    }

    init(_ server: PostgresServer, _ table: SourceTable) {
        connection = #""type": "postgres", "url": "\#(server.url())""#
        keys = #""tables": ["public.\#(table.name)"]"#
    }
}

/// One pipeline that writes changes to a destination, with a state directory of its own.
struct BenchmarkPipeline: Sendable {
    let name: String
    private let configPath: String
    private let statePath: String

    init(
        _ name: String, _ source: BenchmarkSource, to destination: some Destination,
        in folder: TemporaryDirectory
    ) throws {
        self.name = name
        statePath = folder.file("\(name).state")
        configPath = try folder.write(
            """
            {
              "connections": {
                "bench": { \(source.connection) }\(destination.connections)
              },
              "pipelines": {
                "\(name)": {
                  "source": { "connection": "bench", \(source.keys) },
                  "sinks": { "out": \(destination.sink) }
                }
              }
            }
            """, to: "\(name).json")
    }

    /// A table's changes.
    init(
        _ name: String, _ server: PostgresServer, _ table: SourceTable = Orders.table,
        to destination: some Destination, in folder: TemporaryDirectory
    ) throws {
        try self.init(name, BenchmarkSource(server, table), to: destination, in: folder)
    }

    /// To a file in the folder that nobody looks at.
    init(_ name: String, _ server: PostgresServer, in folder: TemporaryDirectory) throws {
        let file = OutputFile(path: folder.file("\(name).jsonl"))
        try self.init(name, server, to: file, in: folder)
    }

    /// The arguments of `weir` for one of its commands.
    func arguments(_ command: [String]) -> [String] {
        command + ["--config", configPath, "--state-dir", statePath]
    }

    var control: ControlSocket { ControlSocket(path: statePath + "/weir.sock") }
}
