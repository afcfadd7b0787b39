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
        let isGenerated: Bool
    }

    struct Table: Sendable, Equatable {
        let name: TableName
        let oid: UInt32
        /// Numbers of tables that had this name before; changes of theirs may still come.
        var former: [UInt32] = []
        /// By the number of what holds rows: its file, which changes when rows are written anew.
        var files: [UInt32: String] = [:]
        var columns: [Column] = []
    }

    var tables: [Table] = []

    init(tables: [Table] = []) { self.tables = tables }

    /// The tables as they are now.
    init(_ facts: [TableFacts], columns: [TextRow]) {
        var byTable: [UInt32: [Column]] = [:]
        for row in columns {
            guard row.count == 7, let oid = row[0].flatMap({ UInt32($0) }),
                let number = row[1].flatMap({ Int($0) })
            else { continue }
            byTable[oid, default: []].append(
                Column(
                    number: number, name: row[2] ?? "", changedBy: row[3] ?? "",
                    missingValue: row[4], hasDefault: row[5] == "t", isGenerated: row[6] == "t"))
        }
        tables = facts.map { table in
            Table(
                name: table.name, oid: table.oid,
                files: Dictionary(table.parts.map { ($0.oid, $0.file) }) { first, _ in first },
                columns: byTable[table.oid] ?? [])
        }
    }

    static func columnsQuery(_ tables: [TableName]) -> String {
        "SELECT c.oid, a.attnum, a.attname, a.xmin, "
            + "CASE WHEN a.atthasmissing THEN a.attmissingval::pg_catalog.text END, "
            + "a.atthasdef OR a.attidentity <> '', a.attgenerated <> '' "
            + "\(CatalogueSQL.source) WHERE \(CatalogueTable.isNamed(tables)) "
            + "ORDER BY c.oid, a.attnum"
    }

    var numbers: Set<UInt32> { Set(tables.map(\.oid)) }

    func table(_ name: TableName) -> Table? { tables.first { $0.name == name } }

    /// The numbers of all that had this name, with the one that has it now.
    func known(_ name: TableName) -> Set<UInt32> {
        guard let table = table(name) else { return [] }
        return Set(table.former + [table.oid])
    }

    // MARK: Comparing

    /// Configured tables under whose name there was another table before.
    func replaced(since before: TableMemory) -> [TableName] {
        tables.filter { table in
            guard let known = before.table(table.name) else { return false }
            // A table that was followed under another name goes on under its new one.
            return known.oid != table.oid && !before.numbers.contains(table.oid)
        }.map(\.name)
    }

    /// With the numbers of tables that had a name before, so that late changes of theirs are known.
    func remembering(_ before: TableMemory) -> TableMemory {
        TableMemory(
            tables: tables.map { table in
                var table = table
                let known = before.known(table.name).subtracting([table.oid]).sorted()
                table.former = Array(known.suffix(Self.formerMax))
                return table
            })
    }
    private static let formerMax = 8

    /// Changes of rows that the server sends nothing of.
    struct SilentChange: Sendable, Equatable {
        enum Kind: Sendable, Equatable {
            /// A new column whose value in old rows is this constant.
            case constant(String)
            /// A new column with a value for each row.
            case computed
            /// A column whose values were written anew.
            case rewritten
            /// A column with another name: copies have the values of old rows under this one.
            case renamed(from: String)
            /// A new column with the name of one that was dropped, whose values copies still have.
            case remade
        }
        let table: TableName
        let column: String
        let kind: Kind
    }

    func silentChanges(since before: TableMemory) -> [SilentChange] {
        tables.flatMap { table -> [SilentChange] in
            guard let known = before.tables.first(where: { $0.oid == table.oid }),
                !known.columns.isEmpty
            else { return [] }
            let isRewritten = table.files.contains { part, file in
                known.files[part].map { $0 != file } ?? false
            }
            // Only its partitions know which value old rows have.
            let isPartitioned = table.files.keys.contains { $0 != table.oid }
            return table.columns.compactMap { column in
                guard !column.isGenerated else { return nil }
                let was = known.columns.first { $0.number == column.number }
                let kind: SilentChange.Kind
                if was == nil, let value = column.missingValue {
                    kind = .constant(value)
                } else if was == nil, column.hasDefault, isRewritten || isPartitioned {
                    kind = .computed
                } else if let was, was.name != column.name {
                    kind = .renamed(from: was.name)
                } else if was == nil, known.columns.contains(where: { $0.name == column.name }) {
                    kind = .remade
                } else if let was, was.changedBy != column.changedBy, was.name == column.name,
                    isRewritten
                {
                    kind = .rewritten
                } else {
                    return nil
                }
                return SilentChange(table: table.name, column: column.name, kind: kind)
            }
        }
    }

    // MARK: Text

    // One line for a table, its words apart by a blank, so that no name or value needs more than
    // percent signs:
    //   schema name oid former,… part:file,… attnum:changedBy,…
    // Of a column no more is kept than telling a new or changed one takes.

    var text: String {
        tables.map { table in
            let files = table.files.sorted { $0.key < $1.key }.map { "\($0.key):\($0.value)" }
            let columns = table.columns.map {
                "\($0.number):\($0.changedBy):\($0.name.escapedWord)"
            }
            return [
                table.name.schema.escapedWord, table.name.name.escapedWord, "\(table.oid)",
                Self.list(table.former.map { "\($0)" }), Self.list(files), Self.list(columns),
            ].joined(separator: " ")
        }.joined(separator: "\n")
    }

    private static func list(_ parts: [String]) -> String {
        parts.isEmpty ? "-" : parts.joined(separator: ",")
    }

    init(text: String) {
        tables = text.split(separator: "\n").compactMap { line in
            let words = line.split(separator: " ")
            guard words.count == 6, let oid = UInt32(words[2]) else { return nil }
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
            table.columns = words[5].split(separator: ",").compactMap { column in
                let parts = column.split(separator: ":", maxSplits: 2)
                guard parts.count == 3, let number = Int(parts[0]) else { return nil }
                return Column(
                    number: number, name: String(parts[2]).unescapedWord,
                    changedBy: String(parts[1]), missingValue: nil, hasDefault: false,
                    isGenerated: false)
            }
            return table
        }
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
