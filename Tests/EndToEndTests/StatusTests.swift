import Foundation
import Glibc
import Testing
import WeirTesting

extension EndToEnd {
    /// What `status` says when something is not well, and how it ends.
    @Suite struct StatusTests {
        private static let table = "CREATE TABLE t (id int PRIMARY KEY, v text)"

        /// Where each column of a table begins or ends, by its header.
        @Test func namesOfAnyLengthKeepTheColumnsApart() throws {
            let long = "a-pipeline-whose-name-is-long-enough"
            let home = try WeirHome { home in
                """
                {
                  "connections": { "db": { "type": "postgres", "url": "postgres://u@127.0.0.1:1/d" } },
                  "pipelines": {
                    "\(long)": {
                      "source": { "connection": "db", "tables": ["public.t"] },
                      "sinks": {
                        "f": { "type": "file", "path": "\(home.output)" },
                        "a-sink-with-a-long-name": { "type": "blackhole" }
                      }
                    },
                    "b": {
                      "source": { "connection": "db", "tables": ["public.u"] },
                      "sinks": { "f": { "type": "blackhole" } }
                    }
                  }
                }
                """
            }
            func lines(_ words: String...) throws -> [String] {
                let answer = try runProcess(
                    weirBinary,
                    words + ["-c", home.configuration, "--state-dir", home.stateDirectory])
                return answer.stdout.split(separator: "\n").map(String.init)
            }
            func column(_ word: String, _ line: String) throws -> Int {
                let range = try #require(line.range(of: word), "\(line)")
                return line.distance(from: line.startIndex, to: range.lowerBound)
            }
            let overview = try lines("status")
            let header = try #require(overview.first { $0.hasPrefix("PIPELINE") })
            for name in [long, "b"] {
                let row = try #require(overview.first { $0.hasPrefix(name + " ") })
                #expect(try column("STATE", header) == column("stopped", row))
                // LAG, QUEUED, IN/s and OUT/s are not known.
                #expect(try column("LAG", header) + 2 == column("?", row))
                #expect(row.count { $0 == "?" } == 5)
            }
            let detail = try lines("status", long)
            let sinks = try #require(detail.first { $0.hasPrefix("SINK") })
            for name in ["f", "a-sink-with-a-long-name"] {
                let row = try #require(detail.first { $0.hasPrefix(name + " ") })
                #expect(try column("STATE", sinks) == column("unknown", row))
                #expect(try column("LAG", sinks) + 2 == column("?", row))
            }
        }

        /// What a terminal would obey: escape sequences, C1 controls, and what turns the direction
        /// of text.
        @Test func wordsOfAServerDoNotCommandATerminal() async throws {
            let database = try await TestDatabase.make()
            try database.sql(Self.table)
            let evil = "\\u001b]0;owned\\u0007\\u001b[31m\\u009b2J\\u202egnp"
            let home = try WeirHome { home in
                """
                {
                  "connections": { "db": { "type": "postgres", "url": "\(database.url)" } },
                  "pipelines": {
                    "shop": {
                      "source": { "connection": "db", "tables": ["public.t"] },
                      "sinks": { "file": { "type": "file", "path": "/nowhere/\(evil)/out" } }
                    }
                  }
                }
                """
            }
            let start = try home.weir("start")
            let daemon = try home.lockedBy()
            try await eventually("the sink fails") {
                try home.status().pipelines.first?.problems.first?.code == "file.write_failed"
            }
            let answers = [
                start, try home.weir("status"), try home.weir("status", "shop"),
                try home.weir("status", "--json"),
            ]
            #expect(try home.weir("stop").code == 0)
            for answer in answers {
                for scalar in (answer.out + answer.err).unicodeScalars where scalar != "\n" {
                    let category = scalar.properties.generalCategory
                    #expect(category != .control && category != .format, "\(answer)")
                }
            }
            #expect(answers[1].out.contains("<U+202E>gnp"))
            // The document says the same as without escapes.
            #expect(answers[3].out.contains(#"\u202egnp"#))
            #expect(
                try Status(answers[3].out).pipelines.first?.problems.first?.message
                    .contains("\u{1B}]0;owned\u{7}") == true)
            #expect(daemon != nil)
        }

        @Test func cutOffFromItsSourceAPipelineKnowsHowLongAndWhatWasKept() async throws {
            let database = try await TestDatabase.alone()
            try database.sql(Self.table)
            let home = try WeirHome(database, tables: ["public.t"])
            let daemon = try home.run()
            try await home.untilStreaming()
            try await eventually("what the slot keeps was asked") {
                try home.status().pipelines.first?.source.retention?.active == true
            }
            try await eventually("it keeps up") {
                try home.status().pipelines.first?.lagSeconds.map { $0 < 2 } == true
            }
            try await database.server.stop()
            try await eventually("lag counts though nothing is known to wait") {
                try home.status().pipelines.first?.lagSeconds ?? 0 > 3
            }
            let status = try home.status()
            let pipeline = try #require(status.pipelines.first)
            #expect(pipeline.state == "failing")
            #expect(pipeline.sinks.first?.lagSeconds ?? 0 > 3)
            #expect(pipeline.source.retention?.active == false)
            #expect(pipeline.source.retention?.retainedBytes != nil)
            #expect(pipeline.errorsLastHour ?? 0 > 0)
            #expect(pipeline.sinks.first?.errorsLastHour == 0)
            let shown = try home.weir("status", "shop")
            #expect(shown.code == 75)
            #expect(shown.out.contains("not read for"))
            #expect(shown.out.contains("slot weir_shop  inactive"))
            try await database.server.restart()
            try await eventually(within: .seconds(60), "it is heard again") {
                let now = try home.status().pipelines.first
                return now?.state == "streaming" && now?.lagSeconds ?? 9 < 2
            }
            daemon.signal(SIGTERM)
            #expect(try await daemon.wait() == .exited(0))
            // With neither of the two: what was known last, how old it is, and why.
            try await database.server.stop()
            let last = try #require(try home.status().pipelines.first)
            #expect(last.source.retention?.active == false)
            #expect(last.source.retention?.retainedBytes != nil)
            #expect(last.source.retentionAsOf != nil && last.problems.count == 1)
        }

        @Test func aSlotThatIsGoneIsNotShownAsItWas() async throws {
            let database = try await TestDatabase.make()
            try database.sql(Self.table)
            let home = try WeirHome(database, tables: ["public.t"])
            let daemon = try home.run()
            try await home.untilStreaming()
            // The daemon may be connected again before it is dropped.
            try await eventually("the slot is dropped") {
                let drop = """
                    SELECT pg_terminate_backend(active_pid, 5000) FROM pg_replication_slots;
                    SELECT pg_drop_replication_slot('weir_shop')
                    """
                return (try? database.sql(drop)) != nil
            }
            try await eventually("the pipeline stops and its source was asked") {
                let now = try home.status().pipelines.first
                return now?.state == "stopped" && now?.source.retention?.status == "missing"
            }
            let pipeline = try #require(try home.status().pipelines.first)
            #expect(pipeline.source.retention?.active == false)
            let document = try home.weir("status", "--json").out
            #expect(document.contains("\"confirmed\" : null"), "\(document)")
            #expect(document.contains("\"head\" : null"))
            #expect(pipeline.sinks.map(\.state) == ["stopped"])
            let note = try #require(pipeline.problems.first?.note)
            #expect(note.contains("removed: weir stop --state-dir"))
            #expect(try home.weir("status").code == 69)
            let running = try #require(pipeline.problems.first)
            daemon.signal(SIGTERM)
            #expect(try await daemon.wait() == .exited(0))

            // Down, it says what it said while it ran.
            let problems = try #require(try home.status().pipelines.first?.problems)
            let down = try #require(problems.first)
            #expect(problems.count == 1)
            #expect(down.code == running.code && down.message == running.message)
            #expect(down.detail == running.detail && down.since == running.since)
            let hint = try #require(running.hint)
            // The commands only: there is no daemon to stop first.
            let way = try #require(down.hint)
            #expect(hint.contains("weir stop ") && !way.contains("weir stop"), "\(way)")
            #expect(down.note?.contains("When the cause is removed: weir start -c ") == true)
            #expect(try home.weir("status").out.contains("    \(way)\n"))
            // Until the command of the hint was run.
            #expect(hint.contains("weir position set shop now --yes"))
            #expect(try home.weir("position", "set", "shop", "now", "--yes").code == 0)
            #expect(try home.status().pipelines.first?.problems.map(\.code) == [])
        }

        /// At the worst moment, an edit of the file must not hide what is known.
        @Test func aConfigurationThatDoesNotLoadHidesNothingThatIsKnown() async throws {
            let database = try await TestDatabase.make()
            try database.sql(Self.table)
            let home = try WeirHome { home in
                """
                {
                  "connections": {
                    "db": { "type": "postgres", "url": { "env": "SHOP_URL" } }
                  },
                  "pipelines": {
                    "shop": {
                      "source": { "connection": "db", "tables": ["public.t"] },
                      "sinks": { "out": { "type": "file", "path": "\(home.output)" } }
                    }
                  }
                }
                """
            }
            // Without the secret, and never started: only the configuration's error is known.
            #expect(try home.weir("status").code == 78)
            let whole = try String(contentsOfFile: home.configuration, encoding: .utf8)
            try home.configure(
                whole.replacing(#"{ "env": "SHOP_URL" }"#, with: "\"\(database.url)\""))
            let daemon = try home.run()
            try await home.untilStreaming()
            // The secret is missing, there is a key too much, or a brace too little.
            let broken = [
                whole, whole.replacing(#""source""#, with: #""sourse": 1, "source""#),
                String(whole.dropLast(2)),
            ]
            for text in broken {
                try home.configure(text)
                let running = try home.weir("status")
                #expect(running.code == 0 && running.out.contains("1 pipeline: 1 ok"))
                let position = try home.weir("position", "show", "shop")
                #expect(position.code == 78 && position.err.contains("error config."))
                #expect(position.out.contains(#/shop  .*\n  out  [0-9A-F]+/[0-9A-F]+ /#))
            }
            daemon.signal(SIGTERM)
            #expect(try await daemon.wait() == .exited(0))
            for text in broken {
                try home.configure(text)
                let down = try home.weir("status")
                #expect(down.code == 78)
                #expect(down.out.contains("daemon not running (last seen "), "\(down.out)")
                #expect(down.out.contains("(engine.configuration_unread)"), "\(down.out)")
                #expect(down.out.contains("weir validate -c "))
                #expect(down.err.contains("error config."))
                let document = try home.weir("status", "--json")
                #expect(document.code == 78)
                let pipeline = try #require(Status(document.out).pipeline("shop"))
                #expect(pipeline.problems.map(\.code) == ["engine.configuration_unread"])
                #expect(pipeline.sinks.map(\.name) == ["out"])
                #expect(try home.weir("status", "shop").out.contains(#/\nout +unknown +[0-9A-F]+/#))
            }
        }

        /// Whether all is well is not known before the first answer of the source.
        @Test func whatIsStartingIsNotWell() async throws {
            // Takes connections and never answers.
            let listener = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
            defer { close(listener) }
            var address = sockaddr_in()
            address.sin_family = sa_family_t(AF_INET)
            address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
            var size = socklen_t(MemoryLayout<sockaddr_in>.size)
            let port = unsafe withUnsafeMutablePointer(to: &address) { pointer in
                unsafe pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                    #expect(unsafe bind(listener, $0, size) == 0 && listen(listener, 16) == 0)
                    _ = unsafe getsockname(listener, $0, &size)
                }
                return unsafe UInt16(bigEndian: pointer.pointee.sin_port)
            }
            let home = try WeirHome { home in
                """
                {
                  "connections": {
                    "db": { "type": "postgres", "url": "postgres://u@127.0.0.1:\(port)/d?sslmode=disable" }
                  },
                  "pipelines": {
                    "shop": {
                      "source": { "connection": "db", "tables": ["public.t"] },
                      "sinks": { "out": { "type": "blackhole" } }
                    }
                  }
                }
                """
            }
            let daemon = try home.run()
            var status = try home.weir("status")
            try await eventually("it answers") {
                status = try home.weir("status")
                return !status.out.contains("not running")
            }
            #expect(status.out.contains(#/\nshop +starting /#), "\(status.out)")
            #expect(status.code == 75)
            daemon.signal(SIGKILL)
            _ = try await daemon.wait()
        }

        /// A spill file that may not grow stands for a full disk (EFBIG for ENOSPC).
        @Test func aSpillWithoutRoomIsSaidAndNothingFails() async throws {
            let database = try await TestDatabase.make()
            try database.sql(Self.table)
            let home = try WeirHome { home in
                """
                {
                  "connections": { "db": { "type": "postgres", "url": "\(database.url)" } },
                  "pipelines": {
                    "shop": {
                      "source": { "connection": "db", "tables": ["public.t"] },
                      "sinks": {
                        "up": { "type": "blackhole" },
                        "down": {
                          "type": "file", "path": "\(home.folder.file("folder/out.jsonl"))",
                          "queue": "64KiB"
                        }
                      }
                    }
                  }
                }
                """
            }
            let daemon = try home.run()
            try await eventually("the slot is there") { try database.confirmed("weir_shop") != nil }
            func limit(_ bytes: String) throws {
                let result = try runProcess(
                    "prlimit", ["--pid", "\(daemon.pid)", "--fsize=\(bytes):unlimited"])
                #expect(result.status == .exited(0), "\(result.stderr)")
            }
            // Above all that the state store may need.
            try limit("8000000")
            try database.sql(
                "INSERT INTO t SELECT g, repeat('x', 1000) FROM generate_series(1, 20000) g")
            func down() throws -> [Status.Problem] {
                try home.status().pipelines.first?.problems.filter { $0.component == "down" } ?? []
            }
            try await eventually("the spill has no room") {
                try down().map(\.code) == ["file.write_failed", "engine.spill_full"]
            }
            let sinks = try #require(try home.status().pipelines.first?.sinks)
            #expect(sinks.map(\.state) == ["waiting", "spilling"])
            #expect(sinks.last?.spilledBytes ?? 0 > 5_000_000)
            #expect(try home.weir("status").out.contains("the pipeline waits (engine.spill_full)"))
            #expect(!home.logText().contains("state.failed"))
            #expect(!home.logText().contains("engine.spill_failed"))
            try limit("unlimited")
            try await eventually(within: .seconds(30), "the neighbour goes on") {
                try home.status().pipelines.first?.sinks.first?.delivered == 20_000
            }
            try FileManager.default.createDirectory(
                atPath: home.folder.file("folder"), withIntermediateDirectories: false)
            try await eventually(within: .seconds(90), "all is delivered") {
                lines(of: home.folder.file("folder/out.jsonl")).count == 20_000
            }
            daemon.signal(SIGTERM)
            #expect(try await daemon.wait() == .exited(0))
        }
    }
}
