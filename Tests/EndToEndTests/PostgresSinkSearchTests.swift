import Foundation
import Glibc
import Testing
import WeirTesting

extension EndToEnd {
    /// S5: rows found by their words a moment after they changed.
    @Suite struct PostgresSinkSearchTests {
        private static let sink = """
            "write": "search", "table": "search.articles",
            "columns": { "id": "id", "headline": "title", "body": "content.text" },
            "text": { "config": "english", "A": ["headline"], "B": ["body"] }
            """

        /// Articles whose body lies inside a JSON document.
        private func articles() async throws -> PostgresCopy {
            let copy = try await PostgresCopy.make(["public.articles"], sinks: ["copy": Self.sink])
            try copy.source.sql(
                """
                CREATE TABLE articles (id int PRIMARY KEY, title text, content jsonb, secret text);
                ALTER TABLE articles ALTER content SET STORAGE EXTERNAL;
                """)
            try copy.home.once()
            return copy
        }

        private func insert(_ id: Int, _ title: String, _ body: String) -> String {
            """
            INSERT INTO articles VALUES
                (\(id), '\(title)', jsonb_build_object('text', '\(body)'), 'WEIRCANARY');
            """
        }

        /// The ids of what a query finds, the best first.
        private func found(
            _ query: String, in copy: PostgresCopy, table: String = "search.articles",
            column: String = "search", config: String = "english"
        ) throws -> String {
            try copy.target.sql(
                """
                SELECT coalesce(
                    string_agg(id::text, ' ' ORDER BY ts_rank(\(column), q) DESC, id), '')
                FROM \(table), websearch_to_tsquery('\(config)', '\(query)') q WHERE \(column) @@ q
                """)
        }

        private func untilFound(
            _ query: String, _ expected: String, in copy: PostgresCopy
        ) async throws {
            try await eventually(within: .seconds(10), "\(query) finds \(expected)") {
                try found(query, in: copy) == expected
            }
        }

        @Test func rowsAreFoundByTheirWordsAsTheyChange() async throws {
            let copy = try await articles()
            try copy.deliver(insert(1, "Garden chairs", "Made of oak for the summer"))
            try await copy.whileRunning {
                try copy.source.sql(
                    insert(2, "Tables", "A table goes with any garden")
                        + insert(3, "Winter", "Nothing grows"))
                // The title's weight is above the body's.
                try await untilFound("gardens", "1 2", in: copy)
                try copy.source.sql(
                    """
                    UPDATE articles SET title = 'Running shoes' WHERE id = 1;
                    UPDATE articles SET content = '{"text": "A shoe for running in the garden"}'
                    WHERE id = 3;
                    """)
                try await untilFound("run shoe", "1 3", in: copy)
                #expect(try found("garden", in: copy) == "2 3")
                #expect(try found("chair", in: copy) == "")
                #expect(try found("nothing", in: copy) == "")
                #expect(try found("oak", in: copy) == "1", "the body is as it was")
                try copy.source.sql(
                    "DELETE FROM articles WHERE id = 3; UPDATE articles SET id = 9 WHERE id = 2")
                try await untilFound("garden or shoe", "1 9", in: copy)
                try copy.source.sql("TRUNCATE articles")
                try await untilFound("garden or shoe", "", in: copy)
            }
            #expect(try copy.home.figures().errors.isEmpty)
        }

        @Test func theTableIsMadeForSearchingAndKept() async throws {
            let copy = try await articles()
            try copy.deliver(
                (1...400).map { insert($0, "Number \($0)", "word\($0) common") }.joined())
            #expect(
                try copy.target.columns(of: "search.articles")
                    == ["id integer", "headline text", "body text", "search tsvector"])
            let indexes = try copy.target.indexes(of: "search.articles")
            #expect(indexes.count == 2, "\(indexes)")
            #expect(indexes.contains { $0.contains("UNIQUE") && $0.hasSuffix("(id)") })
            #expect(indexes.contains { $0.contains("USING gin (search)") })
            let plan = try copy.target.sql(
                """
                SET enable_seqscan = off;
                EXPLAIN SELECT FROM search.articles WHERE search @@ 'word7'::tsquery
                """)
            #expect(plan.contains("Bitmap Index Scan"), "\(plan)")
            #expect(try found("word7", in: copy) == "7")
            try copy.expectEqual(
                "(SELECT id, title, content ->> 'text' FROM articles)",
                "(SELECT id, headline, body FROM search.articles)")
            let made = "SELECT 'search.articles'::regclass::oid"
            let oid = try copy.target.sql(made)

            // Over a restart; and where its owner added something.
            try copy.target.sql(
                """
                ALTER TABLE search.articles ADD clicks int DEFAULT 0;
                UPDATE search.articles SET clicks = 5 WHERE id = 7;
                """)
            try copy.deliver("UPDATE articles SET title = 'Other ' || id WHERE id <= 350")
            #expect(try copy.target.sql(made) == oid)
            #expect(try copy.target.indexes(of: "search.articles").count == 2)
            #expect(try found("other word7", in: copy) == "7")
            #expect(try copy.target.sql("SELECT sum(clicks) FROM search.articles") == "5")
            try copy.expectEqual(
                "(SELECT id, title, content ->> 'text' FROM articles)",
                "(SELECT id, headline, body FROM search.articles)")
        }

        @Test func wordsOfALanguageWithoutRulesAreTakenAsTheyAre() async throws {
            let copy = try await PostgresCopy.make(
                ["public.words"],
                sinks: [
                    "copy": """
                    "write": "search", "table": "words",
                    "text": { "config": "simple", "A": ["name"], "D": ["tags"], "column": "ts" }
                    """
                ])
            try copy.source.sql(
                "CREATE TABLE words (id int PRIMARY KEY, name text, search text, tags jsonb)")
            try copy.home.once()
            try copy.deliver(
                """
                INSERT INTO words VALUES
                    (1, 'မြန်မာ စာ အုပ်', 'x', '["ရန်ကုန်"]'), (2, 'ထမင်း ဟင်း', 'y', NULL),
                    (3, NULL, NULL, NULL),
                    (4, 'the running', 'y', '{"a": "မြန်မာ"}'), (5, '', '', '""');
                """)
            func words(_ query: String) throws -> String {
                try found(query, in: copy, table: "words", column: "ts", config: "simple")
            }
            #expect(try words("မြန်မာ") == "1 4")
            #expect(try words("ထမင်း") == "2")
            #expect(try words("ရန်ကုန်") == "1")
            #expect(try words("မြန်မာ ထမင်း") == "")
            #expect(try words("the") == "4" && words("run") == "")
            try copy.expectEqual("words", "(SELECT id, name, search, tags FROM words)")
        }

        /// A tsvector takes a megabyte of words; a text may be longer, and a word too.
        @Test func aTextLongerThanCanBeSearchedIsKeptWhole() async throws {
            let copy = try await articles()
            try copy.source.sql(
                """
                INSERT INTO articles SELECT 1, 'Long', jsonb_build_object('text', 'beginning ' ||
                    string_agg('word' || md5(g::text), ' ')) FROM generate_series(1, 60000) g;
                INSERT INTO articles VALUES
                    (2, repeat('x', 5000), jsonb_build_object('text', repeat('y', 3000000)), '');
                INSERT INTO articles VALUES (3, 'Short', '{"text": "behind"}', '');
                """)
            try copy.home.once()
            try copy.expectEqual(
                "(SELECT id, title, content ->> 'text' FROM articles)",
                "(SELECT id, headline, body FROM search.articles)")
            #expect(try found("beginning", in: copy) == "1")
            #expect(try found("behind", in: copy) == "3")
            // The body is not sent again, but found again.
            try copy.deliver("UPDATE articles SET title = 'Longer' WHERE id = 1")
            #expect(try found("longer beginning", in: copy) == "1")
            #expect(try copy.home.figures().errors.isEmpty)
        }

        @Test func aSearchWithoutATableOrOverUnknownColumnsIsAConfigurationError() async throws {
            let copy = try await PostgresCopy.make(
                ["public.t"], sinks: ["copy": #""write": "search""#])
            let answer = try copy.home.weir("validate")
            #expect(answer.code == 78 && answer.err.contains("\"table\""), "\(answer.err)")
            let other = try await PostgresCopy.make(
                ["public.t"],
                sinks: [
                    "copy": """
                    "write": "search", "table": "s.t", "columns": ["id", "name"],
                    "text": { "A": ["nam"] }
                    """
                ])
            let named = try other.home.weir("validate")
            #expect(named.code == 78 && named.err.contains("name"), "\(named.err)")
        }
    }
}
