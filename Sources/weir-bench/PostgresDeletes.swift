extension BenchmarkCase {
    static let postgresDeletes = BenchmarkCase(
        name: "postgres-deletes", summary: "as many rows, already there, each deleted"
    ) { session in
        try await Backlog(
            name: "postgres-deletes", defaultChanges: 500_000, unit: 1_000,
            rowsBefore: { changes in Orders.inserts(changes, by: 1_000) },
            destination: { scene in try await TableBacklog(scene) },
            load: { changes in
                Transactions.sql(
                    changes / 1_000,
                    "DELETE FROM orders WHERE \(Transactions.hasKey(by: 1_000));")
            }
        )
        .measure(session)
    }
}
