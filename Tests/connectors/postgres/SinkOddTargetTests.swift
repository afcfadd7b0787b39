import Testing
import WeirCore
import WeirPostgresClient
import WeirTesting

@testable import WeirPostgresSink

/// Targets and roles that are not as Weir would make them: all rows arrive as they were, or the
/// start says why not.
struct SinkOddTargetTests {
    private static let items = TableSchema.test(
        "items", version: 31, ["id int4", "v", "a _text", "x xml"], key: [0])
    private static let plain = "CREATE TABLE items (id int PRIMARY KEY, v text, a text[], x xml)"

    struct Odd: Sendable, CustomStringConvertible {
        let description: String
        var target = SinkOddTargetTests.plain
        /// Settings of the role.
        var role = ""
        var options = ""
        /// What `v` may hold.
        var values = ["plain", "it's \\ \"q\"\t\n", "né", ""]
    }

    private static let odds: [Odd] = [
        Odd(
            description: "settings of the role",
            role: """
                ALTER ROLE ME SET array_nulls = off; ALTER ROLE ME SET xmloption = document;
                ALTER ROLE ME SET "DateStyle" = 'SQL, DMY';
                ALTER ROLE ME SET standard_conforming_strings = off;
                ALTER ROLE ME SET backslash_quote = off;
                ALTER ROLE ME SET bytea_output = escape; ALTER ROLE ME SET row_security = on;
                ALTER ROLE ME SET statement_timeout = 1;
                ALTER ROLE ME SET idle_in_transaction_session_timeout = 1;
                ALTER ROLE ME SET transform_null_equals = on;
                ALTER ROLE ME SET default_transaction_isolation = serializable;
                ALTER ROLE ME SET client_min_messages = error;
                ALTER ROLE ME SET client_encoding = latin1;
                ALTER ROLE ME SET lc_messages = 'C'; ALTER ROLE ME SET enable_indexscan = off;
                ALTER ROLE ME SET quote_all_identifiers = on;
                ALTER ROLE ME SET search_path = pg_temp, public;
                ALTER ROLE ME SET default_table_access_method = heap;
                ALTER ROLE ME SET log_parameter_max_length_on_error = -1;
                ALTER ROLE ME SET plan_cache_mode = force_custom_plan
                """),
        Odd(
            description: "LATIN1",
            options: "ENCODING LATIN1 LC_COLLATE 'C' LC_CTYPE 'C' "
                + "TEMPLATE template0"),
        Odd(
            description: "SQL_ASCII",
            options: "ENCODING SQL_ASCII LC_COLLATE 'C' LC_CTYPE 'C' "
                + "TEMPLATE template0"),
        Odd(
            description: "a partitioned table",
            target: """
                CREATE TABLE items (v text, gone int, id int PRIMARY KEY, a text[], x xml)
                    PARTITION BY RANGE (id);
                ALTER TABLE items DROP COLUMN gone;
                CREATE TABLE low (x xml, a text[], gone int, id int NOT NULL, v text);
                ALTER TABLE low DROP COLUMN gone;
                ALTER TABLE items ATTACH PARTITION low FOR VALUES FROM (0) TO (40);
                CREATE TABLE mid PARTITION OF items FOR VALUES FROM (40) TO (70)
                    PARTITION BY HASH (id);
                CREATE TABLE mid0 PARTITION OF mid FOR VALUES WITH (MODULUS 2, REMAINDER 0);
                CREATE TABLE mid1 PARTITION OF mid FOR VALUES WITH (MODULUS 2, REMAINDER 1);
                CREATE UNLOGGED TABLE high PARTITION OF items DEFAULT
                """),
        Odd(
            description: "dropped and generated columns, an identity, a domain",
            target: """
                CREATE DOMAIN words AS text CHECK (length(VALUE) < 100);
                CREATE TABLE items (gone int, own int GENERATED ALWAYS AS IDENTITY, v words,
                    len int GENERATED ALWAYS AS (length(v)) STORED, a text[], x xml, gone2 text,
                    id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY);
                ALTER TABLE items DROP COLUMN gone, DROP COLUMN gone2
                """),
        Odd(
            description: "unlogged, inherited from and with a tight fill",
            target: """
                CREATE TABLE base (id int, v text);
                CREATE UNLOGGED TABLE items (a text[], x xml, PRIMARY KEY (id))
                    INHERITS (base) WITH (fillfactor = 10)
                """),
        Odd(
            description: "exclusion and deferred constraints",
            target: """
                CREATE TABLE items (id int PRIMARY KEY, v text, a text[], x xml,
                    EXCLUDE (id WITH =) DEFERRABLE INITIALLY DEFERRED,
                    EXCLUDE USING btree (id WITH =), up int REFERENCES items DEFERRABLE)
                """),
        Odd(
            description: "triggers that write elsewhere and touch the row",
            target: plain + """
                ; CREATE TABLE log (id int);
                ALTER TABLE items ADD touched timestamptz;
                CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql SET search_path = public AS
                $$ BEGIN INSERT INTO log VALUES (NEW.id); NEW.touched := now(); RETURN NEW; END $$;
                CREATE TRIGGER touch BEFORE INSERT OR UPDATE ON items
                    FOR EACH ROW EXECUTE FUNCTION touch();
                """),
    ]

    private static func row(_ id: Int, _ odd: Odd, _ version: Int) -> [Field] {
        let value = odd.values[(id + version) % odd.values.count] + "\(version)"
        return [
            Field("\(id)"), Field(value), Field("{NULL,\"NULL\",\"\",b\(version)}"),
            Field("a<b/>fragment\(version)"),
        ]
    }

    private static func expected(_ rows: [Int: Int], _ odd: Odd) -> String {
        rows.sorted { $0.key < $1.key }.map { id, version in
            let row = row(id, odd, version)
            let hex = (row[1].string ?? "").utf8.map {
                ($0 < 16 ? "0" : "") + String($0, radix: 16)
            }.joined()
            return "\(id):\(hex):\(row[2].string ?? ""):\(row[3].string ?? "")"
        }.joined(separator: ";")
    }

    @Test(arguments: odds)
    func allRowsArriveAsTheyWere(odd: Odd) async throws {
        let database = try await TestDatabase(odd.target, options: odd.options)
        let role = "odd_\(database.name)"
        try database.run(
            "CREATE ROLE \(role) LOGIN SUPERUSER; " + odd.role.replacing("ME", with: role))
        let harness = SinkHarness(database)
        let sink = try harness.sink(user: role)
        _ = try await sink.open(at: nil)
        let findings = try await sink.check([Self.items])
        #expect(!findings.contains { $0.severity == .blocking }, "\(findings)")
        var rows: [Int: Int] = [:]
        var commit: UInt64 = 16
        func write(_ changes: [RowChange]) async throws {
            try await sink.write(changes, of: Self.items, commit: commit)
            commit += 16
        }
        for ids in [0..<1, 1..<100] {
            try await write(ids.map { .insert(Self.row($0, odd, 0)) })
            for id in ids { rows[id] = 0 }
        }
        for ids in [3..<4, 10..<90] {
            try await write(ids.map { .update(Self.row($0, odd, 1)) })
            for id in ids { rows[id] = 1 }
        }
        // Other keys, one and many, across partitions; and part of a row.
        for ids in [5..<6, 20..<80] {
            try await write(
                ids.map {
                    .update(Self.row($0 + 200, odd, 2), from: [Field("\($0)"), nil, nil, nil])
                })
            for id in ids { (rows[id], rows[id + 200]) = (nil, 2) }
        }
        for ids in [7..<8, 220..<275] {
            try await write(
                ids.map { id in
                    let row = Self.row(id, odd, rows[id] ?? 0)
                    return .update([row[0], row[1], .unchanged, .unchanged])
                })
        }
        for ids in [0..<1, 1..<90] {
            try await write(
                ids.filter { rows[$0] != nil }.map { .delete([Field("\($0)"), nil, nil, nil]) })
            for id in ids { rows[id] = nil }
        }
        // Bytes of an encoding the server does not know are converted to nothing.
        let encoding = odd.description == "SQL_ASCII" ? odd.description : "UTF8"
        let found = try database.run(
            """
            SELECT string_agg(concat_ws(':', id, encode(convert_to(v, '\(encoding)'), 'hex'),
                a::text, x::text), ';' ORDER BY id) FROM items
            """)
        #expect(found == Self.expected(rows, odd))
        #expect(
            harness.reports.findings.allSatisfy { $0.severity == .warning },
            "\(harness.reports.findings)")
        await sink.close()
        try database.run("DROP OWNED BY \(role)")
        _ = try? database.run("DROP ROLE \(role)")
    }

    /// Fenced off on purpose or not: it is waited for, and the message has what ends it.
    @Test func aRoleThatOnlyReadsIsWaitedFor() async throws {
        let database = try await TestDatabase(Self.plain)
        let role = "odd_\(database.name)"
        try database.run(
            "CREATE ROLE \(role) LOGIN; GRANT CREATE ON SCHEMA public TO \(role); "
                + "ALTER TABLE items OWNER TO \(role); "
                + "ALTER ROLE \(role) SET default_transaction_read_only = on")
        let sink = try SinkHarness(database).sink(user: role)
        let error = await #expect(throws: WeirError.self) { _ = try await sink.open(at: nil) }
        #expect(error?.code == .readOnly && error?.disposition == .transient)
        try database.run(statements(in: error?.hint))
        _ = try await sink.open(at: nil)
        try await sink.write([.insert([1, "v", nil, nil])], of: Self.items, commit: 16)
        #expect(try database.run("SELECT id FROM items") == "1")
        await sink.close()
        try database.run("DROP OWNED BY \(role); DROP ROLE \(role)")
    }
}
