import Testing
import WeirCore
import WeirTesting

@testable import WeirRedisSink

/// One row that the server does not take is named; what lies before it is written, and it is not
/// tried for ever.
struct RowSizeTests {
    private func batch(_ sizes: [Int]) -> EventBatch {
        ItemBatch.of(
            sizes.enumerated().map { index, size in
                .insert(.init("\(index + 1)", String(repeating: "x", count: size)))
            }, commit: 16)
    }

    /// Until it stops for an operator.
    private func refusal(_ sink: RedisSink, _ batch: EventBatch) async throws -> WeirError {
        for _ in 0..<10 {
            let error = await #expect(throws: WeirError.self) { try await sink.write([batch]) }
            if let error, error.disposition == .blocked { return error }
            #expect(error?.disposition == .transient)
        }
        throw TestingError("it is tried for ever")
    }

    @Test(
        arguments: [
            ["proto-max-bulk-len": "1mb"], ["client-query-buffer-limit": "1mb"],
        ], ["json", "hash"])
    func aRowThatIsTooLargeIsNamedAndThoseBeforeItAreThere(
        settings: [String: String], write: String
    ) async throws {
        let server = try await RedisServer.start(settings: settings)
        let harness = CacheHarness(server)
        let sink = try harness.sink(write: write)
        _ = try await sink.open(at: nil)
        let batch = batch([10, 300_000, 10, 2_000_000, 10])
        let error = try await refusal(sink, batch)
        #expect(error.code.name == "redis.value_too_large")
        #expect(error.message.contains("\"public.items\""), "\(error)")
        #expect(error.message.contains("key \"item:4\""), "\(error)")
        if settings["proto-max-bulk-len"] != nil {
            #expect(error.message.contains("invalid bulk length"), "\(error)")
        }
        #expect(error.hint?.contains("proto-max-bulk-len") == true)
        #expect(try harness.keys().sorted() == ["item:1", "item:2", "item:3"])
        await sink.close()

        // What the hint says.
        if settings["proto-max-bulk-len"] != nil {
            let hint = try #require(error.hint)
            let command = try #require(hint.firstMatch(of: /CONFIG SET .*/))
            let words = command.output.split(separator: " ").map { Array($0.utf8) }
            #expect(try server.command(words) == .simple("OK"))
        } else {
            _ = try server.command("CONFIG", "SET", "client-query-buffer-limit", "4mb")
        }
        let next = try harness.sink(write: write)
        _ = try await next.open(at: nil)
        _ = try await next.write([batch])
        #expect(try harness.keys().count == 5)
        await next.close()
    }

    /// A key of any length is cut where it is put into words.
    @Test func aLongKeyIsCutInTheMessage() async throws {
        let server = try await RedisServer.start(settings: ["proto-max-bulk-len": "1mb"])
        let harness = CacheHarness(server)
        let sink = try harness.sink()
        _ = try await sink.open(at: nil)
        let id = "\u{1B}[31m" + String(repeating: "k", count: 1_500_000)
        let error = try await refusal(
            sink, ItemBatch.of([.insert(.init(id, "n"))], commit: 16))
        #expect(error.message.utf8.count < 600)
        #expect(!error.message.unicodeScalars.contains("\u{1B}"))
        await sink.close()
    }

    @Test func aServerThatEndsConnectionsNowAndThenIsNoReasonToStop() async throws {
        let harness = try await CacheHarness.start()
        let sink = try harness.sink()
        _ = try await sink.open(at: nil)
        for commit in 1...8 as ClosedRange<UInt64> {
            _ = try harness.server.command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
            let batch = ItemBatch.of([.update(.init("1", "n\(commit)"))], commit: commit * 16)
            var tries = 0
            try await eventually("written") {
                tries += 1
                do {
                    return try await sink.write([batch]).delivered == 1
                } catch let error as WeirError {
                    #expect(error.disposition == .transient)
                    return false
                }
            }
            #expect(tries <= 3)
        }
        await sink.close()
    }
}
