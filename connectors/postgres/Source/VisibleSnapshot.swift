/// Which transactions a snapshot of the server shows, from `pg_current_snapshot()`. Pure.
///
/// A transaction that was shown once is shown by every later snapshot of the same server.
struct VisibleSnapshot: Sendable, Equatable {
    /// The first transaction that had not begun or not ended in the server's eyes.
    let end: UInt64
    /// Those before it that were still in progress.
    let inProgress: Set<UInt64>

    static let query = "SELECT pg_catalog.pg_current_snapshot()::pg_catalog.text"

    /// `xmin:xmax:xip,xip,…`, all with their epochs.
    init?(parsing text: String) {
        let parts = text.split(separator: ":", omittingEmptySubsequences: false)
        guard parts.count == 3, UInt64(parts[0]) != nil, let end = UInt64(parts[1]) else {
            return nil
        }
        var inProgress: Set<UInt64> = []
        for part in parts[2].split(separator: ",") {
            guard let transaction = UInt64(part) else { return nil }
            inProgress.insert(transaction)
        }
        self.end = end
        self.inProgress = inProgress
    }

    /// Whether what a transaction did is visible, once it has committed.
    ///
    /// - Parameter transaction: without its epoch, as pgoutput has it: the one closest to the
    ///   snapshot's end is meant. 0 stands for none.
    func shows(_ transaction: UInt32) -> Bool {
        if transaction == 0 { return true }
        let distance = Int32(bitPattern: transaction &- UInt32(truncatingIfNeeded: end))
        return distance < 0 && !inProgress.contains(end &+ UInt64(bitPattern: Int64(distance)))
    }
}
