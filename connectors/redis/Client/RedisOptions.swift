package import WeirCore

/// What `RedisConnection` needs to connect. Making one checks nothing and reads nothing.
package struct RedisOptions: Sendable {
    package var url: RedisURL
    /// Instead of the URL's.
    package var username: String?
    /// Instead of the URL's.
    package var password: Secret?
    /// A file of PEM certificates that are trusted instead of the system's.
    package var caFile: String?
    /// What the server shows in CLIENT LIST; letters, digits and `-` do.
    package var clientName: String?
    /// For all of name lookup, TCP, TLS and the greeting.
    package var connectTimeout: Duration = .seconds(10)
    /// How long any reply may take, counted from the command.
    package var replyTimeout: Duration = .seconds(30)

    package init(url: RedisURL) { self.url = url }

    /// Nil when no credentials are sent. A name without a password gets the empty one, which is
    /// right for a user made with `nopass`.
    var credentials: (username: String?, password: String)? {
        let username = username ?? url.username
        let password = password ?? url.password
        if username == nil && password == nil { return nil }
        return (username, password?.reveal() ?? "")
    }

    /// redis-cli with the options that lead to this server and database, for commands that are
    /// shown; it asks for the password.
    package var commandLine: String {
        var words = ["redis-cli"]
        switch url.address {
        case .tcp(let host, let port): words += ["-h", host, "-p", "\(port)"]
        case .unixSocket(let path): words += ["-s", path]
        }
        if url.database != 0 { words += ["-n", "\(url.database)"] }
        if url.isTLS { words += ["--tls"] + (caFile.map { ["--cacert", $0] } ?? []) }
        if let name = username ?? url.username { words += ["--user", name] }
        if (password ?? url.password) != nil { words.append("--askpass") }
        return words.map(\.shellWord).joined(separator: " ")
    }
}
