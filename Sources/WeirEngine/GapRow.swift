import GRDB
import WeirCore

/// A declared gap as the state store keeps it, until the operator says that it is closed.
package struct GapRow: Sendable, Equatable {
    /// What `weir gap resolve` takes; unique in a state store and never used again.
    package let id: Int64
    package let pipeline: String
    /// The sink that lacks something, or "source" when all of them do.
    package let component: String
    package let code: String
    package let subject: String
    package let from: String
    package let to: String
    package let message: String
    package var hint: String
    package let declaredMicros: Int64

    /// For the log: with the command that closes it, as it can be typed.
    var words: String { "gap \(id) declared: \(code): \(message)\n  \(hint)" }

    /// - Returns: nil when the same gap is there already and open.
    static func declare(
        _ database: Database, _ pipeline: String, _ component: String, _ gap: DeclaredGap,
        atMicros: Int64
    ) throws -> GapRow? {
        let names: StatementArguments = [
            pipeline, component, gap.code.name, gap.subject, gap.from, gap.to, gap.message,
        ]
        let isKnown = try Bool.fetchOne(
            database,
            sql: """
                SELECT EXISTS (SELECT 1 FROM gap WHERE resolved IS NULL AND pipeline = ?
                AND component = ? AND code = ? AND subject = ? AND "from" = ? AND "to" = ?
                AND message = ?)
                """, arguments: names)
        if isKnown == true { return nil }
        try database.execute(
            sql: """
                INSERT INTO gap (pipeline, component, code, subject, "from", "to", message, hint,
                declared) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
                """, arguments: names + [gap.hint, atMicros])
        // What the operator is to type has the number that only now exists.
        let id = database.lastInsertedRowID
        try database.execute(
            sql: "UPDATE gap SET hint = replace(hint, 'gap resolve ID', 'gap resolve ' || id) "
                + "WHERE id = ?", arguments: [id])
        return try open(database, pipeline).first { $0.id == id }
    }

    private static let columns =
        "id, pipeline, component, code, subject, \"from\", \"to\", message, hint, declared"

    /// Those that are not resolved, oldest first; nil asks for all pipelines, also those that are
    /// no longer configured.
    static func open(_ database: Database, _ pipeline: String?) throws -> [GapRow] {
        // `status` may read the store of a Weir that has not been started since an upgrade.
        let isOld = try !database.columns(in: "gap").contains { $0.name == "id" }
        return try Row.fetchAll(
            database,
            sql: """
                SELECT \(isOld ? StateSchema.oldGapColumns : columns) FROM gap
                WHERE \(isOld ? "" : "resolved IS NULL AND") (?1 IS NULL OR pipeline = ?1)
                ORDER BY 1
                """, arguments: [pipeline]
        ).map { row in
            GapRow(
                id: row[0], pipeline: row[1], component: row[2], code: row[3], subject: row[4],
                from: row[5], to: row[6], message: row[7], hint: row[8], declaredMicros: row[9])
        }
    }

    /// - Returns: whether there was such a gap, still open.
    static func resolve(_ database: Database, _ id: Int64, atMicros: Int64) throws -> Bool {
        try database.execute(
            sql: "UPDATE gap SET resolved = ? WHERE id = ? AND resolved IS NULL",
            arguments: [atMicros, id])
        return database.changesCount == 1
    }
}
