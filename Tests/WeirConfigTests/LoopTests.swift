import Testing
import WeirCore
import WeirJSON

@testable import WeirConfig

/// Pipelines that feed each other, without any server.
struct LoopTests {
    /// A database that is read and written, with a name of its own.
    private static let store = ConnectorDescriptor(
        type: "store", summary: "A database of the tests.",
        connectionFields: [ConfigField("url", .string, "Its names.", required: true)],
        source: SourceRole(FakeSource<StoreSourceConfig>.self),
        sink: SinkRole(FakeSink<StoreSinkConfig>.self))

    private static let loader = ConfigLoader(descriptors: [store])

    /// One pipeline: from where, to where, and further keys of each.
    private struct Way {
        let from: String
        let to: String
        var source = ""
        var sink = ""

        func text(_ name: String) -> String {
            """
            "\(name)": {
            "source": { "connection": "\(from)", "tables": ["t", "u"]\(source) },
            "sinks": { "copy": { "connection": "\(to)"\(sink) } }
            }
            """
        }
    }

    private static func check(_ ways: [(String, Way)], urls: [String: String] = [:]) -> ConfigCheck
    {
        let names = Set(ways.flatMap { [$0.1.from, $0.1.to] }).sorted()
        let connections = names.map {
            "\"\($0)\": { \"type\": \"store\", \"url\": \"\(urls[$0] ?? $0)\" }"
        }
        let text = """
            { "connections": { \(connections.joined(separator: ", ")) },
            "pipelines": { \(ways.map { $0.1.text($0.0) }.joined(separator: ",\n")) } }
            """
        return loader.check(
            bytes: Array(text.utf8), fileName: "weir.json", environment: .fake())
    }

    private static func messages(_ check: ConfigCheck) -> [String] {
        check.diagnostics.map { "\($0.code.name): \($0.message) (\($0.note ?? ""))" }
    }

    private static let echo =
        "config.loop: the source of pipeline \"back\" reads what sink \"copy\" of pipeline "
        + "\"forth\" writes (public.t, public.u), and its changes come back there: an endless echo"

    @Test func pipelinesThatWriteEachOthersTablesAreRefused() {
        let check = Self.check([
            ("forth", Way(from: "a", to: "b")), ("back", Way(from: "b", to: "a")),
        ])
        #expect(check.configuration == nil || check.errorCount > 0)
        let messages = Self.messages(check)
        #expect(messages.count == 2)
        #expect(messages.filter { $0.hasPrefix("config.loop") }.count == 2, "\(messages)")
        #expect(
            messages.contains(
                Self.echo + " (this source needs \"origin\": [\"weir_forth_copy\"], and that sink "
                    + "\"origin\": \"weir_forth_copy\")"), "\(messages)")
    }

    /// What the note says, done.
    @Test func theyPassWhenEachLeavesOutWhatTheOtherWrites() {
        let forth = Way(
            from: "a", to: "b", source: #", "origin": ["weir_back_copy"]"#,
            sink: #", "origin": "weir_forth_copy""#)
        let back = Way(
            from: "b", to: "a", source: #", "origin": ["other", "weir_forth_copy"]"#,
            sink: #", "origin": "weir_back_copy""#)
        #expect(Self.messages(Self.check([("forth", forth), ("back", back)])).isEmpty)
        // The other way round is none.
        let crossed = [
            ("forth", Way(from: "a", to: "b", source: forth.source, sink: back.sink)),
            ("back", Way(from: "b", to: "a", source: back.source, sink: forth.sink)),
        ]
        #expect(Self.check(crossed).errorCount == 2)
    }

    @Test func oneSideAloneIsNotEnough() {
        let forth = Way(from: "a", to: "b", sink: #", "origin": "o""#)
        let back = Way(from: "b", to: "a", source: #", "origin": ["o"]"#)
        let messages = Self.messages(Self.check([("forth", forth), ("back", back)]))
        #expect(messages.count == 1)
        #expect(messages[0].contains("the source of pipeline \"forth\" reads what sink"))
        // A name more beside those that are there.
        let named = Way(
            from: "a", to: "b", source: #", "origin": ["x"]"#, sink: #", "origin": "o""#)
        let again = Self.messages(
            Self.check([
                ("forth", named),
                ("back", Way(from: "b", to: "a", source: back.source, sink: #", "origin": "p""#)),
            ]))
        #expect(again.count == 1)
        #expect(again[0].hasSuffix(#"(this source needs "origin": ["x", "p"])"#), "\(again)")
    }

    @Test func leavingOutAllOriginsPassesWithAWarning() {
        let ways = [
            (
                "forth",
                Way(from: "a", to: "b", source: #", "origin": "none""#, sink: #", "origin": "f""#)
            ),
            (
                "back",
                Way(from: "b", to: "a", source: #", "origin": ["f"]"#, sink: #", "origin": "g""#)
            ),
        ]
        let check = Self.check(ways)
        #expect(check.errorCount == 0 && check.configuration != nil)
        let messages = Self.messages(check)
        #expect(messages.count == 1)
        #expect(messages[0].contains("any other replication writes"), "\(messages)")
        #expect(messages[0].hasSuffix(#"("origin": ["g"] leaves out only that sink's)"#))
        // A sink without an origin looks like the application.
        let bare = Self.check([
            ways[0], ("back", Way(from: "b", to: "a", source: #", "origin": ["f"]"#)),
        ])
        #expect(bare.errorCount == 1)
    }

    @Test func whatDoesNotComeBackIsNoLoop() {
        let sets: [[(String, Way)]] = [
            // One way, a fan-out, a chain, two chains into one database.
            [("p", Way(from: "a", to: "b"))],
            [("p", Way(from: "a", to: "b")), ("q", Way(from: "a", to: "c"))],
            [("p", Way(from: "a", to: "b")), ("q", Way(from: "b", to: "c"))],
            // The same databases, but other tables.
            [
                ("p", Way(from: "a", to: "b", sink: #", "table": "copy_{table}""#)),
                ("q", Way(from: "b", to: "a")),
            ],
            // "none" outside of a loop is nobody's business.
            [("p", Way(from: "a", to: "b", source: #", "origin": "none""#))],
        ]
        for (index, set) in sets.enumerated() {
            #expect(Self.messages(Self.check(set)).isEmpty, "set \(index)")
        }
    }

    @Test func aRingOfThreeIsALoopToo() {
        func ring(_ filters: [String]) -> ConfigCheck {
            let places = ["a", "b", "c"]
            let ways = places.indices.map { index in
                (
                    "p\(index)",
                    Way(
                        from: places[index], to: places[(index + 1) % 3], source: filters[index],
                        sink: #", "origin": "o\#(index)""#)
                )
            }
            return Self.check(ways)
        }
        #expect(ring(["", "", ""]).errorCount == 3)
        let all = [#", "origin": ["o2"]"#, #", "origin": ["o0"]"#, #", "origin": ["o1"]"#]
        #expect(ring(all).errorCount == 0)
        #expect(ring([all[0], "", all[2]]).errorCount == 1)
    }

    @Test func oneDatabaseMayHaveSeveralNames() {
        let ways = [("forth", Way(from: "a", to: "b")), ("back", Way(from: "c", to: "d"))]
        #expect(Self.check(ways).errorCount == 0)
        let same = ["a": "north", "d": "west north", "b": "south", "c": "south"]
        #expect(Self.check(ways, urls: same).errorCount == 2)
    }

    @Test func aSinkMustNotWriteToTheTableItFollows() {
        let messages = Self.messages(Self.check([("p", Way(from: "a", to: "a"))]))
        #expect(messages.count == 1)
        #expect(
            messages[0].contains("writes to the very table its source reads: public.t, public.u"))
        // Even under an origin, which would let nothing through.
        let way = Way(
            from: "a", to: "a", source: #", "origin": ["o"]"#, sink: #", "origin": "o""#)
        #expect(Self.check([("p", way)]).errorCount == 1)
        #expect(
            Self.check([("p", Way(from: "a", to: "a", sink: #", "table": "c_{table}""#))])
                .errorCount == 0)
    }

    @Test(arguments: [
        (#""nome""#, #"config.invalid_value: "origin" cannot be "nome" (did you mean "none"?)"#),
        (
            #""weir_forth""#,
            #"config.invalid_value: "origin" cannot be "weir_forth" (one of "any", "none", or a list of names)"#
        ),
        (
            "7",
            #"config.wrong_type: "origin" must be "any", "none" or a list of names, not a number ()"#
        ),
        ("[]", #"config.empty: "origin" is an empty list ()"#),
        (
            "[1]",
            #"config.wrong_type: an element of "origin" must be text, not a number ()"#
        ),
    ])
    func whatIsNeitherAWordNorNamesIsRefused(json: String, message: String) {
        let way = Way(from: "a", to: "b", source: ", \"origin\": \(json)")
        #expect(Self.messages(Self.check([("p", way)])) == [message])
    }

    /// A file of thousands of tables is checked in no time.
    @Test func manyTablesAreNoBurden() {
        let names = (0..<4000).map { TableName(schema: "s", name: "t\($0)") }
        let targets = Dictionary(uniqueKeysWithValues: names.map { ($0, $0) })
        var readers: [TableReader] = []
        var writers: [TableWriter] = []
        let span = SourceSpan(start: 0, end: 1)
        for (name, from, to) in [("p", "a", "b"), ("q", "b", "a")] {
            readers.append(
                TableReader(
                    pipeline: name, databases: [from], tables: names, filter: .nothing, span: span))
            writers.append(
                TableWriter(
                    pipeline: name, sink: "s", databases: [to], targets: targets, origin: nil,
                    span: span))
        }
        let start = ContinuousClock.now
        let steps = LoopFinder(readers: readers, writers: writers).steps()
        #expect(steps.map(\.tables.count) == [4000, 4000])
        #expect(.now - start < .seconds(5))
    }
}

private struct StoreSourceConfig: ConnectorConfig {
    let databases: Set<String>
    let filter: OriginFilter

    static let fields = [
        ConfigField("tables", .list(of: .table), "The tables to read.", required: true),
        ConfigField(
            "origin", .choiceOrNames(["any", "none"]), "What to leave out.", default: #""any""#),
    ]

    init(_ scope: ConfigScope) throws(ConfigIssue) {
        databases = names(scope)
        if let names = scope.values.strings("origin") {
            filter = .origins(names)
        } else {
            filter = scope.values.string("origin") == "none" ? .everyOrigin : .nothing
        }
    }

    var reach: TableReach? { TableReach(databases: databases, .reads(leavingOut: filter)) }
}

private struct StoreSinkConfig: ConnectorConfig {
    let databases: Set<String>
    let targets: [TableName: TableName]
    let origin: String?

    static let fields = [
        ConfigField("table", .string, "The target."),
        ConfigField("origin", .string, "The origin."),
    ]

    init(_ scope: ConfigScope) throws(ConfigIssue) {
        databases = names(scope)
        origin = scope.values.string("origin")
        let pattern = scope.values.string("table") ?? "{table}"
        targets = (scope.knownTables ?? []).reduce(into: [:]) { targets, table in
            let name = pattern.replacing("{table}", with: table.name)
            targets[table] = TableName(schema: table.schema, name: name)
        }
    }

    var reach: TableReach? { TableReach(databases: databases, .writes(targets, origin: origin)) }
}

private func names(_ scope: ConfigScope) -> Set<String> {
    Set((scope.connection?.string("url") ?? "").split(separator: " ").map(String.init))
}
