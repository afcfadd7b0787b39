import Foundation
import Testing
import WeirCore
import WeirTesting

@testable import WeirBuiltinSink

/// What other hands do to the file: it is rotated without a line lost or doubled, and nothing that
/// is missing goes unsaid.
@Suite(.timeLimit(.minutes(1))) struct FileRotationTests {
    private let bench: FileBench
    private let moved: String
    init() throws {
        bench = try FileBench()
        moved = bench.folder.file("changes.1")
    }

    private func move() throws {
        try FileManager.default.moveItem(atPath: bench.path, toPath: moved)
    }

    private func movedIDs() throws -> [String] {
        try ids(ofLines: String(contentsOfFile: moved, encoding: .utf8))
    }

    private func opened(at mark: SinkMark? = nil) async throws -> FileSink {
        let sink = try bench.make()
        _ = try await sink.open(at: mark)
        return sink
    }

    // MARK: Moved

    @Test(arguments: [false, true])
    func aFileThatIsMovedIsContinuedInANewOne(hasEmptySuccessor: Bool) async throws {
        let sink = try await opened()
        _ = try await sink.write([SampleBatch.transaction(16, count: 2)])
        try move()
        // As logrotate's "create" leaves it.
        if hasEmptySuccessor { try bench.folder.write("", to: "changes.jsonl") }
        let outcome = try await sink.write([SampleBatch.transaction(24, count: 1)])
        try sink.flush()
        await sink.close()
        #expect(try movedIDs() == ["16/0", "16/1"])
        #expect(try bench.ids() == ["24/0"])
        #expect(bench.reports.gaps.isEmpty)
        // The next life goes on in the new file.
        let next = try await opened(at: outcome.mark)
        _ = try await next.write([SampleBatch.transaction(32, count: 1)])
        await next.close()
        #expect(try bench.ids() == ["24/0", "32/0"])
    }

    @Test func aSinkOfAnotherNameKnowsItsFile() async throws {
        let sink = try await opened()
        let first = try await sink.write([SampleBatch.transaction(16, count: 1)])
        let mark = try #require(first.mark)
        _ = try await sink.write([SampleBatch.transaction(24, count: 1)])
        await sink.close()
        // What is behind the checkpoint comes again.
        let renamed = try await opened(at: SinkMark(of: "former", mark))
        await renamed.close()
        #expect(try bench.ids() == ["16/0"])
        try bench.folder.write("", to: "changes.jsonl")
        await #expect(throws: WeirError.self) {
            _ = try await opened(at: SinkMark(of: "former", mark))
        }
    }

    @Test func aTransactionIsNotSplitOverTwoFiles() async throws {
        let sink = try await opened()
        _ = try await sink.write([SampleBatch.part(of: 16, 0..<2, isLast: false)])
        try move()
        _ = try await sink.write([SampleBatch.part(of: 16, 2..<4, isLast: true)])
        _ = try await sink.write([SampleBatch.transaction(24, count: 1)])
        await sink.close()
        #expect(try movedIDs() == ["16/0", "16/1", "16/2", "16/3"])
        #expect(try bench.ids() == ["24/0"])
    }

    /// The checkpoint still tells of the file that was moved when the daemon is killed.
    @Test func aCrashRightAfterTheRotationIsNoStop() async throws {
        let stored = try await {
            // Let go of without a close.
            let killed = try await opened()
            let stored = try await killed.write([SampleBatch.transaction(16, count: 1)])
            try move()
            _ = try await killed.write([SampleBatch.transaction(24, count: 1)])
            return stored
        }()
        let next = try await opened(at: stored.mark)
        #expect(try bench.text() == "", "what follows the checkpoint comes again")
        _ = try await next.write([SampleBatch.transaction(24, count: 1)])
        await next.close()
        #expect(try movedIDs() == ["16/0"])
        #expect(try bench.ids() == ["24/0"])
        #expect(bench.reports.gaps.isEmpty)
    }

    @Test func aFileMovedWhileNothingWasWrittenIsNoGapAtTheNextStart() async throws {
        let first = try await opened()
        let stored = try await first.write([SampleBatch.transaction(16, count: 1)])
        try first.flush()
        try move()
        await first.close()
        let next = try await opened(at: stored.mark)
        _ = try await next.write([SampleBatch.transaction(24, count: 1)])
        await next.close()
        #expect(try bench.ids() == ["24/0"])
        #expect(bench.reports.gaps.isEmpty)
    }

    /// As by logrotate's `compress`, before Weir has anything to write.
    @Test(arguments: [false, true])
    func aMovedFileThatIsCompressedAtOnceIsNoGap(isStopped: Bool) async throws {
        var sink = try await opened()
        let stored = try await sink.write([SampleBatch.transaction(16, count: 1)])
        try move()
        try FileManager.default.removeItem(atPath: moved)
        if isStopped {
            await sink.close()
            sink = try await opened(at: stored.mark)
        }
        _ = try await sink.write([SampleBatch.transaction(24, count: 1)])
        await sink.close()
        #expect(try bench.ids() == ["24/0"])
        #expect(bench.reports.gaps.isEmpty)
    }

    // MARK: Removed

    @Test func removedTwiceItIsOneGapUntilItIsResolved() async throws {
        let sink = try await opened()
        for commit in [16, 24, 32] as [UInt64] {
            _ = try await sink.write([SampleBatch.transaction(commit, count: Int(commit))])
            try FileManager.default.removeItem(atPath: bench.path)
        }
        _ = try await sink.write([SampleBatch.transaction(40, count: 1)])
        await sink.close()
        #expect(bench.reports.gaps.count == 1)
    }

    @Test(arguments: [false, true])
    func aSymbolicLinkInItsPlaceIsNamed(leadsSomewhere: Bool) async throws {
        if leadsSomewhere { try bench.folder.write("", to: "other") }
        try FileManager.default.createSymbolicLink(
            atPath: bench.path, withDestinationPath: bench.folder.file("other"))
        let error = await failure { _ = try await opened() }
        #expect(error?.message.contains("is a symbolic link") == true)
        let hint = try #require(error?.hint)
        let command = try #require(hint.range(of: "rm "))
        let result = try runProcess("/bin/sh", ["-c", String(hint[command.lowerBound...])])
        #expect(result.status == .exited(0))
        let sink = try await opened()
        _ = try await sink.write([SampleBatch.transaction(16, count: 1)])
        await sink.close()
        #expect(try bench.ids() == ["16/0"])
    }

    @Test func aFileThatIsRemovedWhileItIsWrittenIsADeclaredGap() async throws {
        let sink = try await opened()
        _ = try await sink.write([SampleBatch.transaction(16, count: 1)])
        try FileManager.default.removeItem(atPath: bench.path)
        _ = try await sink.write([SampleBatch.transaction(24, count: 1)])
        await sink.close()
        #expect(try bench.ids() == ["24/0"])
        #expect(bench.reports.gaps.map(\.code.name) == ["file.lost"])
        #expect(bench.reports.gaps.first?.message.contains("was removed while") == true)
    }

    @Test(arguments: ["moved", "removed"])
    func aFileThatIsGoneAtAStartIsADeclaredGap(how: String) async throws {
        let first = try await opened()
        let stored = try await first.write([SampleBatch.transaction(16, count: 1)])
        await first.close()
        if how == "moved" {
            try move()
        } else {
            try FileManager.default.removeItem(atPath: bench.path)
        }
        let next = try await opened(at: stored.mark)
        _ = try await next.write([SampleBatch.transaction(24, count: 1)])
        await next.close()
        #expect(try bench.ids() == ["24/0"])
        let gap = try #require(bench.reports.gaps.first)
        #expect(gap.code.name == "file.lost" && gap.subject == bench.path)
        #expect(gap.message.contains("moved or removed while Weir was stopped"))
    }

    // MARK: Emptied, cut, replaced

    @Test(arguments: [0, 10])
    func aFileThatIsCutWhileItIsWrittenStopsAndIsLeftAsItIs(length: Int) async throws {
        let sink = try await opened()
        let stored = try await sink.write([SampleBatch.transaction(16, count: 3)])
        try cut(to: length)
        for _ in 0..<2 {
            let error = await failure {
                _ = try await sink.write([SampleBatch.transaction(24, count: 1)])
            }
            #expect(error?.code.name == "file.lost" && error?.disposition == .blocked)
            let flushing = await failure { try sink.flush() }
            #expect(flushing?.code.name == "file.lost" && flushing?.disposition == .blocked)
        }
        await sink.close()
        #expect(try bench.size() == length, "neither NUL bytes nor lines")
        // The same at the next start, and what the hint says gets it going.
        let error = await failure { _ = try await opened(at: stored.mark) }
        #expect(error?.code.name == "file.lost" && error?.disposition == .blocked)
        #expect(error?.message.contains("has \(length) bytes of the") == true)
        #expect(error?.hint?.contains("mv \(bench.path) \(bench.path).old") == true)
        try move()
        let next = try await opened(at: stored.mark)
        _ = try await next.write([SampleBatch.transaction(24, count: 1)])
        await next.close()
        #expect(try bench.ids() == ["24/0"])
        #expect(bench.reports.gaps.count == 1)
    }

    @Test(arguments: [false, true])
    func anotherFileInItsPlaceIsNotTouched(whileRunning: Bool) async throws {
        let sink = try await opened()
        let stored = try await sink.write([SampleBatch.transaction(16, count: 1)])
        if !whileRunning { await sink.close() }
        try move()
        let precious = String(repeating: "precious", count: 500)
        try bench.folder.write(precious, to: "changes.jsonl")
        let error = await failure {
            if whileRunning {
                _ = try await sink.write([SampleBatch.transaction(24, count: 1)])
            } else {
                _ = try await opened(at: stored.mark)
            }
        }
        #expect(error?.code.name == "file.lost" && error?.disposition == .blocked)
        #expect(error?.message.contains("is another file") == true)
        await sink.close()
        #expect(try bench.text() == precious)
    }

    /// On the same inode and no shorter, as `cat other > changes.jsonl` leaves it.
    @Test(arguments: [false, true], [0, 5000])
    func aFileThatIsWrittenAnewStopsAndIsLeftAsItIs(
        whileRunning: Bool, surplus: Int
    ) async throws {
        let sink = try await opened()
        let stored = try await sink.write([SampleBatch.transaction(16, count: 3)])
        try sink.flush()
        if !whileRunning { await sink.close() }
        let foreign = String(repeating: "x", count: try bench.size() + surplus)
        try overwrite(foreign)
        if whileRunning {
            for _ in 0..<2 {
                let writing = await failure {
                    _ = try await sink.write([SampleBatch.transaction(24, count: 1)])
                }
                let flushing = await failure { try sink.flush() }
                for error in [writing, flushing] {
                    #expect(error?.code.name == "file.lost" && error?.disposition == .blocked)
                    #expect(error?.message.contains("written to by another program") == true)
                }
            }
            await sink.close()
        }
        let error = await failure { _ = try await opened(at: stored.mark) }
        #expect(error?.code.name == "file.lost" && error?.disposition == .blocked)
        #expect(error?.message.contains("written to by another program") == true)
        #expect(try bench.text() == foreign)
        // What the hint says gets it going, and the gap is declared.
        #expect(error?.hint?.contains("mv \(bench.path) \(bench.path).old") == true)
        try move()
        let next = try await opened(at: stored.mark)
        _ = try await next.write([SampleBatch.transaction(24, count: 1)])
        await next.close()
        #expect(try bench.ids() == ["24/0"])
        #expect(bench.reports.gaps.map(\.code.name) == ["file.lost"])
    }

    /// Emptied between a look at it and a write, it would begin with NUL bytes.
    @Test func aFileThatIsCutUnderAWriteIsNoticedByTheNextOne() async throws {
        let sink = try await opened()
        _ = try await sink.write([SampleBatch.transaction(16, count: 3)])
        let length = try bench.size()
        try cut(to: 0)
        // As if our own write had come between the cut and the look.
        let file = try #require(FileHandle(forWritingAtPath: bench.path))
        try file.seek(toOffset: UInt64(length))
        try file.write(contentsOf: Data("{}\n".utf8))
        try file.close()
        let error = await failure {
            _ = try await sink.write([SampleBatch.transaction(24, count: 1)])
        }
        #expect(error?.code.name == "file.lost" && error?.disposition == .blocked)
        await sink.close()
    }

    @Test func whatAnotherProgramAddsIsCutOffAndSaid() async throws {
        let sink = try await opened()
        let stored = try await sink.write([SampleBatch.transaction(16, count: 1)])
        let file = try #require(FileHandle(forWritingAtPath: bench.path))
        try file.seekToEnd()
        try file.write(contentsOf: Data(String(repeating: "x", count: 9_000).utf8))
        try file.close()
        _ = try await sink.write([SampleBatch.transaction(24, count: 1)])
        #expect(try bench.ids() == ["16/0", "24/0"])
        #expect(bench.reports.findings.map(\.code.name) == ["file.shared"])
        #expect(bench.reports.findings.first?.message.contains("9000 bytes") == true)
        // Neither a touched file nor one that was read is anything.
        try FileManager.default.setAttributes(
            [.modificationDate: Date(timeIntervalSince1970: 5)], ofItemAtPath: bench.path)
        try sink.flush()
        _ = try await sink.write([SampleBatch.transaction(32, count: 1)])
        await sink.close()
        let next = try await opened(at: stored.mark)
        await next.close()
        #expect(try bench.ids() == ["16/0"])
    }

    /// As by a pipeline that was renamed, went on in the file, and got its name back.
    @Test func whatIsAddedWhileWeirIsStoppedStays() async throws {
        let sink = try await opened()
        let stored = try await sink.write([SampleBatch.transaction(16, count: 1)])
        await sink.close()
        let others = Data(#"{"key":{"id":"other"}}"#.utf8 + [0x0A])
        func add() throws {
            let file = try #require(FileHandle(forWritingAtPath: bench.path))
            try file.seekToEnd()
            try file.write(contentsOf: others)
            try file.close()
        }
        try add()
        let second = try await {
            let next = try await opened(at: stored.mark)
            return try await next.write([SampleBatch.transaction(24, count: 1)])
        }()
        let finding = try #require(bench.reports.findings.first)
        #expect(finding.code.name == "file.shared" && bench.reports.findings.count == 1)
        #expect(finding.message.contains("added \(others.count) bytes"))
        #expect(try bench.ids() == ["16/0", "other", "24/0"])
        // It was not closed: what lies behind the mark may be its own, and comes again.
        try add()
        let last = try await opened(at: second.mark)
        #expect(try bench.ids() == ["16/0", "other", "24/0"])
        await last.close()
    }

    /// A mark tells which path it is of: another one in the configuration is no loss.
    @Test(arguments: [nil, "", "old line\n"])
    func anotherPathBeginsWithoutALoss(content: String?) async throws {
        let first = try await opened()
        let stored = try await first.write([SampleBatch.transaction(16, count: 1)])
        await first.close()
        let path = bench.folder.file("other.jsonl")
        if let content { try bench.folder.write(content, to: "other.jsonl") }
        let next = try bench.make(path: path)
        let mark = try await next.open(at: stored.mark)
        _ = try await next.write([SampleBatch.transaction(24, count: 1)])
        await next.close()
        #expect(bench.length(mark) == content?.utf8.count ?? 0)
        let text = try String(contentsOfFile: path, encoding: .utf8)
        #expect(text.hasPrefix(content ?? ""))
        #expect(try ids(ofLines: String(text.dropFirst(content?.count ?? 0))) == ["24/0"])
        #expect(try bench.ids() == ["16/0"])
        #expect(bench.reports.gaps.isEmpty)
    }

    /// Marks of earlier versions hold a length and an inode, or a length alone.
    @Test(arguments: [1, 2]) func marksOfEarlierVersionsAreUnderstood(words: Int) async throws {
        let first = try await opened()
        let stored = try await first.write([SampleBatch.transaction(16, count: 1)])
        _ = try await first.write([SampleBatch.transaction(24, count: 1)])
        await first.close()
        let text = try #require(stored.mark?.text.split(separator: " ").prefix(words))
        let sink = try bench.make()
        let mark = try await sink.open(at: SinkMark(text.joined(separator: " ")))
        await sink.close()
        #expect(mark == stored.mark)
        #expect(try bench.ids() == ["16/0"])
    }

    private func overwrite(_ text: String) throws {
        let file = try #require(FileHandle(forWritingAtPath: bench.path))
        try file.truncate(atOffset: 0)
        try file.write(contentsOf: Data(text.utf8))
        try file.close()
        // The kernel's clock for it ticks every few milliseconds only.
        try FileManager.default.setAttributes(
            [.modificationDate: Date(timeIntervalSinceNow: 1)], ofItemAtPath: bench.path)
    }

    /// A folder that moved to another disk.
    @Test func aCopyOfTheFileIsContinued() async throws {
        let first = try await opened()
        let stored = try await first.write([SampleBatch.transaction(16, count: 1)])
        await first.close()
        let bytes = try bench.text()
        try move()
        try bench.folder.write(bytes, to: "changes.jsonl")
        let next = try await opened(at: stored.mark)
        _ = try await next.write([SampleBatch.transaction(24, count: 1)])
        await next.close()
        #expect(try bench.ids() == ["16/0", "24/0"])
        #expect(bench.reports.gaps.isEmpty)
    }

    private func cut(to length: Int) throws {
        let file = try #require(FileHandle(forWritingAtPath: bench.path))
        try file.truncate(atOffset: UInt64(length))
        try file.close()
    }
}
