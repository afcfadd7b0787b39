import Synchronization
import WeirCore
import WeirRedisSink
import WeirTesting

/// A sink, its server, and what the engine would give it.
final class CacheHarness: Sendable {
    let server: RedisServer
    let rows: ScriptedRows
    private let epochBox = Mutex<UInt32>(100)
    let log = LogLines()
    let reports = CollectedReports()

    init(_ server: RedisServer, rows: ScriptedRows = ScriptedRows()) {
        self.server = server
        self.rows = rows
    }

    var epoch: UInt32 {
        get { epochBox.withLock { $0 } }
        set { epochBox.withLock { $0 = newValue } }
    }

    static func start() async throws -> CacheHarness {
        CacheHarness(try await RedisServer.start())
    }

    /// The configuration as the file's loader would hand it over.
    static func config(
        _ server: RedisServer, url: String? = nil, write: String = "json",
        key: String = "item:{id}", _ more: [String: ConfigValue] = [:],
        connection: [String: ConfigValue] = [:], source: String = "postgres",
        tables: [TableName]? = [TableName(schema: "public", name: "items")]
    ) throws -> RedisSinkConfig {
        var values: [String: ConfigValue] = [
            "write": .string(write), "key": .string(key), "tombstone": .duration(.seconds(86_400)),
            "hold": .duration(.seconds(1)), "truncate": .string("ignore"),
            "on_unknown_key": .string("stop"), "int64": .string("number"),
            "numeric": .string("number"), "documents": .string("relaxed"),
        ]
        values.merge(more) { $1 }
        var connectionValues: [String: ConfigValue] = [
            "url": .secret(Secret(url ?? server.url(), origin: "test"))
        ]
        connectionValues.merge(connection) { $1 }
        return try RedisSinkConfig(
            ConfigScope(
                pipeline: "shop", name: "cache", values: ConfigValues(values),
                connection: ConfigValues(connectionValues), connectionName: "redis",
                sourceType: source, sendsDocuments: source == "mongodb", sourceTables: tables))
    }

    /// A sink of the collection `inventory.products`.
    func documentSink(
        write: String = "json", key: String = "product:{_id}", _ more: [String: ConfigValue] = [:],
        rows: (any RowReader)? = nil
    ) throws -> RedisSink {
        let config = try Self.config(
            server, write: write, key: key, more, source: "mongodb",
            tables: [DocumentBatch.name])
        return try sink(config, rows: rows)
    }

    func sink(
        write: String = "json", key: String = "item:{id}", _ more: [String: ConfigValue] = [:]
    ) throws -> RedisSink {
        try sink(try Self.config(server, write: write, key: key, more))
    }

    func sink(_ config: RedisSinkConfig, rows: (any RowReader)? = nil) throws -> RedisSink {
        RedisSink(
            config,
            .test(
                "cache", pipeline: "shop", notation: .documents, reports: reports,
                epoch: { [self] in epoch },
                rows: rows ?? self.rows, log: log))
    }

    func get(_ key: String) throws -> String? {
        try server.get(key).map { String(decoding: $0, as: UTF8.self) }
    }

    /// The fields of a hash; none when there is no such key.
    func hash(_ key: String) throws -> [String: String] {
        guard case .array(let parts) = try server.command("HGETALL", key) else { return [:] }
        var fields: [String: String] = [:]
        for index in stride(from: 0, to: parts.count, by: 2) {
            fields[parts[index].text ?? ""] = parts[index + 1].text
        }
        return fields
    }

    /// Every key that holds text.
    func strings() throws -> [String: String] {
        var found: [String: String] = [:]
        for key in try allKeys() {
            guard case .simple("string") = try server.command("TYPE", key) else { continue }
            found[key] = try get(key)
        }
        return found
    }

    /// Keys of values: neither side keys nor the marker.
    func keys() throws -> [String] {
        try allKeys().filter { !$0.hasSuffix(":v") && !$0.hasPrefix("weir:") }
    }

    private func allKeys() throws -> [String] {
        guard case .array(let keys) = try server.command("KEYS", "*") else { return [] }
        return keys.compactMap(\.text)
    }
}

/// A table in memory that stands behind the stream. The real reader has tests of its own; here it
/// decides at which moment a row is read.
actor ScriptedRows: RowReader {
    private var rows: [[UInt8]: ItemBatch.Row] = [:]
    private(set) var asked: [[[UInt8]]] = []
    private(set) var scans = 0
    private var isScanning = false
    private var onScanned: (@Sendable () -> Void)?

    /// What happens when all rows were handed out.
    func whenScanned(_ body: (@Sendable () -> Void)?) { onScanned = body }

    func set(_ row: ItemBatch.Row) { rows[row.id] = row }
    func remove(_ id: [UInt8]) { rows[id] = nil }
    func removeAll() { rows = [:] }

    func rows(
        of schema: TableSchema, keys: [[[UInt8]]], showing transactions: [UInt32]
    ) -> EventBatch {
        asked.append(keys.map { $0[0] })
        return ItemBatch.of(keys.compactMap { rows[$0[0]].map(ItemBatch.Change.read) }, commit: 0)
    }

    func scan(_ table: TableName, showing transactions: [UInt32]) {
        scans += 1
        isScanning = true
    }

    func next() -> EventBatch? {
        guard isScanning else {
            onScanned?()
            return nil
        }
        isScanning = false
        return ItemBatch.of(rows.values.map(ItemBatch.Change.read), commit: 0)
    }

    func close() {}
}
