import CLibPQ
import Glibc

/// How much a server may send in answer to one question.
///
/// libpq keeps all of an answer, whatever its size, and one message that is announced as huge grows
/// its buffer until it is there. So the kernel is asked how much has come. It knows for TCP, with
/// and without TLS; a unix socket leads to this host, whose administrator may use up its memory
/// anyway.
struct AnswerBudget {
    /// The kernel's count at which it is too much; nil while nothing is counted.
    var end: UInt64?
    var bytesMax: UInt64 = 0
    /// Calls until a stream is looked at again, and whether a message of it came since the last
    /// look.
    var callsLeft = 0
    var hasPart = false
}

extension PostgresConnection {
    /// Key exchange, parameters, or the reason of a refusal.
    static let greetingBytesMax: UInt64 = 1 << 20
    /// What Weir asks a catalogue has an answer of kilobytes; of thousands of tables, of megabytes.
    static let answerBytesMax: UInt64 = 16 << 20
    /// All answers of one pipeline: a word for each command, and what those refused have to say.
    static let pipelineBytesMax: UInt64 = 256 << 20
    /// PostgreSQL's own limit of one message, and room for what is read ahead of it.
    static let rowBytesMax: UInt64 = (1 << 30) + (64 << 20)

    private static let streamCallsPerCheck = 64

    /// Starts the count for a new answer, or for one row of a large one.
    func beginAnswer(atMost bytesMax: UInt64) {
        answer.bytesMax = bytesMax
        answer.end = receivedBytes().map { $0 + bytesMax }
    }

    /// A part was taken; the next may have as much again. Asks nothing: what was read ahead of it
    /// is then counted once more, which only makes the limit wider.
    func endPart() { answer.hasPart = true }

    func checkAnswer() throws(PostgresFailure) {
        guard let received = receivedBytes() else { return }
        if answer.hasPart || answer.end == nil {
            answer.hasPart = false
            answer.end = received + answer.bytesMax
        }
        if let end = answer.end, received > end { throw tooMuch() }
    }

    /// The same for the stream of changes, whose loop is not slowed by a question for each read.
    func checkStream() throws(PostgresFailure) {
        answer.callsLeft -= 1
        guard answer.callsLeft < 0 else { return }
        answer.callsLeft = Self.streamCallsPerCheck
        answer.bytesMax = Self.rowBytesMax
        try checkAnswer()
    }

    private func tooMuch() -> PostgresFailure {
        PostgresFailure(
            .connection, "the server sent more than \(answer.bytesMax >> 20) MiB in one answer")
    }

    /// Since the connection was made; nil where the kernel does not say.
    private func receivedBytes() -> UInt64? {
        // `tcpi_bytes_received` of linux/tcp.h, which glibc's own header is too old to have.
        let offset = 128
        var bytes = [UInt8](repeating: 0, count: offset + MemoryLayout<UInt64>.size)
        var count = socklen_t(bytes.count)
        let code = unsafe getsockopt(descriptor, Int32(IPPROTO_TCP), TCP_INFO, &bytes, &count)
        guard code == 0, Int(count) == bytes.count else { return nil }
        return unsafe bytes.withUnsafeBytes {
            unsafe $0.loadUnaligned(fromByteOffset: offset, as: UInt64.self)
        }
    }
}
