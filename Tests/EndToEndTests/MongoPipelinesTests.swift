import Foundation
import Glibc
import Testing
import WeirTesting

extension EndToEnd {
    /// Several pipelines, and several sinks of one.
    @Suite struct MongoPipelinesTests {
        @Test func pipelinesOfOneDeploymentAndOfPostgreSQLShareADaemon() async throws {
            let database = try await MongoDatabase.make()
            let rows = try await TestDatabase.make()
            try rows.sql("CREATE TABLE t (id int PRIMARY KEY, v text)")
            let second = "\(database.name)_more"
            let home = try WeirHome { home in
                func path(_ name: String) -> String { home.folder.file("\(name).jsonl") }
                return WeirHome.configuration(
                    ["cms": database.url],
                    [
                        "one": WeirHome.filed(
                            "cms", #""collections": \#(database.places("items"))"#, path("one")),
                        "database": WeirHome.filed(
                            "cms", #""database": "\#(database.name)""#, path("database")),
                        "two": WeirHome.filed(
                            "cms",
                            #""collections": \#(json([database.place("items"), "\(second).new"]))"#,
                            path("two")),
                        "all": WeirHome.filed("cms", "", path("all")),
                        "rows": WeirHome.filed("db", #""tables": ["public.t"]"#, path("rows")),
                    ], others: #""db": { "type": "postgres", "url": "\#(rows.url)" }"#)
            }
            let daemon = try home.run()
            try await home.untilStreaming()
            func until(_ name: String, _ ids: [Int]) async throws {
                let file = home.folder.file("\(name).jsonl")
                try await eventually("\(name) has \(ids)") {
                    lines(of: file).count >= ids.count
                }
                #expect(try documentIDs(file) == ids, "\(name)")
            }
            for id in 0..<3 {
                try await database.insert((4 * id)...(4 * id))
                try await database.insert((4 * id + 1)...(4 * id + 1), into: "orders")
                try await database.shell.insert(
                    #"{"_id": \#(4 * id + 2)}"#, into: "\(second).new")
                try await database.shell.insert(
                    #"{"_id": \#(4 * id + 3)}"#, into: "\(second).other")
                try rows.sql("INSERT INTO t VALUES (\(id), 'x')")
            }
            try await until("one", [0, 4, 8])
            try await until("database", [0, 1, 4, 5, 8, 9])
            try await until("two", [0, 2, 4, 6, 8, 10])
            try await until("all", Array(0..<12))
            try await eventually("rows") {
                lines(of: home.folder.file("rows.jsonl")).count == 3
            }
            let places = try lines(of: home.folder.file("all.jsonl")).map { line in
                let object =
                    try JSONSerialization.jsonObject(with: Data(line.utf8)) as? [String: Any]
                let source = object?["source"] as? [String: Any]
                return "\(source?["db"] ?? "").\(source?["collection"] ?? "")"
            }
            #expect(
                Set(places) == [
                    database.place("items"), database.place("orders"), "\(second).new",
                    "\(second).other",
                ])
            let overview = try home.weir("status").out
            #expect(overview.contains("5 pipelines: 5 ok"), "\(overview)")
            try await home.stop(daemon)
        }

        /// Two sinks of one pipeline; the folder of the second is missing at first.
        private static func twoSinks(_ database: MongoDatabase) throws -> WeirHome {
            try WeirHome { home in
                WeirHome.configuration(
                    ["cms": database.url],
                    [
                        "shop": """
                        {
                          "source": {
                            "connection": "cms", "collections": \(database.places("items", "orders"))
                          },
                          "sinks": {
                            "up": { "type": "file", "path": "\(home.output)", "queue": "64KiB" },
                            "down": {
                              "type": "file", "path": "\(home.folder.file("folder/out.jsonl"))",
                              "queue": "64KiB"
                            }
                          }
                        }
                        """
                    ])
            }
        }

        private func untilSpilled(_ home: WeirHome, bytes: Int) async throws {
            try await eventually(within: .seconds(30), "one sink goes on, one spills") {
                let sinks = try? home.status().pipelines.first?.sinks
                let down = sinks?.first { $0.name == "down" }
                return down?.state == "spilling" && down?.spilledBytes ?? 0 > bytes
            }
        }

        /// Documents, looked-up ones, deletes, transactions and places to go on at come back from
        /// disk as they went there.
        @Test func whatWaitsOnDiskIsWhatTheOtherSinkGot() async throws {
            var random = SeededRandom("a spill beside MongoDB")
            let database = try await MongoDatabase.make()
            try await MongoWorkload.install(in: database)
            let home = try Self.twoSinks(database)
            // Both files exist from the first start on, and the second is taken away.
            let folder = home.folder.file("folder")
            try FileManager.default.createDirectory(
                atPath: folder, withIntermediateDirectories: false)
            try home.once()
            let begin = try await database.now()
            try FileManager.default.moveItem(atPath: folder, toPath: home.folder.file("away"))

            let writers = try MongoWorkload.writers(2, in: database, &random)
            var daemon = try home.run()
            try await untilSpilled(home, bytes: 200_000)
            daemon.signal(SIGKILL)
            try await daemon.wait()
            daemon = try home.run()
            try await untilSpilled(home, bytes: 500_000)
            #expect(try home.weir("status", "shop").out.contains("wait on disk (spill)"))
            try await eventually(
                within: .seconds(60), "a load worth the name", poll: .milliseconds(50)
            ) {
                let lines = lines(of: home.output)
                let late = lines.count { $0.contains(#","late":true"#) }
                return late > 0 && lines.count - late > 300 && lines.count > 700
            }
            for writer in writers { #expect(await writer.stop() > 0) }
            let expected = try await database.tokens(of: MongoWorkload.collections, behind: begin)
            // What the source sends again after a kill may stand beside what waits already.
            try await eventually(within: .seconds(30), "one sink has it all") {
                lines(of: home.output).count == expected.count
            }
            daemon.signal(SIGKILL)
            try await daemon.wait()
            try FileManager.default.moveItem(atPath: home.folder.file("away"), toPath: folder)
            daemon = try home.run()
            let other = folder + "/out.jsonl"
            do {
                try await eventually(within: .seconds(30), "both files are complete") {
                    lines(of: other).count == expected.count
                }
            } catch {
                throw TestingError("\(error): \(home.logText().suffix(3000))")
            }
            try await home.settle(daemon)
            #expect(try documentTokens(home.output) == expected)
            #expect(try documentTokens(other) == expected)
            // Documents that were looked up may be of different moments: read again after a kill.
            let (ours, theirs) = (lines(of: home.output), lines(of: other))
            var same = 0
            for (line, its) in zip(ours, theirs) where !line.contains(#","late":true"#) {
                #expect(line == its)
                same += 1
            }
            #expect(same > 200 && ours.count > same, "\(same) of \(ours.count)")
            let positions = try home.positions()
            #expect(positions["up"]?.position == positions["down"]?.position)
        }
    }
}
