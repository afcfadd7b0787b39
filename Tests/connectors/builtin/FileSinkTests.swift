import Foundation
import Glibc
import Testing
import WeirCore
import WeirTesting

@testable import WeirBuiltinSink

@Suite(.timeLimit(.minutes(1))) struct FileSinkTests {
    private let bench: FileBench
    init() throws { bench = try FileBench() }

    // MARK: Marks

    @Test func openCutsOffWhatFollowsTheMark() async throws {
        let first = try bench.make()
        #expect(bench.length(try await first.open(at: nil)) == 0)
        let kept = try await first.write([SampleBatch.transaction(16, count: 2)])
        _ = try await first.write([SampleBatch.transaction(24, count: 3)])
        await first.close()
        #expect(try bench.ids().count == 5)
        let second = try bench.make()
        #expect(try await second.open(at: kept.mark) == kept.mark)
        #expect(try bench.ids() == ["16/0", "16/1"])
        #expect(bench.length(kept.mark) == (try bench.size()))
    }

    @Test func withoutAMarkTheFileIsContinued() async throws {
        let line = #"{"key":{"id":"old"}}"# + "\n"
        try bench.folder.write(line, to: "changes.jsonl")
        let sink = try bench.make()
        #expect(bench.length(try await sink.open(at: nil)) == line.utf8.count)
        _ = try await sink.write([SampleBatch.transaction(16, count: 1)])
        await sink.close()
        #expect(try bench.ids() == ["old", "16/0"])
    }

    /// A crash in the middle of a line, and then `weir position set`.
    @Test(arguments: [0, 1, 20, 200_000])
    func aTornLineIsCutOffWhenNoMarkTellsOfIt(length: Int) async throws {
        let torn = String((#"{"id":"pg:"# + String(repeating: "x", count: length)).prefix(length))
        try bench.folder.write(#"{"key":{"id":"old"}}"# + "\n" + torn, to: "changes.jsonl")
        let sink = try bench.make()
        _ = try await sink.open(at: nil)
        _ = try await sink.write([SampleBatch.transaction(16, count: 1)])
        await sink.close()
        #expect(try bench.ids() == ["old", "16/0"])
    }

    @Test func bytesThatAreNotOursAreKept() async throws {
        try bench.folder.write("notes without a line end", to: "changes.jsonl")
        let sink = try bench.make()
        _ = try await sink.open(at: nil)
        await sink.close()
        #expect(try bench.text() == "notes without a line end")
    }

    @Test func aMarkInsideATransactionStaysAtItsBeginning() async throws {
        let sink = try bench.make()
        _ = try await sink.open(at: nil)
        let whole = try await sink.write([
            SampleBatch.transaction(16, count: 1), SampleBatch.part(of: 24, 0..<2, isLast: false),
        ])
        let inside = try await sink.write([SampleBatch.part(of: 24, 2..<4, isLast: false)])
        #expect(inside.mark == whole.mark)
        await sink.close()
        // At rest the file shows no half transaction.
        #expect(try bench.ids() == ["16/0"])
        #expect(bench.length(whole.mark) == (try bench.size()))
    }

    @Test func bytesAreCountedAsTheyAreInTheFile() async throws {
        let sink = try bench.make()
        _ = try await sink.open(at: nil)
        var total = 0
        for commit in 2..<6 as Range<UInt64> {
            total += try await sink.write([SampleBatch.transaction(commit * 8, count: 900)]).bytes
        }
        #expect(try bench.size() == total)
    }

    @Test func columnsThatDoNotExistAreFoundBeforeTheFirstEvent() async throws {
        func table(_ name: String) -> TableSchema {
            TableSchema(
                version: 0, database: "d", schema: "public", name: name,
                columns: [Column(name: "id", type: ColumnType(.text, name: "text"))], key: [0])
        }
        func findings(_ columns: [String], _ tables: [String]) async throws -> [Finding] {
            let choices = columns.map { ColumnChoice(output: $0, source: $0) }
            let names = tables.map { ConfigValue.table(TableName(schema: "public", name: $0)) }
            let values: [String: ConfigValue] = [
                "path": .string(bench.path), "columns": .columns(choices), "tables": .list(names),
            ]
            let scope = ConfigScope(
                pipeline: "test", name: "sink", values: ConfigValues(values),
                sourceTables: tables.map { TableName(schema: "public", name: $0) })
            let sink = FileSink(try FileSink.Config(scope), .test())
            return await sink.check(tables.map(table))
        }
        #expect(try await findings(["id"], ["a"]).isEmpty)
        let one = try await findings(["idd"], ["a"])
        #expect(one.map(\.severity) == [.blocking] && one[0].hint == "Did you mean \"id\"?")
        let several = try await findings(["id", "idd"], ["a", "b"])
        #expect(several.map(\.severity) == [.warning] && several[0].subject == "idd")
    }

    // MARK: Other hands

    @Test func aSecondOpenerIsRefusedUntilTheFirstHasClosed() async throws {
        let first = try bench.make()
        _ = try await first.open(at: nil)
        let second = try bench.make()
        let error = await failure { _ = try await second.open(at: nil) }
        #expect(error?.disposition == .transient)
        #expect(error?.message.contains("another process") == true)
        #expect(error?.hint?.hasSuffix("fuser -v \(bench.path)") == true)
        await first.close()
        _ = try await second.open(at: nil)
    }

    /// Nothing is added to it, and nothing cut off.
    @Test(arguments: [
        ("{\n  \"pipelines\": {}\n}\n", "weir"), (#"{"pipelines":{}}"#, "weir"),
        ("SQLite format 3\0", "row"), ("a\0b\n", "text"),
    ])
    func aFileOfSomethingElseIsLeftAlone(text: String, format: String) async throws {
        try bench.folder.write(text, to: "changes.jsonl")
        let sink = try bench.make(format: format)
        let error = await failure { _ = try await sink.open(at: nil) }
        #expect(error?.code.name == "file.foreign" && error?.disposition == .blocked)
        await sink.close()
        #expect(try bench.text() == text)
        // What the hint says first.
        let hint = try #require(error?.hint?.firstRange(of: "mv "))
        let command = try #require(error?.hint?[hint.lowerBound...].prefix { $0 != ";" })
        _ = try runProcess("/bin/sh", ["-c", String(command)])
        let again = try bench.make(format: format)
        _ = try await again.open(at: nil)
        await again.close()
    }

    /// Two sinks of a daemon, by ways that no look at the names tells apart.
    @Test func aSinkThatHasTheFileAlreadyIsNamed() async throws {
        try FileManager.default.createSymbolicLink(
            atPath: bench.folder.file("link"), withDestinationPath: bench.folder.path)
        let first = try bench.make()
        _ = try await first.open(at: nil)
        let other = FileSink(
            try FileSink.Config(scope(["path": .string(bench.folder.file("link/changes.jsonl"))])),
            .test("other", notes: bench.notes))
        let error = await failure { _ = try await other.open(at: nil) }
        #expect(error?.code.name == "file.busy" && error?.disposition == .blocked)
        #expect(error?.message.contains("sink \"sink\" of pipeline \"test\"") == true)
        await first.close()
        _ = try await other.open(at: nil)
        await other.close()
    }

    @Test(arguments: [
        ("a.jsonl", "a.jsonl"), ("./a.jsonl", "a.jsonl"), ("b/../a.jsonl", "a.jsonl"),
        ("b//c/./../../a.jsonl", "a.jsonl"), ("../a.jsonl", "../a.jsonl"),
        ("../../b/../a.jsonl", "../../a.jsonl"), ("/b/../../a.jsonl", "/a.jsonl"),
        ("/data//a.jsonl", "/data/a.jsonl"), (".../a.jsonl", ".../a.jsonl"),
    ])
    func spellingsOfOnePathAreOneClaim(path: String, shortest: String) throws {
        #expect(
            try FileSink.Config(scope(["path": .string(path)])).claims == ["file \(shortest)"])
    }

    @Test func aLinkIsNotFollowed() async throws {
        try bench.folder.write("precious", to: "other")
        try FileManager.default.createSymbolicLink(
            atPath: bench.path, withDestinationPath: bench.folder.file("other"))
        let sink = try bench.make()
        #expect(await failure { _ = try await sink.open(at: nil) }?.disposition == .transient)
        #expect(
            try String(contentsOfFile: bench.folder.file("other"), encoding: .utf8) == "precious")
    }

    @Test func theFileIsReadableByItsGroupOnly() async throws {
        let mask = umask(0)
        let sink = try bench.make()
        _ = try await sink.open(at: nil)
        umask(mask)
        let facts = try FileManager.default.attributesOfItem(atPath: bench.path)
        #expect((facts[.posixPermissions] as? Int) == 0o640)
    }

    // MARK: Failures

    @Test func aMissingFolderIsATransientErrorThatNamesThePath() async throws {
        let path = bench.folder.file("none/changes.jsonl")
        let sink = FileSink(try FileSink.Config(scope(["path": .string(path)])), .test())
        let error = await failure { _ = try await sink.open(at: nil) }
        #expect(error?.disposition == .transient)
        #expect(error?.message.contains(path) == true)
        #expect(error?.hint != nil)
    }

    /// What a partial write left behind the last good byte is written over, not continued.
    @Test func aRetryAfterAPartialWriteLeavesNoTornLine() async throws {
        let sink = try bench.make()
        _ = try await sink.open(at: nil)
        _ = try await sink.write([SampleBatch.transaction(16, count: 1)])
        let file = try #require(FileHandle(forWritingAtPath: bench.path))
        try file.seekToEnd()
        try file.write(contentsOf: Data(#"{"id":"torn"#.utf8))
        try file.close()
        _ = try await sink.write([
            SampleBatch.transaction(24, count: 2), SampleBatch.transaction(32, count: 1),
        ])
        try sink.flush()
        #expect(try bench.ids() == ["16/0", "24/0", "24/1", "32/0"])
    }

    @Test func writingBeforeOpeningIsOurOwnBug() async throws {
        let sink = try bench.make()
        let error = await failure { _ = try await sink.write([SampleBatch.boundary(16)]) }
        #expect(error?.disposition == .bug)
    }

    @Test(arguments: ["", "/tmp/", "a\0b"])
    func aNameThatIsNoFileIsRefused(path: String) throws {
        #expect(throws: ConfigIssue.self) {
            try FileSink.Config(scope(["path": .string(path)]))
        }
    }
}
