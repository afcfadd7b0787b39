import Foundation
import Glibc
import Testing
import WeirTesting

extension EndToEnd {
    /// Copies of tables in another PostgreSQL database, from configuration alone.
    @Suite struct PostgresSinkTests {
        private func user(_ number: Int) -> String {
            "00000000-0000-0000-0000-00000000000\(number)"
        }

        // MARK: S8

        @Test func anotherServiceKeepsTheColumnsItNeedsUnderItsOwnNames() async throws {
            let copy = try await PostgresCopy.make(
                ["public.users"],
                sinks: [
                    "copy": """
                    "write": "table", "table": "orders.customers",
                    "columns": { "mail": "email", "id": "id" }
                    """
                ])
            try copy.source.sql(
                """
                CREATE TABLE users (
                    id uuid PRIMARY KEY DEFAULT gen_random_uuid(), email varchar(200) NOT NULL,
                    password_hash text, created_at timestamptz DEFAULT now())
                """)
            let (theirs, ours) = ("(SELECT email, id FROM users)", "orders.customers")
            try await copy.whileRunning {
                try copy.source.sql(
                    """
                    INSERT INTO users (id, email, password_hash) VALUES
                        ('\(user(1))', 'one@example.org', 'WEIRCANARY'),
                        ('\(user(2))', 'two@example.org', NULL), ('\(user(3))', '', ''),
                        ('\(user(4))', E'four\\t\\\\N\\n@example.org', 'x');
                    """)
                try await copy.untilSame(theirs, ours)
                try copy.source.sql(
                    """
                    UPDATE users SET email = 'ONE@example.org' WHERE id = '\(user(1))';
                    UPDATE users SET password_hash = 'another' WHERE id = '\(user(2))';
                    UPDATE users SET id = '\(user(5))' WHERE id = '\(user(3))';
                    DELETE FROM users WHERE id = '\(user(4))';
                    """)
                try await copy.untilSame(theirs, ours)
                #expect(try copy.target.count("orders.customers") == 3)
                try copy.source.sql(
                    """
                    BEGIN;
                    INSERT INTO users (email) VALUES ('gone@example.org');
                    TRUNCATE users;
                    INSERT INTO users (email) SELECT g || '@x.org' FROM generate_series(1, 9) g;
                    COMMIT
                    """)
                try await copy.untilSame(theirs, ours)
            }
            try copy.expectEqual(theirs, ours)
            let columns = try copy.target.columns(of: "orders.customers")
            #expect(columns.map { $0.split(separator: " ")[0] } == ["mail", "id"])
            #expect(columns.last == "id uuid")
            let indexes = try copy.target.indexes(of: "orders.customers")
            #expect(indexes.count == 1 && indexes[0].hasSuffix("(id)"), "\(indexes)")
            #expect(indexes[0].contains("UNIQUE"))
            #expect(try copy.home.figures().errors.isEmpty)
        }

        @Test func everyTableGoesWhereTheTemplateSaysAndIsEmptiedThere() async throws {
            let tables = ["shop.orders", "shop.lines", "old.orders"]
            let copy = try await PostgresCopy.make(
                tables,
                sinks: [
                    "same": #""write": "table""#,
                    "kept": """
                    "write": "table", "table": "kept.{schema}_{table}", "truncate": "ignore"
                    """,
                    "appended": """
                    "write": "table", "table": "appended_{schema}.{table}",
                    "operations": ["insert", "update"]
                    """,
                ])
            try copy.source.sql(
                """
                CREATE SCHEMA shop; CREATE SCHEMA old;
                CREATE TABLE shop.orders (
                    a int, region text, total numeric, PRIMARY KEY (region, a));
                CREATE TABLE shop.lines (id bigint PRIMARY KEY, a int, region text,
                    FOREIGN KEY (region, a) REFERENCES shop.orders);
                CREATE TABLE old.orders (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), n int);
                """)
            try copy.home.once()
            try copy.deliver(
                """
                INSERT INTO shop.orders SELECT g, 'r' || g % 3, g FROM generate_series(1, 400) g;
                INSERT INTO shop.lines SELECT g, g, 'r' || g % 3 FROM generate_series(1, 400) g;
                INSERT INTO old.orders (n) SELECT g FROM generate_series(1, 400) g;
                UPDATE shop.orders SET region = 'r9' WHERE a = 400
                    AND NOT EXISTS (SELECT FROM shop.lines l WHERE l.a = 400);
                """)
            for table in tables { try copy.expectEqual(table) }
            #expect(
                try copy.target.indexes(of: "shop.orders").contains { $0.hasSuffix("(region, a)") })

            try copy.deliver(
                """
                BEGIN;
                UPDATE old.orders SET n = -n WHERE n < 200;
                DELETE FROM old.orders WHERE n > 350;
                INSERT INTO shop.orders VALUES (1000, 'x', 1);
                TRUNCATE shop.orders, shop.lines;
                INSERT INTO shop.orders VALUES (1, 'after', 1);
                COMMIT;
                BEGIN;
                INSERT INTO shop.lines VALUES (1, 1, 'after');
                TRUNCATE old.orders;
                COMMIT
                """)
            for table in tables { try copy.expectEqual(table) }
            #expect(try copy.target.count("kept.shop_orders") == 402)
            #expect(try copy.target.count("kept.shop_lines") == 400)
            #expect(try copy.target.count("kept.old_orders") == 350)
            // A TRUNCATE is no insert.
            #expect(try copy.target.count("appended_shop.orders") == 402)
            #expect(try copy.target.count("appended_old.orders") == 400)
            #expect(try copy.target.count("appended_old.orders WHERE n < 0") == 199)
        }

        @Test func aTableOfTheTargetsOwnKeepsWhatItsOwnerAdded() async throws {
            let copy = try await PostgresCopy.make(
                ["public.users"], sinks: ["copy": #""write": "table", "table": "customers""#])
            try copy.source.sql(
                """
                CREATE TABLE users (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, mail text)
                """)
            try copy.target.sql(
                """
                CREATE TABLE customers (
                    note text DEFAULT 'none', id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
                    seen timestamptz NOT NULL DEFAULT now(), mail text, changes int DEFAULT 0,
                    lower text GENERATED ALWAYS AS (lower(mail)) STORED);
                CREATE INDEX ON customers (lower);
                CREATE FUNCTION count_change() RETURNS trigger LANGUAGE plpgsql AS $$
                    BEGIN NEW.changes := OLD.changes + 1; RETURN NEW; END $$;
                CREATE TRIGGER counting BEFORE UPDATE ON customers
                    FOR EACH ROW EXECUTE FUNCTION count_change();
                """)
            let (theirs, ours) = (
                "(SELECT id, mail FROM users)", "(SELECT id, mail FROM customers)"
            )
            try copy.home.once()
            try copy.deliver(
                "INSERT INTO users (mail) SELECT 'A' || g FROM generate_series(1, 400) g")
            try copy.expectEqual(theirs, ours)
            #expect(try copy.target.count("customers WHERE note = 'none' AND changes = 0") == 400)
            #expect(try copy.target.count("customers WHERE lower = 'a' || id") == 400)

            try copy.target.sql("UPDATE customers SET note = 'mine' WHERE id <= 300")
            try copy.deliver("UPDATE users SET mail = 'B' || id WHERE id <= 350")
            try copy.expectEqual(theirs, ours)
            #expect(try copy.target.count("customers WHERE note = 'mine' AND changes = 2") == 300)
            #expect(try copy.target.count("customers WHERE note = 'none' AND changes = 1") == 50)
            #expect(try copy.target.count("customers WHERE lower = 'b' || id") == 350)

            try copy.deliver("UPDATE users SET mail = 'C' WHERE id = 1")
            try copy.deliver("DELETE FROM users WHERE id = 2")
            try copy.deliver(
                "INSERT INTO users (id, mail) OVERRIDING SYSTEM VALUE VALUES (1000, 'D')")
            try copy.expectEqual(theirs, ours)
            #expect(try copy.target.count("customers WHERE note = 'mine' AND changes = 3") == 1)
            #expect(try copy.target.columns(of: "customers").count == 6)
        }

        // MARK: Large values an update leaves unchanged

        private static let documents = """
            CREATE TABLE documents (id int PRIMARY KEY, title text, body text);
            ALTER TABLE documents ALTER body SET STORAGE EXTERNAL;
            """

        private func insertDocuments(_ ids: ClosedRange<Int>) -> String {
            """
            INSERT INTO documents SELECT g, 'title', (
                SELECT string_agg(md5(g::text || h), '') FROM generate_series(1, 3200) h)
            FROM generate_series(\(ids.lowerBound), \(ids.upperBound)) g;
            """
        }

        @Test func aLargeValueIsLeftAloneByUpdatesOfOtherColumns() async throws {
            let copy = try await PostgresCopy.make(["public.documents"])
            try copy.source.sql(Self.documents)
            try copy.home.once()
            try copy.deliver(insertDocuments(1...20))
            try copy.expectEqual("documents")
            #expect(try copy.target.number("SELECT min(length(body)) FROM documents") > 100_000)

            // What the target has under it stays: it was neither sent nor read.
            try copy.target.sql("UPDATE documents SET body = 'by hand' WHERE id IN (1, 2, 3)")
            try copy.deliver("UPDATE documents SET title = 'one' WHERE id = 1")
            try copy.deliver(
                """
                BEGIN;
                UPDATE documents SET title = 'first' WHERE id <= 15;
                UPDATE documents SET title = title || ' and second' WHERE id <= 10;
                UPDATE documents SET body = 'small' WHERE id = 3;
                UPDATE documents SET title = 'third' WHERE id = 3;
                UPDATE documents SET id = id + 100 WHERE id = 2;
                UPDATE documents SET title = 'moved' WHERE id = 102;
                COMMIT
                """)
            let body = "CASE WHEN id IN (1, 102) THEN 'by hand' ELSE body END"
            try copy.expectEqual(
                "(SELECT id, title, md5(\(body)) FROM documents)",
                "(SELECT id, title, md5(body) FROM documents)")

            // A chain of keys with the body unsent, and one that comes back.
            try copy.deliver(
                """
                BEGIN;
                UPDATE documents SET id = id + 1000 WHERE id BETWEEN 4 AND 10;
                UPDATE documents SET id = id + 1000 WHERE id BETWEEN 1004 AND 1006;
                UPDATE documents SET id = id - 1000 WHERE id BETWEEN 1007 AND 1008;
                DELETE FROM documents WHERE id = 2004;
                COMMIT
                """)
            try copy.expectEqual(
                "(SELECT id, title, md5(\(body)) FROM documents)",
                "(SELECT id, title, md5(body) FROM documents)")
        }

        @Test func anUpdateOfARowTheTargetLacksInsertsItAndReadsWhatWasNotSent() async throws {
            let copy = try await PostgresCopy.make(["public.documents", "public.small"])
            try copy.source.sql(
                Self.documents + insertDocuments(1...10)
                    + """
                    CREATE TABLE small (id int PRIMARY KEY, v text);
                    INSERT INTO small SELECT g, 'before' FROM generate_series(1, 10) g;
                    """)
            // Rows that were there before the pipeline are not copied.
            try copy.home.once()
            try copy.deliver("UPDATE small SET v = 'after' WHERE id <= 4")
            try copy.expectEqual("(SELECT * FROM small WHERE id <= 4)", "small")
            try copy.deliver(
                "DELETE FROM small WHERE id IN (4, 9); UPDATE small SET id = 5000 + id")
            try copy.expectEqual("small")

            try await copy.whileRunning {
                try copy.source.sql("UPDATE documents SET title = 'updated' WHERE id <= 3")
                try await copy.untilSame("(SELECT * FROM documents WHERE id <= 3)", "documents")
                try await eventually("they are counted") {
                    try copy.home.figures().sinks[0].late == 3
                }
                // Now they are there.
                try copy.source.sql("UPDATE documents SET title = 'again' WHERE id <= 3")
                try await copy.untilSame("(SELECT * FROM documents WHERE id <= 3)", "documents")
                #expect(try copy.home.figures().sinks[0].late == 3)
            }
            try copy.deliver(
                """
                BEGIN;
                UPDATE documents SET title = 'moved', id = id + 100 WHERE id IN (4, 5);
                UPDATE documents SET title = 'gone' WHERE id = 6;
                DELETE FROM documents WHERE id = 6;
                COMMIT;
                UPDATE documents SET title = 'gone later' WHERE id = 7;
                DELETE FROM documents WHERE id = 7;
                DELETE FROM documents WHERE id > 7 AND id < 100;
                """)
            try copy.expectEqual("documents")
        }

        // MARK: Identities

        @Test func rowsWithoutAKeyAreAddedEachOnce() async throws {
            let copy = try await PostgresCopy.make(["public.visits", "public.t"])
            let inserts = CopyPipeline(
                ["public.visits", "public.t"], source: #", "publication": "inserts""#)
            try copy.home.configure(
                PostgresCopy.configuration(copy.source, copy.target, ["shop": inserts]))
            try copy.source.sql(
                """
                CREATE TABLE visits (at timestamptz, who text);
                CREATE TABLE t (id int PRIMARY KEY);
                CREATE PUBLICATION inserts FOR TABLE visits, t WITH (publish = 'insert, truncate');
                """)
            try copy.home.once()
            for size in [1, 700] {
                try copy.deliver(
                    """
                    INSERT INTO visits SELECT now(), 'same' FROM generate_series(1, \(size)) g;
                    INSERT INTO visits VALUES (NULL, NULL), (NULL, NULL), ('infinity', '');
                    """)
                try copy.expectEqual("visits")
            }
            try copy.home.once()
            try copy.expectEqual("visits")
            try copy.deliver(
                """
                BEGIN;
                INSERT INTO t VALUES (1);
                TRUNCATE visits;
                INSERT INTO visits VALUES (NULL, 'x');
                COMMIT
                """)
            try copy.expectEqual("visits")
            try copy.expectEqual("t")
        }

        @Test func wholeRowsAreTheKeyWhereTheIdentityIsFull() async throws {
            let tables = ["public.bare", "public.keyed", "public.indexed"]
            let copy = try await PostgresCopy.make(tables)
            try copy.source.sql(
                """
                CREATE TABLE bare (a int, b text, j json, f float8, n numeric, c char(5), p point);
                ALTER TABLE bare REPLICA IDENTITY FULL;
                CREATE TABLE keyed (id int PRIMARY KEY, body text, other text);
                ALTER TABLE keyed REPLICA IDENTITY FULL, ALTER body SET STORAGE EXTERNAL;
                CREATE TABLE indexed (id int PRIMARY KEY, code text NOT NULL, v text);
                CREATE UNIQUE INDEX by_code ON indexed (code);
                ALTER TABLE indexed REPLICA IDENTITY USING INDEX by_code;
                """)
            try copy.home.once()
            try copy.deliver(
                """
                INSERT INTO bare SELECT 1, 'x', '{"a":  1}', 'NaN', 1.50, 'ab', '(1,2)'
                    FROM generate_series(1, 5);
                INSERT INTO bare VALUES (NULL, NULL, NULL, NULL, NULL, NULL, NULL),
                    (NULL, NULL, NULL, NULL, NULL, NULL, NULL),
                    (2, '', 'null', '-0', 'NaN', '', NULL), (3, 'x', '[]', 0.1, 1.5, 'z', NULL);
                INSERT INTO keyed SELECT g, repeat(md5(g::text), 500), 'x'
                    FROM generate_series(1, 350) g;
                INSERT INTO indexed SELECT g, 'code' || g, 'x' FROM generate_series(1, 350) g;
                """)
            for table in tables { try copy.expectEqual(table) }
            try copy.deliver(
                """
                BEGIN;
                UPDATE bare SET b = 'one of five' WHERE ctid = '(0,3)';
                DELETE FROM bare WHERE ctid = '(0,1)';
                DELETE FROM bare WHERE ctid = '(0,6)';
                UPDATE bare SET a = 9 WHERE a = 2;
                UPDATE keyed SET other = 'y' WHERE id <= 300;
                UPDATE keyed SET id = -id WHERE id > 340;
                DELETE FROM keyed WHERE id = 5;
                UPDATE indexed SET v = 'y' WHERE id <= 300;
                UPDATE indexed SET code = 'moved' WHERE id = 1;
                UPDATE indexed SET id = 2000 WHERE id = 2;
                DELETE FROM indexed WHERE id = 3;
                COMMIT
                """)
            for table in tables { try copy.expectEqual(table) }
            try copy.deliver("DELETE FROM bare WHERE a = 1; TRUNCATE keyed, indexed")
            for table in tables { try copy.expectEqual(table) }
        }

        @Test func aPartitionedTableIsOneTableOfTheTarget() async throws {
            let copy = try await PostgresCopy.make(["public.events", "public.split"])
            try copy.both(
                """
                CREATE TABLE split (id int, part int, v text, PRIMARY KEY (id, part))
                    PARTITION BY LIST (part);
                CREATE TABLE split_1 PARTITION OF split FOR VALUES IN (1);
                CREATE TABLE split_2 PARTITION OF split FOR VALUES IN (2);
                """)
            try copy.source.sql(
                """
                CREATE TABLE events (id int, at date, v text, PRIMARY KEY (id, at))
                    PARTITION BY RANGE (at);
                CREATE TABLE events_1 PARTITION OF events FOR VALUES FROM ('2026-01-01')
                    TO ('2026-07-01');
                CREATE TABLE events_2 (v text, at date NOT NULL, gone int, id int NOT NULL);
                ALTER TABLE events_2 DROP gone;
                ALTER TABLE events ATTACH PARTITION events_2 DEFAULT;
                """)
            try copy.home.once()
            try copy.deliver(
                """
                INSERT INTO events SELECT g, date '2026-01-01' + g, 'x'
                    FROM generate_series(1, 400) g;
                INSERT INTO split SELECT g, 1 + g % 2, 'x' FROM generate_series(1, 400) g;
                """)
            try copy.deliver(
                """
                BEGIN;
                UPDATE events SET at = at + 180 WHERE id <= 300;
                UPDATE events SET v = 'y' WHERE id % 2 = 0;
                DELETE FROM events WHERE id = 400;
                UPDATE split SET part = 3 - part;
                COMMIT;
                UPDATE events SET v = 'z' WHERE id = 1;
                """)
            try copy.expectEqual("events")
            try copy.expectEqual("split")
            try copy.deliver("TRUNCATE events; DELETE FROM split WHERE id < 100")
            try copy.expectEqual("events")
            try copy.expectEqual("split")
            #expect(
                try copy.target.sql("SELECT relkind FROM pg_class WHERE relname = 'events'") == "r")
        }

        // MARK: Targets that do not fit

        @Test func aTargetThatCannotTellRowsApartStopsThePipelineUntilItCan() async throws {
            let copy = try await PostgresCopy.make(["public.t"])
            try copy.source.sql("CREATE TABLE t (id int PRIMARY KEY, v text)")
            try copy.target.sql(
                """
                CREATE TABLE t (id int, v text, UNIQUE (id, v), UNIQUE (id) DEFERRABLE);
                CREATE UNIQUE INDEX ON t (id) WHERE id > 0;
                """)
            let problem = try await copy.expectStopped("postgres.no_unique_index")
            // What is committed meanwhile waits in the slot.
            try copy.source.sql("INSERT INTO t VALUES (1, 'x')")
            let said = "\(problem.message) \(problem.hint ?? "")"
            #expect(said.contains("ALTER TABLE") && said.contains("id"), "\(problem)")
            #expect(try copy.target.count("t") == 0)
            try copy.target.sql(
                "ALTER TABLE t DROP CONSTRAINT t_id_key, ADD CONSTRAINT fit UNIQUE (id)")
            try copy.home.once()
            try copy.expectEqual("t")
        }

        @Test func columnsWithoutTheKeyStopThePipeline() async throws {
            let copy = try await PostgresCopy.make(
                ["public.t"], sinks: ["copy": #""write": "table", "columns": ["a", "v"]"#])
            try copy.source.sql("CREATE TABLE t (a int, b int, v text, PRIMARY KEY (a, b))")
            let problem = try await copy.expectStopped("postgres.key_not_chosen")
            #expect(problem.message.contains("\"b\""), "\(problem)")
        }

        @Test func aTargetTheRoleMayNotWriteIsWaitedFor() async throws {
            let source = try await TestDatabase.make()
            let target = try await TestDatabase.make()
            let role = "clerk_\(target.name)"
            try source.sql("CREATE TABLE t (id int PRIMARY KEY, v text)")
            try target.sql(
                """
                CREATE ROLE \(role) LOGIN; GRANT CREATE ON SCHEMA public TO \(role);
                CREATE TABLE t (id int PRIMARY KEY, v text); GRANT SELECT ON t TO \(role);
                """)
            let home = try WeirHome { _ in
                PostgresCopy.configuration(
                    source, target, ["shop": CopyPipeline(["public.t"])]
                ).replacing(target.url, with: target.server.url(database: target.name, user: role))
            }
            let copy = PostgresCopy(source: source, target: target, home: home)
            let daemon = try home.run()
            // Known before the first change comes, which then waits in the slot.
            let problem = try await home.untilProblem("postgres.permission")
            #expect(problem.hint?.contains("INSERT") == true, "\(problem)")
            try source.sql("INSERT INTO t SELECT g, 'x' FROM generate_series(1, 500) g")
            try target.sql("GRANT INSERT, UPDATE, DELETE, TRUNCATE ON t TO \(role)")
            try await copy.untilEqual("t")
            try await home.settle(daemon)
            try copy.expectEqual("t")
        }

        @Test func oneTargetForTwoTablesIsAConfigurationError() async throws {
            let copy = try await PostgresCopy.make(
                ["public.a", "public.b"], sinks: ["copy": #""write": "table", "table": "x.y""#])
            let answer = try copy.home.weir("validate")
            #expect(answer.code == 78)
            for name in ["public.a", "public.b", "x.y"] {
                #expect(answer.err.contains(name), "\(answer.err)")
            }
        }
    }
}
