import Testing
import WeirPostgresClient

@testable import WeirPostgresSink

/// Whether a type fits another, with the server as the judge.
struct TypeFitTests {
    private static let samples: [(type: String, sql: String, values: [String])] = [
        ("bool", "boolean", ["t", "f"]),
        ("int2", "smallint", ["-32768", "32767"]),
        ("int4", "integer", ["-2147483648", "2147483647"]),
        ("int8", "bigint", ["-9223372036854775808", "9223372036854775807"]),
        ("oid", "oid", ["4294967295"]),
        ("numeric", "numeric", ["NaN", "1.5", String(repeating: "9", count: 40)]),
        ("numeric", "numeric(5,0)", ["99999", "-99999"]),
        ("numeric", "numeric(10,2)", ["99999999.99", "-0.01"]),
        ("float4", "real", ["1.5e+30", "NaN"]),
        ("float8", "double precision", ["1.5e+300", "-Infinity"]),
        ("text", "text", ["", "a long text of more than a few characters"]),
        ("varchar", "character varying(3)", ["abc"]),
        ("varchar", "character varying(40)", [String(repeating: "x", count: 40)]),
        ("bpchar", "character(4)", ["abcd", "a   "]),
        ("name", "name", [String(repeating: "n", count: 63)]),
        ("uuid", "uuid", ["9f1c2d3e-4b5a-6978-8796-a5b4c3d2e1f0"]),
        ("date", "date", ["2026-11-30", "infinity", "4713-01-01 BC"]),
        ("time", "time without time zone", ["24:00:00", "12:34:56.789012"]),
        ("timestamp", "timestamp without time zone", ["2026-11-30 12:34:56.789012"]),
        ("timestamp", "timestamp(0) without time zone", ["2026-11-30 12:34:56"]),
        ("timestamptz", "timestamp with time zone", ["2026-11-30 12:34:56.789012+00"]),
        ("interval", "interval", ["1 mon 2 days 03:04:05.678901"]),
        ("json", "json", [#"{"a": 1}"#]),
        ("jsonb", "jsonb", [#"{"a": 1}"#, "null"]),
        ("bit", "bit(7)", ["1010101"]),
        ("varbit", "bit varying(9)", ["101010101"]),
        ("bytea", "bytea", [#"\x00ff"#]),
        ("inet", "inet", ["10.0.0.1/8"]),
        ("_int4", "integer[]", ["{1,2}", "{}"]),
        ("_varchar", "character varying(5)[]", ["{abcde,NULL}"]),
        ("_text", "text[]", [#"{"a longer text"}"#]),
    ]

    /// What is said to fit is taken, and by its own type kept; what is said never to fit never is.
    @Test func theServerAgrees() async throws {
        let schema = try await TestSchema("CREATE TABLE verdicts (v text)")
        let connection = try schema.connect()
        for (number, target) in Self.samples.enumerated() {
            _ = try connection.query("CREATE TABLE t\(number) (v \(target.sql))")
            let into = ModifiedType(typeName: target.type, sql: target.sql)
            for source in Self.samples {
                let fit = TypeFit(ModifiedType(typeName: source.type, sql: source.sql), into: into)
                for value in source.values {
                    let literal = PostgresConnection.literal(value)
                    var stored: String?
                    do throws(PostgresFailure) {
                        stored = try connection.queryRow(
                            "INSERT INTO t\(number) VALUES (\(literal)) RETURNING v::text")[0]
                    } catch {
                        #expect(error.kind == .statement)
                        #expect(fit != .fits, "\(value) of \(source.sql) into \(target.sql)")
                        continue
                    }
                    #expect(fit != .never, "\(value) of \(source.sql) into \(target.sql)")
                    if source.sql == target.sql, source.type != "bpchar", source.type != "bool" {
                        #expect(stored == value, "\(source.sql) into \(target.sql)")
                    }
                }
            }
        }
    }

    @Test func aNarrowerTypeIsNoticed() {
        func fit(_ from: (String, String), _ into: (String, String)) -> TypeFit {
            TypeFit(
                ModifiedType(typeName: from.0, sql: from.1),
                into: ModifiedType(typeName: into.0, sql: into.1))
        }
        let text = ("text", "text")
        let price = ("numeric", "numeric(10,2)")
        func isRefused(_ fit: TypeFit) -> Bool {
            if case .mayBeRefused = fit { true } else { false }
        }
        func isChanged(_ fit: TypeFit) -> Bool {
            if case .changes = fit { true } else { false }
        }
        #expect(isRefused(fit(("int8", "bigint"), ("int4", "integer"))))
        #expect(isRefused(fit(text, ("varchar", "character varying(40)"))))
        #expect(isRefused(fit(text, ("status", "public.status"))))
        #expect(isRefused(fit(("numeric", "numeric(12,2)"), price)))
        #expect(isRefused(fit(("numeric", "numeric"), price)))
        #expect(
            isRefused(fit(("_varchar", "character varying(9)[]"), ("_varchar", "varchar(5)[]"))))
        #expect(isChanged(fit(("numeric", "numeric(11,3)"), price)))
        #expect(
            isChanged(
                fit(
                    ("timestamp", "timestamp without time zone"),
                    ("timestamp", "timestamp(3) without time zone"))))
        #expect(
            isChanged(
                fit(
                    ("timestamptz", "timestamp with time zone"),
                    ("timestamp", "timestamp without time zone"))))
        #expect(isChanged(fit(("float8", "double precision"), ("float4", "real"))))
        #expect(fit(("uuid", "uuid"), ("int4", "integer")) == .never)
        #expect(fit(("bool", "boolean"), ("int4", "integer")) == .never)
        #expect(fit(price, ("numeric", "numeric(12,2)")) == .fits)
        #expect(fit(("numeric", "numeric(5,0)"), ("int4", "integer")) == .fits)
        // Of a domain the source names the type below it.
        #expect(fit(("pg_catalog.int4", "public.age"), ("int4", "integer")) == .fits)
        #expect(ModifiedType.modifiers(#""odd(7)" . x"#) == [])
    }
}
