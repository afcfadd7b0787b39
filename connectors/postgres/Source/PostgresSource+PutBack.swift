import WeirCore
import WeirPostgresClient

// What was done to a publication between two looks at it (CORRECTNESS 77).

extension PostgresSource {
    static let writesNote = "publication_writes"

    private func writes(_ sql: PostgresConnection) throws(WeirError) -> String {
        try run(
            PublicationWrites.query(config.publication, serverVersion: sql.serverVersion),
            on: sql, to: "look at the publication"
        ).first?[0] ?? ""
    }

    func rememberWrites(_ sql: PostgresConnection) async throws(WeirError) {
        let now = try writes(sql)
        if try await context.notes.get(Self.writesNote) != now {
            try await context.notes.set(Self.writesNote, now)
        }
    }

    /// Runs what makes the publication right. It is noted as our own doing before it takes effect,
    /// so that it is never taken for another's, whenever we are killed.
    func setUp(_ statements: [String], _ sql: PostgresConnection) async throws(WeirError) {
        guard !statements.isEmpty else { return try await rememberWrites(sql) }
        let work = "set up publication \"\(config.publication)\""
        for statement in ["BEGIN"] + statements { _ = try run(statement, on: sql, to: work) }
        try await rememberWrites(sql)
        _ = try run("COMMIT", on: sql, to: work)
        for statement in statements { context.log(.info, statement) }
    }

    /// The publication is as it should be, and was not in between: what it left out meanwhile is
    /// lost all the same. What the plan says of it is not said again; and as long as one of the
    /// operator's leaves something out, that is a finding.
    func declarePutBack(
        _ plan: PublicationPlan, _ look: Look, _ sql: PostgresConnection
    ) async throws(WeirError) {
        let isOurs = try await context.notes.get("publication") == config.publication
        let isPartial = plan.findings.contains { $0.code == .publicationPartial }
        guard isOurs || config.isPublicationNamed && !isPartial,
            let text = try await context.notes.get(Self.writesNote),
            let before = PublicationWrites(text), let now = PublicationWrites(try writes(sql))
        else { return }
        let said = Set(plan.gaps.map(\.subject))
        if said.contains("") { return }
        // Without the option the plan says it of each table.
        if now.areOptionsWritten(since: before),
            !isOurs || look.publication?.publishesViaRoot ?? false
        {
            return try await declarePutBack("", look.tables.map(\.name), look)
        }
        for table in look.tables
        where now.isWritten(table.oid, since: before) && !said.contains(table.name.description) {
            try await declarePutBack(table.name.description, [table.name], look)
        }
    }

    private func declarePutBack(
        _ subject: String, _ tables: [TableName], _ look: Look
    ) async throws(WeirError) {
        let which = subject.isEmpty ? "" : "\"\(subject)\" of "
        try await context.reports.declare(
            DeclaredGap(
                .publicationAltered, subject, to: look.end.description,
                "\(which)publication \"\(config.publication)\" was altered and put back: what it "
                    + "left out meanwhile was not sent",
                hint: GapHint.deletedRows + GapHint.reload(all: tables, look.catalogue)))
    }
}
