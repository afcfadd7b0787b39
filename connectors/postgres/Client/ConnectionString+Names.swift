extension ConnectionString {
    /// What the string says of the server, in one form for each host: two strings that share a name
    /// lead to the same server. The usual ways to this machine count as one. Other addresses of it,
    /// and folders of sockets, are names of their own: proxies put one for each server there.
    package var servers: Set<String> {
        let hosts = list("host").isEmpty ? list("hostaddr") : list("host")
        let addresses = list("hostaddr")
        let ports = list("port")
        var names: Set<String> = []
        for (index, host) in (hosts.isEmpty ? ["localhost"] : hosts).enumerated() {
            let port = ports.indices.contains(index) ? ports[index] : ports.first ?? ""
            for host in [host, addresses.indices.contains(index) ? addresses[index] : host] {
                names.insert(
                    "\(Self.serverName(host)):" + (port.isEmpty ? "5432" : port))
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

    /// Where libpq looks for the server's socket when no host is named, as it is built upstream and
    /// by distributions.
    private static let socketFolders = ["/tmp", "/var/run/postgresql", "/run/postgresql"]
    private static let usualAddresses = ["127.0.0.1", "::1", "localhost"]

    private static func serverName(_ host: String) -> String {
        if host.hasPrefix("/") {
            var folder = host[...]
            while folder.count > 1, folder.last == "/" { folder.removeLast() }
            return socketFolders.contains(String(folder)) ? "localhost" : String(folder)
        }
        let name = host.lowercased()
        return name.isEmpty || usualAddresses.contains(name) ? "localhost" : name
    }
}
