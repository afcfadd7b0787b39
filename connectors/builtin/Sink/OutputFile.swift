import Glibc
import Synchronization
import WeirFiles

/// The file sink's open file, shared by writes and syncs; closed when both have let go of it. It
/// knows what Weir wrote to it, and so what others did.
final class OutputFile: Sendable {
    let descriptor: FileDescriptor
    let inode: UInt64
    /// Made when it was opened.
    let isNew: Bool
    private let written = Mutex(Written())
    private let watch: MoveWatch?
    private let sawMove = Atomic(false)

    /// What the last write that succeeded whole left behind.
    private struct Written: Sendable {
        /// Behind its last byte: the file is never shorter, unless it was cut.
        var end = 0
        /// The bytes before `end`.
        var tail = FileTail()
        /// As the file was then; nil while it is written to, and after a write that failed.
        var stamp: FileStamp?
        /// No attempt of ours has written behind this.
        var reach = 0
    }

    /// What others did to it, as far as its end shows.
    enum Condition: Equatable {
        case whole
        case cut(size: Int)
        /// As long as it was, or longer, and what Weir wrote last is not there.
        case rewritten
        /// All is there, and something of others behind it.
        case appended(bytes: Int)
    }

    init(_ descriptor: consuming FileDescriptor, isNew: Bool) throws(FileFailure) {
        self.isNew = isNew
        inode = try descriptor.inode()
        let path = descriptor.path
        let watch = MoveWatch(path: path)
        // Moved just now, the watch is of another file.
        self.watch = descriptor.isStill(at: path) ? watch : nil
        self.descriptor = descriptor
    }

    /// No longer at its path, it was moved and not removed; what became of it then is its mover's
    /// concern.
    var wasMoved: Bool {
        if watch?.sawMove() == true { sawMove.store(true, ordering: .relaxed) }
        return descriptor.hasName() || sawMove.load(ordering: .relaxed)
    }

    /// The last bytes before `length`.
    func tail(before length: Int) throws(FileFailure) -> FileTail {
        let count = min(length, FileTail.bytesMax)
        return FileTail(try descriptor.read(count, at: length - count))
    }

    /// Where the last whole write ended, and the bytes before it.
    var end: (offset: Int, tail: FileTail) {
        written.withLock { ($0.end, $0.tail) }
    }

    /// From here on others' writes cannot be told from ours, until `ended`.
    ///
    /// - Parameter reach: where it will end.
    func begins(upTo reach: Int) {
        written.withLock {
            $0.stamp = nil
            $0.reach = max($0.reach, reach)
        }
    }

    /// Whether the byte is there that the write which is under way began behind.
    func endsAsBefore() throws(FileFailure) -> Bool {
        let before = end
        guard let last = before.tail.bytes.last else { return true }
        return try descriptor.read(1, at: before.offset - 1) == [last]
    }

    func ended(at end: Int, _ tail: FileTail) throws(FileFailure) {
        let stamp = try descriptor.stamp()
        written.withLock {
            $0.end = end
            $0.tail = tail
            $0.stamp = stamp
            $0.reach = max($0.reach, end)
        }
    }

    /// One call of the kernel where nobody else wrote to it.
    ///
    /// - Parameter isAlone: no write of ours is under way.
    func condition(isAlone: Bool) throws(FileFailure) -> Condition {
        let before = written.withLock(\.self)
        let stamp = try descriptor.stamp()
        if stamp.size < before.end { return .cut(size: stamp.size) }
        if before.stamp == stamp { return .whole }
        // Beside a write, only what was written before it can be looked at.
        let tail = try tail(before: before.end)
        guard tail == before.tail else { return .rewritten }
        guard isAlone else { return .whole }
        if stamp.size > before.reach { return .appended(bytes: stamp.size - before.end) }
        // Touched, or written over with the same bytes.
        written.withLock { if $0.stamp != nil { $0.stamp = stamp } }
        return .whole
    }

    // MARK: Who has it

    /// Who has a file locked, in this process. For messages: the lock itself keeps others out.
    private static let holders = Mutex<[UInt64: String]>([:])

    static func holder(of inode: UInt64) -> String? { holders.withLock { $0[inode] } }

    /// To be called with the lock.
    func isHeld(by name: String) {
        Self.holders.withLock { $0[inode] = name }
        wasHeld.store(true, ordering: .relaxed)
    }

    private let wasHeld = Atomic(false)

    deinit {
        guard wasHeld.load(ordering: .relaxed) else { return }
        Self.holders.withLock { $0[inode] = nil }
    }
}
