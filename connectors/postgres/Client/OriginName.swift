/// The rule for the names of replication origins.
package enum OriginName {
    /// The server takes longer ones; nobody reads them.
    private static let bytesMax = 63

    /// What is wrong with a name; nil when nothing is.
    package static func fault(_ name: String) -> String? {
        guard (1...bytesMax).contains(name.utf8.count),
            name.utf8.allSatisfy({ $0 > 0x20 && $0 != 0x7F })
        else {
            return "\"\(name)\" is no replication origin; a name has 1 to \(bytesMax) bytes, none "
                + "of them a blank"
        }
        if ["any", "none"].contains(name.lowercased()) {
            return "\"\(name)\" cannot be the name of a replication origin"
        }
        return nil
    }

    /// Likewise of one that is to be made: the server keeps names that begin with `pg_` for its own
    /// subscriptions.
    package static func faultOfNew(_ name: String) -> String? {
        if let fault = fault(name) { return fault }
        guard name.hasPrefix("pg_") else { return nil }
        return "\"\(name)\" cannot be made: names that begin with pg_ belong to subscriptions"
    }
}
