import Foundation

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
        guard let socket = UnixSocket(path) else { return nil }
        var answer: [UInt8] = []
        do {
            try socket.send(
                Array("GET /v1/status HTTP/1.1\r\nHost: weir\r\nConnection: close\r\n\r\n".utf8))
            while try socket.receive(into: &answer) > 0 {}
        } catch {
            return nil
        }
        guard let end = answer.firstRange(of: Array("\r\n\r\n".utf8)) else { return nil }
        let decoder = JSONDecoder()
        decoder.keyDecodingStrategy = .convertFromSnakeCase
        return try? decoder.decode(Status.self, from: Data(answer[end.upperBound...]))
    }
}
