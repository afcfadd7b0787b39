import Foundation
import Glibc
import Testing
import WeirTesting

extension EndToEnd {
    /// What the process is before it does anything, and what it writes to its log.
    @Suite struct ProcessSetupTests {
        private static func home(
            _ daemon: String = "{}", source: String = "postgres://127.0.0.1:1/d",
            path: String = "out.jsonl"
        ) throws -> WeirHome {
            try WeirHome { _ in
                """
                {
                  "daemon": \(daemon),
                  "connections": { "db": { "type": "postgres", "url": "\(source)" } },
                  "pipelines": {
                    "shop": {
                      "source": { "connection": "db", "tables": ["public.t"] },
                      "sinks": { "file": { "type": "file", "path": "\(path)" } }
                    }
                  }
                }
                """
            }
        }

        @Test func aLimitOfFewFilesIsSaidAndNotTrappedOn() throws {
            let home = try Self.home()
            for limit in [14, 63] {
                let answer = try Answer(
                    runProcess(
                        "/bin/sh",
                        [
                            "-c", "ulimit -n \(limit); exec \"$@\"", "sh", weirBinary, "run", "-c",
                            home.configuration, "--state-dir", home.stateDirectory,
                        ]))
                #expect(answer.code == 69, "\(answer)")
                #expect(
                    answer.err.contains("only \(limit) files may be open at once"),
                    "\(answer.err)")
                #expect(answer.err.contains("ulimit -n 1024"))
            }
        }

        @Test func aLowSoftLimitIsRaised() async throws {
            let home = try Self.home()
            let daemon = try home.run(
                through: ["/bin/sh", "-c", "ulimit -S -n 20; exec \"$@\"", "sh"])
            try await eventually(within: .seconds(30), "it runs") { (try? home.status()) != nil }
            let limits = try String(contentsOfFile: "/proc/\(daemon.pid)/limits", encoding: .utf8)
            #expect(limits.firstMatch(of: #/Max open files +20 /#) == nil, "\(limits)")
            #expect(limits.firstMatch(of: #/Max core file size +0 +0 /#) != nil, "\(limits)")
            daemon.signal(SIGTERM)
            #expect(try await daemon.wait(within: .seconds(30)) == .exited(0))
        }

        @Test func aStopWhileItBeginsEndsWell() async throws {
            let home = try Self.home()
            for _ in 0..<5 {
                let daemon = try home.run()
                // As soon as it has a say in it.
                try await eventually(within: .seconds(30), "it handles SIGTERM") {
                    let status =
                        (try? String(contentsOfFile: "/proc/\(daemon.pid)/status", encoding: .utf8))
                        ?? ""
                    let caught = status.firstMatch(of: /SigCgt:\t([0-9a-f]+)/)?.1
                    return (caught.flatMap { UInt64($0, radix: 16) } ?? 0) >> 14 & 1 == 1
                }
                daemon.signal(SIGTERM)
                #expect(try await daemon.wait(within: .seconds(30)) == .exited(0))
            }
        }

        @Test(arguments: ["json", "logfmt", "text"])
        func nothingInTheLogActsOnATerminal(form: String) async throws {
            let database = try await TestDatabase.make()
            try database.sql("CREATE TABLE t (id int PRIMARY KEY)")
            let evil = "/nonexistent/\\u001b]0;x\\u0007\\u009b31m\\u202e\\u2028x"
            let home = try Self.home(
                #"{ "log": "\#(form)" }"#, source: database.url, path: evil)
            let answer = try home.weir("run", "--once")
            let scalars = answer.err.unicodeScalars
            #expect(answer.err.contains("nonexistent"), "\(answer.err)")
            #expect(!scalars.contains { $0.value < 0x20 && $0 != "\n" })
            #expect(!scalars.contains { [0x7, 0x9B, 0x202E, 0x2028].contains($0.value) })
            if form == "json" {
                let line = try #require(
                    answer.err.split(separator: "\n").first { $0.contains("nonexistent") })
                let object = try JSONSerialization.jsonObject(with: Data(line.utf8))
                let message = (object as? [String: Any])?["msg"] as? String
                #expect(message?.contains("\u{1B}]0;x\u{7}\u{9B}31m\u{202E}\u{2028}x") == true)
            }
        }
    }
}
