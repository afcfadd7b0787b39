package import WeirCore
import WeirPostgresClient
import WeirValues

/// What the sink's tables are for.
enum TargetKind: String, CaseIterable {
    case table, search
}

/// What happens to a column of the source that the target lacks.
enum NewColumnPolicy: String, CaseIterable {
    case ignore, add, stop
}

/// The keys of a PostgreSQL sink and its connection.
package struct PostgresSinkConfig: ConnectorConfig {
    let connection: ConnectionString
    let kind: TargetKind
    let target: TargetName
    let columns: [ColumnChoice]?
    let onNewColumn: NewColumnPolicy
    let truncates: Bool
    let text: SearchText?
    let positionTable: TableName
    /// The replication origin to write under.
    let origin: String?
    let routing: Routing
    /// All it takes, as far as they are known. One alone must have every column that is named.
    let tables: [TableName]
    /// Otherwise the source follows whatever tables there are.
    let knowsTables: Bool
    let options: ValueOptions
    package let claims: [String]
    private let originClaims: [String]
    package let warnings: [String]
    private let pipeline: String
    private let sink: String

    package static let fields: [ConfigField] =
        [
            ConfigField(
                "write", .choice(TargetKind.allCases.map(\.rawValue)),
                "What the target is: table, a copy of the chosen columns; search, a copy with a "
                    + "weighted tsvector column and a GIN index.",
                required: true),
            ConfigField(
                "table", .string,
                "The target, as schema.table; {schema} and {table} stand for the source table's. "
                    + "It is created if it is missing. For table: the source table's own name.",
                example: #""orders.customers""#),
            ConfigField(
                "columns", .columns,
                "The columns to write: a list, or an object from the target's column to the "
                    + "source's column or path. Without it, all of them. The key's must be there.",
                example: #"{ "id": "id", "mail": "email", "color": "attributes.color" }"#),
            ConfigField(
                "on_new_column", .choice(NewColumnPolicy.allCases.map(\.rawValue)),
                "What happens to a column the target lacks: ignore leaves it out and says so, add "
                    + "adds it to the target, stop waits for an operator.",
                default: #""ignore""#),
            ConfigField(
                "truncate", .choice(["apply", "ignore"]),
                "What a TRUNCATE of the source does to the target.", default: #""apply""#),
            ConfigField(
                "text", .object(SearchText.fields),
                "For search: what is searched, by weight. Without it, all text columns with "
                    + "weight A.",
                example: #"{ "config": "english", "A": ["name"], "B": ["description"] }"#),
            ConfigField(
                "position_table", .table,
                "Where the target keeps how far it is, one row per pipeline and sink. It is "
                    + "created if it is missing.",
                default: #""public.weir_position""#),
            ConfigField(
                "origin", .string,
                "The replication origin to write under, made if it is missing, so that a source of "
                    + "these tables can leave out what this sink writes. One sink at a time can "
                    + "use it.",
                example: #""weir_a_to_b""#),
            ValueOptions.documentsField,
        ] + Routing.fields

    package init(_ scope: ConfigScope) throws(ConfigIssue) {
        let given = scope.values
        guard let url = scope.connection?.secret("url") else {
            throw ConfigIssue(field: "connection", "the connection has no url")
        }
        connection = try ConnectionString(url.reveal())
        pipeline = scope.pipeline
        sink = scope.name
        kind = TargetKind(rawValue: given.string("write") ?? "") ?? .table
        routing = try Routing(scope)
        tables = Set(scope.knownTables ?? []).sorted()
        knowsTables = scope.knownTables != nil
        target = try Self.target(given, kind, scope.knownTables.map { Set($0).sorted() })
        columns = given.columns("columns")
        if let columns { try Self.check(columns) }
        onNewColumn = NewColumnPolicy(rawValue: given.string("on_new_column") ?? "") ?? .ignore
        truncates = given.string("truncate") != "ignore"
        text = try SearchText(given, kind, columns)
        positionTable =
            given.table("position_table") ?? TableName(schema: "public", name: "weir_position")
        options = ValueOptions(given)
        origin = given.string("origin")
        if let origin, let fault = OriginName.faultOfNew(origin) {
            throw ConfigIssue(field: "origin", fault)
        }
        let target = target
        // All names of a place, so that another way to it is noticed.
        let databases = connection.databases.sorted()
        let targets = knowsTables ? tables.map(target.resolve) : [target.pattern]
        if targets.contains(positionTable) {
            throw ConfigIssue(
                field: "table",
                "\"\(positionTable)\" is where the sink keeps its position; name another table, or "
                    + "another \"position_table\"")
        }
        let servers = connection.servers.sorted()
        originClaims =
            origin.map { name in servers.map { "origin \(name) of postgres \($0)" } } ?? []
        claims =
            targets.flatMap { target in databases.map { "table \(target) of \($0)" } }
            + originClaims
        warnings = [connection.tlsWarning(connection: scope.connectionName ?? "")].compactMap(
            \.self)
    }

    package var reach: TableReach? {
        // Without a list the source is none that sends changes back.
        guard knowsTables else { return nil }
        let targets = Dictionary(
            tables.map { ($0, target.resolve(for: $0)) }, uniquingKeysWith: { first, _ in first })
        return TableReach(databases: connection.databases, .writes(targets, origin: origin))
    }

    func isOriginUsed(by others: Set<String>) -> Bool { !others.isDisjoint(with: originClaims) }

    package var place: String? { connection.place }

    package static var passingKeys: Set<String> { ["on_new_column", "truncate", "origin"] }

    package var removal: [String] {
        [PositionSQL(table: positionTable, pipeline: pipeline, sink: sink).remove + ";"]
            + (origin.map {
                [
                    "SELECT pg_catalog.pg_replication_origin_drop("
                        + "\(PostgresConnection.literal($0)));"
                ]
            } ?? [])
    }

    private static func target(
        _ given: ConfigValues, _ kind: TargetKind, _ tables: [TableName]?
    ) throws(ConfigIssue) -> TargetName {
        guard let text = given.string("table") else {
            if kind == .table { return .sameAsSource }
            throw ConfigIssue(
                field: "write", "\"write\": \"search\" needs \"table\", the table to search")
        }
        guard let target = TargetName(text) else {
            throw ConfigIssue(
                field: "table",
                "\"\(text)\" is no table; write schema.table, where {schema} and {table} may stand "
                    + "for the source table's")
        }
        guard let tables else {
            if target.namesTable { return target }
            throw ConfigIssue(
                field: "table",
                "\"\(text)\" would be the target of every table of the source; put {table} into it, "
                    + "or name the one in \"tables\"")
        }
        var seen: [TableName: TableName] = [:]
        for table in tables {
            let resolved = target.resolve(for: table)
            // The server would cut it off, and two names might become one.
            let bytes = max(resolved.schema.utf8.count, resolved.name.utf8.count)
            guard bytes <= TargetName.bytesMax else {
                throw ConfigIssue(
                    field: "table",
                    "\"\(resolved)\" is longer than the \(TargetName.bytesMax) bytes of a name")
            }
            if let other = seen[resolved] {
                throw ConfigIssue(
                    field: "table",
                    "\"\(other)\" and \"\(table)\" would both be written to \"\(resolved)\"")
            }
            seen[resolved] = table
        }
        return target
    }

    private static func check(_ columns: [ColumnChoice]) throws(ConfigIssue) {
        if columns.isEmpty {
            throw ConfigIssue(field: "columns", "at least one column is needed")
        }
        for choice in columns {
            guard FieldPath(choice.source) != nil, (1...63).contains(choice.output.utf8.count),
                !choice.output.utf8.contains(0)
            else {
                throw ConfigIssue(
                    field: "columns", "\"\(choice.output)\" is no column; a name has 1 to 63 bytes")
            }
        }
        for (index, choice) in columns.enumerated()
        where columns[..<index].contains(where: { $0.output == choice.output }) {
            throw ConfigIssue(field: "columns", "column \"\(choice.output)\" is there twice")
        }
    }
}

/// The name of the target, which may be made of the source table's.
struct TargetName: Sendable, Equatable {
    /// Parts that may hold `{schema}` and `{table}`.
    let pattern: TableName

    /// What the server keeps of a name.
    static let bytesMax = 63

    static let sameAsSource = TargetName(pattern: TableName(schema: "{schema}", name: "{table}"))

    private init(pattern: TableName) { self.pattern = pattern }

    /// Nil when the text is no table name, or holds other braces.
    init?(_ text: String) {
        guard let pattern = TableName(parsing: text) else { return nil }
        self.pattern = pattern
        let sample = resolve(for: TableName(schema: "s", name: "t"))
        if "\(sample.schema)\(sample.name)".contains(where: { $0 == "{" || $0 == "}" }) {
            return nil
        }
    }

    /// Tables of one schema get targets of their own.
    var namesTable: Bool { "\(pattern.schema) \(pattern.name)".contains("{table}") }

    func resolve(for table: TableName) -> TableName {
        func fill(_ part: String) -> String {
            part.split(separator: "{schema}", omittingEmptySubsequences: false)
                .map {
                    $0.split(separator: "{table}", omittingEmptySubsequences: false)
                        .joined(separator: table.name)
                }
                .joined(separator: table.schema)
        }
        return TableName(schema: fill(pattern.schema), name: fill(pattern.name))
    }
}
