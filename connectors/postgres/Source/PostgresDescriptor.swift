package import WeirCore

/// What the registry lists for PostgreSQL.
package let postgresConnector = ConnectorDescriptor(
    type: "postgres",
    summary: "PostgreSQL 14 or newer, read by logical replication.",
    connectionFields: PostgresSourceConfig.connectionFields,
    source: SourceRole(PostgresSource.self),
    errorCodes: ErrorCode.postgresSource
)
