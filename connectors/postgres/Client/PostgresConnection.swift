import CLibPQ
import Glibc
import WeirCore

/// One libpq connection, always with Weir's session settings.
///
/// Not thread-safe: use it from one thread, an actor pinned to its own. Every call blocks that
/// thread, but never longer than its limit, and ends early when the current task is cancelled
/// (invariant 7).
@safe package final class PostgresConnection {
    let connection: OpaquePointer
    /// Looks into waits in which nothing comes; nil lets each last up to its own limit.
    package var silence: SilenceWatch?
    /// What may still come of the answer that is read now.
    var answer = AnswerBudget()

    /// Settings that change how values are written, forced on every connection: a database or role
    /// setting would silently change pgoutput's text (CORRECTNESS 14).
    package static let sessionSettings: [(name: String, value: String)] = [
        ("DateStyle", "ISO"), ("IntervalStyle", "postgres"), ("extra_float_digits", "3"),
        ("TimeZone", "UTC"), ("bytea_output", "hex"), ("lc_monetary", "C"), ("search_path", ""),
        ("row_security", "off"), ("statement_timeout", "0"),
        ("idle_in_transaction_session_timeout", "0"),
        // How `regclass` and its like write names.
        ("quote_all_identifiers", "off"),
    ]

    /// What a connection is for, and what that asks of its session.
    package struct Mode: Sendable {
        let isReplication: Bool
        /// Beside `sessionSettings`.
        let settings: [(name: String, value: String)]

        private static let sourceSettings = [
            // Else no publication could be made and no marker written.
            ("default_transaction_read_only", "off"),
            // Our markers must not wait for a synchronous standby.
            ("synchronous_commit", "local"),
            // Compiling what is asked of the catalogue takes a hundred times as long as asking it.
            ("jit", "off"),
        ]

        /// Looks things up at a source and writes markers there.
        package static let sql = Mode(isReplication: false, settings: sourceSettings)
        package static let replication = Mode(isReplication: true, settings: sourceSettings)

        /// Writes rows. A target that is fenced off as read-only stays so.
        package static let sink = Mode(
            isReplication: false,
            settings: [
                // The sink's flush makes commits durable, all at once.
                ("synchronous_commit", "off"),
                // A role or database may have others: a null in an array would become the text
                // NULL, and an XML value that is no whole document would be refused.
                ("array_nulls", "on"), ("xmloption", "content"),
                // Every statement finds a few rows of a large table by its key. The planner, which
                // knows nothing of the rows at hand, might read all of the table instead.
                ("enable_hashjoin", "off"), ("enable_mergejoin", "off"), ("jit", "off"),
                ("plan_cache_mode", "force_generic_plan"),
                // A host that vanishes must not keep our lock for hours.
                ("tcp_keepalives_idle", "10"), ("tcp_keepalives_interval", "5"),
                ("tcp_keepalives_count", "3"), ("tcp_user_timeout", "30000"),
            ])
    }

    /// Timeouts that some server version does not know. One would end our idle ordinary connection,
    /// the other the decoding of a long transaction.
    private static let newerSettings = [
        (name: "idle_session_timeout", since: 140000), (name: "transaction_timeout", since: 170000),
    ]

    /// - Throws: `.connection`, `.timeout` or `.cancelled`.
    package init(
        _ string: ConnectionString,
        mode: Mode,
        name: String,
        within limit: Duration = .seconds(15)
    ) throws(PostgresFailure) {
        var options = string.options.filter {
            !["client_encoding", "replication", "options", "fallback_application_name"]
                .contains($0.keyword)
        }
        let ours = (Self.sessionSettings + mode.settings).map { "-c \($0.name)=\($0.value)" }
        // Ours come last, so that they win over the user's.
        options.append(
            ("options", ([string["options"]].compactMap { $0 } + ours).joined(separator: " ")))
        options.append(("client_encoding", "UTF8"))
        options.append(("fallback_application_name", name))
        if mode.isReplication { options.append(("replication", "database")) }
        // A silent peer is noticed within half a minute, idle or in the middle of a write.
        for (keyword, value) in [
            ("keepalives_idle", "10"), ("keepalives_interval", "5"), ("keepalives_count", "3"),
            ("tcp_user_timeout", "30000"),
        ] where string[keyword] == nil {
            options.append((keyword, value))
        }
        guard let made = unsafe Self.start(options) else {
            throw PostgresFailure(.connection, "out of memory")
        }
        unsafe connection = made
        unsafe weir_silence_notices(made)
        // Nothing else tells the SQLSTATE of a refused connection.
        unsafe PQsetErrorVerbosity(made, PQERRORS_VERBOSE)
        // If this throws, `deinit` frees the connection: every property has its value by now.
        try finishConnecting(by: .now + limit)
        unsafe PQsetErrorVerbosity(made, PQERRORS_DEFAULT)
        unsafe PQsetnonblocking(made, 1)
        try finishSettings(within: limit)
    }

    deinit { unsafe PQfinish(connection) }

    /// The settings that depend on the server (CORRECTNESS 14).
    private func finishSettings(within limit: Duration) throws(PostgresFailure) {
        var commands = Self.newerSettings.filter { serverVersion >= $0.since }
            .map { "SET \($0.name) = 0;" }
        // Such a server stores any bytes, and refuses to send as UTF-8 what is none.
        if parameter("server_encoding") == "SQL_ASCII" {
            commands.append("SET client_encoding = SQL_ASCII;")
        }
        _ = try query(commands.joined(), within: limit)
    }

    private static func start(_ options: [(keyword: String, value: String)]) -> OpaquePointer? {
        let keywords = unsafe options.map { unsafe strdup($0.keyword) }
        let values = unsafe options.map { unsafe strdup($0.value) }
        defer {
            for index in options.indices {
                unsafe free(keywords[index])
                unsafe free(values[index])
            }
        }
        var keywordList = unsafe keywords.map { unsafe UnsafePointer<CChar>($0) } + [nil]
        var valueList = unsafe values.map { unsafe UnsafePointer<CChar>($0) } + [nil]
        return unsafe PQconnectStartParams(&keywordList, &valueList, 0)
    }

    private func finishConnecting(by deadline: ContinuousClock.Instant) throws(PostgresFailure) {
        guard unsafe PQstatus(connection) != CONNECTION_BAD else { throw lastFailure() }
        beginAnswer(atMost: Self.greetingBytesMax)
        var state = PGRES_POLLING_WRITING
        while state != PGRES_POLLING_OK {
            if state == PGRES_POLLING_FAILED { throw lastFailure() }
            try wait(for: state == PGRES_POLLING_READING ? POLLIN : POLLOUT, by: deadline)
            state = unsafe PQconnectPoll(connection)
            try checkAnswer()
        }
    }

    /// The socket, for `poll`.
    package var descriptor: Int32 { unsafe PQsocket(connection) }
    /// Such as 150020.
    package var serverVersion: Int { Int(unsafe PQserverVersion(connection)) }
    package var backendPID: Int32 { unsafe PQbackendPID(connection) }

    package func parameter(_ name: String) -> String? {
        unsafe PQparameterStatus(connection, name).map { unsafe ForeignText.visible(Self.text($0)) }
    }

    /// A text that belongs into a message: of a very long one, its beginning.
    private static func text(_ start: UnsafePointer<CChar>) -> String {
        let count = unsafe strnlen(start, 2 * ForeignText.bytesMax)
        return unsafe String(
            decoding: UnsafeRawBufferPointer(start: start, count: count), as: UTF8.self)
    }

    /// A transaction is open, and nothing has failed in it.
    package var isInTransaction: Bool {
        unsafe PQtransactionStatus(connection) == PQTRANS_INTRANS
    }

    /// False once the server closed the connection. Reads what has arrived; never blocks.
    package func isAlive() -> Bool {
        unsafe PQconsumeInput(connection) == 1 && PQstatus(connection) == CONNECTION_OK
    }

    /// Nothing has arrived since the last command. What a server says to an idle session is that it
    /// ends it, or that a setting changed.
    package func isQuiet() -> Bool {
        var item = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
        return unsafe poll(&item, 1, 0) == 0
    }

    /// Runs one command and returns its rows as text.
    ///
    /// - Parameter columns: how many the caller reads. With fewer in the answer this
    ///   throws; a row's column that is not there reads as NULL, never past the end.
    package func query(
        _ sql: String, columns: Int = 0, within limit: Duration = .seconds(15)
    ) throws(PostgresFailure) -> [TextRow] {
        let deadline = ContinuousClock.now + limit
        guard unsafe PQsendQuery(connection, sql) == 1 else { throw lastFailure() }
        beginAnswer(atMost: Self.answerBytesMax)
        try flush(by: deadline)
        return try results(by: deadline, columns: columns, of: sql)
    }

    /// The rows of the command that was sent, as text.
    ///
    /// - Parameter sql: what was sent, because one command answers with a stream.
    func results(
        by deadline: ContinuousClock.Instant, columns: Int = 0, of sql: String = ""
    ) throws(PostgresFailure) -> [TextRow] {
        var rows: [TextRow] = []
        var failure: PostgresFailure?
        while let result = try unsafe nextResult(by: deadline) {
            defer { unsafe PQclear(result) }
            switch unsafe PQresultStatus(result) {
            case PGRES_TUPLES_OK:
                try Self.check(Int(unsafe PQnfields(result)), isAtLeast: columns)
                unsafe rows = Self.rows(of: result)
            case PGRES_COMMAND_OK, PGRES_EMPTY_QUERY: break
            case PGRES_COPY_BOTH where sql.hasPrefix("START_REPLICATION"): return []
            default: try unsafe note(result, in: &failure)
            }
        }
        if let failure { throw failure }
        return rows
    }

    /// One row that must be there, of at least `columns` columns.
    package func queryRow(
        _ sql: String, columns: Int = 1, within limit: Duration = .seconds(15)
    ) throws(PostgresFailure) -> TextRow {
        guard let row = try query(sql, columns: columns, within: limit).first else {
            throw PostgresFailure(.statement, "the server returned no row")
        }
        return row
    }

    /// Runs one statement and returns how many rows it touched.
    package func command(
        _ sql: String, within limit: Duration = .seconds(15)
    ) throws(PostgresFailure) -> Int {
        guard unsafe PQsendQuery(connection, sql) == 1 else { throw lastFailure() }
        beginAnswer(atMost: Self.answerBytesMax)
        let deadline = ContinuousClock.now + limit
        try flush(by: deadline)
        return try finishResults(by: deadline)
    }

    // MARK: Rows one at a time

    /// Sends one statement; `nextRow` returns what it finds. Neither is there a String per value
    /// nor a second copy of all rows in memory.
    ///
    /// - Parameter parameters: the text of `$1`, `$2` and so on, without a NUL inside.
    package func sendQuery(
        _ sql: String, parameters: [[UInt8]] = [], within limit: Duration = .seconds(15)
    ) throws(PostgresFailure) {
        var bytes: [UInt8] = []
        bytes.reserveCapacity(parameters.reduce(0) { $0 + $1.count + 1 })
        var starts: [Int] = []
        for parameter in parameters {
            starts.append(bytes.count)
            bytes += parameter
            bytes.append(0)
        }
        let sent = unsafe bytes.withUnsafeBytes { raw in
            unsafe raw.withMemoryRebound(to: CChar.self) { chars in
                let values = unsafe starts.map { start in
                    unsafe chars.baseAddress.map { unsafe $0 + start }
                }
                return unsafe PQsendQueryParams(
                    connection, sql, Int32(starts.count), nil, values, nil, nil, 0)
            }
        }
        guard sent == 1, unsafe PQsetSingleRowMode(connection) == 1 else { throw lastFailure() }
        beginAnswer(atMost: Self.rowBytesMax)
        try flush(by: .now + limit)
    }

    /// The next row of what `sendQuery` sent; nil behind the last, when the connection is free
    /// again. It is free after a statement's failure too, but after no other one.
    ///
    /// - Parameter columns: how many the caller reads; a row with fewer ends the connection.
    package func nextRow(
        columns: Int, by deadline: ContinuousClock.Instant
    ) throws(PostgresFailure) -> PostgresRow? {
        var failure: PostgresFailure?
        while let result = try unsafe nextResult(by: deadline) {
            switch unsafe PQresultStatus(result) {
            case PGRES_SINGLE_TUPLE:
                endPart()
                let row = unsafe PostgresRow(stealing: result)
                try Self.check(row.columnCount, isAtLeast: columns)
                return row
            case PGRES_TUPLES_OK, PGRES_COMMAND_OK: unsafe PQclear(result)
            default:
                defer { unsafe PQclear(result) }
                try unsafe note(result, in: &failure)
            }
        }
        if let failure { throw failure }
        return nil
    }

    package static func literal(_ text: String) -> String {
        // With E'' a backslash is one whatever standard_conforming_strings says.
        "E'\(doubled(text, [UInt8(ascii: "'"), UInt8(ascii: "\\")]))'"
    }

    package static func identifier(_ name: String) -> String {
        "\"\(doubled(name, [UInt8(ascii: "\"")]))\""
    }

    /// Byte by byte: a mark that joins a quote to one character for people does not for a server.
    package static func doubled(_ text: String, _ bytes: [UInt8]) -> String {
        String(
            decoding: text.utf8.flatMap { bytes.contains($0) ? [$0, $0] : [$0] }, as: UTF8.self)
    }
    // MARK: Waiting

    func flush(
        by deadline: ContinuousClock.Instant, heedsCancelling: Bool = true
    ) throws(PostgresFailure) {
        while true {
            switch unsafe PQflush(connection) {
            case 0: return
            case 1:
                // The server may be waiting for us to read before it reads on.
                try wait(
                    for: POLLIN | POLLOUT, by: deadline, heedsCancelling: heedsCancelling)
                guard unsafe PQconsumeInput(connection) == 1 else { throw lastFailure() }
                try checkAnswer()
            default: throw lastFailure()
            }
        }
    }

    func nextResult(
        by deadline: ContinuousClock.Instant
    ) throws(PostgresFailure) -> OpaquePointer? {
        while unsafe PQisBusy(connection) == 1 {
            try wait(for: POLLIN, by: deadline)
            guard unsafe PQconsumeInput(connection) == 1 else { throw lastFailure() }
            try checkAnswer()
        }
        return unsafe PQgetResult(connection)
    }

    /// Waits in slices of 100 ms, so that cancelling the task is noticed.
    func wait(
        for events: Int32, by deadline: ContinuousClock.Instant, heedsCancelling: Bool = true
    ) throws(PostgresFailure) {
        var start = ContinuousClock.now
        var silenceLimit = silence?.limit
        var suspicions = 0
        while true {
            if heedsCancelling && Task.isCancelled {
                throw PostgresFailure(.cancelled, "cancelled")
            }
            let left = ContinuousClock.now.duration(to: deadline)
            guard left > .zero else {
                throw PostgresFailure(.timeout, "the server did not answer in time")
            }
            if try isReady(for: events, within: Int32(min(100, left.milliseconds + 1))) { return }
            guard let limit = silenceLimit, start.duration(to: .now) >= limit else { continue }
            do {
                silenceLimit = try silence?.check(&suspicions)
                start = .now
            } catch {
                // What came while we looked is the answer after all.
                guard try isReady(for: events, within: 0) else { throw error }
                return
            }
        }
    }

    private func isReady(
        for events: Int32, within milliseconds: Int32
    ) throws(PostgresFailure) -> Bool {
        var item = pollfd(fd: descriptor, events: Int16(events), revents: 0)
        let ready = unsafe poll(&item, 1, milliseconds)
        if ready < 0 && errno != EINTR {
            let reason = unsafe String(cString: strerror(errno))
            throw PostgresFailure(.connection, "could not wait for the socket: \(reason)")
        }
        return ready > 0
    }

    // MARK: Results

    /// What answers is no PostgreSQL, or not the question we asked.
    private static func check(
        _ count: Int, isAtLeast columns: Int
    ) throws(PostgresFailure) {
        guard count < columns else { return }
        throw PostgresFailure(
            .connection, "the server answered with \(count) columns where \(columns) were asked for"
        )
    }

    private static func rows(of result: OpaquePointer) -> [TextRow] {
        let columns = unsafe PQnfields(result)
        return (0..<(unsafe PQntuples(result))).map { row in
            TextRow(
                (0..<columns).map { column in
                    unsafe PQgetisnull(result, row, column) == 1
                        ? nil : unsafe String(cString: PQgetvalue(result, row, column))
                })
        }
    }

    /// Keeps the first failure of a command whose other results are still to be read.
    ///
    /// - Throws: what ends the connection, at once: behind it there may be results for ever.
    func note(
        _ result: OpaquePointer, in first: inout PostgresFailure?
    ) throws(PostgresFailure) {
        let failure = unsafe failure(of: result)
        guard failure.kind == .statement else { throw failure }
        first = first ?? failure
    }

    func failure(of result: OpaquePointer) -> PostgresFailure {
        switch unsafe PQresultStatus(result) {
        // libpq hands these out again and again until the copy has ended.
        case PGRES_COPY_IN, PGRES_COPY_OUT, PGRES_COPY_BOTH:
            return PostgresFailure(.connection, "the server began a copy nobody asked for")
        default: break
        }
        func field(_ code: Int32) -> String? {
            unsafe PQresultErrorField(result, code).map { unsafe Self.text($0) }
        }
        let state = field(Int32(UInt8(ascii: "C"))) ?? ""
        guard let message = field(Int32(UInt8(ascii: "M"))) else { return lastFailure() }
        let isGone = unsafe PQstatus(connection) != CONNECTION_OK || state.hasPrefix("57P")
        let context = unsafe PQresultErrorField(result, Int32(UInt8(ascii: "W"))).map { start in
            let count = unsafe strlen(start)
            let kept = min(count, PostgresFailure.contextBytesMax)
            return unsafe String(
                decoding: UnsafeRawBufferPointer(start: start + (count - kept), count: kept),
                as: UTF8.self)
        }
        return PostgresFailure(
            isGone ? .connection : .statement, message, sqlState: state,
            hint: field(Int32(UInt8(ascii: "H"))), context: context,
            isInFunction: field(Int32(UInt8(ascii: "q"))) != nil)
    }

    func lastFailure() -> PostgresFailure {
        let text = unsafe PQerrorMessage(connection).map { unsafe Self.text($0) } ?? ""
        // After a command that took too long; it is said once more for each that is refused then.
        if text.contains("another command is already in progress") {
            return PostgresFailure(
                .connection, "the server has not answered an earlier command, which was given up")
        }
        return PostgresFailure(libpqMessage: text)
    }
}

/// One row of a result as text. Reading a column that the server did not send is NULL: no bytes
/// from outside can make us read past the end.
package struct TextRow: Sendable, Equatable, RandomAccessCollection, ExpressibleByArrayLiteral {
    private let values: [String?]

    package init(_ values: [String?]) { self.values = values }
    package init(arrayLiteral elements: String?...) { values = elements }

    package var startIndex: Int { 0 }
    package var endIndex: Int { values.count }

    package subscript(column: Int) -> String? {
        values.indices.contains(column) ? values[column] : nil
    }
}

/// One row of a result, in memory libpq allocated and this value frees.
@safe package struct PostgresRow: ~Copyable {
    private let result: OpaquePointer
    package let columnCount: Int

    fileprivate init(stealing result: OpaquePointer) {
        unsafe self.result = result
        columnCount = Int(unsafe PQnfields(result))
    }

    deinit { unsafe PQclear(result) }

    /// A value's text, valid as long as the row is; nil when it is NULL.
    package subscript(column: Int) -> UnsafeRawBufferPointer? {
        // libpq refuses others too, but says so on standard error.
        guard 0..<columnCount ~= column else { return nil }
        let column = Int32(column)
        if unsafe PQgetisnull(result, 0, column) == 1 { return nil }
        return unsafe UnsafeRawBufferPointer(
            start: PQgetvalue(result, 0, column), count: Int(PQgetlength(result, 0, column)))
    }
}

extension Duration {
    /// Whole milliseconds, rounded down.
    package var milliseconds: Int64 {
        components.seconds * 1000 + components.attoseconds / 1_000_000_000_000_000
    }
}
