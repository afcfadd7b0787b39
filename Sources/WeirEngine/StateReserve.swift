import Glibc
import WeirFiles

/// Disk space that only the state store may use: a file that is given up when the disk is full, so
/// that checkpoints go on and what waits can drain. Positions take little; without them nothing can
/// be acknowledged, and the source's own log would grow.
final class StateReserve {
    private let path: String
    private(set) var isHeld = false

    /// Twice what the store's journal grows to (`StateStore.journalPages` of 4 KiB).
    static let bytes = 2 << 20

    init(path: String) { self.path = path }

    /// Takes the space, if the disk has twice as much; else it is tried again later.
    func hold() {
        guard !isHeld, let file = try? FileDescriptor(path: path, flags: O_RDWR | O_CREAT) else {
            return
        }
        if let size = try? file.size(), size == Self.bytes {
            isHeld = true
            return
        }
        guard let space = file.space, space.free > 2 * Self.bytes else { return }
        do throws(FileFailure) {
            try file.reserve(Self.bytes)
            isHeld = true
        } catch {
            // Half a reserve would take space from those who need it now.
            try? file.truncate(to: 0)
        }
    }

    /// Gives the space back to the disk.
    ///
    /// - Returns: whether there was any.
    func release() -> Bool {
        guard isHeld, let file = try? FileDescriptor(path: path, flags: O_RDWR) else {
            return false
        }
        isHeld = false
        do throws(FileFailure) { try file.truncate(to: 0) } catch { return false }
        return true
    }
}
