import Glibc
package import WeirCore
import WeirJSON
import WeirValues

/// Writes one JSON line per event to standard output. At least once: what a reader of a pipe has
/// taken cannot be taken back, but a line that comes again is the same line.
package actor StdoutSink: SinkConnector {
    package struct Config: ConnectorConfig {
        package static let fields = LinesConfig.fields
        let lines: LinesConfig
        package init(_ scope: ConfigScope) throws(ConfigIssue) { lines = try LinesConfig(scope) }
        package static var passingKeys: Set<String> { Set(fields.map(\.name)) }
        /// Lines of two sinks would mix.
        package var claims: [String] { ["standard output"] }
    }

    private let executor: any SerialExecutor
    package nonisolated var unownedExecutor: UnownedSerialExecutor {
        unsafe executor.asUnownedSerialExecutor()
    }
    let lines: LinesConfig
    private var encoder: LineEncoder
    private var buffer = JSONWriter(capacity: 64 << 10)

    /// How much of a call that failed had been written. The next call begins with the same bytes,
    /// so it goes on there: a reader sees no torn line and none twice.
    private var written = 0

    /// Written out whenever this much has gathered, so that memory stays small.
    private static let chunkBytes = 256 << 10
    /// A batch of half a mebibyte makes up to three times as much of lines, behind less than a
    /// chunk: memory is given back only after more than four times this.
    private static let keptBytes = 1 << 20

    private let descriptor: Int32
    /// Values must not command it.
    private let isTerminal: Bool

    package init(_ config: Config, _ context: ConnectorContext) {
        self.init(config, context, descriptor: STDOUT_FILENO)
    }

    /// - Parameter descriptor: borrowed; written to in the place of standard output.
    package init(_ config: Config, _ context: ConnectorContext, descriptor: Int32) {
        self.descriptor = descriptor
        isTerminal = isatty(descriptor) == 1
        executor = context.executor
        lines = config.lines
        encoder = config.lines.makeEncoder(context.notation)
    }

    package func open(at mark: SinkMark?) -> SinkMark? { nil }

    package func write(_ batches: [EventBatch]) throws(WeirError) -> WriteOutcome {
        buffer.removeAll()
        var delivered = 0
        var filtered = 0
        var bytes = 0
        for batch in batches {
            let start = buffer.count
            let counts = try encoder.encode(batch, into: &buffer)
            if isTerminal { buffer.escapeForTerminal(from: start) }
            delivered += counts.delivered
            filtered += counts.filtered
            if buffer.count >= Self.chunkBytes { try writeOut(&bytes) }
        }
        try writeOut(&bytes)
        written = 0
        buffer.shrink(to: Self.keptBytes)
        return WriteOutcome(.durable, delivered: delivered, filtered: filtered, bytes: bytes)
    }

    /// - Parameter bytes: of this call so far.
    private func writeOut(_ bytes: inout Int) throws(WeirError) {
        let descriptor = descriptor
        var done = min(max(0, written - bytes), buffer.count)
        let failure = unsafe buffer.withBytes { bytes -> Int32? in
            while done < bytes.count {
                let rest = unsafe UnsafeRawBufferPointer(rebasing: bytes[done...])
                let count = unsafe Glibc.write(descriptor, rest.baseAddress, rest.count)
                if count < 0 && errno == EINTR { continue }
                if count < 0 && errno == EAGAIN {
                    // Whoever shares the terminal made it non-blocking.
                    var item = pollfd(fd: descriptor, events: Int16(POLLOUT), revents: 0)
                    _ = unsafe poll(&item, 1, 100)
                    continue
                }
                if count <= 0 { return errno }
                done += count
            }
            return nil
        }
        written = max(written, bytes + done)
        bytes += buffer.count
        buffer.removeAll()
        guard let failure else { return }
        let reason = unsafe String(cString: strerror(failure))
        throw WeirError(
            .outputFailed, failure == EPIPE ? .blocked : .transient,
            "could not write to standard output: \(reason)",
            hint: failure == EPIPE ? "The program that read it has ended." : nil)
    }

    package func flush() {}
    package func close() {}
}
