extension BenchmarkCase {
    static let mongoDBBacklog = BenchmarkCase(
        name: "mongodb-backlog",
        summary: "inserts of nested documents of \(Products.byteCount) bytes in MongoDB, drained "
            + "to a file, beside a bare loop over the same change stream"
    ) { session in
        let backlog = DocumentBacklog(change: .insert, defaultChanges: 200_000)
        return CaseReport(
            "mongodb-backlog", backlog.changes(session), try await backlog.measure(session),
            Yardstick(program: ChangeLoop.program, ratioMin: 0.9))
    }
}
