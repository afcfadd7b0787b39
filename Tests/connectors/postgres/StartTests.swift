import Testing
import WeirCore
import WeirPostgresClient
import WeirTesting

@testable import WeirPostgresSource

extension PostgresSourceTests {
    /// The first start, cut short anywhere, and what an operator can do about a position.
    @Suite struct Starts {
        private static let table = "CREATE TABLE t (id int PRIMARY KEY)"

        @Test("CORRECTNESS 1: a first start that ended before its slot was made starts again")
        func intentWithoutSlot() async throws {
            let database = try await TestDatabase(Self.table)
            let source = try await SourceHarness.open(database, tables: ["t"])
            await source.source.close()
            try await eventually("the slot is free") { try database.slot("active") == "f" }
            try database.run("SELECT pg_drop_replication_slot('\(database.slot)')")
            // The notes say that a slot was meant to be, and no position was stored.
            #expect(try await source.notes.get("slot") != nil)
            try await source.open(atStored: nil)
            try database.run("INSERT INTO t VALUES (1)")
            #expect(try await source.drain().count == 1)
        }

        @Test(
            "CORRECTNESS 1: a slot made by a first start that was cut short is taken up"
        )
        func intentWithSlot() async throws {
            let database = try await TestDatabase(Self.table)
            let source = try await SourceHarness.open(database, tables: ["t"])
            await source.source.close()
            let confirmed = try database.slot("confirmed_flush_lsn")
            try database.run("INSERT INTO t VALUES (1)")
            let start = try await source.open(atStored: nil)
            #expect(start.position.lsn == confirmed)
            #expect(try await source.drain().compactMap { $0.after?["id"] } == [1])
            #expect(try database.slot("confirmed_flush_lsn") == confirmed)
        }

        @Test func aServerWithoutLogicalDecodingIsRefusedAndTheHintTurnsItOn() async throws {
            let server = try await PostgresServer.start(settings: ["wal_level": "replica"])
            let database = try await TestDatabase(Self.table, server: server)
            let source = try SourceHarness(database, tables: ["t"])
            let error = try await #require(throws: WeirError.self) { try await source.open() }
            #expect(error.code.name == "postgres.wal_level" && error.disposition == .blocked)
            let hint = try #require(error.hint)
            let start = try #require(hint.firstRange(of: "ALTER SYSTEM"))
            try database.run(String(hint[start.lowerBound...]))
            try await server.restart()
            try await source.open()
            await source.source.close()
        }

        @Test("CORRECTNESS 88: what Weir made and is no longer configured is named, and dropped")
        func leftBehind() async throws {
            let database = try await TestDatabase(Self.table)
            let first = try await SourceHarness.open(database, tables: ["t"])
            let publication = first.config.publication
            _ = try await first.drain()
            await first.source.close()
            try database.run("CREATE PUBLICATION mine FOR TABLE t")
            let source = try SourceHarness(
                database, tables: ["t"],
                config: [
                    "slot": .string("\(database.slot)_b"), "publication": .string("mine"),
                ], notes: first.notes)
            // Where the new slot begins is the operator's word, and until then nothing is lost.
            let error = await #expect(throws: WeirError.self) {
                try await source.open(atStored: first.stored)
            }
            #expect(error?.code.name == "postgres.identity_changed")
            #expect(
                source.reports.findings.map(\.subject) == [
                    "slot \(database.slot)", "publication \(publication)",
                ])
            let plan = try await source.source.planSeek(to: "now", from: first.stored)
            #expect(plan.effects.last?.contains("a gap") == true)
            let now = try await source.source.seek(plan)
            try await source.open(atStored: now)
            #expect(source.findings == ["postgres.left_behind", "postgres.left_behind"])
            // Each hint is SQL that drops it; `weir drop` would do the same.
            let hints = source.reports.findings.compactMap(\.hint)
            #expect(hints[0].hasPrefix("SELECT pg_drop_replication_slot('\(database.slot)');"))
            let effects = try await source.source.describeCleanUp()
            #expect(effects.contains { $0.contains("\"\(database.slot)\"") })
            #expect(effects.contains { $0.contains("\"\(publication)\"") })
            try database.run(String(hints[1].prefix { $0 != ";" }))
            try await source.open(atStored: now)
            #expect(source.findings == ["postgres.left_behind"])
            await source.source.close()
            try await eventually("the slot is free") {
                try database.run(
                    "SELECT bool_or(active) FROM pg_replication_slots "
                        + "WHERE slot_name = '\(database.slot)_b'") == "f"
            }
            let done = try await source.source.cleanUp()
            #expect(done.contains("dropped replication slot \"\(database.slot)\""))
            let left =
                "SELECT count(*) FROM pg_replication_slots "
                + "WHERE database = current_database()"
            #expect(try database.run(left) == "0")
            #expect(try database.run("SELECT pubname FROM pg_publication") == "mine")
            #expect(try await source.source.describeCleanUp().isEmpty)
        }

        @Test("CORRECTNESS 4: a slot that our state knows nothing of is refused and left alone")
        func slotWithoutIntent() async throws {
            let database = try await TestDatabase(Self.table)
            let source = try await SourceHarness.open(database, tables: ["t"])
            await source.source.close()
            try database.run("INSERT INTO t VALUES (1)")
            let before = try database.slot("confirmed_flush_lsn")
            // The state was lost, or is that of another server.
            for notes in [[:], ["slot": "7 \(database.slot)"]] {
                let stranger = try SourceHarness(
                    database, tables: ["t"], notes: MemoryNotes(notes))
                let error = try await #require(throws: WeirError.self) {
                    try await stranger.open()
                }
                #expect(error.code.name == "postgres.slot_unknown")
                #expect(error.disposition == .blocked)
                #expect(
                    error.hint?.contains("weir position set \(database.name) confirmed --yes")
                        == true)
                #expect(try database.slot("confirmed_flush_lsn") == before)
            }
            let heir = try SourceHarness(database, tables: ["t"])
            let plan = try await heir.source.planSeek(to: "confirmed", from: nil)
            try await heir.open(atStored: heir.source.seek(plan))
            #expect(try await heir.drain().compactMap { $0.after?["id"] } == [1])
        }

        @Test(
            "CORRECTNESS 4: a position given by hand lies between the slot and the end of the log")
        func seek() async throws {
            let database = try await TestDatabase(Self.table)
            let source = try await SourceHarness.open(database, tables: ["t"])
            try database.run("INSERT INTO t VALUES (1)")
            _ = try await source.drain()
            let middle = try #require(source.resume?.lsn)
            try database.run("INSERT INTO t VALUES (2)")
            _ = try await source.drain()
            await source.source.close()
            for target in ["0/1", "FFFF/0", "soon"] {
                let error = try await #require(throws: WeirError.self) {
                    _ = try await source.source.planSeek(to: target, from: source.stored)
                }
                #expect(error.disposition == .blocked)
                #expect(error.message.contains(target))
            }
            let plan = try await source.source.planSeek(to: middle, from: source.stored)
            try await source.open(atStored: source.source.seek(plan))
            #expect(try await source.drain().compactMap { $0.after?["id"] } == [2])

            let now = try await source.source.planSeek(to: "now", from: source.stored)
            await source.source.close()
            try await source.open(atStored: source.source.seek(now))
            #expect(try await source.drain().isEmpty)
            try database.run("INSERT INTO t VALUES (3)")
            #expect(try await source.drain().compactMap { $0.after?["id"] } == [3])
        }

        @Test func cleanUpRemovesWhatWasMadeAndMayBeRepeated() async throws {
            let database = try await TestDatabase(Self.table)
            let source = try await SourceHarness.open(database, tables: ["t"])
            await source.source.close()
            #expect(try await source.source.describeCleanUp().count == 2)
            #expect(try await source.source.cleanUp().count == 2)
            #expect(try database.slot("slot_name") == "")
            #expect(try database.run("SELECT pubname FROM pg_publication") == "")
            #expect(try await source.source.describeCleanUp().isEmpty)
            #expect(try await source.source.cleanUp().isEmpty)
            // As on the first day.
            try await source.open(atStored: nil)
            try database.run("INSERT INTO t VALUES (1)")
            #expect(try await source.drain().count == 1)
        }

        @Test func probeSaysWhatTheServerKeeps() async throws {
            let database = try await TestDatabase(Self.table)
            let source = try await SourceHarness.open(database, tables: ["t"])
            try database.run("INSERT INTO t VALUES (1)")
            let retention = try await source.source.probe(held: nil)
            #expect(retention.active)
            #expect(retention.status == "reserved")
            #expect(retention.confirmed == (try database.slot("confirmed_flush_lsn")))
            #expect(retention.lagBytes ?? 0 > 0)
            #expect(retention.retainedBytes ?? 0 >= retention.lagBytes ?? 0)
            #expect(retention.limitBytes == nil)
            await source.source.close()
            try await eventually("the slot is free") { try database.slot("active") == "f" }
            #expect(try await source.source.probe(held: nil).active == false)
        }

        @Test func manyTablesAreAskedForInParts() async throws {
            let count = 2 * PostgresSource.tablesPerQuestion + 1
            let database = try await TestDatabase(
                """
                DO $$ BEGIN FOR i IN 1..\(count) LOOP
                EXECUTE format('CREATE TABLE t%s (id int PRIMARY KEY)', i); END LOOP; END $$;
                CREATE TABLE r (id int PRIMARY KEY) PARTITION BY RANGE (id);
                CREATE TABLE r1 PARTITION OF r FOR VALUES FROM (0) TO (9)
                """)
            let names = (1...count).map { "t\($0)" } + ["r"]
            let source = try await SourceHarness.open(database, tables: names)
            let tables = try await source.source.tables()
            #expect(tables.map(\.name) == names)
            #expect(tables.allSatisfy { $0.columns.count == 1 && $0.key == [0] })
            try await source.probe()
            try database.run("ALTER TABLE t\(count) ADD w int DEFAULT 5")
            try await source.probe()
            #expect(source.reports.gaps.map(\.subject) == ["public.t\(count)"])
        }

        @Test func theLookEveryOtherSecondIsCheap() async throws {
            let database = try await TestDatabase(
                """
                CREATE TABLE t (id int PRIMARY KEY);
                CREATE TABLE r (id int PRIMARY KEY) PARTITION BY RANGE (id);
                DO $$ BEGIN FOR i IN 0..49 LOOP EXECUTE format(
                'CREATE TABLE r%s PARTITION OF r FOR VALUES FROM (%s) TO (%s)', i, i, i + 1);
                END LOOP; END $$; ANALYZE
                """)
            let url = database.server.url(database: database.name)
            let connection = try PostgresConnection(
                ConnectionString(url), mode: .sql, name: "weir test")
            #expect(try connection.queryRow("SHOW jit") == ["off"])
            let tables = ["t", "r"].map { TableName(schema: "public", name: $0) }
            let query = Publication.watchQuery("p", tables, serverVersion: 150000)
            let plan = try connection.queryRow("EXPLAIN \(query)")[0] ?? ""
            let cost = plan.firstMatch(of: /\.\.([0-9]+)/).flatMap { Double($0.output.1) }
            // Of what the planner takes for a hundred times as much it compiles.
            #expect(try #require(cost) < 1000, "\(plan)")
        }

        @Test("CORRECTNESS 6: a read ends in time, however much there is to leave out")
        func readEndsInTime() async throws {
            let database = try await TestDatabase(
                """
                \(Self.table); CREATE TABLE other (id int PRIMARY KEY);
                CREATE PUBLICATION mine FOR ALL TABLES
                """)
            let source = try await SourceHarness.open(
                database, tables: ["t"], config: ["publication": .string("mine")])
            try database.run(
                """
                INSERT INTO other SELECT n FROM generate_series(1, 100000) n;
                INSERT INTO t VALUES (1)
                """)
            var reads = 0
            var filtered = 0
            try await eventually("the row is read") {
                let batch = try await source.readBatch(within: .milliseconds(2))
                reads += 1
                filtered += batch.filtered
                return !batch.events.isEmpty
            }
            #expect(filtered == 100_000)
            #expect(reads > 5)
        }
    }
}
