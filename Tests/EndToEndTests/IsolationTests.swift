import Foundation
import Glibc
import Testing
import WeirTesting

extension EndToEnd {
    @Suite struct IsolationTests {
        private static let table = "CREATE TABLE t (id int PRIMARY KEY, v text);"

        private static func insert(_ range: ClosedRange<Int>, into database: TestDatabase) throws {
            try database.sql(
                "INSERT INTO t SELECT g, repeat(md5(g::text), 8) "
                    + "FROM generate_series(\(range.lowerBound), \(range.upperBound)) g")
        }

        private static func pipeline(
            _ name: String, _ connection: String, _ file: String
        ) -> String {
            """
            "\(name)": {
              "source": { "connection": "\(connection)", "tables": ["public.t"] },
              "sinks": { "file": { "type": "file", "path": "\(file)" } }
            }
            """
        }

        @Test func aDeadDatabaseAndADeadSinkStopNoOtherPipeline() async throws {
            let healthy = try await TestDatabase.make()
            let dead = try await TestDatabase.alone()
            for database in [healthy, dead] { try database.sql(Self.table) }
            try await dead.server.stop()
            let home = try WeirHome { home in
                """
                {
                  "connections": {
                    "here": { "type": "postgres", "url": "\(healthy.url)" },
                    "gone": { "type": "postgres", "url": "\(dead.url)" }
                  },
                  "pipelines": {
                    \(Self.pipeline("ok", "here", home.output)),
                    \(Self.pipeline("nodb", "gone", home.folder.file("nodb.jsonl"))),
                    \(Self.pipeline("nosink", "here", home.folder.file("folder/nosink.jsonl")))
                  }
                }
                """
            }
            let daemon = try home.run()
            try await eventually("one streams, two fail") {
                guard let now = try? home.status() else { return false }
                return now.pipelines.map(\.state) == ["streaming", "failing", "failing"]
            }
            try Self.insert(1...100, into: healthy)
            try await eventually("the healthy pipeline delivers") {
                lines(of: home.output).count == 100
            }
            let status = try home.status()
            let database = try #require(status.pipeline("nodb")?.problems.first)
            #expect(database.code == "postgres.connection_failed")
            #expect(database.component == "source")
            let sink = try #require(status.pipeline("nosink")?.problems.first)
            #expect(sink.code == "file.write_failed")
            #expect(sink.component == "file")
            #expect(sink.message.contains("No such file or directory"))
            let table = try home.weir("status")
            #expect(table.code == 75, "something fails and is tried again")
            #expect(try home.weir("status", "ok").code == 0)
            #expect(table.out.contains("3 pipelines: 1 ok, 2 not"))
            #expect(table.out.contains("! nodb/source"))
            #expect(table.out.contains("! nosink/file"))

            try await dead.server.restart()
            try FileManager.default.createDirectory(
                atPath: home.folder.file("folder"), withIntermediateDirectories: false)
            try await home.untilStreaming()
            try Self.insert(1...50, into: dead)
            try await eventually("what came back delivers all of it") {
                lines(of: home.folder.file("folder/nosink.jsonl")).count == 100
                    && lines(of: home.folder.file("nodb.jsonl")).count == 50
            }
            daemon.signal(SIGTERM)
            #expect(try await daemon.wait() == .exited(0))
        }

        /// Two sinks of one pipeline; the folder of the second is missing at first.
        private static func twoSinks(_ database: TestDatabase) throws -> WeirHome {
            try WeirHome { home in
                """
                {
                  "connections": { "db": { "type": "postgres", "url": "\(database.url)" } },
                  "pipelines": {
                    "shop": {
                      "source": { "connection": "db", "tables": ["public.t"] },
                      "sinks": {
                        "up": { "type": "file", "path": "\(home.output)", "queue": "64KiB" },
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
        }

        private func untilSpilled(
            _ home: WeirHome, rows: Int, bytes: Int
        ) async throws {
            try await eventually(within: .seconds(30), "one sink is complete, one spills") {
                guard lines(of: home.output).count == rows, let now = try? home.status(),
                    let down = now.pipelines.first?.sinks.first(where: { $0.name == "down" })
                else { return false }
                return down.state == "spilling" && down.spilledBytes > bytes
            }
        }

        @Test func aSinkThatIsDownSpillsAndCatchesUpAfterAKill() async throws {
            let database = try await TestDatabase.make()
            try database.sql(Self.table)
            let home = try Self.twoSinks(database)
            var daemon = try home.run()
            try await eventually("the slot is there") { try database.confirmed("weir_shop") != nil }
            try Self.insert(1...5_000, into: database)
            let end = try database.number("SELECT pg_current_wal_lsn() - '0/0'::pg_lsn")
            try await untilSpilled(home, rows: 5_000, bytes: 1 << 20)
            #expect(try home.weir("status", "shop").out.contains("wait on disk (spill)"))
            // The source forgets what only the spill holds for one sink.
            try await eventually("the source moves on") {
                try database.confirmed("weir_shop") ?? 0 >= end
            }
            daemon.signal(SIGKILL)
            try await daemon.wait()

            try Self.insert(5_001...8_000, into: database)
            daemon = try home.run()
            try await untilSpilled(home, rows: 8_000, bytes: 2 << 20)
            daemon.signal(SIGKILL)
            try await daemon.wait()
            let offline = try home.weir("status", "shop")
            #expect(offline.code == 69)
            #expect(offline.out.contains("wait on disk (spill)"))

            try FileManager.default.createDirectory(
                atPath: home.folder.file("folder"), withIntermediateDirectories: false)
            daemon = try home.run()
            try Self.insert(8_001...9_000, into: database)
            try await untilEqual(home, rows: 9_000)
            try await eventually("the spill is given back") {
                fileSize(home.stateDirectory + "/spill/shop.down.spill") < 1024
            }
            daemon.signal(SIGTERM)
            #expect(try await daemon.wait() == .exited(0))
        }

        /// The sink comes back and the daemon dies within moments, again and again: what the spill
        /// holds must stay known.
        @Test func killsWhileTheSpillIsDeliveredLoseNothing() async throws {
            var random = SeededRandom("kills beside a spill")
            let database = try await TestDatabase.make()
            try database.sql(Self.table)
            let home = try Self.twoSinks(database)
            var daemon = try home.run()
            try await eventually("the slot is there") { try database.confirmed("weir_shop") != nil }
            try Self.insert(1...20_000, into: database)
            try await untilSpilled(home, rows: 20_000, bytes: 4 << 20)
            let end = try database.number("SELECT pg_current_wal_lsn() - '0/0'::pg_lsn")
            try await eventually("the source moves on") {
                try database.confirmed("weir_shop") ?? 0 >= end
            }
            try FileManager.default.createDirectory(
                atPath: home.folder.file("folder"), withIntermediateDirectories: false)
            try await eventually(
                within: .seconds(90), "the file is made", poll: .microseconds(200)
            ) { FileManager.default.fileExists(atPath: home.folder.file("folder/out.jsonl")) }
            for _ in 0..<10 {
                try await Task.sleep(for: random.milliseconds(0...40))
                daemon.signal(SIGKILL)
                try await daemon.wait()
                daemon = try home.run()
            }
            try Self.insert(20_001...20_100, into: database)
            try await untilEqual(home, rows: 20_100)
            daemon.signal(SIGTERM)
            #expect(try await daemon.wait() == .exited(0))
        }

        private func untilEqual(_ home: WeirHome, rows: Int) async throws {
            let other = home.folder.file("folder/out.jsonl")
            do {
                try await eventually(within: .seconds(60), "both files are complete") {
                    fileSize(home.output) == fileSize(other) && lines(of: other).count == rows
                }
            } catch {
                let counts = [home.output, other].map { lines(of: $0).count }
                Issue.record("lines: \(counts); \(home.logText().suffix(3000))")
                throw error
            }
            #expect(lines(of: home.output) == lines(of: other))
            _ = try Replay(file: other)
        }
    }
}
