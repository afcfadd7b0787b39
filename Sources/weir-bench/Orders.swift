import WeirTesting

/// The table that every case fills: 9 columns, about 220 bytes a row in pgoutput.
enum Orders {
    static let table = """
        CREATE TABLE orders (
            id bigint PRIMARY KEY, reference uuid NOT NULL, total numeric(12,2) NOT NULL,
            details jsonb NOT NULL, created_at timestamptz NOT NULL,
            updated_at timestamptz NOT NULL, customer text NOT NULL, status text NOT NULL,
            quantity int NOT NULL
        );
        """

    /// A row for each key of this set-returning expression, the same in every run.
    static func insert(_ keys: String) -> String {
        """
        INSERT INTO orders SELECT i, md5(i::text)::uuid, (i % 1000000) / 100.0,
            jsonb_build_object('sku', 'SKU-' || i, 'tags', jsonb_build_array('red', 'sale'),
                'note', 'gift wrap, leave at door'),
            timestamptz '2026-01-01 00:00:00+00' + i * interval '1.000123 seconds',
            timestamptz '2026-02-01 00:00:00+00' + i * interval '1.000321 seconds',
            'Customer number ' || i, (ARRAY['new', 'paid', 'shipped', 'done'])[i % 4 + 1],
            (i % 50 + 1)::int
        FROM \(keys) AS i;
        """
    }

    /// The rows 1 to `count`, a multiple of `size`, in transactions of so many.
    static func inserts(_ count: Int, by size: Int) -> String {
        transactions(
            count / size, insert("generate_series(t * \(size) + 1, (t + 1) * \(size))"))
    }

    /// `count` transactions, each made of these statements; `t` counts from 0.
    static func transactions(_ count: Int, _ statements: String) -> String {
        """
        SET synchronous_commit = off;
        DO $$
        BEGIN
            FOR t IN 0..\(count - 1) LOOP
                \(statements)
                COMMIT;
            END LOOP;
        END $$;
        """
    }

    /// A server as in production, but that no checkpoint or vacuum disturbs the measurement.
    static func server(
        slots: Int = 4, settings: [String: String] = [:]
    ) async throws -> PostgresServer {
        let usual = [
            "fsync": "on", "shared_buffers": "256MB", "max_wal_size": "32GB",
            "checkpoint_timeout": "1h", "autovacuum": "off",
            "max_replication_slots": "\(slots)", "max_wal_senders": "\(slots + 4)",
        ]
        let server = try await PostgresServer.start(settings: usual.merging(settings) { $1 })
        _ = try server.psql(table)
        return server
    }
}
