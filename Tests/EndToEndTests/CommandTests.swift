import Foundation
import Glibc
import Testing
import WeirTesting

extension EndToEnd {
    /// Commands that need no daemon.
    @Suite struct CommandTests {
        private static let bad = """
            {
              "connections": { "db": { "type": "postgres", "url": "postgres://h/d", "usr": "x" } },
              "pipelines": {
                "shop": {
                  "source": { "connection": "dbb", "tables": ["public.t"] },
                  "sinks": { "file": { "type": "file", "path": "x", "queue": "1 parsec" } }
                }
              }
            }
            """

        private static func home(_ text: String = bad) throws -> WeirHome {
            try WeirHome { _ in text }
        }

        private static func plain(_ arguments: String..., stdin: String = "") throws -> Answer {
            try Answer(runProcess(weirBinary, arguments, stdin: stdin))
        }

        @Test func versionSchemaAndExplainDocumentTheBinary() throws {
            let version = try Self.plain("version")
            #expect(version.code == 0)
            #expect(version.out.wholeMatch(of: /weir \d+\.\d+\.\d+\n/) != nil)
            #expect(try Self.plain("--version").out == version.out.dropFirst(5))

            let schema = try Self.plain("schema")
            let object = try #require(
                try JSONSerialization.jsonObject(with: Data(schema.out.utf8)) as? [String: Any])
            #expect((object["$schema"] as? String)?.contains("draft-07") == true)
            #expect(try Self.plain("schema", "--path", "pipelines.*.source").code == 0)
            #expect(try Self.plain("schema", "--path", "pipeline.nothing").code == 64)
            // What `config.unknown_type` advises.
            let advice = try Self.plain("explain", "config.unknown_type").out
            for (path, type) in [("connections.*", "postgres"), ("pipelines.*.sinks.*", "stdout")] {
                #expect(advice.contains("\"\(path)\""))
                let types = try Self.plain("schema", "--path", path)
                #expect(types.code == 0 && types.out.contains("\"\(type)\""))
            }

            let codes = try Self.plain("explain").out.split(separator: "\n").map(String.init)
            #expect(codes.contains("postgres.slot_missing"))
            #expect(codes.contains("config.unknown_field"))
            #expect(codes == codes.sorted() && Set(codes).count == codes.count)
            for code in codes {
                let answer = try Self.plain("explain", code)
                #expect(answer.code == 0 && answer.out.contains("What to do: "), "\(code)")
            }
            let unknown = try Self.plain("explain", "postgres.slot_mising")
            #expect(unknown.code == 64)
            #expect(unknown.err.contains("Did you mean \"postgres.slot_missing\"?"))
        }

        @Test func wrongUsageExitsWith64() throws {
            #expect(try Self.plain("strat").code == 64)
            #expect(try Self.plain("status", "--jsn").code == 64)
            #expect(try Self.plain("position", "set", "shop").code == 64)
            let home = try Self.home(TestDatabaseless.configuration)
            for words in [["drop", "shp"], ["position", "show", "shp"], ["status", "shp"]] {
                let answer = try Answer(
                    runProcess(
                        weirBinary,
                        words + ["-c", home.configuration, "--state-dir", home.stateDirectory]))
                #expect(answer.code == 64, "\(words)")
                #expect(answer.err.contains("Did you mean \"shop\"?"), "\(words)")
            }
        }

        @Test func badConfigurationShowsEveryErrorAndStartsNothing() throws {
            let home = try Self.home()
            for command in ["validate", "run", "start"] {
                let answer =
                    command == "validate"
                    ? try Self.plain("validate", home.configuration) : try home.weir(command)
                #expect(answer.code == 78, "\(command)")
                #expect(answer.out.isEmpty, "stdout is for data")
                for line in [
                    "weir.json:2:73: error config.unknown_field: unknown field \"usr\"",
                    "weir.json:5:33: error config.", "did you mean \"db\"?",
                    "weir.json:6:66: error config.", "3 errors",
                ] {
                    #expect(answer.err.contains(line), "\(command): \(line)\n\(answer.err)")
                }
                #expect(answer.err.contains("^"))
                if command != "validate" { #expect(answer.err.contains("nothing was started")) }
            }
            #expect(!FileManager.default.fileExists(atPath: home.stateDirectory))
            let missing = try Self.plain("validate", "/nonexistent/weir.json")
            #expect(missing.code == 78)
            #expect(missing.err.contains("/nonexistent/weir.json"))
        }

        @Test func validateReadsAFileOrStandardInput() throws {
            let home = try Self.home(TestDatabaseless.configuration)
            let file = try Self.plain("validate", home.configuration)
            #expect(file.code == 0)
            #expect(file.out == "\(home.configuration): ok, 1 pipeline, 1 sink\n")
            let stdin = try Self.plain("validate", "-", stdin: TestDatabaseless.configuration)
            #expect(stdin.code == 0)
            #expect(stdin.out.hasSuffix("ok, 1 pipeline, 1 sink\n"))
            #expect(try Self.plain("validate", "-", stdin: Self.bad).code == 78)
        }

        @Test func beforeTheFirstStartEveryQuestionHasAnAnswer() throws {
            let home = try Self.home(TestDatabaseless.configuration)
            let status = try home.weir("status")
            #expect(status.code == 69)
            #expect(status.out.contains("daemon not running  1 pipeline"))
            #expect(status.out.contains("shop "))
            let document = try home.weir("status", "--json")
            #expect(document.code == 69)
            let parsed = try Status(document.out)
            #expect(parsed.schema == "weir.status/1")
            #expect(!parsed.isRunning)
            let position = try home.weir("position", "show", "shop")
            #expect(position.code == 0, "\(position.err)")
            #expect(position.out.contains("has not been started yet"))
            let stop = try home.weir("stop")
            #expect(stop.code == 0)
            #expect(stop.out == "weir is not running\n")
        }

        /// A folder one may not look into looks as if nothing ran there.
        @Test(.enabled(if: getuid() == 0, "only root can be another user"))
        func askedByAnotherUserItSaysSo() throws {
            let home = try Self.home(TestDatabaseless.configuration)
            #expect(try home.weir("stop").code == 0)
            // Reachable for all, but for the state directory itself.
            let program = "/tmp/weir-\(getpid())-other"
            try FileManager.default.copyItem(atPath: weirBinary, toPath: program)
            defer { try? FileManager.default.removeItem(atPath: program) }
            try FileManager.default.setAttributes(
                [.posixPermissions: 0o755], ofItemAtPath: home.folder.path)
            try FileManager.default.createDirectory(
                atPath: home.stateDirectory, withIntermediateDirectories: false,
                attributes: [.posixPermissions: 0o700])
            func asOther(_ command: String) throws -> ProcessResult {
                try runProcess(
                    "setpriv",
                    [
                        "--reuid", "65534", "--regid", "65534", "--clear-groups", program, command,
                        "--state-dir", home.stateDirectory,
                    ])
            }
            let stop = try asOther("stop")
            #expect(stop.status == .exited(77), "\(stop.stderr)")
            #expect(stop.stderr.contains("belongs to another user"))
            // Whether its pipelines run is not known: neither 75, a pipeline that fails, nor 69.
            let status = try asOther("status")
            #expect(status.status == .exited(77), "\(status.stderr)")
            #expect(status.stderr.hasPrefix("error control.permission: user 65534 may not ask"))
            // The hint is the command as it stands.
            let command = "weir status --state-dir \(home.stateDirectory)"
            #expect(
                status.stderr.hasSuffix("Ask as that user: sudo -u '#\(getuid())' \(command)\n"))
            #expect(try home.weir("status").code == 69)
        }
    }
}

/// A valid configuration whose database nobody asks.
enum TestDatabaseless {
    static let configuration = configuration(url: "postgres://u@127.0.0.1:1/d")

    static func configuration(url: String) -> String {
        """
        {
          "connections": { "db": { "type": "postgres", "url": "\(url)" } },
          "pipelines": {
            "shop": {
              "source": { "connection": "db", "tables": ["public.t"] },
              "sinks": { "file": { "type": "file", "path": "/tmp/weir-e2e-never-written" } }
            }
          }
        }
        """
    }
}
