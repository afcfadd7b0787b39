import Foundation
import Glibc
package import WeirCore

/// Asks a running daemon over its control socket. Blocking, for the command line.
package struct ControlClient: Sendable {
    private let path: String

    /// A daemon answers from memory; longer means it is stuck.
    private static let timeoutSeconds = 5

    package init(path: String) { self.path = path }

    /// Nil when nobody listens.
    package func status() throws(WeirError) -> StatusReport? {
        guard let body = try get("/v1/status") else { return nil }
        do { return try StatusReport(json: body) } catch {
            throw WeirError(
                .controlFailed, .transient, "the daemon's answer is not understood",
                hint: "Is it of another version? Compare weir version with the daemon's log.")
        }
    }

    private func get(_ target: String) throws(WeirError) -> Data? {
        let socket = Glibc.socket(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0)
        guard socket >= 0 else { throw failure("open a socket") }
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
            if errno == ENOENT || errno == ECONNREFUSED { return nil }
            throw failure("connect to the control socket")
        }
        let request = Array(
            "GET \(target) HTTP/1.1\r\nHost: weir\r\nConnection: close\r\n\r\n".utf8)
        guard unsafe write(socket, request, request.count) == request.count else {
            throw failure("ask the daemon")
        }
        var answer = Data()
        var buffer = [UInt8](repeating: 0, count: 65_536)
        while true {
            let count = unsafe read(socket, &buffer, buffer.count)
            if count < 0 { throw failure("read the daemon's answer") }
            if count == 0 { break }
            answer.append(contentsOf: buffer[..<count])
        }
        guard let end = answer.firstRange(of: Data("\r\n\r\n".utf8)) else {
            throw failure("read the daemon's answer")
        }
        return answer[end.upperBound...]
    }

    private func failure(_ work: String) -> WeirError {
        let reason = unsafe String(cString: strerror(errno))
        return WeirError(
            .controlFailed, .transient, "could not \(work) \"\(path)\": \(reason)",
            hint: "Is the daemon stuck, or does it belong to another user?")
    }
}

extension ErrorCode {
    static let controlFailed = ErrorCode(
        "control.failed",
        meaning: "The running daemon could not be asked over its control socket.",
        remedy: "Look at its log in the state directory; its user must be yours.")
}
