import Foundation
import Testing
import WeirTesting

/// What the program prints and what lies in `config` agree.
@Suite struct GeneratedFilesTests {
    /// `WEIR_BINARY`, else the one built beside the tests.
    private static let weir: String = {
        if let given = ProcessInfo.processInfo.environment["WEIR_BINARY"] { return given }
        let tests =
            (try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe"))
            ?? CommandLine.arguments[0]
        return URL(fileURLWithPath: tests).deletingLastPathComponent()
            .appendingPathComponent("weir").path
    }()

    @Test(arguments: [
        ("config/weir.schema.json", ["schema"]),
        ("config/reference.md", ["schema", "--reference"]),
    ])
    func generatedFilesAreFresh(path: String, command: [String]) throws {
        let printed = try runProcess(Self.weir, command)
        #expect(printed.status == .exited(0))
        let stored = try SourceFile(path).text
        #expect(
            printed.stdout == stored,
            "weir \(command.joined(separator: " ")) > \(path)")
    }

    @Test func everyConfigurationWeShipIsValid() throws {
        let files = try SourceFile.all(in: ["config"], endings: [".json"])
            .map(\.path).filter { !$0.hasSuffix("schema.json") }
        #expect(files.contains("config/weir.json"))
        #expect(files.contains { $0.hasPrefix("config/examples/") })
        for file in files {
            let answer = try runProcess(
                Self.weir, ["validate", file], environment: Self.variables(of: file),
                directory: repository.path)
            #expect(answer.status == .exited(0), "\(file): \(answer.stderr)")
        }
    }

    /// The variables its secrets come from, with a value each.
    private static func variables(of path: String) throws -> [String: String] {
        let text = try SourceFile(path).text
        var variables: [String: String] = [:]
        for match in text.matches(of: /"env"\s*:\s*"([^"]+)"/) {
            variables[String(match.1)] = "postgres://weir:secret@localhost/shop"
        }
        for match in text.matches(of: /"redis",\s*"url"\s*:\s*{\s*"env"\s*:\s*"([^"]+)"/) {
            variables[String(match.1)] = "redis://:secret@localhost/0"
        }
        for match in text.matches(of: /"mongodb",\s*"url"\s*:\s*{\s*"env"\s*:\s*"([^"]+)"/) {
            variables[String(match.1)] = "mongodb://weir:secret@localhost/?replicaSet=rs0"
        }
        return variables
    }
}
