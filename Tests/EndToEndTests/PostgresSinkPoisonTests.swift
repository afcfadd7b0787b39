import Foundation
import Glibc
import Testing
import WeirTesting

extension EndToEnd {
    /// A row the target refuses stops its pipeline, and no other; once the target takes it, all of
    /// it arrives.
    @Suite struct PostgresSinkPoisonTests {
        private let copy: PostgresCopy

        /// What nobody but the two databases is to see.
        private static let canary = "WEIRCANARY"

        /// `visits` has no key but its whole row: whatever is delivered twice shows.
        init() async throws {
            copy = try await PostgresCopy.make(
                ["public.items", "public.visits"],
                others: [
                    "other": CopyPipeline(["public.notes"]),
                    "filed": CopyPipeline(
                        ["public.items", "public.visits"],
                        sinks: ["file": #""type": "file", "path": "out.jsonl""#]),
                ])
            try copy.both("CREATE TABLE items (id int PRIMARY KEY, price int, note text)")
            try copy.source.sql(
                """
                CREATE TABLE visits (who text);
                ALTER TABLE visits REPLICA IDENTITY FULL;
                CREATE TABLE notes (id int PRIMARY KEY, v text);
                """)
            try copy.home.once()
            try copy.deliver(
                """
                INSERT INTO items SELECT g, g, 'good' FROM generate_series(1, 10) g;
                INSERT INTO visits VALUES ('first'), ('first');
                INSERT INTO notes VALUES (1, 'first');
                """)
            try copy.expectEqual("items")
            try copy.expectEqual("visits")
        }

        /// The identity of the last event of a row, from the pipeline that writes it to a file.
        private func eventId(of key: Int) async throws -> String {
            var id: String?
            try await eventually("the event is in the file") {
                for line in lines(of: copy.home.output) {
                    let object =
                        try JSONSerialization.jsonObject(with: Data(line.utf8)) as? [String: Any]
                    let found = object?["key"] as? [String: Any]
                    if found?["id"] as? Int == key { id = object?["id"] as? String }
                }
                return id != nil
            }
            guard let id else { throw TestingError("no event of \(key)") }
            return id.split(separator: ":").suffix(2).joined(separator: ":")
        }

        /// Runs `change` beside a daemon, which is to refuse the row of `key` and nothing else;
        /// then mends the target and lets it go on.
        private func expectRefused(
            key: Int, says words: [String] = [], _ change: String, mend: String
        ) async throws {
            var daemon = try copy.home.run()
            try await copy.home.untilStreaming()
            let before = try ["items", "visits"].map { try copy.target.digest($0) }
            try copy.source.sql(
                """
                \(change);
                INSERT INTO visits VALUES ('behind it');
                UPDATE items SET note = 'behind it' WHERE id = 1;
                """)
            let problem = try await copy.untilStopped("postgres.row_refused")
            let said = problem.message
            for word in ["items", "id", "\(key)"] + words {
                #expect(said.contains(word), "\(said)")
            }
            let event = try await eventId(of: key)
            #expect(copy.home.logText().contains(event))
            #expect(problem.component == "copy")
            let after = try ["items", "visits"].map { try copy.target.digest($0) }
            #expect(after == before, "a transaction is there as a whole or not at all")

            // The other pipeline to the same target goes on.
            try copy.source.sql("INSERT INTO notes VALUES (\(key), 'now')")
            try await copy.untilEqual("notes")
            let shown = try copy.home.weir("status", "--json").out + copy.home.weir("status").out
            #expect(!(shown + copy.home.logText()).contains(Self.canary))
            #expect(shown.contains(event))
            daemon.signal(SIGTERM)
            #expect(try await daemon.wait() == .exited(0))
            let once = try copy.home.weir("run", "--once")
            #expect(once.code == 65 && once.err.contains("error postgres.row_refused: "))
            #expect(!once.err.contains(Self.canary))

            try copy.target.sql(mend)
            daemon = try copy.home.run()
            try await copy.untilEqual("items", "visits", "notes")
            #expect(try copy.home.status().pipeline("shop")?.state == "streaming")
            try await copy.home.settle(daemon)
            try copy.expectEqual("items")
            try copy.expectEqual("visits")
        }

        @Test(arguments: [3, 400])
        func aRowAConstraintRefusesStopsItsPipelineUntilItIsTaken(size: Int) async throws {
            try copy.target.sql("ALTER TABLE items ADD CONSTRAINT positive CHECK (price >= 0)")
            try await expectRefused(
                key: 7000,
                """
                BEGIN;
                INSERT INTO visits VALUES ('with it');
                INSERT INTO items SELECT g, g, '\(Self.canary)'
                    FROM generate_series(11, 10 + \(size)) g;
                INSERT INTO items VALUES (7000, -1, '\(Self.canary)');
                UPDATE items SET price = price + 1, note = 'updated' WHERE id <= \(size);
                DELETE FROM items WHERE id = 2;
                COMMIT
                """, mend: "ALTER TABLE items DROP CONSTRAINT positive")
        }

        @Test(arguments: ["UPDATE", "DELETE"])
        func aTriggerThatRaisesDoesToo(operation: String) async throws {
            try copy.target.sql(
                """
                CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                    IF OLD.id = 5 THEN RAISE EXCEPTION 'row five stays'; END IF;
                    RETURN coalesce(NEW, OLD);
                END $$;
                CREATE TRIGGER refusing BEFORE \(operation) ON items
                    FOR EACH ROW EXECUTE FUNCTION refuse();
                """)
            let change =
                operation == "UPDATE"
                ? "UPDATE items SET price = 0 WHERE id > 3" : "DELETE FROM items WHERE id > 3"
            try await expectRefused(
                key: 5, "BEGIN; INSERT INTO items VALUES (20, 1, 'x'); \(change); COMMIT",
                mend: "DROP TRIGGER refusing ON items")
        }

        @Test func aColumnOfTheTargetThatMustHaveAValueDoesToo() async throws {
            try copy.target.sql(
                """
                ALTER TABLE items ADD owner int NOT NULL DEFAULT 1;
                ALTER TABLE items ALTER owner DROP DEFAULT;
                """)
            try await expectRefused(
                key: 30, says: ["owner"],
                """
                BEGIN;
                DELETE FROM items WHERE id = 3;
                INSERT INTO items VALUES (30, 1, '\(Self.canary)');
                COMMIT
                """,
                mend: "ALTER TABLE items DROP owner")
        }

        @Test func aValueThatNoLongerFitsAfterItsColumnChangedDoesToo() async throws {
            try copy.deliver(
                """
                ALTER TABLE items ALTER price TYPE text;
                UPDATE items SET price = '42' WHERE id = 4;
                """)
            #expect(try copy.target.sql("SELECT price FROM items WHERE id = 4") == "42")
            try copy.deliver("ALTER TABLE items ALTER price TYPE bigint USING price::bigint")
            try await expectRefused(
                key: 40, "INSERT INTO items VALUES (40, 5000000000, '\(Self.canary)')",
                mend: "ALTER TABLE items ALTER price TYPE bigint")
        }

        @Test func aForeignKeyWithoutItsRowDoesToo() async throws {
            try copy.target.sql(
                """
                CREATE TABLE prices (price int PRIMARY KEY);
                INSERT INTO prices SELECT g FROM generate_series(0, 100) g;
                ALTER TABLE items ADD CONSTRAINT known FOREIGN KEY (price) REFERENCES prices;
                """)
            try await expectRefused(
                key: 50, says: ["known"],
                """
                BEGIN;
                INSERT INTO items SELECT g, g % 100, 'good' FROM generate_series(1000, 1400) g;
                INSERT INTO items VALUES (50, 500, '\(Self.canary)');
                COMMIT
                """, mend: "ALTER TABLE items DROP CONSTRAINT known")
        }
    }
}
