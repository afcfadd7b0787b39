import Foundation
import NIOCore
import NIOPosix
import Synchronization
import Testing
import WeirRedisClient
import WeirTesting

@Suite(.serialized) struct ClientFaultTests {
    private func failure(
        _ body: () async throws -> Void
    ) async throws -> RedisFailure {
        try #require(await #expect(throws: RedisFailure.self) { try await body() })
    }

    @Test func aServerKilledMidFlightFailsEveryFuture() async throws {
        let server = try await RedisServer.start()
        let connection = try await RedisConnection.connect(server)
        server.pause()
        let futures = (0..<100).map { _ in connection.submit([["PING"], ["PING"]]) }
        server.kill()
        for future in futures {
            #expect(try await failure { _ = try await future.value() }.kind == .connection)
        }
        #expect(!connection.isOpen)
        let late = connection.submit([["PING"]])
        #expect(try await failure { _ = try await late.value() }.kind == .connection)
        await connection.close()
        // A new server on the same port is reached by a new connection.
        try await server.restart(keepingData: false)
        let next = try await RedisConnection.connect(server)
        #expect(try await next.command("PING") == .simple("PONG"))
    }

    @Test func aSilentServerIsGivenUpInTime() async throws {
        let server = try await RedisServer.start()
        var options = try RedisOptions(server)
        options.replyTimeout = .seconds(1)
        let connection = try await RedisConnection.connect(options)
        _ = try await connection.command("PING")
        server.pause()
        let start = ContinuousClock.now
        let futures = (0..<10).map { _ in connection.submit([["PING"]]) }
        for future in futures {
            #expect(try await failure { _ = try await future.value() }.kind == .timeout)
        }
        let elapsed = ContinuousClock.now - start
        #expect(elapsed >= .seconds(1))
        #expect(elapsed < .seconds(5))
        #expect(!connection.isOpen)
        server.resume()
    }

    @Test func theReplyTimeoutIsEachCommandsOwn() async throws {
        let server = try await RedisServer.start(settings: ["enable-debug-command": "yes"])
        var options = try RedisOptions(server)
        options.replyTimeout = .seconds(4)
        let connection = try await RedisConnection.connect(options)
        // Together longer than the limit, one by one not; the timer is armed for the first.
        for _ in 0..<9 {
            #expect(try await connection.command("DEBUG", "SLEEP", "0.5") == .simple("OK"))
        }
        #expect(connection.isOpen)
    }

    @Test func aSilentServerIsNotConnectedTo() async throws {
        let server = try await RedisServer.start()
        server.pause()
        defer { server.resume() }
        var options = try RedisOptions(server)
        options.connectTimeout = .milliseconds(200)
        let start = ContinuousClock.now
        let timeout = try await failure { _ = try await RedisConnection.connect(options) }
        #expect(timeout.kind == .timeout)
        #expect(timeout.message.hasPrefix("could not connect to 127.0.0.1:\(server.port)/0"))
        #expect(ContinuousClock.now - start < .seconds(5))
    }

    @Test func aRefusedConnectionSaysWhy() async throws {
        let port = try freePort()
        for host in ["127.0.0.1", "localhost"] {
            let url = try RedisURL("redis://u:hush@\(host):\(port)/3")
            let refused = try await failure {
                _ = try await RedisConnection.connect(RedisOptions(url: url))
            }
            #expect(refused.kind == .connection)
            #expect(
                refused.message
                    == "could not connect to \(host):\(port)/3: Connection refused")
        }
        let none = try await failure {
            let url = try RedisURL("unix:///nonexistent/socket")
            _ = try await RedisConnection.connect(RedisOptions(url: url))
        }
        #expect(none.kind == .connection)
        #expect(none.message.hasSuffix("No such file or directory"))
    }

    @Test func aHostWithoutAnAddressSaysSo() async throws {
        var options = RedisOptions(url: try RedisURL("redis://nowhere.invalid"))
        options.connectTimeout = .seconds(5)
        let failure = try await failure { _ = try await RedisConnection.connect(options) }
        // A name server that does not answer is a timeout.
        #expect([.connection, .timeout].contains(failure.kind))
        #expect(failure.message.contains("nowhere.invalid"))
    }

    @Test func aKilledClientNotices() async throws {
        let server = try await RedisServer.start()
        let connection = try await RedisConnection.connect(server)
        let id = try #require(try await connection.command("CLIENT", "ID").integer)
        #expect(connection.isOpen)
        #expect(try server.command("CLIENT", "KILL", "ID", "\(id)") == .integer(1))
        try await eventually("the connection is closed") { !connection.isOpen }
        let late = try await failure { _ = try await connection.command("PING") }
        #expect(late.kind == .connection)
    }

    @Test func closingFailsThoseWhoWaitAndMayBeRepeated() async throws {
        let server = try await RedisServer.start()
        let connection = try await RedisConnection.connect(server)
        server.pause()
        let future = connection.submit([["PING"]])
        await connection.close()
        await connection.close()
        #expect(try await failure { _ = try await future.value() }.kind == .cancelled)
        #expect(
            try await failure { _ = try await connection.command("PING") }.kind == .cancelled)
        server.resume()
    }

    @Test func aCancelledTaskDoesNotWait() async throws {
        let server = try await RedisServer.start()
        let connection = try await RedisConnection.connect(server)
        server.pause()
        for work: @Sendable () async throws -> Void in [
            { _ = try await connection.command("PING") },
            { _ = try await RedisConnection.connect(server) },
        ] {
            let task = Task { try await work() }
            task.cancel()
            let start = ContinuousClock.now
            #expect(try await failure { try await task.value }.kind == .cancelled)
            #expect(ContinuousClock.now - start < .seconds(5))
        }
        server.resume()
        // The late reply belongs to the command that nobody waits for.
        #expect(try await connection.command("ECHO", "mine").text == "mine")
        try await eventually("the other connection is gone") {
            try server.command("CLIENT", "LIST", "TYPE", "normal").text?
                .split(separator: "\n").count == 2
        }
    }

    @Test func theLastReferenceClosesWhenNothingIsInFlight() async throws {
        let server = try await RedisServer.start(settings: ["enable-debug-command": "yes"])
        func sleep() async throws -> EventLoopFuture<[RESPValue]> {
            try await RedisConnection.connect(server).submit([["DEBUG", "SLEEP", "0.3"]])
        }
        #expect(try await sleep().value() == [.simple("OK")])
        try await eventually("only this client is there") {
            try server.command("CLIENT", "LIST").text?.split(separator: "\n").count == 1
        }
    }

    @Test("Connecting and closing leaves no descriptor", arguments: [false, true])
    func descriptors(tls: Bool) async throws {
        let server = try await RedisServer.start(tls: tls)
        let options = try RedisOptions(server)
        // What is made once: threads, their pipes, the system's certificates.
        try await RedisConnection.connect(options).close()
        let before = try openDescriptors()
        for round in 0..<20 {
            let connection = try await RedisConnection.connect(options)
            if round.isMultiple(of: 2) { _ = connection.submit([["PING"]]) }
            await connection.close()
            var wrong = try RedisOptions(server, url: server.url(database: 99))
            wrong.replyTimeout = .seconds(5)
            _ = try await failure { _ = try await RedisConnection.connect(wrong) }
        }
        try await eventually("as many descriptors as before") { try openDescriptors() <= before }
    }

    private func openDescriptors() throws -> Int {
        try FileManager.default.contentsOfDirectory(atPath: "/proc/self/fd").count
    }

    /// What a peer answers to a command, and what that command and later ones get; nil is a reply.
    @Test(
        "What is no reply to us ends the connection",
        arguments: [
            ("x\r\n", .protocolError, .protocolError),
            ("$999999999999\r\n", .protocolError, .protocolError),
            ("*99999999\r\n", .protocolError, .protocolError),
            ("+PONG\r\n+MORE\r\n", nil, .protocolError),
            ("+PONG\r\nx", nil, .protocolError),
            ("+PONG\r\n-NOAUTH go away\r\n", nil, .authentication),
            ("+PONG\r\n-ERR server gone\r\n", nil, .connection),
            ("+PONG\r\n", nil, .connection),
            ("$5\r\nabc", .connection, .connection), ("", .connection, .connection),
        ] as [(String, RedisFailure.Kind?, RedisFailure.Kind)])
    func nonsense(
        bytes: String, first: RedisFailure.Kind?, later: RedisFailure.Kind
    ) async throws {
        let peer = try await ScriptedPeer.start(bytes)
        let url = try RedisURL("redis://127.0.0.1:\(peer.port)")
        let connection = try await RedisConnection.connect(RedisOptions(url: url))
        let future = connection.submit([["PING"]])
        if let first {
            #expect(try await failure { _ = try await future.value() }.kind == first)
        } else {
            #expect(try await future.value() == [.simple("PONG")])
        }
        try await eventually("the connection is closed") { !connection.isOpen }
        let late = try await failure { _ = try await connection.command("PING") }
        #expect(late.kind == later, "\(late)")
        await peer.stop()
    }
}
