import WeirCore
import WeirPostgresClient

/// What the target's table as a whole does with what is written to it.
extension TargetCheck {
    /// As `pg_rewrite.ev_type` has them.
    private static let insertAndUpdate = ["2", "3"]
    private static let delete = "4"

    /// PostgreSQL has no upsert where a rule rewrites inserts or updates; a copy goes past them.
    var ruleFindings: [Finding] {
        table.rules.compactMap { rule in
            let name = PostgresConnection.identifier(rule.name)
            let hint = "DROP RULE \(name) ON \(table.name.sql);"
            if Self.insertAndUpdate.contains(rule.event), writes {
                return finding(
                    .targetUnfit, wanted.isKeyed ? .blocking : .warning,
                    "the target \"\(table.name)\" has the rule \(name), which rewrites what is "
                        + "written to it",
                    detail: wanted.isKeyed
                        ? "PostgreSQL takes no INSERT … ON CONFLICT there."
                        : "Rows that are copied in go past it, others do not.",
                    hint: hint)
            }
            guard rule.event == Self.delete, rule.isInstead, takes(.delete) else { return nil }
            return finding(
                .rowsSkipped, .warning,
                "the target \"\(table.name)\" has the rule \(name), which takes the place of "
                    + "deletes: its rows stay",
                hint: hint)
        }
    }

    var identityFindings: [Finding] {
        guard table.lacksIdentity, takes(.update) || takes(.delete) else { return [] }
        return [
            finding(
                .targetUnfit, .warning,
                "a publication of the target's database has \"\(table.name)\", which has no "
                    + "replica identity: PostgreSQL refuses each UPDATE and DELETE of it",
                hint: "ALTER TABLE \(table.name.sql) REPLICA IDENTITY FULL;")
        ]
    }

    /// For rows that the target did not take, though it did not refuse them.
    static func skipped(_ target: TableName) -> Finding {
        Finding(
            .rowsSkipped, .warning, "\(target)",
            "the target \"\(target)\" left out rows that were written to it: a trigger of its own "
                + "skips them",
            detail: "They count as delivered, and later changes of them find nothing there.",
            hint: "See its BEFORE triggers: SELECT tgname, tgfoid::regprocedure FROM pg_trigger "
                + "WHERE tgrelid = \(PostgresConnection.literal(target.sql))::regclass "
                + "AND NOT tgisinternal;")
    }
}
