import WeirCore
import WeirPostgresClient
import WeirValues

/// Finds out how a source table is written: looks at the target, makes or extends it. Blocks.
struct PlanMaker {
    let config: PostgresSinkConfig
    let session: TargetSession
    let number: Int
    /// This sink has written before: what it makes now lacks what it did not write then.
    let hasPosition: Bool
    let reports: any OperatorReports
    let log: (LogLevel, String) -> Void

    /// The targets that are looked at together.
    var together: TargetCatalogue.Together?

    private var connection: PostgresConnection { session.connection }
    var catalogue: TargetCatalogue {
        TargetCatalogue(connection: connection, together: together)
    }

    /// How a table is written, and what of it is not.
    struct Planned {
        let plan: CopyPlan
        let shape: WrittenShape
    }

    /// Nil for a table the sink takes nothing of.
    func plan(_ schema: TableSchema) throws(TargetFailure) -> Planned? {
        guard let route = try route(schema) else { return nil }
        let wanted = try wanted(schema)
        let table: TargetTable
        if let found = try target(route.target) {
            table = found
            try refuseEcho(schema, found)
            try refuse(try check(schema, wanted, found, route.takes).findings)
        } else {
            if let finding = nameTaken(wanted, route.target) { try refuse([finding]) }
            try create(route.target, wanted)
            table = try find(route.target)
        }
        do { try session.add(target: route.target) } catch { throw .server(error) }
        var complete = try extend(table, wanted)
        if let text = config.text, complete.column(text.column) == nil {
            try addSearch(text, complete)
            complete = try find(route.target)
        }
        session.plan(complete)
        let findings = try check(schema, wanted, complete, route.takes).findings
        try refuse(findings)
        for finding in findings { reports.raise(finding) }
        let outputs = Self.outputs(wanted, schema, complete)
        // Left-out columns moved the others' places.
        let places = wanted.key.compactMap { index in
            outputs.firstIndex { $0.name == wanted.all[index].output }
        }
        let matches: [KeyMatch]
        do throws(PostgresFailure) {
            matches =
                wanted.isKeyed
                ? try KeyMatch.find(places.map { outputs[$0].name }, of: complete, connection) : []
        } catch {
            throw .server(error)
        }
        return Planned(
            plan: CopyPlan(
                schema: schema, target: complete, outputs: outputs, key: places,
                isKeyed: wanted.isKeyed, number: number, takes: route.takes, matching: matches),
            shape: shape(schema, wanted, complete, route.takes))
    }

    /// Where a table's rows go, and which operations are written.
    struct Route {
        let target: TableName
        let takes: [Bool]
    }

    /// Nil for a table the sink takes nothing of.
    func route(_ schema: TableSchema) throws(TargetFailure) -> Route? {
        let takes = Operation.allCases.map {
            config.routing.takes($0, of: schema) && (config.truncates || $0 != .truncate)
        }
        guard takes.contains(true), !schema.isMessages else { return nil }
        let source = TableName(schema: schema.schema, name: schema.name)
        let name = config.target.resolve(for: source)
        if !config.knowsTables { try claim(name, for: source) }
        if session.isSource, name == source {
            throw .weir(
                WeirError(
                    .targetUnfit, .blocked,
                    "the sink would write to \"\(name)\", the very table it follows",
                    hint: hintOfSource))
        }
        return Route(target: name, takes: takes)
    }

    /// What helps where the target's database is the source's, or may be it.
    var hintOfSource: String {
        let hint = "Name another \"table\", or another database in the connection's url."
        guard session.instance.system == nil, let role = try? catalogue.session().role else {
            return hint
        }
        return hint + " If it is another server, let the role tell which; there, as a superuser: "
            + ServerInstance.grant(to: role)
    }

    func shape(
        _ schema: TableSchema, _ wanted: WantedColumns, _ table: TargetTable, _ takes: [Bool]
    ) -> WrittenShape {
        WrittenShape(schema, wanted, table, takes, search: config.text?.column)
    }

    func wanted(_ schema: TableSchema) throws(TargetFailure) -> WantedColumns {
        do { return try WantedColumns(schema, config) } catch { throw .weir(error) }
    }

    /// Nil when it is missing and was never written to.
    func target(_ name: TableName) throws(TargetFailure) -> TargetTable? {
        if let found = try catalogue.table(name) { return found }
        guard session.targets.contains(name.description) else { return nil }
        throw .weir(
            WeirError(
                .targetRestored, .positionLost,
                "the target \"\(name)\" is gone, and with it the rows that were delivered",
                hint: ErrorCode.targetRestored.remedy))
    }

    func check(
        _ schema: TableSchema, _ wanted: WantedColumns, _ table: TargetTable, _ takes: [Bool]
    ) throws(TargetFailure) -> TargetCheck {
        let missing = wanted.all.filter { table.column($0.output) == nil }
        let types = try sqlTypes(missing).map(\.sql)
        return TargetCheck(
            config: config, schema: schema, wanted: wanted, table: table,
            types: Dictionary(zip(missing.map(\.output), types)) { $1 }, takes: takes)
    }

    /// The source has a column of the name the column for search would get.
    func nameTaken(_ wanted: WantedColumns, _ target: TableName) -> Finding? {
        guard let text = config.text, wanted.all.contains(where: { $0.output == text.column })
        else { return nil }
        return TargetCheck.nameTaken(text, target)
    }

    private func refuse(_ findings: [Finding]) throws(TargetFailure) {
        guard let finding = findings.first(where: { $0.severity == .blocking }) else { return }
        throw .weir(WeirError(finding))
    }

    /// What the configuration could not check, because the source does not list its tables.
    private func claim(_ target: TableName, for source: TableName) throws(TargetFailure) {
        func refuse(_ message: String, _ hint: String) -> TargetFailure {
            .weir(WeirError(.targetUnfit, .blocked, message, hint: hint))
        }
        if max(target.schema.utf8.count, target.name.utf8.count) > TargetName.bytesMax {
            throw refuse(
                "the target \"\(target)\" has a name of more than \(TargetName.bytesMax) bytes",
                "Give \"\(source)\" a sink of its own with another \"table\", and list the others "
                    + "in \"tables\".")
        }
        if let other = session.claim(target, for: source) {
            throw refuse(
                "\"\(other)\" and \"\(source)\" would both be written to \"\(target)\"",
                "Put {schema} and {table} into \"table\", or name \"tables\".")
        }
    }

    // MARK: Columns

    /// What of the wanted the target takes.
    private static func outputs(
        _ wanted: WantedColumns, _ schema: TableSchema, _ table: TargetTable
    ) -> [CopyPlan.Output] {
        wanted.all.compactMap { wanted in
            guard let column = table.column(wanted.output), !column.isGenerated else { return nil }
            return CopyPlan.Output(
                name: wanted.output, source: source(wanted.source, schema, for: column),
                isSettable: !column.isAlwaysIdentity)
        }
    }

    /// What is found by a path has its quotes where the target's column is JSON.
    private static func source(
        _ source: FieldReference, _ schema: TableSchema, for column: TargetColumn
    ) -> FieldReference {
        let isFound = schema.isCollection || !source.isWholeColumn
        return isFound && ["json", "jsonb"].contains(column.type) ? source.asJSON() : source
    }

    /// A type as SQL, what it is, and the one that was wanted where the target does not have that.
    struct MadeType {
        let sql: String
        let facts: KnownType
        var lacking: String?

        static let text = MadeType(sql: "pg_catalog.text", facts: .text)
    }

    /// The source's own types where the target knows them: as they were declared, with their
    /// length and under a domain's name, else what is below, else text.
    func sqlTypes(_ wanted: [WantedColumn]) throws(TargetFailure) -> [MadeType] {
        if wanted.isEmpty { return [] }
        let choices = wanted.map { wanted -> [String] in
            [wanted.column?.declaredType, wanted.type.map(TargetDefinition.sqlType)]
                .compactMap(\.self)
        }
        let known = try catalogue.known(Set(choices.joined()))
        return choices.map { choices in
            guard let sql = choices.first(where: { known[$0] != nil }), let facts = known[sql]
            else { return MadeType(sql: "pg_catalog.text", facts: .text, lacking: choices.first) }
            // Only text can be searched, whatever labels there are.
            if config.kind == .search, facts.isEnum, facts.element.isEmpty { return .text }
            return MadeType(
                sql: sql, facts: facts, lacking: sql == choices.first ? nil : choices.first)
        }
    }

    static func substituted(
        _ wanted: [WantedColumn], _ types: [MadeType], in table: TableName
    ) -> [Finding] {
        zip(wanted, types).compactMap { wanted, type in
            type.lacking.map { lacking in
                Finding(
                    .typeSubstituted, .warning, "\(table).\(wanted.output)",
                    "column \"\(wanted.output)\" of \"\(table)\" is made as "
                        + "\(type.facts.base): the target has no type "
                        + "\(lacking.dropping("pg_catalog."))",
                    hint: "Values arrive whole. To have the type, make it in the target, then "
                        + "alter the column.")
            }
        }
    }

    // MARK: Definition

    private func create(_ name: TableName, _ wanted: WantedColumns) throws(TargetFailure) {
        try permit(try catalogue.grantsToMake(name), to: "make the target \"\(name)\"")
        let types = try sqlTypes(wanted.all)
        let columns = zip(wanted.all, types).map { (name: $0.output, sqlType: $1.sql) }
        let schemaName = PostgresConnection.literal(PostgresConnection.identifier(name.schema))
        let schemas = try rows("SELECT pg_catalog.to_regnamespace(\(schemaName))::text")
        // Asking for a schema that is there would need a right that is not needed.
        let schema = schemas.first?[0] == nil ? [TargetDefinition.createSchema(name.schema)] : []
        let key = wanted.isKeyed ? wanted.key.map { wanted.all[$0].output } : []
        try run(
            [PositionSQL.lockDefinitions] + schema + [
                TargetDefinition.create(name, columns, key: key)
            ]
        )
        log(.info, "made the target \"\(name)\"")
        for finding in Self.substituted(wanted.all, types, in: name) { reports.raise(finding) }
        if hasPosition { reports.raise(made(name)) }
    }

    /// For a target that is missing though this sink has written others.
    func made(_ name: TableName) -> Finding {
        Finding(
            .targetMade, .warning, "\(name)",
            "there was no target \"\(name)\": Weir makes it for the changes from now on, without "
                + "the rows the source's table has already",
            detail: "So it is when a table is added to a pipeline, and when the source's table or "
                + "the sink's \"table\" got another name.",
            hint: "If it was renamed, rename the target before Weir starts: ALTER TABLE … RENAME "
                + "TO \(PostgresConnection.identifier(name.name));")
    }

    /// Adds columns where the configuration asks for it.
    private func extend(
        _ table: TargetTable, _ wanted: WantedColumns
    ) throws(TargetFailure) -> TargetTable {
        let missing = wanted.all.filter { table.column($0.output) == nil }
        guard !missing.isEmpty, config.onNewColumn == .add else { return table }
        try permit(try grantsToAlter(table), to: "add columns to \"\(table.name)\"")
        let types = try sqlTypes(missing)
        try run(
            zip(missing, types).map {
                TargetDefinition.addColumn($0.output, $1.sql, to: table.name)
            })
        let names = TargetCheck.list(missing.map(\.output))
        log(.info, "added to the target \"\(table.name)\": \(names)")
        for finding in Self.substituted(missing, types, in: table.name) { reports.raise(finding) }
        return try find(table.name)
    }

    /// Makes the tsvector column.
    private func addSearch(_ text: SearchText, _ table: TargetTable) throws(TargetFailure) {
        if let finding = try configurationMissing(text) { try refuse([finding]) }
        let expression: String
        do { expression = try text.expression(table.columns) } catch { throw .weir(error) }
        try permit(try grantsToAlter(table), to: "add the column for search to \"\(table.name)\"")
        try run(TargetDefinition.addSearch(text, expression, to: table.name))
    }

    func configurationMissing(_ text: SearchText) throws(TargetFailure) -> Finding? {
        guard try !catalogue.hasConfiguration(text.configurationName) else { return nil }
        let all = try catalogue.configurations()
        let near = all.nearest(to: text.configuration).map { "Did you mean \"\($0)\"? " } ?? ""
        return Finding(
            .searchColumn, .blocking, text.configuration,
            "the target has no text-search configuration \"\(text.configuration)\"",
            hint: "\(near)It has: \(all.joined(separator: ", ")). One of another schema is named "
                + "with it, as schema.name.")
    }

    private func grantsToAlter(_ table: TargetTable) throws(TargetFailure) -> [String] {
        let rights = try catalogue.rights(table)
        if rights.isOwner { return [] }
        let role = try catalogue.session().role
        return ["ALTER TABLE \(table.name.sql) OWNER TO \(role);"]
    }

    /// - Throws: what is retried, because it ends when the role gets its rights.
    private func permit(_ grants: [String], to work: String) throws(TargetFailure) {
        guard !grants.isEmpty else { return }
        throw .weir(
            WeirError(
                .permission, .transient, "the role may not \(work)",
                hint: grants.joined(separator: " ")))
    }

    private func find(_ name: TableName) throws(TargetFailure) -> TargetTable {
        guard let table = try catalogue.table(name) else {
            throw .weir(
                WeirError(.targetUnfit, .transient, "the target \"\(name)\" has vanished"))
        }
        return table
    }

    /// All or nothing: several statements in one message are one transaction.
    private func run(_ statements: [String]) throws(TargetFailure) {
        _ = try rows(statements.joined(separator: "; "))
    }

    private func rows(_ sql: String) throws(TargetFailure) -> [TextRow] {
        // Adding a tsvector column or a primary key may read all of a table.
        do { return try connection.query(sql, within: .seconds(600)) } catch {
            throw .server(error)
        }
    }
}

extension String {
    fileprivate func dropping(_ prefix: String) -> String {
        hasPrefix(prefix) ? String(dropFirst(prefix.count)) : self
    }
}
