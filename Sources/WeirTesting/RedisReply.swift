import Glibc

/// A reply in RESP2, for tests that compare bytes.
package enum RedisReply: Sendable, Equatable {
    case simple(String)
    /// The code too, such as "WRONGTYPE Operation against …".
    case error(String)
    case integer(Int)
    case bulk([UInt8])
    case array([RedisReply])
    case null

    /// The text of a simple or a bulk string.
    package var text: String? {
        switch self {
        case .simple(let text): text
        case .bulk(let bytes): String(decoding: bytes, as: UTF8.self)
        default: nil
        }
    }
}

/// A blocking connection to a unix socket, with no more than a test needs.
final class RedisSocket {
    private let descriptor: Int32
    private var received: [UInt8] = []
    private var consumed = 0

    private static let limitSeconds = 20

    init(path: String) throws {
        descriptor = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
        guard descriptor >= 0 else {
            throw TestingError("could not create a socket: \(errorText(errno))")
        }
        var limit = timeval(tv_sec: Self.limitSeconds, tv_usec: 0)
        let size = socklen_t(MemoryLayout<timeval>.size)
        for option in [SO_RCVTIMEO, SO_SNDTIMEO] {
            _ = unsafe setsockopt(descriptor, SOL_SOCKET, option, &limit, size)
        }
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        unsafe withUnsafeMutableBytes(of: &address.sun_path) {
            unsafe $0.copyBytes(from: path.utf8.prefix($0.count - 1))
        }
        let connected = unsafe withUnsafePointer(to: &address) { pointer in
            unsafe pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                unsafe connect(descriptor, $0, socklen_t(MemoryLayout<sockaddr_un>.size))
            }
        }
        guard connected == 0 else {
            throw TestingError("could not connect to \"\(path)\": \(errorText(errno))")
        }
    }

    deinit { close(descriptor) }

    func command(_ parts: [[UInt8]]) throws -> RedisReply {
        var bytes = Array("*\(parts.count)\r\n".utf8)
        for part in parts { bytes += Array("$\(part.count)\r\n".utf8) + part + Array("\r\n".utf8) }
        var sent = 0
        while sent < bytes.count {
            let count = unsafe bytes[sent...].withUnsafeBytes {
                unsafe send(descriptor, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL))
            }
            guard count > 0 else { throw TestingError("could not send: \(errorText(errno))") }
            sent += count
        }
        return try readReply()
    }

    private func readReply() throws -> RedisReply {
        let line = try readLine()
        let text = String(decoding: line.dropFirst(), as: UTF8.self)
        switch line.first {
        case UInt8(ascii: "+"): return .simple(text)
        case UInt8(ascii: "-"): return .error(text)
        case UInt8(ascii: ":"): return .integer(try number(text))
        case UInt8(ascii: "$"):
            let count = try number(text)
            if count < 0 { return .null }
            while received.count - consumed < count + 2 { try receive() }
            defer { consumed += count + 2 }
            return .bulk(Array(received[consumed..<consumed + count]))
        case UInt8(ascii: "*"):
            let count = try number(text)
            return count < 0 ? .null : .array(try (0..<count).map { _ in try readReply() })
        default: throw TestingError("not a reply: \(text)")
        }
    }

    private func number(_ text: String) throws -> Int {
        guard let number = Int(text) else { throw TestingError("not a number: \(text)") }
        return number
    }

    private func readLine() throws -> ArraySlice<UInt8> {
        while true {
            if let end = received[consumed...].firstIndex(of: UInt8(ascii: "\r")),
                end + 1 < received.count
            {
                defer { consumed = end + 2 }
                return received[consumed..<end]
            }
            try receive()
        }
    }

    private func receive() throws {
        var piece = [UInt8](repeating: 0, count: 64 << 10)
        let count = unsafe recv(descriptor, &piece, piece.count, 0)
        guard count > 0 else {
            throw TestingError(
                count == 0 ? "the server closed the connection" : "no reply: \(errorText(errno))")
        }
        received += piece[..<count]
    }
}
