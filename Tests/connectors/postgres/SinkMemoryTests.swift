import Foundation
import Testing
import WeirCore
import WeirTesting

@testable import WeirPostgresSink

/// What a huge value costs: how much at once, and how much for good.
struct SinkMemoryTests {
    private static func megabytes(_ name: String) throws -> Int {
        let text = try String(contentsOfFile: "/proc/self/status", encoding: .utf8)
        let line = text.split(separator: "\n").first { $0.hasPrefix("\(name):") }
        let number = line?.split(whereSeparator: \.isWhitespace).dropFirst().first
        return try #require(number.flatMap { Int($0) }) >> 10
    }

    /// Whole in the batch, once more in the form it is sent in, and no longer than the write.
    @Test(arguments: [0, 60])
    func aHugeValueIsHeldOnceMoreAndNotKept(others: Int) async throws {
        let database = try await TestDatabase()
        let sink = try SinkHarness(database).sink()
        _ = try await sink.open(at: nil)
        let schema = TableSchema.test("items", version: 1, ["id int4", "v"], key: [0])
        try await sink.write([.insert([0, "small"])], of: schema, commit: 16)
        let size = 60
        let rows = (0..<others).map { RowChange.insert([Field("\(10 + $0)"), "x"]) }
        let value = Field.text([UInt8](repeating: 0x61, count: size << 20))
        let batch = RowBatch.transaction(
            rows + [.insert([1, value])], of: schema, commit: 32)
        // The peak is counted anew from here.
        try Data("5".utf8).write(to: URL(filePath: "/proc/self/clear_refs"))
        let before = try Self.megabytes("VmRSS")
        #expect(try Self.megabytes("VmHWM") < before + 8, "the peak was not forgotten")
        _ = try await sink.write([batch])
        let peak = try Self.megabytes("VmHWM") - before
        #expect(peak < 2 * size, "\(peak) MB for a value of \(size) MB")
        try await sink.write([.insert([2, "small"])], of: schema, commit: 48)
        let kept = try Self.megabytes("VmRSS") - before
        #expect(kept < size / 4, "\(kept) MB are kept")
        #expect(
            try database.run("SELECT sum(length(v)) FROM items WHERE id < 10")
                == "\((size << 20) + 10)")
        await sink.close()
    }
}
