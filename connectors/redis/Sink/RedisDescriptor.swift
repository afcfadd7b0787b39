package import WeirCore
import WeirValues

/// What the registry lists for Redis.
package let redisConnector = ConnectorDescriptor(
    type: "redis",
    summary: "Redis 5 or newer, or Valkey: caches that follow tables and never go backwards.",
    connectionFields: RedisSinkConfig.connectionFields,
    sink: SinkRole(RedisSink.self),
    errorCodes: ErrorCode.redisSink
)
