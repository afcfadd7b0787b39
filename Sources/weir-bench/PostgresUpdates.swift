extension BenchmarkCase {
    static let postgresUpdates = BenchmarkCase(
        name: "postgres-updates", summary: "as many rows, already there, each updated once"
    ) { session in
        try await Backlog(
            name: "postgres-updates", defaultChanges: 500_000, unit: 1_000,
            rowsBefore: { changes in Orders.inserts(changes, by: 1_000) },
            destination: { scene in try await TableBacklog(scene) },
            load: { changes in
                Transactions.sql(
                    changes / 1_000,
                    """
                    UPDATE orders SET status = 'paid', quantity = quantity + 1
                        WHERE \(Transactions.hasKey(by: 1_000));
                    """)
            }
        )
        .measure(session)
    }
}
