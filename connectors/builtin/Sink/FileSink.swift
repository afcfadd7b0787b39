import Glibc
import Synchronization
package import WeirCore
import WeirFiles
import WeirJSON
import WeirValues

/// Appends one JSON line per event to a file, each line once over any crash.
///
/// The checkpoint keeps which file it was and the length it had at its position; `open` cuts off
/// what was written after it, because those events come again. A program that follows the file may
/// see such a tail twice.
///
/// A file that is moved away while it is written to is left whole, on disk, at the end of a
/// transaction, and a new one is begun in its place. A note says which file follows which, so that
/// a start finds its way though the checkpoint still tells of the one before.
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

        package static var isAppendOnly: Bool { true }
        package var claims: [String] { ["file \(Self.shortest(path))"] }

        /// The path without what leads nowhere, so that two spellings of one are known. Links are
        /// not followed: of those the lock of the file tells.
        static func shortest(_ path: String) -> String {
            let isAbsolute = path.hasPrefix("/")
            var parts: [Substring] = []
            for part in path.split(separator: "/") where part != "." {
                if part != ".." || parts.last.map({ $0 == ".." }) ?? !isAbsolute {
                    parts.append(part)
                } else if !parts.isEmpty {
                    parts.removeLast()
                }
            }
            return (isAbsolute ? "/" : "") + parts.joined(separator: "/")
        }
    }

    private let path: String
    /// However the configuration spells it.
    private var shortPath: String { Config.shortest(path) }
    private let context: ConnectorContext
    private let executor: any SerialExecutor
    package nonisolated var unownedExecutor: UnownedSerialExecutor {
        unsafe executor.asUnownedSerialExecutor()
    }
    let lines: LinesConfig
    private var encoder: LineEncoder
    private var buffer = JSONWriter(capacity: 64 << 10)
    /// Open between `open` and `close`; `flush` syncs it beside a write, on its caller's thread.
    private let file = Mutex<OutputFile?>(nil)
    /// Where the next byte goes: behind the last write that succeeded whole.
    private var length = 0
    /// The length after the last batch that ended at a boundary, and the bytes before it.
    private var boundary = 0
    private var boundaryTail = FileTail()

    /// Written out whenever this much has gathered, so that memory stays small.
    private static let chunkBytes = 256 << 10
    /// A batch of half a mebibyte makes up to three times as much of lines, behind less than a
    /// chunk: memory is given back only after more than four times this.
    private static let keptBytes = 1 << 20

    package init(_ config: Config, _ context: ConnectorContext) {
        path = config.path
        self.context = context
        executor = context.executor
        lines = config.lines
        encoder = config.lines.makeEncoder(context.notation)
    }

    package func open(at mark: SinkMark?) async throws(WeirError) -> SinkMark? {
        file.withLock { $0 = nil }
        let opened = try openOutput()
        let renamed = mark?.renamed
        let sink = renamed?.sink ?? context.name
        let kept = try await lengthWithForeignLines(
            of: opened,
            keptLength(
                of: opened, (renamed?.mark ?? mark).map { FileMark(parsing: $0.text) }, by: sink),
            closedBy: sink)
        do throws(FileFailure) {
            try opened.descriptor.truncate(to: kept)
            try FileDescriptor.syncDirectory(of: path)
            boundaryTail = try opened.tail(before: kept)
            try opened.ended(at: kept, boundaryTail)
        } catch {
            throw failed(error)
        }
        file.withLock { $0 = opened }
        length = kept
        boundary = kept
        return boundaryMark(in: opened)
    }

    private func boundaryMark(in file: OutputFile) -> SinkMark {
        FileMark(length: boundary, inode: file.inode, tail: boundaryTail, path: shortPath).sinkMark
    }

    private func openOutput() throws(WeirError) -> OutputFile {
        var held: UInt64?
        do throws(FileFailure) {
            let opened: OutputFile
            do throws(FileFailure) {
                // A file that is made now is another, though it may have the number of one that was
                // removed.
                opened = try OutputFile(
                    FileDescriptor(path: path, flags: O_RDWR | O_CREAT | O_EXCL, mode: 0o640),
                    isNew: true)
            } catch  where error.code == EEXIST {
                opened = try OutputFile(FileDescriptor(path: path, flags: O_RDWR), isNew: false)
            }
            guard opened.descriptor.lock() else {
                held = opened.inode
                throw FileFailure(busy: path)
            }
            opened.isHeld(by: title)
            return opened
        } catch {
            throw held.map(busy) ?? failed(error)
        }
    }

    /// Somebody else has the file, under whatever path.
    private func busy(_ inode: UInt64) -> WeirError {
        if let holder = OutputFile.holder(of: inode), holder != title {
            return WeirError(
                .outputBusy, .blocked,
                "\"\(path)\" is the file that \(holder) writes to",
                hint: "Give one of the two another \"path\".")
        }
        return WeirError(
            .outputBusy, .transient, "another process has \"\(path)\" open for writing",
            hint: "Weir goes on when that one ends. To see which it is: fuser -v \(path.shellWord)")
    }

    /// How much of the file that stands at the path belongs to the checkpoint.
    ///
    /// - Throws: `file.lost` where lines of the checkpoint are gone, or the file is none of ours.
    private func keptLength(
        of file: OutputFile, _ mark: FileMark?, by sink: String
    ) async throws(WeirError) -> Int {
        // No mark, or one of the file that was configured before: the engine says that the path was
        // changed.
        guard let mark, mark.path == nil || mark.path == FileMark.hash(of: shortPath) else {
            return try lengthWithoutMark(of: file)
        }
        let size: Int
        let isOurs: Bool
        do throws(FileFailure) {
            size = try file.descriptor.size()
            isOurs = mark.length <= size ? try Self.ends(file, mark) : false
        } catch {
            throw failed(error)
        }
        if !file.isNew, mark.inode == nil || mark.inode == file.inode {
            guard size >= mark.length else { throw shorter(size, than: mark.length) }
            guard isOurs else { throw rewritten(mark.length) }
            return mark.length
        }
        let note = try await context.notes.get(Self.noteKey(sink))
        // Begun by us after the one that the checkpoint tells of was moved away.
        if !file.isNew, note == Self.follows(file.inode, mark.inode) { return 0 }
        // A copy of it, as on a new disk; or both are empty.
        if isOurs, size == mark.length || mark.digest != nil && mark.length > 0 {
            return mark.length
        }
        guard size == 0 else { throw another(size, than: mark.length) }
        if note != Self.moved(mark.inode) {
            try await declareGap("was moved or removed while Weir was stopped")
        }
        return 0
    }

    /// Lines that were added while Weir was stopped, as by a pipeline of another name, come again
    /// from nowhere: they stay. What a crash left behind the mark cannot be told from them.
    private func lengthWithForeignLines(
        of file: OutputFile, _ kept: Int, closedBy sink: String
    ) async throws(WeirError) -> Int {
        let closed = try await context.notes.get(Self.closedKey(sink)) ?? ""
        if closed.isEmpty { return kept }
        // From here on a crash may leave lines of ours.
        try await context.notes.set(Self.closedKey(sink), "")
        do throws(FileFailure) {
            let size = try file.descriptor.size()
            guard !file.isNew, size > kept, closed == Self.closed(file.inode, kept) else {
                return kept
            }
            context.reports.raise(foreignLines(size - kept))
            return try Self.wholeLines(of: file, size)
        } catch {
            throw failed(error)
        }
    }

    /// Whether what stands before the mark's length is what Weir wrote there last.
    private static func ends(
        _ file: OutputFile, _ mark: FileMark
    ) throws(FileFailure) -> Bool {
        guard let digest = mark.digest else { return true }
        return try file.tail(before: mark.length).digest == digest
    }

    /// - Throws: where the file is somebody else's, such as a configuration.
    private func lengthWithoutMark(of file: OutputFile) throws(WeirError) -> Int {
        let size: Int
        do throws(FileFailure) {
            size = try file.descriptor.size()
            if try !ForeignFile.begins(file.descriptor.read(min(size, 64 << 10), at: 0)) {
                return try Self.wholeLines(of: file, size)
            }
        } catch {
            throw failed(error)
        }
        throw WeirError(
            .outputForeign, .blocked,
            "\"\(path)\" was there before and is a configuration, a database or the like",
            detail: "Weir has not touched its \(size) bytes.",
            hint: "Choose another \"path\". If the file may go: " + moveAway)
    }

    /// Where to go on in a file no mark tells of, as after `weir position set`: behind its last
    /// whole line, when what follows is the beginning of one of ours, torn by a crash.
    private static func wholeLines(
        of file: OutputFile, _ size: Int
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

    package func write(_ batches: [EventBatch]) async throws(WeirError) -> WriteOutcome {
        let file = try await current()
        buffer.removeAll()
        // What an earlier attempt left behind `length` is written over.
        var ending = Ending(at: length, tail: file.end.tail, boundary: boundary, boundaryTail)
        var delivered = 0
        var filtered = 0
        for batch in batches {
            let counts = try encoder.encode(batch, into: &buffer)
            delivered += counts.delivered
            filtered += counts.filtered
            if batch.resume != nil { ending.boundary = ending.offset + buffer.count }
            if buffer.count >= Self.chunkBytes { try writeOut(to: file, at: &ending) }
        }
        try writeOut(to: file, at: &ending)
        let isWhole: Bool
        do throws(FileFailure) {
            isWhole = try file.endsAsBefore()
            if isWhole { try file.ended(at: ending.offset, ending.tail) }
        } catch {
            throw failed(error)
        }
        // Cut since it was looked at, it has a hole now.
        guard isWhole else { throw rewritten(length) }
        let bytes = ending.offset - length
        length = ending.offset
        boundary = ending.boundary
        boundaryTail = ending.boundaryTail
        buffer.shrink(to: Self.keptBytes)
        return WriteOutcome(
            .accepted, delivered: delivered, filtered: filtered, bytes: bytes,
            mark: boundaryMark(in: file))
    }

    /// Where a write has come to.
    private struct Ending {
        var offset: Int
        var tail: FileTail
        var boundary: Int
        var boundaryTail: FileTail

        init(at offset: Int, tail: FileTail, boundary: Int, _ boundaryTail: FileTail) {
            self.offset = offset
            self.tail = tail
            self.boundary = boundary
            self.boundaryTail = boundaryTail
        }

        mutating func wrote(_ bytes: UnsafeRawBufferPointer) {
            let isBehind = boundary > offset
            if isBehind {
                boundaryTail = tail
                unsafe boundaryTail.append(
                    UnsafeRawBufferPointer(rebasing: bytes[..<(boundary - offset)]))
            }
            unsafe tail.append(bytes)
            offset += bytes.count
        }
    }

    private func writeOut(to file: OutputFile, at ending: inout Ending) throws(WeirError) {
        file.begins(upTo: ending.offset + buffer.count)
        do throws(FileFailure) {
            try unsafe buffer.withBytes { (bytes) throws(FileFailure) in
                try unsafe file.descriptor.write(bytes, at: ending.offset)
                unsafe ending.wrote(bytes)
            }
        } catch {
            throw failed(error)
        }
        buffer.removeAll()
    }

    /// Runs on the caller's thread: syncing a slow disk must not hold up writing.
    package nonisolated func flush() throws(WeirError) {
        guard let file = file.withLock({ $0 }) else { return }
        try check(file, isAlone: false)
        do throws(FileFailure) { try file.descriptor.sync() } catch { throw failed(error) }
    }

    /// Cuts off the part of a transaction at the end: it comes again, whole, and a file at rest
    /// shows no half of it.
    package func close() async {
        let open = file.withLock { $0.take() }
        guard let open else { return }
        if open.descriptor.isStill(at: path) {
            // Never longer, and never what others wrote: a file that was cut meanwhile would end in
            // NUL bytes.
            if let condition = try? open.condition(isAlone: true), condition == .whole,
                let size = try? open.descriptor.size(), size > boundary
            {
                try? open.descriptor.truncate(to: boundary)
            }
            if (try? open.descriptor.size()) == boundary {
                try? await context.notes.set(
                    Self.closedKey(context.name), Self.closed(open.inode, boundary))
            }
        } else if open.wasMoved {
            // Else the next start could not tell it from one that was removed.
            try? await context.notes.set(noteKey, Self.moved(open.inode))
        }
    }

    // MARK: A file that is moved, removed or cut

    /// The file at the path: the one that is open or, once that was moved away, a new one.
    private func current() async throws(WeirError) -> OutputFile {
        guard let open = file.withLock({ $0 }) else {
            throw WeirError(.bug, .bug, "file sink \"\(path)\" is written to before it was opened")
        }
        try check(open, isAlone: true)
        // A transaction is never split over two files.
        if length != boundary || open.descriptor.isStill(at: path) { return open }
        do throws(FileFailure) {
            try open.descriptor.sync()
        } catch {
            // What was accepted is not safe, and syncing it again would not say so.
            let failure = failed(error)
            throw WeirError(failure.code, .rewind, failure.message, hint: failure.hint)
        }
        let next = try openOutput()
        let size: Int
        do throws(FileFailure) { size = try next.descriptor.size() } catch { throw failed(error) }
        guard size == 0 else { throw another(size, than: length) }
        if open.wasMoved {
            context.log(.info, "\"\(path)\" was moved; a new file is begun in its place")
        } else {
            try await declareGap("was removed while Weir wrote to it")
        }
        do throws(FileFailure) { try FileDescriptor.syncDirectory(of: path) } catch {
            throw failed(error)
        }
        try await context.notes.set(noteKey, Self.follows(next.inode, open.inode))
        file.withLock { $0 = next }
        length = 0
        boundary = 0
        boundaryTail = FileTail()
        return next
    }

    /// Writing behind the end of a file that was cut would fill the hole with NUL bytes, and lines
    /// behind what another program wrote would look as if none were missing.
    private nonisolated func check(
        _ file: OutputFile, isAlone: Bool
    ) throws(WeirError) {
        let end = file.end
        let condition: OutputFile.Condition
        do throws(FileFailure) {
            condition = try file.condition(isAlone: isAlone)
            // One that was moved away is not touched again.
            if case .appended(let count) = condition, file.descriptor.isStill(at: path) {
                // A start would cut it off as well, as what a crash left behind.
                try file.descriptor.truncate(to: end.offset)
                try file.ended(at: end.offset, end.tail)
                context.reports.raise(foreignBytes(count))
            }
        } catch {
            throw failed(error)
        }
        switch condition {
        case .whole, .appended: break
        case .cut(let size): throw shorter(size, than: end.offset)
        case .rewritten: throw rewritten(end.offset)
        }
    }

    private var title: String { "sink \"\(context.name)\" of pipeline \"\(context.pipeline)\"" }

    private var noteKey: String { Self.noteKey(context.name) }

    private static func noteKey(_ sink: String) -> String { "file \(sink)" }

    private static func closedKey(_ sink: String) -> String { "file closed \(sink)" }

    private static func closed(_ inode: UInt64, _ length: Int) -> String { "\(inode) \(length)" }

    private static func follows(_ inode: UInt64, _ former: UInt64?) -> String {
        "\(inode) follows \(former ?? 0)"
    }

    private static func moved(_ inode: UInt64?) -> String { "\(inode ?? 0) was moved" }

    /// Once, however often it happens before the gap is resolved: so the text has no figures.
    private func declareGap(_ what: String) async throws(WeirError) {
        try await context.reports.declare(
            DeclaredGap(
                .outputLost, path,
                "\"\(path)\" \(what); the lines it had are not in the new file",
                hint: "Where it was moved as a whole, nothing is missing. Where it was emptied, "
                    + "cut, written anew or removed, its lines are gone, and Weir does not write "
                    + "them again. Then: weir gap resolve ID."))
    }

    private nonisolated func failed(_ failure: FileFailure) -> WeirError {
        if failure.code == ELOOP {
            return WeirError(
                .outputFailed, .transient,
                "\"\(path)\" is a symbolic link, which Weir does not follow",
                detail: "Who may change the link could make Weir write to any file.",
                hint: "Name the file itself under \"path\", and move it to rotate it; or take the "
                    + "link away: rm \(path.shellWord)")
        }
        return WeirError(
            .outputFailed, .transient, failure.message,
            hint: "Check the disk's free space, that the folder exists, and that Weir's user may "
                + "write there.")
    }

    private nonisolated func shorter(_ size: Int, than kept: Int) -> WeirError {
        WeirError(
            .outputLost, .blocked,
            "\"\(path)\" has \(size) bytes of the \(kept) that Weir wrote to it",
            detail:
                "It was emptied or cut, as by logrotate's copytruncate, or restored from a backup.",
            hint: "Put the lines back, or go on in a new file: " + moveAway)
    }

    private nonisolated func rewritten(_ length: Int) -> WeirError {
        WeirError(
            .outputLost, .blocked,
            "\"\(path)\" was written to by another program: what Weir wrote last, up to byte "
                + "\(length), is not there",
            detail: "Lines before that may be gone as well.",
            hint: "Put the file back as it was, or go on in a new file: " + moveAway)
    }

    private nonisolated func foreignBytes(_ count: Int) -> Finding {
        Finding(
            .outputShared, .warning, path,
            "another program added \(count) bytes to \"\(path)\"; they were cut off",
            detail: "All lines of Weir are there. The file is Weir's alone: it writes at the end "
                + "that it knows.",
            hint: "Find the program: fuser -v \(path.shellWord)")
    }

    private nonisolated func foreignLines(_ count: Int) -> Finding {
        Finding(
            .outputShared, .warning, path,
            "another program added \(count) bytes to \"\(path)\" while Weir was stopped; they stay",
            detail: "Weir goes on behind them. It may have been a pipeline of another name.",
            hint: "If they do not belong there, take them out while Weir is stopped, and move the "
                + "file away: " + moveAway)
    }

    private nonisolated func another(_ size: Int, than kept: Int) -> WeirError {
        WeirError(
            .outputLost, .blocked,
            "\"\(path)\" is another file than the one Weir wrote to, and has \(size) bytes",
            detail: "Weir wrote \(kept) bytes to the one before, and does not touch this one.",
            hint: "Put the one before back, or go on in a new file: " + moveAway)
    }

    private nonisolated var moveAway: String {
        "mv \(path.shellWord) \((path + ".old").shellWord); weir stop; weir start"
    }
}

/// Files that lines must not be added to.
private enum ForeignFile {
    /// Whether a file that begins so is a database or the like, or one JSON value over several
    /// lines, such as a configuration. Lines of other programs are none.
    static func begins(_ beginning: [UInt8]) -> Bool {
        if beginning.contains(0) { return true }
        guard beginning.first == UInt8(ascii: "{") else { return false }
        guard let end = beginning.firstIndex(of: UInt8(ascii: "\n")) else {
            // One line that is longer, or one of ours that was torn by a crash.
            let isLong = beginning.count >= 64 << 10
            return !isLong && !beginning.starts(with: #"{"id":"#.utf8)
        }
        return beginning[..<end].last != UInt8(ascii: "}")
    }
}
