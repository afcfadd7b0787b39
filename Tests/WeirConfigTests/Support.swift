import WeirConfig
import WeirCore
import WeirTesting

/// Connectors that exist only as configuration: `shopdb`, a source with a connection; `bus`, a sink
/// with one; `lines`, a sink without.
enum Fakes {
    static let connectors = [shopdb, bus, lines]

    static let shopdb = ConnectorDescriptor(
        type: "shopdb", summary: "A database of the tests.",
        connectionFields: [
            ConfigField(
                "url", .secret, "Where it is.", required: true, example: #"{ "env": "SHOP_URL" }"#)
        ],
        source: SourceRole(FakeSource<ShopConfig>.self))

    static let bus = ConnectorDescriptor(
        type: "bus", summary: "A message bus of the tests.",
        connectionFields: [
            ConfigField("url", .secret, "Where it is.", required: true),
            ConfigField("password", .secret, "The password."),
        ],
        sink: SinkRole(FakeSink<BusConfig>.self))

    static let lines = ConnectorDescriptor(
        type: "lines", summary: "A file of lines.", sink: SinkRole(FakeSink<LinesConfig>.self))
}

struct ShopConfig: ConnectorConfig {
    let url: Secret?
    let slot: String
    let snapshot: String?
    let isFar: Bool

    static let fields = [
        ConfigField(
            "tables", .list(of: .table), "The tables to read.", required: true,
            example: #"["public.orders"]"#),
        ConfigField(
            "snapshot", .choice(["none", "initial"]), "What to do about existing rows.",
            default: #""none""#),
        ConfigField("slot", .string, "The slot.", example: #""weir_shop""#),
        ConfigField("fetch", .integer(1...1000), "Rows per round trip.", default: "100"),
        ConfigField("trace", .boolean, "Whether to trace.", default: "false"),
    ]

    init(_ scope: ConfigScope) throws(ConfigIssue) {
        url = scope.connection?.secret("url")
        if url?.reveal().contains("://") != true {
            throw ConfigIssue(field: "url", "not a URL")
        }
        let tables = scope.values.tables("tables") ?? []
        for (index, table) in tables.enumerated() where tables.firstIndex(of: table) != index {
            throw ConfigIssue(field: "tables", index: index, "table \"\(table)\" is listed twice")
        }
        slot = scope.values.string("slot") ?? "weir_\(scope.pipeline)"
        if slot.utf8.count > 20 {
            let field = scope.values.string("slot") == nil ? nil : "slot"
            throw ConfigIssue(field: field, "slot name \"\(slot)\" is too long")
        }
        snapshot = scope.values.string("snapshot")
        isFar = url?.reveal().contains("far.example") == true
    }

    var claims: [String] { ["slot \(slot)"] }
    var warnings: [String] { isFar ? ["the server is far away"] : [] }
}

/// A source that needs nothing but its connection.
struct WholeConfig: ConnectorConfig {
    static let fields = [
        ConfigField(
            "snapshot", .choice(["none", "initial"]), "What to do about existing rows.",
            default: #""none""#)
    ]

    init(_ scope: ConfigScope) throws(ConfigIssue) {}
}

struct BusConfig: ConnectorConfig {
    let routing: Routing
    let timeToLive: Duration?
    let text: ConfigValues?
    let limits: ConfigValues?

    static let fields =
        Routing.fields + [
            ConfigField("topic", .string, "The topic.", required: true, example: #""orders""#),
            ConfigField(
                "ttl", .duration(.milliseconds(100) ... .seconds(86_400)), "How long it stays.",
                example: #""1h""#),
            ConfigField("columns", .columns, "The columns to send.", example: #"["id"]"#),
            ConfigField(
                "text", .object(textFields), "What is searched.", example: #"{ "A": ["title"] }"#),
            ConfigField(
                "limits", .object(limitFields), "How much is taken.", default: "{}"),
        ]

    private static let textFields = [
        ConfigField("config", .string, "The language.", default: #""simple""#),
        ConfigField(
            "A", .list(of: .string), "What weighs most.", required: true,
            example: #"["title"]"#),
        ConfigField("B", .list(of: .string), "What weighs less."),
        ConfigField(
            "rank", .object([ConfigField("scale", .choice(["log", "none"]), "The scale.")]),
            "How hits are ordered."),
        ConfigField("pass", .secret, "What opens the index."),
    ]

    private static let limitFields = [
        ConfigField("rows", .integer(1...100), "How many rows.", default: "10"),
        ConfigField(
            "pause", .duration(.seconds(1) ... .seconds(10)), "How long between them.",
            default: #""2s""#),
    ]

    init(_ scope: ConfigScope) throws(ConfigIssue) {
        routing = try Routing(scope)
        timeToLive = scope.values.duration("ttl")
        text = scope.values.object("text")
        limits = scope.values.object("limits")
        let first = text?.strings("A") ?? []
        for (index, name) in (text?.strings("B") ?? []).enumerated() where first.contains(name) {
            throw ConfigIssue(
                field: "text.B", index: index, "\"\(name)\" has a weight already")
        }
        if text?.object("rank")?.string("scale") == "none" {
            throw ConfigIssue(field: "text.rank.scale", "hits need an order", suggestion: "log")
        }
        if text?.string("config") == "simple", first.contains("body") {
            throw ConfigIssue(field: "text.config", "a body needs a language")
        }
    }
}

struct LinesConfig: ConnectorConfig {
    let path: String
    let columns: [ColumnChoice]?

    static let fields =
        Routing.fields + [
            ConfigField(
                "path", .string, "The file, or | for standard output.", required: true,
                example: #""changes.jsonl""#),
            ConfigField(
                "format", .choice(["weir", "row"]), "What a line looks like.", default: #""weir""#),
            ConfigField("columns", .columns, "The columns to write.", example: #"["id"]"#),
        ]

    init(_ scope: ConfigScope) throws(ConfigIssue) {
        path = scope.values.string("path") ?? ""
        columns = scope.values.columns("columns")
        _ = try Routing(scope)
    }

    var claims: [String] { ["file \(path)"] }
}

actor FakeSource<Config: ConnectorConfig>: SourceConnector {
    static var notation: SourceNotation { .numbers }

    init(_ config: Config, _ context: ConnectorContext) throws(WeirError) {}

    func open(at stored: StoredPosition?) async throws(WeirError) -> SourceStart {
        throw WeirError(.bug, .bug, "a fake cannot be opened")
    }
    func read(
        into batch: consuming BatchBuilder, within limit: Duration
    ) async throws(WeirError) -> EventBatch { batch.seal(resume: nil, end: nil) }
    func acknowledge(_ durable: Position?) async throws(WeirError) {}
    func close() async {}
}

actor FakeSink<Config: ConnectorConfig>: SinkConnector {
    init(_ config: Config, _ context: ConnectorContext) throws(WeirError) {}

    func open(at mark: SinkMark?) async throws(WeirError) -> SinkMark? { mark }
    func write(_ batches: [EventBatch]) async throws(WeirError) -> WriteOutcome {
        WriteOutcome(.durable, delivered: 0)
    }
    func flush() async throws(WeirError) {}
    func close() async {}
}

// MARK: Checking

extension ConfigEnvironment {
    /// Variables and files that exist only in a test.
    static func fake(
        _ variables: [String: String] = [:], files: [String: [UInt8]] = [:]
    ) -> ConfigEnvironment {
        ConfigEnvironment(
            variable: { variables[$0] },
            readFile: { path in
                files[path].map { .success($0) } ?? .failure(FileFault("No such file or directory"))
            })
    }

    static let shop = fake(["SHOP_URL": "shop://localhost/shop"])
}

let loader = ConfigLoader(descriptors: Fakes.connectors)

func check(
    _ text: String, _ environment: ConfigEnvironment = .shop, fileMode: UInt32? = nil
) -> ConfigCheck {
    loader.check(
        bytes: Array(text.utf8), fileName: "weir.json", environment: environment,
        fileMode: fileMode)
}

/// What `weir validate` would print.
func report(_ text: String, _ environment: ConfigEnvironment = .shop) -> String {
    check(text, environment).rendered()
}

/// A file around one source and one sink that is right but for what a test puts in.
func file(
    connection: String = #""type": "shopdb", "url": { "env": "SHOP_URL" }"#,
    source: String = #""connection": "shop", "tables": ["orders"]"#,
    sink: String = #""type": "lines", "path": "a""#,
    more: String = ""
) -> String {
    """
    {
      "connections": { "shop": { \(connection) } },
      "pipelines": {
        "p": {
          "source": { \(source) },
          "sinks": { "s": { \(sink) } }
        }
      }\(more)
    }

    """
}

/// The lines of a report without the last one.
func diagnostics(_ text: String, _ environment: ConfigEnvironment = .shop) -> String {
    report(text, environment).split(separator: "\n").filter { !$0.contains("nothing was started") }
        .map { $0 + "\n" }.joined()
}
