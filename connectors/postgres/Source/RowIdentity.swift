import WeirCore

/// Which columns of an old row the server sends, and which of them name the row (CORRECTNESS 24,
/// 74). Pure.
///
/// The stream describes a partitioned table by its root, but each partition writes old rows after
/// its own replica identity, and the server sends what was not written as null.
struct RowIdentity: Sendable, Equatable {
    /// The columns that every old row has.
    let columns: [Bool]
    /// The indexes of the columns that name a row.
    let key: [Int]
    /// A null of a whole old row is the row's own.
    let isWhole: Bool
    /// Old rows come as keys, after the root's identity, and are whole, after the partitions'.
    let sendsWholeRowsAsKeys: Bool
    /// Every update and delete brings the whole row before it.
    let isFull: Bool
    /// For want of a key, the whole row stands for it.
    let isKeyWholeRow: Bool

    /// - Parameter table: what the catalogue says now; nil when it no longer knows the table.
    init(_ message: RelationMessage, _ table: CatalogueTable?) {
        let described = message.columns
        let leaves = table?.leaves ?? []
        // One without an identity, such as a new one that gets its key later, sends no old rows.
        let leafNames = leaves.filter(\.hasKey).map { leaf in
            leaf.columns.compactMap { number in
                table?.columns.first { $0.number == number }?.name
            }
        }
        let hasIdentity = described.contains { $0.isIdentity }
        let sent = described.map { column in
            (hasIdentity ? column.isIdentity : leaves.contains { $0.isWhole || $0.hasKey })
                && leafNames.allSatisfy { $0.contains(column.name) }
        }
        columns = sent
        isWhole = leafNames.isEmpty
        let primaryKey = (table?.primaryKey ?? []).compactMap { name in
            described.firstIndex { $0.name == name }
        }
        let hasPrimaryKey =
            !primaryKey.isEmpty && primaryKey.count == table?.primaryKey.count
        // With REPLICA IDENTITY NOTHING only inserts arrive, and those hold the whole primary key.
        if hasPrimaryKey, primaryKey.allSatisfy({ sent[$0] }) || !sent.contains(true) {
            key = primaryKey
        } else if let first = leafNames.first, !hasIdentity || message.replicaIdentity == Self.full
        {
            // Partitions have a key that their root has not: in the order of its own.
            key = first.compactMap { name in described.firstIndex { $0.name == name } }
                .filter { sent[$0] }
        } else {
            key = sent.indices.filter { sent[$0] }
        }
        sendsWholeRowsAsKeys =
            !hasIdentity && leafNames.isEmpty && leaves.contains(where: \.isWhole)
        isFull =
            leafNames.isEmpty && (message.replicaIdentity == Self.full || sendsWholeRowsAsKeys)
        isKeyWholeRow =
            isFull && key.count == described.count
            && !(hasPrimaryKey && key == primaryKey)
    }

    private static let full = UInt8(ascii: "f")
}
