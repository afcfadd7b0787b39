import WeirCore
import WeirPostgresClient

/// What is remembered of the followed tables between two looks at them, so that another table under
/// a known name, and changes of rows that no event tells of, are noticed (CORRECTNESS 76, 79). It
/// is kept in the source's notes. Pure.
struct TableMemory: Sendable, Equatable {
    struct Column: Sendable, Equatable {
        /// `pg_attribute.attnum`.
        let number: Int
        let name: String
        /// The transaction that last changed the column's definition.
        let changedBy: String
        /// Old rows show a default that they do not hold; the text of that value.
        let missingValue: String?
        let hasDefault: Bool
        /// Generated and not sent, or left out by a list of columns: what it holds is no matter of
        /// copies.
        let isUnsent: Bool
        /// Left out by a list of columns; not kept.
        var isLeftOut = false
        /// Such columns are never sent; not kept.
        var isVirtual = false
        /// Names it had before.
        var former: [String] = []
        /// Its type with modifier and collation, and a digest of what else an ALTER TABLE may
        /// change without new values; empty where nothing is remembered.
        var type = ""
        var properties = ""
        /// The table's own row in the catalogue was last written by the same transaction, as it is
        /// when rows are written anew; not kept.
        var isChangedWithTable = false
    }

    /// A column that was dropped.
    struct Gone: Sendable, Equatable {
        let number: Int
        let name: String
        /// Where the log ended when that was noticed: it was dropped before, and rows that have it
        /// come before.
        let at: LSN
    }

    struct Table: Sendable, Equatable {
        let name: TableName
        let oid: UInt32
        /// Numbers of tables that had this name before; changes of theirs may still come.
        var former: [UInt32] = []
        /// By the number of what holds rows: its file, which changes when rows are written anew.
        var files: [UInt32: String] = [:]
        var columns: [Column] = []
        /// Columns that rows may still have which are to come.
        var gone: [Gone] = []
        /// The names of its partitions, by their number; empty where it has none.
        var partitions: [UInt32: TableName] = [:]
        /// By the number of a partition, what tells that it was attached anew; what a note of an
        /// earlier version lacks is not known.
        var attached: [UInt32: String] = [:]
        /// A note of an earlier version has none of them.
        var arePartitionsKnown = true
        /// The labels of its columns' enums, and the attributes of composite types in parentheses,
        /// by the number of label or type; nil where nothing is remembered.
        var labels: [UInt32: String]?
        /// The columns that a label belongs to; not kept.
        var labelled: [UInt32: [String]] = [:]

        /// All names that each column had, by its number.
        var namesByNumber: [Int: Set<String>] {
            var names = Dictionary(
                columns.map { ($0.number, Set($0.former + [$0.name])) },
                uniquingKeysWith: { $0.union($1) })
            for column in gone { names[column.number, default: []].insert(column.name) }
            return names
        }
    }

    var tables: [Table] = [] { didSet { index() } }
    /// Places in `tables`.
    private var byName: [TableName: Int] = [:]
    private var byNumber: [UInt32: Int] = [:]

    init(tables: [Table] = []) {
        self.tables = tables
        index()
    }

    private mutating func index() {
        byName = Dictionary(zip(tables.map(\.name), 0...)) { first, _ in first }
        byNumber = Dictionary(zip(tables.map(\.oid), 0...)) { first, _ in first }
    }

    /// The tables as they are now.
    init(_ facts: [TableFacts], columns: [TextRow], labels: [TextRow]) {
        var byTable: [UInt32: [Column]] = [:]
        for row in columns {
            guard row.count == 10, let oid = row[0].flatMap({ UInt32($0) }),
                let number = row[1].flatMap({ Int($0) })
            else { continue }
            byTable[oid, default: []].append(
                Column(
                    number: number, name: row[2] ?? "", changedBy: row[3] ?? "",
                    missingValue: row[4], hasDefault: row[5] == "t", isUnsent: row[6] != "",
                    isLeftOut: row[6] == "l", isVirtual: row[6] == "v", type: row[7] ?? "",
                    properties: row[8] ?? "", isChangedWithTable: row[9] == "t"))
        }
        let labelsByTable = Dictionary(grouping: labels.filter { $0.count == 4 }) { $0[0] }
        tables = facts.map { table in
            var new = Table(
                name: table.name, oid: table.oid,
                files: Dictionary(table.parts.map { ($0.oid, $0.file) }) { first, _ in first },
                columns: byTable[table.oid] ?? [])
            if table.kind == "p" {
                new.partitions = Dictionary(
                    table.parts.filter(\.isSent).map { ($0.oid, $0.name) }
                ) { first, _ in first }
                new.attached = Dictionary(
                    table.parts.filter(\.isSent).map { ($0.oid, $0.attached) }
                ) { first, _ in first }
            }
            new.labels = [:]
            for row in labelsByTable["\(table.oid)"] ?? [] {
                guard let label = row[2].flatMap({ UInt32($0) }) else { continue }
                new.labels?[label] = row[3]
                new.labelled[label, default: []].append(row[1] ?? "")
            }
            return new
        }
        index()
    }

    /// - Parameters:
    ///   - publication: tells which columns are sent.
    ///   - isListHeeded: a list of columns in it is meant to be.
    static func columnsQuery(
        _ tables: [TableName], publication: String, isListHeeded: Bool, serverVersion: Int
    ) -> String {
        let hasLists = serverVersion >= 150000
        let isSent = serverVersion >= 180000 ? "a.attname = ANY (p.attnames)" : "false"
        let isLeftOut = hasLists && isListHeeded ? "a.attname <> ALL (p.attnames)" : "false"
        let lists =
            hasLists
            ? "LEFT JOIN pg_catalog.pg_publication_tables p ON p.schemaname = n.nspname "
                + "AND p.tablename = c.relname "
                + "AND p.pubname = \(PostgresConnection.literal(publication)) " : ""
        // A default that is made anew gets a row of its own anew.
        let properties =
            "ROW(a.attnotnull, a.atthasdef, a.attidentity, a.attstorage, a.attcompression, "
            + "a.attstattarget, a.attislocal, a.attinhcount, a.attacl, a.attoptions, "
            + "a.attfdwoptions, (SELECT d.xmin FROM pg_catalog.pg_attrdef d "
            + "WHERE d.adrelid = a.attrelid AND d.adnum = a.attnum))"
        return "SELECT c.oid, a.attnum, a.attname, a.xmin, "
            + "CASE WHEN a.atthasmissing THEN a.attmissingval::pg_catalog.text END, "
            + "a.atthasdef OR a.attidentity <> '', "
            + "CASE WHEN a.attgenerated = '' THEN CASE WHEN \(isLeftOut) THEN 'l' ELSE '' END "
            + "WHEN \(isSent) THEN '' ELSE a.attgenerated::text END, "
            + "a.atttypid || '.' || a.atttypmod || '.' || a.attcollation, "
            + "pg_catalog.hashtext(\(properties)::pg_catalog.text), "
            // Of a partitioned table the partitions are written anew.
            + "c.relkind = 'p' OR c.xmin = a.xmin "
            + "\(CatalogueSQL.source) \(lists)WHERE \(CatalogueSQL.isNamed(tables)) "
            + "ORDER BY c.oid, a.attnum"
    }

    /// The labels of enums, and of composite types the attributes; also below arrays, domains and
    /// other composites.
    static func labelsQuery(_ tables: [TableName]) -> String {
        "WITH RECURSIVE x(rel, name, type) AS (SELECT c.oid, a.attname, a.atttypid "
            + "\(CatalogueSQL.source) WHERE \(CatalogueSQL.isNamed(tables)) UNION "
            + "SELECT x.rel, x.name, inner_type.oid FROM x "
            + "JOIN pg_catalog.pg_type t ON t.oid = x.type JOIN LATERAL ("
            + "SELECT CASE t.typtype WHEN 'd' THEN t.typbasetype ELSE t.typelem END AS oid "
            + "WHERE t.typtype = 'd' OR t.typcategory = 'A' AND t.typelem <> 0 UNION ALL "
            + "SELECT a.atttypid FROM pg_catalog.pg_attribute a WHERE t.typtype = 'c' "
            + "AND a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped"
            + ") inner_type ON true) "
            + "SELECT x.rel, x.name, e.oid, e.enumlabel::text FROM x "
            + "JOIN pg_catalog.pg_enum e ON e.enumtypid = x.type UNION ALL "
            + "SELECT x.rel, x.name, t.oid, '(' || (SELECT coalesce(string_agg(a.attname || ' ' || "
            + "pg_catalog.format_type(a.atttypid, a.atttypmod), ', ' ORDER BY a.attnum), '') "
            + "FROM pg_catalog.pg_attribute a WHERE a.attrelid = t.typrelid AND a.attnum > 0 "
            + "AND NOT a.attisdropped) || ')' FROM x "
            + "JOIN pg_catalog.pg_type t ON t.oid = x.type AND t.typtype = 'c' ORDER BY 1, 3, 2"
    }

    var numbers: Set<UInt32> { Set(tables.map(\.oid)) }

    func table(_ name: TableName) -> Table? { byName[name].map { tables[$0] } }

    func table(numbered oid: UInt32) -> Table? { byNumber[oid].map { tables[$0] } }

    /// The numbers of all that had this name, with the one that has it now.
    func known(_ name: TableName) -> Set<UInt32> {
        guard let table = table(name) else { return [] }
        return Set(table.former + [table.oid])
    }

    // MARK: Comparing

    /// Configured tables under whose name there was another table before.
    func replaced(since before: TableMemory) -> [TableName] {
        tables.filter { table in
            // Also when the one that has the name now was followed under another: two that swapped
            // their names both have the rows of the other at the targets.
            before.table(table.name).map { $0.oid != table.oid } ?? false
        }.map(\.name)
    }

    /// With what is gone and may still come: the numbers of tables that had a name before, names of
    /// columns, columns that were dropped.
    ///
    /// - Parameters:
    ///   - end: where the log ends.
    ///   - position: where reading goes on; nil where that is not known.
    func remembering(_ before: TableMemory, end: LSN, from position: LSN?) -> TableMemory {
        TableMemory(
            tables: tables.map { table in
                var table = table
                let known = before.known(table.name).subtracting([table.oid]).sorted()
                table.former = Array(known.suffix(Self.formerMax))
                guard let same = before.table(numbered: table.oid) else { return table }
                for index in table.columns.indices {
                    let column = table.columns[index]
                    guard let was = same.columns.first(where: { $0.number == column.number }) else {
                        continue
                    }
                    let names = (was.former + [was.name]).filter { $0 != column.name }
                    table.columns[index].former = Array(names.suffix(Self.formerMax))
                }
                let now = Set(table.columns.map(\.number))
                let dropped = same.columns.filter { !now.contains($0.number) && !$0.isUnsent }
                    .flatMap { column in
                        (column.former + [column.name]).map {
                            Gone(number: column.number, name: $0, at: end)
                        }
                    }
                let kept = same.gone.filter { gone in position.map { gone.at > $0 } ?? true }
                table.gone = Array((kept + dropped).suffix(Self.goneMax))
                return table
            })
    }
    private static let goneMax = 64

    /// Columns that were dropped since `before`, under their last name.
    func dropped(since before: TableMemory) -> [(table: TableName, column: String)] {
        tables.flatMap { table in
            (before.table(numbered: table.oid)?.columns ?? []).filter { was in
                !was.isUnsent && !table.columns.contains { $0.number == was.number }
            }.map { (table.name, $0.name) }
        }
    }
    private static let formerMax = 8

    /// Changes of rows that the server sends nothing of.
    struct SilentChange: Sendable, Equatable {
        enum Kind: Sendable, Equatable {
            /// A new column whose value in old rows is this constant.
            case constant(String)
            /// A new column with a value for each row; or, where its default is gone again, maybe.
            case computed(isSure: Bool)
            /// A column whose values were written anew; or, with something else that changed in
            /// the same transaction, may have been.
            case rewritten(isSure: Bool)
            /// A column with another name: copies have the values of old rows under this one.
            case renamed(from: String)
            /// A new column with the name of one that was dropped, whose values copies still have.
            case remade
            /// No longer generated: rows from before hold values that were never sent.
            case ungenerated
            /// Values of an enum are called otherwise now.
            case relabelled(from: String, to: String)
        }
        let table: TableName
        let column: String
        let kind: Kind
    }

    /// - Parameter writings: how files came to be that changed since.
    func silentChanges(
        since before: TableMemory, _ writings: [UInt32: Writing] = [:]
    ) -> [SilentChange] {
        tables.flatMap { table -> [SilentChange] in
            guard let known = before.table(numbered: table.oid),
                !known.columns.isEmpty
            else { return [] }
            let isRewritten = table.files.contains { part, file in
                known.files[part].map { $0 != file } ?? false
            }
            let isByAlter = table.files.keys.contains { writings[$0] == .byAlter }
            // Only its partitions know which value old rows have.
            let isPartitioned = table.files.keys.contains { $0 != table.oid }
            let numbers = Set(table.columns.map(\.number))
            return relabelled(table, known)
                + table.columns.compactMap { column in
                    guard !column.isUnsent else { return nil }
                    let was = known.columns.first { $0.number == column.number }
                    let kind: SilentChange.Kind
                    if was?.isUnsent == true {
                        kind = .ungenerated
                    } else if was == nil, let value = column.missingValue {
                        kind = .constant(value)
                    } else if was == nil, column.hasDefault, isRewritten || isPartitioned {
                        kind = .computed(isSure: true)
                    } else if was == nil, isRewritten,
                        !known.columns.contains(where: { $0.name == column.name })
                    {
                        kind = .computed(isSure: false)
                    } else if let was, was.name != column.name {
                        kind = .renamed(from: was.name)
                    } else if was == nil,
                        let old = known.columns.first(where: { $0.name == column.name }),
                        !numbers.contains(old.number)
                    {
                        kind = .remade
                    } else if isRewritten, let was,
                        let isSure = column.isRewritten(since: was, isByAlter: isByAlter)
                    {
                        kind = .rewritten(isSure: isSure)
                    } else {
                        return nil
                    }
                    return SilentChange(table: table.name, column: column.name, kind: kind)
                }
        }
    }

    private func relabelled(_ table: Table, _ known: Table) -> [SilentChange] {
        guard let now = table.labels, let before = known.labels else { return [] }
        return now.keys.sorted().flatMap { number -> [SilentChange] in
            guard let old = before[number], let new = now[number], old != new else { return [] }
            return (table.labelled[number] ?? []).map {
                SilentChange(table: table.name, column: $0, kind: .relabelled(from: old, to: new))
            }
        }
    }

    // MARK: Text

    // One line for a table, its words apart by a blank, so that no name or value needs more than
    // percent signs:
    //   schema name oid former,… part:file,… attnum:changedBy:name,… [word=…]…
    // Words that a line of an earlier version lacks are not known. Of a column no more is kept than
    // telling a new or changed one takes.

    var text: String {
        tables.map { table in
            let files = table.files.sorted { $0.key < $1.key }.map { "\($0.key):\($0.value)" }
            let columns = table.columns.map {
                "\($0.number):\($0.changedBy):\($0.name.escapedWord)"
            }
            let former = table.columns.flatMap { column in
                column.former.map { "\(column.number):\($0.escapedWord)" }
            }
            let unsent = table.columns.filter(\.isUnsent).map { "\($0.number)" }
            let types = table.columns.filter { !$0.type.isEmpty }.map {
                "\($0.number):\($0.type):\($0.properties)"
            }
            let gone = table.gone.map {
                "\($0.number):\($0.at.value):\($0.name.escapedWord)"
            }
            let partitions = table.partitions.sorted { $0.key < $1.key }.map {
                "\($0):\($1.schema.escapedWord):\($1.name.escapedWord)"
            }
            var words = [
                table.name.schema.escapedWord, table.name.name.escapedWord, "\(table.oid)",
                Self.list(table.former.map { "\($0)" }), Self.list(files), Self.list(columns),
                "names=" + Self.list(former), "unsent=" + Self.list(unsent),
                "types=" + Self.list(types),
                "gone=" + Self.list(gone), "partitions=" + Self.list(partitions),
                "attached="
                    + Self.list(
                        table.attached.sorted { $0.key < $1.key }.map { "\($0):\($1)" }),
            ]
            if let labels = table.labels {
                let labels = labels.sorted { $0.key < $1.key }.map { "\($0):\($1.escapedWord)" }
                words.append("labels=" + Self.list(labels))
            }
            return words.joined(separator: " ")
        }.joined(separator: "\n")
    }

    private static func list(_ parts: [String]) -> String {
        parts.isEmpty ? "-" : parts.joined(separator: ",")
    }

    init(text: String) {
        tables = text.split(separator: "\n").compactMap { line in
            let words = line.split(separator: " ")
            guard words.count >= 6, let oid = UInt32(words[2]) else { return nil }
            var table = Table(
                name: TableName(
                    schema: String(words[0]).unescapedWord, name: String(words[1]).unescapedWord),
                oid: oid)
            table.former = words[3].split(separator: ",").compactMap { UInt32($0) }
            for file in words[4].split(separator: ",") {
                let parts = file.split(separator: ":", maxSplits: 1)
                guard parts.count == 2, let part = UInt32(parts[0]) else { continue }
                table.files[part] = String(parts[1])
            }
            let more = Self.words(words.dropFirst(6))
            let unsent = Set((more["unsent"] ?? []).compactMap { Int($0[0]) })
            var former: [Int: [String]] = [:]
            for parts in more["names"] ?? [] where parts.count == 2 {
                former[Int(parts[0]) ?? 0, default: []].append(parts[1].unescapedWord)
            }
            var types: [Int: (type: String, properties: String)] = [:]
            for parts in more["types"] ?? [] where parts.count == 3 {
                types[Int(parts[0]) ?? 0] = (parts[1], parts[2])
            }
            table.columns = words[5].split(separator: ",").compactMap { column in
                let parts = column.split(separator: ":", maxSplits: 2)
                guard parts.count == 3, let number = Int(parts[0]) else { return nil }
                return Column(
                    number: number, name: String(parts[2]).unescapedWord,
                    changedBy: String(parts[1]), missingValue: nil, hasDefault: false,
                    isUnsent: unsent.contains(number), former: former[number] ?? [],
                    type: types[number]?.type ?? "",
                    properties: types[number]?.properties ?? "")
            }
            for parts in more["gone"] ?? [] where parts.count == 3 {
                guard let number = Int(parts[0]), let at = UInt64(parts[1]) else { continue }
                table.gone.append(
                    Gone(number: number, name: parts[2].unescapedWord, at: LSN(at)))
            }
            for parts in more["partitions"] ?? [] where parts.count == 3 {
                guard let oid = UInt32(parts[0]) else { continue }
                table.partitions[oid] = TableName(
                    schema: parts[1].unescapedWord, name: parts[2].unescapedWord)
            }
            for parts in more["attached"] ?? [] where parts.count == 2 {
                if let oid = UInt32(parts[0]) { table.attached[oid] = parts[1] }
            }
            table.arePartitionsKnown = more["partitions"] != nil
            if let labels = more["labels"] {
                table.labels = [:]
                for parts in labels where parts.count == 2 {
                    guard let oid = UInt32(parts[0]) else { continue }
                    table.labels?[oid] = parts[1].unescapedWord
                }
            }
            return table
        }
        index()
    }

    /// `word=a:b,c:d` as lists of parts.
    private static func words(_ words: ArraySlice<Substring>) -> [Substring: [[String]]] {
        var found: [Substring: [[String]]] = [:]
        for word in words {
            guard let equals = word.firstIndex(of: "=") else { continue }
            let list = word[word.index(after: equals)...]
            found[word[..<equals]] =
                list == "-"
                ? []
                : list.split(separator: ",").map { part in
                    part.split(separator: ":", omittingEmptySubsequences: false).map { String($0) }
                }
        }
        return found
    }
}

extension TableMemory.Column {
    /// Whether its values were written anew, in a table whose rows were: false where they may have
    /// been, nil where something else explains that its definition was written.
    fileprivate func isRewritten(
        since before: TableMemory.Column, isByAlter: Bool
    ) -> Bool? {
        guard changedBy != before.changedBy, name == before.name else { return nil }
        guard type == before.type, !properties.isEmpty, !before.properties.isEmpty,
            properties != before.properties
        else { return true }
        return isChangedWithTable || isByAlter ? false : nil
    }
}

extension String {
    /// One word of a text, in which commas and colons divide.
    var escapedWord: String { escaped(besides: [UInt8(ascii: ","), UInt8(ascii: ":")]) }

    var unescapedWord: String {
        var bytes: [UInt8] = []
        var rest = Array(utf8)[...]
        while let byte = rest.popFirst() {
            if byte == UInt8(ascii: "%"), rest.count >= 2,
                let value = UInt8(String(decoding: rest.prefix(2), as: UTF8.self), radix: 16)
            {
                bytes.append(value)
                rest = rest.dropFirst(2)
            } else {
                bytes.append(byte)
            }
        }
        return String(decoding: bytes, as: UTF8.self)
    }
}
