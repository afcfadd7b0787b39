import Testing
import WeirPostgresClient
import WeirTesting

/// Many commands in one round trip, and rows copied in: what the server's failures leave behind.
struct SinkPipelineTests {
    private let schema: TestSchema
    private let connection: PostgresConnection
    /// Sees only what is committed.
    private let observer: PostgresConnection

    init() async throws {
        schema = try await TestSchema(
            """
            CREATE TABLE t (id int PRIMARY KEY, v text);
            CREATE TABLE child (id int PRIMARY KEY,
                parent int REFERENCES t DEFERRABLE INITIALLY DEFERRED);
            """)
        connection = try schema.connect()
        observer = try schema.connect()
    }

    private var deadline: ContinuousClock.Instant { .now + .seconds(20) }

    /// What a pipeline's commands came to, as `1` rows, `1=value`, a SQLSTATE, or `skipped`.
    private func end(_ count: Int) throws -> [[String]] {
        var answers = [[String]](repeating: [], count: count)
        try connection.endPipeline(count, within: .seconds(20)) { index, answer in
            switch answer {
            case .done(let rows, let value):
                answers[index].append("\(rows)" + (value.map { "=\($0)" } ?? ""))
            case .failed(let failure): answers[index].append(failure.sqlState)
            case .skipped: answers[index].append("skipped")
            }
        }
        return answers
    }

    private func run(_ commands: String...) throws -> [[String]] {
        try connection.beginPipeline()
        for command in commands { try connection.addCommand(command) }
        return try end(commands.count)
    }

    private func ids(_ table: String = "t") throws -> String {
        try look("SELECT string_agg(id::text, ' ' ORDER BY id) FROM \(table)")
    }

    private func look(_ sql: String) throws -> String {
        try observer.queryRow(sql)[0] ?? ""
    }

    // MARK: Pipelines

    @Test func everyCommandIsAnswered() throws {
        #expect(
            try run(
                "INSERT INTO t SELECT generate_series(1, 3)", "SELECT id, v FROM t ORDER BY id",
                "SELECT v FROM t", "SELECT FROM t WHERE id = 9", "SELECT 'x' FROM t",
                "UPDATE t SET v = 'a' WHERE id > 1", "DELETE FROM t WHERE id = 9", "SET jit = off")
                == [["3"], ["3=1"], ["3"], ["0"], ["3=x"], ["2"], ["0"], ["0"]])
        #expect(try ids() == "1 2 3")
        #expect(try connection.queryRow("SELECT 1") == ["1"])
        // None at all.
        try connection.beginPipeline()
        #expect(try end(0) == [])
        #expect(try connection.queryRow("SELECT 2") == ["2"])
    }

    @Test func aFailureSkipsTheRestAndUndoesWhatWasBefore() throws {
        #expect(
            try run(
                "INSERT INTO t VALUES (1)", "INSERT INTO t VALUES (1)", "INSERT INTO t VALUES (2)",
                "SELECT 1") == [["1"], ["23505"], ["skipped"], ["skipped"]])
        #expect(try ids() == "")
        #expect(try run("INSERT INTO t VALUES (3)") == [["1"]])
        #expect(try ids() == "3")
    }

    @Test func insideATransactionAFailureLeavesItToTheCaller() throws {
        _ = try connection.query("BEGIN; INSERT INTO t VALUES (1); SAVEPOINT s")
        #expect(
            try run("INSERT INTO t VALUES (2)", "SELECT 1/0", "SELECT 1")
                == [["1"], ["22012"], ["skipped"]])
        let aborted = #expect(throws: PostgresFailure.self) { try connection.query("SELECT 1") }
        #expect(aborted?.sqlState == "25P02")
        _ = try connection.query("ROLLBACK TO s; COMMIT")
        #expect(try ids() == "1")
    }

    /// The commit of a pipeline is nobody's command, and may fail all the same.
    @Test func whatTheCommitRefusesIsTheLastCommandsFailure() throws {
        let answers = try run(
            "INSERT INTO t VALUES (1)", "INSERT INTO child VALUES (1, 9)",
            "INSERT INTO t VALUES (2)")
        #expect(answers == [["1"], ["1"], ["1", "23503"]])
        #expect(try ids() == "" && ids("child") == "")
        // One whose constraint holds by then is taken.
        #expect(
            try run("INSERT INTO child VALUES (1, 9)", "INSERT INTO t VALUES (9)") == [
                ["1"], ["1"],
            ])
        #expect(try ids("child") == "1")
    }

    @Test func aPreparationThatFailsTakesItsExecutionAlong() throws {
        var parameters = StatementParameters()
        unsafe Array("7".utf8).withUnsafeBytes { unsafe parameters.append($0) }
        func prepare(_ name: String, _ sql: String) throws -> [[String]] {
            try connection.beginPipeline()
            try connection.addPreparation(name, sql)
            try connection.addExecution(name, parameters)
            return try end(2)
        }
        #expect(try prepare("a", "INSERT INTO nowhere VALUES ($1)") == [["42P01"], ["skipped"]])
        #expect(try prepare("a", "INSERT INTO t VALUES ($1)") == [["0"], ["1"]])
        #expect(try prepare("a", "SELECT $1::int") == [["42P05"], ["skipped"]])
        // A statement outlives the pipeline that prepared it, though that is undone.
        #expect(try run("INSERT INTO t VALUES (7)") == [["23505"]])
        #expect(try ids() == "7")
        try connection.beginPipeline()
        try connection.addExecution("never", parameters)
        #expect(try end(1) == [["26000"]])
    }

    @Test func aNulInAParameterIsNoticed() {
        var parameters = StatementParameters()
        unsafe Array("ab".utf8).withUnsafeBytes { unsafe parameters.append($0) }
        parameters.appendNull()
        unsafe [UInt8]().withUnsafeBytes { unsafe parameters.append($0) }
        var hasNUL = parameters.hasNUL
        #expect(!hasNUL)
        unsafe Array("a\0b".utf8).withUnsafeBytes { unsafe parameters.append($0) }
        hasNUL = parameters.hasNUL
        #expect(hasNUL)
        parameters.removeAll()
        hasNUL = parameters.hasNUL
        #expect(!hasNUL)
    }

    @Test func nullAndEmptyParametersAreNotTheSame() throws {
        var parameters = StatementParameters()
        try connection.beginPipeline()
        try connection.addPreparation(
            "p", "SELECT coalesce($1, 'null') || '/' || coalesce($2, 'null')")
        parameters.appendNull()
        unsafe [UInt8]().withUnsafeBytes { unsafe parameters.append($0) }
        try connection.addExecution("p", parameters)
        parameters.removeAll()
        unsafe Array("é\n".utf8).withUnsafeBytes { unsafe parameters.append($0) }
        parameters.appendNull()
        try connection.addExecution("p", parameters)
        #expect(try end(3) == [["0"], ["1=null/"], ["1=é\n/null"]])
    }

    /// Neither side reads while it cannot write: both must do both.
    @Test func answersThatFillEverySocketDoNotStopIt() throws {
        var parameters = StatementParameters()
        let text = [UInt8](repeating: 0x61, count: 20_000)
        unsafe text.withUnsafeBytes { unsafe parameters.append($0) }
        try connection.beginPipeline()
        try connection.addPreparation("p", "SELECT $1::text || repeat('b', 20000)")
        for _ in 0..<600 { try connection.addExecution("p", parameters) }
        var lengths: Set<Int> = []
        var count = 0
        try connection.endPipeline(601, within: .seconds(20)) { index, answer in
            count += 1
            if case .done(1, let value?) = answer { lengths.insert(value.utf8.count) }
        }
        #expect(count == 601 && lengths == [40_000])
    }

    @Test func aSessionThatIsEndedMeanwhileIsALostConnection() async throws {
        // Its own backend, in the middle of the pipeline.
        try connection.beginPipeline()
        for command in [
            "INSERT INTO t VALUES (1)", "SELECT pg_terminate_backend(pg_backend_pid())",
            "INSERT INTO t VALUES (2)",
        ] {
            try connection.addCommand(command)
        }
        let failure = #expect(throws: PostgresFailure.self) { _ = try end(3) }
        #expect(failure?.kind == .connection)
        try await eventually("the socket is closed") { !connection.isAlive() }
        #expect(throws: PostgresFailure.self) { try connection.query("SELECT 1") }
        #expect(try ids() == "")
        // And one that is gone before it begins.
        let other = try schema.connect()
        _ = try look("SELECT pg_terminate_backend(\(other.backendPID), 5000)")
        let late = #expect(throws: PostgresFailure.self) {
            try other.beginPipeline()
            try other.addCommand("SELECT 1")
            try other.endPipeline(1, within: .seconds(20)) { _, _ in }
        }
        #expect(late?.kind == .connection)
    }

    @Test func aPipelineThatIsTooSlowIsGivenUp() throws {
        try connection.beginPipeline()
        try connection.addCommand("SELECT pg_sleep(60)")
        let failure = #expect(throws: PostgresFailure.self) {
            try connection.endPipeline(1, within: .milliseconds(50)) { _, _ in }
        }
        #expect(failure?.kind == .timeout)
    }

    // MARK: Text in statements

    /// A quote and the mark behind it are one character to people, and two to the server.
    @Test func literalsAndNamesAreReadAsTheyWereWritten() throws {
        var random = SeededGenerator(seed: 4)
        let scalars: [Unicode.Scalar] = [
            "'", "\"", "\\", "a", "\u{301}", "\u{200D}", "é", "\n", "$", ";",
        ]
        for _ in 0..<300 {
            var text = ""
            for _ in 0..<(1 + random.below(10)) {
                text.unicodeScalars.append(scalars[random.below(scalars.count)])
            }
            let row = try connection.queryRow(
                "SELECT \(PostgresConnection.literal(text)) AS \(PostgresConnection.identifier(text))"
            )
            #expect(row[0].map { Array($0.utf8) } == Array(text.utf8))
            let name = try connection.queryRow(
                """
                SELECT key FROM json_each((SELECT row_to_json(r) FROM
                (SELECT 1 AS \(PostgresConnection.identifier(text))) r))
                """)
            #expect(name[0].map { Array($0.utf8) } == Array(text.utf8))
        }
    }

    // MARK: Copying in

    private func send(_ text: String) throws {
        try send(Array(text.utf8))
    }

    private func send(_ bytes: [UInt8]) throws {
        unsafe try bytes.withUnsafeBytes { unsafe try connection.sendCopyData($0, by: deadline) }
    }

    @Test func rowsAreCountedAndNoRowsAreNoFailure() throws {
        try connection.beginCopyIn("COPY t FROM STDIN", by: deadline)
        #expect(try connection.endCopyIn(by: deadline) == 0)
        try connection.beginCopyIn("COPY t FROM STDIN", by: deadline)
        try send([])
        // A row may be cut anywhere.
        try send("1\ta\n2")
        try send("\tb")
        try send("\n")
        #expect(try connection.endCopyIn(by: deadline) == 2)
        #expect(try look("SELECT string_agg(id || v, ' ' ORDER BY id) FROM t") == "1a 2b")
    }

    @Test func whatCannotBeCopiedIntoLeavesTheConnectionFree() throws {
        for (sql, state) in [
            ("COPY nowhere FROM STDIN", "42P01"), ("COPY t (x) FROM STDIN", "42703"),
            ("COPY", "42601"),
        ] {
            let failure = #expect(throws: PostgresFailure.self) {
                try connection.beginCopyIn(sql, by: deadline)
            }
            #expect(failure?.sqlState == state && failure?.kind == .statement)
            #expect(try connection.queryRow("SELECT 1") == ["1"])
        }
    }

    /// The server speaks up at once, but rows go on until their sender has finished.
    @Test func aRefusedRowIsToldAtTheEnd() throws {
        _ = try connection.query("BEGIN; INSERT INTO t VALUES (5); SAVEPOINT s")
        let many = [UInt8](String(repeating: "9\tx\n", count: 1 << 16).utf8)
        for (rows, state) in [
            ("1\ta\nno number\tb\n", "22P02"), ("1\ta\textra\n", "22P04"), ("1\n", "22P04"),
            ("1\ta\n1\tb\n", "23505"), ("5\ta\n", "23505"),
            ("\\N\ta\n", "23502"),
        ] {
            try connection.beginCopyIn("COPY t FROM STDIN", by: deadline)
            try send(rows)
            for _ in 0..<8 { try send(many) }
            let failure = #expect(throws: PostgresFailure.self) {
                try connection.endCopyIn(by: deadline)
            }
            #expect(failure?.kind == .statement)
            #expect(failure?.sqlState == state, "\(rows.debugDescription)")
            _ = try connection.query("ROLLBACK TO s")
        }
        _ = try connection.query("COMMIT")
        #expect(try ids() == "5")
    }

    @Test func aSessionThatIsEndedWhileItCopiesIsALostConnection() throws {
        try connection.beginCopyIn("COPY t FROM STDIN", by: deadline)
        try send("1\ta\n")
        _ = try look("SELECT pg_terminate_backend(\(connection.backendPID), 5000)")
        let failure = #expect(throws: PostgresFailure.self) {
            for _ in 0..<100 { try send([UInt8](repeating: 0x61, count: 1 << 16)) }
            _ = try connection.endCopyIn(by: deadline)
        }
        #expect(failure?.kind == .connection)
        #expect(try ids() == "")
    }

    @Test func aCancelledTaskEndsACopyAndTakesNothingAlong() async throws {
        let schema = schema
        let failure = await Task { () -> PostgresFailure? in
            do {
                let connection = try schema.connect()
                try connection.beginCopyIn("COPY t FROM STDIN", by: .now + .seconds(20))
                try unsafe Array("1\ta\n".utf8).withUnsafeBytes {
                    unsafe try connection.sendCopyData($0, by: .now + .seconds(20))
                }
                unsafe withUnsafeCurrentTask { unsafe $0?.cancel() }
                _ = try connection.endCopyIn(by: .now + .seconds(20))
                return nil
            } catch {
                return error as? PostgresFailure
            }
        }.value
        #expect(failure?.kind == .cancelled)
        try await eventually("the session has ended") {
            try look(
                "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'COPY t FROM%'") == "0"
        }
        // The end of the rows was sent before the task looked up: both are right, halves are not.
        #expect(["", "1"].contains(try ids()))
    }
}
