/// Which running server a session is in, and which database.
///
/// The system identifier alone does not tell: a physical copy of a server has the same. But no two
/// servers were started in the same microsecond.
package struct ServerInstance: Sendable, Equatable {
    /// Nil where the role may not ask for it.
    package let system: String?
    /// Escaped, as in identities.
    package let database: String
    /// Microseconds since 1970.
    private let started: String
    private let isStandby: Bool

    private static let unknownSystem = "-"

    private static func query(system: String) -> String {
        "SELECT \(system), pg_catalog.current_database(), "
            + "(extract(epoch FROM pg_catalog.pg_postmaster_start_time()) * 1000000)::bigint::text,"
            + " pg_catalog.pg_is_in_recovery()"
    }

    private static let identified =
        query(system: "system_identifier::text") + " FROM pg_catalog.pg_control_system()"
    private static let unidentified = query(system: "NULL::text")

    /// What lets a role tell the system identifier.
    package static func grant(to role: String) -> String {
        "GRANT EXECUTE ON FUNCTION pg_catalog.pg_control_system() TO \(role);"
    }

    /// Not in a transaction, which a refused question would end.
    package init(
        _ connection: PostgresConnection, within limit: Duration = .seconds(15)
    ) throws(PostgresFailure) {
        let row: TextRow
        do throws(PostgresFailure) {
            row = try connection.queryRow(Self.identified, columns: 4, within: limit)
        } catch {
            // Only a server that refuses the question for good has no answer to it.
            guard error.kind == .statement, !ServerFailureMap.passes(error.sqlState) else {
                throw error
            }
            row = try connection.queryRow(Self.unidentified, columns: 4, within: limit)
        }
        system = row[0]
        database = Self.escaped(row[1] ?? "")
        started = row[2] ?? ""
        isStandby = row[3] == "t"
    }

    /// The form that is kept; nil when it is none.
    package init?(parsing text: String) {
        let parts = text.split(separator: " ").map(String.init)
        guard parts.count == 4 else { return nil }
        system = parts[0] == Self.unknownSystem ? nil : parts[0]
        (database, started) = (parts[1], parts[2])
        isStandby = parts[3] == "standby"
    }

    package var text: String {
        "\(system ?? Self.unknownSystem) \(database) \(started) "
            + (isStandby ? "standby" : "primary")
    }

    /// The same for all roles, also for those that may not ask for the system identifier.
    package var runningDatabase: String { "\(database) \(started)" }

    /// Whether what is written here is what the other reads.
    ///
    /// A standby shows what its primary has: from there the two cannot be told from copies that
    /// went apart, and count as one.
    package func isSame(as other: ServerInstance) -> Bool {
        guard mayBeOfSystem(other.system), database == other.database else { return false }
        return started == other.started || isStandby || other.isStandby
    }

    /// False only where both systems are known, and differ.
    package func mayBeOfSystem(_ other: String?) -> Bool {
        guard let system, let other else { return true }
        return system == other
    }

    /// The very server of the other, not started again since.
    package func isSameStart(as other: ServerInstance) -> Bool {
        mayBeOfSystem(other.system) && started == other.started
    }

    /// Whether the other is no primary any more, because this one is: the same server started
    /// again, or a standby that took its place.
    package func hasReplaced(_ other: ServerInstance) -> Bool {
        guard let system, system == other.system else { return false }
        return !isStandby && started != other.started
    }

    /// Identities are words separated by blanks.
    package static func escaped(_ name: String) -> String {
        name.escaped(besides: [])
    }
}

extension String {
    /// With percent signs for blanks, what is not ASCII, and the bytes given.
    package func escaped(besides others: [UInt8]) -> String {
        utf8.reduce(into: "") { text, byte in
            let isPlain =
                byte > 0x20 && byte < 0x7F && byte != UInt8(ascii: "%") && !others.contains(byte)
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
