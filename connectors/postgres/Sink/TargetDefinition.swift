import WeirCore
import WeirPostgresClient

/// The SQL that makes and extends a target. Pure.
enum TargetDefinition {
    /// A column of the source as SQL types know it.
    static func sqlType(_ type: ColumnType) -> String {
        guard let dot = type.name.firstIndex(of: ".") else {
            return "pg_catalog." + PostgresConnection.identifier(type.name)
        }
        let schema = String(type.name[..<dot])
        let name = String(type.name[type.name.index(after: dot)...])
        return PostgresConnection.identifier(schema) + "." + PostgresConnection.identifier(name)
    }

    /// - Parameter key: the names of the key's columns; empty for a table without one.
    static func create(
        _ table: TableName, _ columns: [(name: String, sqlType: String)], key: [String]
    ) -> String {
        var parts = columns.map { PostgresConnection.identifier($0.name) + " " + $0.sqlType }
        if !key.isEmpty {
            let names = key.map(PostgresConnection.identifier).joined(separator: ", ")
            parts.append("PRIMARY KEY (\(names))")
        }
        return "CREATE TABLE IF NOT EXISTS \(table.sql) (\(parts.joined(separator: ", ")))"
    }

    static func createSchema(_ name: String) -> String {
        "CREATE SCHEMA IF NOT EXISTS \(PostgresConnection.identifier(name))"
    }

    static func addColumn(_ name: String, _ sqlType: String, to table: TableName) -> String {
        "ALTER TABLE \(table.sql) ADD COLUMN IF NOT EXISTS "
            + "\(PostgresConnection.identifier(name)) \(sqlType)"
    }

    /// The tsvector column, a comment by which it is known again, and its index.
    static func addSearch(
        _ text: SearchText, _ expression: String, to table: TableName
    ) -> [String] {
        let column = PostgresConnection.identifier(text.column)
        return [
            "ALTER TABLE \(table.sql) ADD COLUMN \(column) tsvector "
                + "GENERATED ALWAYS AS (\(expression)) STORED",
            "COMMENT ON COLUMN \(table.sql).\(column) IS "
                + PostgresConnection.literal(comment(expression)),
            "CREATE INDEX ON \(table.sql) USING gin (\(column))",
        ]
    }

    /// What our tsvector column is made of, so that another "text" is noticed.
    static func comment(_ expression: String) -> String { "weir: \(expression)" }
}
