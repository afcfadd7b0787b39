import Testing
import WeirCore
import WeirPostgresClient
import WeirTesting
import WeirValues

@testable import WeirPostgresSink

/// Rows in COPY's text format: the server must read what parameters would have brought.
struct SinkCopyTests {
    private let connection: PostgresConnection

    init() async throws {
        let schema = try await TestSchema(
            "CREATE TABLE copied (n int, v text); CREATE TABLE bound (n int, v text)")
        connection = try schema.connect()
    }

    private static let schema = TableSchema.test("t", version: 1, ["n int4", "v"], key: [0])
    private static let references = [0, 1].map { FieldReference(column: $0, of: schema) }

    /// Copies values into one table, binds them as parameters into the other, and compares.
    private func expectEqual(_ values: [Field], viaCells: Bool = false) throws {
        _ = try connection.query("TRUNCATE copied, bound")
        let rows = values.enumerated().map { RowChange.insert([Field("\($0)"), $1]) }
        let batch = RowBatch.transaction(rows, of: Self.schema, commit: 16)
        let copied = try copy("COPY copied (n, v) FROM STDIN", batch, Self.references, viaCells)
        #expect(copied == values.count)
        try bind(values)
        let different = try connection.query(
            """
            SELECT n, encode(c.v::bytea, 'hex'), encode(b.v::bytea, 'hex')
            FROM copied c FULL JOIN bound b USING (n)
            WHERE c.v IS DISTINCT FROM b.v OR c.n IS NULL OR b.n IS NULL ORDER BY n LIMIT 5
            """)
        #expect(different == [])
        #expect(try connection.queryRow("SELECT count(*) FROM copied") == ["\(values.count)"])
    }

    @discardableResult
    private func copy(
        _ sql: String, _ batch: EventBatch, _ references: [FieldReference], _ viaCells: Bool = false
    ) throws -> Int {
        var writer = CopyWriter()
        let deadline = ContinuousClock.now + .seconds(20)
        try connection.beginCopyIn(sql, by: deadline)
        for event in batch.events {
            if viaCells {
                let cells = references.map {
                    Cell(batch: 0, value: event.after.start + UInt32($0.column))
                }
                writer.append(references, cells[...], in: [batch])
            } else {
                batch.withView { writer.append(references, of: event.after, in: $0) }
            }
            if writer.isFull { try send(&writer, by: deadline) }
        }
        try send(&writer, by: deadline)
        return try connection.endCopyIn(by: deadline)
    }

    private func send(
        _ writer: inout CopyWriter, by deadline: ContinuousClock.Instant
    ) throws {
        unsafe try writer.withBytes { bytes in
            unsafe try connection.sendCopyData(bytes, by: deadline)
        }
        writer.removeAll()
        let isEmpty = writer.isEmpty
        #expect(isEmpty)
    }

    private func bind(_ values: [Field]) throws {
        _ = try connection.query("DEALLOCATE ALL")
        var parameters = StatementParameters()
        var next = 0
        var failures: [PostgresFailure] = []
        while next < values.count {
            try connection.beginPipeline()
            var commands = 0
            if next == 0 {
                try connection.addPreparation(
                    "bind", "INSERT INTO bound (n, v) VALUES ($1::text::int, $2)")
                commands = 1
            }
            for number in next..<min(next + 500, values.count) {
                parameters.removeAll()
                for field in [Field("\(number)"), values[number]] {
                    if case .text(let bytes) = field {
                        unsafe bytes.withUnsafeBytes { unsafe parameters.append($0) }
                    } else {
                        parameters.appendNull()
                    }
                }
                try connection.addExecution("bind", parameters)
                commands += 1
                next = number + 1
            }
            try connection.endPipeline(commands, within: .seconds(20)) { _, answer in
                if case .failed(let failure) = answer { failures.append(failure) }
            }
        }
        #expect(failures.isEmpty, "\(failures.first?.message ?? "")")
    }

    // MARK: Values

    /// Eight bytes are looked at together: every special byte at every place of every length.
    @Test func anEscapeIsFoundWhereverItStands() throws {
        var values: [Field] = []
        // Those that need one, their neighbours, and bytes that differ from them in the high bit.
        let specials: [UInt8] = [
            0x5C, 0x09, 0x0A, 0x0D, 0x01, 0x0B, 0x0E, 0x5B, 0x5D, 0x7F, 0x80, 0x89, 0x8A, 0xDC,
            0xFF,
        ]
        for length in 0...40 {
            values.append(.text([UInt8](repeating: 0x61, count: length)))
            for place in 0..<length {
                for special in specials {
                    var text = [UInt8](repeating: 0x61, count: length)
                    text[place] = special
                    values.append(.text(text))
                }
            }
        }
        try expectEqual(values)
    }

    /// A byte borrows from its neighbour in the arithmetic over words.
    @Test func neighboursDoNotHideAnEscape() throws {
        var values: [Field] = []
        let specials: [UInt8] = [0x5C, 0x5D, 0x09, 0x0D, 0x0E, 0x01, 0x80, 0xFF, 0x61]
        for first in specials {
            for second in specials {
                for place in 0...8 {
                    var text = [UInt8](repeating: 0x61, count: 17)
                    (text[place], text[place + 1]) = (first, second)
                    values.append(.text(text))
                }
            }
        }
        try expectEqual(values)
        try expectEqual(values, viaCells: true)
    }

    @Test func whatLooksLikeTheFormatItselfIsText() throws {
        let texts = [
            "", #"\N"#, #"\\N"#, #"\."#, "\\.\n", #"\"#, #"\\"#, "\t", "\n", "\r", "\r\n", "\n\n",
            "a\tb", #"\t"#, #"\n"#, #"\r"#, #"\b\f\v"#, #"\061"#, #"\x41"#, "\\\t", "\\\n", "\u{8}",
            "\u{B}\u{C}", " ", "NULL", "null", #""""#, "'", "é\u{1F642}\\\u{1F642}", "\u{7F}",
            "ends in \\", "ends in \n", "\\starts",
        ]
        try expectEqual(texts.map { Field($0) } + [nil, .unchanged, "", nil])
        try expectEqual(texts.map { Field($0) } + [nil, .unchanged, "", nil], viaCells: true)
    }

    @Test(arguments: [1, 2, 3] as [UInt64])
    func randomBytesArriveAsTheyAre(seed: UInt64) throws {
        var random = SeededGenerator(seed: seed)
        let common: [UInt8] = [0x5C, 0x4E, 0x2E, 0x09, 0x0A, 0x0D, 0x74, 0x6E, 0x72, 0x30, 0x78]
        let values = (0..<1500).map { _ in
            if random.below(12) == 0 { return Field.null }
            let length = random.below(random.below(8) == 0 ? 2000 : 24)
            return .text(
                (0..<length).map { _ in
                    random.below(3) == 0
                        ? UInt8(1 + random.below(255)) : common[random.below(common.count)]
                })
        }
        try expectEqual(values, viaCells: seed == 2)
    }

    @Test func largeValuesAreSentWhole() throws {
        var random = SeededGenerator(seed: 9)
        let plain = [UInt8](repeating: 0x61, count: 1 << 20)
        let slashes = [UInt8](repeating: 0x5C, count: 1 << 20)
        let mixed = (0..<1 << 20).map { _ in UInt8(1 + random.below(255)) }
        try expectEqual([.text(plain), .text(slashes), nil, .text(mixed), ""])
        // On both sides of the size that is sent at once.
        let edge = CopyWriter.chunkBytes
        try expectEqual((-3...3).map { .text([UInt8](repeating: 0x0A, count: edge / 2 + $0)) })
        try expectEqual((-3...3).map { .text([UInt8](repeating: 0x61, count: edge + $0)) })
    }

    // MARK: Values inside JSON

    private static let documents = TableSchema.test(
        "t", version: 2, ["n int4", "doc json"], key: [0])

    private func copyPath(_ path: String, _ documents: [Field]) throws -> [String?] {
        _ = try connection.query("TRUNCATE copied")
        let reference = try #require(
            FieldPath("doc.\(path)")?.resolve(in: Self.documents))
        let rows = documents.enumerated().map { RowChange.insert([Field("\($0)"), $1]) }
        let batch = RowBatch.transaction(rows, of: Self.documents, commit: 16)
        try copy("COPY copied (n, v) FROM STDIN", batch, [Self.references[0], reference])
        return try connection.query("SELECT v FROM copied ORDER BY n").map { $0[0] }
    }

    @Test func aValueAtAPathIsEscapedAfterItWasFound() throws {
        let documents: [Field] = [
            #"{"a": "x\ty\\z\n\r"}"#, #"{"a": "\\N"}"#, #"{"a": "\\."}"#, #"{"a": ""}"#,
            #"{"a": {"b": "c\n"}}"#, #"{"a": 1.50}"#, #"{"a": true}"#, #"{"a": null}"#, "{}", "7",
            nil, .unchanged, #"{"a": "\u00e9\ud83d\ude42"}"#,
        ]
        #expect(
            try copyPath("a", documents) == [
                "x\ty\\z\n\r", #"\N"#, #"\."#, "", #"{"b": "c\n"}"#, "1.50", "true", nil, nil, nil,
                nil, nil, "é\u{1F642}",
            ])
    }

    @Test func aRowKeepsItsColumnsApart() throws {
        _ = try connection.query(
            "CREATE TABLE wide (n int, a text, b text, c text, PRIMARY KEY (n))")
        let schema = TableSchema.test("wide", version: 3, ["n int4", "a", "b", "c"], key: [0])
        let references = schema.columns.indices.map { FieldReference(column: $0, of: schema) }
        let rows: [[Field]] = [
            [1, "", "", ""], [2, nil, nil, nil], [3, "\t", "\t\t", "\n"], [4, "\\", nil, "\\"],
            [5, #"\N"#, nil, #"\N"#],
        ]
        let batch = RowBatch.transaction(rows.map { .insert($0) }, of: schema, commit: 16)
        // In another order than the table's.
        let shuffled = [3, 0, 2, 1]
        try copy("COPY wide (c, n, b, a) FROM STDIN", batch, shuffled.map { references[$0] })
        let found = try connection.query("SELECT n, a, b, c FROM wide ORDER BY n")
        #expect(found == rows.map { TextRow($0.map(\.string)) })
    }
}
