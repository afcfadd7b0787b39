import Foundation
import Glibc
import Testing
import WeirTesting

extension EndToEnd {
    /// What becomes of a copy whose source table changes its columns.
    @Suite struct PostgresSinkDriftTests {
        private func start(_ fields: String, _ more: String = "") async throws -> PostgresCopy {
            let copy = try await PostgresCopy.make(
                ["public.t"], sinks: ["copy": "\"write\": \"table\"\(fields)"])
            try copy.source.sql("CREATE TABLE t (id int PRIMARY KEY, v text\(more))")
            try copy.home.once()
            try copy.deliver("INSERT INTO t (id, v) SELECT g, 'old' FROM generate_series(1, 5) g")
            try copy.expectEqual("(SELECT id, v FROM t)", "(SELECT id, v FROM t)")
            return copy
        }

        private let plain = "(SELECT id, v FROM t)"

        // MARK: New columns

        @Test func aNewColumnIsLeftOutWithOneWarning() async throws {
            let copy = try await start("")
            try await copy.whileRunning {
                try copy.source.sql(
                    """
                    ALTER TABLE t ADD surplus text DEFAULT 'x';
                    INSERT INTO t VALUES (6, 'six', 'y');
                    UPDATE t SET surplus = 'z', v = 'updated' WHERE id < 3;
                    """)
                try await copy.untilSame(plain)
                for id in 7...9 {
                    try copy.source.sql("INSERT INTO t VALUES (\(id), 'more')")
                    try await copy.untilSame(plain)
                }
                try copy.source.sql(
                    "UPDATE t SET surplus = 'only that'; DELETE FROM t WHERE id = 1")
                try await copy.untilSame(plain)
                let warnings = lines(of: copy.home.log).filter {
                    $0.contains("surplus") && $0.contains("lacks")
                }
                #expect(warnings.count == 1 && warnings[0].contains("warning"), "\(warnings)")
            }
            #expect(try copy.target.columns(of: "t") == ["id integer", "v text"])

            // Added to the target by hand, it is written.
            try copy.target.sql("ALTER TABLE t ADD surplus text")
            try copy.deliver("UPDATE t SET surplus = 'taken'")
            try copy.expectEqual("t")
        }

        /// Both hints as they are printed: the column's at the target, the gap's at the source.
        @Test func whatWasLeftOutComesWithTheUpdateOfItsGap() async throws {
            let copy = try await start("")
            try copy.source.sql(
                """
                ALTER TABLE t ADD note text, ADD doc jsonb, ADD "N°" int, ADD tags text[];
                ALTER TABLE t ALTER note SET STORAGE EXTERNAL, ALTER doc SET STORAGE EXTERNAL,
                    ALTER tags SET STORAGE EXTERNAL;
                """)
            try await copy.whileRunning {
                try copy.source.sql(
                    """
                    UPDATE t SET note = repeat('n', 100000), tags = ARRAY[repeat('t', 100000)],
                        doc = to_jsonb(repeat('d', 100000)), "N°" = id WHERE id > 1;
                    INSERT INTO t (id) VALUES (6);
                    """)
                try await copy.untilSame(plain)
                let hint = try #require(
                    try Self.decode(Findings.self, copy.home.weir("status", "--json"))
                        .pipelines[0].findings.first { $0.code == "postgres.new_column" }?.hint)
                let sql = try #require(hint.firstRange(of: "ALTER TABLE"))
                try copy.target.sql(String(hint[sql.lowerBound...]))
            }
            #expect(try copy.target.columns(of: "t").count == 6)
            try copy.home.once()
            let gaps = try Self.decode(Gaps.self, copy.home.weir("gap", "list", "--json")).gaps
                .filter { $0.code == "postgres.columns_left_out" }
            let gap = try #require(gaps.first)
            #expect(gaps.count == 1 && gap.message.contains(#""N°", "doc", "note", "tags""#))
            let start = try #require(gap.hint.firstRange(of: "UPDATE "))
            let end = try #require(gap.hint.lastIndex(of: ";"))
            try copy.deliver(String(gap.hint[start.lowerBound...end]))
            try copy.expectEqual("t")
        }

        private struct Gaps: Decodable {
            struct Gap: Decodable { let code, message, hint: String }
            let gaps: [Gap]
        }

        private struct Findings: Decodable {
            struct Finding: Decodable {
                let code: String
                let hint: String?
            }
            struct Pipeline: Decodable { let findings: [Finding] }
            let pipelines: [Pipeline]
        }

        private static func decode<T: Decodable>(_ type: T.Type, _ answer: Answer) throws -> T {
            try JSONDecoder().decode(type, from: Data(answer.out.utf8))
        }

        @Test func aNewColumnIsAdded() async throws {
            let copy = try await start(#", "on_new_column": "add""#)
            try await copy.whileRunning {
                try copy.source.sql(
                    """
                    CREATE TYPE mood AS ENUM ('good', 'bad');
                    ALTER TABLE t ADD n numeric(10, 2), ADD "Tag's" text[], ADD m mood;
                    INSERT INTO t VALUES (6, 'six', 1.50, '{a,"b c",NULL}', 'good');
                    """)
                try await copy.untilSame("(SELECT id, v, n, \"Tag's\", m::text FROM t)")
                #expect(try copy.target.columns(of: "t").count == 5)
                // Rows that were there have what the source's default is only once they change.
                try copy.source.sql(
                    "ALTER TABLE t ADD d date DEFAULT '2026-01-01'; INSERT INTO t (id) VALUES (7)")
                try await copy.untilSame("(SELECT id FROM t)")
                #expect(try copy.target.count("t WHERE d IS NULL") == 6)
                #expect(try copy.target.sql("SELECT d FROM t WHERE id = 7") == "2026-01-01")
                try copy.source.sql("UPDATE t SET v = 'touched'")
                try await copy.untilSame("(SELECT id, v, n, \"Tag's\", m::text, d FROM t)")
            }
            let types = try copy.target.columns(of: "t").map { $0.split(separator: " ").last ?? "" }
            #expect(types[0...1] == ["integer", "text"])
            #expect(types[3...] == ["text[]", "text", "date"])
            #expect(try copy.home.figures().errors.isEmpty)
        }

        @Test func aNewColumnStopsThePipelineWhereThatIsAskedFor() async throws {
            let copy = try await start(#", "on_new_column": "stop""#)
            try copy.source.sql(
                """
                INSERT INTO t VALUES (6, 'before');
                ALTER TABLE t ADD "new one" int;
                INSERT INTO t VALUES (7, 'with it', 7);
                """)
            let problem = try await copy.expectStopped("postgres.new_column")
            let said = "\(problem.message) \(problem.hint ?? "")"
            let statement = try #require(
                said.firstMatch(of: #/ALTER TABLE [^;]* ADD [^;]*/#)?.output)
            #expect(statement.contains("\"new one\""), "\(said)")
            #expect(try copy.target.count("t WHERE id = 7") == 0)
            try copy.target.sql("ALTER TABLE t ADD \"new one\" int")
            try copy.home.once()
            try copy.expectEqual("t")
        }

        @Test(arguments: ["ignore", "add", "stop"])
        func aChosenColumnTheTargetLacksIsANewOne(policy: String) async throws {
            let copy = try await PostgresCopy.make(
                ["public.t"],
                sinks: [
                    "copy": """
                    "write": "table", "on_new_column": "\(policy)",
                    "columns": { "id": "id", "value": "v", "total": "n" }
                    """
                ])
            try copy.source.sql("CREATE TABLE t (id int PRIMARY KEY, v text, n bigint, w text)")
            try copy.target.sql("CREATE TABLE t (id int PRIMARY KEY, value text)")
            if policy == "add" {
                try copy.home.once()
            } else {
                // What is named is wanted: known before the first change comes.
                let problem = try await copy.expectStopped("postgres.new_column")
                #expect("\(problem)".contains("total"))
            }
            try copy.source.sql("INSERT INTO t VALUES (1, 'x', 1, 'never'), (2, 'y', 2, 'never')")
            if policy != "add" {
                #expect(try copy.target.count("t") == 0)
                try copy.target.sql("ALTER TABLE t ADD total bigint")
            }
            try copy.home.once()
            try copy.expectEqual("(SELECT id, v, n FROM t)", "t")
            #expect(try copy.target.columns(of: "t").last == "total bigint")
        }

        // MARK: Columns that go

        @Test func aDroppedColumnStaysInTheTargetAsItWas() async throws {
            let copy = try await start("", ", gone text DEFAULT 'kept'")
            try await copy.whileRunning {
                try copy.source.sql(
                    """
                    ALTER TABLE t DROP gone;
                    INSERT INTO t VALUES (6, 'six');
                    UPDATE t SET v = 'updated' WHERE id <= 2;
                    DELETE FROM t WHERE id = 5;
                    """)
                try await copy.untilSame(plain)
            }
            #expect(try copy.target.columns(of: "t").count == 3)
            #expect(try copy.target.count("t WHERE gone = 'kept'") == 4)
            #expect(try copy.target.count("t WHERE gone IS NULL") == 1)
        }

        @Test func aDroppedColumnThatWasChosenStopsThePipeline() async throws {
            let copy = try await start(#", "columns": ["id", "v", "gone"]"#, ", gone text")
            try copy.source.sql("ALTER TABLE t DROP gone; INSERT INTO t VALUES (6, 'six')")
            let problem = try await copy.expectStopped("values.unknown_column")
            #expect("\(problem)".contains("gone"))
            #expect(try copy.target.count("t") == 5)
            let pipelines = [
                "shop": CopyPipeline(
                    ["public.t"], sinks: ["copy": #""write": "table", "columns": ["id", "v"]"#])
            ]
            try copy.home.configure(PostgresCopy.configuration(copy.source, copy.target, pipelines))
            try copy.home.once()
            try copy.expectEqual("t", plain)
        }

        // MARK: Columns that become others

        @Test(arguments: ["ignore", "add"])
        func aRenamedColumnIsADropAndANewOne(policy: String) async throws {
            let copy = try await start(", \"on_new_column\": \"\(policy)\"", ", name text")
            try copy.deliver("UPDATE t SET name = 'before'")
            try await copy.whileRunning {
                try copy.source.sql(
                    """
                    ALTER TABLE t RENAME name TO title;
                    INSERT INTO t VALUES (6, 'six', 'after');
                    UPDATE t SET title = 'after' WHERE id = 1;
                    """)
                try await copy.untilSame(plain)
                if policy == "add" {
                    try await copy.untilSame(
                        "(SELECT id, title FROM t WHERE title = 'after')")
                }
            }
            let columns = ["id integer", "v text", "name text"]
            let added = policy == "add" ? ["title text"] : []
            #expect(try copy.target.columns(of: "t") == columns + added)
            #expect(try copy.target.count("t WHERE name = 'before'") == 5)
            #expect(try copy.target.count("t WHERE name IS NULL") == 1)
        }

        @Test func aRetypedColumnIsWrittenIntoTheOldOneAsLongAsItFits() async throws {
            let copy = try await start("", ", n int, at date")
            try await copy.whileRunning {
                try copy.source.sql(
                    """
                    ALTER TABLE t ALTER n TYPE bigint, ALTER at TYPE text;
                    INSERT INTO t VALUES (6, 'six', 2147483647, '2026-01-31');
                    UPDATE t SET n = -1, at = '2026-02-01' WHERE id <= 3;
                    """)
                try await copy.untilEqual("t")
                // Wider at the target as well, the running daemon writes on.
                try copy.target.sql("ALTER TABLE t ALTER n TYPE bigint, ALTER at TYPE text")
                try copy.source.sql("INSERT INTO t VALUES (7, 'wide', 5000000000, 'no date')")
                try await copy.untilEqual("t")
            }
            try copy.expectEqual("t")
            try copy.target.sql("ALTER TABLE t ALTER at TYPE date USING NULL")
            try copy.source.sql("INSERT INTO t VALUES (8, 'misfit', 1, 'WEIRCANARY')")
            let problem = try await copy.expectStopped("postgres.row_refused")
            #expect(problem.message.contains("8"))
            #expect(!copy.home.logText().contains("WEIRCANARY"))
        }

        @Test func aKeyThatGrowsStopsThePipelineUntilTheTargetsDoes() async throws {
            let copy = try await start("")
            try copy.source.sql(
                """
                ALTER TABLE t ADD part int NOT NULL DEFAULT 0, DROP CONSTRAINT t_pkey,
                    ADD PRIMARY KEY (id, part);
                INSERT INTO t VALUES (1, 'again', 1);
                """)
            let daemon = try copy.home.run()
            try await eventually("it stops and says why") {
                let pipeline = try copy.home.status().pipeline("shop")
                return pipeline?.state == "stopped" && pipeline?.problems.isEmpty == false
            }
            let problem = try #require(try copy.home.status().pipeline("shop")?.problems.first)
            #expect(["postgres.no_unique_index", "postgres.new_column"].contains(problem.code))
            daemon.signal(SIGTERM)
            #expect(try await daemon.wait() == .exited(0))
            // The hint, and what it says of the rows that are there.
            let hint = try #require(problem.hint)
            #expect(hint.contains("Fill \"part\"") && !hint.contains("DROP CONSTRAINT"))
            try runHint(hint, copy)
            try copy.target.sql("UPDATE t SET part = 0")
            try runHint(try await copy.expectStopped("postgres.row_refused").hint, copy)
            try copy.home.once()
            try copy.expectEqual("t")
            // Moved to another column, with rows that the old key would not take.
            try copy.target.sql(
                "DROP INDEX t_id_part_idx; ALTER TABLE t ADD PRIMARY KEY (id, part)")
            try copy.deliver("UPDATE t SET v = v || id || part")
            try copy.source.sql(
                """
                ALTER TABLE t DROP CONSTRAINT t_pkey, ADD PRIMARY KEY (v);
                INSERT INTO t VALUES (1, 'third', 1);
                """)
            try runHint(try await copy.expectStopped("postgres.no_unique_index").hint, copy)
            try runHint(try await copy.expectStopped("postgres.row_refused").hint, copy)
            try copy.home.once()
            try copy.expectEqual("t")
        }

        private func runHint(_ hint: String?, _ copy: PostgresCopy) throws {
            let statements = try #require(hint).matches(of: #/(ALTER|CREATE|DROP) [^;]*;/#)
            #expect(statements.count >= 1, "\(hint ?? "")")
            for statement in statements { try copy.target.sql(String(statement.output.0)) }
        }

        /// What was written before the change needs the old key, what came after it the new one:
        /// the hint leads to a target that has both, until one is in the way.
        @Test(arguments: [false, true])
        func aNewPrimaryKeyInTheBacklogNeedsBothKeys(atTargetToo: Bool) async throws {
            let copy = try await start("")
            try copy.deliver("UPDATE t SET v = v || id")
            let change = "ALTER TABLE t DROP CONSTRAINT t_pkey; ALTER TABLE t ADD PRIMARY KEY (v)"
            try copy.source.sql(
                """
                UPDATE t SET v = 'before' WHERE id = 1;
                INSERT INTO t VALUES (6, 'six');
                DELETE FROM t WHERE id = 2;
                """)
            try copy.source.sql(change)
            try copy.source.sql("UPDATE t SET id = 30 WHERE v = 'old3'")
            if atTargetToo { try copy.target.sql(change) }
            try runHint(try await copy.expectStopped("postgres.no_unique_index").hint, copy)
            try copy.home.once()
            try copy.expectEqual("t")
            // Rows that only the new key tells apart.
            try copy.source.sql("INSERT INTO t VALUES (6, 'again')")
            let problem = try await copy.expectStopped("postgres.row_refused")
            #expect(
                problem.hint?.hasSuffix(
                    atTargetToo
                        ? "DROP INDEX \"public\".\"t_id_idx\";"
                        : "ALTER TABLE \"public\".\"t\" DROP CONSTRAINT \"t_pkey\";") == true,
                "\(problem.hint ?? "")")
            try runHint(problem.hint, copy)
            try copy.home.once()
            try copy.expectEqual("t")
        }

        /// Many versions of one table in one transaction and in many.
        @Test func columnsComeAndGoWhileRowsChange() async throws {
            let copy = try await start(#", "on_new_column": "add""#)
            var sql = ""
            for round in 1...8 {
                sql += """
                    ALTER TABLE t ADD c\(round) int;
                    INSERT INTO t (id, v, c\(round)) SELECT g + \(round * 1000), 'x', g
                        FROM generate_series(1, 60) g;
                    UPDATE t SET v = v || '\(round)', c\(round) = id WHERE id % 3 = 0;

                    """
                if round % 4 == 0 { sql += "ALTER TABLE t DROP c\(round - 2);\n" }
            }
            try copy.deliver("BEGIN;\n\(sql)COMMIT")
            let kept = "(SELECT id, v, c1, c3, c4, c5, c7, c8 FROM t)"
            try copy.expectEqual(kept)
            try copy.deliver("ALTER TABLE t ADD c2 int; UPDATE t SET c2 = 2")
            try copy.expectEqual(kept.replacing("v,", with: "v, c2,"))
            #expect(try copy.home.figures().errors.isEmpty)
        }
    }
}
