package import WeirCore

/// Names a value of a row: a column, or a value inside a JSON column by its path, such as
/// `attributes.color` or `variants.0.stock`.
package struct FieldPath: Sendable, Hashable, CustomStringConvertible {
    package let text: String

    /// Nil when the text is empty.
    package init?(_ text: String) {
        if text.isEmpty { return nil }
        self.text = text
    }

    package var description: String { text }

    /// Where the value is in rows of this table; nil when it has no such column.
    ///
    /// A column whose whole name is the text wins, because names may hold dots; else the longest
    /// beginning that names a JSON column.
    package func resolve(
        in schema: TableSchema, options: ValueOptions = ValueOptions()
    ) -> FieldReference? {
        if let column = schema.columns.firstIndex(where: { $0.name == text }) {
            return FieldReference(column: column, of: schema, options: options)
        }
        let parts = text.split(separator: ".", omittingEmptySubsequences: false)
        for count in stride(from: parts.count - 1, to: 0, by: -1) {
            let name = parts[..<count].joined(separator: ".")
            if let column = schema.columns.firstIndex(where: { $0.name == name }),
                schema.columns[column].type.valueClass == .json,
                schema.columns[column].type.array == .scalar
            {
                return FieldReference(
                    column: column, path: parts[count...].map { Array($0.utf8) }, of: schema,
                    options: options)
            }
        }
        return nil
    }
}

/// A `FieldPath` found in one version of a table.
package struct FieldReference: Sendable {
    package let column: Int
    /// Inside the column's value; empty for the value itself.
    let path: [[UInt8]]
    let kind: ValueKind

    /// It names a column and nothing inside its value.
    package var isWholeColumn: Bool { path.isEmpty }

    package init(
        column: Int, path: [[UInt8]] = [], of schema: TableSchema,
        options: ValueOptions = ValueOptions()
    ) {
        self.column = column
        self.path = path
        kind = ValueKind(schema.columns[column].type, options: options)
    }
}
