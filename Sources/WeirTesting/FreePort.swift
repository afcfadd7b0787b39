import Glibc
import Synchronization

/// Ports for servers lie below Linux's ephemeral range (from 32768), so that no outgoing connection
/// takes a server's port while the server restarts.
private let ports = 20_000..<32_000

private let given = Mutex<Set<Int>>([])

/// Returns a TCP port of 127.0.0.1 that nobody listens on, each only once per process.
package func freePort() throws -> Int {
    for _ in 0..<200 {
        let port = Int.random(in: ports)
        guard given.withLock({ $0.insert(port).inserted }) else { continue }
        if try canBind(port) { return port }
    }
    throw TestingError("found no free port in \(ports)")
}

private func canBind(_ port: Int) throws -> Bool {
    let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
    guard descriptor >= 0 else { throw TestingError("could not create a socket: errno \(errno)") }
    defer { close(descriptor) }
    var reuse: Int32 = 1
    let size = socklen_t(MemoryLayout<Int32>.size)
    _ = unsafe setsockopt(descriptor, SOL_SOCKET, SO_REUSEADDR, &reuse, size)
    var address = sockaddr_in()
    address.sin_family = sa_family_t(AF_INET)
    address.sin_port = in_port_t(port).bigEndian
    address.sin_addr.s_addr = in_addr_t(0x7f00_0001).bigEndian
    return unsafe withUnsafePointer(to: &address) { pointer in
        unsafe pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
            unsafe bind(descriptor, $0, socklen_t(MemoryLayout<sockaddr_in>.size)) == 0
        }
    }
}
