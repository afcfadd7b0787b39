import Foundation
import Glibc
import Testing
import WeirTesting

extension EndToEnd {
    /// The target says itself how far it is, in the transactions that change it.
    @Suite struct PostgresSinkPositionTests {
        /// `log` has no key but its whole row: whatever is delivered twice shows.
        private static let schema = """
            CREATE TABLE t (id int PRIMARY KEY, v text);
            CREATE TABLE log (n int);
            ALTER TABLE log REPLICA IDENTITY FULL;
            """

        private func start(_ sinks: [String: String] = PostgresCopy.plainSink) async throws
            -> PostgresCopy
        {
            let copy = try await PostgresCopy.make(["public.t", "public.log"], sinks: sinks)
            try copy.source.sql(Self.schema)
            try copy.home.once()
            return copy
        }

        private func insert(_ range: ClosedRange<Int>) -> String {
            let series = "generate_series(\(range.lowerBound), \(range.upperBound)) g"
            return """
                BEGIN;
                INSERT INTO t SELECT g, 'x' FROM \(series);
                INSERT INTO log SELECT g FROM \(series);
                COMMIT;
                """
        }

        private func expectEqual(
            _ copy: PostgresCopy, at location: SourceLocation = #_sourceLocation
        ) throws {
            try copy.expectEqual("t", at: location)
            try copy.expectEqual("log", at: location)
        }

        @Test func eachSinkHasARowThatMovesWithItsRows() async throws {
            let copy = try await start([
                "one": #""write": "table""#,
                "two": """
                "write": "table", "table": "second.{table}", "position_table": "Positions"
                """,
            ])
            try copy.deliver(insert(1...10))
            let first = try copy.target.position(of: "one")
            try copy.deliver(insert(11...20))
            #expect(try copy.target.position(of: "one") != first)
            #expect(
                try copy.target.sql("SELECT pipeline, sink FROM \"Positions\"") == "shop|two")
            #expect(try copy.target.sql("SELECT pipeline, sink FROM weir_position") == "shop|one")
            try expectEqual(copy)
            try copy.expectEqual("t", "second.t")
            try copy.expectEqual("log", "second.log")
            let fresh = try copy.target.number(
                "SELECT count(*) FROM weir_position WHERE updated > now() - interval '1 min'")
            #expect(fresh == 1)
            // With the daemon killed the row does not lie.
            let daemon = try copy.home.run()
            try await copy.home.untilStreaming()
            try copy.source.sql(insert(21...700))
            try await copy.untilEqual("t", "log")
            daemon.signal(SIGKILL)
            try await daemon.wait()
            try copy.home.once()
            try expectEqual(copy)
        }

        // MARK: One writer

        /// Another Weir with the same configuration and a copy of the state.
        private func twin(of home: WeirHome) throws -> WeirHome {
            let text = try String(contentsOfFile: home.configuration, encoding: .utf8)
            let twin = try WeirHome { _ in text }
            let copied = try runProcess("cp", ["-a", home.stateDirectory, twin.stateDirectory])
            guard copied.status == .exited(0) else { throw TestingError(copied.stderr) }
            return twin
        }

        /// Ends every connection of a Weir to these databases, as a network may.
        private func disconnect(_ databases: TestDatabase..., onlyStream: Bool = false) throws {
            for database in databases {
                try database.sql(
                    """
                    SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity
                    WHERE datname = '\(database.name)' AND pid <> pg_backend_pid()
                    AND (backend_type = 'walsender' OR \(!onlyStream))
                    """)
            }
        }

        @Test func aSecondDaemonDoesNotWriteWhileTheFirstHoldsTheTarget() async throws {
            let copy = try await start()
            let first = try copy.home.run()
            try await copy.home.untilStreaming()
            try copy.source.sql(insert(1...10))
            try await copy.untilEqual("t", "log")

            // Frozen, it holds the target, and the source gives it up.
            first.signal(SIGSTOP)
            let twin = try twin(of: copy.home)
            try disconnect(copy.source, onlyStream: true)
            try copy.source.sql(insert(11...20))
            let before = try copy.target.digest("log")
            let second = try twin.run()
            let problem = try await twin.untilProblem("postgres.other_writer")
            #expect(problem.component == "copy")
            #expect(try copy.target.digest("log") == before)
            #expect(try twin.status().pipeline("shop")?.state == "failing")
            second.signal(SIGTERM)
            #expect(try await second.wait() == .exited(0))

            first.signal(SIGCONT)
            try await copy.untilEqual("t", "log")
            try await copy.home.settle(first)
            try expectEqual(copy)
        }

        @Test func aDaemonThatWasTakenForDeadDoesNotWriteAgain() async throws {
            let copy = try await PostgresCopy.make(Workload.tables)
            try Workload.install(in: copy.source)
            let first = try copy.home.run()
            try await copy.home.untilStreaming()
            let writers = try (1...2).map { try Workload.writer($0, in: copy.source) }
            try await eventually("it writes") { (try? copy.target.count("ledger")) ?? 0 > 50 }
            first.signal(SIGSTOP)
            let twin = try twin(of: copy.home)
            try disconnect(copy.target)
            try disconnect(copy.source, onlyStream: true)
            let second = try twin.run()
            try await twin.untilStreaming()
            let position = try copy.target.position()
            try await eventually("the second writes") { try copy.target.position() != position }

            // It finds the second at work, and whatever it had under way is void.
            first.signal(SIGCONT)
            try await eventually(within: .seconds(30), "the first has noticed") {
                try copy.home.status().pipeline("shop")?.problems.isEmpty == false
            }
            let count = try copy.target.count("ledger")
            try await eventually("the second goes on") {
                try copy.target.count("ledger") > count + 50
            }
            try await Workload.stop(writers, in: copy.source)
            try await copy.untilEqual("items", "stock", "notes", "ledger")
            first.signal(SIGTERM)
            try await first.wait()
            try await twin.settle(second)
            for table in Workload.tables { try copy.expectEqual(table) }
        }

        // MARK: A target that lost what it had

        /// Starts against a target that has forgotten, and goes on as the hint says.
        private func expectRestored(_ copy: PostgresCopy) async throws {
            let problem = try await copy.expectStopped("postgres.target_restored")
            #expect(problem.hint?.contains("weir position set shop confirmed --yes") == true)
            let once = try copy.home.weir("run", "--once")
            #expect(once.code == 69, "\(once.err)")
            let move = try copy.home.weir("position", "set", "shop", "confirmed", "--yes")
            #expect(move.code == 0, "\(move.err)")
            try copy.home.once()
        }

        @Test func aTargetFromABackupStopsThePipelineUntilAnOperatorSaysGoOn() async throws {
            let copy = try await start()
            try copy.deliver(insert(1...10))
            let (server, name) = (copy.target.server, copy.target.name)
            _ = try server.psql("CREATE DATABASE \(name)_backup TEMPLATE \(name)")
            try copy.deliver(insert(11...20))
            // While it was down, the target was put back, and the source changed.
            _ = try server.psql(
                """
                ALTER DATABASE \(name) RENAME TO \(name)_lost;
                ALTER DATABASE \(name)_backup RENAME TO \(name);
                """)
            try copy.source.sql(insert(21...30))
            try await expectRestored(copy)
            // What lay between is gone, and everything else is there once.
            let (theirs, ours) = ("(SELECT * FROM log WHERE n NOT BETWEEN 11 AND 20)", "log")
            try copy.expectEqual(theirs, ours)
            try copy.deliver("UPDATE t SET v = 'touched'; \(insert(31...500))")
            try copy.expectEqual("t")
            try copy.expectEqual(theirs, ours)
        }

        @Test(arguments: ["DROP TABLE weir_position", "DELETE FROM weir_position"])
        func aPositionThatIsGoneStopsThePipelineToo(sql: String) async throws {
            let copy = try await start()
            try copy.deliver(insert(1...10))
            try copy.target.sql(sql)
            try copy.source.sql(insert(11...20))
            try await expectRestored(copy)
            try copy.deliver(insert(21...30))
            try expectEqual(copy)
        }

        @Test func aStateThatKnowsNothingOfATargetWithAPositionStops() async throws {
            let copy = try await start()
            try copy.deliver(insert(1...10))
            try FileManager.default.removeItem(atPath: copy.home.stateDirectory)
            try copy.source.dropSlots()
            let daemon = try copy.home.run()
            let problem = try await copy.untilStopped("postgres.target_forgotten")
            #expect(problem.component == "copy")
            daemon.signal(SIGTERM)
            #expect(try await daemon.wait() == .exited(0))
            #expect(
                try copy.home.weir("position", "set", "shop", "confirmed", "--yes").code == 0)
            try copy.deliver(insert(11...20))
            try expectEqual(copy)
        }

        // MARK: Outages

        @Test func aTargetThatCrashesUnderLoadEndsUpEqual() async throws {
            let copy = try await PostgresCopy.make(
                Workload.tables, target: TestDatabase.alone())
            try Workload.install(in: copy.source)
            try await copy.target.server.stop()
            let daemon = try copy.home.run()
            try await eventually("it waits") {
                (try? copy.home.status())?.pipeline("shop")?.state == "failing"
            }
            let writers = try (1...2).map { try Workload.writer($0, in: copy.source) }
            try await copy.target.server.restart()
            var count = 0
            for _ in 0..<4 {
                try await eventually(within: .seconds(30), "rows arrive") {
                    (try? copy.target.count("ledger")) ?? 0 > count + 100
                }
                try await copy.target.server.restart(.immediate)
                count = (try? copy.target.count("ledger")) ?? 0
            }
            try await eventually(within: .seconds(60), "a load worth the name") {
                try copy.source.count("ledger") > 400
            }
            try await Workload.stop(writers, in: copy.source)
            try await copy.untilEqual("items", "stock", "notes", "ledger")
            try await copy.home.settle(daemon)
            for table in Workload.tables { try copy.expectEqual(table) }
        }

        @Test func connectionsThatEndAgainAndAgainLeaveItEqual() async throws {
            var random = SeededRandom("ended connections")
            let copy = try await PostgresCopy.make(Workload.tables)
            try Workload.install(in: copy.source)
            let daemon = try copy.home.run()
            try await copy.home.untilStreaming()
            let writers = try (1...2).map {
                try Workload.writer($0, in: copy.source, pause: 0.0005)
            }
            for round in 0..<9 {
                // Now and then before it has moved on.
                let position = try copy.target.position()
                if round % 3 != 2 {
                    try await eventually(
                        within: .seconds(30), "it moves on", poll: .milliseconds(2)
                    ) {
                        try copy.target.position() != position
                    }
                }
                try await Task.sleep(for: random.milliseconds(0...60))
                try disconnect(copy.target)
            }
            try await Workload.stop(writers, in: copy.source)
            try await copy.untilEqual("items", "stock", "notes", "ledger")
            try await copy.home.settle(daemon)
            for table in Workload.tables { try copy.expectEqual(table) }
            #expect(try copy.target.count("ledger") > 400)
        }

        @Test func aDeadlockWithAnotherSessionOfTheTargetIsOvercome() async throws {
            let copy = try await start()
            try copy.target.sql(
                """
                \(Self.schema)
                ALTER TABLE t ADD note text;
                CREATE FUNCTION waits() RETURNS bool LANGUAGE sql AS $$
                    SELECT EXISTS (SELECT FROM pg_locks l JOIN pg_stat_activity USING (pid)
                        WHERE NOT l.granted AND datname = current_database()) $$;
                """)
            try copy.deliver(insert(1...2))
            let daemon = try copy.home.run()
            try await copy.home.untilStreaming()
            // It holds the second row until Weir holds the first and wants the second.
            let other = try ChildProcess(
                copy.target.server.program("psql"),
                [
                    "-X", "-q", "-h", "127.0.0.1", "-p", "\(copy.target.server.port)", "-U",
                    "postgres", "-d", copy.target.name, "-c",
                    """
                    DO $$ BEGIN
                        UPDATE t SET note = 'locked' WHERE id = 2;
                        WHILE NOT waits() LOOP
                            PERFORM pg_sleep(0.01);
                            PERFORM pg_stat_clear_snapshot();
                        END LOOP;
                        UPDATE t SET note = 'too' WHERE id = 1;
                    END $$
                    """,
                ])
            try await eventually("it holds the second row") {
                try copy.target.count(
                    "pg_locks WHERE mode = 'RowExclusiveLock' AND pid IN "
                        + "(SELECT pid FROM pg_stat_activity WHERE query LIKE 'DO %') "
                        + "AND relation = 't'::regclass") == 1
            }
            try copy.source.sql(
                """
                BEGIN;
                UPDATE t SET v = 'first' WHERE id = 1;
                UPDATE t SET v = 'second' WHERE id = 2;
                INSERT INTO log VALUES (3);
                COMMIT
                """)
            let rows = "(SELECT id, v FROM t)"
            try await copy.untilSame(rows)
            try await other.wait()
            try await copy.home.settle(daemon)
            try copy.expectEqual(rows)
            try copy.expectEqual("log")
            let deadlocks = try copy.target.number(
                "SELECT deadlocks FROM pg_stat_database WHERE datname = '\(copy.target.name)'")
            #expect(deadlocks == 1)
        }

        // MARK: Large transactions

        @Test func aTransactionOfManyBatchesIsThereAsAWholeOrNotAtAll() async throws {
            let copy = try await start()
            try copy.target.sql(Self.schema + "ALTER TABLE t SET (autovacuum_enabled = off)")
            let daemon = try copy.home.run()
            try await copy.home.untilStreaming()
            let rows = 200_000
            func pages() throws -> Int {
                try copy.target.number("SELECT pg_relation_size('t') / 8192")
            }
            var counts: Set<Int> = []
            func look() throws -> Bool {
                let pair = try copy.target.sql(
                    "SELECT (SELECT count(*) FROM t), (SELECT count(*) FROM log)")
                let parts = pair.split(separator: "|").compactMap { Int($0) }
                #expect(parts.count == 2 && parts[0] == parts[1], "\(pair)")
                counts.insert(parts.first ?? -1)
                return parts.first == rows
            }
            try copy.source.sql(insert(1...rows))
            // The connection ends while a part is written, and what was written is void.
            var ends = 0
            while ends < 2 {
                let start = try pages()
                try await eventually("a part is written", poll: .milliseconds(1)) {
                    let isWhole = try look()
                    if isWhole { ends = 9 }
                    if isWhole { return true }
                    return try pages() > start + 50
                }
                if ends < 2 { try disconnect(copy.target) }
                ends += 1
            }
            #expect(ends == 2, "it was whole before its connection was ended twice")
            try await eventually(within: .seconds(60), "it is whole", poll: .milliseconds(1)) {
                try look()
            }
            #expect(counts == [0, rows])
            try copy.source.sql("DELETE FROM t WHERE id > 10; DELETE FROM log WHERE false")
            try await copy.untilEqual("t", within: .seconds(60))
            try await copy.home.settle(daemon)
            try expectEqual(copy)
        }
    }
}
