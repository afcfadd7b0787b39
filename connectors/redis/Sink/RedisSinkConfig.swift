package import WeirCore
import WeirRedisClient
import WeirValues

/// What the sink makes of a row.
enum CacheForm: String, CaseIterable {
    /// The row as one JSON object.
    case json
    /// One column, or a value inside one, as plain text.
    case string
    /// A Redis hash with one field per column.
    case hash
    /// Nothing: updates and deletes remove the key.
    case invalidate
}

/// The keys of a Redis sink and its connection.
package struct RedisSinkConfig: ConnectorConfig {
    let pipeline: String
    let options: RedisOptions
    let form: CacheForm
    let key: KeyTemplate
    let keyFields: KeyFields
    /// What `string` stores.
    let value: FieldPath?
    let columns: [ColumnChoice]?
    let values: ValueOptions
    let routing: Routing
    /// The tables a re-read covers; empty when nobody lists them.
    let tables: [TableName]
    let lifetime: Lifetime
    /// How long no lease is given after an invalidation, in milliseconds.
    let holdMillis: Int
    let channel: String?
    let truncates: Bool
    let onDataLoss: DataLossPolicy
    let onUnknownKey: UnknownKeyPolicy
    package let warnings: [String]
    package let claims: [String]
    package let uses: [String]

    enum DataLossPolicy: String, CaseIterable {
        case reread, `continue`, stop
    }

    /// What happens to the key a row had before, where the source does not say which that was.
    enum UnknownKeyPolicy: String, CaseIterable {
        case stop
        /// It stays until its ttl ends.
        case expire
    }

    package static let connectionFields: [ConfigField] = [
        ConfigField(
            "url", .secret,
            "Where the server is: redis://host:6379/0, or rediss:// for TLS, which always verifies "
                + "certificate and host name.",
            required: true, example: #""rediss://cache.internal:6379/0""#),
        ConfigField(
            "user", .string, "The ACL user, where the url names none.", example: #""weir""#),
        ConfigField(
            "password", .secret, "The password, where the url has none.",
            example: #"{ "file": "/run/secrets/cache" }"#),
        ConfigField(
            "ca_file", .string,
            "Certificates (PEM) of the authorities to trust. Without it, the system's.",
            example: #""/etc/weir/cache-ca.pem""#),
    ]

    package static let fields: [ConfigField] =
        [
            ConfigField(
                "write", .choice(CacheForm.allCases.map(\.rawValue)),
                "What a row becomes: json an object, string one value, hash a Redis hash; invalidate "
                    + "only removes the keys of rows that are updated or deleted.",
                required: true, example: #""json""#),
            ConfigField(
                "key", .string,
                "The key, with columns or paths in braces; {{ and }} are literal braces. In values "
                    + "%, :, braces and control characters become %XX. A row in which one of them is "
                    + "null or missing has no key.",
                required: true, example: #""shop:product:{id}""#),
            ConfigField(
                "value", .string,
                "For string: the column, or path in a JSON column or a document, to store. A name that "
                    + "holds a dot stands in double quotes.",
                example: #""stock""#),
            ConfigField(
                "columns", .columns,
                "For json and hash: the columns or paths to store, as a list or an object from "
                    + "stored name to column. Without it, all of them, and of a document the whole.",
                example: #"["id", "name", "attributes"]"#),
            ConfigField(
                "ttl", .duration(.milliseconds(1)...(.seconds(315_360_000))),
                "How long a value lives after its last change. Without it, for ever.",
                example: #""1h""#),
            ConfigField(
                "ttl_jitter", .duration(.zero...(.seconds(315_360_000))),
                "Up to so much is taken off ttl at random, so that keys written together do not "
                    + "expire together. Without it, a tenth of ttl.",
                example: #""5m""#),
            ConfigField(
                "tombstone", .duration(.seconds(1)...(.seconds(315_360_000))),
                "How long the version of a deleted key is kept, so that nothing older brings it back.",
                default: #""24h""#),
            ConfigField(
                "hold", .duration(.zero...(.seconds(3600))),
                "For invalidate: how long no lease is given on a removed key. Longer than the "
                    + "replicas your services read from lag behind.",
                default: #""1s""#),
            ConfigField(
                "publish", .string,
                "For invalidate: a channel on which each removed key is published.",
                example: #""product-changes""#),
            ConfigField(
                "truncate", .choice(["ignore", "delete"]),
                "What TRUNCATE or a dropped collection does: delete scans for the keys of the "
                    + "template and removes those Weir has a version of.",
                default: #""ignore""#),
            ConfigField(
                "on_data_loss", .choice(DataLossPolicy.allCases.map(\.rawValue)),
                "What happens when Redis lost what it had acknowledged: reread writes every row of "
                    + "the tables again, continue only says so, stop waits for an operator. Without "
                    + "it, reread; stop where neither source nor sink lists tables.",
                example: #""continue""#),
            ConfigField(
                "on_unknown_key", .choice(UnknownKeyPolicy.allCases.map(\.rawValue)),
                "What happens when a row changes or goes and the source does not send which key it "
                    + "had: stop waits for an operator, expire leaves that key to its ttl.",
                default: #""stop""#),
        ] + ValueOptions.fields + Routing.fields

    package init(_ scope: ConfigScope) throws(ConfigIssue) {
        let given = scope.values
        guard let url = scope.connection?.secret("url") else {
            throw ConfigIssue(field: "connection", "the connection has no url")
        }
        var options = RedisOptions(url: try RedisURL(url.reveal()))
        options.username = scope.connection?.string("user")
        options.password = scope.connection?.secret("password")
        options.caFile = scope.connection?.string("ca_file")
        options.clientName = "weir-\(scope.pipeline)-\(scope.name)"
        options.replyTimeout = .seconds(15)
        self.options = options
        pipeline = scope.pipeline
        form = CacheForm(rawValue: given.string("write") ?? "") ?? .json
        let template = given.string("key") ?? ""
        key = try KeyTemplate(template)
        keyFields = KeyFields(template)
        value = try Self.value(given, form)
        columns = try Self.columns(given, form, scope)
        values = ValueOptions(given)
        routing = try Routing(scope)
        tables = Set(scope.knownTables ?? []).sorted()
        lifetime = try Lifetime(given, form)
        holdMillis = given.duration("hold")?.wholeMilliseconds ?? 1000
        channel = given.string("publish")
        if channel != nil, form != .invalidate {
            throw ConfigIssue(field: "publish", "\"publish\" belongs to \"write\": \"invalidate\"")
        }
        if form != .invalidate { try Self.checkIsOne(scope.knownTables, form) }
        truncates = given.string("truncate") == "delete"
        if truncates, key.literalPrefix.isEmpty {
            throw ConfigIssue(
                field: "truncate",
                "\"truncate\": \"delete\" needs a key that begins with text of its own, to tell its "
                    + "keys from others")
        }
        onDataLoss = try Self.dataLossPolicy(given, isRereadable: scope.knownTables != nil)
        onUnknownKey =
            UnknownKeyPolicy(rawValue: given.string("on_unknown_key") ?? "") ?? .stop
        if onUnknownKey == .expire, lifetime.ttlMillis == 0 {
            throw ConfigIssue(
                field: "on_unknown_key",
                "\"on_unknown_key\": \"expire\" needs a \"ttl\" to end what is left behind")
        }
        // What one sink writes and another removes of one change would depend on which is faster.
        let keys = ["keys \(key.normalized) of redis \(options.url.commonPlace)"]
        (claims, uses) = form == .invalidate ? ([], keys) : (keys, [])
        warnings = Self.warnings(options, key, scope.connectionName ?? "")
    }

    package var place: String? { options.url.place }

    package static var passingKeys: Set<String> {
        [
            "ttl_jitter", "tombstone", "hold", "publish", "truncate", "on_data_loss",
            "on_unknown_key",
        ]
    }

    private static func value(
        _ given: ConfigValues, _ form: CacheForm
    ) throws(ConfigIssue) -> FieldPath? {
        guard let text = given.string("value") else {
            if form == .string {
                throw ConfigIssue(
                    field: "write", "\"write\": \"string\" needs \"value\", the column to store")
            }
            return nil
        }
        guard form == .string else {
            throw ConfigIssue(field: "value", "\"value\" belongs to \"write\": \"string\"")
        }
        guard let path = FieldPath(text) else {
            throw ConfigIssue(field: "value", "\"\(text)\" is no column and no path")
        }
        return path
    }

    private static func columns(
        _ given: ConfigValues, _ form: CacheForm, _ scope: ConfigScope
    ) throws(ConfigIssue) -> [ColumnChoice]? {
        guard let columns = given.columns("columns") else {
            if form == .hash, scope.sendsDocuments {
                throw ConfigIssue(
                    field: "write",
                    "\"write\": \"hash\" needs \"columns\", the paths to store: a document has no "
                        + "columns of its own")
            }
            return nil
        }
        guard form == .json || form == .hash else {
            throw ConfigIssue(
                field: "columns", "\"columns\" belongs to \"write\": \"json\" or \"hash\"")
        }
        try columns.checkPaths()
        return columns
    }

    /// The columns of the key and of the value are those of one table.
    private static func checkIsOne(
        _ tables: [TableName]?, _ form: CacheForm
    ) throws(ConfigIssue) {
        guard let tables else {
            throw ConfigIssue(
                field: "tables",
                "\"write\": \"\(form.rawValue)\" takes one table, and this source follows any; "
                    + "name the one in \"tables\"")
        }
        guard Set(tables).count > 1 else { return }
        let names = Set(tables).sorted().map { "\"\($0)\"" }.joined(separator: ", ")
        throw ConfigIssue(
            field: "tables",
            "\"write\": \"\(form.rawValue)\" takes one table, and this sink gets \(names); name the "
                + "one in \"tables\"")
    }

    private static func dataLossPolicy(
        _ given: ConfigValues, isRereadable: Bool
    ) throws(ConfigIssue) -> DataLossPolicy {
        guard let text = given.string("on_data_loss"), let policy = DataLossPolicy(rawValue: text)
        else { return isRereadable ? .reread : .stop }
        if policy == .reread, !isRereadable {
            throw ConfigIssue(
                field: "on_data_loss",
                "\"on_data_loss\": \"reread\" must know what to read, and this source follows any "
                    + "table; name those of the sink in \"tables\"")
        }
        return policy
    }

    private static func warnings(
        _ options: RedisOptions, _ key: KeyTemplate, _ connection: String
    ) -> [String] {
        var warnings: [String] = []
        if !options.url.isTLS && !options.url.isLocal {
            warnings.append(
                "connection \"\(connection)\" uses redis:// without TLS: values and password cross "
                    + "the network in the clear; use rediss://")
        }
        if let warning = key.warning { warnings.append(warning) }
        return warnings
    }
}

extension RedisSinkConfig {
    var script: CacheScript {
        switch form {
        case .json, .string: lifetime.ttlMillis > 0 ? .set : .setForever
        case .hash: .hash
        case .invalidate: .invalidate
        }
    }

    /// What the script takes once for a call of so many keys.
    func lead(keys: Int, _ random: inout XorShift) -> [String] {
        if form == .invalidate { return ["\(holdMillis)", channel ?? ""] }
        var lead = ["\(lifetime.tombstoneMillis)"]
        if script == .setForever { return lead }
        for _ in 0..<min(keys, CacheScript.livesMax) {
            let (ttl, keep) = lifetime.draw(&random)
            lead += ["\(ttl)", "\(keep)"]
        }
        return lead
    }
}

/// How long values and their versions live.
struct Lifetime: Sendable, Equatable {
    /// 0: for ever.
    let ttlMillis: Int
    let jitterMillis: Int
    let tombstoneMillis: Int

    /// A version outlives its value by so much, whichever of the two the server expires first.
    private static let marginMillis = 60_000

    init(ttlMillis: Int, jitterMillis: Int, tombstoneMillis: Int) {
        self.ttlMillis = ttlMillis
        self.jitterMillis = jitterMillis
        self.tombstoneMillis = tombstoneMillis
    }

    fileprivate init(_ given: ConfigValues, _ form: CacheForm) throws(ConfigIssue) {
        let ttl = given.duration("ttl")?.wholeMilliseconds
        if ttl != nil, form == .invalidate {
            throw ConfigIssue(
                field: "ttl", "\"write\": \"invalidate\" stores nothing that has a ttl")
        }
        let jitter = given.duration("ttl_jitter")?.wholeMilliseconds
        if jitter != nil, ttl == nil {
            throw ConfigIssue(field: "ttl_jitter", "\"ttl_jitter\" needs a \"ttl\"")
        }
        if let jitter, let ttl, jitter >= ttl {
            throw ConfigIssue(field: "ttl_jitter", "\"ttl_jitter\" must be shorter than \"ttl\"")
        }
        self.init(
            ttlMillis: ttl ?? 0, jitterMillis: jitter ?? (ttl ?? 0) / 10,
            tombstoneMillis: given.duration("tombstone")?.wholeMilliseconds ?? 86_400_000)
    }

    /// The lives of one value and of its version.
    func draw(_ random: inout XorShift) -> (ttl: Int, keep: Int) {
        guard ttlMillis > 0 else { return (0, 0) }
        let off = jitterMillis == 0 ? 0 : Int(random.next() % UInt64(jitterMillis + 1))
        let ttl = max(1, ttlMillis - off)
        return (ttl, ttl + Self.marginMillis)
    }
}

/// Marsaglia's xorshift64: for spreading expiry only.
struct XorShift: Sendable {
    private var state: UInt64

    init(seed: UInt64) { state = seed | 1 }

    mutating func next() -> UInt64 {
        state ^= state << 13
        state ^= state >> 7
        state ^= state << 17
        return state
    }
}

extension Duration {
    var wholeMilliseconds: Int {
        Int(components.seconds * 1000 + components.attoseconds / 1_000_000_000_000_000)
    }
}
