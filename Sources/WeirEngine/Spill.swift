import Glibc
import Synchronization
import WeirCore
import WeirFiles

/// What one lane keeps on disk while its sink is down: a file of batches, written at the end, read
/// from the front, emptied when the sink has caught up.
///
/// One task appends, one reads, one syncs; a lock keeps them apart.
final class Spill: Sendable {
    /// Where a synced spill ends, as the checkpoint stores it.
    struct Extent: Sendable, Equatable {
        /// The last boundary the file holds.
        let end: Position
        /// The file's length there.
        let length: Int
    }

    private struct State: ~Copyable {
        var file: FileDescriptor
        var writeOffset: Int
        var readOffset: Int
        /// The last boundary appended and the length right after it.
        var extent: Extent?
    }
    private let state: Mutex<State>
    private let path: String

    private static let magic: [UInt8] = Array("WEIRSPL".utf8) + [UInt8(SpillCodec.version)]

    /// One written before an upgrade is taken up, and goes on with records of this version.
    private static func isReadable(_ head: [UInt8]) -> Bool {
        guard let version = head.last, head.dropLast() == magic.dropLast() else { return false }
        return (SpillCodec.oldestVersion...SpillCodec.version).contains(UInt32(version))
    }

    /// How much one read gives back to the lane.
    private static let readBytes = 1 << 20

    /// What is left of a disk, in bytes, and how large it is.
    typealias Space = @Sendable (borrowing FileDescriptor) -> (free: Int, total: Int)?

    /// Of a disk, the spill leaves so much to the state store, the log and others that write
    /// there: a spill that filled it would stop every pipeline.
    private static let floorMax = 64 << 20
    /// Of a small disk, this part.
    private static let floorPart = 8
    private let space: Space

    /// Opens the file and goes back to what `stored` says is safe in it.
    ///
    /// - Parameter written: what the sink holds already; earlier batches are not read again.
    /// - Throws: `positionLost` when the file does not hold what the checkpoint counts on.
    init(
        path: String, stored: Extent?, written: Position, space: @escaping Space = { $0.space }
    ) throws(WeirError) {
        self.path = path
        self.space = space
        do throws(FileFailure) {
            let file = try FileDescriptor(path: path, flags: O_RDWR | O_CREAT)
            try FileDescriptor.syncDirectory(of: path)
            guard let stored else {
                // The first append begins it: a disk that is full now must not stop the pipeline.
                try file.truncate(to: 0)
                state = Mutex(State(file: file, writeOffset: 0, readOffset: 0))
                return
            }
            guard try file.size() >= stored.length, Self.isReadable(try file.read(8, at: 0)) else {
                throw FileFailure(damaged: path)
            }
            try file.truncate(to: stored.length)
            state = Mutex(
                State(
                    file: file, writeOffset: stored.length, readOffset: Self.magic.count,
                    extent: stored))
        } catch {
            throw error.isDamage
                ? Self.lost(path)
                : WeirError(.spillFailed, .transient, error.message)
        }
        try skip(through: written)
    }

    private static func lost(_ path: String) -> WeirError {
        WeirError(
            .spillLost, .positionLost, "spill file \"\(path)\" is damaged or incomplete",
            detail:
                "It held events that were acknowledged to the source and that the sink does not "
                + "have.",
            hint: ErrorCode.spillLost.remedy)
    }

    /// Appends in order; not safe before `sync`.
    ///
    /// - Parameter memoryHas: so many of the first are delivered from memory: reading goes on
    ///   behind them.
    /// - Returns: false when the disk has no room for all of them; then it holds none.
    func append(_ batches: [EventBatch], memoryHas: Int = 0) throws(WeirError) -> Bool {
        do throws(FileFailure) {
            return try state.withLock { (state) throws(FileFailure) in
                let before = (
                    end: state.writeOffset, read: state.readOffset, extent: state.extent
                )
                do throws(FileFailure) {
                    for (index, batch) in batches.enumerated() {
                        guard try append(batch, to: &state) else {
                            try goBack(&state, to: before.end, reading: before.read, before.extent)
                            return false
                        }
                        if index < memoryHas { state.readOffset = state.writeOffset }
                    }
                    return true
                } catch {
                    // Half a record would be taken for the end of the file's.
                    try goBack(&state, to: before.end, reading: before.read, before.extent)
                    guard error.isOutOfSpace else { throw error }
                    return false
                }
            }
        } catch {
            throw WeirError(.spillFailed, .transient, error.message)
        }
    }

    private func append(
        _ batch: EventBatch, to state: inout State
    ) throws(FileFailure) -> Bool {
        let record = SpillCodec.encode(batch)
        guard hasRoom(for: record.count, in: state) else { return false }
        if state.writeOffset == 0 {
            try unsafe Self.magic.withBytes { (bytes) throws(FileFailure) in
                try unsafe state.file.write(bytes, at: 0)
            }
            state.writeOffset = Self.magic.count
            state.readOffset = Self.magic.count
        }
        let offset = state.writeOffset
        try unsafe record.withBytes { (bytes) throws(FileFailure) in
            try unsafe state.file.write(bytes, at: offset)
        }
        state.writeOffset += record.count
        if let resume = batch.resume {
            state.extent = Extent(end: resume, length: state.writeOffset)
        }
        return true
    }

    private func goBack(
        _ state: inout State, to offset: Int, reading read: Int, _ extent: Extent?
    ) throws(FileFailure) {
        try state.file.truncate(to: offset)
        state.writeOffset = offset
        state.readOffset = read
        state.extent = extent
    }

    /// Whether about so many bytes may be appended.
    func hasRoom(for bytes: Int) -> Bool { state.withLock { hasRoom(for: bytes, in: $0) } }

    private func hasRoom(for bytes: Int, in state: borrowing State) -> Bool {
        guard let space = space(state.file) else { return true }
        return space.free - bytes >= min(Self.floorMax, space.total / Self.floorPart)
    }

    /// The next batches, at most about a mebibyte; empty at the end.
    func read() throws(WeirError) -> [EventBatch] {
        try state.withLock { (state) throws(WeirError) in
            var batches: [EventBatch] = []
            var bytes = 0
            while state.readOffset < state.writeOffset, bytes < Self.readBytes {
                let (batch, length) = try record(at: state.readOffset, of: state)
                state.readOffset += length
                bytes += length
                batches.append(batch)
            }
            return batches
        }
    }

    private func record(
        at offset: Int, of state: borrowing State
    ) throws(WeirError) -> (EventBatch, length: Int) {
        do {
            let header = try state.file.read(SpillCodec.headerBytes, at: offset)
            guard header.count == SpillCodec.headerBytes else { throw Self.lost(path) }
            let length = header[0..<4].reversed().reduce(0) { $0 << 8 | Int($1) }
            let sum = header[4..<12].reversed().reduce(UInt64(0)) { $0 << 8 | UInt64($1) }
            guard length <= state.writeOffset - offset else { throw Self.lost(path) }
            let body = try state.file.read(length, at: offset + SpillCodec.headerBytes)
            guard body.count == length, SpillCodec.checksum(body) == sum else {
                throw Self.lost(path)
            }
            return (try SpillCodec.decode(body: body), SpillCodec.headerBytes + length)
        } catch let error as WeirError {
            throw error
        } catch let error as FileFailure {
            throw WeirError(.spillFailed, .transient, error.message)
        } catch {
            throw Self.lost(path)
        }
    }

    private func skip(through written: Position) throws(WeirError) {
        try state.withLock { (state) throws(WeirError) in
            while state.readOffset < state.writeOffset {
                let (batch, length) = try record(at: state.readOffset, of: state)
                guard let end = batch.end, end <= written else { return }
                state.readOffset += length
            }
        }
    }

    /// Makes everything appended durable.
    func sync() throws(WeirError) {
        do throws(FileFailure) {
            try state.withLock { (state) throws(FileFailure) in try state.file.sync() }
        } catch {
            // A failed sync may have lost what was written before.
            throw WeirError(.spillFailed, .transient, error.message)
        }
    }

    /// Empties the file. The checkpoint must no longer count on it.
    func reset() throws(WeirError) {
        do throws(FileFailure) {
            try state.withLock { (state) throws(FileFailure) in
                let start = min(state.writeOffset, Self.magic.count)
                try goBack(&state, to: start, reading: start, nil)
            }
        } catch {
            throw WeirError(.spillFailed, .transient, error.message)
        }
    }

    /// How far the file goes; durable after the next `sync`.
    var extent: Extent? { state.withLock { $0.extent } }
    var isEmpty: Bool { state.withLock { $0.writeOffset <= Self.magic.count } }
    var isFullyRead: Bool { state.withLock { $0.readOffset == $0.writeOffset } }
    var length: Int { state.withLock { $0.writeOffset } }
}

extension ErrorCode {
    static let spillFailed = ErrorCode(
        "engine.spill_failed",
        meaning: "The file that keeps events for a sink that is down could not be written or read.",
        remedy:
            "Check the disk of the state directory. Weir goes back to its checkpoint and retries.")
    static let spillLost = ErrorCode(
        "engine.spill_lost",
        meaning: "The file that kept events for a sink that was down is gone or damaged. Those "
            + "events were acknowledged to the source and cannot be read again.",
        remedy:
            "weir position set PIPELINE confirmed --yes goes on without them and declares the gap; "
            + "then compare that sink with the source.")
}
