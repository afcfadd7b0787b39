import WeirBuiltinSink
import WeirCore
import WeirMongoDBSource
import WeirPostgresSink
import WeirPostgresSource
import WeirRedisSink

/// Every connector this binary can use. A new one is one line here.
let connectors: [ConnectorDescriptor] =
    [
        postgresConnector, mongoConnector, redisConnector,
    ] + builtinConnectors

/// Source and sink know nothing of each other.
private let postgresConnector = ConnectorDescriptor(
    type: "postgres",
    summary: "PostgreSQL 14 or newer: read by logical replication, written in transactions.",
    connectionFields: PostgresSourceConfig.connectionFields,
    source: SourceRole(PostgresSource.self),
    sink: SinkRole(PostgresSink.self),
    errorCodes: ErrorCode.postgresSource + ErrorCode.postgresSink)
