import Testing
import WeirCore
import WeirPostgresSource
import WeirTesting

extension PostgresSourceTests {
    /// Where reading starts, how far it got, and what the server is told of it.
    @Suite struct Positions {
        private static let table = "CREATE TABLE t (id int PRIMARY KEY, v text)"

        @Test(
            "CORRECTNESS 4: a slot that was advanced or made anew behind our back is a declared gap"
        )
        func slotAdvanced() async throws {
            let database = try await TestDatabase(Self.table)
            let source = try await SourceHarness.open(database, tables: ["t"])
            try database.run("INSERT INTO t VALUES (1)")
            _ = try await source.drain()
            let durable = try #require(source.resume)
            await source.source.close()
            for cause in [
                "SELECT pg_replication_slot_advance('\(database.slot)', pg_current_wal_lsn())",
                """
                SELECT pg_drop_replication_slot('\(database.slot)');
                SELECT pg_create_logical_replication_slot('\(database.slot)', 'pgoutput')
                """,
            ] {
                try database.run("INSERT INTO t SELECT max(id) + 1 FROM t")
                try await eventually("nobody streams") { try database.slot("active") == "f" }
                try database.run(cause)
                let error = try await #require(throws: WeirError.self) {
                    try await source.open(at: durable)
                }
                #expect(error.code.name == "postgres.slot_advanced")
                #expect(error.disposition == .positionLost)
                let confirmed = try database.slot("confirmed_flush_lsn")
                #expect(error.message.contains(confirmed))
                #expect(error.message.contains(durable.lsn ?? "?"))
                #expect(
                    error.hint?.contains("weir position set \(database.name) confirmed --yes")
                        == true)
            }
            // The operator's word goes on where the slot stands.
            let plan = try await source.source.planSeek(to: "confirmed", from: source.stored)
            #expect(plan.effects.contains { $0.contains("a gap") })
            try await source.open(atStored: source.source.seek(plan))
            try database.run("INSERT INTO t VALUES (9)")
            #expect(try await source.drain().compactMap { $0.after?["id"] } == [9])
        }

        @Test("CORRECTNESS 4: our position ahead of the slot is normal, and nothing comes twice")
        func positionAheadOfSlot() async throws {
            let database = try await TestDatabase(Self.table)
            let source = try await SourceHarness.open(database, tables: ["t"])
            let confirmed = try database.slot("confirmed_flush_lsn")
            try database.run("INSERT INTO t VALUES (1)")
            #expect(try await source.drain().count == 1)
            #expect(try database.slot("confirmed_flush_lsn") == confirmed)
            try await source.open()
            try database.run("INSERT INTO t VALUES (2)")
            #expect(try await source.drain().compactMap { $0.after?["id"] } == [2])
        }

        @Test("CORRECTNESS 5: only acknowledge moves the slot, and never back")
        func onlyAcknowledgeMovesTheSlot() async throws {
            let database = try await TestDatabase(Self.table)
            let source = try await SourceHarness.open(database, tables: ["t"])
            let before = try database.slot("confirmed_flush_lsn")
            try database.run("INSERT INTO t VALUES (1)")
            let start = try #require(source.stored).position
            _ = try await source.drain()
            // Feedback is sent, and says that nothing is durable.
            try await source.source.acknowledge(nil)
            try await eventually("the server has our feedback") {
                try database.run(
                    """
                    SELECT write_lsn > coalesce(flush_lsn, '0/0') FROM pg_stat_replication
                    WHERE application_name = 'weir \(database.pipeline)'
                    """) == "t"
            }
            #expect(try database.slot("confirmed_flush_lsn") == before)
            try await source.acknowledge()
            let after = try database.slot("confirmed_flush_lsn")
            #expect(after == source.resume?.lsn)
            try await source.source.acknowledge(start)
            _ = try await source.drain()
            #expect(try database.slot("confirmed_flush_lsn") == after)
        }

        @Test("CORRECTNESS 5: what was acknowledged before a close is known to the server")
        func acknowledgedBeforeAClose() async throws {
            let database = try await TestDatabase(Self.table)
            let source = try await SourceHarness.open(database, tables: ["t"])
            try database.run(
                """
                DO $$ BEGIN
                    SET LOCAL synchronous_commit = off;
                    FOR i IN 1..30000 LOOP INSERT INTO t VALUES (i, 'x'); COMMIT; END LOOP;
                END $$
                """)
            for _ in 1...40 {
                // The server goes on sending meanwhile: much is on its way at each close.
                _ = try await source.read(until: "some commits", events: 50) { harness, lines in
                    lines.count >= 50 && harness.batch.resume != nil
                }
                let resume = try #require(source.resume)
                try await source.source.acknowledge(resume)
                await source.source.close()
                try await eventually("nobody streams") { try database.slot("active") == "f" }
                #expect(try database.slot("confirmed_flush_lsn") == resume.lsn)
                try await source.open(at: resume)
            }
        }

        @Test(
            "CORRECTNESS 5: there is nowhere to resume inside a transaction"
        )
        func neverInsideATransaction() async throws {
            let database = try await TestDatabase(Self.table)
            let source = try await SourceHarness.open(database, tables: ["t"])
            try database.run("INSERT INTO t SELECT n FROM generate_series(1, 2000) n")
            let commit = try #require(source.stored).position
            var split = 0
            let lines = try await source.read(until: "the commit", events: 100) { harness, lines in
                // A batch that ends inside says where reading stands, but not where to resume.
                if lines.count < 2000, !lines.isEmpty {
                    split += 1
                    #expect(harness.batch.resume == nil)
                    let end = try #require(harness.batch.end)
                    #expect(end > commit)
                }
                return lines.count == 2000 && harness.batch.resume != nil
            }
            #expect(split >= 5)
            #expect(lines.compactMap { $0.after?["id"]?.number } == Array(1...2000))
            let last = try #require(lines.last?.pos?["commit_lsn"]?.string)
            let end = try #require(source.resume)
            let lastCommit = try #require(Position(lsn: last))
            #expect(end > lastCommit)
        }

        @Test("CORRECTNESS 6: a quiet source moves on while another database writes")
        func idleAdvance() async throws {
            let database = try await TestDatabase(Self.table)
            let other = try await TestDatabase(Self.table)
            let source = try await SourceHarness.open(database, tables: ["t"])
            _ = try await source.drain()
            for round in 1...2 {
                try other.run("INSERT INTO t SELECT n, '\(round)' FROM generate_series(1, 5000) n")
                let head = try other.run("TRUNCATE t; SELECT pg_current_wal_lsn()")
                let target = try #require(Position(lsn: head))
                let lines = try await source.read(until: "a keepalive") { harness, _ in
                    harness.resume.map { $0 >= target } ?? false
                }
                #expect(lines.isEmpty)
                try await source.acknowledge()
                #expect(try database.slot("confirmed_flush_lsn >= '\(head)'") == "t")
            }
            // The position moved this way is as good as any other.
            try database.run("INSERT INTO t VALUES (1)")
            try await source.open(at: source.resume)
            #expect(try await source.drain().compactMap { $0.after?["id"] } == [1])
        }

        @Test("CORRECTNESS 6: a keepalive inside a transaction moves nothing")
        func noIdleAdvanceInsideATransaction() async throws {
            let database = try await TestDatabase(Self.table)
            let source = try await SourceHarness.open(database, tables: ["t"])
            try database.run("INSERT INTO t SELECT n FROM generate_series(1, 3000) n")
            var resume = source.resume
            _ = try await source.read(until: "the commit", events: 50) { harness, lines in
                let isOpen = harness.batch.resume == nil
                if isOpen { #expect(harness.resume == resume) }
                resume = harness.resume
                return lines.count == 3000 && !isOpen
            }
        }

        @Test(
            "CORRECTNESS 7: a marker moves a quiet slot and lies behind all that came before",
            arguments: PostgresVersion.allCases)
        func markerMovesAQuietSlot(version: PostgresVersion) async throws {
            let database = try await TestDatabase(Self.table, version: version)
            let source = try await SourceHarness.open(database, tables: ["t"])
            for round in 1...3 {
                try database.run("INSERT INTO t VALUES (\(round))")
                let marker = try #require(try await source.source.mark())
                let lines = try await source.read(until: "the marker") { harness, _ in
                    harness.resume.map { $0 >= marker } ?? false
                }
                #expect(lines.compactMap { $0.after?["id"]?.number } == [round])
                let commit = try #require(lines.first?.pos?["commit_lsn"]?.string)
                let place = try #require(Position(lsn: commit))
                #expect(place < marker)
                try await source.acknowledge()
                let lsn = try #require(marker.lsn)
                #expect(try database.slot("confirmed_flush_lsn >= '\(lsn)'") == "t")
            }
        }

        @Test("CORRECTNESS 7: a server that may not be written to is read without markers")
        func noMarkerWithoutTheRight() async throws {
            let database = try await TestDatabase(Self.table)
            let source = try await SourceHarness.open(database, tables: ["t"])
            #expect(try await source.source.mark() != nil)
            let reader = "reader_\(database.name)"
            try database.run(
                """
                CREATE ROLE \(reader) LOGIN REPLICATION; ALTER TABLE t OWNER TO \(reader);
                GRANT CREATE ON DATABASE \(database.name) TO \(reader);
                REVOKE EXECUTE ON FUNCTION pg_catalog.pg_logical_emit_message(bool, text, text)
                FROM PUBLIC
                """)
            await source.source.close()
            let modest = try SourceHarness(
                database, tables: ["t"], user: reader, notes: source.notes)
            try await modest.open(atStored: source.stored)
            #expect(try await modest.source.mark() == nil)
            try database.run("INSERT INTO t VALUES (1)")
            _ = try await modest.read(until: "the row") { $1.count == 1 }
            try database.run("REASSIGN OWNED BY \(reader) TO postgres; DROP OWNED BY \(reader)")
        }

        @Test("CORRECTNESS 36: a reconnect inside a transaction repeats nothing and misses nothing")
        func reconnectInsideATransaction() async throws {
            let database = try await TestDatabase(Self.table)
            let source = try await SourceHarness.open(database, tables: ["t"])
            let start = try #require(source.stored)
            try database.run(
                """
                INSERT INTO t SELECT n, repeat('x', 50) FROM generate_series(1, 500) n;
                BEGIN; UPDATE t SET v = 'y'; DELETE FROM t WHERE id % 2 = 0; COMMIT;
                INSERT INTO t VALUES (1000)
                """)
            let all = try await source.drain()
            #expect(all.count == 500 + 750 + 1)
            #expect(Set(all.compactMap { $0.id?.string }).count == all.count)

            try await source.open(atStored: start)
            var again: [Line] = []
            var resume: Position?
            for _ in 0..<200 {
                if again.count >= all.count { break }
                let lines = try await source.read(within: .milliseconds(20), events: 70)
                again += lines
                // Never back, whatever a reconnect brings.
                if let now = source.batch.resume {
                    #expect(resume.map { now >= $0 } ?? true)
                    resume = now
                }
                if !lines.isEmpty { try await source.open() }
                // The server has not sent as far again: reading stands where it stood.
                let stored = try #require(source.stored).position
                let empty = try await source.read(within: .zero, events: 1)
                again += empty
                let end = try #require(source.batch.end)
                #expect(end >= stored)
                // No place to resume behind that: a sink's mark would stand inside a transaction.
                // One after it is right when only the commit was left to read.
                #expect(source.batch.resume.map { $0 >= stored } ?? true)
            }
            #expect(again.map(\.text) == all.map(\.text))
        }

        @Test("CORRECTNESS 36: a restart at any place to resume gives the same ids from there on")
        func replayIsTheSame() async throws {
            let database = try await TestDatabase(Self.table)
            let source = try await SourceHarness.open(database, tables: ["t"])
            let first = try #require(source.stored)
            var places: [(position: Position, count: Int)] = [(first.position, 0)]
            var all: [Line] = []
            for round in 0..<5 {
                try database.run(
                    """
                    BEGIN; INSERT INTO t SELECT n + \(round * 10) FROM generate_series(1, 3) n;
                    UPDATE t SET v = '\(round)'; COMMIT;
                    SELECT pg_logical_emit_message(false, 'outside', '\(round)');
                    SELECT pg_logical_emit_message(true, 'inside', '\(round)')
                    """)
                all += try await source.drain()
                places.append((try #require(source.resume), all.count))
            }
            #expect(Set(all.compactMap { $0.id?.string }).count == all.count)
            #expect(all.compactMap { $0.id?.string } == all.compactMap { $0.id?.string }.sorted())
            for (position, count) in places {
                try await source.open(
                    atStored: StoredPosition(position: position, identity: first.identity))
                #expect(try await source.drain().map(\.text) == all.dropFirst(count).map(\.text))
            }
        }

        @Test("CORRECTNESS 36: what a filter of ours leaves out is counted, so ids stay the same")
        func filteredChangesKeepTheirOrdinals() async throws {
            let database = try await TestDatabase(
                """
                \(Self.table); CREATE TABLE other (id int PRIMARY KEY);
                CREATE PUBLICATION mine FOR ALL TABLES
                """)
            let config = ["publication": ConfigValue.string("mine")]
            let source = try await SourceHarness.open(
                database, tables: ["t", "other"], config: config)
            let start = source.stored
            try database.run(
                "BEGIN; INSERT INTO other VALUES (1); INSERT INTO t VALUES (1); COMMIT")
            let both = try await source.drain()
            #expect(both.compactMap { $0.pos?["seq"] } == [0, 1])
            await source.source.close()
            let narrow = try SourceHarness(
                database, tables: ["t"], config: config, notes: source.notes)
            try await narrow.open(atStored: start)
            #expect(try await narrow.drain() == both.suffix(1))
        }

        @Test("CORRECTNESS 37: events carry the commit's own time, exact to the microsecond")
        func commitTime() async throws {
            let database = try await TestDatabase(Self.table)
            let source = try await SourceHarness.open(database, tables: ["t"])
            try database.run("BEGIN; INSERT INTO t VALUES (1), (2); COMMIT")
            let lines = try await source.drain()
            let committed = try database.run(
                """
                SELECT to_char(pg_xact_commit_timestamp(xmin) AT TIME ZONE 'UTC',
                    'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') FROM t WHERE id = 1
                """)
            #expect(lines.compactMap { $0.ts?.string } == [committed, committed])
            let xid = try database.run("SELECT xmin FROM t WHERE id = 1")
            #expect(lines.first?.pos?["xid"]?.number == Int(xid))
        }
    }
}

extension Position {
    /// The place just before a commit at this LSN, in PostgreSQL's notation.
    fileprivate init?(lsn text: String) {
        let halves = text.split(separator: "/").compactMap { UInt64($0, radix: 16) }
        guard halves.count == 2 else { return nil }
        self.init(high: halves[0] << 32 | halves[1])
    }
}
