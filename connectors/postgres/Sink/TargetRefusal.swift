import WeirCore
import WeirPostgresClient

/// Why a target refuses a row, beyond the server's one line: found in the target's catalogue after
/// the refusal. Blocks.
struct TargetRefusal {
    /// What the operator reads behind the event's id.
    var detail: String?
    var hint: String?
    /// A function of the target's raised it.
    var isOfFunction = false

    /// What is unknown in a name that a function did not give with its schema: a relation, function
    /// or operator, type, schema, column.
    private static let unknownNames: Set<String> = ["42P01", "42883", "42704", "3F000", "42703"]

    /// A value that is too long for an index.
    static func ofLongKey(_ failure: PostgresFailure) -> TargetRefusal? {
        guard failure.sqlState == "54000", failure.message.contains("index") else { return nil }
        return TargetRefusal(
            hint: "No index of PostgreSQL takes values longer than some 2,700 bytes, and no unique "
                + "index at all takes a longer key. Drop an index that is not the key's. Where it "
                + "is the key's, the table cannot be kept here: leave it out of the sink's "
                + "\"tables\", then weir stop and weir start.")
    }

    // MARK: Other keys

    /// A unique index beside the key by which rows are told apart, such as one on the key that the
    /// source had before.
    static func ofOtherKey(
        _ failure: PostgresFailure, _ key: [String], of table: TargetTable,
        _ connection: PostgresConnection
    ) -> TargetRefusal? {
        guard failure.sqlState == "23505",
            let rows = try? connection.query(uniqueIndexesQuery(table.oid)),
            let row = rows.first(where: { failure.message.contains("\"\($0[1] ?? "")\"") }),
            let schema = row[0], let index = row[1], row[3] != key.sorted().joined(separator: "\n")
        else { return nil }
        let name = PostgresConnection.identifier(index)
        let list = key.map(PostgresConnection.identifier).joined(separator: ", ")
        let drop =
            row[2] == "t"
            ? "ALTER TABLE \(table.name.sql) DROP CONSTRAINT \(name);"
            : "DROP INDEX \(PostgresConnection.identifier(schema)).\(name);"
        return TargetRefusal(
            detail: "\(name) is not on the key (\(list)), by which rows are told apart now.",
            hint: "Where the source allows both rows, as after its key was changed: \(drop)")
    }

    /// Schema, name, whether it is a constraint, and columns by name.
    private static func uniqueIndexesQuery(_ oid: UInt32) -> String {
        """
        SELECT n.nspname, x.relname, EXISTS (SELECT FROM pg_catalog.pg_constraint c \
        WHERE c.conindid = x.oid AND c.contype IN ('p', 'u')), \
        (SELECT pg_catalog.string_agg(a.attname::text, E'\\n' ORDER BY a.attname COLLATE "C") \
        FROM pg_catalog.pg_attribute a WHERE a.attrelid = x.oid \
        AND a.attnum <= i.indnkeyatts) \
        FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class x ON x.oid = i.indexrelid \
        JOIN pg_catalog.pg_namespace n ON n.oid = x.relnamespace \
        WHERE i.indrelid = \(oid) AND i.indisunique
        """
    }

    // MARK: Functions

    /// A function that writing to a table may call, and what calls it.
    private struct Function {
        let schema: String
        let name: String
        let arguments: String
        let caller: String
        let hasSearchPath: Bool

        var sql: String {
            "\(PostgresConnection.identifier(schema)).\(PostgresConnection.identifier(name))"
                + "(\(arguments))"
        }
    }

    /// Names the function of the target in which a statement failed.
    ///
    /// The server's context lists the calls, the innermost first, in words of its language; the
    /// names in it are found, the words are not read.
    static func inFunction(
        _ failure: PostgresFailure, writing table: TargetTable, _ connection: PostgresConnection
    ) -> TargetRefusal? {
        guard let context = failure.context,
            let rows = try? connection.query(functionsQuery(table.oid))
        else { return nil }
        let functions = rows.compactMap { row -> Function? in
            guard row.count == 7, let schema = row[0], let name = row[1] else { return nil }
            return Function(
                schema: schema, name: name, arguments: row[2] ?? "", caller: row[3] ?? "",
                hasSearchPath: row[4] == "t")
        }
        let tokens = rows.map { [$0[5], $0[6]].compactMap(\.self) }
        var outermost: (place: String.Index, function: Function)?
        for (function, tokens) in zip(functions, tokens) {
            guard let place = tokens.compactMap({ context.lastPlace(ofName: $0) }).max() else {
                continue
            }
            if let outermost, outermost.place >= place { continue }
            outermost = (place, function)
        }
        guard let function = outermost?.function else { return nil }
        var refusal = TargetRefusal(
            detail: "It failed in the function \(function.sql), called by \(function.caller).",
            isOfFunction: true)
        if unknownNames.contains(failure.sqlState), !function.hasSearchPath {
            let schemas = [function.schema, table.name.schema]
            let path =
                (schemas[0] == schemas[1] ? [schemas[0]] : schemas)
                .map(PostgresConnection.identifier) + ["pg_temp"]
            refusal.detail? +=
                " Weir writes with an empty search_path, and the function names something without "
                + "its schema."
            refusal.hint =
                "ALTER FUNCTION \(function.sql) SET search_path = "
                + "\(path.joined(separator: ", "));"
        }
        return refusal
    }

    /// The functions of a table's triggers, constraints, defaults, indexes and domains, and of its
    /// partitions' triggers: schema, name, arguments, caller, whether it has a search path, and how
    /// a context may name it.
    private static func functionsQuery(_ oid: UInt32) -> String {
        let tables = """
            SELECT \(oid)::pg_catalog.oid AS oid UNION SELECT t.relid::pg_catalog.oid \
            FROM pg_catalog.pg_partition_tree(\(oid)::pg_catalog.oid::pg_catalog.regclass) t
            """
        func used(_ catalogue: String, _ caller: String, _ from: String) -> String {
            """
            SELECT d.refobjid, \(caller) FROM pg_catalog.pg_depend d, \(from) \
            AND d.classid = 'pg_catalog.\(catalogue)'::pg_catalog.regclass \
            AND d.refclassid = 'pg_catalog.pg_proc'::pg_catalog.regclass
            """
        }
        return """
            WITH tables AS (\(tables)), calls(function, caller) AS (\
            SELECT g.tgfoid, pg_catalog.format('trigger %I', g.tgname) \
            FROM pg_catalog.pg_trigger g JOIN tables ON tables.oid = g.tgrelid \
            WHERE NOT g.tgisinternal UNION \
            \(used("pg_constraint", "pg_catalog.format('constraint %I', c.conname)",
            "pg_catalog.pg_constraint c WHERE d.objid = c.oid AND (c.conrelid IN (TABLE tables) "
            + "OR c.contypid IN (SELECT a.atttypid FROM pg_catalog.pg_attribute a "
            + "WHERE a.attrelid = \(oid)))")) UNION \
            \(used("pg_attrdef", "pg_catalog.format('column %I', a.attname)",
            "pg_catalog.pg_attrdef f JOIN pg_catalog.pg_attribute a ON a.attrelid = f.adrelid "
            + "AND a.attnum = f.adnum WHERE d.objid = f.oid AND f.adrelid IN (TABLE tables)")) UNION \
            \(used("pg_class", "pg_catalog.format('index %I', x.relname)",
            "pg_catalog.pg_index i JOIN pg_catalog.pg_class x ON x.oid = i.indexrelid "
            + "WHERE d.objid = i.indexrelid AND i.indrelid IN (TABLE tables)"))) \
            SELECT n.nspname, p.proname, pg_catalog.pg_get_function_identity_arguments(p.oid), \
            calls.caller, EXISTS (SELECT FROM pg_catalog.unnest(p.proconfig) c(setting) \
            WHERE c.setting LIKE 'search_path=%'), pg_catalog.format('%I.%I(', n.nspname, \
            p.proname), pg_catalog.format('"%s"', p.proname) \
            FROM calls JOIN pg_catalog.pg_proc p ON p.oid = calls.function \
            JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
            """
    }

    // MARK: TRUNCATE

    /// Names the tables that refer to some that are truncated and are not truncated with them.
    static func ofTruncate(
        _ tables: [TargetTable], _ connection: PostgresConnection
    ) -> TargetRefusal? {
        let oids = tables.map { "\($0.oid)" }.joined(separator: ", ")
        let query = """
            SELECT n.nspname, t.relname, c.conname FROM pg_catalog.pg_constraint c \
            JOIN pg_catalog.pg_class t ON t.oid = c.conrelid \
            JOIN pg_catalog.pg_namespace n ON n.oid = t.relnamespace \
            WHERE c.contype = 'f' AND c.conparentid = 0 AND c.confrelid IN (\(oids)) \
            AND c.conrelid NOT IN (\(oids)) ORDER BY 1, 2, 3
            """
        guard let rows = try? connection.query(query), !rows.isEmpty else { return nil }
        let names = rows.map { "\"\(TableName(schema: $0[0] ?? "", name: $0[1] ?? ""))\"" }
        let drops = rows.map(dropConstraint)
        return TargetRefusal(
            detail: "\(names.joined(separator: ", ")) refers to it by a foreign key and is not "
                + "truncated with it: PostgreSQL then refuses, whatever the table holds.",
            hint: "Either give up the foreign key: \(drops.joined(separator: " ")) Or let the "
                + "target keep its rows: \"truncate\": \"ignore\" in this sink. Tables that refer "
                + "to each other belong into one sink.")
    }

    private static func dropConstraint(_ row: TextRow) -> String {
        let table = TableName(schema: row[0] ?? "", name: row[1] ?? "")
        return "ALTER TABLE \(table.sql) DROP CONSTRAINT "
            + "\(PostgresConnection.identifier(row[2] ?? ""));"
    }
}

extension String {
    /// Where a name stands last and is not the end of a longer one.
    fileprivate func lastPlace(ofName name: String) -> Index? {
        var found: Index?
        for range in ranges(of: name) {
            if range.lowerBound > startIndex {
                let before = self[index(before: range.lowerBound)]
                if before.isLetter || before.isNumber || "_.$\"".contains(before) { continue }
            }
            found = range.lowerBound
        }
        return found
    }
}
