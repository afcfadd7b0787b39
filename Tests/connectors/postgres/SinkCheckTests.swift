import Testing
import WeirCore
import WeirPostgresClient
import WeirTesting
import WeirValues

@testable import WeirPostgresSink

/// What is found at a start, before the first change, and what its hints do.
struct SinkCheckTests {
    /// A column as the source's catalogue tells it.
    static func column(
        _ name: String, _ type: String, _ declared: String? = nil,
        _ valueClass: TypeClass = .text, isNotNull: Bool = false
    ) -> Column {
        Column(
            name: name, type: ColumnType(valueClass, name: type), declaredType: declared ?? type,
            isNotNull: isNotNull)
    }

    static func items(_ first: Column, _ others: [Column] = []) -> TableSchema {
        TableSchema(
            version: 31, database: "shop", schema: "public", name: "items",
            columns: [column("id", "int4", "integer", .integer, isNotNull: true), first] + others,
            key: [0])
    }

    private static let plain = items(column("v", "text"))

    /// A target, what is found about it, and nothing of that once the hint was followed.
    struct Misfit: Sendable, CustomStringConvertible {
        let description: String
        let target: String
        var schema = SinkCheckTests.plain
        var write = "table"
        var more: [String: ConfigValue] = [:]
        let code: ErrorCode
        var severity = Finding.Severity.blocking
        let subject: String
        let words: String
    }

    private static func text(_ more: [String: ConfigValue] = [:]) -> [String: ConfigValue] {
        ["table": .string("public.items"), "text": .object(ConfigValues(more))]
    }

    private static let misfits: [Misfit] = [
        Misfit(
            description: "no unique index", target: "CREATE TABLE items (id int, v text)",
            code: .noUniqueIndex, subject: "public.items", words: "(\"id\")"),
        Misfit(
            description: "a primary key on something else",
            target: "CREATE TABLE items (id int, v text, own serial PRIMARY KEY)",
            code: .noUniqueIndex, subject: "public.items", words: "(\"id\")"),
        Misfit(
            description: "a deferrable primary key",
            target: "CREATE TABLE items (id int PRIMARY KEY DEFERRABLE, v text)",
            code: .noUniqueIndex, subject: "public.items", words: "is deferrable"),
        Misfit(
            description: "a deferrable constraint beside one that is not",
            target: """
                CREATE TABLE items (id int PRIMARY KEY, v text, UNIQUE (id) DEFERRABLE,
                    CONSTRAINT "an other" UNIQUE (id) DEFERRABLE)
                """,
            code: .noUniqueIndex, subject: "public.items", words: "is deferrable"),
        Misfit(
            description: "a rule that rewrites inserts",
            target: """
                CREATE TABLE items (id int PRIMARY KEY, v text);
                CREATE RULE "no more" AS ON INSERT TO items DO INSTEAD NOTHING
                """,
            code: .targetUnfit, subject: "public.items", words: "has the rule \"no more\""),
        Misfit(
            description: "a rule that keeps rows",
            target: """
                CREATE TABLE items (id int PRIMARY KEY, v text);
                CREATE RULE kept AS ON DELETE TO items DO INSTEAD NOTHING
                """,
            code: .rowsSkipped, severity: .warning, subject: "public.items", words: "rows stay"),
        Misfit(
            description: "a partitioned table whose partition has a key of its own",
            target: """
                CREATE TABLE items (id int, v text) PARTITION BY RANGE (id);
                CREATE TABLE low PARTITION OF items FOR VALUES FROM (0) TO (9);
                ALTER TABLE low ADD PRIMARY KEY (id);
                """,
            code: .noUniqueIndex, subject: "public.items", words: "(\"id\")"),
        Misfit(
            description: "a key whose column has another name",
            target: "CREATE TABLE items (ident bigint PRIMARY KEY, v text)",
            code: .newColumn, subject: "public.items", words: "does not take \"id\" of the key"),
        Misfit(
            description: "a key of which a column is missing",
            target: "CREATE TABLE items (v text); INSERT INTO items VALUES ('old')",
            code: .newColumn, subject: "public.items", words: "does not take \"id\""),
        Misfit(
            description: "an identity that takes no update",
            target:
                "CREATE TABLE items (id int PRIMARY KEY, v bigint GENERATED ALWAYS AS IDENTITY)",
            schema: items(column("v", "int8", "bigint", .int64)), code: .identityAlways,
            subject: "public.items.v", words: "GENERATED ALWAYS AS IDENTITY"),
        Misfit(
            description: "a column of the target that is demanded and gets nothing",
            target: "CREATE TABLE items (id int PRIMARY KEY, v text, tenant text NOT NULL)",
            code: .columnUnfilled, severity: .warning, subject: "public.items.tenant",
            words: "NOT NULL"),
        Misfit(
            description: "a column that takes no nulls",
            target: "CREATE TABLE items (id int PRIMARY KEY, v text NOT NULL)",
            code: .columnNarrow, severity: .warning, subject: "public.items.v", words: "with null"),
        Misfit(
            description: "a text that is shorter",
            target: "CREATE TABLE items (id int PRIMARY KEY, v varchar(3))",
            schema: items(column("v", "varchar", "character varying(40)")), code: .columnNarrow,
            severity: .warning, subject: "public.items.v",
            words: "character varying(3), the source's character varying(40)"),
        Misfit(
            description: "a shorter text that is searched",
            target: """
                CREATE TABLE items (id int PRIMARY KEY, v varchar(3),
                    search tsvector GENERATED ALWAYS AS (to_tsvector('simple', v::text)) STORED);
                COMMENT ON COLUMN items.search IS 'weir: old';
                """,
            write: "search", more: text(), code: .columnNarrow, severity: .warning,
            subject: "public.items.v", words: "longer values"),
        Misfit(
            description: "a smaller integer",
            target: "CREATE TABLE items (id int PRIMARY KEY, v int)",
            schema: items(column("v", "int8", "bigint", .int64)), code: .columnNarrow,
            severity: .warning, subject: "public.items.v", words: "larger values"),
        Misfit(
            description: "fewer digits",
            target: "CREATE TABLE items (id int PRIMARY KEY, v numeric(4, 1))",
            schema: items(column("v", "numeric", "numeric(10,2)", .numeric)), code: .columnNarrow,
            severity: .warning, subject: "public.items.v", words: "before the point"),
        Misfit(
            description: "a domain with constraints",
            target: """
                CREATE DOMAIN short AS text CHECK (length(VALUE) < 4);
                CREATE TABLE items (id int PRIMARY KEY, v short)
                """,
            code: .columnNarrow, severity: .warning, subject: "public.items.v", words: "domain"),
        Misfit(
            description: "an enum for a text",
            target: """
                CREATE TYPE status AS ENUM ('a', 'b');
                CREATE TABLE items (id int PRIMARY KEY, v status)
                """,
            code: .columnNarrow, severity: .warning, subject: "public.items.v", words: "status"),
        Misfit(
            description: "a column that is named and computed there",
            target: """
                CREATE TABLE items (id int PRIMARY KEY,
                    v text GENERATED ALWAYS AS ('x' || id::text) STORED)
                """,
            more: [
                "columns": .columns(["id", "v"].map { ColumnChoice(output: $0, source: $0) })
            ],
            code: .columnGenerated, severity: .warning, subject: "public.items.v",
            words: "computed by the target"),
        Misfit(
            description: "a column that is missing",
            target: "CREATE TABLE items (id int PRIMARY KEY)",
            more: ["on_new_column": .string("stop")], code: .newColumn, subject: "public.items",
            words: "lacks \"v\""),
        Misfit(
            description: "a column that is left out",
            target: "CREATE TABLE items (id int PRIMARY KEY)",
            schema: items(column("v", "public.mood", nil, .opaque)), code: .newColumn,
            severity: .warning, subject: "public.items", words: "left out"),
        Misfit(
            description: "a column for search that was made for another text",
            target: """
                CREATE TABLE items (id int PRIMARY KEY, v text,
                    search tsvector GENERATED ALWAYS AS (to_tsvector('english', v)) STORED);
                COMMENT ON COLUMN items.search IS 'weir: another';
                """,
            write: "search", more: text(["A": .list([.string("v")])]), code: .targetUnfit,
            subject: "public.items.search", words: "another \"text\""),
        Misfit(
            description: "a column for search that knows fewer columns",
            target: """
                CREATE TABLE items (id int PRIMARY KEY, v text, w text,
                    search tsvector GENERATED ALWAYS AS (to_tsvector('simple', v)) STORED);
                COMMENT ON COLUMN items.search IS 'weir: fewer';
                """,
            write: "search", more: text(), code: .searchPartial, severity: .warning,
            subject: "public.items.search", words: "not all of them"),
    ]

    @Test func whatDoesNotFitIsFoundAndItsHintHelps() async throws {
        let database = try await TestDatabase()
        for misfit in Self.misfits {
            try database.run("DROP SCHEMA public CASCADE; CREATE SCHEMA public; " + misfit.target)
            try await expectHelp(misfit, database)
        }
    }

    private func expectHelp(_ misfit: Misfit, _ database: TestDatabase) async throws {
        let harness = SinkHarness(database)
        let sink = try harness.sink(write: misfit.write, misfit.more)
        let mark = try await sink.open(at: nil)
        let found = try await sink.check([misfit.schema])
        let finding = try #require(
            found.first { $0.code == misfit.code && $0.subject == misfit.subject }, "\(found)")
        #expect(finding.severity == misfit.severity)
        #expect(finding.message.contains(misfit.words), "\(misfit): \(finding.message)")
        // What blocks is told before what does not.
        #expect(
            found.contains { $0.severity == .blocking } == (found.first?.severity == .blocking))
        let sql = statements(in: finding.hint)
        #expect(sql.hasSuffix(";"), "\(misfit): \(finding.hint ?? "no hint")")
        try database.run(sql)
        _ = try await sink.open(at: mark)
        let rest = try await sink.check([misfit.schema])
        #expect(!rest.contains { $0.code == misfit.code && $0.subject == misfit.subject })
        #expect(!rest.contains { $0.severity == .blocking }, "\(misfit): \(rest)")
        // And then it works.
        let value = misfit.schema.columns.count > 1 ? [Field("1"), Field("2")] : [Field("1")]
        try await sink.write([.insert(value)], of: misfit.schema, commit: 16)
        try await sink.write([.update(value)], of: misfit.schema, commit: 32)
        #expect(
            try database.run("SELECT count(*) FROM items WHERE id = 1") == "1", "\(misfit)")
        await sink.close()
    }

    @Test func aTargetThatFitsIsPassedOver() async throws {
        let database = try await TestDatabase(
            """
            CREATE TABLE items (id bigint PRIMARY KEY, v text, note text DEFAULT 'none',
                own int GENERATED ALWAYS AS IDENTITY, twice text GENERATED ALWAYS AS (v || v) STORED)
            """)
        let sink = try SinkHarness(database).sink()
        _ = try await sink.open(at: nil)
        #expect(try await sink.check([Self.plain]) == [])
        // Nor is one that is missing and may be made.
        try database.run("DROP TABLE items")
        #expect(try await sink.check([Self.plain]) == [])
        #expect(try database.run("SELECT to_regclass('items')") == "")
        await sink.close()
    }

    /// One start tells all, of all tables.
    @Test func everythingIsToldAtOnce() async throws {
        let database = try await TestDatabase(
            """
            CREATE TABLE items (id int, v varchar(2), must int NOT NULL);
            CREATE VIEW orders AS SELECT 1 AS id;
            CREATE TABLE whole (id int, v text) PARTITION BY LIST (v);
            CREATE TABLE root (id int PRIMARY KEY, v text) PARTITION BY RANGE (id);
            CREATE TABLE part PARTITION OF root FOR VALUES FROM (0) TO (9);
            CREATE TABLE ids (id uuid PRIMARY KEY);
            """)
        let names = ["items", "orders", "whole", "part", "ids"]
        let sink = try SinkHarness(database).sink(tables: names.map { "public.\($0)" })
        _ = try await sink.open(at: nil)
        let schemas = names.enumerated().map { number, name in
            TableSchema(
                version: UInt32(number), database: "shop", schema: "public", name: name,
                columns: name == "ids"
                    ? Array(Self.plain.columns[...0]) : Self.plain.columns, key: [0])
        }
        let found = try await sink.check(schemas)
        #expect(
            Set(found.map { "\($0.code) \($0.severity) \($0.subject)" }) == [
                "postgres.no_unique_index blocking public.items",
                "postgres.column_narrow warning public.items.v",
                "postgres.column_unfilled warning public.items.must",
                "postgres.target_unfit blocking public.orders",
                "postgres.no_unique_index blocking public.whole",
                "postgres.target_unfit warning public.part",
                "postgres.column_unfit blocking public.ids.id",
            ])
        #expect(found.contains { $0.message.contains("is a view") })
        // What PostgreSQL does not allow is not advised.
        let whole = found.first { $0.subject == "public.whole" }
        #expect(statements(in: whole?.hint) == "" && whole?.hint?.contains("partitioned") == true)
        await sink.close()
    }

    @Test func whatTheSourceDoesNotHaveIsFound() async throws {
        let database = try await TestDatabase()
        for (columns, tables, code) in [
            (["id", "w"], ["items"], "values.unknown_column"),
            (["v"], ["items"], "postgres.key_not_chosen"),
            (["id", "w"], ["items", "others"], "values.unknown_column"),
        ] {
            let sink = try SinkHarness(database).sink(
                [
                    "table": .string("public.{table}"),
                    "columns": .columns(columns.map { ColumnChoice(output: $0, source: $0) }),
                ], tables: tables.map { "public.\($0)" })
            _ = try? await sink.open(at: nil)
            let schemas = tables.map { name in
                TableSchema(
                    version: 1, database: "shop", schema: "public", name: name,
                    columns: Self.plain.columns, key: [0])
            }
            let found = try await sink.check(schemas)
            #expect(found.map(\.code.name) == [code] && found.first?.severity == .blocking)
            await sink.close()
            try database.run("DROP TABLE weir_position")
        }
    }

    // MARK: Rights

    /// Each is waited for, and over once what the hint says was run.
    @Test(arguments: [
        "CREATE TABLE items (id int PRIMARY KEY, v text)",
        "CREATE TABLE items (id int PRIMARY KEY, v text); GRANT SELECT, UPDATE ON items TO ROLE",
        "CREATE TABLE items (id int PRIMARY KEY, v text); GRANT ALL ON items TO ROLE; "
            + "ALTER TABLE items ENABLE ROW LEVEL SECURITY",
        "CREATE TABLE items (id int PRIMARY KEY, v text); ALTER TABLE items OWNER TO ROLE; "
            + "ALTER TABLE items ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY",
        "CREATE TABLE items (id int PRIMARY KEY); GRANT ALL ON items TO ROLE",
        "CREATE TABLE items (id int PRIMARY KEY, v text); ALTER TABLE items OWNER TO ROLE; "
            + "REVOKE TEMPORARY ON DATABASE THIS FROM PUBLIC",
        "REVOKE CREATE ON SCHEMA public FROM ROLE",
        "CREATE SCHEMA other",
        "",
    ])
    func missingRightsAreNamedAndWaitedFor(sql: String) async throws {
        let database = try await TestDatabase()
        let role = "clerk_\(database.name)"
        let fill = { (sql: String) in
            sql.replacing("ROLE;", with: "\(role);").replacing("TO ROLE", with: "TO \(role)")
                .replacing("FROM ROLE", with: "FROM \(role)").replacing("THIS", with: database.name)
        }
        try database.run(
            "CREATE ROLE \(role) LOGIN; GRANT CREATE, USAGE ON SCHEMA public TO \(role)")
        let harness = SinkHarness(database)
        let other = sql.isEmpty || sql == "CREATE SCHEMA other"
        let sink = try harness.sink(
            ["on_new_column": .string("add"), "table": .string(other ? "other.items" : "items")],
            user: role)
        _ = try await sink.open(at: nil)
        if !sql.isEmpty { try database.run(fill(sql)) }
        let error = await #expect(throws: WeirError.self) {
            _ = try await sink.check([Self.plain])
        }
        #expect(error?.code == .permission && error?.disposition == .transient)
        #expect(
            error?.hint?.contains(role) == true || error?.hint?.contains("NO FORCE") == true,
            "\(error?.hint ?? "")")
        try database.run(statements(in: error?.hint))
        #expect(try await sink.check([Self.plain]) == [])
        // All ways of writing: one by one, as sets, and gone again.
        let rows = (0..<60).map { [Field("\($0)"), "x"] }
        try await sink.write([.insert([99, "y"])], of: Self.plain, commit: 16)
        try await sink.write(rows.map { .insert($0) }, of: Self.plain, commit: 32)
        try await sink.write(rows.map { .update($0) }, of: Self.plain, commit: 48)
        try await sink.write(rows.map { .delete($0) } + [.truncate], of: Self.plain, commit: 64)
        let table = other ? "other.items" : "items"
        #expect(try database.run("SELECT count(*) FROM \(table)") == "0")
        await sink.close()
        try database.run("DROP OWNED BY \(role); DROP ROLE \(role)")
    }

    /// The error of the write itself has the command, not only that of the next start.
    @Test func aRightWithdrawnWhileRunningIsNamedAtOnce() async throws {
        let database = try await TestDatabase()
        let role = "clerk_\(database.name)"
        try database.run(
            "CREATE ROLE \(role) LOGIN; GRANT CREATE, USAGE ON SCHEMA public TO \(role); "
                + "CREATE TABLE items (id int PRIMARY KEY, v text); GRANT ALL ON items TO \(role)")
        let sink = try SinkHarness(database).sink(user: role)
        _ = try await sink.open(at: nil)
        #expect(try await sink.check([Self.plain]) == [])
        try await sink.write([.insert([1, "a"])], of: Self.plain, commit: 16)
        try database.run("REVOKE INSERT ON items FROM \(role)")
        let error = await #expect(throws: WeirError.self) {
            try await sink.write([.insert([2, "b"])], of: Self.plain, commit: 32)
        }
        #expect(error?.code == .permission && error?.disposition == .transient)
        #expect(
            statements(in: error?.hint)
                == "GRANT INSERT ON \"public\".\"items\" TO \"\(role)\";", "\(error as Any)")
        try database.run(statements(in: error?.hint))
        try await sink.write([.insert([2, "b"])], of: Self.plain, commit: 32)
        #expect(try database.run("SELECT count(*) FROM items") == "2")
        await sink.close()
        try database.run("DROP OWNED BY \(role); DROP ROLE \(role)")
    }

    @Test func theRightsOfThePositionTableAreNamedOneStepAtATime() async throws {
        let database = try await TestDatabase("REVOKE ALL ON SCHEMA public FROM PUBLIC")
        let role = "clerk_\(database.name)"
        try database.run("CREATE ROLE \(role) LOGIN")
        let sink = try SinkHarness(database).sink(user: role)
        let first = await #expect(throws: WeirError.self) { _ = try await sink.open(at: nil) }
        #expect(first?.code == .permission && first?.disposition == .transient)
        #expect(
            statements(in: first?.hint)
                == "GRANT USAGE, CREATE ON SCHEMA \"public\" TO \"\(role)\";")
        // One that an administrator made beforehand is taken.
        try database.run(
            """
            GRANT USAGE ON SCHEMA public TO \(role);
            CREATE TABLE weir_position (pipeline text, sink text, source text NOT NULL,
                epoch bigint NOT NULL, position text NOT NULL, targets text[] NOT NULL DEFAULT '{}',
                updated timestamptz NOT NULL DEFAULT now(), PRIMARY KEY (pipeline, sink));
            """)
        let second = await #expect(throws: WeirError.self) { _ = try await sink.open(at: nil) }
        #expect(second?.hint?.contains("GRANT SELECT, INSERT, UPDATE, DELETE ON") == true)
        try database.run(statements(in: second?.hint))
        #expect(try await sink.open(at: nil) == SinkMark("100 "))
        #expect(try await sink.cleanUp().count == 1)
        await sink.close()
        try database.run("DROP OWNED BY \(role); DROP ROLE \(role)")
    }
}
