import CLibPQ
import Glibc

extension PostgresConnection {
    // MARK: Copy stream

    /// The next CopyData message that has arrived, or nil when none has; never blocks.
    ///
    /// - Throws: when the server ended the stream, with its reason.
    package func nextCopyMessage() throws(PostgresFailure) -> CopyMessage? {
        var buffer: UnsafeMutablePointer<CChar>?
        let count = unsafe PQgetCopyData(connection, &buffer, 1)
        if count > 0, let start = unsafe buffer {
            answer.hasPart = true
            return unsafe CopyMessage(stealing: start, count: Int(count))
        }
        switch count {
        case 0: return nil
        case -1:
            let result = try unsafe nextResult(by: .now + .seconds(5))
            defer { unsafe PQclear(result) }
            if let result = unsafe result, unsafe PQresultStatus(result) == PGRES_FATAL_ERROR {
                throw unsafe failure(of: result)
            }
            throw PostgresFailure(.connection, "the server ended replication")
        default: throw lastFailure()
        }
    }

    /// Reads what the socket holds into libpq's buffer; never blocks.
    package func consumeInput() throws(PostgresFailure) {
        guard unsafe PQconsumeInput(connection) == 1 else { throw lastFailure() }
        try checkStream()
    }

    /// Sends one CopyData message, waiting for room in the socket up to `limit`.
    package func sendCopyMessage(
        _ bytes: [UInt8], within limit: Duration = .seconds(5)
    ) throws(PostgresFailure) {
        let failure = unsafe bytes.withUnsafeBytes { raw -> PostgresFailure? in
            do throws(PostgresFailure) {
                unsafe try sendCopyData(raw, by: .now + limit)
                return nil
            } catch {
                return error
            }
        }
        if let failure { throw failure }
    }

    /// Ends the stream. On return the server has read what we sent last.
    ///
    /// A socket that is closed with bytes unread is reset, and the reset takes along what the
    /// server has not read yet, our last status among it. So what still comes is read and dropped
    /// until the server says that it ends its half too, at the latest after `limit`.
    package func endCopy(within limit: Duration = .seconds(2)) {
        guard unsafe PQputCopyEnd(connection, nil) == 1 else { return }
        let deadline = ContinuousClock.now + limit
        do {
            try flush(by: deadline, heedsCancelling: false)
            while dropCopyMessages() {
                try wait(for: POLLIN, by: deadline, heedsCancelling: false)
                try consumeInput()
            }
        } catch {
            // The end of the connection, or of our patience.
        }
    }

    /// Drops the messages that have arrived; false when there will be no more.
    private func dropCopyMessages() -> Bool {
        while true {
            var buffer: UnsafeMutablePointer<CChar>?
            let count = unsafe PQgetCopyData(connection, &buffer, 1)
            unsafe PQfreemem(buffer)
            if count <= 0 { return count == 0 }
        }
    }

    // MARK: Rows into a table

    /// Begins `COPY … FROM STDIN`.
    package func beginCopyIn(
        _ sql: String, by deadline: ContinuousClock.Instant
    ) throws(PostgresFailure) {
        guard unsafe PQsendQuery(connection, sql) == 1 else { throw lastFailure() }
        beginAnswer(atMost: Self.answerBytesMax)
        try flush(by: deadline)
        let result = try unsafe nextResult(by: deadline)
        defer { unsafe PQclear(result) }
        guard let result = unsafe result else { throw lastFailure() }
        guard unsafe PQresultStatus(result) == PGRES_COPY_IN else {
            let failure = unsafe failure(of: result)
            if failure.kind == .statement { try finishResults(by: deadline) }
            throw failure
        }
    }

    private static let copySliceBytes = 1 << 20

    /// Sends a part of the rows, waiting until the socket has taken it.
    package func sendCopyData(
        _ bytes: UnsafeRawBufferPointer, by deadline: ContinuousClock.Instant
    ) throws(PostgresFailure) {
        // In slices, so that the library's buffer stays small.
        var rest = unsafe bytes
        repeat {
            let slice = unsafe UnsafeRawBufferPointer(rebasing: rest.prefix(Self.copySliceBytes))
            let sent = unsafe slice.withMemoryRebound(to: CChar.self) {
                unsafe PQputCopyData(connection, $0.baseAddress, Int32($0.count))
            }
            guard sent == 1 else { throw lastFailure() }
            try flush(by: deadline)
            unsafe rest = UnsafeRawBufferPointer(rebasing: rest.dropFirst(slice.count))
        } while unsafe !rest.isEmpty
    }

    /// Ends the rows and returns how many the server took.
    package func endCopyIn(by deadline: ContinuousClock.Instant) throws(PostgresFailure) -> Int {
        guard unsafe PQputCopyEnd(connection, nil) == 1 else { throw lastFailure() }
        try flush(by: deadline)
        return try finishResults(by: deadline)
    }

    /// Reads what is left of a command's results and returns how many rows it touched.
    @discardableResult
    func finishResults(by deadline: ContinuousClock.Instant) throws(PostgresFailure) -> Int {
        var count = 0
        var failure: PostgresFailure?
        while let result = try unsafe nextResult(by: deadline) {
            defer { unsafe PQclear(result) }
            switch unsafe PQresultStatus(result) {
            case PGRES_COMMAND_OK: count = unsafe Int(String(cString: PQcmdTuples(result))) ?? 0
            default: try unsafe note(result, in: &failure)
            }
        }
        if let failure { throw failure }
        return count
    }
}

/// One message of a copy stream, in memory libpq allocated and this value frees.
@safe package struct CopyMessage: ~Copyable {
    private let start: UnsafeMutablePointer<CChar>
    private let count: Int

    fileprivate init(stealing start: UnsafeMutablePointer<CChar>, count: Int) {
        unsafe self.start = start
        self.count = count
    }

    deinit { unsafe PQfreemem(start) }

    /// Valid as long as this value is.
    package var bytes: UnsafeRawBufferPointer {
        unsafe UnsafeRawBufferPointer(start: start, count: count)
    }
}
