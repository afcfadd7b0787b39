import Glibc

/// The file of counters in shared memory that libmongoc makes as soon as it is loaded, and removes
/// when its process ends well.
enum LibraryCounters {
    /// Removes the file's name, so that a process that is killed leaves nothing behind.
    @Sendable static func hide() {
        _ = unsafe shm_unlink("/mongoc-\(getpid())")
    }
}
