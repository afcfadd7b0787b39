import Testing
import WeirCore
import WeirPostgresSource
import WeirTesting

extension PostgresSourceTests {
    /// Tables nobody designed, and publications that leave something out.
    @Suite struct PublicationShapes {
        @Test(
            "CORRECTNESS 72: a key that is no identity is refused before it harms the application",
            arguments: [
                "CREATE TABLE t (id int PRIMARY KEY DEFERRABLE, v int)",
                "CREATE TABLE t (id int PRIMARY KEY DEFERRABLE INITIALLY DEFERRED, v int)",
                """
                CREATE TABLE t (id int NOT NULL, v int) PARTITION BY RANGE (id);
                CREATE TABLE leaf PARTITION OF t FOR VALUES FROM (0) TO (9);
                ALTER TABLE leaf ADD PRIMARY KEY (id) DEFERRABLE
                """,
                """
                CREATE TABLE t (id int NOT NULL, v int); CREATE UNIQUE INDEX i ON t (id);
                ALTER TABLE t REPLICA IDENTITY USING INDEX i; DROP INDEX i
                """,
                "CREATE TABLE t (id int, v int); CREATE UNIQUE INDEX ON t (id) WHERE v > 0",
            ])
        func keysThatAreNone(sql: String) async throws {
            let database = try await TestDatabase(
                "\(sql); INSERT INTO t VALUES (1, 1), (2, 2)")
            let source = try SourceHarness(database, tables: ["t"])
            let error = try await #require(throws: WeirError.self) { try await source.open() }
            #expect(error.code.name == "postgres.no_replica_identity")
            #expect(try database.run("SELECT pubname FROM pg_publication") == "")
            try database.run("UPDATE t SET v = 3 WHERE id = 1")
            for sql in TableChanges.statements(error.hint) { try database.run(sql) }
            try await source.open()
            try database.run("UPDATE t SET v = 4 WHERE id = 1; DELETE FROM t WHERE id = 2")
            let lines = try await source.drain()
            #expect(lines.map(\.op) == ["update", "delete"])
            #expect(lines.last?.key?["id"] == 2)
        }

        @Test("CORRECTNESS 72: of many partitions without identity one statement takes care")
        func manyPartitions() async throws {
            let leaves = (0..<12).map {
                "CREATE TABLE l\($0) PARTITION OF \"o'dd\" FOR VALUES FROM (\($0)) TO (\($0 + 1));"
            }
            let database = try await TestDatabase(
                """
                CREATE TABLE "o'dd" (id int NOT NULL, v int) PARTITION BY RANGE (id);
                \(leaves.joined()) INSERT INTO "o'dd" VALUES (3, 1)
                """)
            let source = try SourceHarness(database, tables: ["o'dd"])
            let error = try await #require(throws: WeirError.self) { try await source.open() }
            let hint = try #require(error.hint)
            #expect(hint.hasPrefix("Add a primary key, or: DO "))
            try database.run(String(hint.dropFirst("Add a primary key, or: ".count)))
            try await source.open()
            try database.run("UPDATE \"o'dd\" SET v = 2")
            let line = try #require(try await source.drain().first)
            #expect(line.key == ["id": 3, "v": 2] && line.old_key == ["id": 3, "v": 1])
            #expect(line.before == ["id": 3, "v": 1])
        }

        @Test("CORRECTNESS 72: a key that becomes none while it is published is said at once")
        func keyMadeDeferrable() async throws {
            let database = try await TestDatabase("CREATE TABLE t (id int PRIMARY KEY, v int)")
            let source = try await SourceHarness.open(database, tables: ["t"])
            #expect(source.findings.isEmpty)
            try database.run(
                """
                BEGIN; ALTER TABLE t DROP CONSTRAINT t_pkey;
                ALTER TABLE t ADD PRIMARY KEY (id) DEFERRABLE; COMMIT
                """)
            try await source.probe()
            #expect(source.findings == ["postgres.no_replica_identity"])
            let finding = try #require(source.reports.findings.first)
            #expect(finding.subject == "public.t" && finding.severity == .warning)
            for sql in TableChanges.statements(finding.hint) { try database.run(sql) }
            try database.run("INSERT INTO t VALUES (1, 1); UPDATE t SET v = 2")
            try await source.probe()
            #expect(source.findings.isEmpty)
        }

        @Test("CORRECTNESS 73: tables that inherit from a followed one are not published with it")
        func inheritance() async throws {
            let database = try await TestDatabase(
                """
                CREATE TABLE a (id int PRIMARY KEY, v text); CREATE TABLE b (id int PRIMARY KEY);
                CREATE TABLE child (w int) INHERITS (a); INSERT INTO child VALUES (7, 'x', 1)
                """)
            let source = try await SourceHarness.open(database, tables: ["a"])
            #expect(source.findings == ["postgres.children_not_read"])
            #expect(source.reports.findings.first?.message.contains("public.child") == true)
            try database.run("UPDATE a SET v = 'y'; INSERT INTO a VALUES (1, 'own')")
            #expect(try await source.drain().compactMap { $0.after?["id"] } == [1])
            await source.source.close()
            // A table added later leaves the children out as well.
            let later = try SourceHarness(database, tables: ["a", "b"], notes: source.notes)
            try await later.open(atStored: source.stored)
            #expect(
                try database.run("SELECT tablename FROM pg_publication_tables ORDER BY 1")
                    == "a\nb")
            try database.run("DELETE FROM a")
            let before = later.log.all.count
            try await later.open()
            #expect(!later.log.all.dropFirst(before).contains { $0.contains("ALTER PUBLICATION") })
            #expect(later.gaps.isEmpty)
        }

        private static let oddPartitions = """
            CREATE EXTENSION postgres_fdw; CREATE SERVER cold FOREIGN DATA WRAPPER postgres_fdw;
            CREATE TABLE m (id int NOT NULL, at int NOT NULL, v int) PARTITION BY RANGE (at);
            CREATE TABLE m2 PARTITION OF m (PRIMARY KEY (id, at)) FOR VALUES FROM (10) TO (20);
            CREATE FOREIGN TABLE m1 PARTITION OF m FOR VALUES FROM (0) TO (10) SERVER cold;
            CREATE TABLE u (id int PRIMARY KEY, v int) PARTITION BY RANGE (id);
            CREATE UNLOGGED TABLE u1 PARTITION OF u FOR VALUES FROM (0) TO (10);
            CREATE TABLE u2 PARTITION OF u FOR VALUES FROM (10) TO (20)
            """

        @Test("CORRECTNESS 75: foreign and unlogged partitions are accepted, and it is said")
        func partitionsThatAreNotSent() async throws {
            let database = try await TestDatabase(Self.oddPartitions)
            let source = try await SourceHarness.open(database, tables: ["m", "u"])
            #expect(Set(source.findings) == ["postgres.partition_not_sent"])
            let messages = source.reports.findings.map(\.message)
            #expect(messages.count == 2)
            #expect(messages[0].contains("public.m1") && messages[0].contains("foreign"))
            #expect(messages[1].contains("public.u1") && messages[1].contains("unlogged"))
            try database.run(
                """
                INSERT INTO m VALUES (2, 12, 1); UPDATE m2 SET v = 2;
                INSERT INTO u VALUES (1, 1), (11, 1)
                """)
            let lines = try await source.drain()
            #expect(lines.map(\.op) == ["insert", "update", "insert"])
            #expect(lines.map(\.key) == [["id": 2, "at": 12], ["id": 2, "at": 12], ["id": 11]])
            for sql in TableChanges.statements(source.reports.findings[1].hint) {
                try database.run(sql)
            }
            try await source.probe()
            #expect(source.reports.findings.map(\.subject) == ["public.m"])
        }

        @Test("CORRECTNESS 74: the key of the partitions stands for one that their root has not")
        func keyOfPartitions() async throws {
            let database = try await TestDatabase(
                """
                CREATE TABLE audit (at int NOT NULL, id int NOT NULL, v text)
                    PARTITION BY RANGE (at);
                CREATE TABLE a1 PARTITION OF audit FOR VALUES FROM (0) TO (10);
                CREATE TABLE a2 PARTITION OF audit FOR VALUES FROM (10) TO (20);
                ALTER TABLE a1 ADD PRIMARY KEY (id); ALTER TABLE a2 ADD PRIMARY KEY (id)
                """)
            let source = try await SourceHarness.open(database, tables: ["audit"])
            #expect(source.findings == ["postgres.partition_identity"])
            try database.run(
                """
                INSERT INTO audit VALUES (1, 1, 'a'), (12, 2, 'b'); UPDATE audit SET v = 'c'
                WHERE id = 1; UPDATE audit SET id = 9 WHERE id = 1; DELETE FROM audit WHERE id = 2
                """)
            let lines = try await source.drain()
            #expect(lines.map(\.key) == [["id": 1], ["id": 2], ["id": 1], ["id": 9], ["id": 2]])
            #expect(lines[3].old_key == ["id": 1])
            #expect(lines[4].before == ["id": 2])
            let schema = try #require(try await source.source.tables().first)
            #expect(schema.key == [1])

            // A new partition has no key at first: it is said, and the others keep theirs.
            try database.run(
                """
                CREATE TABLE a3 PARTITION OF audit FOR VALUES FROM (20) TO (30);
                INSERT INTO audit VALUES (21, 3, 'd'), (13, 4, 'e')
                """)
            #expect(try await source.drain().map(\.key) == [["id": 3], ["id": 4]])
            try await source.probe()
            let finding = source.reports.findings.first {
                $0.code.name == "postgres.no_replica_identity"
            }
            for sql in TableChanges.statements(finding?.hint) { try database.run(sql) }
            try database.run("DELETE FROM audit WHERE id > 2")
            #expect(
                try await source.drain().compactMap { $0.key?["id"]?.number }.sorted() == [3, 4, 9])
        }

        @Test("CORRECTNESS 74: partitions without a common key are refused, never a key of nulls")
        func partitionsWithoutACommonKey() async throws {
            let database = try await TestDatabase(
                """
                CREATE TABLE r (at int NOT NULL, id int NOT NULL, PRIMARY KEY (at, id))
                    PARTITION BY RANGE (at);
                CREATE TABLE r1 PARTITION OF r FOR VALUES FROM (0) TO (10);
                CREATE TABLE r2 PARTITION OF r FOR VALUES FROM (10) TO (20);
                CREATE UNIQUE INDEX i2 ON r2 (id);
                ALTER TABLE r2 REPLICA IDENTITY USING INDEX i2
                """)
            let source = try SourceHarness(database, tables: ["r"])
            let error = try await #require(throws: WeirError.self) { try await source.open() }
            #expect(error.code.name == "postgres.partition_identity")
            #expect(error.disposition == .blocked && error.message.contains("public.r2"))
            let cure = TableChanges.statements(error.hint)
            #expect(cure.count == 1)
            for sql in cure { try database.run(sql) }
            try await source.open()
            try database.run("INSERT INTO r VALUES (1, 1), (11, 2); DELETE FROM r")
            #expect(
                try await source.drain().suffix(2).map(\.key)
                    == [["at": 1, "id": 1], ["at": 11, "id": 2]])

            // Changed while streaming: the look finds it; a row that comes first stops us too.
            try database.run("ALTER TABLE r2 REPLICA IDENTITY USING INDEX i2")
            let found = try await #require(throws: WeirError.self) { try await source.probe() }
            #expect(found.code.name == "postgres.partition_identity")
            try database.run("INSERT INTO r VALUES (11, 3); DELETE FROM r")
            var refused = try await #require(throws: WeirError.self) {
                _ = try await source.drain()
            }
            #expect(refused.code.name == "postgres.partition_identity")
            #expect(refused.disposition == .blocked)
            // What was written without a key stays so, and the hint names the way on behind it.
            for sql in TableChanges.statements(refused.hint) { try database.run(sql) }
            refused = try await #require(throws: WeirError.self) {
                try await source.open()
                _ = try await source.drain()
            }
            #expect(refused.code.name == "postgres.partition_identity")
            #expect(refused.message.contains("without its key"))
            let words = (refused.hint ?? "").split(separator: " ")
            let target = try #require(words.dropLast().last.map(String.init))
            await source.source.close()
            let plan = try await source.source.planSeek(to: target, from: source.stored)
            try await source.open(atStored: source.source.seek(plan))
            try database.run("INSERT INTO r VALUES (12, 4)")
            #expect(try await source.drain().map(\.key) == [["at": 12, "id": 4]])
        }

        @Test(
            "CORRECTNESS 77: our publication is made right again, and what it left out is a gap",
            arguments: [
                ("SET (publish = 'insert, update')", "DELETE and TRUNCATE"),
                ("SET TABLE t WHERE (id > 100)", "row filter"),
                ("SET TABLE t (id)", "column list"),
                ("DROP TABLE t", "it left out \"public.t\""),
            ])
        func ourPublicationAltered(alter: String, words: String) async throws {
            let database = try await TestDatabase(
                "CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t VALUES (1, 'a')")
            let source = try await SourceHarness.open(database, tables: ["t"])
            try database.run("ALTER PUBLICATION \(database.slot) \(alter)")
            let changed = try await #require(throws: WeirError.self) { try await source.probe() }
            #expect(changed.code.name == "postgres.publication_changed")
            #expect(changed.disposition == .transient)
            try await source.open()
            #expect(source.gaps == ["postgres.publication_altered"])
            let gap = try #require(source.reports.gaps.first)
            #expect(gap.message.contains(words), "\(gap.message)")
            #expect(gap.from == source.start?.position.lsn)
            for sql in TableChanges.statements(gap.hint) { try database.run(sql) }
            try database.run("UPDATE t SET v = 'b'; DELETE FROM t")
            let lines = try await source.drain()
            #expect(lines.map(\.op).suffix(2) == ["update", "delete"])
            #expect(lines.dropLast().last?.after == ["id": 1, "v": "b"])
            try await source.probe()
            #expect(source.gaps.count == 1)
        }

        @Test(
            "CORRECTNESS 77: what an operator's publication leaves out is said, also when it changes"
        )
        func theirsLeavesOut() async throws {
            let database = try await TestDatabase(
                """
                CREATE TABLE t (id int PRIMARY KEY, v text, w text);
                CREATE PUBLICATION mine FOR TABLE t
                """)
            let source = try await SourceHarness.open(
                database, tables: ["t"], config: ["publication": .string("mine")])
            #expect(source.findings.isEmpty)
            for (alter, words) in [
                ("SET (publish = 'insert, update')", "delete, truncate"),
                ("SET TABLE t WHERE (id > 100)", "(id > 100)"),
                ("SET TABLE t (id, v)", "does not publish w"),
            ] {
                try database.run("ALTER PUBLICATION mine \(alter)")
                try await source.probe()
                let finding = try #require(source.reports.findings.first)
                #expect(finding.code.name == "postgres.publication_partial")
                #expect(finding.severity == .warning)
                #expect(finding.message.contains(words), "\(finding.message)")
                // The hint is taken by the server, and then nothing is left out.
                for sql in TableChanges.statements(finding.hint) { try database.run(sql) }
                try await source.probe()
                #expect(source.findings.isEmpty)
            }
            // Once it is put right, what was left out meanwhile is a gap.
            let gaps = source.reports.gaps.map { "\($0.code.name) \($0.subject)" }
            #expect(
                gaps == [
                    "postgres.publication_altered ", "postgres.publication_altered public.t",
                    "postgres.publication_altered public.t",
                    "postgres.rows_changed_silently public.t",
                ])
            let words = "column \"w\" of \"public.t\" is sent from now on"
            #expect(source.reports.gaps.last?.message.hasPrefix(words) == true)
        }

        @Test("CORRECTNESS 82: a row that moves between partitions is a delete and an insert")
        func moveBetweenPartitions() async throws {
            let database = try await TestDatabase(
                """
                CREATE TABLE a (id int, region text, v int, PRIMARY KEY (id, region))
                    PARTITION BY LIST (region);
                CREATE TABLE us PARTITION OF a FOR VALUES IN ('us');
                CREATE TABLE eu PARTITION OF a FOR VALUES IN ('eu');
                """)
            let source = try await SourceHarness.open(database, tables: ["a"])
            try database.run("INSERT INTO a VALUES (1, 'us', 5); UPDATE a SET region = 'eu'")
            let lines = try await source.drain()
            #expect(lines.map(\.op) == ["insert", "delete", "insert"])
            // Of one transaction, with what a sink needs to make one change of the two.
            #expect(lines[1].pos?["commit_lsn"] == lines[2].pos?["commit_lsn"])
            #expect(lines[1].key == ["id": 1, "region": "us"])
            #expect(lines[2].after == ["id": 1, "region": "eu", "v": 5])
        }
    }
}
