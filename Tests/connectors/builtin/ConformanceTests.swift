import Foundation
import Glibc
import Testing
import WeirCore
import WeirTesting

@testable import WeirBuiltinSink

@Suite(.timeLimit(.minutes(1))) struct ConformanceTests {
    @Test func fileConforms() async throws {
        try await SinkConformance.check(isExactlyOnce: true) {
            let bench = try FileBench()
            return SinkSubject(
                make: { context throws(WeirError) in try Self.fileSink(bench.path, context) },
                ids: { try bench.ids() })
        }
    }

    private static func fileSink(
        _ path: String, _ context: ConnectorContext
    ) throws(WeirError) -> FileSink {
        do {
            return FileSink(try FileSink.Config(scope(["path": .string(path)])), context)
        } catch { throw .fault("\(error)", .bug) }
    }

    @Test func stdoutConforms() async throws {
        try await SinkConformance.check(isExactlyOnce: false) {
            let output = try OutputFile()
            return SinkSubject(
                make: { context throws(WeirError) in
                    do {
                        return StdoutSink(
                            try StdoutSink.Config(scope([:])), context,
                            descriptor: output.descriptor)
                    } catch { throw .fault("\(error)", .bug) }
                },
                ids: { try output.ids() })
        }
    }

    @Test func blackholeConforms() async throws {
        try await SinkConformance.check(isExactlyOnce: false) {
            SinkSubject(
                make: { context throws(WeirError) in
                    do {
                        return BlackholeSink(try BlackholeSink.Config(scope([:])), context)
                    } catch { throw .fault("\(error)", .bug) }
                },
                ids: { nil })
        }
    }
}

/// Stands in for standard output.
final class OutputFile: Sendable {
    private let folder: TemporaryDirectory
    let descriptor: Int32

    init() throws {
        folder = try TemporaryDirectory()
        descriptor = unsafe open(folder.file("out"), O_WRONLY | O_CREAT | O_APPEND, 0o600)
    }

    deinit { close(descriptor) }

    func ids() throws -> [String] {
        try BuiltinTests.ids(ofLines: String(contentsOfFile: folder.file("out"), encoding: .utf8))
    }
}

@Suite(.timeLimit(.minutes(1))) struct StdoutSinkTests {
    /// A pipe that takes a little at a time and then says it is full, as a shared terminal may.
    @Test func aFullPipeTearsNoLine() async throws {
        var ends: [Int32] = [-1, -1]
        unsafe pipe(&ends)
        defer { close(ends[0]) }
        let (reading, writing) = (ends[0], ends[1])
        _ = fcntl(writing, F_SETFL, O_NONBLOCK)
        let reader = Task.detached {
            var bytes: [UInt8] = []
            var buffer = [UInt8](repeating: 0, count: 4096)
            while true {
                let count = unsafe read(reading, &buffer, buffer.count)
                if count <= 0 { return bytes }
                bytes += buffer[..<count]
            }
        }
        let sink = StdoutSink(try StdoutSink.Config(scope([:])), .test(), descriptor: writing)
        var wanted: [String] = []
        for commit in 2..<6 as Range<UInt64> {
            let batch = SampleBatch.transaction(commit * 8, count: 1000)
            wanted += batch.ids
            _ = try await sink.write([batch])
        }
        close(writing)
        #expect(try ids(ofLines: String(decoding: await reader.value, as: UTF8.self)) == wanted)
    }

    /// A disk that is full for a while: what was written of a line is not written again.
    @Test func aRetryGoesOnWhereTheOutputBroke() async throws {
        let folder = try TemporaryDirectory()
        let path = folder.file("out")
        let reading = unsafe open(path, O_RDWR | O_CREAT, 0o600)
        defer { close(reading) }
        var ends: [Int32] = [-1, -1]
        unsafe pipe(&ends)
        // Something that takes a part and then fails: a pipe whose reader goes away.
        let sink = StdoutSink(try StdoutSink.Config(scope([:])), .test(), descriptor: ends[1])
        signal(SIGPIPE, SIG_IGN)
        let (input, output) = (ends[0], ends[1])
        let first = Task.detached {
            var buffer = [UInt8](repeating: 0, count: 100_000)
            var taken: [UInt8] = []
            while taken.count < 100_000 {
                let count = unsafe read(input, &buffer, min(1000, 100_000 - taken.count))
                if count <= 0 { break }
                taken += buffer[..<count]
            }
            close(input)
            return taken
        }
        let batch = SampleBatch.transaction(16, count: 5000)
        let error = await failure { _ = try await sink.write([batch]) }
        #expect(error?.disposition == .blocked)
        #expect(error?.code.name == "file.write_failed")
        #expect(await first.value.count == 100_000)
        // The same descriptor leads to a file now.
        #expect(dup2(reading, output) == output)
        let after = SampleBatch.transaction(24, count: 10)
        let outcome = try await sink.write([batch, after])
        #expect(outcome.delivered == 5010)
        close(output)
        let rest = try String(contentsOfFile: path, encoding: .utf8)
        let lost = outcome.bytes - rest.utf8.count
        // What the pipe had taken, read or not, did not come again; the rest is there, to the end.
        #expect(lost >= 100_000)
        let lines = rest.split(separator: "\n").dropFirst().joined(separator: "\n") + "\n"
        let found = try ids(ofLines: lines)
        #expect(found == Array((batch.ids + after.ids).suffix(found.count)))
    }
}

@Suite struct BlackholeSinkTests {
    @Test func countsWhatItsRoutingLeavesOut() async throws {
        let sink = BlackholeSink(
            try BlackholeSink.Config(scope(["operations": .list([.string("delete")])])), .test())
        var batch = SampleBatch()
        batch.add(commit: 16, ordinal: 0)
        batch.add(commit: 16, ordinal: 1, operation: .delete)
        let outcome = await sink.write([batch.seal(resume: nil, end: nil)])
        #expect(outcome.delivered == 1 && outcome.filtered == 1)
    }
}
