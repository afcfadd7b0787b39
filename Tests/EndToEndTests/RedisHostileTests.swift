import Foundation
import Glibc
import Testing
import WeirTesting

extension EndToEnd {
    /// Keys and values that look like commands, templates or ends of lines.
    @Suite struct RedisHostileTests {
        private static let texts = [
            "", " ", "plain", "a\r\nb", "\r\n", "*1\r\n$8\r\nFLUSHALL\r\n", "$3\r\n", "$-1\r\n",
            "\r\n*1\r\n$8\r\nFLUSHALL\r\n*3\r\n$3\r\nSET\r\n$6\r\ncanary\r\n$1\r\nx\r\n",
            "{", "}", "{}", "{{", "}}", "{id}", "}:v", "%", "%%", "%7B", "%25", ":", "::", "a:b",
            "a%3Ab", "\\", "\\\\n", "\"", "\"}", "\u{1}\u{1F}\u{7F}\t\u{8}\u{C}", "\u{80}\u{9F}",
            "\u{1F642}", "\u{1F468}\u{200D}\u{1F469}", "e\u{301}", "\u{E9}", "\u{2028}\u{2029}",
            "\u{FEFF}x", "\u{202E}x", "မြန်မာ", "+OK", "-ERR", "*", "?", "[a]", "KEYS[1]", "%s%n",
            "null", "NULL", "'; DROP TABLE t; --",
        ]

        /// As documented: `%`, `:`, braces and control characters become `%XX`.
        private static func escaped(_ text: String) -> Bytes {
            text.utf8.flatMap { byte -> Bytes in
                guard byte < 0x20 || byte == 0x7F || "%:{}".utf8.contains(byte) else {
                    return [byte]
                }
                return Bytes("%\(String(byte >> 4, radix: 16, uppercase: true))".utf8)
                    + Bytes(String(byte & 15, radix: 16, uppercase: true).utf8)
            }
        }

        private static func literal(_ text: String) -> String {
            let digits = text.utf8.map { byte in
                String(byte >> 4, radix: 16) + String(byte & 15, radix: 16)
            }
            return "convert_from(decode('\(digits.joined())', 'hex'), 'UTF8')"
        }

        private struct Row {
            let key: Bytes
            let json: Bytes
            let value: Bytes?
            let data: Bytes
        }

        private let database: TestDatabase
        private let redis: RedisServer
        private let home: WeirHome

        init() async throws {
            database = try await TestDatabase.make()
            redis = try await RedisServer.start()
            try database.sql(
                #"""
                CREATE TABLE t (
                    k text PRIMARY KEY, v text, d bytea, j jsonb,
                    U&"c\000D\000A*1\000D\000A$8\000D\000AFLUSHALL\000D\000A ""{id}%\+01F642" text);
                """#)
            home = try WeirHome(
                database, cache: redis.url(), tables: ["public.t"],
                sinks: [
                    "json": #""write": "json", "key": "j:{k}""#,
                    "text": #""write": "string", "value": "v", "key": "s:{k}:text""#,
                    "hash": #""write": "hash", "key": "h:{{{k}}}""#,
                ])
        }

        /// The rows as the server shows them, and their keys as documented.
        private func rows() throws -> [Row] {
            let json = try database.pairs("k", "row_to_json(t)", from: "t")
            let values = try database.pairs("k", "v", from: "t WHERE v IS NOT NULL")
            let data = try database.pairs("k", "d", from: "t")
            return json.map { key, row in
                Row(
                    key: Self.escaped(String(decoding: key, as: UTF8.self)), json: row,
                    value: values[key], data: data[key] ?? [])
            }
        }

        private func difference() throws -> String? {
            let rows = try rows()
            let found = try redis.contents()
            var expected: [Bytes: Bytes] = [
                Bytes("canary".utf8): Bytes("sings".utf8),
                Bytes("j:%".utf8): Bytes("of no row".utf8),
            ]
            for row in rows {
                expected[Bytes("j:".utf8) + row.key] = row.json
                if let value = row.value {
                    expected[Bytes("s:".utf8) + row.key + Bytes(":text".utf8)] = value
                }
            }
            if let text = EndToEndTests.difference(found.values, expected) { return text }
            // A tag that would be empty is marked.
            let tagged = Set(
                rows.map { row in
                    Bytes("h:{".utf8) + (row.key.isEmpty ? Bytes("%".utf8) : row.key)
                        + Bytes("}".utf8)
                })
            let hashes = try redis.hashes("h:")
            if Set(hashes.keys) != tagged {
                return "hashes: \(hashes.keys.map { String(decoding: $0, as: UTF8.self) }.sorted())"
            }
            return found.markers == ["shop/json", "shop/text", "shop/hash"]
                ? nil : "markers: \(found.markers)"
        }

        private func until(_ what: String) async throws {
            var last: String?
            do {
                try await eventually(what, poll: .milliseconds(50)) {
                    last = try self.difference()
                    return last == nil
                }
            } catch {
                throw TestingError("\(error): \(last ?? "") \(home.logText().suffix(1000))")
            }
        }

        @Test func everyByteArrivesAndNothingElseIsTouched() async throws {
            try redis.command("SET", "canary", "sings")
            try redis.command("SET", "j:%", "of no row")
            _ = try redis.cli("-n", "1", "SET", "canary", "sings too")
            let daemon = try home.run()
            try await home.untilStreaming()
            let values = Self.texts.enumerated().map { index, text in
                let other = Self.literal(Self.texts[(index * 7 + 3) % Self.texts.count])
                return "(\(Self.literal(text)), \(other), decode('00ff0d0a2a', 'hex'), "
                    + "jsonb_build_object(\(other), \(Self.literal(text))), \(other))"
            }
            try database.sql("INSERT INTO t VALUES \(values.joined(separator: ",\n"))")
            try database.sql(
                #"""
                INSERT INTO t (k, v) VALUES
                    ('null', NULL) ON CONFLICT (k) DO UPDATE SET v = NULL;
                INSERT INTO t (k, v, j) VALUES
                    ('large', repeat(E'*1\r\n$8\r\nFLUSHALL\r\n', 50000),
                     jsonb_build_object('a', repeat(E'\\"\r\n🙂', 100000)));
                """#)
            try await until("inserted")
            let large = try #require(try redis.get("s:large:text"))
            #expect(large.count > 1 << 20 - 200_000)
            let fields = try redis.hashes("h:")[Bytes("h:{large}".utf8)]
            #expect(fields?["v"] == large)
            let line = try redis.hashes("h:")[Bytes("h:{a%0D%0Ab}".utf8)]
            #expect(line?["k"] == Bytes("a\r\nb".utf8))
            #expect(line?["d"] == Bytes(#"\x00ff0d0a2a"#.utf8))
            let column = "c\r\n*1\r\n$8\r\nFLUSHALL\r\n \"{id}%\u{1F642}"
            #expect(line?[column] != nil, "\(line?.keys.sorted() as Any)")

            try database.sql("UPDATE t SET v = coalesce(v, '') || E'\\r\\n' || k")
            try await until("updated")
            try database.sql(
                """
                UPDATE t SET k = k || E'\\n}' WHERE length(k) % 3 = 1;
                DELETE FROM t WHERE length(k) % 3 = 2
                """)
            try await until("moved and deleted")
            try await home.settle(daemon)
            #expect(try self.difference() == nil)
            #expect(try redis.cli("-n", "1", "GET", "canary") == "sings too")
            #expect(try redis.cli("-n", "1", "DBSIZE") == "1")
            try expectVersions()
            let commands = try redis.cli("INFO", "commandstats")
            #expect(commands.contains("cmdstat_evalsha") && !commands.contains("flush"))
            #expect(try home.figures().errors.isEmpty)
        }

        /// Beside values there are only their versions, and those of keys that were deleted.
        private func expectVersions() throws {
            let found = try redis.contents()
            for (key, version) in found.versions {
                let isThere = found.values[key] != nil || found.others.contains(key)
                #expect(
                    isThere != version.hasSuffix("!"), "\(String(decoding: key, as: UTF8.self))")
                #expect(["j:", "s:", "h:{"].contains { key.starts(with: $0.utf8) })
            }
        }
    }
}
