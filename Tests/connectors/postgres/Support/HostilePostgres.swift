import Foundation
import Glibc
import WeirTesting

/// Speaks PostgreSQL's protocol up to the point where it says what no real server does.
final class HostilePostgres: Sendable {
    let port: Int
    private let listener: Int32

    /// What it answers to one query; nil is for what it is not about, and gets an empty result.
    typealias Answer = @Sendable (_ sql: String) -> [UInt8]?

    /// - Parameters:
    ///   - greeting: what comes in place of the parameters and ReadyForQuery.
    ///   - isEndless: sends an answer again and again, until the connection is closed.
    init(
        greeting: [UInt8]? = nil, isEndless: Bool = false, _ answer: @escaping Answer = { _ in nil }
    ) throws {
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
        Self.detached {
            while true {
                let connection = accept(listener, nil, nil)
                if connection < 0 { return }
                Self.detached {
                    Self.serve(connection, greeting, isEndless, answer)
                    close(connection)
                }
            }
        }
    }

    deinit {
        shutdown(listener, Int32(SHUT_RDWR))
        close(listener)
    }

    var url: String { "postgresql://weir@127.0.0.1:\(port)/shop?sslmode=disable" }

    // MARK: Messages

    static func message(_ kind: Character, _ body: [UInt8]) -> [UInt8] {
        [kind.asciiValue ?? 0] + bigEndian(UInt32(body.count + 4)) + body
    }

    static func rows(_ rows: [[String]], columns: Int) -> [UInt8] {
        var description = bigEndian(UInt16(columns))
        for column in 0..<columns {
            description += Array("c\(column)\0".utf8)
            // Table, column, type text, of no fixed size, without modifier, as text.
            description += [
                0, 0, 0, 0, 0, 0, 0, 0, 0, 25, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0, 0,
            ]
        }
        var bytes = message("T", description)
        for row in rows {
            var body = bigEndian(UInt16(row.count))
            for text in row {
                body += bigEndian(UInt32(text.utf8.count))
                body += Array(text.utf8)
            }
            bytes += message("D", body)
        }
        return bytes
    }

    static func error(_ text: String) -> [UInt8] {
        message("E", Array("SERROR\0VERROR\0CXX000\0M\(text)\0H\(text)\0\0".utf8)) + ready
    }

    static func parameter(_ name: String, _ value: String) -> [UInt8] {
        message("S", Array("\(name)\0\(value)\0".utf8))
    }

    static let done = message("C", Array("SELECT 1\0".utf8)) + ready
    static let ready = message("Z", [UInt8(ascii: "I")])
    static let login = message("R", [0, 0, 0, 0])

    private static func bigEndian(_ number: some FixedWidthInteger & BitwiseCopyable) -> [UInt8] {
        unsafe withUnsafeBytes(of: number.bigEndian) { unsafe Array($0) }
    }

    // MARK: Serving

    private static func serve(
        _ connection: Int32, _ greeting: [UInt8]?, _ isEndless: Bool, _ answer: Answer
    ) {
        guard let head = read(connection, 4),
            read(connection, Int(head.reduce(UInt32(0)) { $0 << 8 | UInt32($1) }) - 4) != nil,
            write(connection, login)
        else { return }
        if let greeting {
            while write(connection, greeting), isEndless {}
            return
        }
        let parameters =
            parameter("server_version", "15.5") + parameter("server_encoding", "UTF8")
            + parameter("client_encoding", "UTF8")
        guard write(connection, parameters + message("K", Array(repeating: 0, count: 8)) + ready)
        else { return }
        while let head = read(connection, 5),
            let body = read(
                connection, Int(head.dropFirst().reduce(UInt32(0)) { $0 << 8 | UInt32($1) }) - 4)
        {
            // Both protocols of a query; the rest of the extended one says nothing new.
            guard [UInt8(ascii: "Q"), UInt8(ascii: "P")].contains(head[0]) else { continue }
            let sql = String(
                decoding: body.drop { head[0] == UInt8(ascii: "P") && $0 == 0 }.prefix { $0 != 0 },
                as: UTF8.self)
            guard let bytes = answer(sql) else {
                guard write(connection, rows([], columns: 3) + done) else { return }
                continue
            }
            repeat { guard write(connection, bytes) else { return } } while isEndless
        }
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

    private static func write(_ connection: Int32, _ bytes: [UInt8]) -> Bool {
        var done = 0
        while done < bytes.count {
            let sent = unsafe bytes.withUnsafeBytes {
                unsafe send(
                    connection, $0.baseAddress.map { unsafe $0 + done }, bytes.count - done,
                    Int32(MSG_NOSIGNAL))
            }
            if sent <= 0 { return false }
            done += sent
        }
        return true
    }

    private static func detached(_ body: @escaping @Sendable () -> Void) {
        Thread.detachNewThread(body)
    }
}
