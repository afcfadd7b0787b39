package import WeirCore
import WeirPostgresClient

/// Positions of PostgreSQL: the commit LSN of a transaction and the ordinal of a change in it.
extension Position {
    init(_ lsn: LSN) { self.init(high: lsn.value) }

    /// Nil when the position is none of PostgreSQL's.
    var lsn: LSN? { tail.isEmpty ? LSN(high) : nil }
}

extension PostgresSource {
    package static let notation = SourceNotation(
        idPrefix: "pg",
        retention: RetentionWords(
            holder: "slot", inFull: "replication slot", log: "WAL", status: "wal_status",
            unlimited: "max_slot_wal_keep_size would protect the disk"),
        display: { position in
            let lsn = LSN(position.high)
            return position.low == 0 ? "\(lsn)" : "\(lsn)+\(position.low)"
        })
}
