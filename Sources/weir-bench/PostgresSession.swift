import WeirTesting

/// One session with a PostgreSQL server over its unix socket, for questions that come too often
/// for a `psql` each. It speaks the simple query protocol, version 3, and needs no password.
///
///     start     length 4, version 4, then pairs of strings that end in 0, and a 0
///     message   type 1, length 4 (its own and the body's), body
///     query     "Q", SQL 0
///     row       "D", columns 2, each: length 4 (-1: null), text
///     error     "E", fields: code 1, text 0; code "M" is the message
///     ready     "Z" ends every answer
struct PostgresSession: ~Copyable {
    private let socket: UnixSocket
    private var received: [UInt8] = []

    private init(_ socket: consuming UnixSocket) { self.socket = socket }

    static func open(_ server: PostgresServer, database: String) throws -> PostgresSession {
        let path = "\(server.directory)/.s.PGSQL.\(server.port)"
        guard let socket = UnixSocket(path) else {
            throw TestingError("could not connect to \"\(path)\"")
        }
        var session = PostgresSession(socket)
        let settings = "user\0postgres\0database\0\(database)\0\0"
        try session.socket.send(Self.sized([0, 3, 0, 0] + settings.utf8))
        _ = try session.rows()
        return session
    }

    /// Runs one statement and returns the rows' columns as text, a null as nil.
    mutating func query(_ sql: String) throws -> [[String?]] {
        try socket.send([UInt8(ascii: "Q")] + Self.sized(sql.utf8 + [0]))
        return try rows()
    }

    /// Reads one answer to its end.
    private mutating func rows() throws -> [[String?]] {
        var rows: [[String?]] = []
        var failure: String?
        received.removeAll(keepingCapacity: true)
        var start = 0
        while true {
            while received.count < start + 5
                || received.count < start + 1 + Self.integer(received[(start + 1)...], 4)
            {
                guard try socket.receive(into: &received) > 0 else {
                    throw TestingError(failure ?? "PostgreSQL ended the session")
                }
            }
            let end = start + 1 + Self.integer(received[(start + 1)...], 4)
            let body = received[(start + 5)..<end]
            switch received[start] {
            case UInt8(ascii: "D"): rows.append(Self.columns(body))
            case UInt8(ascii: "E"):
                let fields = body.split(separator: 0).map { String(decoding: $0, as: UTF8.self) }
                let message = fields.first { $0.hasPrefix("M") }?.dropFirst()
                failure = "PostgreSQL answered: \(message ?? "nothing")"
            case UInt8(ascii: "Z"):
                if let failure { throw TestingError(failure) }
                return rows
            default: break
            }
            start = end
        }
    }

    private static func columns(_ body: ArraySlice<UInt8>) -> [String?] {
        var rest = body.dropFirst(2)
        return (0..<integer(body, 2)).map { _ in
            let length = integer(rest, 4)
            rest = rest.dropFirst(4)
            // -1 as an unsigned number.
            if length == 0xffff_ffff { return nil }
            defer { rest = rest.dropFirst(length) }
            return String(decoding: rest.prefix(length), as: UTF8.self)
        }
    }

    private static func integer(_ bytes: ArraySlice<UInt8>, _ size: Int) -> Int {
        bytes.prefix(size).reduce(0) { $0 << 8 | Int($1) }
    }

    private static func sized(_ body: [UInt8]) -> [UInt8] {
        let length = UInt32(body.count + 4)
        return [24, 16, 8, 0].map { UInt8(truncatingIfNeeded: length >> $0) } + body
    }
}
