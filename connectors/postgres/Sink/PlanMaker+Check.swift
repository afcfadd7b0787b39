import WeirCore
import WeirPostgresClient
import WeirValues

/// What would fail later, found out before the first event. Reads only.
extension PlanMaker {
    struct Inspection {
        var findings: [Finding] = []
        /// SQL that somebody else must run before the role may do all it has to.
        var grants: [String] = []
        /// By the source's table: what writing to its target may be read as. Empty unless the
        /// target is in the source's own database.
        var families: [TableName: Set<TableName>] = [:]
        /// By the source's table: its target, where that is there.
        var targets: [TableName: TargetTable] = [:]
        /// How the targets that are there are written.
        var shapes: [WrittenShape] = []
    }

    func inspect(_ tables: [TableSchema]) throws(TargetFailure) -> Inspection {
        var maker = self
        maker.together = TargetCatalogue.Together(
            tables.map { config.target.resolve(for: TableName(schema: $0.schema, name: $0.name)) })
        return try maker.inspectTogether(tables)
    }

    private func inspectTogether(_ tables: [TableSchema]) throws(TargetFailure) -> Inspection {
        var inspection = Inspection()
        for schema in tables { try inspect(schema, &inspection) }
        if let text = config.text, let finding = try configurationMissing(text) {
            inspection.findings.append(finding)
        }
        inspection.findings += unknownColumns(tables)
        inspection.findings += echoes(inspection.families)
        inspection.findings += try shared(inspection.shapes.map(\.target))
        inspection.grants += try catalogue.grantsToStage()
        return inspection
    }

    private func inspect(
        _ schema: TableSchema, _ inspection: inout Inspection
    ) throws(TargetFailure) {
        let name = TableName(schema: schema.schema, name: schema.name)
        do throws(TargetFailure) {
            guard let route = try route(schema) else { return }
            inspection.findings += schema.findings(
                naming: config.columns?.paths ?? [], under: "columns")
            if session.isSource, name == config.positionTable {
                throw .weir(WeirError(ownPosition))
            }
            let wanted = try wanted(schema)
            if let table = try target(route.target) {
                try inspect(table, schema, wanted, route.takes, &inspection)
            } else {
                try inspectMissing(route.target, wanted, &inspection)
            }
        } catch {
            // The others are looked at as well: one start shall tell all.
            guard case .weir(let error) = error, error.disposition == .blocked else { throw error }
            inspection.findings.append(
                Finding(
                    error.code, .blocking, "\(name)", error.message, detail: error.detail,
                    hint: error.hint))
        }
    }

    private func inspect(
        _ table: TargetTable, _ schema: TableSchema, _ wanted: WantedColumns, _ takes: [Bool],
        _ inspection: inout Inspection
    ) throws(TargetFailure) {
        inspection.findings += try check(schema, wanted, table, takes).findings
        inspection.targets[TableName(schema: schema.schema, name: schema.name)] = table
        if session.isSource {
            inspection.families[TableName(schema: schema.schema, name: schema.name)] =
                try catalogue.family(of: table)
        }
        inspection.shapes.append(shape(schema, wanted, table, takes))
        let missing = wanted.all.filter { table.column($0.output) == nil }
        let adds = !missing.isEmpty && config.onNewColumn == .add
        if adds {
            inspection.findings += Self.substituted(
                missing, try sqlTypes(missing), in: table.name)
        }
        var makesSearch = false
        if let text = config.text, table.column(text.column) == nil {
            makesSearch = true
            // With the columns that will be there by then.
            try expect(text, table.columns + (adds ? made(missing, try sqlTypes(missing)) : []))
        }
        let rights = try catalogue.rights(table)
        let role = try catalogue.session().role
        if wanted.isKeyed,
            let finding = rights.cannotReplace(table.name, role: role, takes: takes)
        {
            inspection.findings.append(finding)
        }
        let written = wanted.all.map(\.output).filter { table.column($0)?.isGenerated == false }
        let key = wanted.key.map { wanted.all[$0].output }
        inspection.grants += rights.grants(
            table.name, to: role, takes: takes, written: written,
            read: wanted.isKeyed ? key : written, isKeyed: wanted.isKeyed,
            alters: adds || makesSearch)
        if rights.hidesRows {
            inspection.grants.append(
                rights.isOwner
                    ? "ALTER TABLE \(table.name.sql) NO FORCE ROW LEVEL SECURITY;"
                    : "ALTER ROLE \(role) BYPASSRLS;")
        }
    }

    /// Targets that others write to as well, as far as they keep their positions here.
    private func shared(_ targets: [TableName]) throws(TargetFailure) -> [Finding] {
        if targets.isEmpty { return [] }
        return try catalogue.query(session.sql.others(writing: targets)).compactMap { row in
            guard let pipeline = row[0], let sink = row[1], let target = row[2],
                let name = targets.first(where: { $0.description == target })
            else { return nil }
            let other = PositionSQL(table: config.positionTable, pipeline: pipeline, sink: sink)
            return Finding(
                .targetShared, .warning, target,
                "\"\(target)\" is also written by sink \"\(sink)\" of pipeline \"\(pipeline)\", "
                    + "last at \(row[3] ?? "an unknown time")",
                detail: "Each undoes what the other writes.",
                hint: "Give one of them another \"table\". If that one does not write it any more: "
                    + "\(other.removeTarget(name));")
        }
    }

    // MARK: Echoes

    private var ownPosition: Finding {
        Finding(
            .targetUnfit, .blocking, "\(config.positionTable)",
            "the source follows \"\(config.positionTable)\", to which this sink writes its position "
                + "with each transaction: an endless echo",
            hint: "Take it out of \"tables\" of the source, or give the sink another "
                + "\"position_table\".")
    }

    /// - Throws: where what is written comes back as a change of the table itself.
    func refuseEcho(_ schema: TableSchema, _ target: TargetTable) throws(TargetFailure) {
        guard session.isSource else { return }
        let source = TableName(schema: schema.schema, name: schema.name)
        guard try catalogue.family(of: target).contains(source) else { return }
        throw .weir(WeirError(echo([source], target: target.name)))
    }

    /// Tables of this sink whose changes come back to where they began, by one step or several.
    private func echoes(_ families: [TableName: Set<TableName>]) -> [Finding] {
        let steps = families.mapValues { family in
            family.filter { families[$0] != nil }.sorted()
        }
        return families.keys.sorted().compactMap { table in
            // The way back, breadth first, so that it is the shortest.
            var paths = [[table]]
            var seen: Set<TableName> = []
            while !paths.isEmpty {
                let path = paths.removeFirst()
                for next in steps[path[path.count - 1]] ?? [] {
                    if next == table {
                        return echo(
                            path, target: config.target.resolve(for: path[path.count - 1]))
                    }
                    if seen.insert(next).inserted { paths.append(path + [next]) }
                }
            }
            return nil
        }
    }

    /// - Parameter path: the tables a change goes through, from the first to the last.
    private func echo(_ path: [TableName], target: TableName) -> Finding {
        let source = path[0]
        let through = path.dropFirst().map { "\"\($0)\"" }
        let way = through.isEmpty ? "" : " (by way of \(through.joined(separator: ", ")))"
        let same =
            target == source
            ? "the very table it follows"
            : "which holds rows of \"\(source)\", the table it follows, as a partition or by "
                + "inheritance"
        return Finding(
            .targetUnfit, .blocking, "\(target)",
            "the sink would write to \"\(target)\"\(way), \(same): each change would come back as "
                + "another, without end",
            hint: hintOfSource)
    }

    private func inspectMissing(
        _ name: TableName, _ wanted: WantedColumns, _ inspection: inout Inspection
    ) throws(TargetFailure) {
        if let finding = nameTaken(wanted, name) { inspection.findings.append(finding) }
        let types = try sqlTypes(wanted.all)
        inspection.findings += Self.substituted(wanted.all, types, in: name)
        if hasPosition { inspection.findings.append(made(name)) }
        if let text = config.text { try expect(text, made(wanted.all, types)) }
        inspection.grants += try catalogue.grantsToMake(name)
    }

    private func made(_ wanted: [WantedColumn], _ types: [MadeType]) -> [TargetColumn] {
        zip(wanted, types).map { TargetColumn(making: $0.output, sqlType: $1.sql, $1.facts) }
    }

    /// - Throws: what would keep the column for search from being made.
    private func expect(_ text: SearchText, _ columns: [TargetColumn]) throws(TargetFailure) {
        do { _ = try text.expression(columns) } catch { throw .weir(error) }
    }

    /// Columns that are named and that none of several tables has; of one table alone each must be
    /// there.
    private func unknownColumns(_ tables: [TableSchema]) -> [Finding] {
        let taken = tables.filter { schema in
            Operation.allCases.contains { config.routing.takes($0, of: schema) }
        }
        guard let columns = config.columns, taken.count > 1, config.tables.count != 1 else {
            return []
        }
        return columns.compactMap { choice in
            guard let path = FieldPath(choice.source),
                !taken.contains(where: {
                    path.resolve(in: $0) != nil || path.isOfOtherVersion(of: $0)
                })
            else { return nil }
            return Finding(
                .unknownColumn, .blocking, choice.source,
                "\"columns\" names \"\(choice.source)\", which none of the tables has",
                hint: "Take it out, or give the table that has it a sink of its own.")
        }
    }
}
