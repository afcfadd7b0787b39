import Foundation
import Glibc
package import WeirCore

/// Asks a running daemon over its control socket. Blocking, for the command line.
package struct ControlClient: Sendable {
    private let path: String

    /// A daemon answers from memory; longer means it is stuck.
    private static let timeoutSeconds = 5

    package init(path: String) { self.path = path }

    /// Nil when nothing listens there.
    package func status() throws(WeirError) -> StatusReport? {
        let deadline = ContinuousClock.now + .seconds(Self.timeoutSeconds)
        while true {
            guard let body = try get("/v1/status") else { return nil }
            if let body {
                do { return try StatusReport(json: body) } catch {
                    throw WeirError(
                        .controlFailed, .blocked, "the daemon's answer is not understood",
                        hint: "Is it of another version? Compare weir version with the daemon's "
                            + "log.")
                }
            }
            // Turned away without a word: many ask it at this moment.
            guard ContinuousClock.now < deadline else {
                throw failure("get an answer over", "it closes every connection")
            }
            usleep(100_000)
        }
    }

    /// - Returns: nil when nothing listens; an inner nil when the connection was closed without an
    ///   answer.
    private func get(_ target: String) throws(WeirError) -> Data?? {
        let socket = Glibc.socket(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0)
        guard socket >= 0 else { throw failure("open a socket for", Self.reason) }
        defer { close(socket) }
        var limit = timeval(tv_sec: Self.timeoutSeconds, tv_usec: 0)
        for option in [SO_RCVTIMEO, SO_SNDTIMEO] {
            unsafe setsockopt(
                socket, SOL_SOCKET, option, &limit, socklen_t(MemoryLayout<timeval>.size))
        }
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        let bytes = Array(path.utf8)
        // No daemon can listen there.
        guard bytes.count <= StateDirectory.socketPathBytesMax else { return nil }
        unsafe withUnsafeMutableBytes(of: &address.sun_path) { unsafe $0.copyBytes(from: bytes) }
        let isConnected = unsafe withUnsafePointer(to: &address) { pointer in
            unsafe pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                unsafe connect(socket, $0, socklen_t(MemoryLayout<sockaddr_un>.size)) == 0
            }
        }
        guard isConnected else {
            switch errno {
            case ENOENT, ECONNREFUSED, ENOTDIR: return nil
            case EACCES, EPERM: throw forbidden()
            default: throw failure("connect to", Self.reason)
            }
        }
        let request = Array(
            "GET \(target) HTTP/1.1\r\nHost: weir\r\nConnection: close\r\n\r\n".utf8)
        // A connection that was closed already answers with a signal otherwise.
        guard
            unsafe send(socket, request, request.count, Int32(MSG_NOSIGNAL)) == request.count
                || errno == EPIPE
        else { throw failure("ask over", Self.reason) }
        var answer = Data()
        var buffer = [UInt8](repeating: 0, count: 65_536)
        while true {
            let count = unsafe read(socket, &buffer, buffer.count)
            if count < 0 {
                guard errno != ECONNRESET else { return .some(nil) }
                throw failure("get an answer over", Self.reason)
            }
            if count == 0 { break }
            answer.append(contentsOf: buffer[..<count])
        }
        guard let end = answer.firstRange(of: Data("\r\n\r\n".utf8)) else { return .some(nil) }
        return answer[end.upperBound...]
    }

    private static var reason: String {
        errno == EAGAIN
            ? "no answer within \(timeoutSeconds) seconds" : unsafe String(cString: strerror(errno))
    }

    /// The daemon runs, or something does, and does not say how it is.
    fileprivate func failure(_ work: String, _ reason: String) -> WeirError {
        WeirError(
            .controlFailed, .blocked,
            "could not \(work) the daemon's socket \"\(path)\": \(reason)",
            detail: "Whether the pipelines run is not known.", hint: ErrorCode.controlFailed.remedy)
    }

    private func forbidden() -> WeirError {
        let folder = path.hasSuffix("/weir.sock") ? String(path.dropLast(10)) : path
        var facts = stat()
        let owner = unsafe stat(folder, &facts) == 0 ? facts.st_uid : nil
        let command = "weir status --state-dir \(folder.shellWord)"
        return WeirError(
            .controlForbidden, .blocked,
            "user \(geteuid()) may not ask the daemon over \"\(path)\"",
            detail: owner.map { "The state directory belongs to user \($0)." },
            hint: owner.map { "Ask as that user: sudo -u '#\($0)' \(command)" }
                ?? "Ask as its owner, or as root: sudo \(command)")
    }
}

extension ControlClient {
    /// A daemon that has just been started listens a moment later.
    private static let startLimit = Duration.seconds(2)

    /// What the daemon of a state directory says; nil when none runs.
    ///
    /// - Throws: when it runs and does not say how it is.
    package static func running(
        in directory: StateDirectory
    ) async throws(WeirError) -> StatusReport? {
        let client = ControlClient(path: directory.socketPath)
        let deadline = ContinuousClock.now + startLimit
        while true {
            if let report = try client.status() { return report }
            guard let pid = directory.runningPID() else { return nil }
            guard ContinuousClock.now < deadline else {
                throw client.failure("reach", "weir (pid \(pid)) runs and does not listen there")
            }
            try? await Task.sleep(for: .milliseconds(50))
        }
    }
}

extension ErrorCode {
    static let controlFailed = ErrorCode(
        "control.failed",
        meaning: "The running daemon could not be asked over its control socket, or does not "
            + "answer. Whether its pipelines run is not known.",
        remedy: "Its log, weir.log in the state directory or the service manager's, says what it "
            + "does. Where it does not answer any more: weir stop; weir start.")
    static let controlForbidden = ErrorCode(
        "control.permission",
        meaning: "The state directory belongs to another user: only its owner, and root, may ask "
            + "the daemon.",
        remedy: "Run the command as that user.")
}
