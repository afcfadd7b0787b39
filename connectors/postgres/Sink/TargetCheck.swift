import WeirCore
import WeirPostgresClient

/// Compares what is to be written of a source table with the target's table. Pure.
///
/// What is certain to fail is a blocking finding; what may fail, and what is left out or changed on
/// its way, is a warning. Rights are not looked at here: see `TargetRights`.
struct TargetCheck {
    let config: PostgresSinkConfig
    let schema: TableSchema
    let wanted: WantedColumns
    let table: TargetTable
    /// What a column that is missing would be made of, by its name.
    let types: [String: String]
    /// Whether each operation is written, by its raw value.
    let takes: [Bool]

    func takes(_ operation: Operation) -> Bool { takes[Int(operation.rawValue)] }
    var writes: Bool { takes(.insert) || takes(.update) || takes(.read) }
    private var key: [String] { wanted.key.map { wanted.all[$0].output } }

    var findings: [Finding] {
        var findings = missingColumns
        if wanted.isKeyed {
            findings += keyFindings + wanted.key.flatMap { collapse(wanted.all[$0]) }
        }
        if config.text != nil { findings += searchFindings }
        for column in wanted.all {
            guard let target = table.column(column.output) else { continue }
            findings += self.findings(column, target)
        }
        findings += unfilled
        findings += tableFindings + ruleFindings + identityFindings
        // The first blocking one is what the pipeline stops with.
        return findings.filter { $0.severity == .blocking }
            + findings.filter { $0.severity == .warning }
    }

    func finding(
        _ code: ErrorCode, _ severity: Finding.Severity, at column: String? = nil,
        _ message: String, detail: String? = nil, hint: String? = nil
    ) -> Finding {
        let subject = column.map { "\(table.name).\($0)" } ?? "\(table.name)"
        return Finding(code, severity, subject, message, detail: detail, hint: hint)
    }

    private func altering(_ column: String, _ action: String) -> String {
        "ALTER TABLE \(table.name.sql) ALTER COLUMN \(PostgresConnection.identifier(column)) "
            + action
    }

    static func list(_ names: [String]) -> String {
        names.map { "\"\($0)\"" }.joined(separator: ", ")
    }

    private func adding(_ name: String) -> String {
        TargetDefinition.addColumn(name, types[name] ?? "pg_catalog.text", to: table.name) + ";"
    }

    // MARK: Columns that are not there

    /// Those that `on_new_column` does not add.
    private var missingColumns: [Finding] {
        let missing = wanted.all.filter {
            table.column($0.output) == nil && !(wanted.isKeyed && key.contains($0.output))
        }
        if missing.isEmpty || config.onNewColumn == .add { return [] }
        let names = Self.list(missing.map(\.output))
        let statements = missing.map { adding($0.output) }.joined(separator: " ")
        if config.onNewColumn == .ignore, !missing.contains(where: \.isNamed) {
            return [
                finding(
                    .newColumn, .warning,
                    "the target \"\(table.name)\" lacks \(names) of the source; left out "
                        + "(\"on_new_column\": \"ignore\")",
                    hint: "Add it and start Weir again, or name the \"columns\" to write: "
                        + statements)
            ]
        }
        return [
            finding(
                .newColumn, .blocking, "the target \"\(table.name)\" lacks \(names)",
                hint: statements)
        ]
    }

    // MARK: The key

    private var keyFindings: [Finding] {
        let lost = key.filter { name in
            guard let column = table.column(name) else { return config.onNewColumn != .add }
            return column.isGenerated
        }
        if !lost.isEmpty {
            return [
                finding(
                    .newColumn, .blocking,
                    "the target \"\(table.name)\" does not take \(Self.list(lost)) of the key",
                    detail: "Without it rows could not be told apart.",
                    hint: lost.contains { table.column($0) != nil }
                        ? "Make it an ordinary column, or write to another table."
                        : renameHint(lost) ?? uniqueIndexHint)
            ]
        }
        if let waiting = table.deferrableKeys.first(where: { Set($0.columns) == Set(key) }) {
            return [deferrable(waiting)]
        }
        if table.hasUniqueKey(on: key) { return [] }
        return [
            finding(
                .noUniqueIndex, .blocking,
                "the target \"\(table.name)\" has no unique index on "
                    + "(\(key.map(PostgresConnection.identifier).joined(separator: ", "))), by "
                    + "which rows are told apart",
                detail: table.hasPrimaryKey ? "Its primary key is on other columns." : nil,
                hint: uniqueIndexHint)
        ]
    }

    private func deferrable(_ waiting: TargetTable.KeyConstraint) -> Finding {
        let name = PostgresConnection.identifier(waiting.constraint)
        let list = waiting.columns.map(PostgresConnection.identifier).joined(separator: ", ")
        let others = table.deferrableKeys.filter {
            $0 != waiting && Set($0.columns) == Set(waiting.columns)
        }
        let drops = ([waiting] + others).map {
            "DROP CONSTRAINT \(PostgresConnection.identifier($0.constraint))"
        }.joined(separator: ", ")
        let isPrimary = ([waiting] + others).contains(where: \.isPrimary)
        return finding(
            .noUniqueIndex, .blocking,
            "the constraint \(name) of the target \"\(table.name)\" is deferrable: rows are not "
                + "told apart by it, nor by another on the same columns",
            hint: "ALTER TABLE \(table.name.sql) \(drops), ADD "
                + "\(isPrimary ? "PRIMARY KEY" : "UNIQUE") (\(list));")
    }

    /// The source's key column has another name than the target's, as after a rename: a column
    /// added beside it would be null in all rows, and no delete would meet them.
    private func renameHint(_ lost: [String]) -> String? {
        let outputs = Set(wanted.all.map(\.output))
        let left = Set(table.uniqueKeys.joined()).subtracting(outputs)
        guard lost.count == 1, left.count == 1, let new = lost.first, let old = left.first else {
            return nil
        }
        return "ALTER TABLE \(table.name.sql) RENAME COLUMN \(PostgresConnection.identifier(old)) "
            + "TO \(PostgresConnection.identifier(new));"
    }

    /// The source's key was changed: changes from before need the key that is there, those from
    /// after this one. Which is the older is not known here, and none may be dropped before its
    /// changes are through: `TargetRefusal.ofOtherKey` says when one refuses a row.
    private var besideOldKey: String {
        guard let old = table.primaryKey, !old.isDeferrable,
            old.columns.allSatisfy({ name in wanted.all.contains { $0.output == name } }),
            !Set(key).isSubset(of: old.columns)
        else { return "" }
        let list = old.columns.map(PostgresConnection.identifier).joined(separator: ", ")
        return " Leave the primary key (\(list)) beside it: while the source's key changes, what "
            + "was written before and after needs both. Should one of them refuse a row later, "
            + "the error has the SQL that drops it."
    }

    private var uniqueIndexHint: String {
        let list = key.map(PostgresConnection.identifier).joined(separator: ", ")
        if let partition = table.partitionKey {
            // Rows of two partitions could not be compared otherwise.
            guard partition.allSatisfy(key.contains) else {
                return "It is partitioned by other columns, so that PostgreSQL allows no such "
                    + "index. Write to a table that is not, or is partitioned by columns of the "
                    + "key."
            }
            return "CREATE UNIQUE INDEX ON \(table.name.sql) (\(list));"
        }
        let missing = key.filter { table.column($0) == nil }
        if !missing.isEmpty {
            // In rows that are there it is null, which a primary key refuses.
            return "Fill \(Self.list(missing)) in the rows that are there, as the source has it, "
                + "after: \(missing.map(adding).joined(separator: " ")) "
                + "CREATE UNIQUE INDEX ON \(table.name.sql) (\(list));\(besideOldKey)"
        }
        return table.hasPrimaryKey
            ? "CREATE UNIQUE INDEX ON \(table.name.sql) (\(list));\(besideOldKey)"
            : "ALTER TABLE \(table.name.sql) ADD PRIMARY KEY (\(list));"
    }

    // MARK: Search

    private var searchFindings: [Finding] {
        guard let text = config.text else { return [] }
        let source = wanted.all.first { $0.output == text.column }
        guard let column = table.column(text.column) else {
            return source == nil ? [] : [Self.nameTaken(text, table.name)]
        }
        guard column.type == "tsvector" else {
            return [source == nil ? noVector(text, column) : Self.nameTaken(text, table.name)]
        }
        if source != nil, !column.isGenerated { return [Self.nameTaken(text, table.name)] }
        var findings: [Finding] = []
        if source != nil {
            findings.append(
                finding(
                    .searchColumn, .warning, at: text.column,
                    "the source's column \"\(text.column)\" is not written: in the target "
                        + "\"\(table.name)\" that is the name of the column for search",
                    hint: "To have both, give the source's another name in \"columns\", such as "
                        + "\"\(text.column)_text\": \"\(text.column)\"."))
        }
        guard let comment = column.comment, comment.hasPrefix("weir: ") else { return findings }
        guard let expression = try? text.expression(searched(text)) else { return findings }
        if comment != TargetDefinition.comment(expression) {
            findings.append(changedText(text))
        } else {
            let left = text.leftOut(searched(text))
            if !left.isEmpty { findings.append(Self.unsearched(left, text, table.name)) }
        }
        return findings
    }

    private func searched(_ text: SearchText) -> [TargetColumn] {
        table.columns.filter { $0.name != text.column }
    }

    static func nameTaken(_ text: SearchText, _ target: TableName) -> Finding {
        Finding(
            .searchColumn, .blocking, "\(target).\(text.column)",
            "the source has a column \"\(text.column)\", and the column for search of "
                + "\"\(target)\" would have that name",
            hint: "Choose another: \"text\": { \"column\": \"\(text.column)_words\" }. Or give the "
                + "source's column another name in \"columns\".")
    }

    private func noVector(_ text: SearchText, _ column: TargetColumn) -> Finding {
        finding(
            .searchColumn, .blocking, at: text.column,
            "column \"\(text.column)\" of \"\(table.name)\" is of type \(column.type) and cannot "
                + "be searched as a tsvector",
            hint: "Choose another name: \"text\": { \"column\": \"\(text.column)_words\" }.")
    }

    private func changedText(_ text: SearchText) -> Finding {
        let drop =
            "ALTER TABLE \(table.name.sql) DROP COLUMN "
            + "\(PostgresConnection.identifier(text.column));"
        // What was not chosen changes with the table; what was is the operator's wish.
        guard text.weighted.isEmpty else {
            return finding(
                .targetUnfit, .blocking, at: text.column,
                "column \"\(text.column)\" of \"\(table.name)\" was made for another \"text\"",
                hint: "Weir makes it anew after: \(drop)")
        }
        return finding(
            .searchPartial, .warning, at: text.column,
            "column \"\(text.column)\" of \"\(table.name)\" was made when the table had other "
                + "columns of text, or for another \"text\": not all of them are searched as they "
                + "should be",
            hint: "Weir makes it anew at its next start after: \(drop)")
    }

    static func unsearched(
        _ columns: [TargetColumn], _ text: SearchText, _ target: TableName
    ) -> Finding {
        let names = columns.map { "\"\($0.name)\" (\($0.sqlType))" }.joined(separator: ", ")
        let name = PostgresConnection.identifier(text.column)
        let types = columns.map {
            let column = PostgresConnection.identifier($0.name)
            return "ALTER COLUMN \(column) TYPE text USING \(column)::text"
        }
        return Finding(
            .searchPartial, .warning, "\(target).\(text.column)",
            "the search of \"\(target)\" does not find what is in \(names)",
            detail: "Only types whose text depends on no setting can be searched.",
            hint: "Name the columns to search in \"text\", or make it text; Weir then makes the "
                + "column for search anew at its next start: ALTER TABLE \(target.sql) "
                + "DROP COLUMN \(name), \(types.joined(separator: ", "));")
    }

    // MARK: Columns that are there

    private func findings(_ column: WantedColumn, _ target: TargetColumn) -> [Finding] {
        // The column for search has findings of its own.
        if column.output == config.text?.column { return [] }
        if target.isGenerated { return column.isNamed ? [generated(target)] : [] }
        var findings: [Finding] = []
        if target.isAlwaysIdentity, !key.contains(column.output), takes(.update) || takes(.insert) {
            findings.append(
                finding(
                    .identityAlways, .blocking, at: target.name,
                    "column \"\(target.name)\" of \"\(table.name)\" is GENERATED ALWAYS AS "
                        + "IDENTITY: no UPDATE can give it the source's value",
                    hint: altering(target.name, "SET GENERATED BY DEFAULT;")))
        }
        if let source = column.column {
            if writes { findings += fit(source, target) }
            // A source that tells the declared type knows of NOT NULL too.
            if target.isNotNull, source.declaredType != nil, !source.isNotNull, writes,
                !key.contains(column.output)
            {
                findings.append(
                    finding(
                        .columnNarrow, .warning, at: target.name,
                        "column \"\(target.name)\" of \"\(table.name)\" is NOT NULL, the source's "
                            + "is not: a row with null there is refused",
                        hint: dropNotNull(target)))
            }
        }
        return findings
    }

    private func generated(_ target: TargetColumn) -> Finding {
        finding(
            .columnGenerated, .warning, at: target.name,
            "column \"\(target.name)\" of \"\(table.name)\" is computed by the target: the "
                + "source's value is not written",
            hint: target.isVirtual
                ? "Take it out of \"columns\"."
                : "Take it out of \"columns\", or make it an ordinary column: "
                    + altering(target.name, "DROP EXPRESSION;"))
    }

    // MARK: Keys that meet

    /// Rows of the source that would become one row here.
    private func collapse(_ wanted: WantedColumn) -> [Finding] {
        guard writes, let target = table.column(wanted.output), !target.isGenerated else {
            return []
        }
        let source = wanted.column.map { column in
            // An extension's type has its schema with it.
            let name = column.type.name.hasSuffix(".citext") ? "citext" : column.type.name
            return ModifiedType(typeName: name, sql: column.declaredType)
        }
        let into = ModifiedType(typeName: target.baseType, sql: target.baseSQLType)
        let loose = table.looseIndexes.filter { $0.columns.contains(target.name) }
        let fit = KeyFit(
            source,
            isLoose: (wanted.column?.isLoose ?? false, target.isLoose || !loose.isEmpty),
            into: into)
        let (severity, why): (Finding.Severity, String)
        switch fit {
        case .apart: return []
        case .meet(let reason): (severity, why) = (.blocking, reason)
        case .mayMeet(let reason): (severity, why) = (.warning, reason)
        }
        let own = wanted.column.map { $0.declaredType ?? $0.type.name } ?? "any value"
        return [
            finding(
                .keysMeet, severity, at: target.name,
                "two rows of the source may become one in \"\(table.name)\": \"\(target.name)\" of "
                    + "the key is \(target.sqlType), the source's \(own), and \(why)",
                hint: apart(wanted.column, target, loose)
                    ?? "Write to a table whose key is of the source's type.")
        ]
    }

    /// SQL that keeps the source's keys apart.
    private func apart(
        _ source: Column?, _ target: TargetColumn, _ loose: [TargetTable.LooseIndex]
    ) -> String? {
        let drops = loose.map { "DROP INDEX \($0.name.sql);" }
        if !loose.isEmpty, !target.isLoose { return drops.joined(separator: " ") }
        let text = Column(name: target.name, type: ColumnType(.text, name: "text"))
        guard var sql = widening(source ?? text, target) else { return nil }
        if target.isLoose, sql.removeLast() == ";" { sql += " COLLATE pg_catalog.\"default\";" }
        return ([sql] + drops).joined(separator: " ")
    }

    private func fit(_ source: Column, _ target: TargetColumn) -> [Finding] {
        let from = ModifiedType(typeName: source.type.name, sql: source.declaredType)
        let into = ModifiedType(typeName: target.baseType, sql: target.baseSQLType)
        // A domain or enum of the same name is taken for the same.
        let own = source.declaredType ?? source.type.name
        if source.type.valueClass == .opaque, Self.isSameName(own, target) { return [] }
        if target.isDomain, Self.isSameName(own, target) { return [] }
        let words = source.declaredType ?? from.description
        let names =
            "column \"\(target.name)\" of \"\(table.name)\" is \(target.sqlType), the source's "
            + words
        switch TypeFit(from, into: into) {
        case .fits where target.isDomain:
            return [
                finding(
                    .columnNarrow, .warning, at: target.name,
                    "\(names): what the domain's constraints do not allow is refused",
                    hint: widening(source, target))
            ]
        case .fits: return []
        case .changes(let how):
            return [
                finding(
                    .columnNarrow, .warning, at: target.name, "\(names): \(how)",
                    hint: widening(source, target))
            ]
        case .mayBeRefused(let why):
            return [
                finding(
                    .columnNarrow, .warning, at: target.name, "\(names): \(why)",
                    hint: widening(source, target))
            ]
        case .never:
            return [
                finding(
                    .columnUnfit, .blocking, at: target.name,
                    "\(names): no value of the one is a value of the other",
                    hint: "Give it the source's type, or another name in \"columns\".")
            ]
        }
    }

    private static func isSameName(_ own: String, _ target: TargetColumn) -> Bool {
        func last(_ name: String) -> String {
            let part = name.split(separator: ".").last.map(String.init) ?? name
            return part.filter { $0 != "\"" }
        }
        return [target.sqlType, target.type].contains { last($0) == last(own) }
    }

    /// Gives a column the source's type, if it is one that every server has.
    private func widening(_ source: Column, _ target: TargetColumn) -> String? {
        guard source.type.valueClass != .opaque, !table.isPartition,
            table.partitionKey?.contains(target.name) != true
        else { return nil }
        let type = source.declaredType ?? TargetDefinition.sqlType(source.type)
        // A generated column that reads it would be in the way; ours is made anew.
        let ours = table.columns.first {
            $0.isGenerated && $0.comment?.hasPrefix("weir: ") == true
        }
        let drop = ours.map { "DROP COLUMN \(PostgresConnection.identifier($0.name)), " } ?? ""
        let column = PostgresConnection.identifier(target.name)
        return "ALTER TABLE \(table.name.sql) \(drop)ALTER COLUMN \(column) TYPE \(type);"
    }

    // MARK: The table

    private func dropNotNull(_ column: TargetColumn) -> String? {
        let isInKey = table.hasPrimaryKey && table.uniqueKeys.contains { $0.contains(column.name) }
        return isInKey ? nil : altering(column.name, "DROP NOT NULL;")
    }

    private var unfilled: [Finding] {
        guard takes(.insert) || takes(.read) else { return [] }
        let written = Set(wanted.all.map(\.output))
        return table.columns.filter { $0.isDemanded && !written.contains($0.name) }.map { column in
            finding(
                .columnUnfilled, .warning, at: column.name,
                "column \"\(column.name)\" of \"\(table.name)\" is NOT NULL, has no default and "
                    + "gets no value: a row that is not there yet is refused, unless a trigger "
                    + "gives it one",
                hint: dropNotNull(column) ?? "Give it a default.")
        }
    }

    private var tableFindings: [Finding] {
        var findings: [Finding] = []
        if table.isPartition, writes {
            findings.append(
                finding(
                    .targetUnfit, .warning,
                    "the target \"\(table.name)\" is a partition: rows outside of its bounds are "
                        + "refused",
                    hint: "Name the partitioned table in \"table\"."))
        }
        if takes(.truncate), table.sequences == .notOurs {
            findings.append(
                finding(
                    .restartIdentity, .warning,
                    "a TRUNCATE … RESTART IDENTITY of the source will not restart the sequences of "
                        + "\"\(table.name)\": only its owner may do that"))
        }
        return findings
    }
}

extension ModifiedType: CustomStringConvertible {
    var description: String {
        let numbers = modifiers.map { "\($0)" }.joined(separator: ",")
        return name + (numbers.isEmpty ? "" : "(\(numbers))") + (isArray ? "[]" : "")
    }
}
