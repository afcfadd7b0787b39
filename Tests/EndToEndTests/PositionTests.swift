import Foundation
import Glibc
import Testing
import WeirTesting

extension EndToEnd {
    /// Whatever makes going on unsafe stops the pipeline, says why, and says how to go on.
    @Suite struct PositionTests {
        private let database: TestDatabase
        private let home: WeirHome

        init() async throws {
            database = try await TestDatabase.make()
            try database.sql("CREATE TABLE t (id int PRIMARY KEY, v text)")
            home = try WeirHome(database, tables: ["public.t"])
        }

        private func insert(_ range: ClosedRange<Int>) throws {
            try database.sql(
                "INSERT INTO t SELECT g, 'x' FROM generate_series(\(range.lowerBound), "
                    + "\(range.upperBound)) g")
        }

        /// Delivers rows and ends.
        private func once() throws {
            let answer = try home.weir("run", "--once")
            guard answer.code == 0 else { throw TestingError(answer.err) }
        }

        private func ids(_ path: String? = nil) throws -> [Int] {
            try lines(of: path ?? home.output).map { line in
                let object =
                    try JSONSerialization.jsonObject(with: Data(line.utf8)) as? [String: Any]
                let key = object?["key"] as? [String: Any]
                return key?["id"] as? Int ?? -1
            }
        }

        /// Starts, waits until the pipeline has stopped with `code`, and ends the daemon.
        private func expectStopped(_ code: String, hints: [String]) async throws {
            let daemon = try home.run()
            try await expectStopped(daemon, code, hints: hints)
        }

        private func expectStopped(
            _ daemon: ChildProcess, _ code: String, hints: [String]
        ) async throws {
            var problem: Status.Problem?
            try await eventually("stopped with \(code)") {
                let pipeline = try? home.status().pipelines.first
                problem = pipeline?.problems.first
                return pipeline?.state == "stopped" && problem?.code == code
            }
            for hint in hints {
                #expect(problem?.hint?.contains(hint) == true, "\(problem as Any)")
            }
            let shown = try home.weir("status")
            #expect(shown.code == 69, "the pipeline has stopped")
            #expect(shown.out.contains("! shop/") && shown.out.contains("(\(code))"))
            for hint in hints { #expect(shown.out.contains(hint)) }
            daemon.signal(SIGTERM)
            #expect(try await daemon.wait() == .exited(0))
            let result = try home.weir("run", "--once")
            #expect(result.code == 69, "\(code) with --once")
            #expect(result.err.contains("error \(code): "))
        }

        private func gaps() throws -> [String] {
            let script = """
                import sqlite3, sys
                for row in sqlite3.connect(sys.argv[1]).execute('SELECT pipeline, message FROM gap'):
                    print(*row)
                """
            let answer = try runProcess(
                "python3", ["-c", script, home.stateDirectory + "/state.sqlite"])
            guard answer.status == .exited(0) else { throw TestingError(answer.stderr) }
            return answer.stdout.split(separator: "\n").map(String.init)
        }

        private func slots() throws -> Int {
            try database.number(
                "SELECT count(*) FROM pg_replication_slots WHERE database = current_database()")
        }

        @Test func aSlotTheStateDoesNotKnowIsRefusedUntilTakenOverOrDropped() async throws {
            try once()
            try insert(1...10)
            try once()
            try FileManager.default.removeItem(atPath: home.stateDirectory)
            try insert(11...20)
            try await expectStopped(
                "postgres.slot_unknown",
                hints: ["weir position set shop confirmed --yes", "weir drop shop --yes"])

            let plan = try home.weir("position", "set", "shop", "confirmed")
            #expect(plan.code == 0, "\(plan.err)")
            #expect(plan.out.contains("a gap") && plan.out.contains("--yes"))
            #expect(try gaps().isEmpty)
            #expect(try home.weir("run", "--once").code == 69, "nothing was changed")
            let move = try home.weir("position", "set", "shop", "confirmed", "--yes")
            #expect(move.code == 0, "\(move.err)")
            #expect(try gaps().count == 1)
            try once()
            #expect(try ids() == Array(1...20))

            try FileManager.default.removeItem(atPath: home.stateDirectory)
            let ask = try home.weir("drop", "shop")
            #expect(ask.code == 0, "\(ask.err)")
            #expect(ask.out.contains("Drop replication slot \"weir_shop\""))
            #expect(try slots() == 1)
            let drop = try home.weir("drop", "shop", "--yes")
            #expect(drop.code == 0, "\(drop.err)")
            #expect(drop.out.contains("dropped shop"))
            #expect(try slots() == 0)
            try once()
            try insert(21...22)
            try once()
            #expect(try ids() == Array(1...22))
        }

        private func epoch() throws -> Int {
            let words = try home.weir("position", "show", "shop").out.split(separator: " ")
            let index = try #require(words.firstIndex(of: "epoch"))
            return try #require(Int(words[index + 1].prefix { $0.isNumber }))
        }

        @Test func dropRemovesSlotPublicationAndState() async throws {
            try once()
            #expect(try database.sql("SELECT pubname FROM pg_publication") == "weir_shop")
            let daemon = try home.run()
            try await home.untilStreaming()
            let refused = try home.weir("drop", "shop", "--yes")
            #expect(refused.code == 69)
            #expect(refused.err.contains("error state.locked"))
            daemon.signal(SIGTERM)
            try await daemon.wait()
            #expect(try home.weir("drop", "shop", "--yes").code == 0)
            #expect(try slots() == 0)
            #expect(try database.sql("SELECT pubname FROM pg_publication").isEmpty)
            #expect(try home.weir("position", "show", "shop").out.contains("not been started"))
            let again = try home.weir("drop", "shop", "--yes")
            #expect(again.code == 0, "repeating it does no harm: \(again.err)")
        }

        @Test func theHintOfASlotThatWasAdvancedGoesOnThere() async throws {
            try once()
            try insert(1...3)
            try await eventually("the slot is free, and advanced") {
                let advance =
                    "SELECT pg_replication_slot_advance('weir_shop', pg_current_wal_lsn())"
                return (try? database.sql(advance)) != nil
            }
            try await expectStopped(
                "postgres.slot_advanced", hints: ["weir position set shop confirmed --yes"])
            let hint = try #require(try home.status().pipelines.first?.problems.first?.hint)
            let command = try #require(hint.firstMatch(of: /weir position set .*/))
            let done = try home.shell(String(command.output))
            #expect(done.code == 0, "\(done)")
            #expect(try gaps().count == 1)
            try insert(4...4)
            try once()
            #expect(try ids() == [4])
        }

        @Test func commandsOfHintsWorkAsPastedWhereverADaemonHasItsPlaces() async throws {
            try once()
            try database.dropSlots()
            let daemon = try home.run()
            var hint = ""
            try await eventually("it has stopped and says what to do beside a daemon") {
                hint = try home.status().pipelines.first?.problems.first?.hint ?? ""
                return hint.contains("weir stop ")
            }
            let move = try #require(hint.firstMatch(of: /weir stop .*/)).output
            let moved = try home.shell(String(move), knowsPlaces: false)
            #expect(moved.code == 0, "\(move): \(moved)")
            #expect(try await daemon.wait() == .exited(0))
            try await home.untilStreaming()
            // Beside the new daemon.
            let list = try home.weir("gap", "list").out
            let close = try #require(list.firstMatch(of: /weir gap resolve .*/)).output
            let closed = try home.shell(String(close), knowsPlaces: false)
            #expect(closed.out == "resolved gap 1\n", "\(close): \(closed)")
            #expect(try home.weir("gap", "list").out == "no gaps\n")
            #expect(try home.weir("stop").code == 0)
        }

        @Test func aSlotDroppedWhileDownStopsUntilTheGapIsDeclared() async throws {
            try once()
            try insert(1...5)
            try once()
            try database.dropSlots()
            try insert(6...10)
            try await expectStopped(
                "postgres.slot_missing", hints: ["weir position set shop now --yes"])
            let before = try epoch()
            let move = try home.weir("position", "set", "shop", "now", "--yes")
            #expect(move.code == 0, "\(move.err)")
            #expect(move.out.contains("are not delivered: a gap."))
            #expect(try gaps() == ["shop the position was set to now"])
            #expect(try epoch() > before)
            try insert(11...12)
            try once()
            #expect(try ids() == [1, 2, 3, 4, 5, 11, 12])
        }

        @Test func anOutputThatIsMissingIsAGapAndAShortOneStops() async throws {
            try once()
            try insert(1...5)
            try once()
            let whole = try Data(contentsOf: URL(fileURLWithPath: home.output))
            try insert(6...7)

            try whole.dropLast(10).write(to: URL(fileURLWithPath: home.output))
            let moved = home.folder.file("out.jsonl.old")
            try await expectStopped("file.lost", hints: ["mv \(home.output) \(moved)"])
            #expect(fileSize(home.output) == whole.count - 10, "left as it was found")

            // What the hint says.
            try FileManager.default.moveItem(atPath: home.output, toPath: moved)
            let epochBefore = try epoch()
            try once()
            #expect(try ids() == [6, 7])
            #expect(try epoch() == epochBefore)
            #expect(try home.weir("status", "--json").out.contains("\"file.lost\""))
        }

        @Test func anOutputIsRotatedByMovingItWhileWeirRuns() async throws {
            let daemon = try home.run()
            try await home.untilStreaming()
            try insert(1...5)
            try await eventually("five lines") { lines(of: home.output).count == 5 }
            let moved = home.folder.file("moved.jsonl")
            try FileManager.default.moveItem(atPath: home.output, toPath: moved)
            try insert(6...7)
            try await eventually("two lines in the new one") {
                lines(of: home.output).count == 2
            }
            daemon.signal(SIGTERM)
            #expect(try await daemon.wait() == .exited(0))
            #expect(try ids(moved) == Array(1...5))
            try insert(8...8)
            try once()
            #expect(try ids() == [6, 7, 8])
            #expect(try !home.weir("status", "--json").out.contains("\"file.lost\""))
        }

        @Test func anOutputThatIsEmptiedWhileWeirRunsStopsThePipeline() async throws {
            let daemon = try home.run()
            try await home.untilStreaming()
            try insert(1...5)
            try await eventually("five lines") { lines(of: home.output).count == 5 }
            let row = { try home.positions()["file"] }
            try await eventually("stored") { try row()?.mark == fileSize(home.output) }
            try home.folder.write("", to: "out.jsonl")
            try insert(6...7)
            try await expectStopped(daemon, "file.lost", hints: ["mv \(home.output)"])
            #expect(fileSize(home.output) == 0)
            #expect(try slots() == 1)
            // The hint as it stands, with the daemon down.
            let hint = try #require(try home.status().pipelines.first?.problems.first?.hint)
            let commands = try #require(hint.firstRange(of: "mv "))
            let done = try home.shell(String(hint[commands.lowerBound...]))
            #expect(done.code == 0, "\(done)")
            try await eventually("two lines") { lines(of: home.output).count == 2 }
            #expect(try ids() == [6, 7])
            #expect(try home.weir("stop").code == 0)
        }
    }

    @Suite struct OnceTests {
        @Test func onceEndsByItselfWithEverythingDelivered() async throws {
            let database = try await TestDatabase.make()
            try database.sql("CREATE TABLE t (id int PRIMARY KEY, v text)")
            let home = try WeirHome(database, tables: ["public.t"])
            let empty = try home.weir("run", "--once", within: .seconds(10))
            #expect(empty.code == 0, "\(empty.err)")
            #expect(fileSize(home.output) == 0)
            try database.sql(
                "INSERT INTO t SELECT g, repeat('x', 100) FROM generate_series(1, 50000) g")
            let full = try home.weir("run", "--once")
            #expect(full.code == 0, "\(full.err)")
            #expect(lines(of: home.output).count == 50_000)
            // What vacuum writes meanwhile lies behind it.
            let head = try database.sql("SELECT pg_current_wal_lsn()")
            let idle = try home.weir("run", "--once", within: .seconds(10))
            #expect(idle.code == 0, "\(idle.err)")
            #expect(lines(of: home.output).count == 50_000)
            let left = try database.number(
                "SELECT '\(head)'::pg_lsn - confirmed_flush_lsn FROM pg_replication_slots "
                    + "WHERE slot_name = 'weir_shop'")
            #expect(left <= 0, "acknowledged before it ended")
        }

        @Test func onceGivesUpOnASourceItCannotReach() async throws {
            let database = try await TestDatabase.alone()
            try database.sql("CREATE TABLE t (id int PRIMARY KEY, v text)")
            let home = try WeirHome(database, tables: ["public.t"])
            #expect(try home.weir("run", "--once").code == 0)
            try await database.server.stop()
            let answer = try home.weir("run", "--once", within: .seconds(30))
            #expect(answer.code == 75)
            #expect(answer.err.contains("error postgres.connection_failed: "))
        }
    }
}
