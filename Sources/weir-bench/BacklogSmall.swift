extension BenchmarkCase {
    static let backlogSmall = BenchmarkCase(
        name: "backlog-small", summary: "the same inserts in transactions of 4 rows"
    ) { session in
        try await Backlog(name: "backlog-small", defaultChanges: 500_000, unit: 4) { changes in
            Orders.transactions(
                changes / 4, Orders.insert("generate_series(t * 4 + 1, (t + 1) * 4)"))
        }
        .measure(session)
    }
}
