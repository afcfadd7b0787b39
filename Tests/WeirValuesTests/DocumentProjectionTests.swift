import Testing
import WeirCore
import WeirJSON
import WeirTesting
import WeirValues

private let article: [UInt8] = bson([
    ("_id", 7), ("title", "a"), ("name", .document([("en", "word")])), ("gone", .null),
    ("tags", .array(["x", .int64(1 << 60)])),
])
private func choice(_ output: String, _ source: String) -> ColumnChoice {
    ColumnChoice(output: output, source: source)
}

/// Paths among the columns of a sink, and rows that are documents.
struct DocumentProjectionTests {
    @Test func withoutAChoiceARowIsTheDocumentItself() throws {
        let line = try documentLines(.row, .insert, after: .document(article))
        #expect(
            line == [
                #"{"_id":7,"title":"a","name":{"en":"word"},"gone":null,"tags":["x",1152921504606846976]}"#
            ])
        #expect(try documentLines(.row, .insert, after: .document(bson([]))) == ["{}"])
    }

    @Test func chosenPathsAreMembers() throws {
        let columns = [
            choice("id", "_id"), choice("en", "name.en"), choice("first", "tags.0"),
            choice("name", "name"), choice("none", "name.my"), choice("gone", "gone"),
        ]
        #expect(
            try documentLines(.row, .insert, after: .document(article), columns: columns)
                == [#"{"id":7,"en":"word","first":"x","name":{"en":"word"},"gone":null}"#])
        // The first may be missing too, or all.
        #expect(
            try documentLines(
                .row, .insert, after: .document(bson([("gone", 1)])), columns: columns)
                == [#"{"gone":1}"#])
        #expect(
            try documentLines(.row, .insert, after: .document(bson([])), columns: columns)
                == ["{}"])
    }

    @Test func theWholeDocumentCanBeOneMember() throws {
        let document = Cell.document(bson([("_id", .int64(7))]))
        let columns = [choice("id", "_id"), choice("doc", "$")]
        #expect(
            try documentLines(.row, .insert, after: document, columns: columns)
                == [#"{"id":7,"doc":{"_id":7}}"#])
        #expect(
            try documentLines(.row, .insert, after: document, columns: columns, mode: .canonical)
                == [#"{"id":{"$numberLong":"7"},"doc":{"_id":{"$numberLong":"7"}}}"#])
        #expect(
            try documentLines(.row, .insert, after: document, columns: [choice("$", "$")])
                == [#"{"$":{"_id":7}}"#])
    }

    @Test func noPathIsUnknownInACollection() throws {
        let routing = Routing(tables: [TableName(schema: "cms", name: "articles")])
        let projection = try Projection(
            .articles, routing: routing, columns: [choice("x", "no.such")])
        #expect(projection.fields.count == 1)
    }

    @Test func aFieldsReferenceLeadsToItsValue() throws {
        let columns = [choice("id", "_id"), choice("doc", "$")]
        let options = ValueOptions(documents: .plain)
        let projection = try Projection(
            .articles, routing: Routing(), columns: columns, options: options)
        let found = projection.fields.map { projection.reference(of: $0) }
        #expect(
            found
                == ["_id", "$"].compactMap {
                    FieldPath($0)?.resolve(in: .articles, options: options)
                })
        #expect(
            projection.fields.map { projection.plainName(of: $0) }
                == [Array("id".utf8), Array("doc".utf8)])
    }

    // MARK: Tables

    private static let products = TableSchema.test([
        ("id", .int8), ("attributes", .jsonb), ("a.b", .text),
    ])
    private static let columns = [
        choice("color", "attributes.color"), choice("first", "attributes.sizes.0"),
        choice("dotted", "a.b"),
    ]

    @Test func aPathInAJSONColumnIsAMember() throws {
        let after: [Cell] = ["7", #"{"color": "r\"ed", "sizes": [{"w":1}]}"#, "x"]
        #expect(
            try lines(.row, .insert, Self.products, after: after, columns: Self.columns)
                == [#"{"color":"r\"ed","first":{"w":1},"dotted":"x"}"#])
        // Line breaks inside of it do not end the line; null is null, and nothing is nothing.
        let broken: [Cell] = ["7", "{\"color\": null, \"sizes\": [[1,\n2]]}", nil]
        #expect(
            try lines(.row, .insert, Self.products, after: broken, columns: Self.columns)
                == [#"{"color":null,"first":[1, 2],"dotted":null}"#])
        for empty: Cell in ["{}", "7", nil] {
            #expect(
                try lines(
                    .row, .insert, Self.products, after: ["7", empty, "x"],
                    columns: Self.columns) == [#"{"dotted":"x"}"#])
        }
    }

    @Test func aPathOfAColumnThatWasNotSentIsUnchanged() throws {
        let after: [Cell] = ["7", .unchanged, "x"]
        let line = try lines(
            .weir, .update, Self.products, after: after, columns: Self.columns)[0]
        #expect(
            line.contains(#""after":{"dotted":"x"},"unchanged":["color","first"],"pos""#))
    }

    @Test func onlyAPathWhoseValueDiffersHasChanged() throws {
        let line = try lines(
            .weir, .update, Self.products,
            before: ["7", #"{"color": "red", "sizes": [1]}"#, "x"],
            after: ["7", #"{"sizes":[1,2],"color":"blue"}"#, "x"], columns: Self.columns)[0]
        #expect(line.contains(#""changed":["color"],"pos""#))
        let gone = try lines(
            .weir, .update, Self.products, before: ["7", #"{"color": null}"#, "x"],
            after: ["7", #"{"sizes":["1"]}"#, "x"], columns: Self.columns)[0]
        #expect(gone.contains(#""changed":["color","first"],"pos""#))
    }

    @Test func aKeyWhoseInsideIsShownKeepsItsOwnName() throws {
        let schema = TableSchema.test([("k", .jsonb), ("v", .text)])
        let line = try lines(
            .weir, .insert, schema, after: [.binary([0xFF]), "x"], columns: [choice("a", "k.a")])[0]
        #expect(
            line.contains(
                #""key":{"k":"\\xff"},"after":{"a":"\\xff"},"binary":["a","k"],"pos""#))
    }

    @Test func anUnknownColumnStaysAnError() throws {
        let routing = Routing(tables: [TableName(schema: "public", name: "orders")])
        for name in ["attribute.color", "a.b.c", "id.x", ""] {
            #expect(throws: WeirError.self) {
                try Projection(Self.products, routing: routing, columns: [choice("x", name)])
            }
        }
    }
}
