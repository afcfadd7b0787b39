import WeirCore
import WeirRedisClient

extension ErrorCode {
    static let redisConnection = ErrorCode(
        "redis.connection_failed",
        meaning: "Weir could not reach Redis, or the server closed the connection.",
        remedy: "Check host, port and the server. Weir retries by itself; nothing is lost.")
    static let redisTimeout = ErrorCode(
        "redis.timeout",
        meaning: "Redis did not answer in time.",
        remedy: "Look at the server's load, slow log and network. Weir retries by itself.")
    static let redisTLS = ErrorCode(
        "redis.tls_failed",
        meaning: "The TLS handshake failed: the certificate is not trusted, or is another host's.",
        remedy:
            "Name the authority in the connection's \"ca_file\", or correct the host in \"url\".")
    static let redisAuthentication = ErrorCode(
        "redis.authentication",
        meaning: "Redis refused user or password, or asks for one.",
        remedy: "Correct the connection's user and password. Weir retries by itself.")
    static let redisPermission = ErrorCode(
        "redis.permission",
        meaning: "The user's ACL forbids a command or a key the sink needs.",
        remedy: "Grant what connectors/redis/README.md lists: ACL SETUSER … Weir retries by itself."
    )
    static let redisOutOfMemory = ErrorCode(
        "redis.out_of_memory",
        meaning: "Redis has reached maxmemory and may not evict keys to make room.",
        remedy:
            "Raise maxmemory, or choose an eviction policy such as allkeys-lru. Weir retries by "
            + "itself; changes wait in the queue, then in the source's log.")
    static let redisReadOnly = ErrorCode(
        "redis.read_only",
        meaning: "The server is a replica and takes no writes, as after a failover.",
        remedy: "Let the connection's host name lead to the primary. Weir connects again by itself."
    )
    static let redisNotReady = ErrorCode(
        "redis.not_ready",
        meaning: "Redis is loading its data, is busy with a script, or has lost its primary.",
        remedy: "Nothing, if it is starting; else look at its log. Weir retries by itself.")
    static let redisPersistence = ErrorCode(
        "redis.persistence_failed",
        meaning: "Redis refuses writes because it could not save its data (MISCONF).",
        remedy: "Look at the server's disk and log. Weir retries by itself.")
    static let redisReplicas = ErrorCode(
        "redis.replicas_missing",
        meaning: "Redis refuses writes because too few replicas follow (min-replicas-to-write).",
        remedy: "Bring the replicas back. Weir retries by itself.")
    static let redisCluster = ErrorCode(
        "redis.cluster_moved",
        meaning:
            "The server is a node of a cluster and does not hold all slots; Weir speaks to one "
            + "server.",
        remedy: "Connect to a server or proxy that takes every key.")
    static let redisVersion = ErrorCode(
        "redis.server_version",
        meaning: "The server is older than Redis 5.",
        remedy: "Upgrade the server.")
    static let redisDataLost = ErrorCode(
        "redis.data_lost",
        meaning: "Redis no longer holds what it had acknowledged: it was restarted without "
            + "persistence, flushed, restored, or failed over to a replica that was behind.",
        remedy: "Nothing: Weir reads the tables again and writes every key (\"on_data_loss\").")
    static let redisOtherWriter = ErrorCode(
        "redis.other_writer",
        meaning: "Keys or the marker of this sink are of a later epoch than this Weir has: another "
            + "Weir or pipeline writes there, or this one has an old state directory.",
        remedy: "Stop the other one. If there is none: weir position set PIPELINE confirmed --yes "
            + "begins a newer epoch. If that does not help, a clock stood in the future: remove the "
            + "side keys ({KEY}:v), weir:{PIPELINE/SINK} and weir:{PIPELINE/SINK}:copy first.")
    static let redisKeyUnknown = ErrorCode(
        "redis.key_unknown",
        meaning: "The key template names a column or field whose old value the source does not "
            + "send, so the key to change or delete is not known.",
        remedy: "Use columns of the primary key, or ALTER TABLE … REPLICA IDENTITY FULL; for "
            + "documents use _id, or let the collection keep images: db.runCommand({collMod: …, "
            + "changeStreamPreAndPostImages: {enabled: true}}). With a ttl, \"on_unknown_key\" may be "
            + "expire.")
    static let redisNoRowReader = ErrorCode(
        "redis.rows_unreadable",
        meaning: "A value was not sent with its change, or Redis lost data, and this source cannot "
            + "be asked for rows.",
        remedy: "Choose other columns, or set \"on_data_loss\" to continue.")
    static let redisScriptsGone = ErrorCode(
        "redis.scripts_gone",
        meaning: "The server forgot the sink's scripts, as after SCRIPT FLUSH.",
        remedy: "Nothing: Weir loads them again.")
    static let redisMarkerEvicted = ErrorCode(
        "redis.marker_evicted",
        meaning: "The server has reached maxmemory and evicted one of the two keys by which the "
            + "sink notices that data was lost. Where it evicts both at once, all rows are read again.",
        remedy: "Raise maxmemory, or give the sink a \"ttl\" and the server a policy that evicts "
            + "only keys with one (CONFIG SET maxmemory-policy volatile-lru).")
    static let redisTooLarge = ErrorCode(
        "redis.value_too_large",
        meaning: "The server does not take a value of this size, or ended the connection again and "
            + "again while it was sent this row alone. Rows before it are written; later ones wait.",
        remedy:
            "Raise the server's limit (CONFIG SET proto-max-bulk-len, or client-query-buffer-limit; a "
            + "proxy has its own), or leave the large column out with \"columns\". Then: weir stop; "
            + "weir start")
    static let redisTruncateIgnored = ErrorCode(
        "redis.truncate_ignored",
        meaning: "The source emptied a table, and the sink left its keys, as \"truncate\": "
            + "\"ignore\" says: readers still find rows that are gone. A gap of this code says that "
            + "TRUNCATE is applied from now on, and those keys may be there still.",
        remedy: "Remove the keys as the message says, or wait for their ttl.")
    static let redisMemoryLimit = ErrorCode(
        "redis.memory_limit",
        meaning:
            "The server has a maxmemory and may not evict this sink's keys: once it is reached, "
            + "Redis refuses writes, and the sink waits.",
        remedy: "Give the sink a \"ttl\" and the server a policy that evicts (CONFIG SET "
            + "maxmemory-policy allkeys-lru), or watch its memory.")
    static let redisCommand = ErrorCode(
        "redis.command_failed",
        meaning: "Redis refused a command for a reason Weir has no rule for.",
        remedy: "Read the server's message. Weir retries by itself.")
    static let redisProtocol = ErrorCode(
        "redis.protocol",
        meaning: "The server sent bytes that do not follow the Redis protocol.",
        remedy: "Check that the address is a Redis server's. Weir connects again by itself.")

    static let redisSink: [ErrorCode] = [
        redisConnection, redisTimeout, redisTLS, redisAuthentication, redisPermission,
        redisOutOfMemory, redisReadOnly, redisNotReady, redisPersistence, redisReplicas,
        redisCluster, redisVersion, redisDataLost, redisOtherWriter, redisKeyUnknown,
        redisNoRowReader, redisScriptsGone, redisTooLarge, redisMarkerEvicted,
        redisMemoryLimit, redisTruncateIgnored, redisCommand, redisProtocol,
    ]
}

extension WeirError {
    /// A row changed or went, and which key it had is not known.
    static func keyUnknown(_ schema: TableSchema, _ config: RedisSinkConfig) -> WeirError {
        let name = TableName(schema: schema.schema, name: schema.name)
        let orExpire =
            config.form == .invalidate
            ? "" : " Or give the sink a \"ttl\" and \"on_unknown_key\": \"expire\"."
        guard schema.isCollection else {
            return WeirError(
                .redisKeyUnknown, .blocked,
                "the source does not send the old values of every column that the key template "
                    + "names for table \"\(name)\"",
                detail: "So it is not known which key a changed or deleted row had.",
                hint:
                    "Use columns of the primary key, or ALTER TABLE \(name) REPLICA IDENTITY FULL;"
                    + orExpire)
        }
        let quoted = schema.name.replacing("\\", with: "\\\\").replacing("\"", with: "\\\"")
        let again = config.onDataLoss == .reread ? " and reads all documents again" : ""
        return WeirError(
            .redisKeyUnknown, .blocked,
            "a document of \"\(name)\" came without its old values, and the key template names "
                + "fields outside of \"_id\"",
            detail: "So it is not known which key a changed or deleted document had. Changes have "
                + "their old values where the collection keeps images, until those expire, and unless "
                + "the source says \"before\": \"never\".",
            hint: "In database \(schema.database): db.runCommand({collMod: \"\(quoted)\", "
                + "changeStreamPreAndPostImages: {enabled: true}}). Changes made before that have "
                + "none: weir position set \(config.pipeline) now --yes goes on behind them\(again). Or "
                + "name only _id in \"key\"." + orExpire)
    }
}
