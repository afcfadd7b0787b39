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
        let placed = Self.placed(message, table, numbers)
        var others: [String: [String]] = [:]
        for name in described {
            // A name that two columns had one after the other says nothing.
            let found = numbers[name] ?? placed[name].map { [$0] } ?? []
            guard found.count == 1, let names = byNumber[found[0]] else { continue }
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

    /// The numbers of columns that are described under a name that no look saw, as when they were
    /// renamed twice between two looks. Columns are described in the order of their numbers: one
    /// that still exists stands where it stood. Where another one may have been in its place and is
    /// gone, nothing is said.
    private static func placed(
        _ message: RelationMessage, _ table: CatalogueTable?, _ numbers: [String: [Int]]
    ) -> [String: Int] {
        let now = Dictionary((table?.columns ?? []).map { ($0.number, $0) }) { first, _ in first }
        var placed: [String: Int] = [:]
        var last = 0
        var unknown: [RelationMessage.Column] = []
        /// - Parameter end: the number of the next column that is known; nil behind the last one.
        func place(before end: Int?) {
            var found: [Int] = []
            var number = last + 1
            while end.map({ number < $0 }) ?? (found.count < unknown.count) {
                guard let column = now[number] else { return }
                if !column.isGenerated { found.append(number) }
                number += 1
            }
            guard found.count == unknown.count else { return }
            for (column, number) in zip(unknown, found) where now[number]?.type == column.type {
                placed[column.name] = number
            }
        }
        for column in message.columns {
            guard let known = numbers[column.name] else {
                unknown.append(column)
                continue
            }
            guard known.count == 1, known[0] > last else { return [:] }
            if !unknown.isEmpty { place(before: known[0]) }
            (last, unknown) = (known[0], [])
        }
        if !unknown.isEmpty { place(before: nil) }
        return placed
    }

    func others(of name: String) -> [String] { others[name] ?? [] }
}
