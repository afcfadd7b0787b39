import WeirCore
import WeirPostgresClient

/// A column of the target.
struct TargetColumn: Sendable, Equatable {
    let name: String
    /// `attnum`: one that was dropped and added again has another.
    var number = 0
    /// The type's name without schema and modifiers, such as `int4`.
    let type: String
    /// The type as SQL, with schema and modifiers.
    let sqlType: String
    /// The server computes it: it cannot be written.
    let isGenerated: Bool
    /// GENERATED ALWAYS AS IDENTITY: an UPDATE cannot set it.
    let isAlwaysIdentity: Bool
    /// What a comment on it says; our own tsvector columns carry one.
    let comment: String?
    /// A row without it is refused.
    let isDemanded: Bool
    /// Computed when it is read.
    var isVirtual = false
    /// NULL is refused.
    var isNotNull = false
    /// Its collation takes texts that differ for equal.
    var isLoose = false
    /// What its type is; nothing of it where only a name is known.
    var facts = KnownType()

    /// Values pass through a domain, which may have constraints.
    var isDomain: Bool { facts.base != type && !facts.base.isEmpty }
    /// The name of the type below domains.
    var baseType: String { facts.base.isEmpty ? type : facts.base }
    /// The same as SQL, with modifiers.
    var baseSQLType: String { facts.baseSQL.isEmpty ? sqlType : facts.baseSQL }
}

/// What a type of the target is.
struct KnownType: Sendable, Equatable {
    /// As `pg_type` names it.
    var name = ""
    /// What it is made of below domains: the type's name, and as SQL with modifiers.
    var base = ""
    var baseSQL = ""
    /// The name of an array's element type; empty for what is no array.
    var element = ""
    /// An enum, or an array of one.
    var isEnum = false
    /// PostgreSQL counts it, or an array's elements, among the types of text.
    var isText = false

    /// What a query selects, behind the type's own name.
    static let selected = """
        b.name, b.sql, CASE WHEN b.typcategory = 'A' THEN e.typname ELSE '' END, \
        CASE b.typcategory WHEN 'A' THEN e.typtype ELSE b.typtype END = 'e', \
        CASE b.typcategory WHEN 'A' THEN e.typcategory ELSE b.typcategory END = 'S'
        """

    /// The type below domains as `b`, and its elements' as `e`.
    static func joined(to oid: String, modifier: String) -> String {
        """
        CROSS JOIN LATERAL (WITH RECURSIVE d(oid, typmod) AS (SELECT \(oid), \(modifier) \
        UNION ALL SELECT y.typbasetype, y.typtypmod FROM d JOIN pg_catalog.pg_type y \
        ON y.oid = d.oid WHERE y.typtype = 'd') SELECT y.typname AS name, \
        pg_catalog.format_type(d.oid, d.typmod) AS sql, y.typtype, y.typcategory, y.typelem \
        FROM d JOIN pg_catalog.pg_type y ON y.oid = d.oid WHERE y.typtype <> 'd') b \
        LEFT JOIN pg_catalog.pg_type e ON e.oid = b.typelem
        """
    }

    init() {}

    /// - Parameter first: the column of the type's name; what is `selected` follows it.
    init(_ row: TextRow, from first: Int) {
        name = row[first] ?? ""
        base = row[first + 1] ?? ""
        baseSQL = row[first + 2] ?? ""
        element = row[first + 3] ?? ""
        isEnum = row[first + 4] == "t"
        isText = row[first + 5] == "t"
    }

    static let text: KnownType = {
        var text = KnownType()
        text.name = "text"
        text.base = "text"
        text.baseSQL = "text"
        text.isText = true
        return text
    }()
}

/// A table of the target as its catalogue describes it.
struct TargetTable: Sendable, Equatable {
    let name: TableName
    let oid: UInt32
    /// `relnatts`: grows with each column that is added.
    var width = 0
    let columns: [TargetColumn]
    /// The column names of each index that can say which row is meant: unique, complete, and
    /// checked at once.
    let uniqueKeys: [[String]]
    /// The tables its foreign keys refer to.
    let parents: [UInt32]
    /// Foreign keys or triggers would see a row go that comes again.
    let isWatched: Bool
    /// The end of a row changes or ends rows that refer to it.
    let isCascading: Bool
    /// Some constraint of it, or to it, may wait for the commit.
    let isDeferring: Bool
    /// Partitioned, by these columns; an expression among them is an empty name.
    var partitionKey: [String]?
    /// It is a part of another table, and takes only rows of its own bounds.
    var isPartition = false
    var primaryKey: KeyConstraint?
    var hasPrimaryKey: Bool { primaryKey != nil }
    /// Unique constraints that may wait. ON CONFLICT takes none of their columns, though another
    /// index has them as well.
    var deferrableKeys: [KeyConstraint] = []
    /// Sequences of its columns may be restarted: it has some, and the role owns it.
    var sequences = Sequences.none

    /// Rules that rewrite what is written to it.
    var rules: [Rule] = []
    /// Some publication sends its updates or deletes, for which its old rows tell too little.
    var lacksIdentity = false

    struct Rule: Sendable, Equatable {
        let name: String
        /// As `pg_rewrite.ev_type` has it.
        let event: String
        let isInstead: Bool
    }

    /// What TRUNCATE … RESTART IDENTITY does here.
    enum Sequences: Sendable, Equatable {
        case none, restartable, notOurs
    }

    /// Unique indexes that take texts that differ for equal, though the column's own collation does
    /// not: ON CONFLICT goes by them too.
    var looseIndexes: [LooseIndex] = []

    struct LooseIndex: Sendable, Equatable {
        let name: TableName
        let columns: [String]
    }

    struct KeyConstraint: Sendable, Equatable {
        let constraint: String
        let isPrimary: Bool
        let isDeferrable: Bool
        let columns: [String]
    }

    func column(_ name: String) -> TargetColumn? { columns.first { $0.name == name } }

    func hasUniqueKey(on names: [String]) -> Bool {
        uniqueKeys.contains { $0.count == names.count && Set($0) == Set(names) }
    }

    // MARK: Catalogue

    /// The queries about one table take its oid as SQL, so that one asks about many: see
    /// `TargetCatalogue.Together`.
    static func lookUp(_ names: [TableName]) -> String {
        let list = names.map {
            "(\(PostgresConnection.literal($0.schema)), \(PostgresConnection.literal($0.name)))"
        }.joined(separator: ", ")
        return """
            SELECT c.oid, c.relkind, c.relispartition, EXISTS (SELECT FROM pg_catalog.pg_depend d \
            JOIN pg_catalog.pg_class s ON s.oid = d.objid AND s.relkind = 'S' \
            WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass \
            AND d.refclassid = d.classid AND d.refobjid = c.oid AND d.deptype IN ('a', 'i')), \
            pg_catalog.pg_has_role(c.relowner, 'USAGE'), n.nspname, c.relname, c.relnatts \
            FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n \
            ON n.oid = c.relnamespace WHERE (n.nspname, c.relname) IN (\(list))
            """
    }

    static func columnsQuery(_ oid: String) -> String {
        """
        SELECT a.attname, t.typname, pg_catalog.format_type(a.atttypid, a.atttypmod), \
        a.attgenerated, a.attidentity, pg_catalog.col_description(a.attrelid, a.attnum), \
        a.attnotnull AND NOT a.atthasdef AND a.attidentity = '', a.attnotnull, \
        EXISTS (SELECT FROM pg_catalog.pg_collation o WHERE o.oid = a.attcollation \
        AND NOT o.collisdeterministic), a.attnum, t.typname, \(KnownType.selected) \
        FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_type t ON t.oid = a.atttypid \
        \(KnownType.joined(to: "t.oid", modifier: "a.atttypmod")) \
        WHERE a.attrelid = \(oid) AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum
        """
    }

    /// One row per column of an index.
    static func keysQuery(_ oid: String) -> String {
        """
        SELECT i.indexrelid, a.attname FROM pg_catalog.pg_index i, \
        pg_catalog.unnest((i.indkey::pg_catalog.int2[])[0:i.indnkeyatts - 1]) k(attnum) \
        JOIN pg_catalog.pg_attribute a ON a.attnum = k.attnum \
        WHERE i.indrelid = \(oid) AND a.attrelid = i.indrelid AND i.indisunique \
        AND i.indimmediate AND i.indisvalid AND i.indpred IS NULL AND i.indexprs IS NULL \
        ORDER BY i.indexrelid
        """
    }

    /// One row per column of the primary key, and of each unique constraint that may wait.
    static func keyConstraintsQuery(_ oid: String) -> String {
        """
        SELECT c.conname, c.contype, a.attname, c.condeferrable FROM pg_catalog.pg_constraint c, \
        pg_catalog.unnest(c.conkey) WITH ORDINALITY k(attnum, place) \
        JOIN pg_catalog.pg_attribute a ON a.attrelid = \(oid) AND a.attnum = k.attnum \
        WHERE c.conrelid = \(oid) AND (c.contype = 'p' OR c.contype = 'u' AND c.condeferrable) ORDER BY c.conname, k.place
        """
    }

    /// All that it is a part of or that inherits from it, and itself: an UPDATE or DELETE of the
    /// one may be one of the other.
    static func familyQuery(_ oid: String) -> String {
        """
        WITH RECURSIVE above AS (SELECT \(oid)::pg_catalog.oid AS oid UNION SELECT h.inhparent \
        FROM above JOIN pg_catalog.pg_inherits h ON h.inhrelid = above.oid), \
        below AS (SELECT \(oid)::pg_catalog.oid AS oid UNION SELECT h.inhrelid \
        FROM below JOIN pg_catalog.pg_inherits h ON h.inhparent = below.oid) \
        SELECT n.nspname, c.relname FROM (TABLE above UNION TABLE below) f \
        JOIN pg_catalog.pg_class c ON c.oid = f.oid \
        JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
        """
    }

    /// One row per column of an index that is looser than that column, and so may be named twice.
    static func looseIndexesQuery(_ oid: String) -> String {
        """
        SELECT n.nspname, x.relname, k.attname FROM pg_catalog.pg_index i \
        JOIN pg_catalog.pg_class x ON x.oid = i.indexrelid \
        JOIN pg_catalog.pg_namespace n ON n.oid = x.relnamespace \
        JOIN pg_catalog.pg_attribute k ON k.attrelid = i.indrelid \
        AND k.attnum = ANY (i.indkey::pg_catalog.int2[]) WHERE i.indrelid = \(oid) \
        AND i.indisunique AND i.indpred IS NULL AND EXISTS (SELECT FROM ROWS FROM (\
        pg_catalog.unnest((i.indkey::pg_catalog.int2[])[0:i.indnkeyatts - 1]), \
        pg_catalog.unnest(i.indcollation::pg_catalog.oid[])) c(attnum, oid) \
        JOIN pg_catalog.pg_collation o ON o.oid = c.oid AND NOT o.collisdeterministic \
        JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = c.attnum \
        AND a.attcollation <> c.oid) ORDER BY 1, 2
        """
    }

    /// The columns a partitioned table is divided by, a row each.
    static func partitionKeyQuery(_ oid: String) -> String {
        """
        SELECT a.attname FROM pg_catalog.pg_partitioned_table p, \
        pg_catalog.unnest(p.partattrs::pg_catalog.int2[]) k(attnum) \
        LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid = \(oid) AND a.attnum = k.attnum \
        WHERE p.partrelid = \(oid)
        """
    }

    static func rulesQuery(_ oid: String) -> String {
        """
        SELECT r.rulename, r.ev_type, r.is_instead FROM pg_catalog.pg_rewrite r \
        WHERE r.ev_class = \(oid) AND r.ev_enabled IN ('O', 'A') ORDER BY r.rulename
        """
    }

    /// Whether an UPDATE or DELETE is refused because it would have to be published. Of partitioned
    /// tables that is their partitions' matter.
    ///
    /// - Parameter knowsSchemas: PostgreSQL 15 and later publish whole schemas too.
    static func lacksIdentityQuery(_ oid: String, knowsSchemas: Bool) -> String {
        let ofSchema =
            knowsSchemas
            ? """
            OR EXISTS (SELECT FROM pg_catalog.pg_publication_namespace s \
            WHERE s.pnpubid = p.oid AND s.pnnspid = c.relnamespace)
            """ : ""
        return """
            SELECT EXISTS (SELECT FROM pg_catalog.pg_class c, pg_catalog.pg_publication p \
            WHERE c.oid = \(oid) AND c.relkind = 'r' AND c.relpersistence = 'p' \
            AND (c.relreplident = 'n' OR c.relreplident = 'd' AND NOT EXISTS (\
            SELECT FROM pg_catalog.pg_index i WHERE i.indrelid = c.oid AND i.indisprimary)) \
            AND (p.pubupdate OR p.pubdelete) AND (p.puballtables \
            OR EXISTS (SELECT FROM pg_catalog.pg_publication_rel r \
            WHERE r.prpubid = p.oid AND r.prrelid = c.oid) \(ofSchema)))
            """
    }

    static func parentsQuery(_ oid: String) -> String {
        """
        SELECT DISTINCT confrelid FROM pg_catalog.pg_constraint \
        WHERE contype = 'f' AND conrelid = \(oid) AND confrelid <> \(oid)
        """
    }

    /// Whether it is watched, cascading and deferring.
    static func usesQuery(_ oid: String) -> String {
        """
        SELECT EXISTS (SELECT FROM pg_catalog.pg_constraint WHERE contype = 'f' \
        AND confrelid = \(oid)) OR EXISTS (SELECT FROM pg_catalog.pg_trigger \
        WHERE tgrelid = \(oid) AND NOT tgisinternal), \
        EXISTS (SELECT FROM pg_catalog.pg_constraint WHERE contype = 'f' \
        AND confrelid = \(oid) AND confdeltype IN ('c', 'n', 'd')), \
        EXISTS (SELECT FROM pg_catalog.pg_trigger WHERE tgrelid = \(oid) AND tgdeferrable)
        """
    }
}

extension TargetColumn {
    init?(_ row: TextRow) {
        guard row.count == 16, let name = row[0], let type = row[1], let sqlType = row[2] else {
            return nil
        }
        self.init(
            name: name, number: row[9].flatMap { Int($0) } ?? 0, type: type, sqlType: sqlType,
            isGenerated: row[3]?.isEmpty == false,
            isAlwaysIdentity: row[4] == "a", comment: row[5], isDemanded: row[6] == "t",
            isVirtual: row[3] == "v", isNotNull: row[7] == "t", isLoose: row[8] == "t",
            facts: KnownType(row, from: 10))
    }

    /// A column as it will be made.
    init(making name: String, sqlType: String, _ facts: KnownType) {
        self.init(
            name: name, type: facts.name, sqlType: sqlType, isGenerated: false,
            isAlwaysIdentity: false, comment: nil, isDemanded: false, facts: facts)
    }
}

/// Reads the catalogue of the target. Blocks.
struct TargetCatalogue {
    let connection: PostgresConnection
    /// What is looked at beside it; nil looks at each table alone.
    var together: Together?

    /// Nil when there is no such table.
    ///
    /// - Throws: `targetUnfit` when it is no table.
    func table(_ name: TableName) throws(TargetFailure) -> TargetTable? {
        guard let row = try found(name), let oid = row[0].flatMap({ UInt32($0) })
        else { return nil }
        guard ["r", "p"].contains(row[1]) else {
            throw .weir(
                WeirError(
                    .targetUnfit, .blocked,
                    "the target \"\(name)\" is \(Self.kind(row[1])), and no table",
                    hint: "Name an ordinary or partitioned table."))
        }
        let columns = try rows(TargetTable.columnsQuery, oid).compactMap(TargetColumn.init)
        var keys: [(index: String, names: [String])] = []
        for row in try rows(TargetTable.keysQuery, oid) {
            guard let index = row[0], let column = row[1] else { continue }
            if keys.last?.index == index {
                keys[keys.count - 1].names.append(column)
            } else {
                keys.append((index, [column]))
            }
        }
        var constraints: [TargetTable.KeyConstraint] = []
        for row in try rows(TargetTable.keyConstraintsQuery, oid) {
            guard let name = row[0], let column = row[2] else { continue }
            let before =
                constraints.last?.constraint == name ? constraints.removeLast().columns : []
            constraints.append(
                TargetTable.KeyConstraint(
                    constraint: name, isPrimary: row[1] == "p", isDeferrable: row[3] == "t",
                    columns: before + [column]))
        }
        var loose: [TargetTable.LooseIndex] = []
        for row in try rows(TargetTable.looseIndexesQuery, oid) {
            guard let schema = row[0], let index = row[1], let column = row[2] else { continue }
            let name = TableName(schema: schema, name: index)
            let before = loose.last?.name == name ? loose.removeLast().columns : []
            loose.append(TargetTable.LooseIndex(name: name, columns: before + [column]))
        }
        let parents = try rows(TargetTable.parentsQuery, oid).compactMap {
            $0[0].flatMap { UInt32($0) }
        }
        let uses = try rows(TargetTable.usesQuery, oid).first ?? [nil, nil, nil]
        let partitionKey =
            row[1] == "p" ? try rows(TargetTable.partitionKeyQuery, oid).map { $0[0] ?? "" } : nil
        let rules = try rows(TargetTable.rulesQuery, oid).compactMap { row in
            row[0].map {
                TargetTable.Rule(name: $0, event: row[1] ?? "", isInstead: row[2] == "t")
            }
        }
        let knowsSchemas = connection.serverVersion >= 150000
        let lacksIdentity = try rows(
            { TargetTable.lacksIdentityQuery($0, knowsSchemas: knowsSchemas) }, oid)
        return TargetTable(
            name: name, oid: oid, width: row[7].flatMap { Int($0) } ?? 0, columns: columns,
            uniqueKeys: keys.map(\.names),
            parents: parents, isWatched: uses[0] == "t", isCascading: uses[1] == "t",
            isDeferring: uses[2] == "t", partitionKey: partitionKey, isPartition: row[2] == "t",
            primaryKey: constraints.first(where: \.isPrimary),
            deferrableKeys: constraints.filter(\.isDeferrable),
            sequences: row[3] != "t" ? .none : row[4] == "t" ? .restartable : .notOurs,
            rules: rules, lacksIdentity: lacksIdentity.first?[0] == "t", looseIndexes: loose)
    }

    func family(of table: TargetTable) throws(TargetFailure) -> Set<TableName> {
        Set(
            try rows(TargetTable.familyQuery, table.oid).map {
                TableName(schema: $0[0] ?? "", name: $0[1] ?? "")
            })
    }

    private static func kind(_ kind: String?) -> String {
        switch kind {
        case "v": "a view"
        case "m": "a materialized view"
        case "f": "a foreign table"
        case "S": "a sequence"
        case "i", "I": "an index"
        default: "something else"
        }
    }

    /// The types, by their names as SQL, that the target knows.
    func known(_ types: Set<String>) throws(TargetFailure) -> [String: KnownType] {
        guard let together else { return try lookUp(types) }
        return try together.known(types) { (types) throws(TargetFailure) in try lookUp(types) }
    }

    private func lookUp(_ types: Set<String>) throws(TargetFailure) -> [String: KnownType] {
        guard !types.isEmpty else { return [:] }
        if let known = try ask(types.sorted()) { return known }
        // A name that is none, such as one with modifiers of another version, fails them all.
        if types.count == 1 { return [:] }
        var all: [String: KnownType] = [:]
        for type in types { all.merge(try lookUp([type])) { $1 } }
        return all
    }

    /// Nil where the server does not understand one of the names.
    private func ask(_ types: [String]) throws(TargetFailure) -> [String: KnownType]? {
        let list = types.map(PostgresConnection.literal).joined(separator: ", ")
        let rows = try attempt(
            """
            SELECT n.name, t.typname, \(KnownType.selected) \
            FROM pg_catalog.unnest(ARRAY[\(list)]) n(name) \
            JOIN pg_catalog.pg_type t ON t.oid = pg_catalog.to_regtype(n.name) \
            \(KnownType.joined(to: "t.oid", modifier: "-1"))
            """)
        guard let rows else { return nil }
        var known: [String: KnownType] = [:]
        for row in rows {
            guard let name = row[0] else { continue }
            known[name] = KnownType(row, from: 1)
        }
        return known
    }

    /// Whether there is a text-search configuration of this name, as SQL.
    func hasConfiguration(_ name: String) throws(TargetFailure) -> Bool {
        try attempt("SELECT \(PostgresConnection.literal(name))::pg_catalog.regconfig") != nil
    }

    /// Asks what the server may refuse for good: the answer is then nil. A transaction that is open
    /// goes on behind it.
    private func attempt(_ sql: String) throws(TargetFailure) -> [TextRow]? {
        let isInside = connection.isInTransaction
        if isInside { _ = try query("SAVEPOINT \(Self.savepoint)") }
        do throws(TargetFailure) {
            let rows = try query(sql)
            if isInside { _ = try query("RELEASE SAVEPOINT \(Self.savepoint)") }
            return rows
        } catch {
            guard case .server(let failure) = error, failure.kind == .statement,
                !ServerFailureMap.passes(failure.sqlState)
            else { throw error }
            if isInside {
                _ = try query(
                    "ROLLBACK TO SAVEPOINT \(Self.savepoint); "
                        + "RELEASE SAVEPOINT \(Self.savepoint)")
            }
            return nil
        }
    }

    private static let savepoint = "weir_question"

    /// The names of the server's own text-search configurations.
    func configurations() throws(TargetFailure) -> [String] {
        try query(
            "SELECT cfgname FROM pg_catalog.pg_ts_config "
                + "WHERE cfgnamespace = 'pg_catalog'::pg_catalog.regnamespace ORDER BY 1"
        ).compactMap { $0[0] }
    }

    func query(_ sql: String) throws(TargetFailure) -> [TextRow] {
        do { return try connection.query(sql) } catch { throw .server(error) }
    }
}

/// Why work at the target ended: its server said so, or we did.
enum TargetFailure: Error {
    case server(PostgresFailure)
    case weir(WeirError)
    /// A row is refused because another has its value, which it may give up later in the
    /// transaction.
    case taken(WeirError)

    /// Some row is the reason, and the session still works.
    var isOfRows: Bool {
        switch self {
        case .server: false
        case .weir, .taken: true
        }
    }
}
