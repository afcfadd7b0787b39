import Glibc
import Synchronization
package import WeirCore
import WeirFiles
import WeirJSON
import WeirValues

/// Appends one JSON line per event to a file, each line once over any crash.
///
/// The checkpoint keeps the length the file had at its position; `open` cuts off what was written
/// after it, because those events come again. A program that follows the file may see such a tail
/// twice.
package actor FileSink: SinkConnector {
    package struct Config: ConnectorConfig {
        package static let fields: [ConfigField] =
            [
                ConfigField(
                    "path", .string,
                    "The file to append to; made when it is missing. Its folder must exist.",
                    required: true, example: #""changes.jsonl""#)
            ] + LinesConfig.fields
        let path: String
        let lines: LinesConfig

        package init(_ scope: ConfigScope) throws(ConfigIssue) {
            path = scope.values.string("path") ?? ""
            if path.isEmpty || path.hasSuffix("/") || path.utf8.contains(0) {
                throw ConfigIssue(field: "path", "\"\(path)\" is no name of a file")
            }
            lines = try LinesConfig(scope)
        }

        package var claims: [String] { ["file \(path)"] }
    }

    private let path: String
    private let pipeline: String
    private let executor: any SerialExecutor
    package nonisolated var unownedExecutor: UnownedSerialExecutor {
        unsafe executor.asUnownedSerialExecutor()
    }
    private var encoder: LineEncoder
    private var buffer = JSONWriter(capacity: 64 << 10)
    /// Open between `open` and `close`; `flush` syncs it beside a write, on its caller's thread.
    private let file = Mutex<OpenFile?>(nil)
    /// Where the next byte goes: behind the last write that succeeded whole.
    private var length = 0
    /// The length after the last batch that ended at a boundary.
    private var boundary = 0

    /// Written out whenever this much has gathered, so that memory stays small.
    private static let chunkBytes = 256 << 10

    package init(_ config: Config, _ context: ConnectorContext) {
        path = config.path
        pipeline = context.pipeline
        executor = context.executor
        encoder = config.lines.makeEncoder()
    }

    package func open(at mark: SinkMark?) throws(WeirError) -> SinkMark? {
        file.withLock { $0 = nil }
        let kept: Int
        do throws(FileFailure) {
            let opened = OpenFile(
                try FileDescriptor(path: path, flags: O_RDWR | O_CREAT, mode: 0o640))
            guard opened.descriptor.lock() else { throw FileFailure(busy: path) }
            let size = try opened.descriptor.size()
            if let mark {
                kept = Int(mark.text) ?? .max
            } else {
                kept = try Self.wholeLines(of: opened, size)
            }
            if kept <= size {
                try opened.descriptor.truncate(to: kept)
                try FileDescriptor.syncDirectory(of: path)
                file.withLock { $0 = opened }
            }
        } catch {
            throw failed(error)
        }
        guard file.withLock({ $0 != nil }) else { throw shorter(than: kept) }
        length = kept
        boundary = kept
        return SinkMark("\(kept)")
    }

    /// Where to go on in a file no mark tells of, as after `weir position set`: behind its last
    /// whole line, when what follows is the beginning of one of ours, torn by a crash (FAULTS,
    /// G15).
    private static func wholeLines(
        of file: OpenFile, _ size: Int
    ) throws(FileFailure) -> Int {
        var start = size
        while start > 0 {
            let count = min(start, 64 << 10)
            let chunk = try file.descriptor.read(count, at: start - count)
            start -= chunk.count
            guard let lineEnd = chunk.lastIndex(of: UInt8(ascii: "\n")) else { continue }
            start += lineEnd + 1
            break
        }
        if start == size { return size }
        let first = try file.descriptor.read(1, at: start)
        return first == [UInt8(ascii: "{")] ? start : size
    }

    package func write(_ batches: [EventBatch]) throws(WeirError) -> WriteOutcome {
        guard let file = file.withLock({ $0 }) else {
            throw WeirError(.bug, .bug, "file sink \"\(path)\" is written to before it was opened")
        }
        buffer.removeAll()
        // What an earlier attempt left behind `length` is written over.
        var end = length
        var boundary = boundary
        var delivered = 0
        var filtered = 0
        for batch in batches {
            let counts = try encoder.encode(batch, into: &buffer)
            delivered += counts.delivered
            filtered += counts.filtered
            if batch.resume != nil { boundary = end + buffer.count }
            if buffer.count >= Self.chunkBytes { try writeOut(to: file, at: &end) }
        }
        try writeOut(to: file, at: &end)
        let bytes = end - length
        length = end
        self.boundary = boundary
        return WriteOutcome(
            .accepted, delivered: delivered, filtered: filtered, bytes: bytes,
            mark: SinkMark("\(boundary)"))
    }

    private func writeOut(to file: OpenFile, at end: inout Int) throws(WeirError) {
        let offset = end
        do throws(FileFailure) {
            try unsafe buffer.withBytes { (bytes) throws(FileFailure) in
                try unsafe file.descriptor.write(bytes, at: offset)
            }
        } catch {
            throw failed(error)
        }
        end += buffer.count
        buffer.removeAll()
    }

    /// Runs on the caller's thread: syncing a slow disk must not hold up writing.
    package nonisolated func flush() throws(WeirError) {
        guard let file = file.withLock({ $0 }) else { return }
        guard file.descriptor.isStill(at: path) else {
            throw WeirError(
                .outputLost, .blocked, "\"\(path)\" was moved or removed while Weir wrote to it",
                detail: "What was written since the last checkpoint is in the moved file only.",
                hint: "To rotate it: weir stop, move the file, "
                    + "weir position set \(pipeline) confirmed --yes, weir start.")
        }
        do throws(FileFailure) { try file.descriptor.sync() } catch { throw failed(error) }
    }

    /// Cuts off the part of a transaction at the end: it comes again, whole, and a file at rest
    /// shows no half of it.
    package func close() {
        let open = file.withLock { $0.take() }
        guard let open, open.descriptor.isStill(at: path) else { return }
        try? open.descriptor.truncate(to: boundary)
    }

    private nonisolated func failed(_ failure: FileFailure) -> WeirError {
        WeirError(
            .outputFailed, .transient, failure.message,
            hint: "Check the disk's free space, that the folder exists, and that Weir's user may "
                + "write there.")
    }

    private nonisolated func shorter(than kept: Int) -> WeirError {
        WeirError(
            .outputLost, .positionLost,
            "\"\(path)\" is shorter than the \(kept) bytes the checkpoint counts on",
            detail: "The file was moved, emptied or restored from a backup.",
            hint: "Put it back, or go on at its present end: "
                + "weir position set \(pipeline) confirmed --yes")
    }
}

/// Shared by writes and syncs; closed when both have let go of it.
private final class OpenFile: Sendable {
    let descriptor: FileDescriptor
    init(_ descriptor: consuming FileDescriptor) { self.descriptor = descriptor }
}
