import Testing
import WeirCore
import WeirPostgresClient
import WeirTesting

extension EventBatch {
    /// One value as a test writes it: its text, nil for null, a mark for what was not sent, and
    /// bytes that are no text in hexadecimal.
    func text(_ index: Int) -> String? {
        let value = values[index]
        let bytes = arena[value.bytes.range]
        switch value.form {
        case .null: return nil
        case .unchanged: return "(unchanged)"
        case .text: return String(decoding: bytes, as: UTF8.self)
        case .binary, .bson, .bsonKey:
            return #"\x"#
                + bytes.map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined()
        }
    }

    /// The rows after each event, in the order of their texts.
    var images: [[String?]] {
        events.map { $0.after.range.map(text) }
            .sorted { "\($0)" < "\($1)" }
    }
}

extension Array where Element == String {
    /// A key of these texts.
    var key: [[UInt8]] { map { [UInt8]($0.utf8) } }
}

extension TestDatabase {
    /// A connection of the test's own, for transactions that stay open.
    func connect() throws -> PostgresConnection {
        try PostgresConnection(
            ConnectionString(server.url(database: name)), mode: .sql, name: "test")
    }

    /// How many connections of row readers there are.
    func rowReaders() throws -> Int {
        let count = try run(
            """
            SELECT count(*) FROM pg_stat_activity
            WHERE datname = '\(name)' AND application_name = 'weir \(pipeline) rows'
            """)
        return Int(count) ?? -1
    }
}
