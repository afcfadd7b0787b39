import Glibc

/// Remembers that a file was renamed, also when it was removed since: as logrotate's `compress`
/// does with what it has just moved. The kernel keeps the notice until it is asked for.
package final class MoveWatch: Sendable {
    private let number: Int32

    /// Nil where the system gives no more watches.
    ///
    /// - Parameter path: leads to the file; to be looked at again afterwards, since it may have
    ///   been moved just before.
    package init?(path: String) {
        let opened = inotify_init1(Int32(IN_NONBLOCK) | Int32(IN_CLOEXEC))
        guard opened >= 0 else { return nil }
        let events = UInt32(IN_MOVE_SELF) | UInt32(IN_DONT_FOLLOW)
        guard unsafe inotify_add_watch(opened, path, events) >= 0 else {
            close(opened)
            return nil
        }
        number = opened
    }

    deinit { close(number) }

    /// Whether it was renamed since it was last asked.
    package func sawMove() -> Bool {
        // Room for one notice; it is of the file itself, and so has no name.
        var notice = inotify_event()
        var isMoved = false
        while unsafe read(number, &notice, MemoryLayout<inotify_event>.size) > 0 {
            if notice.mask & UInt32(IN_MOVE_SELF) != 0 { isMoved = true }
        }
        return isMoved
    }
}
