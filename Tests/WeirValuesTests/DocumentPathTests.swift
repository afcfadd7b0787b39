import Testing
import WeirCore
import WeirJSON
import WeirTesting
import WeirValues

private let id = [UInt8](0x10..<0x1C)
private let article: [UInt8] = bson([
    ("_id", .objectId(id)), ("title", "A \"b\""),
    ("name", .document([("en", "word"), ("my", "စကား"), ("", "nameless")])),
    ("variants", .array([.document([("stock", 7)]), .document([("stock", .int64(8))])])),
    ("price", .double(1.5)), ("sold", .bool(true)), ("gone", .null), ("at", .date(1_000)),
])

/// Paths into documents, and their values as plain text and as JSON.
struct DocumentPathTests {
    // MARK: References

    @Test func everyTextButOneIsAPathInTheDocument() throws {
        let whole = try #require(FieldPath("$")?.resolve(in: .articles))
        #expect(whole.isWholeColumn && whole.column == 0)
        for text in ["_id", "name.en", "variants.0.stock", "$x", "a..b", "."] {
            let path = try #require(FieldPath(text)?.resolve(in: .articles))
            #expect(!path.isWholeColumn && path.column == 0)
        }
    }

    /// MongoDB 5.0 stores names with dots, beside members that a path of that text leads to.
    @Test(arguments: [
        ("price.usd", "7"), (#""price.usd""#, "5"), (#"totals."net.eur""#, "3"),
        (#"totals."net.eur".x"#, nil), (#""a""b""#, "quote"), (#"a"b"#, "quote"),
    ])
    func aNameThatHoldsADotStandsInQuotes(path: String, text: String?) throws {
        let document = bson([
            ("price.usd", .int32(5)), ("price", .document([("usd", .int32(7))])),
            ("totals", .document([("net.eur", .int32(3))])), (#"a"b"#, "quote"),
        ])
        let found = try #require(rendered(path, .document(document)))
        #expect((found.outcome == .written ? found.text : nil) == text)
    }

    @Test(arguments: [#"""#, #""a"#, #""a"b"#, #"x."a"#, ""])
    func aQuoteThatIsNotClosedIsNoPath(text: String) throws {
        #expect(FieldPath(text) == nil)
        if !text.isEmpty {
            #expect(throws: ConfigIssue.self) { try KeyTemplate("k:{\(text)}") }
            #expect(throws: ConfigIssue.self) {
                try [ColumnChoice(output: "a", source: text)].checkPaths()
            }
        }
    }

    @Test func aColumnWithADotIsFoundWithAndWithoutQuotes() throws {
        let table = TableSchema.test(
            [("a.b", .text), ("a", .jsonb), ("m.n", .jsonb)], key: [0])
        func place(_ text: String) -> FieldReference? { FieldPath(text)?.resolve(in: table) }
        #expect(place("a.b")?.column == 0 && place(#""a.b""#)?.column == 0)
        #expect(place("a.c")?.column == 1)
        #expect(place(#""m.n".x"#) == place("m.n.x") && place("m.n.x")?.column == 2)
        #expect(place(#""m.n".x"#) != place(#"m."n.x""#) || place(#"m."n.x""#) == nil)
    }

    @Test func aPlaceIsTheSameHoweverItIsShown() throws {
        let path = try #require(FieldPath("_id.region")?.resolve(in: .articles))
        let plain = try #require(
            FieldPath("_id.region")?.resolve(
                in: .articles, options: ValueOptions(documents: .plain)))
        let other = try #require(FieldPath("_id")?.resolve(in: .articles))
        #expect(path == path && path != path.asJSON() && path != plain && path != other)
        #expect(path.isSamePlace(as: path.asJSON()) && path.isSamePlace(as: plain))
        #expect(!path.isSamePlace(as: other))
    }

    @Test(arguments: [
        ("_id", true), ("_id.region", true), ("$", false), ("id", false), ("a._id", false),
    ])
    func theKeyOfADocumentIsItsId(text: String, isWithinKey: Bool) throws {
        let path = try #require(FieldPath(text)?.resolve(in: .articles))
        #expect(path.isWithinKey(of: .articles) == isWithinKey)
        let key = try KeyTemplate("article:{\(text)}").compile(for: .articles)
        #expect(key.columnsAreWithinKey == isWithinKey)
    }

    @Test func keyReferencesNameWhatTellsRowsApart() throws {
        let path = try #require(FieldPath("_id")?.resolve(in: .articles))
        #expect(TableSchema.articles.keyReferences == [path])
        let table = TableSchema.test([("a", .int8), ("b", .text), ("c", .jsonb)], key: [2, 0])
        #expect(table.keyReferences.map(\.column) == [2, 0])
        #expect(table.keyReferences.filter(\.isWholeColumn).count == 2)
        let inside = try #require(FieldPath("c.x")?.resolve(in: table))
        #expect(inside.isWithinKey(of: table))
        #expect(try KeyTemplate("{b}").compile(for: table).columnsAreWithinKey == false)
    }

    // MARK: Plain text

    @Test(arguments: [
        ("_id", "101112131415161718191a1b"), ("title", "A \"b\""), ("name.my", "စကား"),
        ("name.", "nameless"), ("variants.1.stock", "8"), ("price", "1.5"), ("sold", "true"),
        ("at", "1970-01-01T00:00:01.000Z"), ("variants.0", #"{"stock":7}"#),
        // An array where a single value was expected.
        ("variants", #"[{"stock":7},{"stock":8}]"#),
    ])
    func aValueAtAPathIsPlainText(path: String, text: String) throws {
        let found = try #require(rendered(path, .document(article)))
        #expect(found.outcome == .written)
        #expect(found.text == text)
    }

    @Test(arguments: [
        "none", "name.none", "variants.2", "variants.00",
        // Through a text, a number, null, and an array without an index.
        "title.x", "title.0", "price.x", "gone.x", "variants.stock", "variants.x",
    ])
    func aPathThatLeadsToNothingIsAbsent(path: String) throws {
        let found = try #require(rendered(path, .document(article)))
        #expect(found.outcome == .absent && found.text == "")
    }

    @Test func nullIsNull() throws {
        let found = try #require(rendered("gone", .document(article)))
        #expect(found.outcome == .null && found.text == "")
        #expect(rendered("gone", .document(article), asJSON: true)?.outcome == .null)
        #expect(rendered("gone", nil)?.outcome == .null)
        #expect(rendered("gone", .unchanged)?.outcome == .unchanged)
    }

    /// Invariant 6: what a key lacks was not sent.
    @Test func whatAKeyLacksIsUnchanged() throws {
        let key = Cell.documentKey(bson([("_id", .document([("region", "eu")]))]))
        let found = try #require(rendered("_id.region", key))
        #expect(found.outcome == .written && found.text == "eu")
        #expect(rendered("title", key)?.outcome == .unchanged)
        #expect(rendered("_id.city", key)?.outcome == .unchanged)
        #expect(rendered("$", key)?.text == #"{"_id":{"region":"eu"}}"#)
    }

    @Test(arguments: [
        (DocumentMode.relaxed, #"{"n":1,"m":{"$oid":"101112131415161718191a1b"}}"#),
        (.canonical, #"{"n":{"$numberInt":"1"},"m":{"$oid":"101112131415161718191a1b"}}"#),
        (.plain, #"{"n":1,"m":"101112131415161718191a1b"}"#),
    ])
    func aWholeDocumentIsJSONInTheMode(mode: DocumentMode, text: String) throws {
        let members: [(String, DocumentValue)] = [("n", 1), ("m", .objectId(id))]
        let document = Cell.document(bson([("doc", .document(members))]))
        for asJSON in [false, true] {
            #expect(rendered("doc", document, asJSON: asJSON, mode: mode)?.text == text)
            #expect(
                rendered("$", document, asJSON: asJSON, mode: mode)?.text
                    == #"{"doc":\#(text)}"#)
        }
    }

    @Test func bytesThatAreNoDocumentAreShownWhole() {
        let broken = Cell.document([5, 0, 0, 0, 1])
        #expect(rendered("$", broken)?.text == #""\\x0500000001""#)
        #expect(rendered("title", broken)?.outcome == .absent)
    }

    // MARK: JSON text

    @Test(arguments: [
        ("title", #""A \"b\"""#), ("price", "1.5"), ("sold", "true"), ("variants.0.stock", "7"),
        ("_id", #"{"$oid":"101112131415161718191a1b"}"#), ("name.my", #""စကား""#),
    ])
    func asJSONStringsHaveQuotes(path: String, text: String) throws {
        let found = try #require(rendered(path, .document(article), asJSON: true))
        #expect(found.outcome == .written)
        #expect(found.text == text)
    }

    @Test(arguments: [
        (ColumnType.jsonb, "c.a", #"{"a": "x\ty"}"#, #""x\ty""#),
        (.jsonb, "c.a", #"{"a":[1]}"#, "[1]"),
        (.jsonb, "c", #" "x" "#, #" "x" "#), (.text, "c", "a\"b", #""a\"b""#),
        (.bool, "c", "t", "true"),
        (.timestamp, "c", "2026-01-31 09:00:00", #""2026-01-31T09:00:00""#),
        (.array(.text), "c", "{a,NULL}", #"["a",null]"#), (.int8, "c", "7", "7"),
        (.array(.text), "c", "{a", #""{a""#),
    ])
    func asJSONWorksForColumnsToo(
        type: ColumnType, path: String, value: String, text: String
    ) throws {
        let schema = TableSchema.test([("c", type)])
        let found = try #require(rendered(path, .text(value), in: schema, asJSON: true))
        #expect(found.outcome == .written)
        #expect(found.text == text)
    }

    @Test func asJSONNullIsNoTextAndBytesAreAString() {
        let schema = TableSchema.test([("c", .jsonb)])
        #expect(rendered("c.a", #"{"a":null}"#, in: schema, asJSON: true)?.outcome == .null)
        #expect(rendered("c.b", #"{"a":null}"#, in: schema, asJSON: true)?.outcome == .absent)
        #expect(rendered("c", nil, in: schema, asJSON: true)?.outcome == .null)
        #expect(rendered("c", .binary([0xFF]), in: schema, asJSON: true)?.text == #""\\xff""#)
    }

    // MARK: Keys

    private func keyBytes(
        _ path: String, _ cell: Cell, in schema: TableSchema = .articles
    ) throws -> (type: UInt8, bytes: [UInt8])? {
        let reference = try #require(FieldPath(path)?.resolve(in: schema))
        var batch = TestBatch()
        let place = Int(batch.append([cell]).start)
        return batch.seal().withView { view in
            unsafe view.keyBytes(of: reference, valueAt: place).map { found in
                unsafe (found.type, Array(found.bytes))
            }
        }
    }

    @Test func keyBytesAreWhatThePathLeadsTo() throws {
        let key = bson([("_id", .objectId(id))])
        for cell in [Cell.document(article), .document(key), .documentKey(key)] {
            let found = try #require(try keyBytes("_id", cell))
            #expect(found.type == 0x07 && found.bytes == id)
        }
        let whole = try #require(try keyBytes("$", .document(key)))
        #expect(whole.type == 0 && whole.bytes == key)
        // Not even null and an empty text are one key.
        let null = try #require(try keyBytes("_id", .document(bson([("_id", .null)]))))
        #expect(null.type == 0x0A && null.bytes.isEmpty)
        #expect(try keyBytes("_id", .document(bson([]))) == nil)
    }

    @Test func keyBytesOfAColumnAreItsOwn() throws {
        let schema = TableSchema.test([("c", .jsonb)])
        #expect(try keyBytes("c", "7", in: schema)?.bytes == Array("7".utf8))
        #expect(try keyBytes("c.a", #"{"a": "x"}"#, in: schema)?.bytes == Array("\"x\"".utf8))
        #expect(try keyBytes("c", .binary([1]), in: schema)?.bytes == [1])
        for cell in [Cell.null, .unchanged] { #expect(try keyBytes("c", cell, in: schema) == nil) }
        #expect(try keyBytes("c.b", #"{"a": null}"#, in: schema) == nil)
        #expect(try keyBytes("c.a", #"{"a": null}"#, in: schema) == nil)
    }

    @Test func aTemplateMakesKeysOfDocuments() throws {
        let template = try KeyTemplate("article:{_id}:{name.en}")
        let rows: [[Cell]] = [
            [.document(article)],
            [.document(bson([("_id", 7), ("name", .document([("en", "a:b")]))]))],
            [.document(bson([("_id", 7)]))], [.documentKey(bson([("_id", 7)]))],
        ]
        let found = try keys(template, .articles, rows).map { key in
            key.map { String(decoding: $0, as: UTF8.self) }
        }
        #expect(
            found == [
                "article:101112131415161718191a1b:word", "article:7:a%3Ab", nil, nil,
            ])
    }
}
