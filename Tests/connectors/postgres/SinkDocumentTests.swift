import Testing
import WeirCore
import WeirPostgresClient
import WeirTesting

@testable import WeirPostgresSink

/// Documents of collections in tables: which columns there are, and what a write leaves in them.
struct SinkDocumentTests {
    private static let articles = TableSchema.collection(
        version: 51, database: "cms", name: "articles")
    private static let tables = ["cms.articles"]

    private static func columns(_ choices: KeyValuePairs<String, String>) -> ConfigValue {
        .columns(choices.map { ColumnChoice(output: $0, source: $1) })
    }

    private func open(
        _ database: TestDatabase, write: String = "table",
        _ columns: KeyValuePairs<String, String>? = nil, _ more: [String: ConfigValue] = [:],
        at mark: SinkMark? = nil
    ) async throws -> PostgresSink {
        var more = more
        more["table"] = more["table"] ?? .string("articles")
        if let columns { more["columns"] = Self.columns(columns) }
        let sink = try SinkHarness(database).sink(
            write: write, more, tables: Self.tables, notation: .tokens)
        _ = try await sink.open(at: mark)
        return sink
    }

    private static func definition(_ database: TestDatabase) throws -> String {
        try database.run(
            """
            SELECT string_agg(column_name || ' ' || data_type, ', ' ORDER BY ordinal_position)
            FROM information_schema.columns WHERE table_name = 'articles'
            """)
    }

    // MARK: The whole document

    /// The same changes one by one, as sets, and in many sets end the same.
    @Test(arguments: [1, 49, 3000] as [Int32])
    func aCollectionIsItsIdsAndDocuments(count: Int32) async throws {
        let database = try await TestDatabase()
        let sink = try await open(database)
        func document(_ number: Int32, _ text: DocumentValue) -> DocumentValue {
            .document([
                "_id": .int32(number), "t": text, "n": .array([1, .document(["x": .null])]),
            ])
        }
        let inserted = try await sink.write(
            (0..<count).map { .insert(document($0, "a")) }, of: Self.articles, time: 16)
        #expect(inserted.delivered == Int(count) && inserted.late == 0)
        #expect(try Self.definition(database) == "_id text, document jsonb")
        #expect(
            try database.run("SELECT document FROM articles WHERE _id = '0'")
                == #"{"n": [1, {"x": null}], "t": "a", "_id": 0}"#)
        let updates = (0..<count).map {
            DocumentChange.update(document($0, "b"), flags: $0 % 2 == 0 ? Event.late : 0)
        }
        let updated = try await sink.write(updates, of: Self.articles, time: 32)
        #expect(updated.delivered == Int(count) && updated.late == Int(count + 1) / 2)
        #expect(
            try database.run("SELECT count(*) FROM articles WHERE document->>'t' = 'b'")
                == "\(count)")
        // A document that is gone already: its delete is what counts.
        let gone = try await sink.write(
            (0..<count).map { .gone(id: .int32($0)) } + [.insert(document(-1, "c"))],
            of: Self.articles, time: 48)
        #expect(gone.delivered == 1 && gone.filtered == Int(count))
        #expect(try database.run("SELECT count(*) FROM articles") == "\(count + 1)")
        // With the key alone, and with the document that was.
        let deletes = (0..<count).map {
            DocumentChange.delete(id: .int32($0), image: $0 % 2 == 0 ? document($0, "b") : nil)
        }
        try await sink.write(deletes, of: Self.articles, time: 64)
        let left = try database.run("SELECT string_agg(_id, ' ') FROM articles")
        #expect(left == "-1")
        // What comes again is known by its token.
        let again = try await sink.write(deletes, of: Self.articles, time: 32)
        #expect(again.delivered == 0 && again.filtered == Int(count))
        #expect(
            try database.run("SELECT position FROM weir_position")
                == Position(token: DocumentBatch.token(64, Int(count) - 1) + "+").text)
        await sink.close()
    }

    /// Until 2026-12-01 a position of a change stream was kept as its resume token.
    @Test func aPositionOfTheVersionBeforeIsGoneOnFrom() async throws {
        let database = try await TestDatabase()
        let first = try await open(database)
        let document = DocumentValue.document(["_id": .int32(1)])
        try await first.write([.insert(document)], of: Self.articles, time: 16)
        await first.close()
        let token = DocumentBatch.token(16, 0) + "+"
        try database.run("UPDATE weir_position SET position = '\(token)'")
        let second = try await open(database, at: SinkMark("100 " + token))
        let again = try await second.write([.insert(document)], of: Self.articles, time: 16)
        #expect(again.delivered == 0 && again.filtered == 1)
        let next = try await second.write(
            [.insert(.document(["_id": .int32(2)]))], of: Self.articles, time: 32)
        #expect(next.delivered == 1)
        #expect(try database.run("SELECT count(*) FROM articles") == "2")
        #expect(
            try database.run("SELECT position FROM weir_position")
                == Position(token: DocumentBatch.token(32, 0) + "+").text)
        await second.close()
    }

    @Test func aCollectionThatIsDroppedIsEmptiedUnlessThatIsIgnored() async throws {
        for (choice, left) in [("apply", "1"), ("ignore", "3")] {
            let database = try await TestDatabase()
            let sink = try await open(database, nil, ["truncate": .string(choice)])
            let documents = ([1, 2, 3] as [Int32]).map {
                DocumentValue.document(["_id": .int32($0)])
            }
            try await sink.write(documents.map { .insert($0) }, of: Self.articles, time: 16)
            let outcome = try await sink.write(
                [.truncate(flags: Event.dropped), .insert(documents[0])], of: Self.articles,
                time: 32)
            #expect(outcome.filtered == (choice == "ignore" ? 1 : 0))
            #expect(try database.run("SELECT count(*) FROM articles") == left)
            await sink.close()
        }
    }

    @Test(arguments: [
        ("relaxed", #"{"d": 1.5, "i": 7, "o": {"$oid": "0102030405060708090a0b0c"}, "_id": 1}"#),
        ("plain", #"{"d": 1.5, "i": "7", "o": "0102030405060708090a0b0c", "_id": 1}"#),
        (
            "canonical",
            #"{"d": {"$numberDouble": "1.5"}, "i": {"$numberLong": "7"}, "#
                + #""o": {"$oid": "0102030405060708090a0b0c"}, "_id": {"$numberInt": "1"}}"#
        ),
    ])
    func documentsLookAsTheyAreAskedTo(mode: String, expected: String) async throws {
        let database = try await TestDatabase()
        let sink = try await open(
            database, ["all": "$", "within": "in"], ["documents": .string(mode)])
        let members: KeyValuePairs<String, DocumentValue> = [
            "_id": 1, "d": .double(1.5), "i": .int64(7), "o": .objectId(Array(1...12)),
        ]
        try await sink.write([.insert(.document(members))], of: Self.articles, time: 16)
        #expect(try database.run("SELECT all_ FROM articles AS a (_id, all_)") == expected)
        let inner = DocumentValue.document(members)
        try await sink.write(
            [.insert(.document(["_id": 2, "in": inner]))], of: Self.articles, time: 32)
        #expect(try database.run("SELECT within::jsonb FROM articles WHERE _id = '2'") == expected)
        await sink.close()
    }

    // MARK: Paths

    @Test(arguments: [1, 100] as [Int32])
    func pathsAreColumnsBehindTheId(count: Int32) async throws {
        let database = try await TestDatabase()
        let sink = try await open(
            database,
            [
                "title": "title", "body": "content.text", "stock": "variants.0.stock",
                "within": "content", "all": "$",
            ])
        let rows = (0..<count).map { number in
            DocumentChange.insert(
                .document([
                    "_id": .objectId([UInt8](repeating: 0, count: 11) + [UInt8(number)]),
                    "title": "T", "content": .document(["text": "tab\t\\ \n end"]),
                    "variants": .array([.document(["stock": .int32(number)])]),
                ]))
        }
        let others: [DocumentChange] = [
            .insert(.document(["_id": "none"])),
            .insert(.document(["_id": "nulls", "title": .null, "content": .null])),
            .insert(.document(["_id": "odd", "content": "text", "variants": .document(["0": 7])])),
        ]
        try await sink.write(rows + others, of: Self.articles, time: 16)
        #expect(
            try Self.definition(database)
                == "_id text, title text, body text, stock text, within text, all jsonb")
        let id = String(repeating: "0", count: 24)
        #expect(
            try database.run(
                "SELECT title, body, stock, within, \"all\"->>'title' FROM articles WHERE _id = '\(id)'"
            )
                == "T|tab\t\\ \n end|0|{\"text\":\"tab\\t\\\\ \\n end\"}|T")
        #expect(
            try database.run(
                """
                SELECT string_agg(concat_ws(' ', _id, coalesce(title, '-'), coalesce(body, '-'),
                    coalesce(stock, '-'), coalesce(within, '-')), ', ' ORDER BY _id)
                FROM articles WHERE length(_id) < 24
                """) == "none - - - -, nulls - - - -, odd - - - text")
        #expect(try database.run("SELECT count(*) FROM articles") == "\(count + 3)")
        await sink.close()
    }

    @Test func anIdThatIsChosenComesOnceUnderItsOwnName() async throws {
        let database = try await TestDatabase()
        let sink = try await open(database, ["title": "title", "id": "_id"])
        try await sink.write(
            [.insert(.document(["_id": 7, "title": "T"]))], of: Self.articles, time: 16)
        #expect(try Self.definition(database) == "title text, id text")
        try await sink.write([.delete(id: 7)], of: Self.articles, time: 32)
        #expect(try database.run("SELECT count(*) FROM articles") == "0")
        await sink.close()
        let other = try await open(try await TestDatabase(), ["_id": "sku"])
        await expectError(.keyNotChosen, .blocked, "leaves out the _id of \"cms.articles\"") {
            try await other.write(
                [.insert(.document(["_id": 7, "sku": "a"]))], of: Self.articles, time: 16)
        }
        await other.close()
    }

    /// As parameters and in a copy.
    @Test(arguments: [1, 60] as [Int32])
    func anExistingTargetsTypesDecideWhatIsParsed(count: Int32) async throws {
        let database = try await TestDatabase(
            """
            CREATE TABLE articles (_id int8 PRIMARY KEY, i int4, f float8, n numeric, b bool,
                at timestamptz, u uuid, t text, j jsonb, js json, s jsonb, own text DEFAULT 'own')
            """)
        let sink = try await open(
            database,
            [
                "i": "i", "f": "f", "n": "n", "b": "b", "at": "at", "u": "u", "t": "j", "j": "j",
                "js": "j", "s": "s",
            ])
        let uuid = (0..<16).map { UInt8($0 * 16) }
        let rows = (0..<count).map { number in
            DocumentChange.insert(
                .document([
                    "_id": .int64(Int64(number)), "i": .int64(-5), "f": .double(2.5),
                    "n": .decimal(12345, exponent: -2), "b": .bool(true),
                    "at": .date(1_795_226_584_123), "u": .uuid(uuid),
                    "j": .document(["k": .array(["x", .double(.nan)])]), "s": #"a "quoted" text"#,
                ]))
        }
        try await sink.write(rows, of: Self.articles, time: 16)
        let expected =
            #"0|-5|2.5|123.45|t|2026-11-21 02:03:04.123+00|00102030-4050-6070-8090-a0b0c0d0e0f0|"#
            + #"{"k":["x",{"$numberDouble":"NaN"}]}|{"k": ["x", {"$numberDouble": "NaN"}]}|"#
            + #"{"k":["x",{"$numberDouble":"NaN"}]}|"a \"quoted\" text"|own"#
        let row = try database.run("SET timezone = 'UTC'; SELECT * FROM articles WHERE _id = 0")
        #expect(row.split(separator: "\n").last.map(String.init) == expected)
        // Nothing of all this in a document is NULL, not the word null.
        try await sink.write(
            (0..<count).map { .update(.document(["_id": .int64(Int64($0))])) },
            of: Self.articles, time: 32)
        #expect(
            try database.run(
                """
                SELECT count(*) FROM articles WHERE num_nulls(i, f, n, b, at, u, t, j, js, s) = 10
                AND own = 'own'
                """) == "\(count)")
        await sink.close()
    }

    /// A path of a PostgreSQL source's JSON column is written as a document's is.
    @Test(arguments: [1, 60])
    func aTextAtAPathKeepsItsQuotesInAJSONColumn(count: Int) async throws {
        let database = try await TestDatabase(
            "CREATE TABLE items (id int PRIMARY KEY, color jsonb, word text)")
        let schema = TableSchema.test("items", version: 52, ["id int4", "doc jsonb"], key: [0])
        let sink = try SinkHarness(database).sink([
            "columns": Self.columns(["id": "id", "color": "doc.color", "word": "doc.color"])
        ])
        _ = try await sink.open(at: nil)
        let documents: [Field] = [
            #"{"color": "r\u00e9d \"x\""}"#, #"{"color": {"a": 1}}"#, #"{"color": null}"#, "{}",
            #"{"color": 7}"#,
        ]
        try await sink.write(
            (0..<(count * documents.count)).map {
                .insert([Field("\($0)"), documents[$0 % documents.count]])
            }, of: schema, commit: 16)
        #expect(
            try database.run("SELECT color, word FROM items WHERE id < 5 ORDER BY id")
                == #""réd \"x\""|réd "x""# + "\n" + #"{"a": 1}|{"a": 1}"# + "\n|\n|\n7|7")
        await sink.close()
    }

    // MARK: Refusals

    @Test(arguments: [0, 100] as [Int32])
    func aValueThatDoesNotFitIsRefusedByItsKey(before: Int32) async throws {
        let database = try await TestDatabase(
            "CREATE TABLE articles (_id text PRIMARY KEY, stock int)")
        let sink = try await open(database, ["stock": "stock"])
        let rows = (0..<before).map { DocumentChange.insert(.document(["_id": .int32($0)])) }
        let bad = DocumentValue.document([
            "_id": .objectId([UInt8](repeating: 0xAB, count: 12)),
            "stock": .document(["secret": 5]),
        ])
        for _ in 0..<2 {
            let error = await expectError(
                .rowRefused, .rejected,
                "insert of \"cms.articles\" (_id=abababababababababababab) in \"public.articles\""
            ) {
                try await sink.write(rows + [.insert(bad)], of: Self.articles, time: 16)
            }
            #expect(
                error?.detail
                    == "Event mg:test:\(DocumentBatch.token(16, Int(before))), SQLSTATE 22P02.")
            #expect(error?.message.contains("secret") == false, "a value is shown")
        }
        #expect(try database.run("SELECT count(*) FROM articles") == "0")
        // Mended, it goes on where it stood.
        try database.run("ALTER TABLE articles ALTER stock TYPE text")
        try await sink.write(rows + [.insert(bad)], of: Self.articles, time: 16)
        #expect(try database.run("SELECT count(*) FROM articles") == "\(before + 1)")
        await sink.close()
    }

    /// PostgreSQL has no character 0, neither in text nor in jsonb.
    @Test(arguments: [0, 100] as [Int32], ["$", "t"])
    func aNulInADocumentIsRefusedByItsKey(before: Int32, source: String) async throws {
        let database = try await TestDatabase()
        let sink = try await open(database, ["value": source])
        let rows = (0..<before).map { DocumentChange.insert(.document(["_id": .int32($0)])) }
        let bad = DocumentValue.document(["_id": "poison", "t": "be\0hind"])
        await expectError(.rowRefused, .rejected, "(_id=poison)") {
            try await sink.write(rows + [.insert(bad)], of: Self.articles, time: 16)
        }
        #expect(try database.run("SELECT count(*) FROM articles") == "0")
        await sink.close()
    }

    /// In the `_id` itself, where the key's own text is cut by nobody.
    @Test(arguments: [0, 100] as [Int32])
    func anIdWithoutATextIsRefused(before: Int32) async throws {
        let database = try await TestDatabase()
        let sink = try await open(database)
        let rows = (0..<before).map { DocumentChange.insert(.document(["_id": .int32($0)])) }
        await expectError(.rowRefused, .rejected, "(_id=a\0b)") {
            try await sink.write(
                rows + [.update(.document(["_id": "a\0b"])), .insert(.document(["_id": ""]))],
                of: Self.articles, time: 16)
        }
        await sink.close()
    }

    /// A collection has one such document at most, and no table's key takes it.
    @Test(arguments: [0, 100] as [Int32])
    func aDocumentWhoseIdIsNullIsLeftOutAndSaid(before: Int32) async throws {
        let database = try await TestDatabase()
        let harness = SinkHarness(database)
        let sink = try harness.sink(
            ["table": .string("articles"), "columns": Self.columns(["_id": "_id", "v": "v"])],
            tables: Self.tables)
        _ = try await sink.open(at: nil)
        let rows = (0..<before).map { DocumentChange.insert(.document(["_id": .int32($0)])) }
        let null = DocumentValue.document(["_id": .null, "v": 1])
        let outcome = try await sink.write(
            rows + [.insert(null), .update(null), .insert(.document(["_id": "last"]))],
            of: Self.articles, time: 16)
        #expect(outcome.filtered == 2)
        try await sink.write([.update(null)], of: Self.articles, time: 24)
        #expect(try database.run("SELECT count(*) FROM articles") == "\(before + 1)")
        let gap = try #require(harness.reports.gaps.first)
        #expect(harness.reports.gaps.count == 1)
        #expect(gap.code == .nullKey && gap.subject == "public.articles")
        // What the hint says: a copy under another _id, then the one of null goes.
        try await sink.write(
            [.insert(.document(["_id": "null's", "v": 1])), .delete(id: .null)],
            of: Self.articles, time: 32)
        #expect(try database.run("SELECT v FROM articles WHERE _id = 'null''s'") == "1")
        await sink.close()
    }

    /// The last of several members of one name counts; bad bytes are replaced.
    @Test func oddDocumentsArrive() async throws {
        let database = try await TestDatabase()
        let sink = try await open(database)
        let odd = DocumentValue.document([
            "_id": 1, "twice": "first", "bad": .text([0x61, 0xFF, 0x62]), "twice": "last",
            "": 0, "a.b": 1, "$c": 2,
        ])
        try await sink.write([.insert(odd)], of: Self.articles, time: 16)
        #expect(
            try database.run("SELECT document - '_id' FROM articles")
                == #"{"": 0, "$c": 2, "a.b": 1, "bad": "a\#u{FFFD}b", "twice": "last"}"#)
        await sink.close()
    }

    // MARK: Texts of the world

    private static let texts = [
        "မြန်မာစာ ကောင်းသည်", "ภาษาไทย ก็ดี", "اللغة العربية‎ مُشَكَّلة", "👩‍👩‍👧‍👦 🇲🇲 é e\u{301}", "日本語\u{3000}文字",
        "\u{FEFF}bom\u{200B}\u{1F}\u{7F}\u{2028}\u{E000}\u{10FFFF}",
    ]

    @Test(arguments: [1, 50])
    func textOfAnyScriptArrivesByteForByte(times: Int) async throws {
        let database = try await TestDatabase()
        let sink = try await open(database, ["t": "names.t", "all": "$"])
        let documents = (0..<times).flatMap { time in
            Self.texts.map { text in
                DocumentChange.insert(
                    .document([
                        "_id": DocumentValue("\(time) \(text)"),
                        "names": .document(["t": DocumentValue(text)]),
                    ]))
            }
        }
        try await sink.write(documents, of: Self.articles, time: 16)
        for text in Self.texts {
            let hex = text.utf8.map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined()
            let id = "\(times - 1) ".utf8.map { String($0, radix: 16) }.joined() + hex
            #expect(
                try database.run(
                    """
                    SELECT encode(convert_to(t, 'UTF8'), 'hex'),
                        encode(convert_to("all"->'names'->>'t', 'UTF8'), 'hex')
                    FROM articles WHERE _id = convert_from('\\x\(id)', 'UTF8')
                    """) == "\(hex)|\(hex)")
        }
        try await sink.write(
            documents.map { change in
                guard case .insert(.document(let members)) = change else { return change }
                return .delete(id: members[0].value)
            }, of: Self.articles, time: 32)
        #expect(try database.run("SELECT count(*) FROM articles") == "0")
        await sink.close()
    }

    @Test(arguments: ["", "TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C.UTF-8'"])
    func aWordOfAnyScriptIsFound(options: String) async throws {
        let database = try await TestDatabase(options: options)
        let sink = try await open(
            database, write: "search",
            ["title": "title", "body": "content.text", "updated_at": "updated_at"],
            [
                "table": .string("search.articles"),
                "text": .object(
                    ConfigValues([
                        "config": .string("simple"), "A": .list([.string("title")]),
                        "B": .list([.string("body")]),
                    ])),
            ])
        func article(_ id: Int32, _ title: String, _ body: String) -> DocumentValue {
            .document([
                "_id": .int32(id), "title": DocumentValue(title),
                "content": .document(["text": DocumentValue(body)]),
                "updated_at": .date(1_795_226_584_123),
            ])
        }
        try await sink.write(
            [
                .insert(article(1, "မြန်မာ သတင်း", "ရန်ကုန် မြို့")),
                .insert(article(2, "ข่าว ไทย", "กรุงเทพ")),
                .insert(article(3, "أخبار عربية", "القاهرة")),
                .insert(article(4, "Blue teapot", "မြန်မာ")),
            ], of: Self.articles, time: 16)
        func found(_ word: String) throws -> String {
            try database.run(
                """
                SELECT coalesce(string_agg(_id, ' ' ORDER BY ts_rank(search, query) DESC), '')
                FROM search.articles, websearch_to_tsquery('simple', '\(word)') query
                WHERE search @@ query
                """)
        }
        // A title weighs more than a body.
        #expect(try found("မြန်မာ") == "1 4")
        #expect(try found("ရန်ကုန်") == "1")
        #expect(try found("กรุงเทพ") == "2")
        #expect(try found("عربية") == "3")
        #expect(try found("teapot") == "4")
        #expect(try found("မြန်") == "", "a part of a word is no word")
        try await sink.write(
            [.update(article(4, "Red teapot", "none")), .delete(id: 1)], of: Self.articles,
            time: 32)
        #expect(try found("မြန်မာ") == "")
        #expect(try found("red") == "4")
        #expect(
            try database.run("SELECT updated_at FROM search.articles LIMIT 1").hasPrefix("2026"))
        await sink.close()
    }

    @Test func aWholeDocumentIsSearched() async throws {
        let database = try await TestDatabase()
        let sink = try await open(database, write: "search")
        try await sink.write(
            [.insert(.document(["_id": "k1", "a": .document(["b": "teapot"])]))],
            of: Self.articles, time: 16)
        #expect(
            try database.run(
                "SELECT _id FROM articles WHERE search @@ to_tsquery('simple', 'teapot')") == "k1")
        await sink.close()
    }
}

@discardableResult
func expectError(
    _ code: ErrorCode, _ disposition: Disposition, _ words: String = "",
    _ body: () async throws -> Void
) async -> WeirError? {
    let error = await #expect(throws: WeirError.self) { try await body() }
    #expect(error?.code == code, "\(error.map { "\($0)" } ?? "")")
    #expect(error?.disposition == disposition)
    #expect(error?.message.contains(words) == true, "\(error?.message ?? "")")
    return error
}
