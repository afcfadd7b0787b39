import Foundation
import Glibc
import Testing
import WeirTesting

extension EndToEnd {
    /// Weir dies again and again while money moves; nobody who reads the copy ever sees a sum that
    /// never was, and in the end it equals the source.
    @Suite struct PostgresSinkKillTests {
        private static let tables = ["accounts", "transfers", "visits"]

        /// Each transfer changes two accounts, counts in both, and has a row of its own; other
        /// accounts come and go without ever holding money. `visits` has no key.
        private static let schema = """
            CREATE TABLE accounts (
                id int PRIMARY KEY, balance bigint NOT NULL, moves int NOT NULL DEFAULT 0,
                note text);
            ALTER TABLE accounts ALTER note SET STORAGE EXTERNAL;
            CREATE TABLE transfers (
                id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, payer int, payee int,
                amount int);
            CREATE TABLE visits (writer int, n int);
            ALTER TABLE visits REPLICA IDENTITY FULL;
            """

        private static let load = """
            CREATE TABLE control (stop bool);
            INSERT INTO control VALUES (false);

            CREATE FUNCTION transfer() RETURNS void LANGUAGE plpgsql AS $$
            DECLARE
                one int := 1 + floor(random() * 200); two int := 1 + floor(random() * 200);
                much int := floor(random() * 1000);
            BEGIN
                IF one = two THEN RETURN; END IF;
                -- In one order, so that writers wait for each other but never in a ring.
                PERFORM FROM accounts WHERE id IN (one, two) ORDER BY id FOR UPDATE;
                UPDATE accounts SET balance = balance - much, moves = moves + 1 WHERE id = one;
                UPDATE accounts SET balance = balance + much, moves = moves + 1 WHERE id = two;
                INSERT INTO transfers (payer, payee, amount) VALUES (one, two, much);
            END $$;

            CREATE PROCEDURE load(w int, pause float8, transactions int) LANGUAGE plpgsql AS $$
            DECLARE kind float8; empty int;
            BEGIN
                FOR t IN 1..transactions LOOP
                    EXIT WHEN (SELECT stop FROM control);
                    kind := random();
                    empty := 1000 * w + floor(random() * 300);
                    PERFORM transfer();
                    IF kind < 0.2 THEN
                        INSERT INTO accounts VALUES (empty, 0, 0, repeat('n', 3000))
                        ON CONFLICT (id) DO UPDATE SET moves = 0, balance = 0;
                    ELSIF kind < 0.3 THEN
                        DELETE FROM accounts WHERE id = empty;
                    ELSIF kind < 0.35 THEN
                        UPDATE accounts SET id = -empty WHERE id = empty
                        AND NOT EXISTS (SELECT FROM accounts WHERE id = -empty);
                    ELSIF kind < 0.36 THEN
                        DELETE FROM accounts WHERE id < 0 AND id / 1000 = -w;
                    END IF;
                    INSERT INTO visits VALUES (w, t);
                    IF random() < 0.1 THEN ROLLBACK; ELSE COMMIT; END IF;
                    PERFORM pg_sleep(pause);
                END LOOP;
            END $$;
            """

        /// Of the target: reads until it is told to stop, each time in a snapshot of its own, and
        /// notes every sum that is not what it always is.
        private static let watch = """
            CREATE TABLE control (stop bool);
            INSERT INTO control VALUES (false);
            CREATE TABLE readings (reads int, distinct_counts int, wrong text);
            CREATE PROCEDURE watch() LANGUAGE plpgsql AS $$
            DECLARE
                reads int := 0; states int := 0; total bigint; moved bigint; made bigint;
                last bigint := -1; wrong text;
            BEGIN
                LOOP
                    SELECT (SELECT sum(a.balance) FROM accounts a),
                           (SELECT sum(a.moves) FROM accounts a), (SELECT count(*) FROM transfers)
                    INTO total, moved, made;
                    reads := reads + 1;
                    IF made <> last THEN states := states + 1; END IF;
                    IF total IS DISTINCT FROM 200000 OR moved <> 2 * made OR made < last THEN
                        wrong := concat_ws(' ', total, moved, made, last);
                    END IF;
                    last := made;
                    COMMIT;
                    EXIT WHEN (SELECT stop FROM control) OR wrong IS NOT NULL;
                    PERFORM pg_sleep(0.002);
                END LOOP;
                INSERT INTO readings VALUES (reads, states, wrong);
            END $$;
            """

        private func call(_ text: String, in database: TestDatabase) throws -> ChildProcess {
            try ChildProcess(
                database.server.program("psql"),
                [
                    "-X", "-q", "-h", "127.0.0.1", "-p", "\(database.server.port)", "-U",
                    "postgres", "-d", database.name, "-v", "ON_ERROR_STOP=1", "-c", text,
                ])
        }

        @Test func aHundredKillsUnderALedgerLoadLoseNothingAndShowNoWrongSum() async throws {
            let copy = try await PostgresCopy.make(Self.tables.map { "public.\($0)" })
            try copy.source.sql(Self.schema + Self.load)
            try copy.target.sql(Self.watch)
            try copy.home.once()
            try copy.deliver(
                """
                INSERT INTO accounts SELECT g, 1000 FROM generate_series(1, 200) g;
                DO $$ BEGIN
                    WHILE (SELECT count(*) FROM transfers) = 0 LOOP PERFORM transfer(); END LOOP;
                END $$;
                INSERT INTO visits VALUES (0, 0);
                """)

            let reader = try call("CALL watch()", in: copy.target)
            let writers = try (1...3).map {
                try call("CALL load(\($0), 0.01, 1000000)", in: copy.source)
            }
            var lives = Lives("a hundred kills beside PostgreSQL", 50...400)
            while try lives.needMore(kills: 100, advances: 33) {
                try await lives.live(copy.home) { try copy.target.position() }
            }
            try await eventually(within: .seconds(120), "a load worth the name") {
                try copy.source.count("visits") > 3000
            }
            try await Workload.stop(writers, in: copy.source)
            let daemon = try copy.home.run()
            try await copy.untilEqual("accounts", "transfers", "visits")
            try await copy.home.settle(daemon)
            for table in Self.tables { try copy.expectEqual(table) }

            try copy.target.sql("UPDATE control SET stop = true")
            let ended = try await reader.wait()
            #expect(ended == .exited(0))
            let read = try copy.target.sql("SELECT reads, distinct_counts, wrong FROM readings")
                .split(separator: "|", omittingEmptySubsequences: false)
            let transactions = try copy.source.count("visits")
            print(
                "\(lives), \(transactions) transactions, \(read[0]) reads "
                    + "of \(read[1]) states")
            #expect(read[2].isEmpty, "sum, moves, transfers, transfers before: \(read[2])")
            #expect(Int(read[0]) ?? 0 > 1000 && Int(read[1]) ?? 0 > 100)
        }
    }
}
