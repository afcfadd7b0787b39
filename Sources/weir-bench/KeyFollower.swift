import Glibc
import WeirTesting

/// Asks a Redis server, over its unix socket, which of the next rows it holds, and notes when.
///
/// Rows come nearly in the order of their ids: it asks for the few that were passed over and for
/// some more. The questions take a part of a core, and of the Redis server's.
struct KeyFollower: CommitFollower, ~Copyable {
    /// Microseconds since 1970 at which each id was there.
    private(set) var seen: [Int: Int64] = [:]
    private let socket: Int32
    private var awaited: [Int]
    private var nextID: Int
    private var request: [UInt8] = []
    private var reply: [UInt8] = []

    /// More than the clients that may pass one another. It may be fewer than arrive at once: after
    /// each find it looks again without sleeping.
    private static let awaitedCount = 4 * SteadyLoad.clients
    /// `:0` or `:1` and a line end.
    private static let replySize = 4

    /// Begins with the id 1.
    init(_ socketFile: String) throws {
        guard let socket = connectUnixSocket(socketFile) else {
            throw TestingError("could not connect to \"\(socketFile)\"")
        }
        self.socket = socket
        nextID = Self.awaitedCount + 1
        awaited = Array(1..<nextID)
        reply = [UInt8](repeating: 0, count: Self.awaitedCount * Self.replySize)
        encodeRequest()
    }

    deinit { close(socket) }

    var count: Int { seen.count }

    mutating func look() throws {
        try ask()
        let now = microsNow()
        var isNew = false
        for (index, id) in awaited.enumerated() {
            let answer = reply[index * Self.replySize..<(index + 1) * Self.replySize]
            if answer.elementsEqual(":0\r\n".utf8) { continue }
            guard answer.elementsEqual(":1\r\n".utf8) else {
                throw TestingError("Redis answered: \(String(decoding: reply, as: UTF8.self))")
            }
            isNew = true
            seen[id] = now
            awaited[index] = nextID
            nextID += 1
        }
        if isNew { encodeRequest() } else { usleep(100) }
    }

    /// Sends the request, and fills `reply`.
    private mutating func ask() throws {
        guard unsafe write(socket, request, request.count) == request.count else {
            throw TestingError("could not send to Redis")
        }
        var filled = 0
        while filled < reply.count {
            let count = unsafe reply[filled...].withUnsafeMutableBytes {
                unsafe read(socket, $0.baseAddress, $0.count)
            }
            guard count > 0 else { throw TestingError("Redis does not answer") }
            filled += count
        }
    }

    private mutating func encodeRequest() {
        request.removeAll(keepingCapacity: true)
        for id in awaited {
            let key = RedisDatabase.keyPrefix + "\(id)"
            request += "*2\r\n$6\r\nEXISTS\r\n$\(key.utf8.count)\r\n\(key)\r\n".utf8
        }
    }
}
