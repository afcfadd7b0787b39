package import WeirCore

/// The reference of the configuration: a Markdown page, and a listing for the terminal.
package struct ReferenceWriter {
    private let shape: ConfigShape

    package init(descriptors: [ConnectorDescriptor]) {
        shape = ConfigShape(descriptors)
    }

    // MARK: Markdown

    /// `config/reference.md`.
    package func page() -> String {
        var blocks = [
            "# Configuration reference",
            "Generated from what the program itself checks: do not edit.",
        ]
        for entry in shape.entries {
            blocks.append(entry.path.isEmpty ? "## \(entry.heading)" : "## `\(entry.heading)`")
            blocks.append(entry.summary)
            blocks.append(Self.table(entry.keys))
            for variant in entry.variants {
                blocks.append("### \(Self.title(variant, entry))")
                blocks.append(variant.summary)
                blocks.append(
                    variant.fields.isEmpty ? "No keys of its own." : Self.table(variant.keys))
            }
        }
        blocks.append("## Kinds of values")
        blocks.append(Self.kinds.map { "- **\($0.name)**: \($0.meaning)" }.joined(separator: "\n"))
        return blocks.joined(separator: "\n\n") + "\n"
    }

    private static func table(_ keys: [ConfigShape.Key]) -> String {
        let rows = keys.map { key -> String in
            let need = key.isRequired ? "**required**" : key.defaultJSON.map { "`\($0)`" } ?? ""
            let example = key.exampleJSON.map { " Example: `\($0)`" } ?? ""
            let cells = ["`\(key.name)`", key.type, need, key.summary + example]
            return "| " + cells.map(escaped).joined(separator: " | ") + " |"
        }
        return (["| Key | Type | Default | Meaning |", "|---|---|---|---|"] + rows)
            .joined(separator: "\n")
    }

    private static func escaped(_ cell: String) -> String {
        cell.flatMap { $0 == "|" ? ["\\", "|"] : $0 == "\n" ? [" "] : [$0] }
            .map(String.init).joined()
    }

    private static func title(
        _ variant: ConfigShape.Variant, _ entry: ConfigShape.Entry
    ) -> String {
        switch entry.kind {
        case .connection: "Connection of type `\(variant.type)`"
        case .source: "Source `\(variant.type)`"
        default: "Sink `\(variant.type)`"
        }
    }

    private static let kinds: [(name: String, meaning: String)] = [
        ("duration", "a whole number and a unit: `\"200ms\"`, `\"30s\"`, `\"5m\"`, `\"1h\"`."),
        (
            "size",
            "a whole number and a unit, `\"64KiB\"`, `\"8MiB\"`, `\"1GiB\"`, or a number of bytes, "
                + "`\"65536\"`."
        ),
        (
            "secret",
            "`{ \"env\": \"NAME\" }`, `{ \"file\": \"/path\" }`, `{ \"credential\": \"id\" }` (of "
                + "systemd) or, where it holds no password, plain text. A line break at the end of "
                + "a file is not part of the secret."
        ),
        (
            "table",
            "`schema.table`; a part with a dot, a quote or white space stands in double quotes. "
                + "Without a schema it is `public`."
        ),
        (
            "columns",
            "a list of names, `[\"id\", \"title\"]`, or an object from new name to column, "
                + "`{ \"id\": \"id\", \"headline\": \"title\" }`."
        ),
        ("names", "of connections, pipelines and sinks: 1 to 40 of a to z, 0 to 9, - and _."),
    ]

    // MARK: Terminal

    /// The fields of the object at a path such as `pipelines.*.source`, or one field of it; any
    /// name may stand for `*`, and `.` is the file. Nil when there is no such path.
    package func fields(path: String, width: Int = 80) -> String? {
        guard let (entry, only) = shape.entry(at: path) else { return nil }
        var sections: [(title: String?, keys: [ConfigShape.Key])] = [(nil, entry.keys)]
        for variant in entry.variants {
            let given = entry.kind != .connection && variant.usesConnection
            let how = given ? "with a connection of type" : "with \"type\":"
            sections.append(("\(how) \"\(variant.type)\"", variant.keys))
        }
        var lines = [entry.path.isEmpty ? "." : entry.path]
        lines += Self.wrapped(entry.summary, indent: 2, width)
        for section in sections {
            let keys = section.keys.filter { key in
                only.map { key.name == $0 || key.name.hasPrefix("\($0).") } ?? true
            }
            if keys.isEmpty && (only != nil || section.title == nil) { continue }
            lines.append("")
            if let title = section.title { lines.append(title) }
            if keys.isEmpty { lines.append("  no fields of its own") }
            for key in keys {
                lines += Self.listed(key, width)
            }
        }
        return lines.map { $0 + "\n" }.joined()
    }

    /// The paths that can be asked for, in the order of the file.
    package var paths: [String] { shape.entries.map { $0.path.isEmpty ? "." : $0.path } }

    private static func listed(_ key: ConfigShape.Key, _ width: Int) -> [String] {
        let need = key.isRequired ? ", required" : key.defaultJSON.map { ", default \($0)" } ?? ""
        var lines = ["  \(key.name)  (\(key.type)\(need))"]
        lines += wrapped(key.summary, indent: 6, width)
        if let example = key.exampleJSON { lines.append("      Example: \(example)") }
        return lines
    }

    private static func wrapped(_ text: String, indent: Int, _ width: Int) -> [String] {
        let margin = String(repeating: " ", count: indent)
        var lines: [String] = []
        var line = ""
        for word in text.split(separator: " ") {
            let isFull = indent + line.count + 1 + word.count > width
            if !line.isEmpty && isFull {
                lines.append(margin + line)
                line = ""
            }
            line += (line.isEmpty ? "" : " ") + word
        }
        return line.isEmpty ? lines : lines + [margin + line]
    }
}
