extension ConnectionString {
    /// What the string says of the server, in one form for each host: two strings that share a name
    /// lead to the same server. All the ways to this machine count as one.
    package var servers: Set<String> {
        let hosts = list("host").isEmpty ? list("hostaddr") : list("host")
        let addresses = list("hostaddr")
        let ports = list("port")
        var names: Set<String> = []
        for (index, host) in (hosts.isEmpty ? ["localhost"] : hosts).enumerated() {
            let port = ports.indices.contains(index) ? ports[index] : ports.first ?? ""
            for host in [host, addresses.indices.contains(index) ? addresses[index] : host] {
                names.insert(
                    "\(Self.isOfThisHost(host) ? "localhost" : host.lowercased()):"
                        + (port.isEmpty ? "5432" : port))
            }
        }
        return names
    }

    /// Likewise of the database.
    package var databases: Set<String> {
        let database = self["dbname"] ?? self["user"] ?? "postgres"
        return Set(servers.map { "postgres \($0)/\(database)" })
    }

    private func list(_ keyword: String) -> [String] {
        guard let text = self[keyword], !text.isEmpty else { return [] }
        return text.split(separator: ",", omittingEmptySubsequences: false).map(String.init)
    }

    /// A unix socket or a loopback address; no host at all is libpq's own socket.
    static func isOfThisHost(_ host: String) -> Bool {
        host.isEmpty || host.hasPrefix("/") || host.hasPrefix("@") || host.hasPrefix("127.")
            || host == "::1" || host == "localhost"
    }
}
