import WeirCore
import WeirPostgresClient

/// What a search table's tsvector is made of.
struct SearchText: Sendable, Equatable {
    /// The text-search configuration, as `english` or `schema.name`.
    let configuration: String
    /// Output names by weight, in the order A to D; empty: all text columns, with weight A.
    let weighted: [(weight: String, columns: [String])]
    /// The name of the tsvector column.
    let column: String

    private static let weights = ["A", "B", "C", "D"]

    static let fields: [ConfigField] =
        [
            ConfigField(
                "config", .string,
                "The text-search configuration, such as english; simple takes words as they are.",
                default: #""simple""#)
        ]
        + weights.map { weight in
            ConfigField(
                weight, .list(of: .string),
                "The target's columns that are searched with weight \(weight).",
                example: weight == "A" ? #"["name"]"# : nil)
        } + [
            ConfigField(
                "column", .string, "The name of the tsvector column.", default: #""search""#)
        ]

    init?(
        _ given: ConfigValues, _ kind: TargetKind, _ columns: [ColumnChoice]?
    ) throws(ConfigIssue) {
        let text = given.object("text")
        guard kind == .search else {
            if text == nil { return nil }
            throw ConfigIssue(field: "text", "\"text\" belongs to \"write\": \"search\"")
        }
        configuration = text?.string("config") ?? "simple"
        column = text?.string("column") ?? "search"
        var weighted: [(weight: String, columns: [String])] = []
        var seen: Set<String> = []
        for weight in Self.weights {
            let names = text?.strings(weight) ?? []
            for name in names {
                if let columns, !columns.contains(where: { $0.output == name }) {
                    throw ConfigIssue(
                        field: "text.\(weight)", "\"\(name)\" is not among the columns",
                        suggestion: columns.map(\.output).nearest(to: name))
                }
                if !seen.insert(name).inserted {
                    throw ConfigIssue(
                        field: "text.\(weight)", "column \"\(name)\" has a weight already")
                }
            }
            if !names.isEmpty { weighted.append((weight, names)) }
        }
        self.weighted = weighted
        let name = column
        if columns?.contains(where: { $0.output == name }) ?? false {
            throw ConfigIssue(
                field: "text.column", "\"\(name)\" is the name of a column that is written")
        }
    }

    static func == (left: SearchText, right: SearchText) -> Bool {
        left.configuration == right.configuration && left.column == right.column
            && left.weighted.elementsEqual(right.weighted) { $0 == $1 }
    }

    /// A tsvector takes 1 MB of words with their places. So many characters of each column, and of
    /// all together, are indexed; what is behind them is not found by search.
    static let columnCharactersMax = 100_000
    static let charactersMax = 150_000

    /// The definition of the tsvector column as SQL, from the target's columns and their types.
    ///
    /// - Throws: when a column is missing or has a type whose text depends on settings.
    func expression(_ columns: [TargetColumn]) throws(WeirError) -> String {
        var chosen = weighted
        if chosen.isEmpty {
            let names = columns.filter { Self.textTypes.contains($0.type) }.map(\.name)
            chosen = [("A", names)]
        }
        var parts: [String] = []
        let count = max(1, chosen.reduce(0) { $0 + $1.columns.count })
        let limit = min(Self.columnCharactersMax, Self.charactersMax / count)
        for (weight, names) in chosen {
            for name in names {
                guard let column = columns.first(where: { $0.name == name }) else {
                    throw WeirError(
                        .targetUnfit, .blocked,
                        "\"text\" names column \"\(name)\", which the target does not have")
                }
                parts.append(try part(column, weight, limit))
            }
        }
        guard !parts.isEmpty else {
            throw WeirError(
                .targetUnfit, .blocked, "the search table has no text column to search",
                hint: "Name the columns to search in \"text\".")
        }
        return parts.joined(separator: " || ")
    }

    private static let textTypes: Set<String> = [
        "text", "varchar", "bpchar", "name", "json", "jsonb",
    ]
    /// Types whose text is the same under all settings, which a generated column demands.
    private static let steadyTypes: Set<String> = [
        "bool", "int2", "int4", "int8", "numeric", "uuid", "oid", "inet", "cidr", "macaddr",
    ]

    private func part(
        _ column: TargetColumn, _ weight: String, _ limit: Int
    ) throws(WeirError) -> String {
        let name = PostgresConnection.identifier(column.name)
        let text = "pg_catalog.left(coalesce(\(name)::text, ''), \(limit))"
        let regconfig = "\(PostgresConnection.literal(configurationName))::regconfig"
        var vector = "pg_catalog.to_tsvector(\(regconfig), \(text))"
        switch column.type {
        case "json", "jsonb":
            // Its strings; of a document that is too long, the beginning of its text.
            vector =
                "CASE WHEN pg_catalog.length(\(name)::text) > \(limit) THEN \(vector) "
                + "ELSE pg_catalog.to_tsvector(\(regconfig), coalesce(\(name), 'null')) END"
        case let type where Self.textTypes.contains(type) || Self.steadyTypes.contains(type): break
        default:
            throw WeirError(
                .targetUnfit, .blocked,
                "column \"\(column.name)\" of type \(column.type) cannot be searched",
                hint: "Search text and JSON columns.")
        }
        return "pg_catalog.setweight(\(vector), '\(weight)')"
    }

    /// A name without a schema is one of the server's own: there is no search path.
    private var configurationName: String {
        if configuration.contains(".") { return configuration }
        return "pg_catalog." + PostgresConnection.identifier(configuration)
    }
}
