import Glibc
import WeirTesting

/// A connection to a stream socket in the file system, closed with its end.
struct UnixSocket: ~Copyable {
    private let descriptor: Int32

    /// Nil when nobody listens.
    init?(_ path: String) {
        let bytes = Array(path.utf8)
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        let capacity = unsafe withUnsafeMutableBytes(of: &address.sun_path) { room in
            unsafe room.copyBytes(from: bytes.prefix(room.count - 1))
            return room.count
        }
        guard bytes.count < capacity else { return nil }
        let socket = Glibc.socket(
            AF_UNIX, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
        guard socket >= 0 else { return nil }
        let isConnected = unsafe withUnsafePointer(to: &address) { pointer in
            unsafe pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                unsafe connect(socket, $0, socklen_t(MemoryLayout<sockaddr_un>.size)) == 0
            }
        }
        guard isConnected else {
            close(socket)
            return nil
        }
        descriptor = socket
    }

    deinit { close(descriptor) }

    func send(_ bytes: [UInt8]) throws {
        guard unsafe write(descriptor, bytes, bytes.count) == bytes.count else {
            throw TestingError("could not send to a socket")
        }
    }

    /// Reads what is there, at least one byte, to the end of `bytes`.
    ///
    /// - Returns: how much that was; 0 when the other side has closed the connection.
    func receive(into bytes: inout [UInt8]) throws -> Int {
        let filled = bytes.count
        bytes += repeatElement(0, count: 16_384)
        let count = unsafe bytes[filled...].withUnsafeMutableBytes {
            unsafe read(descriptor, $0.baseAddress, $0.count)
        }
        bytes.removeLast(16_384 - max(count, 0))
        guard count >= 0 else { throw TestingError("could not read from a socket") }
        return count
    }
}
