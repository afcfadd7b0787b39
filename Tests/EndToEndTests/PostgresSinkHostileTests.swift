import Foundation
import Testing
import WeirTesting

extension EndToEnd {
    /// Names and values that look like SQL, like the end of a COPY, or like nothing at all.
    @Suite struct PostgresSinkHostileTests {
        private static let names = [
            "a\"b", "a.b", "a;b--", "x');DROP TABLE canary;--", "li\nne", "tab\t", "back\\slash",
            "$1", "%s%n", "{table}", "\u{1F642}", " blank ", "select", "excluded", "s", "t",
            "moved", "weir_rows_1", "Upper", "ctid ", "\\.", "\\N", "a/*", "'", "''", "\"\"",
            String(repeating: "n", count: 63), "\u{E9}", "e\u{301}", "NULL", "_", "whole_row",
        ]

        private static let texts = [
            "", " ", "NULL", "null", "\\N", "\\.", "\\.\n", "\n\\.\n", "\\\\N", "\\", "\\\\", "\\n",
            "\\t", "\\x41", "\\101", "a\tb", "\t", "\n", "\r", "\r\n", "a\rb", "\u{8}\u{C}\u{B}",
            "\u{1}\u{1F}\u{7F}", "'", "''", "\"", "\"\"", "';DROP TABLE canary;--", "$1", "$$",
            "$a$",
            "E'\\n'", "{}", "{NULL}", "{\"a\",b}", "()", "(,)", ",", ";", "%s%n", "\u{1F642}",
            "\u{E9}", "e\u{301}", "\u{FEFF}x", "\u{2028}", "\u{202E}x", "\u{10FFFF}", "မြန်မာ", "0",
            "f",
            "COPY t FROM STDIN;", "a\\", "a\\\tb", "\\\n", "1234567\t", "12345678\\", "123456789\n",
        ]

        private static func identifier(_ name: String) -> String {
            "\"\(name.replacing("\"", with: "\"\""))\""
        }

        private static func literal(_ text: String) -> String {
            let digits = text.utf8.map { byte in
                String(byte >> 4, radix: 16) + String(byte & 15, radix: 16)
            }
            return "convert_from(decode('\(digits.joined())', 'hex'), 'UTF8')"
        }

        /// Everything in a database but the rows of tables.
        private func objects(_ database: TestDatabase) throws -> String {
            try database.sql(
                """
                SELECT string_agg(quote_literal(n.nspname || '.' || c.relname), ', ' ORDER BY 1)
                FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
                WHERE n.nspname NOT LIKE 'pg\\_%' AND n.nspname <> 'information_schema'
                UNION ALL SELECT 'functions ' || count(*) FROM pg_proc
                UNION ALL SELECT 'roles ' || count(*) FROM pg_roles
                UNION ALL SELECT * FROM canary
                """)
        }

        @Test func everyValueArrivesAsItIsOneByOneAndTogether() async throws {
            let copy = try await PostgresCopy.make(["public.t", "public.bare"])
            try copy.source.sql(
                """
                CREATE TABLE t (
                    n int, k text, v text, d bytea, a text[], j jsonb, PRIMARY KEY (k, n));
                CREATE TABLE bare (k text, v text, n int);
                ALTER TABLE bare REPLICA IDENTITY FULL;
                """)
            try copy.target.sql(
                "CREATE TABLE canary (song text); INSERT INTO canary VALUES ('sung')")
            try copy.home.once()
            let values = Self.texts.enumerated().map { index, text in
                let other = Self.literal(Self.texts[(index * 7 + 3) % Self.texts.count])
                let one = Self.literal(text)
                return "(\(one), \(other), convert_to(\(one), 'UTF8') || '\\x00ff5c0a', "
                    + "ARRAY[\(one), NULL, \(other)], jsonb_build_object('a', \(one)))"
            }
            try copy.source.sql(
                """
                CREATE TABLE texts (k text, v text, d bytea, a text[], j jsonb);
                INSERT INTO texts VALUES \(values.joined(separator: ",\n"));
                """)
            func insert(_ count: Int) -> String {
                """
                INSERT INTO t SELECT g, k, v, d, a, j FROM texts, generate_series(1, \(count)) g;
                INSERT INTO t (n, k) VALUES (0, 'nothing');
                INSERT INTO bare SELECT k, v, g FROM texts, generate_series(1, \(count)) g;
                INSERT INTO bare VALUES (NULL, NULL, NULL);
                """
            }
            for count in [1, 8] {
                try copy.deliver(insert(count))
                let before = try objects(copy.target)
                try copy.expectEqual("t")
                try copy.expectEqual("bare")
                #expect(try copy.target.count("t WHERE v IS NULL") == 1)
                #expect(try copy.target.count("t WHERE v = ''") == count)
                #expect(try copy.target.count("t WHERE v = E'\\\\N'") == count)

                try copy.deliver(
                    """
                    BEGIN;
                    UPDATE t SET v = k, a = a || k;
                    UPDATE bare SET v = k WHERE n > 0;
                    COMMIT;
                    """)
                try copy.expectEqual("t")
                try copy.expectEqual("bare")
                try copy.deliver(
                    """
                    UPDATE t SET k = k || E'\\\\.x' WHERE length(k) % 3 = 1;
                    DELETE FROM t WHERE length(k) % 3 = 2;
                    DELETE FROM bare WHERE length(k) % 3 = 2;
                    """)
                try copy.expectEqual("t")
                try copy.expectEqual("bare")
                try copy.deliver("DELETE FROM t; DELETE FROM bare")
                try copy.expectEqual("t")
                try copy.expectEqual("bare")
                #expect(try objects(copy.target) == before)
            }
            #expect(try copy.home.figures().errors.isEmpty)
        }

        @Test func everyNameIsTakenAsItIs() async throws {
            let schema = "we\"ird.sch;ema '\u{1F642}"
            let tables = ["t\"a.b;--'\n\u{1F642}", "{table}", "canary", "excluded"]
            let named = tables.map { Self.identifier(schema) + "." + Self.identifier($0) }
            // Braces in a template stand for names, so these go by their own.
            let copy = try await PostgresCopy.make(named)
            let columns = Self.names.map(Self.identifier)
            let definitions = columns.map { "\($0) text" }.joined(separator: ", ")
            try copy.source.sql("CREATE SCHEMA \(Self.identifier(schema))")
            for name in named {
                try copy.source.sql(
                    """
                    CREATE TABLE \(name) (\(definitions), \(Self.identifier("k;\"")) int,
                        PRIMARY KEY (\(columns[0]), \(columns[3]), \(Self.identifier("k;\""))))
                    """)
            }
            try copy.target.sql(
                "CREATE TABLE canary (song text); INSERT INTO canary VALUES ('sung')")
            try copy.home.once()
            let list = columns.joined(separator: ", ")
            let values = Self.names.map { Self.literal($0) }.joined(separator: ", ")
            for count in [1, 400] {
                for name in named {
                    try copy.source.sql(
                        """
                        INSERT INTO \(name) (\(list), \(Self.identifier("k;\"")))
                        SELECT \(values), g FROM generate_series(1, \(count)) g
                        """)
                }
                try copy.home.once()
                for name in named { try copy.expectEqual(name) }
                for name in named {
                    let sets = columns.dropFirst(4).map { "\($0) = \($0) || 'x'" }
                    try copy.source.sql(
                        """
                        BEGIN;
                        UPDATE \(name) SET \(sets.joined(separator: ", "));
                        UPDATE \(name) SET \(columns[0]) = 'moved' WHERE \(columns[13]) <> '';
                        COMMIT
                        """)
                }
                try copy.home.once()
                for name in named { try copy.expectEqual(name) }
                for name in named { try copy.source.sql("DELETE FROM \(name)") }
                try copy.home.once()
                for name in named { try copy.expectEqual(name) }
            }
            try copy.deliver("TRUNCATE \(named[0]), \(named[2])")
            #expect(try copy.target.sql("SELECT song FROM public.canary") == "sung")
            #expect(
                try copy.target.count(
                    "pg_tables WHERE schemaname NOT IN ('pg_catalog', 'information_schema')") == 6)
            #expect(try copy.home.figures().errors.isEmpty)
        }

        @Test func aNameOfTheConfigurationCannotBreakOut() async throws {
            let column = "x' || '\\\"); DROP TABLE canary; --"
            let target = "t'); DROP TABLE canary; --"
            let positions = "public." + Self.identifier("p'; DROP TABLE canary")
            let copy = try await PostgresCopy.make(
                ["public.t"],
                sinks: [
                    "copy": """
                    "write": "table", "table": \(quoted("public.\(Self.identifier(target))")),
                    "position_table": \(quoted(positions)),
                    "columns": { \(quoted(column)): "v", "id": "id" }
                    """
                ])
            try copy.source.sql("CREATE TABLE t (id int PRIMARY KEY, v text)")
            try copy.target.sql(
                "CREATE TABLE canary (song text); INSERT INTO canary VALUES ('sung')")
            try copy.home.once()
            try copy.deliver("INSERT INTO t SELECT g, 'x' || g FROM generate_series(1, 400) g")
            try copy.deliver("UPDATE t SET v = 'y' WHERE id = 1; DELETE FROM t WHERE id = 2")
            try copy.expectEqual(
                "(SELECT v, id FROM t)",
                "(SELECT \(Self.identifier(column)), id FROM \(Self.identifier(target)))")
            #expect(try copy.target.sql("SELECT song FROM canary") == "sung")
        }
    }
}
