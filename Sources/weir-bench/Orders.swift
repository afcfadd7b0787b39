import WeirTesting

/// The table that almost every case fills: 9 columns, about 220 bytes a row in pgoutput.
enum Orders {
    static let table = SourceTable(
        name: "orders",
        definition: """
            CREATE TABLE orders (
                id bigint PRIMARY KEY, reference uuid NOT NULL, total numeric(12,2) NOT NULL,
                details jsonb NOT NULL, created_at timestamptz NOT NULL,
                updated_at timestamptz NOT NULL, customer text NOT NULL, status text NOT NULL,
                quantity int NOT NULL
            );
            """)

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
        Transactions.sql(count / size, insert(Transactions.keys(by: size)))
    }

    /// A server that has the table, empty.
    static func server(settings: [String: String] = [:]) async throws -> PostgresServer {
        let server = try await PostgresServer.quiet(settings: settings)
        _ = try server.psql(table.definition)
        return server
    }
}
