/// Which running server a session is in, and which database.
///
/// The system identifier alone does not tell: a physical copy of a server has the same. But no two
/// servers were started in the same microsecond.
package struct ServerInstance: Sendable, Equatable {
    package let system: String
    /// Escaped, as in identities.
    package let database: String
    /// Microseconds since 1970.
    private let started: String
    private let isStandby: Bool

    private static let query =
        "SELECT system_identifier::text, pg_catalog.current_database(), "
        + "(extract(epoch FROM pg_catalog.pg_postmaster_start_time()) * 1000000)::bigint::text, "
        + "pg_catalog.pg_is_in_recovery() FROM pg_catalog.pg_control_system()"

    /// Nil where the server does not tell.
    package init?(_ connection: PostgresConnection) {
        guard let row = try? connection.queryRow(Self.query), row.count == 4, let system = row[0],
            let database = row[1], let started = row[2]
        else { return nil }
        self.system = system
        self.database = Self.escaped(database)
        self.started = started
        isStandby = row[3] == "t"
    }

    /// The form that is kept; nil when it is none.
    package init?(parsing text: String) {
        let parts = text.split(separator: " ").map(String.init)
        guard parts.count == 4 else { return nil }
        (system, database, started) = (parts[0], parts[1], parts[2])
        isStandby = parts[3] == "standby"
    }

    package var text: String {
        "\(system) \(database) \(started) \(isStandby ? "standby" : "primary")"
    }

    /// Whether what is written here is what the other reads.
    ///
    /// A standby shows what its primary has: from there the two cannot be told from copies that
    /// went apart, and count as one.
    package func isSame(as other: ServerInstance) -> Bool {
        guard system == other.system, database == other.database else { return false }
        return started == other.started || isStandby || other.isStandby
    }

    /// Identities are words separated by blanks.
    package static func escaped(_ name: String) -> String {
        name.utf8.reduce(into: "") { text, byte in
            let isPlain = byte > 0x20 && byte < 0x7F && byte != UInt8(ascii: "%")
            if isPlain {
                text.unicodeScalars.append(Unicode.Scalar(byte))
            } else {
                text += "%" + (byte < 16 ? "0" : "") + String(byte, radix: 16)
            }
        }
    }
}

extension ServerInstance {
    /// The note of a pipeline under which its source keeps the one it reads, for its sinks.
    package static let noteKey = "postgres source instance"
}
