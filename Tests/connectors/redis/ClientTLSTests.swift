import Testing
import WeirTesting

@testable import WeirRedisClient

/// Chain and host name are always verified; there is no setting that turns it off.
struct ClientTLSTests {
    @Test(arguments: ["localhost", "127.0.0.1"], [2, 3])
    func aVerifiedServerIsTaken(host: String, protocolVersion: Int) async throws {
        let server = try await RedisServer.start(password: "pw", tls: true)
        let connection = try await RedisConnection.connect(
            server, query: "?protocol=\(protocolVersion)", url: server.url(host: host))
        let value = String(repeating: "x", count: 5 << 20)
        _ = try await connection.command("SET", "k", value)
        #expect(try await connection.command("GET", "k").text == value)
        #expect(try server.get("k")?.count == value.utf8.count)
        await connection.close()
        #expect(!connection.isOpen)
    }

    private func failure(_ options: RedisOptions) async throws -> RedisFailure {
        try #require(
            await #expect(throws: RedisFailure.self) {
                try await RedisConnection.connect(options)
            })
    }

    @Test func anotherAuthorityIsRefused() async throws {
        let server = try await RedisServer.start(tls: true)
        let folder = try TemporaryDirectory()
        var options = try RedisOptions(server)
        options.caFile = try RedisServer.makeCertificate("other", in: folder)
        let other = try await failure(options)
        #expect(other.kind == .tls)
        #expect(other.message.contains("no trusted authority"), "\(other.message)")
        options.caFile = nil
        let untrusted = try await failure(options)
        #expect(untrusted.kind == .tls, "\(untrusted)")
        options.caFile = folder.file("none.crt")
        let none = try await failure(options)
        #expect(none.kind == .tls)
        #expect(none.message.contains("none.crt"))
        options.caFile = try folder.write("no certificate", to: "empty.crt")
        #expect(try await failure(options).kind == .tls)
    }

    @Test(
        "A certificate for another host is refused",
        arguments: [
            ("DNS:other.example,IP:127.0.0.2", "localhost"),
            // The address is only what the name server says the host has.
            ("DNS:other.example,IP:127.0.0.1", "localhost"), ("IP:127.0.0.1", "localhost"),
            ("DNS:other.example,IP:127.0.0.2", "127.0.0.1"),
            ("DNS:localhost", "127.0.0.1"), ("DNS:127.0.0.1", "127.0.0.1"),
        ])
    func wrongHost(names: String, host: String) async throws {
        let server = try await RedisServer.start(tls: true, certificateNames: names)
        let refused = try await failure(RedisOptions(server, url: server.url(host: host)))
        #expect(refused.kind == .tls)
        #expect(refused.message.contains("another host"), "\(refused.message)")
    }

    @Test(arguments: [
        ("cache.example", "cache.example", true), ("Cache.Example", "cache.example.", true),
        ("*.example", "cache.example", true), ("*.EXAMPLE", "cache.example", true),
        ("*.example", "example", false), ("*.example", ".example", false),
        ("*.example", "a.cache.example", false), ("c*.example", "cache.example", false),
        ("*", "localhost", false), ("*.", "localhost.", false), ("", "", false),
        ("*.*.example", "a.*.example", false), ("cache.example.org", "cache.example", false),
    ])
    func aNameOfACertificateIsWholeOrLacksItsFirstLabel(
        pattern: String, name: String, isMatch: Bool
    ) {
        #expect(CertificateNames.matches(pattern, name) == isMatch)
    }

    @Test func aPlainPortIsRefused() async throws {
        let server = try await RedisServer.start()
        var options = try RedisOptions(server, url: "rediss://127.0.0.1:\(server.port)")
        // Without a line end among its random bytes the server waits for the rest of our hello.
        options.connectTimeout = .seconds(2)
        let refused = try await failure(options)
        #expect([.tls, .timeout, .connection].contains(refused.kind), "\(refused)")
        #expect(refused.message.hasPrefix("could not connect to 127.0.0.1:\(server.port)/0: "))
    }

    @Test func aTLSPortIsToldFromAPlainOne() async throws {
        let server = try await RedisServer.start(tls: true)
        let refused = try await failure(
            RedisOptions(server, url: "redis://127.0.0.1:\(server.port)"))
        // The server closes with what it did not read, which may take its alert away.
        #expect(
            refused.kind == .connection
                || refused.kind == .protocolError && refused.message.contains("speaks TLS"),
            "\(refused)")
    }

    @Test func aServerThatDiesMidFlightFailsEveryFuture() async throws {
        let server = try await RedisServer.start(tls: true)
        let connection = try await RedisConnection.connect(server)
        server.pause()
        let futures = (0..<10).map { _ in connection.submit([["PING"], ["PING"]]) }
        server.kill()
        for future in futures {
            let failure = await #expect(throws: RedisFailure.self) { try await future.value() }
            #expect(failure?.kind == .connection)
        }
        #expect(!connection.isOpen)
    }

    @Test func aSilentServerIsClosedInTime() async throws {
        let server = try await RedisServer.start(tls: true)
        var options = try RedisOptions(server)
        options.replyTimeout = .milliseconds(200)
        let connection = try await RedisConnection.connect(options)
        server.pause()
        let failure = await #expect(throws: RedisFailure.self) {
            try await connection.command("PING")
        }
        #expect(failure?.kind == .timeout)
        #expect(!connection.isOpen)
        // It does not wait for the farewell of one who does not answer.
        let elapsed = await ContinuousClock().measure { await connection.close() }
        #expect(elapsed < .seconds(5))
        server.resume()
    }
}
