import WeirCore

/// What the columns of a described table are called in its other versions (CORRECTNESS 86). Pure.
///
/// A description has the names of its time, the catalogue those of now, and what is remembered
/// those in between: the column's number ties them together.
struct ColumnNames {
    /// Columns of other versions that this one lacks.
    let missing: [String]
    private let others: [String: [String]]

    /// - Parameters:
    ///   - table: what the catalogue says now; nil when it no longer knows the table.
    ///   - memory: what is remembered of it.
    ///   - isNow: the description is the catalogue's, and not of the stream.
    init(
        _ message: RelationMessage, _ table: CatalogueTable?, _ memory: TableMemory.Table?,
        isNow: Bool
    ) {
        let described = Set(message.columns.map(\.name))
        var byNumber = memory?.namesByNumber ?? [:]
        for column in table?.columns ?? [] where !column.isGenerated {
            byNumber[column.number, default: []].insert(column.name)
        }
        var numbers: [String: [Int]] = [:]
        for (number, names) in byNumber {
            for name in names { numbers[name, default: []].append(number) }
        }
        var others: [String: [String]] = [:]
        for name in described {
            // A name that two columns had one after the other says nothing.
            guard let found = numbers[name], found.count == 1, let names = byNumber[found[0]] else {
                continue
            }
            let rest = names.subtracting(described)
            if !rest.isEmpty { others[name] = rest.sorted() }
        }
        self.others = others
        let known = described.union(others.values.joined())
        let later = (table?.columns ?? []).filter { !$0.isGenerated }.map(\.name)
        // What was dropped is still to come only for who looks at the catalogue; in the stream it
        // has come, or is there.
        let dropped = isNow ? (memory?.gone ?? []).map(\.name) : []
        missing = Set(later + dropped).subtracting(known).sorted()
    }

    func others(of name: String) -> [String] { others[name] ?? [] }
}
