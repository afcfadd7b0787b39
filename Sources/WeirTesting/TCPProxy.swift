import Foundation
import Glibc
import Synchronization

/// A proxy between a client and a server of a test, which can lose what is sent while both ends
/// believe their connection to be well: TCP itself is answered, as a load balancer does.
package final class TCPProxy: Sendable {
    package let port: Int
    private let target: Int
    private let listener: Int32
    private let state = Mutex(State())

    private struct State {
        var pairs: [Pair] = []
        var losesNew = false
    }

    private struct Pair {
        let client: Int32
        let server: Int32
        var isLost = false
    }

    private static let bufferBytes = 1 << 16

    /// - Parameter target: a port of 127.0.0.1.
    package init(to target: Int) throws {
        self.target = target
        port = try freePort()
        listener = try Self.makeSocket()
        let isListening = unsafe Self.withAddress(port) { address, size in
            unsafe bind(listener, address, size) == 0
        }
        guard isListening, listen(listener, 64) == 0 else {
            close(listener)
            throw TestingError("could not listen on port \(port): errno \(errno)")
        }
        Thread.detachNewThread { [weak self, listener] in
            while let pairs = self?.pairs {
                Self.wait(listener, pairs)
                self?.step()
            }
        }
    }

    deinit {
        close(listener)
        for pair in state.withLock({ $0.pairs }) {
            close(pair.client)
            close(pair.server)
        }
    }

    /// From now on the connections there are lose what either end sends, and stay open.
    ///
    /// - Parameter new: whether connections that are made later do too.
    package func lose(new: Bool = false) {
        state.withLock { state in
            state.losesNew = new
            for index in state.pairs.indices { state.pairs[index].isLost = true }
        }
    }

    /// Connections that are made from now on are well.
    package func heal() { state.withLock { $0.losesNew = false } }

    // MARK: The thread

    private var pairs: [Pair] { state.withLock { $0.pairs } }

    /// Until there is something to do, for a moment.
    private static func wait(_ listener: Int32, _ pairs: [Pair]) {
        var items = ([listener] + pairs.flatMap { [$0.client, $0.server] })
            .map { pollfd(fd: $0, events: Int16(POLLIN), revents: 0) }
        _ = unsafe poll(&items, nfds_t(items.count), 20)
    }

    private func step() {
        if Self.isReadable(listener) { accept() }
        var ended: [Int32] = []
        for pair in pairs {
            let isGood =
                Self.move(from: pair.client, to: pair.server, isLost: pair.isLost)
                && Self.move(from: pair.server, to: pair.client, isLost: pair.isLost)
            if !isGood {
                close(pair.client)
                close(pair.server)
                ended.append(pair.client)
            }
        }
        state.withLock { state in state.pairs.removeAll { ended.contains($0.client) } }
    }

    private func accept() {
        let client = Glibc.accept(listener, nil, nil)
        guard client >= 0 else { return }
        guard let server = try? Self.makeSocket() else {
            close(client)
            return
        }
        let isConnected = unsafe Self.withAddress(target) { address, size in
            unsafe connect(server, address, size) == 0
        }
        guard isConnected else {
            close(client)
            close(server)
            return
        }
        state.withLock { state in
            state.pairs.append(Pair(client: client, server: server, isLost: state.losesNew))
        }
    }

    /// False at the end of the connection. What is lost keeps the other end open: it learns of
    /// nothing.
    private static func move(from: Int32, to: Int32, isLost: Bool) -> Bool {
        guard isReadable(from) else { return true }
        var buffer = [UInt8](repeating: 0, count: bufferBytes)
        let count = unsafe recv(from, &buffer, buffer.count, 0)
        guard count > 0 else {
            guard isLost else { return false }
            usleep(1000)
            return true
        }
        if isLost { return true }
        var sent = 0
        while sent < count {
            let more = unsafe buffer.withUnsafeBytes {
                unsafe send(
                    to, $0.baseAddress.map { unsafe $0 + sent }, count - sent,
                    Int32(MSG_NOSIGNAL))
            }
            guard more > 0 else { return false }
            sent += more
        }
        return true
    }

    private static func isReadable(_ descriptor: Int32) -> Bool {
        var item = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
        return unsafe poll(&item, 1, 0) > 0
    }

    private static func makeSocket() throws -> Int32 {
        let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
        guard descriptor >= 0 else { throw TestingError("could not make a socket: errno \(errno)") }
        return descriptor
    }

    private static func withAddress(
        _ port: Int, _ body: (UnsafePointer<sockaddr>, socklen_t) -> Bool
    ) -> Bool {
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_port = in_port_t(port).bigEndian
        address.sin_addr.s_addr = in_addr_t(0x7f00_0001).bigEndian
        return unsafe withUnsafePointer(to: &address) { pointer in
            unsafe pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                unsafe body($0, socklen_t(MemoryLayout<sockaddr_in>.size))
            }
        }
    }
}
