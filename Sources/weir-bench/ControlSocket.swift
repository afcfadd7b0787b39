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
        guard let socket = connectUnixSocket(path) else { return nil }
        defer { close(socket) }
        let request = Array(
            "GET /v1/status HTTP/1.1\r\nHost: weir\r\nConnection: close\r\n\r\n".utf8)
        guard unsafe write(socket, request, request.count) == request.count else {
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
