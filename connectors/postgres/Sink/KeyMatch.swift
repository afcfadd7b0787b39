import WeirCore
import WeirPostgresClient

/// How a key column of the target is compared with a value, so that its unique index is used.
///
/// The session's `search_path` is empty. A plain `=` would then not find the operators of extension
/// types, or fall back to those of text, which the index does not know; and a parameter without
/// a type would take that of text or of any record (CORRECTNESS 85).
struct KeyMatch: Sendable, Equatable {
    let column: String
    /// Equality of the index's operator class, as `OPERATOR(schema.=)`.
    let comparison: String
    /// The column's type, below domains, with its schema and without modifiers: with one, a cast
    /// would cut a longer key to the length of another.
    let type: String

    /// What is right for every built-in type of which no operator is known.
    static func plain(_ column: String) -> KeyMatch {
        KeyMatch(column: column, comparison: "=", type: "")
    }

    /// A column beside a parameter or another column.
    func matches(_ column: String, parameter number: Int) -> String {
        "\(column) \(comparison) $\(number)" + (type.isEmpty ? "" : "::\(type)")
    }

    func matches(_ left: String, _ right: String) -> String { "\(left) \(comparison) \(right)" }

    /// Finds the index on exactly these columns, a primary key before others.
    ///
    /// - Returns: one per column, in their order. Blocks.
    static func find(
        _ columns: [String], of table: TargetTable, _ connection: PostgresConnection
    ) throws(PostgresFailure) -> [KeyMatch] {
        if columns.isEmpty { return [] }
        var indexes: [(oid: String, matches: [KeyMatch])] = []
        for row in try connection.query(query(table.oid)) {
            guard let oid = row[0], let column = row[1] else { continue }
            let match =
                row[2].map { KeyMatch(column: column, comparison: $0, type: row[3] ?? "") }
                ?? .plain(column)
            if indexes.last?.oid == oid {
                indexes[indexes.count - 1].matches.append(match)
            } else {
                indexes.append((oid, [match]))
            }
        }
        let index = indexes.first { Set($0.matches.map(\.column)) == Set(columns) }
        return columns.map { column in
            index?.matches.first { $0.column == column } ?? .plain(column)
        }
    }

    /// One row per column of a unique index. Unique indexes are B-trees; equality is the third
    /// strategy of a B-tree's class.
    private static func query(_ oid: UInt32) -> String {
        """
        SELECT i.indexrelid, a.attname, (SELECT pg_catalog.format('OPERATOR(%I.%s)', n.nspname, \
        o.oprname) FROM pg_catalog.pg_amop m JOIN pg_catalog.pg_operator o ON o.oid = m.amopopr \
        JOIN pg_catalog.pg_namespace n ON n.oid = o.oprnamespace WHERE m.amopfamily = c.opcfamily \
        AND m.amoplefttype = c.opcintype AND m.amoprighttype = c.opcintype \
        AND m.amopstrategy = 3), \
        (WITH RECURSIVE below AS (SELECT a.atttypid AS type UNION ALL SELECT t.typbasetype \
        FROM below JOIN pg_catalog.pg_type t ON t.oid = below.type WHERE t.typtype = 'd') \
        SELECT pg_catalog.format('%I.%I', n.nspname, t.typname) FROM below \
        JOIN pg_catalog.pg_type t ON t.oid = below.type \
        JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace WHERE t.typtype <> 'd') \
        FROM pg_catalog.pg_index i \
        JOIN pg_catalog.pg_class x ON x.oid = i.indexrelid \
        JOIN pg_catalog.pg_am h ON h.oid = x.relam AND h.amname = 'btree', \
        ROWS FROM (pg_catalog.unnest((i.indkey::pg_catalog.int2[])[0:i.indnkeyatts - 1]), \
        pg_catalog.unnest((i.indclass::pg_catalog.oid[])[0:i.indnkeyatts - 1])) k(attnum, class) \
        JOIN pg_catalog.pg_attribute a ON a.attnum = k.attnum \
        JOIN pg_catalog.pg_opclass c ON c.oid = k.class \
        WHERE i.indrelid = \(oid) AND a.attrelid = \(oid) AND i.indisunique \
        AND i.indimmediate AND i.indisvalid AND i.indpred IS NULL AND i.indexprs IS NULL \
        ORDER BY i.indisprimary DESC, i.indexrelid
        """
    }
}
