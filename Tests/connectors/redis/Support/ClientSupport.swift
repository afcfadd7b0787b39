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

/// SplitMix64: the same numbers on every machine.
struct SeededRandom: RandomNumberGenerator {
    private var state: UInt64

    init(seed: UInt64) { state = seed }

    mutating func next() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        var mixed = state
        mixed = (mixed ^ (mixed >> 30)) &* 0xbf58_476d_1ce4_e5b9
        mixed = (mixed ^ (mixed >> 27)) &* 0x94d0_49bb_1331_11eb
        return mixed ^ (mixed >> 31)
    }
}
