import Testing
import WeirCore
import WeirPostgresSource
import WeirTesting

extension PostgresSourceTests {
    @Suite struct Publications {
        @Test("CORRECTNESS 1: publication comes before slot, with the configured tables only")
        func configuredTablesOnly() async throws {
            let database = try await TestDatabase(
                "CREATE TABLE a (id int PRIMARY KEY); CREATE TABLE b (id int PRIMARY KEY)")
            let source = try await SourceHarness.open(database, tables: ["a"])
            let made = source.log.all.compactMap { $0.split(separator: " ").dropFirst().first }
            #expect(made == ["CREATE", "created"])
            #expect(
                try database.run("SELECT pubname, tablename FROM pg_publication_tables")
                    == "\(database.slot)|a")
            try database.run("INSERT INTO a VALUES (1); INSERT INTO b VALUES (2)")
            let lines = try await source.drain()
            #expect(lines.map(\.table) == ["public.a"])
            #expect(lines.first?.after == ["id": 1])
        }

        @Test("CORRECTNESS 1: a source that cannot publish leaves no slot behind")
        func noSlotWithoutPublication() async throws {
            let database = try await TestDatabase("CREATE VIEW v AS SELECT 1")
            for table in ["missing", "v"] {
                let source = try SourceHarness(database, tables: [table])
                let error = try await #require(throws: WeirError.self) { try await source.open() }
                #expect(error.code.name == "postgres.table_missing")
                #expect(error.disposition == .blocked)
                #expect(error.message.contains("public.\(table)"))
            }
            #expect(try database.slot("slot_name") == "")
            #expect(try database.run("SELECT pubname FROM pg_publication") == "")
        }

        @Test("CORRECTNESS 1: a publication of ours follows the configured tables")
        func publicationFollowsTables() async throws {
            let database = try await TestDatabase(
                """
                CREATE TABLE a (id int PRIMARY KEY); CREATE TABLE b (id int PRIMARY KEY);
                CREATE TABLE c (id int PRIMARY KEY)
                """)
            let first = try await SourceHarness.open(database, tables: ["a", "b"])
            try database.run("INSERT INTO a VALUES (1); INSERT INTO b VALUES (1)")
            await first.source.close()
            // Changes of "a" that were written before are left out; "c" starts now.
            let second = try SourceHarness(database, tables: ["b", "c"], notes: first.notes)
            try await second.open(atStored: first.stored)
            try database.run("INSERT INTO a VALUES (2); INSERT INTO c VALUES (2)")
            #expect(try await second.drain().map(\.table) == ["public.b", "public.c"])
            #expect(
                try database.run("SELECT tablename FROM pg_publication_tables ORDER BY 1")
                    == "b\nc")
        }

        @Test("CORRECTNESS 1: an operator's publication is used as it is and never altered")
        func operatorsPublication() async throws {
            let database = try await TestDatabase(
                """
                CREATE TABLE a (id int PRIMARY KEY); CREATE TABLE b (id int PRIMARY KEY);
                CREATE TABLE p (id int PRIMARY KEY) PARTITION BY RANGE (id);
                CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (9);
                CREATE PUBLICATION mine FOR TABLE a, p
                """)
            let config = ["publication": ConfigValue.string("mine")]
            for (table, cure) in [
                ("b", #"ALTER PUBLICATION "mine" ADD TABLE ONLY "public"."b";"#),
                ("p", #"ALTER PUBLICATION "mine" SET (publish_via_partition_root = true);"#),
            ] {
                let source = try SourceHarness(database, tables: [table], config: config)
                let error = try await #require(throws: WeirError.self) { try await source.open() }
                #expect(error.code.name == "postgres.publication_unfit")
                #expect(error.hint == cure)
                try database.run(cure)
            }
            let source = try await SourceHarness.open(
                database, tables: ["b", "p"], config: config)
            try database.run(
                "INSERT INTO a VALUES (1); INSERT INTO b VALUES (2); INSERT INTO p VALUES (3)")
            // "a" is published but not asked for.
            #expect(try await source.drain().map(\.table) == ["public.b", "public.p"])
            await source.source.close()
            _ = try await source.source.cleanUp()
            #expect(try database.run("SELECT pubname FROM pg_publication") == "mine")

            let other = try SourceHarness(
                database, tables: ["a"], config: ["publication": .string("absent")])
            let error = try await #require(throws: WeirError.self) { try await other.open() }
            #expect(error.code.name == "postgres.publication_unfit")
            #expect(error.hint?.hasPrefix(#"CREATE PUBLICATION "absent" FOR TABLE"#) == true)
            try database.run(try #require(error.hint))
            try await other.open()
        }

        @Test("CORRECTNESS 15: what a role may not do is an error with the SQL that allows it")
        func missingPrivileges() async throws {
            let database = try await TestDatabase("CREATE TABLE a (id int PRIMARY KEY)")
            let role = "role_\(database.name)"
            try database.run("CREATE ROLE \(role) LOGIN")
            func refusal() async throws -> WeirError {
                let source = try SourceHarness(database, tables: ["a"], user: role)
                return try await #require(throws: WeirError.self) { try await source.open() }
            }
            var error = try await refusal()
            #expect(error.code.name == "postgres.permission")
            #expect(error.disposition == .blocked)
            let cure =
                #"ALTER ROLE "\#(role)" REPLICATION; "#
                + #"GRANT CREATE ON DATABASE "\#(database.name)" TO "\#(role)";"#
            #expect(statements(in: error.hint) == cure)

            try database.run("ALTER ROLE \(role) REPLICATION")
            error = try await refusal()
            #expect(error.code.name == "postgres.permission")
            #expect(error.disposition == .blocked)
            #expect(statements(in: error.hint) == cure)

            try database.run(statements(in: error.hint))
            error = try await refusal()
            #expect(error.code.name == "postgres.permission")
            #expect(error.hint?.contains("must own the tables") == true)
            #expect(try database.slot("slot_name") == "")

            try database.run("ALTER TABLE a OWNER TO \(role)")
            let source = try SourceHarness(database, tables: ["a"], user: role)
            try await source.open()
            try database.run("INSERT INTO a VALUES (1)")
            #expect(try await source.drain().count == 1)
            try database.run("REASSIGN OWNED BY \(role) TO postgres; DROP OWNED BY \(role)")
        }

        @Test(
            "CORRECTNESS 15: every version's refusal of a role without REPLICATION is understood",
            arguments: [PostgresVersion.wheel16, .wheel18])
        func missingReplicationByVersion(version: PostgresVersion) async throws {
            let database = try await TestDatabase(
                "CREATE TABLE a (id int PRIMARY KEY)", version: version)
            try database.run("CREATE ROLE plain_\(database.name) LOGIN")
            let source = try SourceHarness(
                database, tables: ["a"], user: "plain_\(database.name)")
            let error = try await #require(throws: WeirError.self) { try await source.open() }
            #expect(error.code.name == "postgres.permission")
            #expect(error.disposition == .blocked)
            #expect(error.hint?.contains("REPLICATION;") == true)
        }

        @Test(
            "CORRECTNESS 30: a table without identity is refused, for the application's sake"
        )
        func noIdentityRefused() async throws {
            let database = try await TestDatabase(
                """
                CREATE TABLE bare (id int); CREATE TABLE nothing (id int PRIMARY KEY);
                ALTER TABLE nothing REPLICA IDENTITY NOTHING;
                CREATE TABLE root (id int PRIMARY KEY) PARTITION BY RANGE (id);
                CREATE TABLE leaf PARTITION OF root FOR VALUES FROM (0) TO (9);
                ALTER TABLE leaf REPLICA IDENTITY NOTHING
                """)
            for (table, culprit) in [
                ("bare", "bare"), ("nothing", "nothing"), ("root", "leaf"),
            ] {
                let source = try SourceHarness(database, tables: [table])
                let error = try await #require(throws: WeirError.self) { try await source.open() }
                #expect(error.code.name == "postgres.no_replica_identity")
                #expect(error.disposition == .blocked)
                let cure = #"ALTER TABLE "public"."\#(culprit)" REPLICA IDENTITY FULL;"#
                #expect(error.hint?.contains(cure) == true)
                #expect(try database.run("SELECT pubname FROM pg_publication") == "")
                try database.run(cure)
                try await source.open()
                await source.source.close()
                _ = try await source.source.cleanUp()
            }
        }

        @Test(
            "CORRECTNESS 30: a published table without identity is warned of"
        )
        func noIdentityWarned() async throws {
            let database = try await TestDatabase(
                """
                CREATE TABLE bare (id int);
                CREATE PUBLICATION mine FOR TABLE bare WITH (publish = 'insert',
                    publish_via_partition_root = true)
                """)
            let config = ["publication": ConfigValue.string("mine")]
            let source = try await SourceHarness.open(database, tables: ["bare"], config: config)
            #expect(source.findings == ["postgres.publication_partial"])
            try database.run("INSERT INTO bare VALUES (1); UPDATE bare SET id = 2")
            #expect(try await source.drain().map(\.op) == ["insert"])
            try database.run("ALTER PUBLICATION mine SET (publish = 'insert, update')")
            #expect(throws: TestingError.self) { try database.run("UPDATE bare SET id = 3") }
            try await source.open()
            #expect(
                source.findings
                    == ["postgres.no_replica_identity", "postgres.publication_partial"])
            #expect(source.reports.findings.first?.subject == "public.bare")
        }

        @Test("CORRECTNESS 32: attaching and detaching a partition gives no events")
        func attachAndDetach() async throws {
            let database = try await TestDatabase(
                """
                CREATE TABLE root (id int PRIMARY KEY, v text) PARTITION BY RANGE (id);
                CREATE TABLE p1 PARTITION OF root FOR VALUES FROM (0) TO (10);
                CREATE TABLE p2 (id int PRIMARY KEY, v text);
                INSERT INTO p2 VALUES (11, 'before')
                """)
            let source = try await SourceHarness.open(database, tables: ["root"])
            try database.run(
                """
                INSERT INTO root VALUES (1, 'one');
                ALTER TABLE root ATTACH PARTITION p2 FOR VALUES FROM (10) TO (20);
                INSERT INTO root VALUES (12, 'two');
                UPDATE root SET id = 13 WHERE id = 1;
                TRUNCATE p1;
                ALTER TABLE root DETACH PARTITION p2;
                INSERT INTO p2 VALUES (14, 'detached');
                TRUNCATE root;
                """)
            let lines = try await source.drain()
            // A row that moves between partitions is deleted from one and inserted into the other.
            #expect(lines.map(\.op) == ["insert", "insert", "delete", "insert", "truncate"])
            #expect(Set(lines.map(\.table)) == ["public.root"])
            #expect(lines.compactMap { $0.after?["id"] } == [1, 12, 13])
        }

        @Test(
            "CORRECTNESS 1: a publication dropped while streaming is noticed and never passed over",
            arguments: PostgresVersion.allCases)
        func droppedWhileStreaming(version: PostgresVersion) async throws {
            let database = try await TestDatabase(
                "CREATE TABLE a (id int PRIMARY KEY)", version: version)
            let source = try await SourceHarness.open(database, tables: ["a"])
            try database.run("INSERT INTO a VALUES (1)")
            #expect(try await source.drain().count == 1)
            let create = try database.run(
                "SELECT 'CREATE PUBLICATION ' || pubname || ' FOR TABLE a WITH "
                    + "(publish_via_partition_root)' FROM pg_publication")
            try database.run("DROP PUBLICATION \(database.slot); INSERT INTO a VALUES (2)")
            // Before 18 the stream breaks; 18 passes over what it cannot publish, and our marker
            // finds out. Both lead to opening again.
            let error = try await #require(throws: WeirError.self) {
                for _ in 0..<10 { _ = try await source.drain() }
            }
            #expect(
                ["postgres.publication_missing", "postgres.publication_changed"]
                    .contains(error.code.name))
            var lost = try await #require(throws: WeirError.self) { try await source.open() }
            #expect(lost.code.name == "postgres.publication_missing")
            #expect(lost.disposition == .positionLost)
            #expect(lost.hint?.contains("weir position set \(database.name) now --yes") == true)

            // Creating it again brings nothing back, and must not look as if it did.
            try database.run(create)
            lost = try await #require(throws: WeirError.self) {
                try await source.open()
                for _ in 0..<10 { _ = try await source.drain() }
            }
            #expect(lost.code.name == "postgres.publication_missing")
            #expect(lost.disposition == .positionLost)

            let plan = try await source.source.planSeek(to: "now", from: source.stored)
            try await source.open(atStored: source.source.seek(plan))
            try database.run("INSERT INTO a VALUES (3)")
            #expect(try await source.drain().compactMap { $0.after?["id"] } == [3])
        }

        @Test(
            "CORRECTNESS 36: an altered publication is noticed by the next marker"
        )
        func alteredWhileStreaming() async throws {
            let database = try await TestDatabase(
                "CREATE TABLE a (id int PRIMARY KEY); CREATE TABLE b (id int PRIMARY KEY)")
            let source = try await SourceHarness.open(database, tables: ["a", "b"])
            try database.run("ALTER TABLE a ADD COLUMN v text; INSERT INTO a VALUES (1, 'x')")
            #expect(try await source.drain().count == 1)
            try database.run("ALTER PUBLICATION \(database.slot) DROP TABLE b")
            let error = try await #require(throws: WeirError.self) {
                _ = try await source.source.mark()
            }
            #expect(error.code.name == "postgres.publication_changed")
            #expect(error.disposition == .transient)
            let logged = source.log.all.count
            try await source.open()
            #expect(
                source.log.all.dropFirst(logged).contains {
                    $0.hasPrefix("warning: publication") && $0.contains("changed")
                })
            // It was ours: it is right again, and what it left out is said.
            #expect(source.reports.gaps.map(\.subject) == ["public.b"])
            #expect(source.gaps == ["postgres.publication_altered"])
            try database.run("INSERT INTO b VALUES (1)")
            #expect(try await source.drain().map(\.table) == ["public.b"])
        }
    }
}
