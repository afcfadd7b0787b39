/// Which events a sink takes: the keys `tables` and `operations`, the same for every sink.
public struct Routing: Sendable, Equatable {
    /// Nil: all tables of the source.
    public let tables: Set<TableName>?
    public let operations: Set<Operation>

    public init(tables: Set<TableName>? = nil, operations: Set<Operation> = Set(Operation.allCases))
    {
        self.tables = tables
        self.operations = operations
    }

    /// The descriptors every sink lists among its own.
    public static let fields: [ConfigField] = [
        ConfigField(
            "tables", .list(of: .table),
            "The tables this sink takes, of those its source reads. Without it, all of them.",
            example: #"["public.orders"]"#),
        ConfigField(
            "operations", .list(of: .choice(Operation.allCases.map { "\($0.name)" })),
            "The operations this sink takes. Without it, all of them.",
            example: #"["insert", "update"]"#),
    ]

    public init(_ scope: ConfigScope) throws(ConfigIssue) {
        var tables: Set<TableName>?
        if let chosen = scope.values.tables("tables") {
            // Of a source that does not list its tables, any may come.
            if let known = scope.sourceTables {
                try Self.check(chosen, among: known)
            }
            tables = Set(chosen)
        }
        var operations = Set(Operation.allCases)
        if let chosen = scope.values.strings("operations") {
            operations = Set(Operation.allCases.filter { chosen.contains("\($0.name)") })
        }
        self.init(tables: tables, operations: operations)
    }

    private static func check(
        _ chosen: [TableName], among known: [TableName]
    ) throws(ConfigIssue) {
        let all = Set(known)
        for (index, table) in chosen.enumerated() where !all.contains(table) {
            throw ConfigIssue(
                field: "tables", index: index,
                "table \"\(table)\" is not among the tables of the source",
                suggestion: known.map(\.description).nearest(to: "\(table)"))
        }
    }

    /// Whether events of `table` with `operation` are taken. A message belongs to no table: a sink
    /// that names tables takes messages only if it names the operation too.
    public func takes(_ operation: Operation, of table: TableSchema) -> Bool {
        guard operations.contains(operation) else { return false }
        guard let tables else { return true }
        if operation == .message { return operations.count < Operation.allCases.count }
        return tables.contains(TableName(schema: table.schema, name: table.name))
    }
}
