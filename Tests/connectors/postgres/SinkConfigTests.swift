import Testing
import WeirCore
import WeirPostgresClient
import WeirValues

@testable import WeirPostgresSink

/// What the configuration refuses, warns of and claims, without any server.
struct SinkConfigTests {
    private func config(
        write: String = "table", _ more: [String: ConfigValue] = [:],
        url: String = "postgres://127.0.0.1/orders", tables: [String]? = ["public.items"]
    ) throws -> PostgresSinkConfig {
        try SinkHarness.config(url: url, write: write, more, tables: tables)
    }

    private func search(
        _ text: [String: ConfigValue], columns: [String]? = nil
    ) throws -> PostgresSinkConfig {
        var more: [String: ConfigValue] = [
            "table": .string("search.items"), "text": .object(ConfigValues(text)),
        ]
        more["columns"] = columns.map(Self.columns)
        return try config(write: "search", more)
    }

    private static func columns(_ names: [String]) -> ConfigValue {
        .columns(names.map { ColumnChoice(output: $0, source: $0) })
    }

    private static func strings(_ names: String...) -> ConfigValue {
        .list(names.map(ConfigValue.string))
    }

    private func expectIssue(
        _ field: String, _ words: String, suggestion: String? = nil, _ body: () throws -> Void
    ) {
        let issue = #expect(throws: ConfigIssue.self) { try body() }
        #expect(issue?.field == field)
        #expect(issue?.message.contains(words) == true, "\(issue?.message ?? "")")
        #expect(issue?.suggestion == suggestion)
    }

    @Test func thePositionTableIsNoTarget() throws {
        expectIssue("table", "where the sink keeps its position") {
            _ = try config(["table": .string("weir_position")])
        }
        expectIssue("table", "where the sink keeps its position") {
            _ = try config(
                [
                    "table": .string("copy.{table}"),
                    "position_table": .table(.init(schema: "copy", name: "items")),
                ])
        }
    }

    // MARK: The target

    private static let source = TableName(schema: "shop", name: "order items")

    @Test(arguments: [
        ("orders.copy", "orders", "copy"), ("copy", "public", "copy"),
        ("{schema}.{table}", "shop", "order items"), ("{table}", "public", "order items"),
        ("copies.{schema}_{table}", "copies", "shop_order items"),
        ("{table}.{schema}", "order items", "shop"),
        ("a{table}{table}.t", "aorder itemsorder items", "t"),
        (#"s."a.{table}.b""#, "s", "a.order items.b"), (#""{schema}".t"#, "shop", "t"),
    ])
    func aTargetIsNamedAfterItsSource(text: String, schema: String, name: String) throws {
        let target = try #require(TargetName(text))
        #expect(target.resolve(for: Self.source) == TableName(schema: schema, name: name))
    }

    /// What stands for a part is not looked at again.
    @Test func aSourceWithBracesIsNoPattern() throws {
        let odd = TableName(schema: "{table}", name: "{schema}")
        #expect(TargetName.sameAsSource.resolve(for: odd) == odd)
        let target = try #require(TargetName("x.{schema}-{table}"))
        #expect(target.resolve(for: odd).name == "{table}-{schema}")
    }

    @Test(arguments: [
        "", ".", "a.", ".a", "a.b.c", "a b", "{Table}", "{schema}.{", "}", "{{table}}", "s.{}",
        "s.{table", #"s."t"#, "s.{database}",
    ])
    func whatIsNoTargetIsRefused(text: String) {
        #expect(TargetName(text) == nil)
        expectIssue("table", "is no table") { _ = try config(["table": .string(text)]) }
    }

    @Test func aCopyHasTheSourcesNameUnlessItIsGivenOne() throws {
        let table = TableName(schema: "public", name: "items")
        #expect(try config().target.resolve(for: table) == table)
        #expect(try config().claims == ["table public.items of postgres localhost:5432/orders"])
        expectIssue("write", "needs \"table\"") { _ = try config(write: "search") }
    }

    @Test func oneTargetIsForOneTable() throws {
        let tables = ["public.items", "old.items", "public.prices"]
        expectIssue("table", "\"old.items\" and \"public.items\" would both") {
            _ = try config(["table": .string("copy.all")], tables: tables)
        }
        expectIssue("table", "written to \"copy.items\"") {
            _ = try config(["table": .string("copy.{table}")], tables: tables)
        }
        expectIssue("table", "written to \"public.copy\"") {
            _ = try config(["table": .string("{schema}.copy")], tables: tables)
        }
        _ = try config(tables: tables)
        _ = try config(["table": .string("copy.{schema}_{table}")], tables: tables)
        // Those it does not take do not matter.
        let one = try config(
            [
                "table": .string("copy.all"),
                "tables": .list([.table(TableName(schema: "old", name: "items"))]),
            ], tables: tables)
        #expect(one.tables == [TableName(schema: "old", name: "items")])
        expectIssue("tables", "not among the tables", suggestion: "public.items") {
            _ = try config(["tables": .list([.table(TableName(schema: "public", name: "item"))])])
        }
    }

    /// A source that follows all there is may bring any table.
    @Test func withoutAListOfTablesEachNeedsATargetOfItsOwn() throws {
        for text in ["copy.all", "{schema}.all"] {
            expectIssue("table", "put {table} into it, or name") {
                _ = try config(["table": .string(text)], tables: nil)
            }
        }
        for (text, claim) in [
            ("copy.{table}", "copy.{table}"), ("{table}.{schema}", "{table}.{schema}"),
            (nil, "{schema}.{table}"),
        ] {
            let claims = try config(
                text.map { ["table": .string($0)] } ?? [:], tables: nil
            ).claims
            #expect(claims == ["table \(claim) of postgres localhost:5432/orders"])
        }
        // The sink's own list is as good as the source's.
        let listed = try config(
            [
                "table": .string("copy.all"),
                "tables": .list([.table(TableName(schema: "shop", name: "items"))]),
            ], tables: nil)
        #expect(listed.claims == ["table copy.all of postgres localhost:5432/orders"])
        expectIssue("table", "would both be written") {
            _ = try config(
                [
                    "table": .string("copy.all"),
                    "tables": .list(
                        ["a", "b"].map { .table(TableName(schema: "shop", name: $0)) }),
                ], tables: nil)
        }
    }

    @Test func everyTargetIsClaimedAndTwoWritersOfOneClaimTheSame() throws {
        let tables = ["public.items", "public.prices"]
        let both = try config(["table": .string("copy.{table}")], tables: tables).claims
        #expect(both.count == 2 && Set(both).count == 2)
        let index = try config(write: "search", ["table": .string("copy.items")]).claims
        #expect(index.count == 1 && both.contains(index[0]))
        let elsewhere = try config(
            ["table": .string("copy.items")], url: "postgres://127.0.0.1/other")
        #expect(elsewhere.claims != index)
        #expect(
            try config(["table": .string("copy.items")], url: "postgres://x:y@127.0.0.1/orders")
                .claims == index, "a role is not a place")
    }

    /// The server would cut a longer name off.
    @Test func aTargetsNameFitsTheServer() throws {
        let long = String(repeating: "ü", count: 31) + "x"
        _ = try config(["table": .string("s.\(long)")])
        for text in ["s.\(long)x", "\(long)x.t", "s.{table}_\(long)"] {
            expectIssue("table", "longer than the 63 bytes") {
                _ = try config(["table": .string(text)])
            }
        }
    }

    // MARK: Columns

    @Test func columnsMustHaveNamesOfTheirOwn() throws {
        func choose(_ choices: (String, String)...) throws {
            _ = try config([
                "columns": .columns(choices.map { ColumnChoice(output: $0.0, source: $0.1) })
            ])
        }
        expectIssue("columns", "at least one") { try choose() }
        expectIssue("columns", "1 to 63 bytes") { try choose(("", "id")) }
        expectIssue("columns", "1 to 63 bytes") { try choose(("id", "")) }
        expectIssue("columns", "1 to 63 bytes") { try choose(("a\0b", "id")) }
        expectIssue("columns", "1 to 63 bytes") {
            try choose((String(repeating: "ü", count: 32), "id"))
        }
        expectIssue("columns", "\"id\" is there twice") {
            try choose(("id", "id"), ("b", "b"), ("id", "c"))
        }
        try choose((String(repeating: "ü", count: 31) + "x", "id"), ("b", "id"), ("ID", "id"))
        #expect(try config().columns == nil)
    }

    @Test func choicesAreTakenAsTheyAre() throws {
        #expect(try config().onNewColumn == .ignore && config().truncates)
        #expect(try config(["on_new_column": .string("add")]).onNewColumn == .add)
        #expect(try config(["on_new_column": .string("stop")]).onNewColumn == .stop)
        #expect(try config(["truncate": .string("ignore")]).truncates == false)
        #expect(try config().options.documents == .relaxed)
        #expect(try config(["documents": .string("plain")]).options.documents == .plain)
        #expect(
            try config().positionTable == TableName(schema: "public", name: "weir_position"))
        let named = TableName(schema: "ops", name: "how far")
        #expect(try config(["position_table": .table(named)]).positionTable == named)
    }

    // MARK: Connection

    @Test func aConnectionThatProvesNothingIsWarnedOf() throws {
        #expect(try config().warnings.isEmpty)
        let warned = try config(url: "postgres://weir:secret@db.internal/orders").warnings
        #expect(warned.count == 1 && warned[0].contains("\"db\" uses sslmode=prefer"))
        #expect(!warned.joined().contains("secret"))
        let proven = "postgres://db.internal/orders?sslmode=verify-full&sslrootcert=/ca.pem"
        #expect(try config(url: proven).warnings.isEmpty)
        expectIssue("url", "not a PostgreSQL connection URL") {
            _ = try config(url: "postgres://weir:secret@[::1/orders")
        }
        let issue = #expect(throws: ConfigIssue.self) {
            _ = try PostgresSinkConfig(
                ConfigScope(pipeline: "p", name: "s", values: ConfigValues([:])))
        }
        #expect(issue?.field == "connection")
    }

    // MARK: Search

    @Test func textBelongsToSearchAndNamesColumnsOnce() throws {
        expectIssue("text", "belongs to \"write\": \"search\"") {
            _ = try config(["text": .object(ConfigValues([:]))])
        }
        expectIssue("text.B", "\"titel\" is not among the columns", suggestion: "title") {
            _ = try search(["B": Self.strings("titel")], columns: ["id", "title"])
        }
        expectIssue("text.C", "\"title\" has a weight already") {
            _ = try search(["A": Self.strings("title"), "C": Self.strings("body", "title")])
        }
        expectIssue("text.A", "\"title\" has a weight already") {
            _ = try search(["A": Self.strings("title", "title")])
        }
        expectIssue("text.column", "name of a column that is written") {
            _ = try search([:], columns: ["id", "search"])
        }
        expectIssue("text.column", "name of a column that is written") {
            _ = try search(["column": .string("title")], columns: ["id", "title"])
        }
        let text = try #require(
            try search([
                "config": .string("english"), "D": Self.strings("d"), "A": Self.strings("b", "a"),
                "column": .string("words"), "C": .list([]),
            ]).text)
        #expect(text.configuration == "english" && text.column == "words")
        #expect(text.weighted.map(\.weight) == ["A", "D"])
        #expect(text.weighted.map(\.columns) == [["b", "a"], ["d"]])
        let plain = try #require(try config(write: "search", ["table": .string("s.t")]).text)
        #expect(
            plain.configuration == "simple" && plain.column == "search" && plain.weighted.isEmpty)
        #expect(try config().text == nil)
        #expect(text != plain && text == text)
    }

    private func target(_ columns: (String, String)...) -> [TargetColumn] {
        columns.map { name, type in
            TargetColumn(
                name: name, type: type, sqlType: type, isGenerated: false, isAlwaysIdentity: false,
                comment: nil, isDemanded: false)
        }
    }

    /// The server itself says whether a generated column may hold it, and what it finds.
    @Test func anExpressionHasEachColumnWithItsWeightAndConfiguration() async throws {
        let text = try #require(
            try search([
                "config": .string("english"), "A": Self.strings("title", "n"),
                "B": Self.strings("no text"), "D": Self.strings("doc", "plain"),
            ]).text)
        let expression = try text.expression(
            target(
                ("doc", "jsonb"), ("title", "text"), ("n", "int4"), ("other", "text"),
                ("plain", "json"), ("no text", "varchar")))
        let schema = try await TestSchema(
            """
            CREATE TABLE t (doc jsonb, title text, n int, other text, plain json,
                "no text" varchar(9), search tsvector GENERATED ALWAYS AS (\(expression)) STORED)
            """)
        let connection = try schema.connect()
        func words(_ values: String) throws -> String? {
            try connection.queryRow("INSERT INTO t VALUES (\(values)) RETURNING search")[0]
        }
        let found = try words(
            #"'{"k": "pots", "n": [7, "lid"]}', 'Red teapots', 42, 'x', '"cup"', 'b'"#)
        #expect(found == "'42':3A 'b':4B 'cup':8 'lid':7 'pot':5 'red':1A 'teapot':2A")
        #expect(try words("NULL, NULL, NULL, NULL, NULL, NULL") == "")
        // What is too long for a tsvector is cut, not refused.
        let long = "SELECT string_agg(md5(g::text), ' ') FROM generate_series(1, 20000) g"
        for row in [
            "NULL, (\(long)), 1, NULL, NULL, NULL",
            "jsonb_build_object('k', (\(long))), (\(long)), 1, NULL, NULL, NULL",
            "NULL, NULL, 1, NULL, json_build_object('k', (\(long))), NULL",
        ] {
            let count = try words(row)?.utf8.count ?? 0
            #expect(count > 30_000)
        }
    }

    @Test func withoutWeightsAllTextIsSearchedAndNothingElse() throws {
        let text = try #require(try search(["config": .string(#"our."c'onf""#)]).text)
        let expression = try text.expression(
            target(
                ("id", "int8"), ("b", "varchar"), ("at", "timestamptz"), (#"od"d"#, "json"),
                ("c", "bpchar")))
        let parts = expression.split(separator: " || ")
        #expect(parts.count == 3)
        #expect(parts.allSatisfy { $0.contains(#"E'our."c''onf"'::regconfig"#) })
        #expect(parts.allSatisfy { $0.hasSuffix("'A')") })
        for (part, name) in zip(parts, [#""b""#, #""od""d""#, #""c""#]) {
            #expect(part.contains("coalesce(\(name)"))
        }
    }

    @Test func whatCannotBeSearchedIsSaid() throws {
        func expectError(_ words: String, _ text: SearchText, _ columns: [TargetColumn]) {
            let error = #expect(throws: WeirError.self) { _ = try text.expression(columns) }
            #expect(error?.code == .targetUnfit && error?.disposition == .blocked)
            #expect(error?.message.contains(words) == true, "\(error?.message ?? "")")
        }
        let named = try #require(try search(["A": Self.strings("at")]).text)
        expectError("which the target does not have", named, target(("id", "text")))
        // Its text depends on a setting, so that no generated column may hold it.
        for type in ["timestamptz", "date", "float8", "bytea", "money", "_text", "status"] {
            expectError("of type \(type) cannot be searched", named, target(("at", type)))
        }
        let all = try #require(try search([:]).text)
        expectError("no text column", all, target(("id", "int4"), ("at", "date")))
    }
}
