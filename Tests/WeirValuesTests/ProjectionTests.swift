import Testing
import WeirCore
import WeirJSON
import WeirTesting
import WeirValues

private let orders = TableName(schema: "public", name: "orders")
private let row: [Cell] = ["7", "a", "1.50", nil]

struct ProjectionTests {
    @Test func routingDecidesPerTableAndOperation() throws {
        let other = TableSchema.test([("id", .int8)], name: "other", version: 2)
        var batch = TestBatch()
        batch.add(.insert, after: row)
        batch.add(.insert, other, after: ["1"])
        batch.add(.update, after: row)
        batch.add(.insert, after: row)
        let routing = Routing(tables: [orders], operations: [.insert])
        let sealed = batch.seal()
        #expect(try lines(.row, sealed, routing: routing).count == 2)
        #expect(try lines(.row, sealed).count == 4)
        #expect(try lines(.weir, sealed, routing: Routing(operations: [.delete])).isEmpty)
    }

    @Test func chosenColumnsAreRenamedAndOrderedButKeysAreNot() throws {
        let columns = [
            ColumnChoice(output: "sum", source: "total"),
            ColumnChoice(output: "again", source: "total"),
            ColumnChoice(output: "text", source: "note"),
        ]
        let line = try lines(
            .weir,
            .update,
            flags: Event.keyChanged,
            before: ["6", "a", "2", nil],
            after: ["7", .unchanged, "1.50", nil],
            columns: columns
        )[0]
        #expect(
            line.contains(
                #""key":{"id":7},"old_key":{"id":6},"after":{"sum":1.50,"again":1.50},"#
                    + #""before":{"sum":2,"again":2,"text":"a"},"changed":["sum","again"],"#
                    + #""unchanged":["text"],"pos""#
            )
        )
    }

    @Test func aKeyThatIsNotShownIsReportedByItsOwnName() throws {
        let schema = TableSchema.test([("id", .opaque), ("note", .text)])
        let line = try lines(
            .weir,
            .insert,
            schema,
            after: [.binary([0xFF]), "a"],
            columns: [ColumnChoice(output: "n", source: "note")]
        )[0]
        #expect(
            line.contains(
                #""key":{"id":"\\xff"},"after":{"n":"a"},"binary":["id"],"#
                    + #""types":{"id":"public.geometry"},"pos""#
            )
        )
    }

    @Test func aKeyThatIsShownIsReportedOnceByItsShownName() throws {
        let schema = TableSchema.test([("id", .array(.numeric)), ("note", .text)])
        let line = try lines(
            .weir,
            .insert,
            schema,
            after: ["{", "a"],
            columns: [ColumnChoice(output: "n", source: "id")]
        )[0]
        #expect(
            line.contains(#""key":{"id":"{"},"after":{"n":"{"},"types":{"n":"_numeric"},"pos""#)
        )
    }

    @Test func aBeforeWithNothingChosenIsLeftOut() throws {
        let line = try lines(
            .weir,
            .delete,
            flags: Event.beforeIsKey,
            before: ["7", .unchanged, .unchanged, .unchanged],
            columns: [ColumnChoice(output: "n", source: "note")]
        )[0]
        #expect(line.contains(#""key":{"id":7},"pos""#))
    }

    @Test func aMissingColumnStopsASinkOfOneTable() throws {
        let columns = [ColumnChoice(output: "note", source: "Notes")]
        var batch = TestBatch()
        batch.add(.insert, after: row)
        let sealed = batch.seal()
        var encoder = LineEncoder(
            format: .weir,
            sourceKind: "postgres",
            sourceName: "shop", notation: .numbers,
            routing: Routing(tables: [orders]),
            columns: columns
        )
        var writer = JSONWriter()
        do {
            _ = try encoder.encode(sealed, into: &writer)
            Issue.record("no error")
        } catch {
            #expect(error.code == .unknownColumn)
            #expect(error.disposition == .blocked)
            #expect(
                error.message == #"column "Notes" does not exist in table "public.orders""#
            )
            #expect(error.hint == #"Did you mean "note"?"#)
        }
        let text = writer.text
        #expect(text.isEmpty)
    }

    @Test func aColumnOfAnotherVersionIsFoundOrLeftOutAndNoMistake() throws {
        let text = ColumnType(.text, name: "text")
        let json = ColumnType(.json, name: "jsonb")
        let schema = TableSchema(
            version: 1, database: "d", schema: "public", name: "orders",
            columns: [
                Column(name: "title", type: text, otherNames: ["name"]),
                Column(name: "name.old", type: text),
                Column(name: "tags", type: json, otherNames: ["attributes"]),
            ], key: [0], otherColumns: ["gone"])
        func found(_ path: String) -> Int? { FieldPath(path)?.resolve(in: schema)?.column }
        #expect(found("name") == 0 && found("title") == 0 && found("name.old") == 1)
        #expect(found("attributes.color") == 2 && found("gone") == nil)
        let names = ["title", "name", "gone", "gone.x", "nowhere"]
        let paths = names.compactMap { FieldPath($0) }
        let findings = schema.findings(naming: paths, under: "columns")
        #expect(
            findings.map(\.subject) == [
                "public.orders name", "public.orders gone", "public.orders gone.x",
            ])
        #expect(findings.map(\.code) == [.columnRenamed, .columnGone, .columnGone])
        let routing = Routing(tables: [orders])
        let chosen = ["name", "gone"].map { ColumnChoice(output: $0, source: $0) }
        let projection = try Projection(schema, routing: routing, columns: chosen)
        #expect(projection.fields.map(\.column) == [0])
        #expect(throws: WeirError.self) {
            try Projection(
                schema, routing: Routing(),
                columns: [ColumnChoice(output: "x", source: "nowhere")], isOnlyTable: true)
        }
    }

    @Test func aMissingColumnIsLeftOutOfTheTablesThatLackIt() throws {
        let columns = [
            ColumnChoice(output: "id", source: "id"), ColumnChoice(output: "x", source: "x"),
        ]
        var batch = TestBatch()
        batch.add(.insert, after: row)
        batch.add(.message, .messages(version: 8, database: "shop"), after: ["p", "c"])
        let sealed = batch.seal()
        let both = Routing(tables: [orders, TableName(schema: "public", name: "x")])
        #expect(try lines(.row, sealed, routing: both, columns: columns) == [#"{"id":7}"#])
        #expect(try lines(.row, sealed, columns: columns) == [#"{"id":7}"#])
        // Another table than the one that is named: nothing is taken, so nothing is missing.
        let one = Routing(
            tables: [TableName(schema: "public", name: "x")],
            operations: [.insert, .message]
        )
        #expect(try lines(.weir, sealed, routing: one, columns: columns).count == 1)
    }

    @Test func aVersionThatMeansAnotherTableIsCompiledAnew() throws {
        var encoder = LineEncoder(
            format: .row,
            sourceKind: "postgres",
            sourceName: "shop", notation: .numbers,
            routing: Routing()
        )
        var writer = JSONWriter()
        for name in ["a", "b", "a"] {
            var batch = TestBatch()
            batch.add(.insert, .test([(name, .int4)], name: name), after: ["1"])
            _ = try encoder.encode(batch.seal(), into: &writer)
        }
        let text = writer.text
        #expect(text == "{\"a\":1}\n{\"b\":1}\n{\"a\":1}\n")
    }

    @Test func anEventThatDoesNotFitItsTableIsABugAndLeavesNothing() throws {
        var batch = TestBatch()
        batch.add(.insert, after: row)
        batch.add(.insert, after: ["1"])
        let sealed = batch.seal()
        var encoder = LineEncoder(
            format: .weir,
            sourceKind: "postgres",
            sourceName: "shop", notation: .numbers,
            routing: Routing()
        )
        var writer = JSONWriter()
        writer.append("kept")
        do {
            _ = try encoder.encode(sealed, into: &writer)
            Issue.record("no error")
        } catch {
            #expect(error.disposition == .bug)
        }
        let text = writer.text
        #expect(text == "kept")
    }

    @Test func codesAreListedOnce() {
        #expect(
            ErrorCode.values.map(\.name) == [
                "values.unknown_column", "values.column_renamed", "values.column_gone",
            ])
    }
}
