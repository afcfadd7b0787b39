import CLibPQ
import Glibc
package import WeirCore

/// A PostgreSQL URL or key=value string, taken apart by libpq itself.
package struct ConnectionString: Sendable {
    /// The keys of a connection in the configuration.
    package static let fields: [ConfigField] = [
        ConfigField(
            "url", .secret,
            "Where the server is and how to log in, as a libpq URL. TLS is what its sslmode says; "
                + "anything weaker than verify-full is warned of unless the server is on this host.",
            required: true, example: #"{ "env": "SHOP_URL" }"#)
    ]

    /// Keywords in libpq's order, without those left out.
    package let options: [(keyword: String, value: String)]

    /// - Throws: libpq's own words; never the string, which may hold a password.
    package init(_ text: String) throws(ConfigIssue) {
        try Self.checkCredentials(text)
        var problem: UnsafeMutablePointer<CChar>?
        guard let list = unsafe PQconninfoParse(text, &problem) else {
            defer { unsafe PQfreemem(problem) }
            let reason = unsafe problem.map { unsafe String(cString: $0) } ?? "out of memory"
            throw ConfigIssue(
                field: "url", "not a PostgreSQL connection URL: \(Self.redacted(reason, text))")
        }
        defer { unsafe PQconninfoFree(list) }
        var options: [(keyword: String, value: String)] = []
        var item = unsafe list
        while let keyword = unsafe item.pointee.keyword {
            if let value = unsafe item.pointee.val {
                unsafe options.append((String(cString: keyword), String(cString: value)))
            }
            unsafe item += 1
        }
        self.options = options
        for port in self["port"]?.split(separator: ",") ?? []
        where !(1...65_535).contains(Int(port) ?? 0) {
            throw ConfigIssue(field: "url", "the url's port must be a number from 1 to 65535")
        }
    }

    package subscript(keyword: String) -> String? {
        options.last { $0.keyword == keyword }?.value
    }

    /// Host, port and database for messages; never user or password.
    package var place: String {
        let host = self["host"] ?? self["hostaddr"] ?? "localhost"
        return "\(host):\(self["port"] ?? "5432")/\(self["dbname"] ?? self["user"] ?? "postgres")"
    }

    /// Where libpq takes an option from that the string leaves out.
    private static let variables = [
        "host": "PGHOST", "hostaddr": "PGHOSTADDR", "sslmode": "PGSSLMODE", "service": "PGSERVICE",
    ]

    /// What libpq will use, from the string or from the environment.
    private func effective(_ keyword: String) -> String? {
        if let given = self[keyword] { return given }
        guard let variable = Self.variables[keyword], let value = unsafe getenv(variable) else {
            return nil
        }
        return unsafe String(cString: value)
    }

    /// What the service file says is libpq's to know.
    private var asksServiceFile: Bool {
        effective("service") != nil && self["host"] == nil && self["hostaddr"] == nil
    }

    /// Every host is a unix socket or a loopback address.
    package var isLocal: Bool {
        if asksServiceFile { return false }
        func list(_ keyword: String) -> [Substring] {
            (effective(keyword) ?? "").split(separator: ",", omittingEmptySubsequences: false)
        }
        let (hosts, addresses) = (list("host"), list("hostaddr"))
        return (0..<max(hosts.count, addresses.count)).allSatisfy { index in
            // libpq connects to the address; the name beside it is only what a certificate is for.
            let address = index < addresses.count ? addresses[index] : ""
            let host = index < hosts.count ? hosts[index] : ""
            return Self.isLocal(address.isEmpty ? host : address)
        }
    }

    /// Of one host; a name may begin like an address.
    private static func isLocal(_ host: Substring) -> Bool {
        if host.isEmpty || host.hasPrefix("/") || host.hasPrefix("@") { return true }
        return host.lowercased() == "localhost" || isLoopback(host)
    }

    /// Whether it is an address of the loopback interface.
    static func isLoopback(_ host: some StringProtocol) -> Bool {
        var four = in_addr()
        if unsafe inet_pton(AF_INET, String(host), &four) == 1 {
            return UInt32(bigEndian: four.s_addr) >> 24 == 127
        }
        var (six, loopback) = (in6_addr(), in6addr_loopback)
        return unsafe inet_pton(AF_INET6, String(host), &six) == 1
            && memcmp(&six, &loopback, MemoryLayout<in6_addr>.size) == 0
    }

    /// What a connection of this name should be warned of, if anything.
    package func tlsWarning(connection name: String) -> String? {
        let mode = effective("sslmode")
        if isLocal || mode == "verify-full" { return nil }
        let means =
            "which does not prove who the server is; use sslmode=verify-full with sslrootcert"
        if mode == nil, asksServiceFile {
            return "connection \"\(name)\" leaves sslmode to the service file; unless that says "
                + "otherwise it is prefer, \(means)"
        }
        return "connection \"\(name)\" uses sslmode=\(mode ?? "prefer"), \(means)"
    }

    /// libpq takes what stands behind a careless "@" or "/" of a password for the host or the
    /// database, which messages show.
    private static func checkCredentials(_ text: String) throws(ConfigIssue) {
        guard let scheme = ["postgresql://", "postgres://"].first(where: text.hasPrefix) else {
            return
        }
        let rest = text.utf8.dropFirst(scheme.utf8.count)
        let slash = rest.firstIndex(of: UInt8(ascii: "/")) ?? rest.endIndex
        // As libpq takes it: a user stands before an "@" that comes before any "/".
        let host = rest[..<slash].firstIndex(of: UInt8(ascii: "@")).map(rest.index(after:))
        // The options behind the "?" may have any number of either.
        let plain = rest[(host ?? rest.startIndex)...].prefix { $0 != UInt8(ascii: "?") }
        if !plain.contains(UInt8(ascii: "@")) { return }
        throw ConfigIssue(
            field: "url",
            "the url has \"@\" where it cannot stand; in a user name or a password, \"@\" and \"/\" "
                + "are written %40 and %2F")
    }

    /// The first line of libpq's reason, unless it quotes a part of the string itself.
    private static func redacted(_ reason: String, _ text: String) -> String {
        let line = reason.split(separator: "\n").first.map(String.init) ?? reason
        guard let quote = line.firstIndex(of: "\"") else { return line }
        return String(line[..<quote]).trimmedTail + " (the value is not shown)"
    }
}

extension String {
    /// Without blanks and line ends at its end.
    package var trimmedTail: String {
        var text = self[...]
        while let last = text.last, last.isWhitespace || last == ":" { text.removeLast() }
        return String(text)
    }
}
