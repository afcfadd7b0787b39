import Testing
import WeirCore
import WeirPostgresClient
import WeirTesting

/// Nothing a server sends ends the process, fills its memory or holds a thread for ever.
struct HostileServerTests {
    private static func connect(_ server: HostilePostgres) throws -> PostgresConnection {
        try PostgresConnection(ConnectionString(server.url), mode: .sql, name: "weir test")
    }

    private static func failure(
        _ body: () throws -> Void
    ) throws -> PostgresFailure {
        try #require(#expect(throws: PostgresFailure.self) { try body() })
    }

    @Test func anAnswerWithFewerColumnsEndsTheConnectionAndNotTheProcess() throws {
        let server = try HostilePostgres { sql in
            if sql == "none" {
                return HostilePostgres.rows([[]], columns: 0) + HostilePostgres.done
            }
            if sql == "two" {
                return HostilePostgres.rows([["a", "b"]], columns: 2) + HostilePostgres.done
            }
            return nil
        }
        let connection = try Self.connect(server)
        // Read without stating a width, a column that is not there is NULL.
        #expect(try connection.query("none").first?[0] == nil)
        let row = try #require(try connection.query("two", columns: 2).first)
        #expect(row[0] == "a" && row[1] == "b" && row[2] == nil && row[-1] == nil)
        let failure = try Self.failure { _ = try connection.query("two", columns: 3) }
        #expect(failure.kind == .connection)
        #expect(failure.message == "the server answered with 2 columns where 3 were asked for")
        let second = try Self.connect(server)
        #expect(try Self.failure { _ = try second.queryRow("none") }.kind == .connection)
        let third = try Self.connect(server)
        try third.sendQuery("two")
        let short = try Self.failure {
            while let row = try third.nextRow(columns: 3, by: .now + .seconds(10)) {
                _ = row.columnCount
            }
        }
        #expect(short.kind == .connection)
    }

    @Test(arguments: ["G", "H", "W"] as [Character])
    func aCopyNobodyAskedForIsAnErrorAtOnce(kind: Character) throws {
        let server = try HostilePostgres { sql in
            sql == "x" ? HostilePostgres.message(kind, [0, 0, 0]) : nil
        }
        let calls: [(PostgresConnection) throws -> Void] = [
            { _ = try $0.query("x") }, { _ = try $0.command("x") },
            {
                try $0.sendQuery("x")
                while let row = try $0.nextRow(columns: 0, by: .now + .seconds(10)) {
                    _ = row.columnCount
                }
            },
        ]
        for call in calls {
            let connection = try Self.connect(server)
            let start = ContinuousClock.now
            let failure = try Self.failure { try call(connection) }
            #expect(failure.kind == .connection && failure.message.contains("copy"), "\(failure)")
            #expect(ContinuousClock.now - start < .seconds(8), "it waits for nothing")
        }
        if kind != "G" {
            let connection = try Self.connect(server)
            let failure = try Self.failure {
                try connection.beginCopyIn("x", by: .now + .seconds(10))
            }
            #expect(failure.kind == .connection)
        }
    }

    @Test func aServersWordsAreShortAndHarmless() throws {
        let evil = "evil \u{1B}]0;title\u{7}\nnext\u{9B}31m \u{202E}sdrawkcab"
        let server = try HostilePostgres { sql in
            switch sql {
            case "long": HostilePostgres.error(String(repeating: "B", count: 4 << 20))
            case "evil": HostilePostgres.error(evil)
            default: nil
            }
        }
        let connection = try Self.connect(server)
        let long = try Self.failure { _ = try connection.query("long") }
        for text in [long.message, long.hint ?? ""] {
            #expect(text.hasPrefix("BBBB") && text.hasSuffix("(cut)"))
            #expect(text.utf8.count < ForeignText.bytesMax + 32)
        }
        let shown = try Self.failure { _ = try connection.query("evil") }
        #expect(
            shown.message
                == "evil <U+001B>]0;title<U+0007>; next<U+009B>31m <U+202E>sdrawkcab")
        #expect(shown.hint == shown.message)
        #expect(shown.kind == .statement, "the connection goes on")
    }

    @Test func rowsWithoutEndAreCutOff() throws {
        let row = HostilePostgres.rows([[String(repeating: "z", count: 60_000)]], columns: 1)
        let server = try HostilePostgres(isEndless: true) { $0 == "x" ? row : nil }
        // The settings of a new connection would be answered without end, too.
        let connection = try Self.connect(server)
        let failure = try Self.failure { _ = try connection.query("x", within: .seconds(60)) }
        #expect(failure.kind == .connection)
        #expect(failure.message == "the server sent more than 16 MiB in one answer")
    }

    @Test func parametersWithoutEndAreCutOff() throws {
        let parameters = (0..<100).flatMap {
            HostilePostgres.parameter("k\($0)", String(repeating: "v", count: 10_000))
        }
        let server = try HostilePostgres(greeting: parameters, isEndless: true)
        let failure = try Self.failure { _ = try Self.connect(server) }
        #expect(failure.message == "the server sent more than 1 MiB in one answer")
    }

    @Test func aCommandIsCancelledOverAnotherConnectionAndInTime() async throws {
        let database = try await TestDatabase()
        let string = try ConnectionString(database.server.url(database: database.name))
        let busy = try PostgresConnection(string, mode: .sql, name: "weir test")
        let other = try PostgresConnection(string, mode: .sql, name: "weir test")
        try busy.sendQuery("SELECT pg_sleep(60)")
        // What the other was asked before is given up too.
        try other.sendQuery("SELECT 1")
        try other.cancel(busy)
        let failure = try Self.failure { _ = try busy.nextRow(columns: 0, by: .now + .seconds(20)) }
        #expect(failure.sqlState == "57014")
        // A server that says nothing more holds nobody for long.
        let silent = try HostilePostgres { $0.contains("cancel") ? [] : nil }
        let connection = try Self.connect(silent)
        let late = try Self.failure { try connection.cancel(connection, within: .milliseconds(50)) }
        #expect(late.kind == .timeout)
    }
}
