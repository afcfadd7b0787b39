import WeirCore

// What came, went, or was written without the server's knowing of a change, as far as files and
// partitions tell (CORRECTNESS 87). Pure.

extension TableMemory {
    /// Rows that came, went or changed in a partition, or in a whole table, of which the server
    /// sends nothing.
    struct Move: Sendable, Equatable {
        enum Kind: Sendable, Equatable {
            case attached
            /// Detached or dropped.
            case went
            /// Detached, and attached again.
            case again
            /// It was not written to the log for a while; or, where no look saw it, may have been.
            case unlogged(isSure: Bool)
            /// By a TRUNCATE of this partition and not of the table.
            case emptied
        }
        let root: TableName
        let partition: UInt32
        /// Of one that went, the name it had.
        let name: TableName
        let kind: Kind
    }

    /// How a table's new file came to be, as far as the rows in it tell.
    enum Writing: Sendable, Equatable {
        /// ALTER TABLE wrote all rows anew.
        case byAlter
        /// None of the rows is older than the file.
        case empty
    }

    /// What has another file than before, by number.
    func written(since before: TableMemory) -> [UInt32: TableName] {
        var written: [UInt32: TableName] = [:]
        for table in tables {
            guard let known = before.table(numbered: table.oid) else { continue }
            for (part, name) in table.sent where table.isWritten(part, since: known) {
                written[part] = name
            }
        }
        return written
    }

    /// Partitions that came or went since `before`, with rows or without, and tables that were
    /// written without the log.
    ///
    /// - Parameters:
    ///   - writings: how files came to be that changed since.
    ///   - listed: what the publication names itself, which cannot be made UNLOGGED.
    func moves(
        since before: TableMemory, _ writings: [UInt32: Writing] = [:],
        listed: Set<UInt32> = []
    ) -> [Move] {
        tables.flatMap { table -> [Move] in
            guard let known = before.table(numbered: table.oid), known.arePartitionsKnown else {
                return []
            }
            // One that is still there sends no more, which is a finding.
            let went = known.partitions.filter { table.files[$0.key] == nil }
            return went.map { Move(root: table.name, partition: $0, name: $1, kind: .went) }
                + table.sent.compactMap { part, name in
                    table.move(of: part, since: known, writings[part], listed).map {
                        Move(root: table.name, partition: part, name: name, kind: $0)
                    }
                }
        }.sorted { $0.partition < $1.partition }
    }
}

extension TableMemory.Table {
    /// What of it is written to the log: itself, or partitions.
    fileprivate var sent: [UInt32: TableName] {
        files[oid] == nil ? partitions : [oid: name]
    }

    fileprivate func isWritten(_ part: UInt32, since known: Self) -> Bool {
        known.files[part].map { $0 != files[part] } ?? false
    }

    private func isAttachedAgain(_ part: UInt32, since known: Self) -> Bool {
        known.attached[part].map { $0 != attached[part] } ?? false
    }

    fileprivate func move(
        of part: UInt32, since known: Self, _ writing: TableMemory.Writing?, _ listed: Set<UInt32>
    ) -> TableMemory.Move.Kind? {
        if part != oid {
            if known.partitions[part] == nil {
                return known.files[part] == nil ? .attached : .unlogged(isSure: true)
            }
            if isAttachedAgain(part, since: known) { return .again }
        }
        switch writing {
        case .byAlter:
            // What was done to columns explains it, and is told of them.
            return hasSameColumns(as: known) && !listed.contains(part)
                ? .unlogged(isSure: false) : nil
        case .empty:
            // TRUNCATE of the whole table, which is sent, takes all partitions.
            let isAlone = known.partitions.keys.contains {
                partitions[$0] != nil && !isWritten($0, since: known)
                    && !isAttachedAgain($0, since: known)
            }
            return isAlone ? .emptied : nil
        case nil:
            return nil
        }
    }

    private func hasSameColumns(as known: Self) -> Bool {
        columns.count == known.columns.count
            && zip(columns, known.columns).allSatisfy {
                $0.number == $1.number && $0.changedBy == $1.changedBy
            }
    }
}
