import Glibc
import Testing
import WeirCore
import WeirTesting

@testable import WeirEngine

/// Over a real socket: what a client can cost the daemon.
@Suite(.timeLimit(.minutes(1))) struct ControlServerTests {
    private let folder: TemporaryDirectory
    private var path: String { folder.file("weir.sock") }
    init() throws { folder = try TemporaryDirectory() }

    private func start() async throws -> ControlServer {
        let server = ControlServer(path: path) {
            StatusReport(
                version: "1.2.3", isRunning: true, pid: 7, startedMicros: 1, lastSeenMicros: 2,
                pipelines: [])
        }
        try await server.start()
        return server
    }

    private func connect() throws -> Int32 {
        let connection = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0)
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        unsafe withUnsafeMutableBytes(of: &address.sun_path) {
            unsafe $0.copyBytes(from: Array(path.utf8))
        }
        var limit = timeval(tv_sec: 20, tv_usec: 0)
        unsafe setsockopt(
            connection, SOL_SOCKET, SO_RCVTIMEO, &limit, socklen_t(MemoryLayout<timeval>.size))
        let code = unsafe withUnsafePointer(to: &address) { pointer in
            unsafe pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                unsafe Glibc.connect(connection, $0, socklen_t(MemoryLayout<sockaddr_un>.size))
            }
        }
        try #require(code == 0)
        return connection
    }

    private func ask(_ connection: Int32, _ text: String) {
        let bytes = Array(text.utf8)
        _ = unsafe send(connection, bytes, bytes.count, Int32(MSG_NOSIGNAL))
    }

    /// All until the server closes; nil when it does not.
    private func readToEnd(_ connection: Int32) -> String? {
        var answer: [UInt8] = []
        var buffer = [UInt8](repeating: 0, count: 65_536)
        while true {
            let count = unsafe recv(connection, &buffer, buffer.count, 0)
            if count < 0 && errno != ECONNRESET { return nil }
            if count <= 0 { return String(decoding: answer, as: UTF8.self) }
            answer += buffer[..<count]
        }
    }

    @Test func aConnectionHasOneAnswer() async throws {
        let server = try await start()
        #expect(try ControlClient(path: path).status()?.version == "1.2.3")
        let connection = try connect()
        ask(
            connection,
            String(repeating: "GET /livez HTTP/1.1\r\nHost: x\r\n\r\n", count: 1000))
        let answer = try #require(readToEnd(connection))
        #expect(answer.ranges(of: "HTTP/1.1 200 OK").count == 1)
        #expect(answer.contains("connection: close") && answer.hasSuffix(#"{"status":"alive"}"#))
        close(connection)
        await server.stop()
    }

    @Test func aRequestWithoutEndIsCutOff() async throws {
        let server = try await start()
        let connection = try connect()
        ask(connection, "GET /livez HTTP/1.1\r\nX: " + String(repeating: "x", count: 1 << 20))
        let answer = try #require(readToEnd(connection))
        #expect(!answer.contains("alive"))
        close(connection)
        await server.stop()
    }

    @Test func manyThatWaitAreTurnedAwayAndLeaveRoom() async throws {
        let server = try await start()
        let waiting = try (0..<32).map { _ in try connect() }
        // They are accepted in order.
        let surplus = try connect()
        #expect(readToEnd(surplus) == "")
        // One that was turned away asks again until there is room.
        let client = ControlClient(path: path)
        let asked = Task.detached { try client.status()?.version }
        for connection in waiting + [surplus] { close(connection) }
        #expect(try await asked.value == "1.2.3")
        await server.stop()
    }

    @Test func aDaemonThatDoesNotListenIsNotTakenForOneThatIsDown() async throws {
        let directory = StateDirectory(folder.path)
        #expect(try await ControlClient.running(in: directory) == nil)
        let lock = try directory.lock()
        do throws(WeirError) {
            let report = try await ControlClient.running(in: directory)
            Issue.record("\(String(describing: report))")
        } catch {
            #expect(error.code.name == "control.failed" && error.disposition == .blocked)
            #expect(error.message.contains("weir (pid \(getpid())) runs and does not listen"))
        }
        withExtendedLifetime(lock) {}
    }
}
