import Foundation
import Glibc
import Testing
import WeirTesting

extension EndToEnd {
    @Suite struct KillTests {
        @Test func fiftyKillsUnderLoadLeaveEveryEventExactlyOnce() async throws {
            let database = try await TestDatabase.make()
            try Workload.install(in: database)
            let home = try WeirHome(database, tables: Workload.tables)
            let first = try home.run()
            try await home.untilStreaming()
            first.signal(SIGKILL)
            try await first.wait()

            let writers = try (1...2).map { try Workload.writer($0, in: database) }
            var lives = Lives("fifty kills", 20...700)
            while try lives.needMore(kills: 50, advances: 5, truncations: 1) {
                try await lives.live(home, sink: "file")
            }
            try await eventually(within: .seconds(60), "a load worth the name") {
                try database.number("SELECT count(*) FROM ledger") > 500
            }
            try await Workload.stop(writers, in: database)
            let end = try home.weir("run", "--once")
            #expect(end.code == 0, "\(end.err)")

            let replay = try Replay(file: home.output)
            try replay.expectComplete(database)
            print("\(lives), \(replay.count) events, \(replay.ledger.count) transactions")
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
            var round = 0
            while round < 15 || truncations == 0 && round < 60 {
                round += 1
                let daemon = try home.run()
                try await Task.sleep(for: random.milliseconds(50...500))
                let isKilled = round % 3 != 0
                daemon.signal(isKilled ? SIGKILL : SIGTERM)
                let status = try await daemon.wait(within: .seconds(20))
                // Before it holds the directory a signal ends it as it ends any process.
                let isEarly = try status == .signalled(SIGTERM) && home.lockedBy() != daemon.pid
                let isKill = isKilled || isEarly
                #expect(isEarly || status == (isKilled ? .signalled(SIGKILL) : .exited(0)))
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
                      "format": "debezium", "tombstones": true
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
