import WeirCore
import WeirPostgresClient

/// A transaction that has written and not ended, prepared or of a session. The server makes no slot
/// before those end that were open, and a slot keeps the log from the oldest one on (CORRECTNESS
/// 78).
struct OpenTransaction: Sendable, Equatable {
    /// Its name if it is prepared, else nil.
    let preparedName: String?
    /// Of the session; nil for a prepared one.
    let pid: String?
    let role: String
    let database: String
    let since: String
    let application: String

    /// The oldest first. A role that may not see other roles' sessions (pg_read_all_stats) finds
    /// only prepared transactions and its own.
    static func query(preparedSeconds: Int, runningSeconds: Int) -> String {
        let micros = "'YYYY-MM-DD HH24:MI:SS \"UTC\"'"
        return "SELECT gid, NULL, owner::pg_catalog.text, database::pg_catalog.text, "
            + "pg_catalog.to_char(prepared, \(micros)), '', prepared AS began "
            + "FROM pg_catalog.pg_prepared_xacts "
            + "WHERE prepared <= pg_catalog.now() - interval '\(preparedSeconds) s' UNION ALL "
            + "SELECT NULL, pid::pg_catalog.text, usename::pg_catalog.text, "
            + "datname::pg_catalog.text, pg_catalog.to_char(xact_start, \(micros)), "
            + "application_name, xact_start FROM pg_catalog.pg_stat_activity "
            + "WHERE backend_xid IS NOT NULL AND pid <> pg_catalog.pg_backend_pid() "
            + "AND xact_start <= pg_catalog.now() - interval '\(runningSeconds) s' "
            + "ORDER BY began, 1, 2 LIMIT 20"
    }

    init?(row: TextRow) {
        guard row.count == 7, row[0] != nil || row[1] != nil else { return nil }
        preparedName = row[0]
        pid = row[1]
        role = row[2] ?? ""
        database = row[3] ?? ""
        since = row[4] ?? ""
        application = row[5] ?? ""
    }

    var words: String {
        if let preparedName {
            return "prepared transaction \"\(preparedName)\" of role \"\(role)\" in database "
                + "\"\(database)\", since \(since)"
        }
        let name = application.isEmpty ? "" : ", application \"\(application)\""
        return "the transaction of process \(pid ?? "?")\(name), of role \"\(role)\" in database "
            + "\"\(database)\", open since \(since)"
    }

    /// For whoever decides that it is not needed any more.
    var cure: String {
        if let preparedName {
            return "In that database: COMMIT PREPARED or ROLLBACK PREPARED "
                + "\(PostgresConnection.literal(preparedName));"
        }
        return "End it in its application, or: SELECT pg_terminate_backend(\(pid ?? ""));"
    }

    /// What `status` calls it: stable, so that it is said once.
    var subject: String { preparedName ?? "process \(pid ?? "")" }
}
