import CLibPQ
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

    /// Every host is a unix socket or a loopback address.
    package var isLocal: Bool {
        let hosts = (self["host"] ?? self["hostaddr"] ?? "").split(separator: ",")
        return hosts.allSatisfy {
            $0.hasPrefix("/") || $0.hasPrefix("@") || $0.hasPrefix("127.") || $0 == "::1"
                || $0 == "localhost"
        }
    }

    /// What a connection of this name should be warned of, if anything.
    package func tlsWarning(connection name: String) -> String? {
        let mode = self["sslmode"] ?? "prefer"
        if isLocal || mode == "verify-full" { return nil }
        return "connection \"\(name)\" uses sslmode=\(mode), which does not prove who the server "
            + "is; use sslmode=verify-full with sslrootcert"
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
