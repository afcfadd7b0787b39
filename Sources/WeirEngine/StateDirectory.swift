import Glibc
package import WeirCore
import WeirFiles

/// The private folder of one daemon: state store, lock and pid, socket, log, spills.
package struct StateDirectory: Sendable {
    package let path: String

    /// - Parameter path: from `--state-dir`, else `$STATE_DIRECTORY`, else `$XDG_STATE_HOME/weir`,
    ///   else `~/.local/state/weir`.
    package init(_ path: String) { self.path = path }

    package var databasePath: String { path + "/state.sqlite" }
    package var lockPath: String { path + "/weir.pid" }
    package var socketPath: String { path + "/weir.sock" }
    package var logPath: String { path + "/weir.log" }
    var reservePath: String { path + "/state.reserve" }

    /// Whether a daemon ever ran here.
    package var hasStore: Bool { unsafe access(databasePath, F_OK) == 0 }

    func spillPath(pipeline: String, sink: String) -> String {
        path + "/spill/\(pipeline).\(sink).spill"
    }

    /// Removes what a pipeline's lanes left on disk.
    package func removeSpills(of pipeline: String, sinks: [String]) {
        for sink in sinks { unsafe unlink(spillPath(pipeline: pipeline, sink: sink)) }
    }

    /// What Linux allows in a socket's path, with its final NUL.
    private static let socketPathBytesMax = 108

    /// Makes the folder, for us alone.
    package func create() throws(WeirError) {
        guard socketPath.utf8.count < Self.socketPathBytesMax else {
            throw WeirError(
                .stateFailed, .blocked,
                "the socket path \"\(socketPath)\" is longer than the \(Self.socketPathBytesMax - 1) "
                    + "bytes the system allows",
                hint: "Choose a shorter --state-dir.")
        }
        try Self.makeDirectory(path)
        try Self.makeDirectory(path + "/spill")
    }

    private static func makeDirectory(_ path: String) throws(WeirError) {
        let parts = path.split(separator: "/")
        var prefix = path.hasPrefix("/") ? "" : "."
        for part in parts {
            prefix += "/" + part
            if unsafe mkdir(prefix, 0o700) != 0 && errno != EEXIST && errno != EISDIR {
                let reason = unsafe String(cString: strerror(errno))
                throw WeirError(
                    .stateFailed, .blocked, "could not create \"\(prefix)\": \(reason)",
                    hint: "Choose another --state-dir, or create it for Weir's user.")
            }
        }
    }

    /// Keeps a second process out until the value is gone; the kernel frees it with the process.
    package func lock() throws(WeirError) -> StateLock {
        do throws(FileFailure) {
            let file = try FileDescriptor(path: lockPath, flags: O_RDWR | O_CREAT)
            if isLocked(file) {
                try file.truncate(to: 0)
                let text = Array("\(getpid())\n".utf8)
                try unsafe text.withBytes { (bytes) throws(FileFailure) in
                    try unsafe file.write(bytes, at: 0)
                }
                return StateLock(file: file)
            }
        } catch {
            throw WeirError(
                .stateFailed, .blocked, error.message,
                hint: "Check the owner and the rights of the state directory.")
        }
        let pid = runningPID().map { " (pid \($0))" } ?? ""
        throw WeirError(
            .stateLocked, .blocked, "another weir\(pid) uses the state directory \"\(path)\"",
            hint: "Stop it with: weir stop --state-dir \(path)")
    }

    /// Tries for a moment: a command that looks for the running daemon holds the lock that long.
    private func isLocked(_ file: borrowing FileDescriptor) -> Bool {
        for _ in 0..<25 {
            if file.lock() { return true }
            usleep(20_000)
        }
        return false
    }

    /// The pid of the daemon that holds the lock now; nil when none does.
    package func runningPID() -> Int32? {
        guard let file = try? FileDescriptor(path: lockPath, flags: O_RDWR), !file.lock() else {
            return nil
        }
        guard let bytes = try? file.read(32, at: 0) else { return nil }
        let text = String(decoding: bytes, as: UTF8.self)
        return text.split(separator: "\n").first.flatMap { Int32($0) }
    }
}

/// Holds the state directory for this process.
package struct StateLock: ~Copyable, Sendable {
    private let file: FileDescriptor

    init(file: consuming FileDescriptor) { self.file = file }
}
