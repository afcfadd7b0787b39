import NIOCore
package import WeirCore

/// Where a server is and how to log in, from one of
///
///     redis://[[user]:password@]host[:port][/database][?protocol=3]
///     rediss://…                                            the same over TLS
///     unix://[[user]:password@]/path[?db=database&protocol=3]
///
/// User and password are percent-encoded; an IPv6 address stands in brackets.
package struct RedisURL: Sendable, Equatable, CustomStringConvertible {
    package enum Address: Sendable, Equatable {
        case tcp(host: String, port: Int)
        case unixSocket(path: String)
    }

    package let address: Address
    package let database: Int
    package let username: String?
    package let password: Secret?
    package let isTLS: Bool
    /// 2 or 3.
    package let protocolVersion: Int

    /// - Throws: never with words of the user name or the password.
    package init(_ text: String) throws(ConfigIssue) {
        var parser = RedisURLParser(text)
        let scheme = try parser.takeScheme()
        let parts = try parser.splitAuthority()
        let (username, password) = try RedisURLParser.credentials(parts.credentials)
        self.username = username
        self.password = password.map { Secret($0, origin: "url") }
        isTLS = scheme == .rediss
        let isSocket = scheme == .unix
        let query = try RedisURLParser.query(
            parts.query, allowed: isSocket ? ["db", "protocol"] : ["protocol"])
        switch query["protocol"] {
        case nil, "2": protocolVersion = 2
        case "3": protocolVersion = 3
        default: throw RedisURLParser.issue("\"protocol\" in the URL is neither 2 nor 3")
        }
        if isSocket {
            address = .unixSocket(path: try RedisURLParser.socketPath(parts.host, parts.path))
            database = try RedisURLParser.database(query["db"].map { $0[...] } ?? "")
        } else {
            let (host, port) = try RedisURLParser.hostAndPort(parts.host)
            address = .tcp(host: host, port: port)
            database = try RedisURLParser.database(parts.path.dropFirst())
        }
    }

    /// The host name or address without brackets, or the path of the socket.
    package var host: String {
        switch address {
        case .tcp(let host, port: _): host
        case .unixSocket(let path): path
        }
    }

    /// Nil with a unix socket.
    package var port: Int? {
        if case .tcp(host: _, let port) = address { port } else { nil }
    }

    /// A unix socket or a loopback address.
    package var isLocal: Bool {
        guard case .tcp(let host, port: _) = address else { return true }
        if host.lowercased() == "localhost" { return true }
        switch try? SocketAddress(ipAddress: host, port: 0) {
        case .v4: return host.hasPrefix("127.")
        case .v6(let found):
            return (try? SocketAddress(ipAddress: "::1", port: 0)) == .v6(found)
        default: return false
        }
    }

    /// Host, port and database for messages; never user or password.
    package var place: String {
        switch address {
        case .tcp(let host, let port):
            (host.contains(":") ? "[\(host)]" : host) + ":\(port)/\(database)"
        case .unixSocket(let path): "\(path)?db=\(database)"
        }
    }

    /// The same for all the ways to this machine, so that two that lead to one place are known.
    package var commonPlace: String {
        guard case .tcp(let host, let port) = address else { return place }
        return "\(isLocal ? "localhost" : host.lowercased()):\(port)/\(database)"
    }

    package var description: String { place }
}

/// Takes a URL apart. Nothing before the last "@" is ever quoted, and nothing is quoted at all while
/// a part of the password may stand elsewhere.
private struct RedisURLParser {
    enum Scheme: String, CaseIterable { case redis, rediss, unix }

    private var rest: Substring

    init(_ text: String) { rest = text[...] }

    static func issue(_ message: String, suggestion: String? = nil) -> ConfigIssue {
        ConfigIssue(field: "url", message, suggestion: suggestion)
    }

    mutating func takeScheme() throws(ConfigIssue) -> Scheme {
        guard !rest.utf8.contains(where: { $0 <= 0x20 || $0 == 0x7f }) else {
            throw Self.issue("the URL holds a blank or a control character")
        }
        let expected = "the URL does not begin with redis://, rediss:// or unix://"
        guard let end = rest.firstRange(of: "://") else { throw Self.issue(expected) }
        let word = rest[..<end.lowerBound].lowercased()
        guard let scheme = Scheme(rawValue: word) else {
            let nearest = Scheme.allCases.map(\.rawValue).nearest(to: word)
            throw Self.issue(expected, suggestion: nearest.map { "\($0)://" })
        }
        rest = rest[end.upperBound...]
        return scheme
    }

    /// The path begins with its slash unless it is empty.
    func splitAuthority() throws(ConfigIssue) -> (
        credentials: Substring?, host: Substring, path: Substring, query: Substring?
    ) {
        let authorityEnd = rest.firstIndex { "/?#".contains($0) } ?? rest.endIndex
        let tail = rest[authorityEnd...]
        guard !tail.contains("@") else {
            throw Self.issue(
                "the URL has \"@\" behind its host; in a user name or a password, \"/\", \"?\" and "
                    + "\"#\" are written %2F, %3F and %23")
        }
        guard !tail.contains("#") else { throw Self.issue("the URL has a fragment (\"#\")") }
        let authority = rest[..<authorityEnd]
        guard authority.count(where: { $0 == "@" }) < 2 else {
            throw Self.issue(
                "the URL has \"@\" more than once before its host; in a user name or a password it is "
                    + "written %40")
        }
        let at = authority.lastIndex(of: "@")
        let host = at.map { authority[authority.index(after: $0)...] } ?? authority
        let question = tail.firstIndex(of: "?")
        return (
            at.map { authority[..<$0] }, host, tail[..<(question ?? tail.endIndex)],
            question.map { tail[tail.index(after: $0)...] }
        )
    }

    /// Without a colon it is a user name, whose password comes from elsewhere.
    static func credentials(
        _ text: Substring?
    ) throws(ConfigIssue) -> (username: String?, password: String?) {
        guard let text else { return (nil, nil) }
        let colon = text.firstIndex(of: ":") ?? text.endIndex
        let faulty = "the URL's user name or password is not percent-encoded UTF-8"
        guard let username = percentDecoded(text[..<colon]),
            let password = percentDecoded(text[colon...].dropFirst())
        else { throw issue(faulty) }
        return (username.isEmpty ? nil : username, password.isEmpty ? nil : password)
    }

    static func hostAndPort(_ text: Substring) throws(ConfigIssue) -> (String, Int) {
        var host = text
        var port: Substring?
        if text.first == "[" {
            guard let close = text.firstIndex(of: "]") else {
                throw issue("the URL's IPv6 address has no closing bracket")
            }
            host = text[text.index(after: text.startIndex)..<close]
            let behind = text[text.index(after: close)...]
            guard (try? SocketAddress(ipAddress: String(host), port: 0)) != nil,
                host.contains(":"), behind.isEmpty || behind.first == ":"
            else { throw issue("the URL's host in brackets is not an IPv6 address") }
            port = behind.isEmpty ? nil : behind.dropFirst()
        } else if let colon = text.firstIndex(of: ":") {
            host = text[..<colon]
            port = text[text.index(after: colon)...]
        }
        guard !host.isEmpty else { throw issue("the URL has no host") }
        guard host.first == "[" || host.utf8.allSatisfy(isHostByte) else {
            throw issue("the URL's host is not one host name or address")
        }
        guard let port else { return (String(host), 6379) }
        guard let number = number(port, maximum: 65_535), number > 0 else {
            throw issue("the URL's port is not a number from 1 to 65535")
        }
        return (String(host), number)
    }

    private static func isHostByte(_ byte: UInt8) -> Bool {
        switch byte {
        case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
            UInt8(ascii: "0")...UInt8(ascii: "9"):
            true
        default: "-._:".utf8.contains(byte)
        }
    }

    static func socketPath(_ host: Substring, _ path: Substring) throws(ConfigIssue) -> String {
        guard host.isEmpty, path.count > 1, let decoded = percentDecoded(path) else {
            throw issue("the URL has no absolute path of a unix socket, as in unix:///run/redis")
        }
        return decoded
    }

    /// Empty means the first database.
    static func database(_ text: Substring) throws(ConfigIssue) -> Int {
        if text.isEmpty { return 0 }
        guard let number = number(text, maximum: Int(Int32.max)) else {
            throw issue("the URL's database is not a number")
        }
        return number
    }

    static func query(
        _ text: Substring?, allowed: [String]
    ) throws(ConfigIssue) -> [String: String] {
        var found: [String: String] = [:]
        for pair in (text ?? "").split(separator: "&") {
            let equals = pair.firstIndex(of: "=") ?? pair.endIndex
            let name = String(pair[..<equals])
            guard allowed.contains(name) else {
                throw issue(
                    "the URL has an unknown parameter \"\(name)\"",
                    suggestion: allowed.nearest(to: name))
            }
            guard found.updateValue(String(pair[equals...].dropFirst()), forKey: name) == nil else {
                throw issue("the URL has the parameter \"\(name)\" twice")
            }
        }
        return found
    }

    /// Digits only: no sign, no blanks.
    private static func number(_ text: Substring, maximum: Int) -> Int? {
        guard text.utf8.allSatisfy({ UInt8(ascii: "0")...UInt8(ascii: "9") ~= $0 }),
            let number = Int(text), number <= maximum
        else { return nil }
        return number
    }

    private static func percentDecoded(_ text: Substring) -> String? {
        var bytes: [UInt8] = []
        var rest = text.utf8[...]
        while let byte = rest.popFirst() {
            guard byte == UInt8(ascii: "%") else {
                bytes.append(byte)
                continue
            }
            guard let high = rest.popFirst().flatMap(hexDigit),
                let low = rest.popFirst().flatMap(hexDigit)
            else { return nil }
            bytes.append(high << 4 | low)
        }
        return String(validating: bytes, as: UTF8.self)
    }

    private static func hexDigit(_ byte: UInt8) -> UInt8? {
        Character(UnicodeScalar(byte)).hexDigitValue.map { UInt8($0) }
    }
}
