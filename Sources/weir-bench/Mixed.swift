extension BenchmarkCase {
    static let mixed = BenchmarkCase(
        name: "mixed",
        summary: "50 % inserts, 30 % updates, 20 % deletes in transactions of 1,000 changes"
    ) { session in
        try await Backlog(name: "mixed", defaultChanges: 300_000, unit: 1_000) { changes in
            Transactions.sql(
                changes / 1_000,
                """
                \(Orders.insert("generate_series(t * 500 + 1, (t + 1) * 500)"))
                UPDATE orders SET status = 'paid', quantity = quantity + 1
                    WHERE id BETWEEN t * 500 + 1 AND t * 500 + 300;
                DELETE FROM orders WHERE id BETWEEN t * 500 + 301 AND (t + 1) * 500;
                """)
        }
        .measure(session)
    }
}
