import CLibPQ
import Glibc

/// Commands that go to the server together and are answered in order: one round trip for all.
///
/// `beginPipeline`, then any number of `add…`, then `sync`, then `endPipeline`, which reads all
/// answers. Without a BEGIN of their own the commands up to `sync` are one transaction. After the
/// first failure the server skips the rest.
extension PostgresConnection {
    package func beginPipeline() throws(PostgresFailure) {
        guard unsafe PQenterPipelineMode(connection) == 1 else { throw lastFailure() }
    }

    /// Prepares a statement under a name; the server infers the types of its parameters.
    package func addPreparation(_ name: String, _ sql: String) throws(PostgresFailure) {
        guard unsafe PQsendPrepare(connection, name, sql, 0, nil) == 1 else {
            throw lastFailure()
        }
    }

    package func addCommand(_ sql: String) throws(PostgresFailure) {
        guard unsafe PQsendQueryParams(connection, sql, 0, nil, nil, nil, nil, 0) == 1 else {
            throw lastFailure()
        }
    }

    package func addExecution(
        _ name: String, _ parameters: borrowing StatementParameters
    ) throws(PostgresFailure) {
        let sent = unsafe parameters.withPointers { pointers in
            unsafe PQsendQueryPrepared(
                connection, name, Int32(pointers.count), pointers.baseAddress, nil, nil, 0)
        }
        guard sent == 1 else { throw lastFailure() }
    }

    /// What one command of a pipeline came to.
    package enum PipelineAnswer: Sendable {
        /// How many rows it touched or returned, and the first value of the first row.
        case done(rows: Int, value: String?)
        case failed(PostgresFailure)
        /// It came after one that failed.
        case skipped
    }

    /// Sends all, waits for every answer, and leaves pipeline mode.
    ///
    /// - Parameters:
    ///   - count: how many commands were added.
    ///   - limit: for each answer.
    ///   - body: gets each answer with the command's index.
    /// - Throws: what ends the connection; a command's failure is an answer.
    package func endPipeline(
        _ count: Int, within limit: Duration, _ body: (Int, PipelineAnswer) -> Void
    ) throws(PostgresFailure) {
        guard unsafe PQpipelineSync(connection) == 1 else { throw lastFailure() }
        // Answers come while commands are still being sent.
        beginAnswer(atMost: Self.pipelineBytesMax)
        try flush(by: .now + limit)
        for index in 0..<count {
            var answer: PipelineAnswer?
            let deadline = ContinuousClock.now + limit
            while let result = try unsafe nextResult(by: deadline) {
                let next = unsafe pipelineAnswer(result)
                unsafe PQclear(result)
                if case .failed(let failure) = next, failure.kind != .statement { throw failure }
                answer = answer ?? next
            }
            guard let answer else { throw lastFailure() }
            body(index, answer)
        }
        // The sync itself, after what the commit may have to say.
        var gaps = 0
        let deadline = ContinuousClock.now + limit
        while true {
            guard let result = try unsafe nextResult(by: deadline) else {
                gaps += 1
                if gaps > 2 { throw lastFailure() }
                continue
            }
            let status = unsafe PQresultStatus(result)
            let answer = unsafe pipelineAnswer(result)
            unsafe PQclear(result)
            if status == PGRES_PIPELINE_SYNC { break }
            if case .failed(let failure) = answer {
                guard failure.kind == .statement else { throw failure }
                body(count - 1, answer)
            }
        }
        guard unsafe PQexitPipelineMode(connection) == 1 else { throw lastFailure() }
    }

    private func pipelineAnswer(_ result: OpaquePointer) -> PipelineAnswer {
        switch unsafe PQresultStatus(result) {
        case PGRES_COMMAND_OK:
            return .done(rows: unsafe Int(String(cString: PQcmdTuples(result))) ?? 0, value: nil)
        case PGRES_TUPLES_OK:
            let rows = Int(unsafe PQntuples(result))
            if rows == 0 { return .done(rows: 0, value: nil) }
            let isNull = unsafe PQgetisnull(result, 0, 0) == 1
            return .done(
                rows: rows, value: isNull ? nil : unsafe String(cString: PQgetvalue(result, 0, 0)))
        case PGRES_PIPELINE_ABORTED: return .skipped
        default: return .failed(unsafe failure(of: result))
        }
    }
}

/// The text of a prepared statement's parameters, in memory that is used again for the next row.
@safe package struct StatementParameters: ~Copyable {
    private var bytes: [CChar] = []
    /// Where each begins in `bytes`; -1 for NULL.
    private var starts: [Int] = []

    package init() {}

    package mutating func removeAll() {
        // Memory of a huge row is given back.
        bytes.removeAll(keepingCapacity: bytes.count < 1 << 20)
        starts.removeAll(keepingCapacity: true)
        hasNUL = false
    }

    package var count: Int { starts.count }
    /// Some text holds a NUL, which the protocol would take for its end.
    package private(set) var hasNUL = false

    package mutating func appendNull() { starts.append(-1) }

    package mutating func append(_ text: UnsafeRawBufferPointer) {
        starts.append(bytes.count)
        if let base = text.baseAddress, unsafe memchr(base, 0, text.count) != nil {
            hasNUL = true
        }
        unsafe text.withMemoryRebound(to: CChar.self) { unsafe bytes.append(contentsOf: $0) }
        bytes.append(0)
    }

    package mutating func append(_ text: String) {
        starts.append(bytes.count)
        bytes += text.utf8.map { CChar(bitPattern: $0) }
        bytes.append(0)
    }

    fileprivate borrowing func withPointers(
        _ body: (UnsafeBufferPointer<UnsafePointer<CChar>?>) -> Int32
    ) -> Int32 {
        unsafe bytes.withUnsafeBufferPointer { buffer in
            unsafe withUnsafeTemporaryAllocation(
                of: UnsafePointer<CChar>?.self, capacity: starts.count
            ) { pointers in
                for index in 0..<starts.count {
                    let start = starts[index]
                    unsafe pointers.initializeElement(
                        at: index,
                        to: start < 0 ? nil : buffer.baseAddress.map { unsafe $0 + start })
                }
                return unsafe body(UnsafeBufferPointer(pointers))
            }
        }
    }
}
