extension BenchmarkCase {
    static let latency = BenchmarkCase(
        name: "latency", summary: "from commit to the line in the file, at 1,000 transactions/s"
    ) { _ in CaseReport(name: "latency", figures: []) }
}
