/// What a source leaves out by who wrote it.
///
/// A database may know more writers than its applications: replication from elsewhere, and sinks of
/// ours. Where it does, each writes under a name, its origin.
public enum OriginFilter: Sendable, Equatable {
    /// Everything is read.
    case nothing
    /// Whatever was written under an origin, of any name.
    case everyOrigin
    /// Whatever was written under one of these.
    case origins([String])

    /// - Parameter origin: nil for a writer without one, as applications are.
    public func leavesOut(_ origin: String?) -> Bool {
        guard let origin else { return false }
        return switch self {
        case .nothing: false
        case .everyOrigin: true
        case .origins(let names): names.contains(origin)
        }
    }
}

/// Which tables a source reads or a sink writes, as far as the configuration alone tells. It shows
/// which pipelines feed each other.
public struct TableReach: Sendable {
    public enum Role: Sendable {
        /// The tables are those the source lists.
        case reads(leavingOut: OriginFilter)
        /// From each table of the source to the one it is written to.
        case writes([TableName: TableName], origin: String?)
    }

    /// Names of the database. Two reaches that have one in common are about the same database.
    public let databases: Set<String>
    public let role: Role

    public init(databases: Set<String>, _ role: Role) {
        self.databases = databases
        self.role = role
    }
}
