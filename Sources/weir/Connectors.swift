import WeirBuiltinSink
import WeirCore
import WeirPostgresSource
import WeirRedisSink

/// Every connector this binary can use. A new one is one line here.
let connectors: [ConnectorDescriptor] =
    [
        postgresConnector, redisConnector,
    ] + builtinConnectors
