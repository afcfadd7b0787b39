import WeirCore
import WeirPostgresClient

// What happens to rows without a change that the server sends, as declared gaps (CORRECTNESS 79,
// 87).

extension TableMemory.SilentChange {
    func gap(_ catalogue: [CatalogueTable]) -> DeclaredGap {
        let what: String
        switch kind {
        case .constant(let value):
            what =
                "column \"\(column)\" was added to \"\(table)\" with the default \(value.bounded): "
                + "rows that exist have it"
        case .computed(let isSure):
            what =
                "column \"\(column)\" \(isSure ? "was" : "may have been") added to \"\(table)\" "
                + "with a default for each row: rows that exist have a value"
        case .rewritten(let isSure):
            what =
                "column \"\(column)\" of \"\(table)\" \(isSure ? "was" : "may have been") "
                + "rewritten by ALTER TABLE"
        case .renamed(let name):
            what =
                "column \"\(name)\" of \"\(table)\" is called \"\(column)\" now: copies have the "
                + "values of rows from before under the old name, but those of sinks that name it, "
                + "which go on under that name"
        case .remade:
            what =
                "column \"\(column)\" of \"\(table)\" was dropped and made again: copies have the "
                + "old column's values in rows from before"
        case .ungenerated:
            what =
                "column \"\(column)\" of \"\(table)\" is sent from now on, as it is published or no "
                + "longer generated: rows from before have values that copies lack"
        case .relabelled(let old, let new) where new.hasPrefix("("):
            what =
                "the type of column \"\(column)\" of \"\(table)\", or one inside it, has the "
                + "attributes \(new.bounded) now, and had \(old.bounded): copies have rows from before "
                + "in the old form, and a target of the same type needs the same change"
        case .relabelled(let old, let new):
            what =
                "value \"\(old)\" of the enum in column \"\(column)\" of \"\(table)\" is called "
                + "\"\(new)\" now: copies show the old name in rows from before"
        }
        let changesValues =
            switch kind {
            case .rewritten, .relabelled, .remade: true
            case .constant, .computed, .renamed, .ungenerated: false
            }
        let isOfKey =
            catalogue.first { $0.name == table }?.columns.contains {
                $0.name == column && $0.keyPlace != nil
            } ?? false
        return DeclaredGap(
            .rowsChangedSilently, table.description,
            "\(what), and the server sends no change of that",
            hint: (changesValues && isOfKey ? GapHint.oldKeys : "")
                + GapHint.reload(table, catalogue))
    }
}

extension String {
    /// An array literal of one element, without its braces, cut to what a line can take.
    fileprivate var bounded: String {
        let inner = hasPrefix("{") && hasSuffix("}") ? String(dropFirst().dropLast()) : self
        return inner.count > 60 ? inner.prefix(60) + "…" : inner
    }
}

extension PostgresSource {
    /// Nil for a partition that came or went empty.
    func gap(
        of move: TableMemory.Move, _ catalogue: [CatalogueTable], _ sql: PostgresConnection
    ) throws(WeirError) -> DeclaredGap? {
        if let gap = move.changedGap(catalogue) { return gap }
        let isAttached = move.kind == .attached
        let row = try run(
            TableMemory.Move.partitionQuery(move.partition), on: sql, to: "look at a partition"
        ).first
        guard let row, let schema = row[0], let name = row[1] else {
            // Dropped: what it held cannot be asked any more.
            return isAttached ? nil : move.wentGap(as: nil, holdsRows: nil)
        }
        let now = TableName(schema: schema, name: name)
        let holdsRows = holdsRows(move, now, sql)
        // Most are made as partitions, and empty; one that was filled first in the same transaction
        // shows it where its rows may be read.
        if holdsRows == false || holdsRows == nil && isAttached && row[2] == "t" {
            return nil
        }
        return isAttached
            ? move.cameGap(as: now, holdsRows: holdsRows, catalogue)
            : move.wentGap(as: now, holdsRows: holdsRows)
    }

    /// Of one that was attached, whether it holds rows from before; nil where that cannot be seen,
    /// as without the right to read it.
    private func holdsRows(
        _ move: TableMemory.Move, _ now: TableName, _ sql: PostgresConnection
    ) -> Bool? {
        let answer = answerInTime(
            move.kind == .attached
                ? TableMemory.Move.olderRowsQuery(move.partition, now)
                : "SELECT EXISTS (SELECT FROM ONLY \(now.sql))", sql)
        return answer?.first.map { $0[0] == "t" }
    }

    /// How the files of tables came to be; of those that cannot be read, what the catalogue tells.
    func writings(
        of parts: [UInt32: TableName], _ sql: PostgresConnection
    ) throws(WeirError) -> [UInt32: TableMemory.Writing] {
        guard !parts.isEmpty else { return [:] }
        let counted = try run(
            TableMemory.Writing.countedQuery(parts.keys.sorted()), on: sql, to: "look at the tables"
        )
        let isCounted = Set(counted.compactMap { $0[0].flatMap { UInt32($0) } })
        var writings: [UInt32: TableMemory.Writing] = [:]
        // So that tables that are locked do not keep the stream waiting one after the other.
        var unanswered = 0
        for (part, name) in parts.sorted(by: { $0.key < $1.key }) {
            let query = TableMemory.Writing.query(part, name)
            let row = unanswered < 5 ? answerInTime(query, sql)?.first : nil
            if row == nil { unanswered += 1 }
            writings[part] = TableMemory.Writing(row: row, isCounted: isCounted.contains(part))
        }
        return writings
    }

    /// By their numbers; nil where that cannot be seen in time.
    func tablesWithOutsideValues(_ sql: PostgresConnection) -> Set<UInt32>? {
        answerInTime(CatalogueTable.outsideQuery(config.tables), sql).map { rows in
            Set(rows.compactMap { $0[0].flatMap { UInt32($0) } })
        }
    }

    /// For what is good to know, and needs a lock or a right: nil where it cannot be had soon.
    private func answerInTime(_ query: String, _ sql: PostgresConnection) -> [TextRow]? {
        try? sql.query(
            "SET LOCAL lock_timeout = '500ms'; SET LOCAL statement_timeout = '5s'; " + query)
    }
}

extension TableMemory.Writing {
    /// Tables whose rows were counted since they have their file: TRUNCATE forgets the number,
    /// VACUUM FULL does not.
    fileprivate static func countedQuery(_ parts: [UInt32]) -> String {
        "SELECT oid FROM pg_catalog.pg_class WHERE reltuples >= 0 "
            + "AND oid IN (\(parts.map { "\($0)" }.joined(separator: ", ")))"
    }

    /// A look at the first rows of the file: whether there are any, whether one is older than the
    /// transaction that made it, and whether one was written by that and before it was done, as
    /// ALTER TABLE does. VACUUM FULL keeps the age of rows. The file is at least as old as the
    /// older one of what the catalogue has of the table and of its TOAST table.
    fileprivate static func query(_ oid: UInt32, _ name: TableName) -> String {
        "SELECT pg_catalog.count(r.xmin) > 0, "
            + "coalesce(pg_catalog.bool_or(pg_catalog.age(r.xmin) > pg_catalog.age(f.xmin)), "
            + "false), "
            + "coalesce(pg_catalog.bool_or(r.xmin = f.xmin "
            + "AND r.cmin::pg_catalog.text::bigint <= f.cmin::pg_catalog.text::bigint), false) "
            + "FROM (SELECT c.xmin, c.cmin FROM pg_catalog.pg_class t "
            + "JOIN pg_catalog.pg_class c ON c.oid IN (t.oid, t.reltoastrelid) "
            + "WHERE t.oid = \(oid) ORDER BY pg_catalog.age(c.xmin) DESC, "
            + "c.cmin::pg_catalog.text::bigint LIMIT 1) f "
            + "LEFT JOIN (SELECT xmin, cmin FROM ONLY \(name.sql) LIMIT 100) r ON true"
    }

    /// - Parameter row: of `query`; nil where the table cannot be read.
    fileprivate init?(row: TextRow?, isCounted: Bool) {
        let (hasRows, hasOlder, isByAlter) = (row?[0] == "t", row?[1] == "t", row?[2] == "t")
        if isByAlter {
            self = .byAlter
        } else if hasRows ? !hasOlder : !isCounted {
            self = .empty
        } else {
            return nil
        }
    }
}

extension TableMemory.Move {
    /// Nil for a partition that came or went.
    fileprivate func changedGap(_ catalogue: [CatalogueTable]) -> DeclaredGap? {
        let what = name == root ? "\"\(root)\"" : "partition \"\(name)\" of \"\(root)\""
        let part = name == root ? nil : name
        let changes = "the server sends none of the changes of its rows meanwhile"
        switch kind {
        case .attached, .went:
            return nil
        case .again:
            return DeclaredGap(
                .partitionMoved, root.description,
                "\(what) was detached and attached again: \(changes)",
                hint: GapHint.deletedRows + GapHint.reload(root, catalogue, of: part))
        case .unlogged(let isSure):
            return DeclaredGap(
                .rowsChangedSilently, root.description,
                "\(what) \(isSure ? "was" : "may have been") UNLOGGED for a while: \(changes)",
                hint: GapHint.deletedRows + GapHint.reload(root, catalogue, of: part))
        case .emptied:
            return DeclaredGap(
                .rowsChangedSilently, root.description,
                "\(what) was emptied, as by TRUNCATE: the server sends nothing of that for a single "
                    + "partition, and targets keep its rows",
                hint: "Remove the rows within its bounds from the targets. "
                    + GapHint.reload(root, catalogue, of: part))
        }
    }

    /// Its name, and whether it was made as a partition.
    fileprivate static func partitionQuery(_ oid: UInt32) -> String {
        "SELECT n.nspname, c.relname, (SELECT t.xmin::pg_catalog.text = h.xmin::pg_catalog.text "
            + "FROM pg_catalog.pg_type t, pg_catalog.pg_inherits h "
            + "WHERE t.oid = c.reltype AND h.inhrelid = c.oid) FROM pg_catalog.pg_class c "
            + "JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = \(oid)"
    }

    /// A look at its first rows, which are its oldest unless most were updated since: whether one
    /// was written before the partition was attached.
    fileprivate static func olderRowsQuery(_ oid: UInt32, _ name: TableName) -> String {
        // Of the transaction that attached it, rows of its earlier commands.
        "SELECT coalesce(bool_or(pg_catalog.age(r.xmin) > pg_catalog.age(h.xmin) "
            + "OR r.xmin = h.xmin AND r.cmin::pg_catalog.text::bigint "
            + "< h.cmin::pg_catalog.text::bigint), false) "
            + "FROM (SELECT xmin, cmin FROM ONLY \(name.sql) LIMIT 100) r, "
            + "(SELECT xmin, cmin FROM pg_catalog.pg_inherits WHERE inhrelid = \(oid)) h"
    }

    fileprivate func cameGap(
        as now: TableName, holdsRows: Bool?, _ catalogue: [CatalogueTable]
    ) -> DeclaredGap {
        let rows = holdsRows == nil ? "may hold rows" : "holds rows"
        return DeclaredGap(
            .partitionMoved, root.description,
            "partition \"\(now)\" was attached to \"\(root)\" and \(rows) from before: the server "
                + "sends none of them",
            hint: GapHint.reload(root, catalogue, of: now))
    }

    fileprivate func wentGap(as now: TableName?, holdsRows: Bool?) -> DeclaredGap {
        let rows = holdsRows == nil ? "may keep its rows" : "keep its rows"
        let what = now == nil ? "dropped" : "detached"
        let which =
            now.map { "They are the rows of \"\($0)\" at the source. " }
            ?? "They are those within the bounds it had. "
        return DeclaredGap(
            .partitionMoved, root.description,
            "partition \"\(name)\" of \"\(root)\" was \(what): the server sends no deletes, and "
                + "targets \(rows)",
            hint: "Remove its rows from the targets, if they are not wanted there. \(which)Then: "
                + "weir gap resolve ID.")
    }
}

extension TableMemory {
    /// CORRECTNESS 80: once for each table whose generated columns do not come.
    func unsentFindings(_ config: PostgresSourceConfig, _ serverVersion: Int) -> [Finding] {
        tables.compactMap { table in
            let unsent = table.columns.filter { $0.isUnsent && !$0.isLeftOut }
            guard let first = unsent.first else { return nil }
            let names = unsent.prefix(5).map { "\"\($0.name)\"" }.joined(separator: ", ")
            let rest = unsent.count > 5 ? " and \(unsent.count - 5) more" : ""
            let (noun, verb) = unsent.count == 1 ? ("column", "is") : ("columns", "are")
            let publication = PostgresConnection.identifier(config.publication)
            let isEverSent = !unsent.allSatisfy(\.isVirtual)
            return Finding(
                .generatedNotSent, .warning, table.name.description,
                "generated \(noun) \(names)\(rest) of \"\(table.name)\" \(verb) not sent",
                detail: isEverSent
                    ? "PostgreSQL sends stored ones from version 18 on, where the publication says so."
                    : "PostgreSQL never sends virtual ones.",
                hint: isEverSent && serverVersion >= 180000
                    ? "ALTER PUBLICATION \(publication) SET (publish_generated_columns = stored);"
                    : "Where they are wanted, let the target compute \"\(first.name)\" as the "
                        + "source does.")
        }
    }
}
