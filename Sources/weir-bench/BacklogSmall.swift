extension BenchmarkCase {
    static let backlogSmall = BenchmarkCase(
        name: "backlog-small", summary: "the same inserts in transactions of 4 rows"
    ) { session in
        try await Backlog(name: "backlog-small", defaultChanges: 500_000, unit: 4) { changes in
            Orders.inserts(changes, by: 4)
        }
        .measure(session)
    }
}
