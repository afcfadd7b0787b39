import NIOCore
import NIOPosix
import WeirCore
import WeirRedisClient
import WeirTesting

extension RedisOptions {
    /// Of a test server, trusting its certificate.
    init(_ server: RedisServer, query: String = "", url: String? = nil) throws {
        self.init(url: try RedisURL((url ?? server.url()) + query))
        if server.isTLS { caFile = server.certificateFile }
    }
}

extension RedisConnection {
    static func connect(
        _ server: RedisServer, query: String = "", url: String? = nil
    ) async throws -> RedisConnection {
        try await connect(RedisOptions(server, query: query, url: url))
    }

    static func connect(
        _ options: RedisOptions
    ) async throws(RedisFailure) -> RedisConnection {
        try await connect(options, on: MultiThreadedEventLoopGroup.singleton.any())
    }

    /// Commands of one part or more, sent together.
    func submit(_ commands: [[String]]) -> EventLoopFuture<[RESPValue]> {
        var bytes = ByteBuffer()
        for command in commands { bytes.writeCommand(command) }
        return submit(bytes, replies: commands.count)
    }
}
