extension BenchmarkCase {
    static let backlogRows = BenchmarkCase(
        name: "backlog-rows", summary: "inserts in transactions of 1,000 rows, drained to a file"
    ) { session in
        try await Backlog(name: "backlog-rows", defaultChanges: 500_000, unit: 1_000) { changes in
            Orders.inserts(changes, by: 1_000)
        }
        .measure(session)
    }
}
