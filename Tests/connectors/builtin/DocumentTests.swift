import Foundation
import Testing
import WeirCore
import WeirTesting
import WeirValues

@testable import WeirBuiltinSink

/// Documents through the sinks that write lines.
@Suite struct DocumentTests {
    /// `{"_id":7}` with a long.
    private static let document: [UInt8] =
        [18, 0, 0, 0, 0x12] + Array("_id".utf8) + [0, 7, 0, 0, 0, 0, 0, 0, 0, 0]

    private static func batch() -> EventBatch {
        var builder = BatchBuilder(
            reusing: EventBatch(), eventLimit: 1 << 20, byteLimit: 1 << 20)
        let table = builder.table(.collection(version: 1, database: "cms", name: "articles"))
        let start = unsafe document.withUnsafeBytes { unsafe builder.append($0) }
        let token = Array("AB".utf8)
        let tokenStart = unsafe token.withUnsafeBytes { unsafe builder.append($0) }
        builder.append(
            Value(form: .bson, bytes: Slice(start: start, count: document.count)))
        builder.append(Value(form: .text, bytes: Slice(start: tokenStart, count: token.count)))
        builder.append(.null)
        builder.append(.null)
        let row = Slice(start: 0, count: 1)
        builder.append(
            Event(
                operation: .insert, table: table, commit: 1_795_226_584 << 32 | 1, ordinal: 0,
                transaction: 0, change: 0, commitMicros: 1_795_226_584_123_000, key: row,
                after: row, details: Slice(start: 1, count: Event.Detail.allCases.count)))
        let end = Position(high: 1_795_226_584 << 32 | 1, tail: "AB+")
        return builder.seal(resume: end, end: end)
    }

    private func scope(
        _ values: [String: ConfigValue], tables: [TableName]? = nil
    ) -> ConfigScope {
        ConfigScope(
            pipeline: "cms", name: "sink", values: ConfigValues(values), sourceType: "mongodb",
            sourceTables: tables)
    }

    private func written(_ values: [String: ConfigValue]) async throws -> String {
        let bench = try FileBench()
        let all = values.merging(["path": .string(bench.path)]) { _, path in path }
        let sink = FileSink(try FileSink.Config(scope(all)), .test(notation: .tokens))
        _ = try await sink.open(at: nil)
        let outcome = try await sink.write([Self.batch()])
        #expect(outcome.delivered == 1)
        try sink.flush()
        await sink.close()
        return try bench.text()
    }

    @Test func aLineNamesTheKindOfItsSource() async throws {
        #expect(
            try await written(["format": .string("weir")])
                == #"{"id":"mg:cms:826B00FBD800000001AB","op":"insert","ts":"2026-11-21T02:03:04.123000Z","#
                + #""source":{"kind":"mongodb","name":"cms","db":"cms","collection":"articles"},"#
                + #""key":{"_id":7},"after":{"_id":7},"#
                + #""pos":{"cluster_time":{"t":1795226584,"i":1},"token":"826B00FBD800000001AB"}}"#
                + "\n")
    }

    @Test(arguments: [
        ("relaxed", #"{"_id":7}"#), ("canonical", #"{"_id":{"$numberLong":"7"}}"#),
        ("plain", #"{"_id":"7"}"#),
    ])
    func theKeyDocumentsDecidesHowTheyLook(mode: String, line: String) async throws {
        #expect(
            try await written(["format": .string("row"), "documents": .string(mode)])
                == line + "\n")
    }

    @Test func pathsAreColumns() async throws {
        let columns = ConfigValue.columns([
            ColumnChoice(output: "id", source: "_id"), ColumnChoice(output: "doc", source: "$"),
            ColumnChoice(output: "name", source: "name.en"),
        ])
        #expect(
            try await written(["format": .string("row"), "columns": columns])
                == #"{"id":7,"doc":{"_id":7}}"# + "\n")
    }

    @Test func optionsAreReadAndDefaultToRelaxed() throws {
        #expect(try FileSink.Config(scope(["path": .string("a")])).lines.options == ValueOptions())
        let strings: [String: ConfigValue] = [
            "path": .string("a"), "int64": .string("string"), "numeric": .string("string"),
            "documents": .string("plain"),
        ]
        #expect(
            try FileSink.Config(scope(strings)).lines.options
                == ValueOptions(
                    int64AsString: true, numericAsString: true, documents: .plain))
        #expect(ValueOptions.fields.map(\.name) == ["int64", "numeric", "documents"])
    }

    @Test func anyTableMayBeChosenOfASourceThatListsNone() throws {
        let chosen = TableName(schema: "cms", name: "articles")
        let values: [String: ConfigValue] = [
            "path": .string("a"), "tables": .list([.table(chosen)]),
        ]
        #expect(try FileSink.Config(scope(values)).lines.routing.tables == [chosen])
        let other = [TableName(schema: "cms", name: "authors")]
        #expect(throws: ConfigIssue.self) {
            try FileSink.Config(scope(values, tables: other))
        }
    }
}
