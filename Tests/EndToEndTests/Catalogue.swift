import Foundation
import Testing
import WeirTesting

/// The products and prices of a catalogue service (S1), a load on them, and what caches of them
/// are to hold. Writers are started and stopped as those of `Workload`.
enum Catalogue {
    static let tables = ["public.products", "public.prices"]

    /// `attributes` is stored out of line where it is large, and most updates leave it unchanged.
    static let schema = """
        CREATE TABLE products (
            id uuid PRIMARY KEY DEFAULT gen_random_uuid(), sku text NOT NULL, name text NOT NULL,
            description text, category_id int, brand text, status text NOT NULL DEFAULT 'draft',
            attributes jsonb, created_at timestamptz NOT NULL DEFAULT now(),
            updated_at timestamptz NOT NULL DEFAULT now());
        ALTER TABLE products ALTER attributes SET STORAGE EXTERNAL;
        CREATE INDEX ON products (category_id, created_at);
        CREATE TABLE prices (product_id uuid PRIMARY KEY, amount numeric(12, 2), currency text);
        """

    /// Each writer changes rows of its own category, a few hundred of them, and so often the same
    /// ones: an old value that comes late, or a key that stays, is likely to show.
    private static let load = """
        CREATE TABLE control (stop bool);
        INSERT INTO control VALUES (false);
        CREATE SEQUENCE transactions;

        CREATE FUNCTION large() RETURNS jsonb LANGUAGE sql AS $$
            SELECT jsonb_build_object('text', string_agg(md5(random()::text), ''))
            FROM generate_series(1, 100)
        $$;

        CREATE FUNCTION pick(w int) RETURNS uuid LANGUAGE sql AS $$
            SELECT id FROM products WHERE category_id = w
            ORDER BY created_at DESC OFFSET floor(random() * 100) LIMIT 1
        $$;

        CREATE PROCEDURE change(w int) LANGUAGE plpgsql AS $$
        DECLARE
            kind float8 := random(); one uuid := pick(w); gone products;
            fixed uuid := md5(w || '/' || floor(random() * 50))::uuid;
        BEGIN
            IF kind < 0.25 THEN
                INSERT INTO products (sku, name, category_id, attributes) VALUES (
                    md5(random()::text), 'ü "' || chr(13) || chr(10) || '\\ ' || random(), w,
                    CASE WHEN random() < 0.4 THEN large() ELSE '{"a": [1, null]}' END);
            ELSIF kind < 0.45 THEN
                UPDATE products SET status = md5(random()::text), updated_at = clock_timestamp()
                WHERE id = one;
            ELSIF kind < 0.50 THEN
                UPDATE products SET attributes = large() WHERE id = one;
            ELSIF kind < 0.55 THEN
                UPDATE products SET attributes = NULL, brand = random()::text WHERE id = one;
            ELSIF kind < 0.65 THEN
                -- A chain: the first new key is gone before anybody can ask for its row.
                UPDATE products SET id = gen_random_uuid() WHERE id = one RETURNING id INTO one;
                IF random() < 0.5 THEN
                    UPDATE products SET id = gen_random_uuid() WHERE id = one;
                END IF;
            ELSIF kind < 0.70 THEN
                DELETE FROM products WHERE id = one RETURNING * INTO gone;
                IF gone.id IS NOT NULL AND random() < 0.5 THEN
                    gone.brand := 'again';
                    INSERT INTO products SELECT gone.*;
                END IF;
            ELSIF kind < 0.80 THEN
                DELETE FROM products WHERE id IN (
                    SELECT id FROM products WHERE category_id = w
                    ORDER BY created_at DESC OFFSET 200 LIMIT 5);
            ELSIF kind < 0.93 THEN
                INSERT INTO prices VALUES (fixed, random() * 1000, 'EUR')
                ON CONFLICT (product_id) DO UPDATE SET amount = prices.amount + 0.01;
            ELSIF kind < 0.96 THEN
                UPDATE prices SET amount = NULL WHERE product_id = fixed;
            ELSIF kind < 0.98 THEN
                UPDATE prices SET product_id = one WHERE product_id = fixed
                AND NOT EXISTS (SELECT FROM prices WHERE product_id = one) AND one IS NOT NULL;
            ELSE
                DELETE FROM prices WHERE product_id = fixed;
            END IF;
        END $$;

        CREATE PROCEDURE load(w int, pause float8, transactions int) LANGUAGE plpgsql AS $$
        BEGIN
            FOR t IN 1..transactions LOOP
                EXIT WHEN (SELECT stop FROM control);
                FOR i IN 1..1 + floor(random() * 8) LOOP CALL change(w); END LOOP;
                PERFORM nextval('transactions');
                IF random() < 0.1 THEN ROLLBACK; ELSE COMMIT; END IF;
                PERFORM pg_sleep(pause);
            END LOOP;
        END $$;
        """

    static func install(in database: TestDatabase) throws { try database.sql(schema + load) }

    /// How many transactions the writers have made.
    static func transactions(in database: TestDatabase) throws -> Int {
        try database.number("SELECT last_value FROM transactions")
    }

    /// So many transactions, made by one writer.
    static func change(_ database: TestDatabase, times: Int) async throws {
        let writer = try Workload.writer(1, in: database, pause: 0, transactions: times)
        let status = try await writer.wait()
        let said = try writer.standardError()
        #expect(status == .exited(0), "\(said)")
    }

    // MARK: Caches of it

    static let sinks = [
        "products": """
        "tables": ["public.products"], "write": "json", "key": "firstviscount:product:{id}",
        "ttl": "1h"
        """,
        "prices": """
        "tables": ["public.prices"], "write": "string", "key": "price:{product_id}",
        "value": "amount"
        """,
        "parts": """
        "tables": ["public.products"], "write": "hash", "key": "part:{id}",
        "columns": ["sku", "brand", "status", "attributes"]
        """,
    ]

    /// A home whose pipeline "shop" keeps all of these caches.
    static func home(
        _ database: TestDatabase, _ redis: RedisServer, hasFile: Bool = false
    ) throws -> WeirHome {
        try WeirHome(
            database, cache: redis.url(), tables: tables, sinks: sinks, hasFile: hasFile)
    }

    /// Nil when the caches hold exactly what the tables do, and no key more.
    static func difference(_ redis: RedisServer, _ database: TestDatabase) throws -> String? {
        let found = try redis.contents()
        let expected = try database.jsonRows(
            "products", key: "'firstviscount:product:' || id"
        ).merging(
            database.pairs(
                "'price:' || product_id", "amount", from: "prices WHERE amount IS NOT NULL")
        ) { first, _ in first }
        if let text = EndToEndTests.difference(found.values, expected) { return text }
        let rows = try database.pairs(
            "'part:' || id",
            """
            jsonb_strip_nulls(jsonb_build_object(
                'sku', sku, 'brand', brand, 'status', status, 'attributes', attributes::text))
            """, from: "products")
        let fields = try rows.mapValues { row in
            try JSONDecoder().decode([String: String].self, from: Data(row)).mapValues {
                Bytes($0.utf8)
            }
        }
        if let text = EndToEndTests.difference(try redis.hashes("part:"), fields) {
            return "hashes: \(text)"
        }
        let keys = Set(expected.keys).union(fields.keys)
        for (key, version) in found.versions where version.hasSuffix("!") == keys.contains(key) {
            return "\(String(decoding: key, as: UTF8.self)) has the version \(version)"
        }
        let bare = keys.first { found.versions[$0] == nil }
        if let bare { return "\(String(decoding: bare, as: UTF8.self)) has no version" }
        return found.markers == ["shop/products", "shop/prices", "shop/parts"]
            ? nil : "markers: \(found.markers.sorted())"
    }

    static func expectSame(_ redis: RedisServer, _ database: TestDatabase) throws {
        let difference = try difference(redis, database)
        #expect(difference == nil)
    }
}
