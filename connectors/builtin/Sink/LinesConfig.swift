import WeirCore
import WeirValues

/// The keys of every sink that writes one line per event.
struct LinesConfig: Sendable {
    let format: LineFormat
    let routing: Routing
    let columns: [ColumnChoice]?
    let options: ValueOptions
    let tombstones: Bool
    let pipeline: String
    let sourceType: String
    /// The source follows one table alone.
    let isOnlyTable: Bool

    static let fields: [ConfigField] =
        [
            ConfigField(
                "format", .choice(LineFormat.allCases.map(\.rawValue)),
                "What a line shows: weir is the whole event, row only the row as it is now, debezium "
                    + "Debezium's envelope without schemas, text a short line for people.",
                default: #""weir""#),
            ConfigField(
                "columns", .columns,
                "The columns to show: a list, or an object from output name to source column or "
                    + "path. A name that holds a dot stands in double quotes. Without it, all of "
                    + "them, or the whole document.",
                example: #"["id", "name"]"#),
            ConfigField(
                "tombstones", .boolean,
                "For debezium: whether a line null follows each delete, as Debezium sends a tombstone "
                    + "to Kafka.",
                default: "false"),
        ] + ValueOptions.fields + Routing.fields

    init(_ scope: ConfigScope) throws(ConfigIssue) {
        format = LineFormat(rawValue: scope.values.string("format") ?? "") ?? .weir
        columns = scope.values.columns("columns")
        try columns?.checkPaths()
        options = ValueOptions(scope.values)
        tombstones = scope.values.boolean("tombstones") ?? false
        if tombstones, format != .debezium {
            throw ConfigIssue(
                field: "tombstones", "\"tombstones\" belongs to \"format\": \"debezium\"")
        }
        pipeline = scope.pipeline
        sourceType = scope.sourceType
        isOnlyTable = scope.sourceTables?.count == 1
        var routing = try Routing(scope)
        if format == .row {
            // A row as it is now is all this format has, so the rest must not be asked for.
            let shown: Set<Operation> = [.insert, .update, .read]
            let named = scope.values.strings("operations") ?? []
            if let index = named.firstIndex(where: { name in
                !shown.contains { "\($0.name)" == name }
            }) {
                throw ConfigIssue(
                    field: "operations", index: index,
                    "format \"row\" cannot show operation \"\(named[index])\"")
            }
            routing = Routing(
                tables: routing.tables, operations: routing.operations.intersection(shown))
        }
        self.routing = routing
    }

    func makeEncoder(_ notation: SourceNotation) -> LineEncoder {
        LineEncoder(
            format: format, sourceKind: sourceType, sourceName: pipeline, notation: notation,
            routing: routing, columns: columns, options: options, tombstones: tombstones,
            isOnlyTable: isOnlyTable)
    }
}
