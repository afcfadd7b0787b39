extension BenchmarkCase {
    static let postgresInserts = BenchmarkCase(
        name: "postgres-inserts",
        summary: "inserts in transactions of 1,000 rows, drained to a table of a second PostgreSQL "
            + "on the same machine, beside a native subscription"
    ) { session in
        try await Backlog(
            name: "postgres-inserts", defaultChanges: 500_000, unit: 1_000,
            destination: { scene in try await TableBacklog(scene) },
            load: { changes in Orders.inserts(changes, by: 1_000) }
        )
        .measure(session)
    }
}
