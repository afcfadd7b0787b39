import Testing
import WeirTesting

/// A load of small and large transactions over several tables, and what it wrote down itself: the
/// ledger has one row per committed transaction, written in that transaction.
enum Workload {
    static let tables = ["public.items", "public.stock", "public.notes", "public.ledger"]

    /// `items` has large values that an update leaves unchanged, `stock` a key of two columns that
    /// updates change, `notes` its whole old row.
    static let schema = """
        CREATE TABLE items (
            id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, writer int NOT NULL, name text,
            price numeric(12, 2), big text);
        ALTER TABLE items ALTER big SET STORAGE EXTERNAL;
        CREATE INDEX ON items (writer, id);
        CREATE TABLE stock (
            place text, item int, amount int, PRIMARY KEY (place, item));
        CREATE TABLE notes (id int PRIMARY KEY, body jsonb, at timestamptz DEFAULT now());
        ALTER TABLE notes REPLICA IDENTITY FULL;
        CREATE TABLE ledger (
            id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
            xid bigint NOT NULL DEFAULT pg_current_xact_id()::text::bigint % 4294967296,
            writer int, rows int);
        CREATE TABLE control (stop bool);
        INSERT INTO control VALUES (false);

        -- One change of rows that are this writer's own, so that writers never wait for each other.
        CREATE FUNCTION change(w int) RETURNS int LANGUAGE plpgsql AS $$
        DECLARE kind float8 := random(); done int; r int := 1 + floor(random() * 200);
        BEGIN
            IF kind < 0.35 THEN
                INSERT INTO items (writer, name, price, big)
                VALUES (w, md5(random()::text), random() * 1000,
                        CASE WHEN random() < 0.05 THEN repeat(md5(random()::text), 100) END);
            ELSIF kind < 0.55 THEN
                UPDATE items SET price = price + 1 WHERE id = (
                    SELECT id FROM items WHERE writer = w
                    ORDER BY id DESC OFFSET r LIMIT 1);
            ELSIF kind < 0.65 THEN
                DELETE FROM items WHERE id = (
                    SELECT id FROM items WHERE writer = w ORDER BY id LIMIT 1);
            ELSIF kind < 0.75 THEN
                INSERT INTO stock VALUES ('w' || w, r, 1)
                ON CONFLICT (place, item) DO UPDATE SET amount = stock.amount + 1;
            ELSIF kind < 0.80 THEN
                UPDATE stock SET item = -item WHERE place = 'w' || w AND item = r
                AND NOT EXISTS (SELECT FROM stock WHERE place = 'w' || w AND item = -r);
            ELSIF kind < 0.85 THEN
                DELETE FROM stock WHERE place = 'w' || w AND abs(item) = r;
            ELSIF kind < 0.95 THEN
                INSERT INTO notes VALUES (r * 10 + w, jsonb_build_object('n', r, 'ü', '"x"'))
                ON CONFLICT (id) DO UPDATE SET body = notes.body || '{"again": true}', at = now();
            ELSE
                DELETE FROM notes WHERE id = r * 10 + w;
            END IF;
            GET DIAGNOSTICS done = ROW_COUNT;
            RETURN done;
        END $$;

        CREATE PROCEDURE load(w int, pause float8, transactions int) LANGUAGE plpgsql AS $$
        DECLARE total int; lot int;
        BEGIN
            FOR t IN 1..transactions LOOP
                EXIT WHEN (SELECT stop FROM control);
                total := 0;
                FOR i IN 1..1 + floor(random() * 20) LOOP total := total + change(w); END LOOP;
                IF random() < 0.002 THEN
                    INSERT INTO items (writer, name) SELECT w, 'bulk' FROM generate_series(1, 5000);
                    total := total + 5000;
                END IF;
                IF random() < 0.05 THEN
                    BEGIN
                        PERFORM change(w) FROM generate_series(1, 10);
                        RAISE EXCEPTION 'a savepoint rolled back';
                    EXCEPTION WHEN raise_exception THEN NULL;
                    END;
                END IF;
                INSERT INTO ledger (writer, rows) VALUES (w, total);
                IF random() < 0.1 THEN ROLLBACK; ELSE COMMIT; END IF;
                PERFORM pg_sleep(pause);
            END LOOP;
        END $$;
        """

    static func install(in database: TestDatabase) throws { try database.sql(schema) }

    /// A process that changes rows until `stop`, or for so many transactions.
    static func writer(
        _ number: Int, in database: TestDatabase, pause: Double = 0.002,
        transactions: Int = 1_000_000
    ) throws -> ChildProcess {
        try ChildProcess(
            database.server.program("psql"),
            [
                "-X", "-q", "-h", "127.0.0.1", "-p", "\(database.server.port)", "-U", "postgres",
                "-d", database.name, "-v", "ON_ERROR_STOP=1", "-c",
                "CALL load(\(number), \(pause), \(transactions))",
            ])
    }

    /// Lets the writers finish the transaction they are in.
    static func stop(_ writers: [ChildProcess], in database: TestDatabase) async throws {
        try database.sql("UPDATE control SET stop = true")
        for writer in writers {
            let status = try await writer.wait(within: .seconds(30))
            let said = try writer.standardError()
            #expect(status == .exited(0), "\(said)")
        }
        try database.sql("UPDATE control SET stop = false")
    }
}
