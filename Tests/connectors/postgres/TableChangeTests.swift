import Testing
import WeirCore
import WeirPostgresClient
import WeirTesting

@testable import WeirPostgresSource

extension PostgresSourceTests {
    /// What happens to a table besides changes of its rows.
    @Suite struct TableChanges {
        /// The statements of a hint, as an operator would paste them.
        static func statements(_ hint: String?) -> [String] {
            (hint ?? "").matches(of: /(ALTER|UPDATE|ROLLBACK) [^;]*;/).map { String($0.output.0) }
        }

        @Test(
            "CORRECTNESS 76: a table made again under its name is a declared gap, and is read",
            arguments: [true, false])
        func madeAgain(isRunning: Bool) async throws {
            let database = try await TestDatabase("CREATE TABLE t (id int PRIMARY KEY, v text)")
            let source = try await SourceHarness.open(database, tables: ["t"])
            try database.run("INSERT INTO t VALUES (1, 'old')")
            #expect(try await source.drain().count == 1)
            if !isRunning { await source.source.close() }
            try database.run(
                """
                INSERT INTO t VALUES (2, 'last'); BEGIN; DROP TABLE t;
                CREATE TABLE t (id int PRIMARY KEY, v text); COMMIT; INSERT INTO t VALUES (3, 'x')
                """)
            if isRunning {
                let changed = try await #require(throws: WeirError.self) {
                    try await source.probe()
                }
                #expect(changed.code.name == "postgres.table_changed")
                #expect(changed.disposition == .transient)
            }
            try await source.open()
            #expect(source.gaps == ["postgres.table_replaced"])
            let gap = try #require(source.reports.gaps.first)
            #expect(gap.subject == "public.t")
            try database.run("INSERT INTO t VALUES (4, 'new')")
            var lines = try await source.drain()
            // What the table before did last, and the new one since it is followed.
            #expect(lines.compactMap { $0.after?["id"] } == [2, 4])
            // The hint brings the rows that are missing.
            for sql in Self.statements(gap.hint) { try database.run(sql) }
            lines = try await source.drain()
            #expect(lines.map(\.op) == ["update", "update"])
            #expect(lines.compactMap { $0.after?["id"] } == [3, 4])
            try await source.probe()
            try await source.open()
            #expect(source.reports.gaps.count == 1)
        }

        @Test("CORRECTNESS 76: a table swapped in by renaming is told from the one before")
        func swapped() async throws {
            let database = try await TestDatabase(
                "CREATE TABLE t (id int PRIMARY KEY); CREATE PUBLICATION mine FOR ALL TABLES")
            for config in [[:], ["publication": ConfigValue.string("mine")]] {
                try database.run("TRUNCATE t")
                let source = try await SourceHarness.open(database, tables: ["t"], config: config)
                try database.run("INSERT INTO t VALUES (1)")
                #expect(try await source.drain().count == 1)
                try database.run(
                    """
                    CREATE TABLE t_new (id int PRIMARY KEY); INSERT INTO t_new VALUES (10);
                    BEGIN; ALTER TABLE t RENAME TO t_old; ALTER TABLE t_new RENAME TO t; COMMIT;
                    INSERT INTO t_old VALUES (2); INSERT INTO t VALUES (11)
                    """)
                var ids: [JSON] = []
                let changed = try await #require(throws: WeirError.self) {
                    for _ in 0..<50 {
                        ids += try await source.read().compactMap { $0.after?["id"] }
                        try await source.probe()
                    }
                }
                #expect(changed.code.name == "postgres.table_changed")
                try await source.open()
                #expect(source.gaps == ["postgres.table_replaced"])
                try database.run("INSERT INTO t_old VALUES (3); INSERT INTO t VALUES (12)")
                let lines = try await source.drain()
                ids += lines.compactMap { $0.after?["id"] }
                // Neither what "t_old" gets nor what "t_new" was filled with is of "t".
                #expect(!ids.contains(2) && !ids.contains(3) && !ids.contains(10))
                #expect(ids.last == 12)
                #expect(Set(lines.map(\.table)) == ["public.t"])
                await source.source.close()
                _ = try await source.source.cleanUp()
                try database.run("DROP TABLE t_old")
            }
        }

        @Test("CORRECTNESS 76: followed tables that swap their names are told apart")
        func swappedWithOneAnother() async throws {
            let database = try await TestDatabase(
                "CREATE TABLE a (id int PRIMARY KEY); CREATE TABLE b (id int PRIMARY KEY)")
            let source = try await SourceHarness.open(database, tables: ["a", "b"])
            try database.run("INSERT INTO a VALUES (1); INSERT INTO b VALUES (10)")
            #expect(try await source.drain().count == 2)
            await source.source.close()
            try database.run(
                """
                INSERT INTO a VALUES (2); BEGIN; ALTER TABLE a RENAME TO c;
                ALTER TABLE b RENAME TO a; ALTER TABLE c RENAME TO b; COMMIT;
                INSERT INTO a VALUES (11); INSERT INTO b VALUES (3)
                """)
            try await source.open()
            #expect(source.gaps == ["postgres.table_replaced", "postgres.table_replaced"])
            #expect(source.reports.gaps.map(\.subject) == ["public.a", "public.b"])
            // Each row under the name its table had then.
            var lines = try await source.drain()
            #expect(lines.map(\.table) == ["public.a", "public.a", "public.b"])
            #expect(lines.compactMap { $0.after?["id"] } == [2, 11, 3])
            // One takes the name of the other, which is dropped, and is not followed any more.
            await source.source.close()
            try database.run(
                """
                INSERT INTO b VALUES (4); DROP TABLE a; ALTER TABLE b RENAME TO a;
                INSERT INTO a VALUES (5)
                """)
            let one = try SourceHarness(database, tables: ["a"], notes: source.notes)
            try await one.open(atStored: source.stored)
            #expect(one.gaps == ["postgres.table_replaced"])
            lines = try await one.drain()
            #expect(lines.map(\.table) == ["public.a"])
            #expect(lines.compactMap { $0.after?["id"] } == [5])
        }

        @Test(
            "CORRECTNESS 79: values that ALTER TABLE gives to old rows are a declared gap",
            arguments: [
                ("ALTER TABLE t ADD COLUMN d text NOT NULL DEFAULT 'a b'", "default \"a b\""),
                ("ALTER TABLE t ADD COLUMN d uuid DEFAULT gen_random_uuid()", "for each row"),
                ("ALTER TABLE t ADD COLUMN d serial", "for each row"),
                (
                    "ALTER TABLE t ALTER v TYPE int USING v * 2",
                    "\"v\" of \"public.t\" was rewritten"
                ),
                ("ALTER TABLE t RENAME v TO w", "\"v\" of \"public.t\" is called \"w\" now"),
                ("ALTER TABLE t DROP v; ALTER TABLE t ADD v int", "was dropped and made again"),
            ])
        func silentValues(sql: String, words: String) async throws {
            let database = try await TestDatabase(
                "CREATE TABLE t (id int PRIMARY KEY, v int); INSERT INTO t VALUES (1, 5)")
            let source = try await SourceHarness.open(database, tables: ["t"])
            try database.run(sql)
            try await source.probe()
            #expect(source.gaps == ["postgres.rows_changed_silently"])
            let gap = try #require(source.reports.gaps.first)
            #expect(gap.message.contains(words), "\(gap.message)")
            for sql in Self.statements(gap.hint) { try database.run(sql) }
            let line = try #require(try await source.drain().first)
            let row = try database.run("SELECT row_to_json(t) FROM t")
            #expect(line.text.contains("\"after\":\(row)"))
            // It is said once, and found as well by a start later.
            try await source.probe()
            try await source.open()
            #expect(source.reports.gaps.count == 1)
            await source.source.close()
            try database.run("ALTER TABLE t ADD COLUMN later bool DEFAULT true")
            try await source.open()
            #expect(source.reports.gaps.last?.message.contains("\"later\"") == true)
            #expect(source.reports.gaps.count == 2)
        }

        @Test(
            "CORRECTNESS 77: a publication that was altered and put back is a declared gap",
            arguments: [
                "DROP TABLE t; ALTER PUBLICATION p ADD TABLE ONLY t",
                "SET (publish = 'insert'); ALTER PUBLICATION p "
                    + "SET (publish = 'insert, update, delete, truncate')",
            ])
        func putBack(change: String) async throws {
            let database = try await TestDatabase(
                """
                CREATE TABLE t (id int PRIMARY KEY); CREATE TABLE u (id int PRIMARY KEY);
                INSERT INTO t VALUES (1); INSERT INTO u VALUES (1)
                """)
            let source = try await SourceHarness.open(database, tables: ["t", "u"])
            try await source.probe()
            await source.source.close()
            try await source.open()
            #expect(source.gaps.isEmpty)
            let alter = "ALTER PUBLICATION p \(change)"
                .replacing("PUBLICATION p ", with: "PUBLICATION \(source.config.publication) ")
            for isOpen in [true, false] {
                if !isOpen { await source.source.close() }
                for statement in alter.split(separator: ";") {
                    try database.run(String(statement))
                }
                if isOpen { try await source.probe() } else { try await source.open() }
                #expect(source.gaps.last == "postgres.publication_altered")
            }
            // The hint sends again what may have been left out, and no other table.
            let isAll = change.hasPrefix("SET")
            #expect(Set(source.reports.gaps.map(\.subject)) == [isAll ? "" : "public.t"])
            for sql in Self.statements(source.reports.gaps.last?.hint) { try database.run(sql) }
            let sent = try await source.drain().map(\.table)
            #expect(sent == (isAll ? ["public.t", "public.u"] : ["public.t"]))
        }

        @Test("CORRECTNESS 77: what leaves nothing out of a publication is no gap")
        func harmlessWrites() async throws {
            let database = try await TestDatabase(
                """
                CREATE TABLE t (id int PRIMARY KEY); CREATE TABLE u (id int PRIMARY KEY);
                CREATE TABLE v (id int PRIMARY KEY); CREATE ROLE \(try await TestDatabase().name)x
                """)
            let role = try database.run("SELECT rolname FROM pg_roles WHERE rolname ~ '^t.*x$'")
            let source = try await SourceHarness.open(database, tables: ["t", "u"])
            try database.run(
                "ALTER ROLE \(role) SUPERUSER; ALTER PUBLICATION \(database.slot) OWNER TO \(role)")
            try await source.probe()
            #expect(source.gaps.isEmpty)
            await source.source.close()
            try database.run("REASSIGN OWNED BY \(role) TO postgres; DROP ROLE \(role)")
            try await source.open()
            #expect(source.gaps.isEmpty)
            // A table that is gone is taken out of "tables", as the error says, and another comes.
            await source.source.close()
            try database.run("DROP TABLE u")
            let more = try SourceHarness(database, tables: ["t", "v"], notes: source.notes)
            let before = try await source.notes.get("publication_writes")
            try await more.open(atStored: source.stored)
            #expect(more.gaps.isEmpty)
            // Our own ALTER, after which we were killed.
            try await source.notes.set("publication_writes", before ?? "")
            try await more.open()
            #expect(more.gaps.isEmpty)
            // Another server, on which the position was set.
            await more.source.close()
            try await source.notes.set("publication_writes", "1:1 2:3/4")
            try await source.notes.set("slot", "7 \(database.slot)")
            let plan = try await more.source.planSeek(to: "confirmed", from: nil)
            try await more.open(atStored: more.source.seek(plan))
            #expect(more.gaps.isEmpty)
        }

        @Test func aSlotOfAnotherDatabaseIsNeitherTakenNorDropped() async throws {
            let theirs = try await TestDatabase("CREATE TABLE t (id int PRIMARY KEY)")
            let other = try await SourceHarness.open(theirs, tables: ["t"])
            await other.source.close()
            let slot = try theirs.run(
                "SELECT slot_name FROM pg_replication_slots WHERE database = current_database()")
            let ours = try await TestDatabase("CREATE TABLE t (id int PRIMARY KEY)")
            let source = try SourceHarness(ours, tables: ["t"], config: ["slot": .string(slot)])
            let error = await #expect(throws: WeirError.self) { try await source.open() }
            #expect(error?.code.name == "postgres.slot_unfit")
            #expect(try await source.source.describeCleanUp().isEmpty)
            #expect(try await source.source.cleanUp().isEmpty)
            func refusesToSeek(_ source: SourceHarness) async throws {
                for target in ["now", "confirmed", "0/16B3748"] {
                    let error = await #expect(throws: WeirError.self) {
                        try await source.source.planSeek(to: target, from: nil)
                    }
                    #expect(error?.code.name == "postgres.slot_unfit")
                }
                // Also one that came between the plan and the deed.
                let error = await #expect(throws: WeirError.self) {
                    try await source.source.seek(SeekPlan(target: "now", effects: []))
                }
                #expect(error?.code.name == "postgres.slot_unfit")
            }
            try await refusesToSeek(source)
            // Nor one of another program in the same database.
            try ours.run(
                "SELECT pg_create_logical_replication_slot('\(ours.slot)', 'test_decoding')")
            let foreign = try SourceHarness(ours, tables: ["t"])
            try await refusesToSeek(foreign)
            #expect(try await foreign.source.cleanUp().isEmpty)
            #expect(try ours.slot("plugin") == "test_decoding")
            let left = try theirs.run(
                "SELECT count(*) FROM pg_replication_slots WHERE slot_name = '\(slot)'")
            #expect(left == "1")
        }

        @Test("CORRECTNESS 79: a default that partitions give to old rows is a declared gap")
        func silentValuesOfPartitions() async throws {
            let database = try await TestDatabase(
                """
                CREATE TABLE t (id int PRIMARY KEY) PARTITION BY RANGE (id);
                CREATE TABLE t1 PARTITION OF t FOR VALUES FROM (0) TO (9); INSERT INTO t VALUES (1)
                """)
            let source = try await SourceHarness.open(database, tables: ["t"])
            try database.run("ALTER TABLE t ADD COLUMN plain int")
            try await source.probe()
            #expect(source.gaps.isEmpty)
            try database.run("ALTER TABLE t ADD COLUMN b int DEFAULT 5")
            try await source.probe()
            #expect(source.gaps == ["postgres.rows_changed_silently"])
            #expect(source.reports.gaps.first?.message.contains("\"b\"") == true)
        }

        @Test("CORRECTNESS 79: what changes no value of a row is no gap")
        func harmlessChanges() async throws {
            let database = try await TestDatabase(
                """
                CREATE TABLE t (id int PRIMARY KEY, v int); INSERT INTO t VALUES (1, 5);
                CREATE TABLE p (id int PRIMARY KEY) PARTITION BY RANGE (id)
                """)
            let source = try await SourceHarness.open(database, tables: ["t", "p"])
            for sql in [
                "ALTER TABLE t ADD COLUMN plain text", "VACUUM FULL t", "TRUNCATE t",
                "ALTER TABLE t ALTER v SET DEFAULT 7",
                "ALTER TABLE t DROP COLUMN v", "CREATE INDEX ON t (plain)", "ANALYZE t",
                "CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (9)",
                // What is written into a column's definition while the rows get a new file.
                "ALTER TABLE t ADD COLUMN n int; UPDATE t SET n = 1",
                "TRUNCATE t; ALTER TABLE t ALTER n SET NOT NULL",
                "VACUUM FULL t; GRANT SELECT (n) ON t TO PUBLIC",
                "VACUUM FULL t; ALTER TABLE t ALTER n SET STATISTICS 50",
                "VACUUM FULL t; ALTER TABLE t ALTER n SET DEFAULT 7",
                "VACUUM FULL t; ALTER TABLE t ALTER n SET DEFAULT 8",
                "ALTER TABLE t ALTER n DROP NOT NULL; VACUUM FULL t; "
                    + "ALTER TABLE t ADD UNIQUE (id, n)",
            ] {
                // VACUUM wants a statement of its own.
                for statement in sql.split(separator: "; ") { try database.run(String(statement)) }
                try await source.probe()
                #expect(source.gaps.isEmpty, "\(sql)")
                #expect(source.findings.isEmpty, "\(sql)")
            }
        }

        @Test func whatIsRememberedOfTablesComesBackAsItWas() {
            let name = TableName(schema: "odd \"one\"", name: "a,b:c\n%ü -")
            var memory = TableMemory(tables: [
                TableMemory.Table(
                    name: name, oid: 7, former: [3, 5], files: [7: "9", 8: "10"],
                    columns: [
                        TableMemory.Column(
                            number: 2, name: "c, d:é", changedBy: "77", missingValue: nil,
                            hasDefault: false, isUnsent: true, former: ["a=b", "x:y,z"],
                            type: "23.-1.0", properties: "-5")
                    ],
                    gone: [TableMemory.Gone(number: 3, name: "g - ,:", at: LSN(77))],
                    partitions: [8: TableName(schema: "a:b", name: "")], attached: [8: ".7.9"],
                    labels: [9: "x, y:ü=", 10: ""]),
                TableMemory.Table(name: TableName(schema: "s", name: "-"), oid: 8, labels: [:]),
                TableMemory.Table(name: TableName(schema: "s", name: "old"), oid: 9),
            ])
            #expect(TableMemory(text: memory.text) == memory)
            #expect(TableMemory(text: "nonsense\n1 2 3").tables.isEmpty)
            // A note of an earlier version tells nothing of what it did not keep.
            let old = TableMemory(text: "public t 7 - 7:1 1:5:id")
            #expect(old.tables.first?.arePartitionsKnown == false)
            #expect(old.tables.first?.attached == [:])
            #expect(old.tables.first?.labels == nil && old.tables.first?.columns.count == 1)
            #expect(memory.known(name) == [3, 5, 7])
            memory.tables[0].former = []
            let again = memory.remembering(TableMemory(), end: LSN(9), from: nil)
            #expect(again.known(name) == [7])
        }
    }
}
