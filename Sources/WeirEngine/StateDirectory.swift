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

    /// What every system allows in a socket's path; Linux alone would take four bytes more.
    static let socketPathBytesMax = 103

    /// Makes the folder, for us alone.
    package func create() throws(WeirError) {
        guard socketPath.utf8.count <= Self.socketPathBytesMax else {
            throw WeirError(
                .stateFailed, .blocked,
                "the socket path \"\(socketPath)\" is longer than the \(Self.socketPathBytesMax) "
                    + "bytes the system allows",
                hint: "Choose a shorter --state-dir.")
        }
        for path in [path, path + "/spill"] {
            try Self.makeDirectory(path)
            try Self.checkDirectory(path)
        }
    }

    private static func checkDirectory(_ path: String) throws(WeirError) {
        var facts = stat()
        guard unsafe stat(path, &facts) == 0, facts.st_mode & S_IFMT == S_IFDIR else {
            throw WeirError(
                .stateFailed, .blocked, "the state directory \"\(path)\" is no folder",
                hint: "Choose another --state-dir.")
        }
        let isForGroup = facts.st_mode & S_IWGRP != 0
        let rights = FolderRights(
            owner: facts.st_uid, mode: facts.st_mode,
            isGroupOurs: isForGroup && SystemGroup.isOfNoOthers(facts.st_gid))
        try rights.check(path, user: geteuid())
        guard unsafe access(path, W_OK | X_OK) == 0 else {
            throw WeirError(
                .stateFailed, .blocked,
                "user \(geteuid()) may not write to the state directory \"\(path)\"",
                hint: "Make it that user's own: chown \(geteuid()) \(path.shellWord); "
                    + "chmod 700 \(path.shellWord)")
        }
        // Some service managers make it readable for all.
        if facts.st_uid == geteuid(), facts.st_mode & 0o077 != 0 { unsafe chmod(path, 0o700) }
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
            hint: "Stop it with: weir stop --state-dir \(path.shellWord)")
    }

    /// Tries for a moment: a command that looks for the running daemon holds the lock that long.
    private func isLocked(_ file: borrowing FileDescriptor) -> Bool {
        for _ in 0..<25 {
            if file.lock() { return true }
            usleep(20_000)
        }
        return false
    }

    /// The pid of the daemon that holds the lock now; nil when none does, or when the pid in the
    /// file is not to be trusted.
    package func runningPID() -> Int32? {
        if case .daemon(let pid) = holder() { pid } else { nil }
    }

    /// The daemon to send a signal to; nil when none runs.
    ///
    /// - Throws: when somebody holds the lock, but the pid in the file may be another process's.
    package func signalTarget() throws(WeirError) -> Int32? {
        switch holder() {
        case .nobody: return nil
        case .daemon(let pid): return pid
        case .unknown:
            throw WeirError(
                .stateLocked, .blocked,
                "\"\(lockPath)\" is locked, but does not name a process of its owner",
                hint: "Find who has it open: fuser \(lockPath.shellWord)")
        }
    }

    private enum Holder {
        case nobody
        case daemon(Int32)
        case unknown
    }

    private func holder() -> Holder {
        guard let file = try? FileDescriptor(path: lockPath, flags: O_RDWR), !file.lock() else {
            return .nobody
        }
        guard let bytes = try? file.read(32, at: 0), let owner = try? file.owner(),
            let line = String(decoding: bytes, as: UTF8.self).split(separator: "\n").first,
            // Other numbers mean groups of processes, or all of them.
            let pid = Int32(line), pid > 1,
            // Whoever can write the file could stop a process of his own anyway.
            Self.user(of: pid) == owner
        else { return .unknown }
        return .daemon(pid)
    }

    /// Who runs a process; nil when there is none. The owner of its folder would be root for one
    /// that may not be dumped.
    private static func user(of pid: Int32) -> UInt32? {
        guard let file = try? FileDescriptor(path: "/proc/\(pid)/status", flags: O_RDONLY),
            let bytes = try? file.read(4096, at: 0)
        else { return nil }
        let line = String(decoding: bytes, as: UTF8.self).split(separator: "\n")
            .first { $0.hasPrefix("Uid:") }
        // Real, effective, saved and file system user.
        let words = line?.split(whereSeparator: { $0 == "\t" || $0 == " " })
        return words.flatMap { $0.count > 2 ? UInt32($0[2]) : nil }
    }
}

/// Holds the state directory for this process.
package struct StateLock: ~Copyable, Sendable {
    private let file: FileDescriptor

    init(file: consuming FileDescriptor) { self.file = file }
}
