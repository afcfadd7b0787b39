import Foundation
import Glibc
import Testing
import WeirMongoDBClient
import WeirTesting

/// What answers need not be a MongoDB server. Nothing it sends ends the process.
struct HostileServerTests {
    /// The frame of an answer, and what is wrong with it.
    private static func frame(
        _ body: [UInt8], opcode: Int32 = 2013, length: Int32? = nil, kind: UInt8 = 0
    ) -> [UInt8] {
        let rest = little(0) + [kind] + body
        return little(length ?? Int32(16 + rest.count)) + little(7) + little(0) + little(opcode)
            + rest
    }

    private static func little(_ number: Int32) -> [UInt8] {
        unsafe withUnsafeBytes(of: number.littleEndian) { unsafe Array($0) }
    }

    private static let fine = BSONWriter.document { $0.append("ok", int32: 1) }

    /// The document with another length at its beginning.
    private static func lying(_ length: Int) -> [UInt8] {
        little(Int32(length)) + fine.dropFirst(4)
    }

    private static let hello = BSONWriter.document {
        $0.append("ok", int32: 1)
        $0.append("isWritablePrimary", true)
        $0.append("maxWireVersion", int32: 17)
        $0.append("minWireVersion", int32: 0)
        $0.append("maxBsonObjectSize", int32: 16 << 20)
        // Believed, it would allow any length.
        $0.append("maxMessageSizeBytes", int32: .max)
        $0.append("logicalSessionTimeoutMinutes", int32: 30)
    }

    static let lies: [(String, [UInt8], String)] = [
        ("a longer document", frame(lying(fine.count + 100)), "another length"),
        ("a shorter document", frame(lying(fine.count - 1)), "another length"),
        ("a negative length", frame(lying(-1)), "another length"),
        ("no document", frame([]), "impossible length"),
        ("a huge message", frame(fine, length: 0x7FFF_FFF0), "impossible length"),
        ("a message longer than its header", frame(fine, length: 15), "impossible length"),
        ("a compressed message", frame(fine, opcode: 2012), "not agreed on"),
        ("a message of an unknown kind", frame(fine, opcode: 7), "not agreed on"),
        ("another section first", frame(fine, kind: 1), "does not begin"),
    ]

    @Test(arguments: lies.indices) func aFrameThatLiesEndsTheConnection(index: Int) throws {
        let (name, answer, reason) = Self.lies[index]
        let server = try FakeMongo(hello: Self.frame(Self.hello), answer: answer)
        let connection = try MongoConnection(
            MongoURL("mongodb://127.0.0.1:\(server.port)/?directConnection=true"), name: "test")
        let command = BSONWriter.document { $0.append("ping", int32: 1) }
        for _ in 0..<2 {
            let failure = try #require(
                #expect(throws: MongoFailure.self, "\(name)") {
                    _ = try connection.run(command, database: "admin")
                })
            #expect(failure.kind == .network, "\(name)")
            #expect(failure.message.contains(reason), "\(name): \(failure.message)")
        }
    }

    @Test func aFrameThatFitsIsTakenWholeOrInPieces() throws {
        for piece in [1, 3, 1000] {
            let server = try FakeMongo(
                hello: Self.frame(Self.hello), answer: Self.frame(Self.fine), piece: piece)
            let connection = try MongoConnection(
                MongoURL("mongodb://127.0.0.1:\(server.port)/?directConnection=true"), name: "test")
            let command = BSONWriter.document { $0.append("ping", int32: 1) }
            for _ in 0..<3 {
                let reply = try connection.run(command, database: "admin")
                #expect(unsafe reply.withBytes { unsafe Array($0) } == Self.fine)
            }
        }
    }
}

/// Answers the first message of a connection as a hello and all others with `answer`.
private final class FakeMongo: Sendable {
    let port: Int
    private let listener: Int32

    init(hello: [UInt8], answer: [UInt8], piece: Int = .max) throws {
        let listener = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        self.listener = listener
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
        var size = socklen_t(MemoryLayout<sockaddr_in>.size)
        let isBound = unsafe withUnsafeMutablePointer(to: &address) { pointer in
            unsafe pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                unsafe bind(listener, $0, size) == 0 && listen(listener, 16) == 0
                    && getsockname(listener, $0, &size) == 0
            }
        }
        guard isBound else { throw TestingError("could not listen") }
        port = Int(UInt16(bigEndian: address.sin_port))
        Thread.detachNewThread {
            while true {
                let connection = accept(listener, nil, nil)
                if connection < 0 { return }
                Thread.detachNewThread {
                    var one: Int32 = 1
                    unsafe setsockopt(connection, Int32(IPPROTO_TCP), TCP_NODELAY, &one, 4)
                    while let message = Self.message(connection) {
                        // The first hello comes as OP_QUERY, and may be answered as OP_MSG; what
                        // the library asks by itself is answered alike.
                        let text = String(decoding: message, as: UTF8.self)
                        let isHello = text.contains("ello") || text.contains("isMaster")
                        Self.send(isHello ? hello : answer, piece, connection)
                    }
                    close(connection)
                }
            }
        }
    }

    deinit {
        shutdown(listener, Int32(SHUT_RDWR))
        close(listener)
    }

    private static func message(_ connection: Int32) -> [UInt8]? {
        guard let head = read(connection, 4) else { return nil }
        let length = head.reversed().reduce(0) { $0 << 8 | Int($1) }
        return length >= 16 ? read(connection, length - 4) : nil
    }

    private static func read(_ connection: Int32, _ count: Int) -> [UInt8]? {
        var bytes = [UInt8](repeating: 0, count: count)
        var done = 0
        while done < count {
            let got = unsafe bytes.withUnsafeMutableBytes {
                unsafe recv(connection, $0.baseAddress.map { unsafe $0 + done }, count - done, 0)
            }
            if got <= 0 { return nil }
            done += got
        }
        return bytes
    }

    private static func send(_ bytes: [UInt8], _ piece: Int, _ connection: Int32) {
        var rest = bytes[...]
        while !rest.isEmpty {
            let part = Array(rest.prefix(piece))
            rest = rest.dropFirst(piece)
            _ = unsafe Glibc.send(connection, part, part.count, Int32(MSG_NOSIGNAL))
        }
    }
}
