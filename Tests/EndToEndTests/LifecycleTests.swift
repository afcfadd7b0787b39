import Foundation
import Glibc
import Testing
import WeirTesting

extension EndToEnd {
    /// The daemon from start to stop, and what can be seen of it meanwhile.
    @Suite struct LifecycleTests {
        private static func home() async throws -> (WeirHome, TestDatabase) {
            let database = try await TestDatabase.make()
            try database.sql("CREATE TABLE t (id int PRIMARY KEY, v text)")
            return (try WeirHome(database, tables: ["public.t"]), database)
        }

        /// Stops what `weir start` left behind, whatever the test did.
        private static func withBackground(
            _ home: WeirHome, _ body: () async throws -> Void
        ) async throws {
            do {
                try await body()
            } catch {
                _ = try? home.weir("stop")
                throw error
            }
            _ = try? home.weir("stop")
        }

        @Test func startStatusAndStopTellOneStory() async throws {
            let (home, database) = try await Self.home()
            try await Self.withBackground(home) {
                let start = try home.weir("start")
                #expect(start.code == 0, "\(start.err)")
                let pid = try #require(start.out.firstMatch(of: /started \(pid (\d+)\)/)?.1)
                #expect(start.out.contains("  shop: streaming\n"))
                #expect(permissions(home.stateDirectory) == 0o700)
                #expect(permissions(home.stateDirectory + "/weir.sock") == 0o600)
                #expect(permissions(home.stateDirectory + "/weir.log") == 0o600)
                #expect(permissions(home.stateDirectory + "/weir.pid") == 0o600)
                let again = try home.weir("start")
                #expect(again.code == 0)
                #expect(again.out == "weir is already running (pid \(pid))\n")
                let second = try home.weir("run")
                #expect(second.code == 69)
                #expect(second.err.contains("error state.locked: another weir (pid \(pid))"))
                #expect(second.err.contains("weir stop --state-dir \(home.stateDirectory)"))

                try database.sql("INSERT INTO t VALUES (1, 'a'), (2, 'b')")
                try await eventually("two lines") { lines(of: home.output).count == 2 }
                let overview = try home.weir("status")
                #expect(overview.code == 0)
                #expect(overview.out.contains("1 pipeline: 1 ok"))
                #expect(overview.out.contains(#/\nshop +streaming +0s /#))
                let detail = try home.weir("status", "shop")
                #expect(detail.code == 0)
                #expect(detail.out.contains("slot weir_shop  active"))
                #expect(detail.out.contains(#/\nfile +ok +[0-9A-F]+/[0-9A-F]+ /#))
                for line in (overview.out + detail.out).split(separator: "\n") {
                    #expect(line.count <= 100, "too wide: \(line)")
                }

                // As the second one was told.
                let hint = try #require(second.err.firstMatch(of: /weir stop --state-dir .*/))
                let stop = try home.shell(String(hint.output))
                #expect(stop.code == 0)
                #expect(stop.out == "weir stopped (pid \(pid))\n")
                let down = try home.weir("status")
                #expect(down.code == 69)
                #expect(down.out.contains(/daemon not running \(last seen \ds ago\)/))
                #expect(try home.weir("status", "shop").out.contains("slot weir_shop  inactive"))
                let log = lines(of: home.stateDirectory + "/weir.log")
                #expect(log.count <= 13, "at most 12 lines at start, one at the end")
            }
        }

        @Test func statusAsJSONKeepsItsContract() async throws {
            let (home, database) = try await Self.home()
            let daemon = try home.run()
            try await home.untilStreaming()
            try database.sql("INSERT INTO t VALUES (1, 'a')")
            try await eventually("delivered") { lines(of: home.output).count == 1 }
            let answer = try home.weir("status", "--json")
            #expect(answer.code == 0)
            let object = try JSONSerialization.jsonObject(with: Data(answer.out.utf8))
            let missing = Self.contract.subtracting(Self.keys(of: object))
            #expect(missing.isEmpty, "the contract only grows")
            let text = try String(contentsOfFile: "/proc/\(daemon.pid)/status", encoding: .utf8)
            print("\(text.firstMatch(of: /VmRSS:.*/)?.0 ?? "") idle")
            daemon.signal(SIGTERM)
            #expect(try await daemon.wait() == .exited(0))
        }

        private static func keys(of value: Any, at path: String = "") -> Set<String> {
            if let list = value as? [Any] {
                return list.reduce(into: []) { $0.formUnion(keys(of: $1, at: path + "[]")) }
            }
            guard let object = value as? [String: Any] else { return [] }
            return object.reduce(into: []) { all, member in
                let place = path.isEmpty ? member.key : "\(path).\(member.key)"
                all.insert(place)
                all.formUnion(keys(of: member.value, at: place))
            }
        }

        private static let contract: Set<String> = Set(
            ["schema", "version", "is_running", "pid", "started", "uptime_seconds", "last_seen"]
                + [
                    "name", "state", "lag_seconds", "queued_events", "received_per_second",
                    "delivered_per_second", "delivered_last_minutes", "errors_last_hour",
                    "warnings", "problems", "errors", "sinks", "source",
                ].map { "pipelines[].\($0)" }
                + [
                    "type", "connection", "server", "received", "received_bytes", "filtered",
                    "last_event", "last_heartbeat", "retention", "retention.name",
                    "retention.active", "retention.status", "retention.head",
                    "retention.confirmed", "retention.retained_bytes", "retention.lag_bytes",
                ].map { "pipelines[].source.\($0)" }
                + [
                    "name", "type", "state", "position", "lag_seconds", "queued_events",
                    "queued_bytes", "in_flight_events", "spilled_bytes", "delivered", "filtered",
                    "bytes", "retries", "p50_ms", "p99_ms", "errors_last_hour",
                ].map { "pipelines[].sinks[].\($0)" })

        @Test func watchShowsFramesUntilInterrupted() async throws {
            let (home, _) = try await Self.home()
            let daemon = try home.run()
            try await home.untilStreaming()
            let watch = try ChildProcess(
                weirBinary,
                ["status", "--watch", "--state-dir", home.stateDirectory, "-c", home.configuration])
            try await eventually("two frames") {
                try watch.standardOutput().matches(of: /PIPELINE/).count >= 2
            }
            watch.signal(SIGINT)
            #expect(try await watch.wait() == .signalled(SIGINT))
            #expect(try !watch.standardOutput().contains("\u{1B}"), "no terminal, no colours")
            daemon.signal(SIGTERM)
            #expect(try await daemon.wait() == .exited(0))
        }

        @Test func whatAKilledDaemonLeavesIsNoObstacle() async throws {
            let (home, _) = try await Self.home()
            let daemon = try home.run()
            try await home.untilStreaming()
            daemon.signal(SIGKILL)
            try await daemon.wait()
            #expect(FileManager.default.fileExists(atPath: home.stateDirectory + "/weir.sock"))
            #expect(FileManager.default.fileExists(atPath: home.stateDirectory + "/weir.pid"))
            #expect(!FileManager.default.fileExists(atPath: Self.counters("\(daemon.pid)")))
            #expect(try home.weir("status").code == 69)
            #expect(try home.weir("stop").out == "weir is not running\n")
            try await Self.withBackground(home) {
                let start = try home.weir("start")
                #expect(start.code == 0, "\(start.err)")
                #expect(start.out.contains("shop: streaming"))
                #expect(try home.weir("status").code == 0)
            }
        }

        /// libmongoc's counters, which it makes in every process that it is part of.
        private static func counters(_ pid: String) -> String { "/dev/shm/mongoc-\(pid)" }

        @Test func countersOfAnEarlierProcessWithOurPidAreNobodysBusiness() throws {
            let text = """
                file=\(Self.counters("$$")); : > "$file"; echo "$file"; exec \(weirBinary) version
                """
            let result = try runProcess("sh", ["-c", text])
            #expect(result.status == .exited(0))
            #expect(result.stderr.isEmpty, "\(result.stderr)")
            let path = try #require(result.stdout.split(separator: "\n").first.map(String.init))
            #expect(path.hasPrefix("/dev/shm/mongoc-") && !path.hasSuffix("$$"))
            #expect(!FileManager.default.fileExists(atPath: path))
        }

        @Test func aStopUnderLoadLeavesSlotAndFileInStep() async throws {
            let database = try await TestDatabase.make()
            try Workload.install(in: database)
            let home = try WeirHome(database, tables: Workload.tables)
            let daemon = try home.run()
            try await home.untilStreaming()
            let writers = try (1...2).map { try Workload.writer($0, in: database, pause: 0.0005) }
            try await eventually(within: .seconds(60), "a few thousand events") {
                // A large transaction may be all of the first megabyte.
                fileSize(home.output) > 1_000_000
                    && lines(of: home.output).count { $0.contains(#""table":"ledger""#) } > 150
            }
            daemon.signal(SIGTERM)
            let start = ContinuousClock.now
            #expect(try await daemon.wait() == .exited(0))
            #expect(ContinuousClock.now - start < .seconds(3))
            let count = try database.number("SELECT count(*) FROM ledger")
            try await eventually("the load goes on") {
                try database.number("SELECT count(*) FROM ledger") > count
            }
            try await Workload.stop(writers, in: database)

            let row = try #require(try home.positions()["file"])
            #expect(fileSize(home.output) == row.mark, "no half transaction at the end")
            #expect(
                try database.sql(
                    "SELECT confirmed_flush_lsn FROM pg_replication_slots "
                        + "WHERE slot_name = 'weir_shop'") == row.position)
            // What the slot would send now and what the file has is everything, once.
            let left = Set(
                try database.sql(
                    "SELECT DISTINCT xid FROM pg_logical_slot_peek_binary_changes('weir_shop', NULL, "
                        + "NULL, 'proto_version', '1', 'publication_names', 'weir_shop') "
                        + "WHERE get_byte(data, 0) = ascii('I')"
                ).split(separator: "\n").compactMap { Int($0) })
            let held = Set(try Replay(file: home.output).ledger.map(\.xid))
            let all = Set(
                try database.sql("SELECT xid FROM ledger").split(separator: "\n").compactMap {
                    Int($0)
                })
            #expect(held.isDisjoint(with: left))
            #expect(held.union(left) == all)
            #expect(held.count > 100 && !left.isEmpty)
        }

        @Test func aSecondSignalEndsADaemonWithAStuckSink() async throws {
            let (home, database) = try await Self.home()
            try home.configure(
                """
                {
                  "connections": { "db": { "type": "postgres", "url": "\(database.url)" } },
                  "pipelines": {
                    "shop": {
                      "source": { "connection": "db", "tables": ["public.t"] },
                      "sinks": { "out": { "type": "stdout" } }
                    }
                  }
                }
                """)
            // Nobody reads: the first write that does not fit blocks for good.
            let pipe = home.folder.file("stdout")
            #expect(unsafe mkfifo(pipe, 0o600) == 0)
            let reader = unsafe open(pipe, O_RDWR | O_NONBLOCK)
            defer { close(reader) }
            for (signal, code) in [(SIGTERM, 143), (SIGINT, 130)] as [(Int32, Int32)] {
                let daemon = try home.run()
                try await eventually("it reads") {
                    try database.number(
                        "SELECT count(*) FROM pg_replication_slots WHERE active AND database = "
                            + "current_database()") == 1
                }
                try database.sql(
                    "TRUNCATE t; INSERT INTO t SELECT g, repeat('x', 500) "
                        + "FROM generate_series(1, 5000) g")
                try await eventually("events wait") {
                    try home.weir("status", "--json").out.contains(
                        /"in_flight_events" : [1-9]/)
                }
                daemon.signal(SIGTERM)
                try await eventually("it is stopping") { home.logText().contains("stopping") }
                #expect(daemon.isRunning, "it waits for the sink")
                daemon.signal(signal)
                #expect(try await daemon.wait(within: .seconds(5)) == .exited(code))
                try FileManager.default.removeItem(atPath: home.log)
            }
        }
    }
}
