package import WeirCore

extension TableName {
    /// As SQL has it: both parts quoted.
    package var sql: String {
        PostgresConnection.identifier(schema) + "." + PostgresConnection.identifier(name)
    }
}
