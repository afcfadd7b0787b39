import Foundation
import Glibc

/// The daemon's control socket, asked without starting a process.
struct ControlSocket: Sendable {
    /// The parts of weir.status/1 that the cases look at.
    struct Status: Decodable, Sendable {
        struct Pipeline: Decodable, Sendable {
            let state: String
            let sinks: [Sink]
        }

        struct Sink: Decodable, Sendable {
            let delivered: Int
            let queuedEvents: Int
        }

        let pid: Int32?
        let pipelines: [Pipeline]

        var isStreaming: Bool { pipelines.allSatisfy { $0.state == "streaming" } }
        var delivered: Int { pipelines.flatMap(\.sinks).reduce(0) { $0 + $1.delivered } }
    }

    let path: String

    /// Nil while nobody answers.
    func status() -> Status? {
        let socket = Glibc.socket(
            AF_UNIX, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
        guard socket >= 0 else { return nil }
        defer { close(socket) }
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        let bytes = Array(path.utf8)
        guard bytes.count < 108 else { return nil }
        unsafe withUnsafeMutableBytes(of: &address.sun_path) { unsafe $0.copyBytes(from: bytes) }
        let isConnected = unsafe withUnsafePointer(to: &address) { pointer in
            unsafe pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                unsafe connect(socket, $0, socklen_t(MemoryLayout<sockaddr_un>.size)) == 0
            }
        }
        let request = Array(
            "GET /v1/status HTTP/1.1\r\nHost: weir\r\nConnection: close\r\n\r\n".utf8)
        guard isConnected, unsafe write(socket, request, request.count) == request.count else {
            return nil
        }
        var answer = Data()
        var buffer = [UInt8](repeating: 0, count: 65_536)
        while true {
            let count = unsafe read(socket, &buffer, buffer.count)
            if count <= 0 { break }
            answer.append(contentsOf: buffer[..<count])
        }
        guard let end = answer.firstRange(of: Data("\r\n\r\n".utf8)) else { return nil }
        let decoder = JSONDecoder()
        decoder.keyDecodingStrategy = .convertFromSnakeCase
        return try? decoder.decode(Status.self, from: answer[end.upperBound...])
    }
}
