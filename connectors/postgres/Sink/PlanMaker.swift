import WeirCore
import WeirPostgresClient
import WeirValues

/// Finds out how a source table is written: looks at the target, makes or extends it. Blocks.
struct PlanMaker {
    let config: PostgresSinkConfig
    let session: TargetSession
    let number: Int
    let log: (LogLevel, String) -> Void

    private var connection: PostgresConnection { session.connection }
    private var catalogue: TargetCatalogue { TargetCatalogue(connection: connection) }

    /// Nil for a table the sink takes nothing of.
    func plan(_ schema: TableSchema) throws(TargetFailure) -> CopyPlan? {
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
                    hint: "Name another \"table\", or another database in the connection's url."))
        }
        let wanted = try wanted(schema)
        let key = try key(schema, wanted)
        let table: TargetTable
        if let found = try catalogue.table(name) {
            table = found
        } else if session.targets.contains(name.description) {
            throw .weir(
                WeirError(
                    .targetRestored, .positionLost,
                    "the target \"\(name)\" is gone, and with it the rows that were delivered",
                    hint: ErrorCode.targetRestored.remedy))
        } else {
            try create(name, wanted, key: schema.isKeyUnique ? key : [])
            table = try find(name)
        }
        do { try session.add(target: name) } catch { throw .server(error) }
        let (outputs, complete) = try fit(wanted, schema, to: table)
        if let text = config.text { try ensureSearch(text, complete) }
        // Left-out columns moved the others' places.
        let places = key.compactMap { index in
            outputs.firstIndex { $0.name == wanted[index].output }
        }
        let keyNames = places.map { outputs[$0].name }
        let isKeyed = schema.isKeyUnique && !key.isEmpty
        if isKeyed, places.count < key.count {
            let lost = key.map { wanted[$0].output }.filter { !keyNames.contains($0) }
            throw .weir(
                WeirError(
                    .newColumn, .blocked,
                    "the target \"\(name)\" does not take \"\(lost.joined(separator: "\", \""))\", "
                        + "a column of the key",
                    hint:
                        "Without it rows could not be told apart. Add it to the target and to its "
                        + "unique index."))
        }
        if isKeyed, !complete.hasUniqueKey(on: keyNames) {
            let list = keyNames.map(PostgresConnection.identifier).joined(separator: ", ")
            throw .weir(
                WeirError(
                    .noUniqueIndex, .blocked,
                    "the target \"\(name)\" has no unique index on (\(list)), by which rows are "
                        + "told apart",
                    hint: "ALTER TABLE \(name.sql) ADD PRIMARY KEY (\(list));"))
        }
        let matches: [KeyMatch]
        do { matches = try isKeyed ? KeyMatch.find(keyNames, of: complete, connection) : [] } catch
        {
            throw .server(error)
        }
        return CopyPlan(
            schema: schema, target: complete, outputs: outputs, key: places, isKeyed: isKeyed,
            number: number, takes: takes, matching: matches)
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

    private struct Wanted {
        let output: String
        let source: FieldReference
        let isNamed: Bool
        /// Nil for a value inside another.
        let type: ColumnType?
    }

    private func wanted(_ schema: TableSchema) throws(TargetFailure) -> [Wanted] {
        if schema.isCollection { return try wantedOfDocuments(schema) }
        guard let columns = config.columns else {
            return schema.columns.indices.map { index in
                Wanted(
                    output: schema.columns[index].name,
                    source: FieldReference(column: index, of: schema), isNamed: false,
                    type: schema.columns[index].type)
            }
        }
        var wanted: [Wanted] = []
        for choice in columns {
            guard let path = FieldPath(choice.source) else { continue }
            let reference: FieldReference
            if config.tables.count == 1 {
                do { reference = try path.find(in: schema, namedUnder: "columns") } catch {
                    throw .weir(error)
                }
            } else {
                guard let found = path.resolve(in: schema) else { continue }
                reference = found
            }
            wanted.append(
                Wanted(
                    output: choice.output, source: reference, isNamed: true,
                    type: reference.isWholeColumn ? schema.columns[reference.column].type : nil))
        }
        return wanted
    }

    private static let idName = "_id"
    private static let documentName = "document"

    /// The `_id` and the chosen paths, or the whole document.
    private func wantedOfDocuments(_ schema: TableSchema) throws(TargetFailure) -> [Wanted] {
        func wanted(_ output: String, _ source: String, isNamed: Bool) -> Wanted? {
            guard let path = FieldPath(source),
                let found = path.resolve(in: schema, options: config.options)
            else { return nil }
            return Wanted(
                output: output, source: found, isNamed: isNamed,
                type: found.isWholeColumn ? ColumnType(.json, name: "jsonb") : nil)
        }
        let choices =
            config.columns
            ?? [ColumnChoice(output: Self.documentName, source: TableSchema.wholeDocument)]
        var all = choices.compactMap {
            wanted($0.output, $0.source, isNamed: config.columns != nil)
        }
        guard let id = wanted(Self.idName, Self.idName, isNamed: false),
            !all.contains(where: { $0.source.isSamePlace(as: id.source) })
        else { return all }
        if all.contains(where: { $0.output == id.output }) {
            throw .weir(
                WeirError(
                    .keyNotChosen, .blocked,
                    "\"columns\" gives the name \"\(id.output)\" to another value, and leaves out "
                        + "the _id of \"\(TableName(schema: schema.schema, name: schema.name))\"",
                    hint: "Name one of them otherwise, such as \"id\": \"_id\"."))
        }
        all.insert(id, at: 0)
        return all
    }

    /// The places of the key's columns in `wanted`.
    private func key(
        _ schema: TableSchema, _ wanted: [Wanted]
    ) throws(TargetFailure) -> [Int] {
        var key: [Int] = []
        for reference in schema.keyReferences {
            if let index = wanted.firstIndex(where: { $0.source.isSamePlace(as: reference) }) {
                key.append(index)
            } else if schema.isKeyUnique {
                let name = schema.columns[reference.column].name
                throw .weir(
                    WeirError(
                        .keyNotChosen, .blocked,
                        "\"columns\" leaves out \"\(name)\", a column of the key of "
                            + "\"\(TableName(schema: schema.schema, name: schema.name))\"",
                        hint: "Add it to \"columns\"."))
            }
        }
        return key
    }

    /// What of the wanted the target takes, and the target after columns were added.
    private func fit(
        _ wanted: [Wanted], _ schema: TableSchema, to table: TargetTable
    ) throws(TargetFailure) -> (outputs: [CopyPlan.Output], table: TargetTable) {
        var table = table
        let missing = wanted.filter { table.column($0.output) == nil }
        if !missing.isEmpty {
            let types = try sqlTypes(missing)
            let statements = zip(missing, types).map {
                TargetDefinition.addColumn($0.output, $1, to: table.name)
            }
            switch config.onNewColumn {
            case .add:
                try run(statements)
                log(.info, "added to the target \"\(table.name)\": \(Self.list(missing))")
                table = try find(table.name)
            case .ignore where !missing.contains(where: \.isNamed):
                log(
                    .warning,
                    "the target \"\(table.name)\" lacks \(Self.list(missing)) of the source; left "
                        + "out (\"on_new_column\": \"ignore\")")
            case .ignore, .stop:
                throw .weir(
                    WeirError(
                        .newColumn, .blocked,
                        "the target \"\(table.name)\" lacks \(Self.list(missing))",
                        hint: statements.joined(separator: "; ") + ";"))
            }
        }
        let outputs = wanted.compactMap { wanted -> CopyPlan.Output? in
            guard let column = table.column(wanted.output), !column.isGenerated else { return nil }
            return CopyPlan.Output(
                name: wanted.output, source: Self.source(wanted.source, schema, for: column),
                isSettable: !column.isAlwaysIdentity)
        }
        return (outputs, table)
    }

    /// What is found by a path has its quotes where the target's column is JSON.
    private static func source(
        _ source: FieldReference, _ schema: TableSchema, for column: TargetColumn
    ) -> FieldReference {
        let isFound = schema.isCollection || !source.isWholeColumn
        return isFound && ["json", "jsonb"].contains(column.type) ? source.asJSON() : source
    }

    private static func list(_ wanted: [Wanted]) -> String {
        wanted.map { "\"\($0.output)\"" }.joined(separator: ", ")
    }

    /// The source's own types where the target knows them, else text.
    private func sqlTypes(_ wanted: [Wanted]) throws(TargetFailure) -> [String] {
        let types = wanted.map { $0.type.map(TargetDefinition.sqlType) ?? "pg_catalog.text" }
        let known = try catalogue.known(Set(types))
        return types.map { known.contains($0) ? $0 : "pg_catalog.text" }
    }

    // MARK: Definition

    private func create(
        _ name: TableName, _ wanted: [Wanted], key: [Int]
    ) throws(TargetFailure) {
        let types = try sqlTypes(wanted)
        let columns = zip(wanted, types).map { (name: $0.output, sqlType: $1) }
        let schemaName = PostgresConnection.literal(PostgresConnection.identifier(name.schema))
        let schemas = try rows("SELECT pg_catalog.to_regnamespace(\(schemaName))::text")
        // Asking for a schema that is there would need a right that is not needed.
        let schema = schemas.first?[0] == nil ? [TargetDefinition.createSchema(name.schema)] : []
        try run(
            [PositionSQL.lockDefinitions] + schema + [
                TargetDefinition.create(name, columns, key: key.map { wanted[$0].output })
            ])
        log(.info, "made the target \"\(name)\"")
    }

    /// Makes the tsvector column where it is missing.
    private func ensureSearch(_ text: SearchText, _ table: TargetTable) throws(TargetFailure) {
        // Without a choice the columns of the first day stay.
        if text.weighted.isEmpty, table.column(text.column) != nil { return }
        let expression: String
        do {
            expression = try text.expression(table.columns.filter { $0.name != text.column })
        } catch {
            throw .weir(error)
        }
        guard let column = table.column(text.column) else {
            try run(TargetDefinition.addSearch(text, expression, to: table.name))
            return
        }
        // A column of the user's own making is taken as it is.
        guard let comment = column.comment, comment.hasPrefix("weir: "),
            comment != TargetDefinition.comment(expression)
        else { return }
        let name = PostgresConnection.identifier(text.column)
        throw .weir(
            WeirError(
                .targetUnfit, .blocked,
                "column \"\(text.column)\" of \"\(table.name)\" was made for another \"text\"",
                hint: "Weir makes it anew after: ALTER TABLE \(table.name.sql) DROP COLUMN \(name);"
            ))
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
