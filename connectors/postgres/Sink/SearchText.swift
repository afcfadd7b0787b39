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
            chosen = [("A", columns.filter { Form($0).isText }.map(\.name))]
        }
        var parts: [String] = []
        let count = max(1, chosen.reduce(0) { $0 + $1.columns.count })
        let limit = min(Self.columnCharactersMax, Self.charactersMax / count)
        for (weight, names) in chosen {
            for name in names {
                guard let column = columns.first(where: { $0.name == name }) else {
                    throw WeirError(
                        .targetUnfit, .blocked,
                        "\"text\" names column \"\(name)\", which the target does not have",
                        hint: columns.map(\.name).nearest(to: name).map {
                            "Did you mean \"\($0)\"?"
                        } ?? "Add it to \"columns\", or take it out of \"text\".")
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

    /// Columns of text that are not searched though none was chosen.
    func leftOut(_ columns: [TargetColumn]) -> [TargetColumn] {
        guard weighted.isEmpty else { return [] }
        return columns.filter {
            !$0.isGenerated && !Form($0).isText
                && ($0.facts.isText || $0.facts.isEnum || ["hstore", "xml"].contains($0.baseType))
        }
    }

    /// How a column becomes words. A generated column takes only what no setting changes: the text
    /// of a date or of a float would, an enum's would with the name of its label.
    private enum Form {
        case text, number, json, texts, none

        private static let textTypes: Set<String> = [
            "text", "varchar", "bpchar", "name", "citext",
        ]
        private static let steadyTypes: Set<String> = [
            "bool", "int2", "int4", "int8", "numeric", "uuid", "oid", "inet", "cidr", "macaddr",
        ]

        init(_ column: TargetColumn) {
            if column.isGenerated {
                self = .none
                return
            }
            switch column.baseType {
            case "json", "jsonb": self = .json
            case let type where Self.textTypes.contains(type): self = .text
            case let type where Self.steadyTypes.contains(type): self = .number
            case _ where Self.textTypes.contains(column.facts.element): self = .texts
            default: self = .none
            }
        }

        /// It is searched without being named.
        var isText: Bool { self == .text || self == .json || self == .texts }
    }

    private func part(
        _ column: TargetColumn, _ weight: String, _ limit: Int
    ) throws(WeirError) -> String {
        let name = PostgresConnection.identifier(column.name)
        let vector: String
        switch Form(column) {
        case .text, .number: vector = words("\(name)::text", limit)
        case .json:
            let value =
                column.isDomain ? "\(name)::\(column.baseSQLType)" : name
            vector = json(value, limit)
        case .texts:
            // The one way from an array to its words that depends on no setting. It knows no
            // nulls, and no arrays of arrays.
            let elements = "pg_catalog.array_remove(\(name)::text[], NULL)"
            let object = "pg_catalog.json_object(\(elements), \(elements))"
            vector =
                "CASE WHEN pg_catalog.array_ndims(\(name)) = 1 THEN \(json(object, limit)) "
                + "ELSE ''::tsvector END"
        case .none:
            throw WeirError(
                .targetUnfit, .blocked,
                column.isGenerated
                    ? "column \"\(column.name)\" is computed by the target and cannot be searched"
                    : "column \"\(column.name)\" of type \(column.type) cannot be searched",
                hint: "Search columns of text, JSON or numbers, or give it the type text in the "
                    + "target.")
        }
        return "pg_catalog.setweight(\(vector), '\(weight)')"
    }

    private var regconfig: String {
        "\(PostgresConnection.literal(configurationName))::regconfig"
    }

    private func words(_ text: String, _ limit: Int) -> String {
        "pg_catalog.to_tsvector(\(regconfig), pg_catalog.left(coalesce(\(text), ''), \(limit)))"
    }

    /// Its strings; of a document that is too long, the beginning of its text.
    private func json(_ value: String, _ limit: Int) -> String {
        let text = value.hasPrefix("pg_catalog.") ? "(\(value))::text" : "\(value)::text"
        return "CASE WHEN pg_catalog.length(\(text)) > \(limit) THEN \(words(text, limit)) "
            + "ELSE pg_catalog.to_tsvector(\(regconfig), coalesce(\(value), 'null')) END"
    }

    /// A name without a schema is one of the server's own: there is no search path.
    var configurationName: String {
        if configuration.contains(".") { return configuration }
        return "pg_catalog." + PostgresConnection.identifier(configuration)
    }
}
