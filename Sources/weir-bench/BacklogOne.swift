extension BenchmarkCase {
    /// The server itself spills a transaction of this size to disk before it sends the first row.
    static let backlogOne = BenchmarkCase(
        name: "backlog-one", summary: "the same inserts as one transaction"
    ) { session in
        try await Backlog(name: "backlog-one", defaultChanges: 500_000, unit: 1) { changes in
            Orders.insert("generate_series(1, \(changes))")
        }
        .measure(session)
    }
}
