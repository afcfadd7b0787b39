import WeirTesting

/// The keys of rows in a Redis server, asked for over its unix socket.
struct RedisKeys: RowStore, ~Copyable {
    private let socket: UnixSocket
    private var ids: [Int] = []
    private var request: [UInt8] = []
    private var reply: [UInt8] = []

    /// `:0` or `:1` and a line end.
    private static let replySize = 4

    init(_ server: RedisServer) throws {
        guard let socket = UnixSocket(server.socketFile) else {
            throw TestingError("could not connect to \"\(server.socketFile)\"")
        }
        self.socket = socket
    }

    mutating func present(_ ids: [Int]) throws -> Set<Int> {
        if ids != self.ids { encodeRequest(ids) }
        try socket.send(request)
        reply.removeAll(keepingCapacity: true)
        while reply.count < ids.count * Self.replySize {
            guard try socket.receive(into: &reply) > 0 else {
                throw TestingError("Redis does not answer")
            }
        }
        var present: Set<Int> = []
        for (index, id) in ids.enumerated() {
            let answer = reply[index * Self.replySize..<(index + 1) * Self.replySize]
            if answer.elementsEqual(":0\r\n".utf8) { continue }
            guard answer.elementsEqual(":1\r\n".utf8) else {
                throw TestingError("Redis answered: \(String(decoding: reply, as: UTF8.self))")
            }
            present.insert(id)
        }
        return present
    }

    private mutating func encodeRequest(_ ids: [Int]) {
        self.ids = ids
        request.removeAll(keepingCapacity: true)
        for id in ids {
            let key = RedisDatabase.keyPrefix + "\(id)"
            request += "*2\r\n$6\r\nEXISTS\r\n$\(key.utf8.count)\r\n\(key)\r\n".utf8
        }
    }
}
