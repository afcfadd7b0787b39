import WeirCore
import WeirValues

/// The keys of every sink that writes one line per event.
struct LinesConfig: Sendable {
    let format: LineFormat
    let routing: Routing
    let columns: [ColumnChoice]?
    let options: ValueOptions
    let pipeline: String

    static let fields: [ConfigField] =
        [
            ConfigField(
                "format", .choice(LineFormat.allCases.map(\.rawValue)),
                "What a line shows: weir is the whole event, row only the row as it is now, debezium "
                    + "Debezium's envelope without schemas.",
                default: #""weir""#),
            ConfigField(
                "columns", .columns,
                "The columns to show: a list, or an object from output name to source column. "
                    + "Without it, all of them.",
                example: #"["id", "name"]"#),
            ConfigField(
                "int64", .choice(["number", "string"]),
                "How eight-byte integers look; JavaScript readers lose digits of large numbers.",
                default: #""number""#),
            ConfigField(
                "numeric", .choice(["number", "string"]),
                "How numeric values look; readers that use floating point lose digits.",
                default: #""number""#),
        ] + Routing.fields

    init(_ scope: ConfigScope) throws(ConfigIssue) {
        format = LineFormat(rawValue: scope.values.string("format") ?? "") ?? .weir
        columns = scope.values.columns("columns")
        options = ValueOptions(
            int64AsString: scope.values.string("int64") == "string",
            numericAsString: scope.values.string("numeric") == "string")
        pipeline = scope.pipeline
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

    func makeEncoder() -> LineEncoder {
        LineEncoder(
            format: format, sourceKind: "postgres", sourceName: pipeline, routing: routing,
            columns: columns, options: options)
    }
}
