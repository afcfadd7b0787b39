import Testing
import WeirCore
import WeirPostgresClient
import WeirTesting

@testable import WeirPostgresSource

extension PostgresSourceTests {
    /// Rows that change, come or go without a change that the server sends.
    @Suite struct SilentChanges {
        /// The statements of a hint, as an operator would paste them, in one session.
        private func statements(_ hint: String?) -> String {
            (hint ?? "").matches(of: /(SET extra_float_digits|UPDATE) [^;]*;/).map {
                String($0.output.0)
            }
            .joined(separator: " ")
        }

        @Test("CORRECTNESS 79: the hint sends values again that lie outside of their rows")
        func outsideValues() async throws {
            let types = [
                ("a", "text"), ("b", "varchar(200000)"), ("c", "json"), ("d", "jsonb"),
                ("e", "bytea"), ("f", "float8[]"), ("g", "text[]"), ("h", "char(60000)"),
                ("i", "dom"), ("k", "xml"), ("l", "comp"),
            ]
            let columns = types.map { name, type in "\(name) \(type)" }.joined(separator: ", ")
            let external = types.map { "ALTER \($0.0) SET STORAGE EXTERNAL" }
            let database = try await TestDatabase(
                """
                CREATE DOMAIN dom AS text CHECK (length(value) > 0); CREATE TYPE comp AS (x text);
                CREATE TABLE t (id int PRIMARY KEY, \(columns));
                ALTER TABLE t \(external.joined(separator: ", "));
                INSERT INTO t SELECT 1, s, s, json_build_array(s), jsonb_build_array(s),
                    convert_to(s, 'UTF8'), (SELECT array_agg(g / 7.0) FROM generate_series(1, 9000) g),
                    ARRAY[s, 'x"y'], s, s, ('<a>' || s || '</a>')::xml, row(s)::comp
                FROM (SELECT string_agg(md5(g::text), ' ') s FROM generate_series(1, 1500) g) x
                """)
            let source = try await SourceHarness.open(database, tables: ["t"])
            let sums = types.map { "'\($0.0)', md5(t.\($0.0)::text)" }.joined(separator: ", ")
            let values = "SELECT json_build_object(\(sums)) FROM t"
            let before = try database.run(values)
            try database.run("ALTER TABLE t ADD COLUMN z int DEFAULT 5")
            try await source.probe()
            let gap = try #require(source.reports.gaps.first)
            try database.run("SET extra_float_digits = 0; " + statements(gap.hint))
            let line = try #require(try await source.drain().first)
            #expect(line.unchanged == nil)
            for (name, _) in types {
                let length = try database.run("SELECT length(row_to_json(t)->>'\(name)') FROM t")
                #expect(line.after?[name] != nil, "\(name) of \(length) characters")
            }
            #expect(line.after?["z"] == 5)
            // Nothing at the source is another value than before.
            #expect(try database.run(values) == before)
        }

        @Test(
            "CORRECTNESS 79: a type that is widened, and whose values stay as they are, is no gap")
        func widened() async throws {
            let database = try await TestDatabase(
                """
                CREATE TABLE t (id int PRIMARY KEY, v varchar(10), n numeric(6, 2), u varchar(5),
                    w timestamp(3), b bit varying(3));
                INSERT INTO t VALUES (1, 'x', 1.5, 'y', now(), B'101')
                """)
            let source = try await SourceHarness.open(database, tables: ["t"])
            for sql in [
                "ALTER TABLE t ALTER v TYPE varchar(20)", "ALTER TABLE t ALTER v TYPE text",
                "ALTER TABLE t ALTER n TYPE numeric(12, 2)", "ALTER TABLE t ALTER n TYPE numeric",
                "ALTER TABLE t ALTER w TYPE timestamp", "ALTER TABLE t ALTER u TYPE varchar(9)",
                "ALTER TABLE t ALTER u SET NOT NULL",
                "ALTER TABLE t ALTER b TYPE bit varying(9)",
                "ALTER TABLE t ALTER v SET STORAGE MAIN",
                "ALTER TABLE t ALTER v SET DEFAULT 'q'", "ALTER TABLE t ALTER v TYPE varchar",
                "VACUUM FULL t",
            ] {
                try database.run(sql)
                try await source.probe()
                #expect(source.gaps.isEmpty, "\(sql): \(source.reports.gaps)")
            }
            try database.run("ALTER TABLE t ALTER n TYPE int")
            try await source.probe()
            #expect(source.gaps == ["postgres.rows_changed_silently"])
        }

        @Test(
            "CORRECTNESS 87: enum values that are renamed, and expressions that are dropped, are gaps",
            arguments: [true, false])
        func labels(isRunning: Bool) async throws {
            let database = try await TestDatabase(
                """
                CREATE TYPE mood AS ENUM ('good', 'bad'); CREATE DOMAIN m AS mood;
                CREATE TYPE other AS ENUM ('good');
                CREATE TABLE t (id int PRIMARY KEY, a mood, b mood[], c m, o other,
                    g int GENERATED ALWAYS AS (id * 2) STORED);
                INSERT INTO t VALUES (1, 'good', '{good}', 'good', 'good')
                """)
            let source = try await SourceHarness.open(database, tables: ["t"])
            #expect(source.findings == ["postgres.generated_not_sent"])
            #expect(source.reports.findings.first?.message.contains("\"g\"") == true)
            if !isRunning { await source.source.close() }
            try database.run("ALTER TYPE mood ADD VALUE 'so'; ALTER TYPE other ADD VALUE 'x'")
            if isRunning { try await source.probe() } else { try await source.open() }
            #expect(source.gaps.isEmpty)
            if !isRunning { await source.source.close() }
            try database.run(
                "ALTER TYPE mood RENAME VALUE 'good' TO 'fine'; ALTER TABLE t ALTER g DROP EXPRESSION"
            )
            if isRunning { try await source.probe() } else { try await source.open() }
            let messages = source.reports.gaps.map(\.message)
            #expect(messages.count == 4)
            for column in ["a", "b", "c"] {
                let words = "value \"good\" of the enum in column \"\(column)\" of \"public.t\" is "
                #expect(messages.contains { $0.hasPrefix(words + "called \"fine\" now") })
            }
            #expect(
                messages.contains { $0.contains("\"g\"") && $0.contains("no longer generated") })
            #expect(source.findings.isEmpty)
            for gap in source.reports.gaps { try database.run(statements(gap.hint)) }
            let line = try #require(try await source.drain().last)
            #expect(line.after?["a"] == "fine" && line.after?["g"] == 2)
        }

        @Test(
            "CORRECTNESS 87: a composite type with other attributes is a gap",
            arguments: [true, false])
        func composites(isRunning: Bool) async throws {
            let database = try await TestDatabase(
                """
                CREATE TYPE inside AS (n int); CREATE TYPE pair AS (x text, y text, i inside);
                CREATE DOMAIN d AS pair; CREATE TYPE other AS (x text);
                CREATE TABLE t (id int PRIMARY KEY, p pair, ps pair[], d d, o other);
                INSERT INTO t VALUES (1, '(x1,y1,"(1)")', NULL, NULL, '(o)')
                """)
            let source = try await SourceHarness.open(database, tables: ["t"])
            if !isRunning { await source.source.close() }
            try database.run("CREATE TYPE unused AS (x int); DROP TYPE unused")
            if isRunning { try await source.probe() } else { try await source.open() }
            #expect(source.gaps.isEmpty)
            for (index, change) in [
                "ALTER TYPE pair DROP ATTRIBUTE x; ALTER TYPE pair ADD ATTRIBUTE x text",
                "ALTER TYPE inside ADD ATTRIBUTE m int",
            ].enumerated() {
                if !isRunning { await source.source.close() }
                try database.run(change)
                if isRunning { try await source.probe() } else { try await source.open() }
                let messages = source.reports.gaps.dropFirst(3 * index).map(\.message)
                #expect(messages.count == 3, "\(messages)")
                for column in ["p", "ps", "d"] {
                    #expect(messages.contains { $0.hasPrefix("the type of column \"\(column)\"") })
                }
            }
        }

        private static let partitioned = """
            CREATE TABLE t (id int PRIMARY KEY, v text) PARTITION BY RANGE (id);
            CREATE TABLE t1 PARTITION OF t FOR VALUES FROM (0) TO (10);
            CREATE TABLE t2 PARTITION OF t FOR VALUES FROM (10) TO (20);
            CREATE TABLE t3 PARTITION OF t FOR VALUES FROM (20) TO (30);
            CREATE TABLE loaded (id int PRIMARY KEY, v text);
            CREATE TABLE fresh (id int PRIMARY KEY, v text);
            INSERT INTO t VALUES (1, 'a'), (11, 'b'); INSERT INTO loaded VALUES (31, 'l'), (32, 'm')
            """

        @Test(
            "CORRECTNESS 87: partitions that come or go with rows are declared gaps, others are not",
            arguments: [true, false])
        func partitions(isRunning: Bool) async throws {
            let database = try await TestDatabase(Self.partitioned)
            let source = try await SourceHarness.open(database, tables: ["t"])
            func after(_ sql: String) async throws -> [DeclaredGap] {
                let known = source.reports.gaps.count
                if !isRunning { await source.source.close() }
                for statement in sql.split(separator: ";") { try database.run(String(statement)) }
                if isRunning { try await source.probe() } else { try await source.open() }
                return Array(source.reports.gaps.dropFirst(known))
            }
            #expect(
                try await after(
                    """
                    ALTER TABLE t ATTACH PARTITION fresh FOR VALUES FROM (40) TO (50);
                    INSERT INTO t VALUES (41, 'x');
                    CREATE TABLE t6 PARTITION OF t FOR VALUES FROM (60) TO (70);
                    INSERT INTO t VALUES (61, 'y');
                    ALTER TABLE t DETACH PARTITION t3
                    """
                ).isEmpty)
            _ = try await source.drain()
            let came = try await after(
                "ALTER TABLE t ATTACH PARTITION loaded FOR VALUES FROM (30) TO (40)")
            #expect(came.map(\.code.name) == ["postgres.partition_moved"])
            #expect(
                came[0].message.contains("\"public.loaded\" was attached to \"public.t\" and holds")
            )
            try database.run(statements(came[0].hint))
            let lines = try await source.drain()
            #expect(lines.map { $0.after?["id"] } == [31, 32])
            #expect(Set(lines.map(\.table)) == ["public.t"])
            let detached = try await after("ALTER TABLE t DETACH PARTITION t1")
            #expect(detached.map(\.code.name) == ["postgres.partition_moved"])
            #expect(detached[0].message.contains("\"public.t1\" of \"public.t\" was detached"))
            #expect(detached[0].hint.contains("\"public.t1\""))
            let dropped = try await after("DROP TABLE t2")
            #expect(dropped.count == 1 && dropped[0].message.contains("was dropped"))
            #expect(dropped.first?.message.contains("may keep") == true)
            #expect(try await after("ANALYZE t").isEmpty)
        }

        @Test(
            "CORRECTNESS 87: rows of a partition from before its attach, in one transaction, are a gap",
            arguments: [true, false])
        func filledInOneTransaction(isRunning: Bool) async throws {
            let database = try await TestDatabase(Self.partitioned)
            let source = try await SourceHarness.open(database, tables: ["t"])
            for (sql, isGap) in [
                ("CREATE TABLE n PARTITION OF t FOR VALUES FROM (80) TO (90)", false),
                (
                    "CREATE TABLE m (LIKE t INCLUDING ALL); INSERT INTO m VALUES (71, 'z'); "
                        + "ALTER TABLE t ATTACH PARTITION m FOR VALUES FROM (70) TO (80)", true
                ),
            ] {
                if !isRunning { await source.source.close() }
                let row = isGap ? 72 : 82
                try database.run("BEGIN; \(sql); INSERT INTO t VALUES (\(row)); COMMIT")
                if isRunning { try await source.probe() } else { try await source.open() }
                #expect(source.gaps == (isGap ? ["postgres.partition_moved"] : []))
            }
        }

        @Test(
            "CORRECTNESS 87: partitions that are detached, unlogged or emptied between two looks are gaps",
            arguments: [(PostgresVersion.debian15, true), (.wheel16, false), (.wheel18, true)])
        func betweenLooks(version: PostgresVersion, isRunning: Bool) async throws {
            let database = try await TestDatabase(Self.partitioned, version: version)
            let source = try await SourceHarness.open(database, tables: ["t"])
            func after(_ sql: String) async throws -> [DeclaredGap] {
                let known = source.reports.gaps.count
                if !isRunning { await source.source.close() }
                for statement in sql.split(separator: "\n") { try database.run(String(statement)) }
                if isRunning { try await source.probe() } else { try await source.open() }
                return Array(source.reports.gaps.dropFirst(known))
            }
            // What moves files or the catalogue's rows, and no rows of the table.
            #expect(
                try await after(
                    """
                    VACUUM FULL t
                    VACUUM FREEZE
                    VACUUM FULL pg_inherits
                    VACUUM FULL pg_class
                    CLUSTER t1 USING t1_pkey
                    ALTER TABLE t1 SET (fillfactor = 90)
                    REINDEX TABLE t
                    ANALYZE t
                    TRUNCATE t
                    INSERT INTO t VALUES (1, 'a'), (2, 'c'), (11, 'b')
                    """
                ).isEmpty)
            _ = try await source.drain()
            let attach = "ALTER TABLE t ATTACH PARTITION t1 FOR VALUES FROM (0) TO (10)"
            let again = try await after(
                "ALTER TABLE t DETACH PARTITION t1\nUPDATE t1 SET v = 'new'\n\(attach)")
            #expect(again.map(\.code.name) == ["postgres.partition_moved"])
            #expect(
                again.first?.message.contains("\"public.t1\" of \"public.t\" was detached and att")
                    == true)
            try database.run(statements(again.first?.hint))
            #expect(try await source.drain().map { $0.after?["v"] } == ["new", "new"])
            let unlogged = try await after(
                """
                ALTER TABLE t1 SET UNLOGGED
                INSERT INTO t VALUES (3, 'quiet')
                ALTER TABLE t1 SET LOGGED
                GRANT SELECT ON t1 TO PUBLIC
                VACUUM FREEZE t1
                """)
            #expect(unlogged.map(\.code.name) == ["postgres.rows_changed_silently"])
            #expect(
                unlogged.first?.message.contains("\"public.t1\" of \"public.t\" may have been UNL")
                    == true)
            try database.run(statements(unlogged.first?.hint))
            #expect(try await source.drain().map { $0.after?["id"] } == [1, 2, 3])
            for sql in [
                "TRUNCATE t1", "BEGIN; TRUNCATE t1; INSERT INTO t VALUES (4, 'd'); COMMIT",
                "TRUNCATE t1\nINSERT INTO t VALUES (5, 'e')\nANALYZE t",
                "ALTER TABLE t1 SET UNLOGGED\nDELETE FROM t1\nALTER TABLE t1 SET LOGGED",
            ] {
                let emptied = try await after(sql)
                #expect(emptied.map(\.code.name) == ["postgres.rows_changed_silently"], "\(sql)")
                #expect(emptied.first?.message.contains("\"public.t1\" of") == true)
                try database.run(statements(emptied.first?.hint))
            }
            _ = try await source.drain()
            // Seen while it is unlogged.
            #expect(try await after("ALTER TABLE t1 SET UNLOGGED").isEmpty)
            let logged = try await after("DELETE FROM t1\nALTER TABLE t1 SET LOGGED")
            #expect(logged.map(\.code.name) == ["postgres.rows_changed_silently"])
            #expect(logged.first?.message.contains("was UNLOGGED") == true)
        }

        @Test(
            "CORRECTNESS 87: a partition that may not be read is known to be emptied all the same")
        func emptiedUnread() async throws {
            let database = try await TestDatabase(
                """
                \(Self.partitioned);
                CREATE PUBLICATION mine FOR TABLE t WITH (publish_via_partition_root)
                """)
            let role = "blind_\(database.name)"
            try database.run("CREATE ROLE \(role) LOGIN REPLICATION")
            let source = try SourceHarness(
                database, tables: ["t"], config: ["publication": .string("mine")], user: role)
            try await source.open()
            for sql in ["VACUUM FULL t1", "DELETE FROM t2", "VACUUM FULL t2", "TRUNCATE t"] {
                try database.run(sql)
                try await source.probe()
                #expect(source.gaps.isEmpty, "\(sql)")
            }
            try database.run("INSERT INTO t VALUES (1, 'a')")
            try database.run("TRUNCATE t1")
            try await source.probe()
            #expect(source.gaps == ["postgres.rows_changed_silently"])
        }

        @Test("CORRECTNESS 87: DETACH CONCURRENTLY that is not finished is a detached partition")
        func detachedHalf() async throws {
            let database = try await TestDatabase(Self.partitioned)
            let source = try await SourceHarness.open(database, tables: ["t"])
            let reader = try database.connect()
            _ = try reader.query("BEGIN; SELECT FROM public.t")
            try database.run("ALTER DATABASE \(database.name) SET statement_timeout = '100ms'")
            try await eventually("the first half is done") {
                _ = try? database.run("ALTER TABLE t DETACH PARTITION t1 CONCURRENTLY")
                return try database.run("SELECT count(*) FROM pg_inherits WHERE inhdetachpending")
                    == "1"
            }
            try database.run("ALTER DATABASE \(database.name) RESET statement_timeout")
            _ = try reader.query("COMMIT")
            // The server sends it no more.
            try database.run("INSERT INTO t1 VALUES (2, 'x')")
            try await source.probe()
            #expect(source.gaps == ["postgres.partition_moved"])
            let words = "partition \"public.t1\" of \"public.t\" was detached: "
            #expect(source.reports.gaps.first?.message.hasPrefix(words) == true)
            #expect(try await source.drain().isEmpty)
            try database.run("ALTER TABLE t DETACH PARTITION t1 FINALIZE")
            try await source.probe()
            #expect(source.gaps.count == 1)
            try database.run("ALTER TABLE t ATTACH PARTITION t1 FOR VALUES FROM (0) TO (10)")
            try await source.probe()
            #expect(source.reports.gaps.last?.message.contains("was attached to") == true)
        }

        @Test(
            "CORRECTNESS 79: a rewrite is a gap whatever else is done to the column between two looks",
            arguments: PostgresVersion.allCases)
        func rewrittenAndChanged(version: PostgresVersion) async throws {
            let database = try await TestDatabase(
                """
                CREATE TABLE t (id int PRIMARY KEY, v int); INSERT INTO t VALUES (1, 5);
                CREATE TABLE u (id int PRIMARY KEY, v text); INSERT INTO u VALUES (1, 'x')
                """, version: version)
            let source = try await SourceHarness.open(database, tables: ["t", "u"])
            for (count, change) in ["SET NOT NULL", "SET DEFAULT 7", "SET STATISTICS 9"]
                .enumerated()
            {
                try database.run("ALTER TABLE t ALTER v TYPE int USING v * 2")
                try database.run("ALTER TABLE t ALTER v \(change)")
                try database.run("ALTER TABLE u ALTER v TYPE text USING v || 'y'")
                try database.run("ALTER TABLE u ALTER v \(change)")
                try await source.probe()
                #expect(source.gaps.count == (count + 1) * 2)
                #expect(
                    source.reports.gaps.allSatisfy {
                        $0.message.contains("may have been rewritten")
                    })
            }
        }

        @Test("CORRECTNESS 87: a table that an operator's publication has unlisted may be unlogged")
        func unloggedTable() async throws {
            let database = try await TestDatabase(
                """
                CREATE TABLE t (id int PRIMARY KEY, n int); INSERT INTO t VALUES (1, 1);
                CREATE PUBLICATION mine FOR ALL TABLES
                """)
            let source = try await SourceHarness.open(
                database, tables: ["t"], config: ["publication": .string("mine")])
            for sql in [
                "TRUNCATE t; INSERT INTO t VALUES (1, 1)", "VACUUM FULL t",
                "ALTER TABLE t ADD g int GENERATED ALWAYS AS (n + 1) STORED",
                "ALTER TABLE t ALTER COLUMN g TYPE bigint", "TRUNCATE t",
            ] {
                for statement in sql.split(separator: "; ") { try database.run(String(statement)) }
                try await source.probe()
                #expect(source.gaps.isEmpty, "\(sql)")
            }
            for sql in [
                "INSERT INTO t VALUES (1, 1)", "ALTER TABLE t SET UNLOGGED",
                "UPDATE t SET n = 2", "ALTER TABLE t SET LOGGED",
            ] { try database.run(sql) }
            try await source.probe()
            #expect(source.gaps == ["postgres.rows_changed_silently"])
            let gap = try #require(source.reports.gaps.first)
            #expect(gap.message.hasPrefix("\"public.t\" may have been UNLOGGED"))
            try database.run(statements(gap.hint))
            #expect(try await source.drain().last?.after?["n"] == 2)
        }

        @Test("CORRECTNESS 79: the same change once more is a gap of its own")
        func onceMore() async throws {
            let database = try await TestDatabase(
                "CREATE TABLE t (id int PRIMARY KEY, v int); INSERT INTO t VALUES (1, 1)")
            let source = try await SourceHarness.open(database, tables: ["t"])
            for count in 1...2 {
                try database.run("ALTER TABLE t ALTER v TYPE int USING v * 7")
                try await source.probe()
                #expect(source.gaps.count == count)
            }
            #expect(Set(source.reports.gaps.map(\.message)).count == 1)
        }

        @Test(
            "CORRECTNESS 79: a new column whose default is gone again may have values in old rows")
        func defaultThatIsGone() async throws {
            let database = try await TestDatabase(
                "CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1)")
            let source = try await SourceHarness.open(database, tables: ["t"])
            try database.run(
                """
                BEGIN; ALTER TABLE t ADD z uuid DEFAULT gen_random_uuid();
                ALTER TABLE t ALTER z DROP DEFAULT; COMMIT
                """)
            try await source.probe()
            let gap = try #require(source.reports.gaps.first)
            #expect(gap.message.contains("\"z\" may have been added"))
            try database.run(statements(gap.hint))
            #expect(try await source.drain().last?.after?["z"] != nil)
            try database.run("ALTER TABLE t ADD plain int")
            try await source.probe()
            #expect(source.gaps.count == 1)
        }

        @Test("CORRECTNESS 86: a description knows the other names of its columns")
        func otherNames() async throws {
            let database = try await TestDatabase(
                "CREATE TABLE t (id int PRIMARY KEY, name text, gone int, swap1 int, swap2 int)")
            let source = try await SourceHarness.open(database, tables: ["t"])
            await source.source.close()
            try database.run(
                """
                INSERT INTO t VALUES (1, 'a', 1, 1, 2); ALTER TABLE t RENAME name TO title;
                INSERT INTO t VALUES (2, 'b', 2, 1, 2); ALTER TABLE t DROP gone, ADD later int;
                BEGIN; ALTER TABLE t RENAME swap1 TO x; ALTER TABLE t RENAME swap2 TO swap1;
                ALTER TABLE t RENAME x TO swap2; COMMIT; INSERT INTO t VALUES (3, 'c', 2, 1, 3)
                """)
            try await source.open()
            let now = try #require(try await source.source.tables().first)
            #expect(now.columns.map(\.name) == ["id", "title", "swap2", "swap1", "later"])
            #expect(now.columns.map(\.otherNames) == [[], ["name"], [], [], []])
            #expect(now.otherColumns == ["gone"])
            #expect(source.log.all.contains { $0.contains("\"gone\" of \"public.t\" was dropped") })
            // Each batch has a table with the same columns.
            var shapes: [TableSchema] = []
            let marker = try await source.mark()
            try await eventually("the marker is read") {
                try await source.readBatch()
                #expect(source.batch.tables.count <= 1)
                shapes += source.batch.tables
                return source.hasReached(marker)
            }
            #expect(shapes.count == 3)
            #expect(shapes[0].columns.map(\.name) == ["id", "name", "gone", "swap1", "swap2"])
            #expect(shapes[0].columns.map(\.otherNames) == [[], ["title"], [], [], []])
            #expect(shapes[0].otherColumns == ["later"])
            #expect(shapes[1].columns[1].name == "title" && shapes[1].otherColumns == ["later"])
            #expect(shapes[2].otherColumns.isEmpty)
            // Behind it, nothing is to come that has the dropped one.
            try await source.acknowledge()
            try await source.open()
            #expect(try await source.source.tables().first?.otherColumns == [])
        }

        @Test("CORRECTNESS 86: a name that no look saw is tied to its column by its place")
        func middleNames() async throws {
            let database = try await TestDatabase(
                """
                CREATE TABLE t (id int PRIMARY KEY, a int, b int, name text);
                CREATE TABLE u (id int PRIMARY KEY, a int)
                """)
            let source = try await SourceHarness.open(database, tables: ["t", "u"])
            await source.source.close()
            try database.run(
                """
                ALTER TABLE t RENAME name TO middle; ALTER TABLE t RENAME a TO x;
                INSERT INTO t VALUES (1, 1, 2, 'm'); ALTER TABLE t RENAME middle TO title;
                ALTER TABLE t RENAME x TO a; ALTER TABLE t ADD later text;
                INSERT INTO t VALUES (2, 1, 2, 't');
                ALTER TABLE u ADD gone int; INSERT INTO u VALUES (1, 1, 1);
                ALTER TABLE u DROP gone, ADD later int
                """)
            try await source.open()
            var shapes: [TableSchema] = []
            let marker = try await source.mark()
            try await eventually("the marker is read") {
                try await source.readBatch()
                shapes += source.batch.tables
                return source.hasReached(marker)
            }
            let described = shapes.map { $0.columns.map(\.name) }
            try #require(
                described == [
                    ["id", "x", "b", "middle"], ["id", "a", "b", "title", "later"],
                    ["id", "a", "gone"],
                ])
            #expect(shapes[0].columns.map(\.otherNames) == [[], ["a"], [], ["name", "title"]])
            // Another column may have been there and gone.
            #expect(shapes[2].columns.map(\.otherNames) == [[], [], []])
        }

        @Test("CORRECTNESS 79: a rewrite that something else may explain is told as such")
        func rewrittenPerhaps() async throws {
            let database = try await TestDatabase(
                "CREATE TABLE t (id int PRIMARY KEY, v int); INSERT INTO t VALUES (1, 5)")
            let source = try await SourceHarness.open(database, tables: ["t"])
            try database.run("ALTER TABLE t ALTER v TYPE int USING v * 2, ALTER v SET NOT NULL")
            try await source.probe()
            let words = "\"v\" of \"public.t\" may have been rewritten"
            #expect(source.reports.gaps.first?.message.contains(words) == true)
            // The old one goes on under another name, so that no copy has it as the new one.
            await source.source.close()
            try database.run("ALTER TABLE t RENAME v TO v_old; ALTER TABLE t ADD v int")
            try await source.open()
            #expect(source.reports.gaps.count == 2)
            #expect(source.reports.gaps.last?.message.contains("is called \"v_old\" now") == true)
        }

        @Test("CORRECTNESS 79: what a list of columns leaves out is no gap until it is sent")
        func silentValuesLeftOut() async throws {
            let database = try await TestDatabase(
                """
                CREATE TABLE t (id int PRIMARY KEY, v int, w int); INSERT INTO t VALUES (1, 5, 6);
                CREATE PUBLICATION mine FOR TABLE t (id, v)
                """)
            let source = try await SourceHarness.open(
                database, tables: ["t"], config: ["publication": .string("mine")])
            #expect(source.findings == ["postgres.publication_partial"])
            for sql in [
                "ALTER TABLE t ALTER w TYPE bigint USING w * 2", "ALTER TABLE t RENAME w TO x",
                "ALTER TABLE t ADD COLUMN y int DEFAULT 7",
            ] {
                try database.run(sql)
                try await source.probe()
                #expect(source.gaps.isEmpty, "\(sql)")
            }
            try database.run("ALTER PUBLICATION mine SET TABLE t (id, v, y)")
            try await source.probe()
            #expect(source.gaps == ["postgres.rows_changed_silently"])
            #expect(source.reports.gaps.first?.message.contains("\"y\"") == true)
        }

        @Test func thousandsOfTablesAreComparedInTime() throws {
            let names = (1...5000).map { TableName(schema: "public", name: "t\($0)") }
            func memory(from oid: UInt32) -> TableMemory {
                TableMemory(tables: zip(names, oid...).map { TableMemory.Table(name: $0, oid: $1) })
            }
            let (old, new) = (memory(from: 1), memory(from: 5001))
            #expect(new.replaced(since: old).count == 5000)
            let kept = new.remembering(old, end: LSN(2), from: LSN(1))
            #expect(TableMemory(text: kept.text).text == kept.text)
            #expect(kept.known(names[4999]) == [5000, 10000])
            #expect(old.silentChanges(since: old).isEmpty && old.moves(since: old).isEmpty)
            let facts = zip(names, UInt32(1)...).map {
                TableFacts(oid: $1, name: $0, kind: "r", isPermanent: true, parts: [])
            }
            let publication = Publication(
                row: ["f", "t", "t", "t", "t", "t", "f"],
                entries: facts.map { ["\($0.oid)", "t", "f"] },
                tables: facts.map { [$0.name.schema, $0.name.name, nil, nil] })
            for ownership in [PublicationPlan.Ownership.ours, .operators] {
                let plan = try PublicationPlan(
                    PublicationPlan.Facts(
                        name: "p", ownership: ownership, existing: publication, wanted: names,
                        tables: facts, catalogue: [], followed: old.numbers, isFirstStart: false,
                        position: "", restartHint: ""))
                #expect(plan.gaps.count == (ownership == .ours ? 5000 : 0))
            }
        }
    }
}
