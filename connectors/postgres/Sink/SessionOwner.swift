import Glibc

/// The process that made a session: only when it has ended is the session it left behind a ghost.
///
/// A state directory may have been copied, and the other daemon may live, on this host or another.
/// So a process counts as ended only where this one could see it if it lived.
struct SessionOwner: Equatable {
    /// Of the running kernel, and the process namespace below it.
    let host: String
    let pid: Int32
    /// When the process began, in ticks since the kernel did: tells processes of one number apart.
    let began: String

    /// Nil where the system does not tell.
    static let current: SessionOwner? = {
        let pid = getpid()
        guard let host = Self.thisHost, let began = Self.beginning(of: pid) else { return nil }
        return SessionOwner(host: host, pid: pid, began: began)
    }()

    private init(host: String, pid: Int32, began: String) {
        self.host = host
        self.pid = pid
        self.began = began
    }

    /// - Parameter text: a `description`.
    init?(parsing text: some StringProtocol) {
        let parts = text.split(separator: " ")
        guard parts.count == 3, let pid = Int32(parts[1]) else { return nil }
        self.init(host: String(parts[0]), pid: pid, began: String(parts[2]))
    }

    var description: String { "\(host) \(pid) \(began)" }

    /// Whether it lives no longer, for certain, or is this process.
    var hasLeft: Bool {
        if self == Self.current { return true }
        guard host == Self.thisHost else { return false }
        return hasLeft(
            beginning: Self.beginning(of: pid),
            // Of a process of another user this is EPERM.
            exists: kill(pid, 0) == 0 || errno != ESRCH)
    }

    /// - Parameter beginning: of the process that has the number now; nil where there is none, and
    ///   where the system hides it (`hidepid`, or systemd's `ProtectProc=`).
    func hasLeft(beginning: String?, exists: Bool) -> Bool {
        beginning.map { $0 != began } ?? !exists
    }

    private static let thisHost: String? = {
        guard let boot = file("/proc/sys/kernel/random/boot_id") else { return nil }
        var link = [UInt8](repeating: 0, count: 64)
        let count = unsafe link.withUnsafeMutableBytes { bytes in
            guard let start = bytes.baseAddress else { return 0 }
            return unsafe readlink(
                "/proc/self/ns/pid", start.assumingMemoryBound(to: CChar.self), bytes.count)
        }
        guard count > 0 else { return nil }
        let space = String(decoding: link.prefix(count), as: UTF8.self)
        return boot.filter { !$0.isWhitespace } + "/" + space.filter { !$0.isWhitespace }
    }()

    /// Field 22 of `/proc/PID/stat`; the second is a name in parentheses that may hold blanks.
    private static func beginning(of pid: Int32) -> String? {
        guard let text = file("/proc/\(pid)/stat"), let end = text.lastIndex(of: ")") else {
            return nil
        }
        let fields = text[text.index(after: end)...].split(separator: " ")
        return fields.count > 19 ? String(fields[19]) : nil
    }

    private static func file(_ path: String) -> String? {
        let file = unsafe open(path, O_RDONLY | O_CLOEXEC)
        guard file >= 0 else { return nil }
        defer { close(file) }
        var bytes = [UInt8](repeating: 0, count: 4096)
        let count = unsafe read(file, &bytes, bytes.count)
        return count > 0 ? String(decoding: bytes.prefix(count), as: UTF8.self) : nil
    }
}
