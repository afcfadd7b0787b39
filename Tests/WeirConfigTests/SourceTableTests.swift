import Testing
import WeirConfig
import WeirCore

/// What sinks learn about the tables of a source that has no key `tables`.
@Suite struct SourceTableTests {
    /// A source that lists what it reads under a key of its own, or reads all there is.
    struct DocumentsConfig: ConnectorConfig {
        let tables: [TableName]?

        static let fields = [
            ConfigField("collections", .list(of: .string), "The collections to read.")
        ]

        init(_ scope: ConfigScope) throws(ConfigIssue) {
            guard let names = scope.values.strings("collections") else {
                tables = nil
                return
            }
            var tables: [TableName] = []
            for (index, name) in names.enumerated() {
                guard let table = TableName(parsing: name) else {
                    throw ConfigIssue(
                        field: "collections", index: index, "\"\(name)\" is no collection")
                }
                tables.append(table)
            }
            self.tables = tables
        }
    }

    /// A sink that keeps what it was told.
    struct ProbeConfig: ConnectorConfig {
        let routing: Routing
        let sourceType: String
        let sourceTables: [TableName]?
        let knownTables: [TableName]?

        static let fields = Routing.fields

        init(_ scope: ConfigScope) throws(ConfigIssue) {
            routing = try Routing(scope)
            sourceType = scope.sourceType
            sourceTables = scope.sourceTables
            knownTables = scope.knownTables
        }
    }

    private static let loader = ConfigLoader(
        descriptors: Fakes.connectors + [
            ConnectorDescriptor(
                type: "documents", summary: "Documents of the tests.",
                source: SourceRole(FakeSource<DocumentsConfig>.self)),
            ConnectorDescriptor(
                type: "probe", summary: "A sink of the tests.",
                sink: SinkRole(FakeSink<ProbeConfig>.self)),
        ])

    private func check(_ source: String, _ sink: String) -> ConfigCheck {
        let text = """
            {
              "connections": { "shop": { "type": "shopdb", "url": { "env": "SHOP_URL" } } },
              "pipelines": {
                "p": { "source": { \(source) }, "sinks": { "s": { "type": "probe"\(sink) } } }
              }
            }
            """
        return Self.loader.check(
            bytes: Array(text.utf8), fileName: "weir.json", environment: .shop, fileMode: nil)
    }

    private func probe(_ check: ConfigCheck) throws -> ProbeConfig {
        let configuration = try #require(check.configuration, "\(check.rendered())")
        return try #require(configuration.pipelines[0].sinks[0].config as? ProbeConfig)
    }

    private static let articles = TableName(schema: "cms", name: "articles")
    private static let authors = TableName(schema: "cms", name: "authors")

    @Test func aSourceThatListsNothingMaySendAnyTable() throws {
        let all = try probe(check(#""type": "documents""#, ""))
        #expect(all.sourceType == "documents")
        #expect(all.sourceTables == nil && all.knownTables == nil)
        #expect(all.routing.tables == nil)

        let outcome = check(#""type": "documents""#, #", "tables": ["cms.articles"]"#)
        let one = try probe(outcome)
        #expect(one.sourceTables == nil && one.knownTables == [Self.articles])
        #expect(one.routing.tables == [Self.articles])
        #expect(outcome.configuration?.pipelines[0].source.tables == [])
    }

    @Test func aSourcesOwnListIsWhatSinksAreHeldAgainst() throws {
        let source = #""type": "documents", "collections": ["cms.articles", "cms.authors"]"#
        let outcome = check(source, #", "tables": ["cms.authors"]"#)
        let found = try probe(outcome)
        #expect(found.sourceTables == [Self.articles, Self.authors])
        #expect(found.knownTables == [Self.authors])
        #expect(
            outcome.configuration?.pipelines[0].source.tables == [Self.articles, Self.authors])
        #expect(try probe(check(source, "")).knownTables == [Self.articles, Self.authors])

        let text = check(source, #", "tables": ["cms.autors"]"#).rendered()
        #expect(text.contains(#"table "cms.autors" is not among the tables of the source"#))
        #expect(text.contains(#"did you mean "cms.authors"?"#))
    }

    @Test func sinksOfAFaultySourceAreNotHeldAgainstIt() {
        let text = check(
            #""type": "documents", "collections": ["a.b.c"]"#, #", "tables": ["cms.articles"]"#
        ).rendered()
        #expect(text.contains(#""a.b.c" is no collection"#))
        #expect(!text.contains("not among"))
    }

    @Test func theKeyTablesCountsAlsoWhereAnotherIsAtFault() throws {
        let source = #""connection": "shop", "tables": ["orders"]"#
        let found = try probe(check(source, ""))
        #expect(found.sourceType == "shopdb")
        #expect(found.sourceTables == [TableName(schema: "public", name: "orders")])
        let text = check(
            source + #", "slot": "much_too_long_for_a_slot""#, #", "tables": ["items"]"#
        ).rendered()
        #expect(text.contains("is too long"))
        #expect(text.contains(#"table "public.items" is not among the tables of the source"#))
    }
}
