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
        /// Lines of two sinks would mix.
        package var claims: [String] { ["standard output"] }
    }

    private let executor: any SerialExecutor
    package nonisolated var unownedExecutor: UnownedSerialExecutor {
        unsafe executor.asUnownedSerialExecutor()
    }
    private var encoder: LineEncoder
    private var buffer = JSONWriter(capacity: 64 << 10)

    /// Written out whenever this much has gathered, so that memory stays small.
    private static let chunkBytes = 256 << 10

    package init(_ config: Config, _ context: ConnectorContext) {
        executor = context.executor
        encoder = config.lines.makeEncoder()
    }

    package func open(at mark: SinkMark?) -> SinkMark? { nil }

    package func write(_ batches: [EventBatch]) throws(WeirError) -> WriteOutcome {
        buffer.removeAll()
        var delivered = 0
        var filtered = 0
        var bytes = 0
        for batch in batches {
            let counts = try encoder.encode(batch, into: &buffer)
            delivered += counts.delivered
            filtered += counts.filtered
            if buffer.count >= Self.chunkBytes { bytes += try writeOut() }
        }
        bytes += try writeOut()
        return WriteOutcome(.durable, delivered: delivered, filtered: filtered, bytes: bytes)
    }

    private func writeOut() throws(WeirError) -> Int {
        let failure = unsafe buffer.withBytes { bytes -> Int32? in
            var done = 0
            while done < bytes.count {
                let rest = unsafe UnsafeRawBufferPointer(rebasing: bytes[done...])
                let count = unsafe Glibc.write(STDOUT_FILENO, rest.baseAddress, rest.count)
                if count < 0 && errno == EINTR { continue }
                if count <= 0 { return errno }
                done += count
            }
            return nil
        }
        let count = buffer.count
        buffer.removeAll()
        guard let failure else { return count }
        let reason = unsafe String(cString: strerror(failure))
        throw WeirError(
            .outputFailed, failure == EPIPE ? .blocked : .transient,
            "could not write to standard output: \(reason)",
            hint: failure == EPIPE ? "The program that read it has ended." : nil)
    }

    package func flush() {}
    package func close() {}
}
