import Foundation
import Glibc
import Testing
import WeirTesting

extension EndToEnd {
    @Suite struct KillTests {
        /// What a loop of kills did, so that a run that proved nothing fails (INV-15).
        private struct Tally {
            var kills = 0
            /// The file was longer than its checkpoint: the next start cuts and reads again.
            var truncations = 0
            /// The daemon had moved on since the kill before.
            var advances = 0
        }

        @Test func fiftyKillsUnderLoadLeaveEveryEventExactlyOnce() async throws {
            var random = SeededRandom("fifty kills")
            let database = try await TestDatabase.make()
            try Workload.install(in: database)
            let home = try WeirHome(database, tables: Workload.tables)
            let first = try home.run()
            try await home.untilStreaming()
            first.signal(SIGKILL)
            try await first.wait()

            let writers = try (1...2).map { try Workload.writer($0, in: database) }
            var tally = Tally()
            var position = ""
            for _ in 0..<50 {
                let daemon = try home.run()
                try await Task.sleep(for: random.milliseconds(20...700))
                #expect(daemon.isRunning, "it ended by itself: \(home.logText().suffix(2000))")
                daemon.signal(SIGKILL)
                #expect(try await daemon.wait() == .signalled(SIGKILL))
                tally.kills += 1
                let row = try #require(try home.positions()["file"])
                if fileSize(home.output) > row.mark ?? 0 { tally.truncations += 1 }
                if row.position != position { tally.advances += 1 }
                position = row.position
            }
            try await Workload.stop(writers, in: database)
            let end = try home.weir("run", "--once")
            #expect(end.code == 0, "\(end.err)")

            let replay = try Replay(file: home.output)
            try replay.expectComplete(database)
            print("\(tally), \(replay.count) events, \(replay.ledger.count) transactions")
            #expect(tally.kills == 50)
            #expect(tally.truncations >= 1)
            #expect(tally.advances >= 5)
            #expect(replay.ledger.count > 500)
        }

        @Test func killsAndStopsLeaveTwoPipelinesWithTwoSinksComplete() async throws {
            var random = SeededRandom("ten kills")
            let databases = [try await TestDatabase.make(), try await TestDatabase.make()]
            for database in databases { try Workload.install(in: database) }
            let home = try WeirHome { Self.twoPipelines(databases, $0.folder) }
            let first = try home.run()
            try await home.untilStreaming()
            first.signal(SIGTERM)
            #expect(try await first.wait() == .exited(0))

            let writers = try databases.map { try Workload.writer(1, in: $0, pause: 0.001) }
            var truncations = 0
            for round in 0..<15 {
                let daemon = try home.run()
                try await Task.sleep(for: random.milliseconds(50...500))
                let isKill = round % 3 != 2
                daemon.signal(isKill ? SIGKILL : SIGTERM)
                let status = try await daemon.wait(within: .seconds(20))
                #expect(status == (isKill ? .signalled(SIGKILL) : .exited(0)))
                for name in ["a", "b"] {
                    for (sink, row) in try home.positions(of: name) {
                        let size = fileSize(home.folder.file("\(name).\(sink)"))
                        if isKill && size > row.mark ?? 0 { truncations += 1 }
                        if !isKill { #expect(size == row.mark, "a stop leaves nothing to cut") }
                    }
                }
            }
            for (writer, database) in zip(writers, databases) {
                try await Workload.stop([writer], in: database)
            }
            let end = try home.weir("run", "--once")
            #expect(end.code == 0, "\(end.err)")
            #expect(truncations >= 1)

            for (name, database) in zip(["a", "b"], databases) {
                let lines = home.folder.file("\(name).lines")
                let replay = try Replay(file: lines, wantsDebezium: true)
                try replay.expectComplete(database)
                let records = try Replay.debezium(file: home.folder.file("\(name).debezium"))
                expectSame(replay.debezium, records)
            }
        }

        private static func twoPipelines(
            _ databases: [TestDatabase], _ folder: TemporaryDirectory
        ) -> String {
            let pipelines = ["a", "b"].map { name in
                """
                "\(name)": {
                  "source": {
                    "connection": "\(name)", "tables": \(json(Workload.tables))
                  },
                  "sinks": {
                    "lines": { "type": "file", "path": "\(folder.file("\(name).lines"))" },
                    "debezium": {
                      "type": "file", "path": "\(folder.file("\(name).debezium"))",
                      "format": "debezium"
                    }
                  }
                }
                """
            }
            return """
                {
                  "connections": {
                    "a": { "type": "postgres", "url": "\(databases[0].url)" },
                    "b": { "type": "postgres", "url": "\(databases[1].url)" }
                  },
                  "pipelines": { \(pipelines.joined(separator: ",")) }
                }
                """
        }

        private func expectSame(_ weir: [String], _ debezium: [String]) {
            // The delete of a changed key shows the old key, which the other side does not name.
            let differing = zip(weir, debezium).first { ours, theirs in
                !(ours == theirs || ours.hasPrefix("d ") && theirs.hasPrefix(ours))
            }
            #expect(differing == nil)
            #expect(weir.count == debezium.count)
        }
    }
}
