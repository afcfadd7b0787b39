package import WeirCore

/// What the registry lists for MongoDB.
package let mongoConnector = ConnectorDescriptor(
    type: "mongodb",
    summary: "MongoDB 4.2 or newer, replica sets and sharded clusters: read by change streams.",
    connectionFields: MongoSourceConfig.connectionFields,
    source: SourceRole(MongoSource.self),
    errorCodes: ErrorCode.mongoSource)
