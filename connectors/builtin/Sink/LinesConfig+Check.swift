package import WeirCore
import WeirValues

extension LinesConfig {
    /// Columns that are chosen and do not exist, before the first event comes.
    func check(_ tables: [TableSchema]) -> [Finding] {
        var findings: [Finding] = []
        let taken = tables.filter { schema in
            Operation.allCases.contains { routing.takes($0, of: schema) }
        }
        for schema in taken {
            do throws(WeirError) {
                _ = try Projection(
                    schema, routing: routing, columns: columns, options: options,
                    isOnlyTable: isOnlyTable)
            } catch {
                let name = TableName(schema: schema.schema, name: schema.name)
                findings.append(
                    Finding(
                        error.code, .blocking, "\(name)", error.message, detail: error.detail,
                        hint: error.hint))
            }
        }
        guard findings.isEmpty, !taken.isEmpty, let columns else { return findings }
        for schema in taken { findings += schema.findings(naming: columns.paths, under: "columns") }
        // Of several tables each may have only some of the columns.
        for choice in columns {
            guard let path = FieldPath(choice.source) else { continue }
            let isFound = taken.contains {
                path.resolve(in: $0) != nil || path.isOfOtherVersion(of: $0)
            }
            if isFound { continue }
            findings.append(
                Finding(
                    .unknownColumn, .warning, choice.source,
                    "none of the sink's tables has a column \"\(choice.source)\"",
                    hint: ErrorCode.unknownColumn.remedy))
        }
        return findings
    }
}

extension FileSink: SinkCheck {
    package func check(_ tables: [TableSchema]) -> [Finding] { lines.check(tables) }
}

extension StdoutSink: SinkCheck {
    package func check(_ tables: [TableSchema]) -> [Finding] { lines.check(tables) }
}
