package import WeirCore

/// Names a value of a row: a column; a value inside a JSON column by its path, such as
/// `attributes.color` or `variants.0.stock`; in a collection a value of the document by its path,
/// such as `_id` or `name.en`, or `$` for the document itself.
///
/// A part of a path names a member of an object, or an element of an array by its index from 0. A
/// part in double quotes may hold dots: `"price.usd"`.
/// What a path leads to may differ from row to row: where there is no such member, where the array
/// is shorter, or where the path goes on inside of a text, a number or an array without an index,
/// there is nothing. An object or an array where a single value was expected is a value too, and is
/// rendered as JSON.
package struct FieldPath: Sendable, Hashable, CustomStringConvertible {
    package let text: String
    /// The names along it.
    private let parts: [String]

    /// Nil when the text is empty, or a quote in it is not closed.
    package init?(_ text: String) {
        guard let parts = PathText.parts(text) else { return nil }
        self.text = text
        self.parts = parts
    }

    /// As MongoDB names what an update changed: without quotes.
    package var dotted: String { parts.joined(separator: ".") }

    package var description: String { text }

    /// Where the value is in rows of this table; nil when it has no such column.
    ///
    /// A column whose whole name is the text wins, because names may hold dots; else the longest
    /// beginning that names a JSON column. In a collection any path may lead to something. A column
    /// that was renamed goes by its other names too, where no column has one of them now.
    package func resolve(
        in schema: TableSchema, options: ValueOptions = ValueOptions()
    ) -> FieldReference? {
        if let column = schema.column(text) {
            return FieldReference(column: column, of: schema, options: options)
        }
        if schema.isCollection {
            return FieldReference(
                column: 0, path: parts.map { Array($0.utf8) }, of: schema, options: options)
        }
        for count in stride(from: parts.count, to: 0, by: -1) {
            let name = parts[..<count].joined(separator: ".")
            guard let column = schema.column(name) else { continue }
            if count == parts.count {
                return FieldReference(column: column, of: schema, options: options)
            }
            if schema.columns[column].type.valueClass == .json,
                schema.columns[column].type.array == .scalar
            {
                return FieldReference(
                    column: column, path: parts[count...].map { Array($0.utf8) }, of: schema,
                    options: options)
            }
        }
        return nil
    }

    /// The name the column goes by in this version, where the path has another one.
    package func renamed(in schema: TableSchema) -> (from: String, to: String)? {
        guard let column = resolve(in: schema)?.column else { return nil }
        let names = schema.columns[column]
        guard let old = beginnings.first(where: names.otherNames.contains),
            !beginnings.contains(names.name)
        else { return nil }
        return (old, names.name)
    }

    /// Leads to a column of another version of the table, of which rows may come or have come:
    /// that this version lacks it is no mistake of the configuration.
    package func isOfOtherVersion(of schema: TableSchema) -> Bool {
        !schema.otherColumns.isEmpty && resolve(in: schema) == nil
            && beginnings.contains(where: schema.otherColumns.contains)
    }

    /// All that may be the name of a column, the longest first.
    private var beginnings: [String] {
        [text]
            + stride(from: parts.count, to: 0, by: -1).map {
                parts[..<$0].joined(separator: ".")
            }
    }
}

extension TableSchema {
    fileprivate func column(_ name: String) -> Int? {
        columns.firstIndex { $0.name == name }
            ?? columns.firstIndex { $0.otherNames.contains(name) }
    }

    /// What a sink names by another name than the one it has now, or that only other versions of
    /// the table have, so that the configuration can follow in time.
    package func findings(naming paths: [FieldPath], under key: String) -> [Finding] {
        let table = TableName(schema: schema, name: name)
        return paths.compactMap { path in
            if let (old, new) = path.renamed(in: self) {
                return Finding(
                    .columnRenamed, .warning, "\(table) \(old)",
                    "column \"\(old)\" of \"\(table)\" is called \"\(new)\" now, and \"\(key)\" "
                        + "names it \"\(old)\"",
                    detail: "Its values are delivered all the same, from before and after.",
                    hint: "Write \"\(new)\" under \"\(key)\" of the sink, or rename it back at the "
                        + "source; both work, now or later.")
            }
            guard path.isOfOtherVersion(of: self) else { return nil }
            return Finding(
                .columnGone, .warning, "\(table) \(path)",
                "column \"\(path)\" of \"\(table)\" was dropped, and \"\(key)\" names it",
                detail: "Rows that were written before come with it. Then the sink stops.",
                hint: "When it has stopped there, take \"\(path)\" out of \"\(key)\" of the sink, "
                    + "then: weir stop, weir start.")
        }
    }
}

extension [ColumnChoice] {
    package var paths: [FieldPath] { compactMap { FieldPath($0.source) } }

    /// - Throws: at the field "columns", for a source that is no column and no path.
    package func checkPaths() throws(ConfigIssue) {
        for choice in self where FieldPath(choice.source) == nil {
            throw ConfigIssue(
                field: "columns",
                "\(choice.source) is no column and no path: a quote in it is not closed")
        }
    }
}

/// A `FieldPath` found in one version of a table.
package struct FieldReference: Sendable, Equatable {
    package let column: Int
    /// Inside the column's value; empty for the value itself.
    let path: [[UInt8]]
    let kind: ValueKind
    /// `PlainRenderer` writes it as JSON text.
    let isJSON: Bool

    /// It names a column and nothing inside its value; in a collection, the document.
    package var isWholeColumn: Bool { path.isEmpty }

    package init(
        column: Int, path: [[UInt8]] = [], of schema: TableSchema,
        options: ValueOptions = ValueOptions()
    ) {
        self.init(
            column: column, path: path,
            kind: ValueKind(schema.columns[column].type, options: options), isJSON: false)
    }

    init(column: Int, path: [[UInt8]], kind: ValueKind, isJSON: Bool) {
        self.column = column
        self.path = path
        self.kind = kind
        self.isJSON = isJSON
    }

    /// The same value as JSON text and not as plain text: strings in quotes, and the JSON found in
    /// a JSON column as it stands there.
    package func asJSON() -> FieldReference {
        FieldReference(column: column, path: path, kind: kind, isJSON: true)
    }

    /// Whether both name the same value, however they show it.
    package func isSamePlace(as other: FieldReference) -> Bool {
        column == other.column && path == other.path
    }

    /// Whether it names a part of the key: its old value comes with each change.
    package func isWithinKey(of schema: TableSchema) -> Bool {
        schema.isCollection ? path.first == TableSchema.id : schema.key.contains(column)
    }
}

extension TableSchema {
    fileprivate static let id = Array("_id".utf8)

    /// What tells rows apart: the key's columns; in a collection the path `_id`.
    package var keyReferences: [FieldReference] {
        isCollection
            ? [FieldReference(column: 0, path: [Self.id], of: self)]
            : key.map { FieldReference(column: $0, of: self) }
    }
}
