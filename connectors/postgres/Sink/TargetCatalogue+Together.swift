import WeirCore
import WeirPostgresClient

/// Many tables are looked at with a few questions: one round trip for each of some thousand tables
/// would keep a pipeline from starting for minutes.
extension TargetCatalogue {
    /// What was asked about a set of tables. It is valid for as long as nothing is changed.
    final class Together {
        /// In the order in which they will be looked at, so that each part is asked for once.
        private let names: [TableName]
        fileprivate let all: Set<TableName>
        private var found: [TableName: TextRow]?
        /// The tables' oids, and the place of each.
        fileprivate var oids: [UInt32] = []
        fileprivate var places: [UInt32: Int] = [:]
        /// By a query's text: the first place of the part that was asked last, and its rows.
        fileprivate var parts: [String: (start: Int, rows: [UInt32: [TextRow]])] = [:]
        private var types: [String: KnownType?] = [:]
        fileprivate var answers: [String: [TextRow]] = [:]

        /// So many tables are asked about at once: an answer has a limit, and a table may have
        /// 1,600 columns.
        fileprivate static let partMax = 50
        /// And so many names in one statement.
        fileprivate static let namesMax = 1000

        init(_ names: [TableName]) {
            self.names = names
            all = Set(names)
        }

        fileprivate func find(
            _ ask: ([TableName]) throws(TargetFailure) -> [TextRow]
        ) throws(TargetFailure) -> [TableName: TextRow] {
            if let found { return found }
            var found: [TableName: TextRow] = [:]
            for start in stride(from: 0, to: names.count, by: Self.namesMax) {
                for row in try ask(Array(names[start...].prefix(Self.namesMax))) {
                    guard let schema = row[5], let name = row[6] else { continue }
                    found[TableName(schema: schema, name: name)] = row
                }
            }
            for name in names {
                guard let oid = found[name]?[0].flatMap({ UInt32($0) }), places[oid] == nil
                else { continue }
                places[oid] = oids.count
                oids.append(oid)
            }
            self.found = found
            return found
        }

        func known(
            _ wanted: Set<String>,
            ask: (Set<String>) throws(TargetFailure) -> [String: KnownType]
        ) throws(TargetFailure) -> [String: KnownType] {
            let new = wanted.filter { types[$0] == nil }
            if !new.isEmpty {
                let answer = try ask(new)
                for type in new { types[type] = .some(answer[type]) }
            }
            return wanted.reduce(into: [:]) { known, type in known[type] = types[type] ?? nil }
        }
    }

    /// What `TargetTable.lookUp` finds of a table.
    func found(_ name: TableName) throws(TargetFailure) -> TextRow? {
        guard let together, together.all.contains(name) else {
            return try query(TargetTable.lookUp([name])).first
        }
        return try together.find { (names) throws(TargetFailure) in
            try query(TargetTable.lookUp(names))
        }[name]
    }

    /// The rows of a query about one table. Of tables that are looked at together all in its part
    /// are asked about.
    func rows(
        _ make: (String) -> String, _ oid: UInt32
    ) throws(TargetFailure) -> [TextRow] {
        guard let together, let place = together.places[oid] else {
            return try query(make("\(oid)"))
        }
        let one = make("w.oid")
        if let part = together.parts[one], part.start <= place,
            place < part.start + Together.partMax
        {
            return part.rows[oid] ?? []
        }
        let start = place - place % Together.partMax
        let oids = together.oids[start...].prefix(Together.partMax)
        let list = oids.map { "\($0)" }.joined(separator: ", ")
        var rows: [UInt32: [TextRow]] = [:]
        for row in try query(
            "SELECT w.oid, q.* FROM pg_catalog.unnest(ARRAY[\(list)]::pg_catalog.oid[]) w(oid) "
                + "CROSS JOIN LATERAL (\(one)) q")
        {
            guard let oid = row.first.flatMap({ $0 }).flatMap({ UInt32($0) }) else { continue }
            rows[oid, default: []].append(TextRow(Array(row.dropFirst())))
        }
        together.parts[one] = (start, rows)
        return rows[oid] ?? []
    }

    /// The answer to a question that is the same for many tables.
    func queryOnce(_ sql: String) throws(TargetFailure) -> [TextRow] {
        guard let together else { return try query(sql) }
        if let answer = together.answers[sql] { return answer }
        let answer = try query(sql)
        together.answers[sql] = answer
        return answer
    }
}
