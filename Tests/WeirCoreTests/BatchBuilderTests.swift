import Testing
import WeirCore

struct BatchBuilderTests {
    /// A batch is a megabyte: to make it anew each time is a fault of memory for every 4 KB.
    @Test func theStorageOfAnOldBatchIsTakenOver() {
        var batch: EventBatch? = Self.batch(reusing: EventBatch())
        let place = Self.place(batch)
        for _ in 0..<3 { batch = Self.batch(reusing: batch.take() ?? EventBatch()) }
        #expect(Self.place(batch) == place)
        #expect(batch?.events.count == 1 && batch?.arena.count == 1 << 16)
    }

    @Test func theStorageOfABatchSomebodyHoldsIsNot() throws {
        let batch = Self.batch(reusing: EventBatch())
        let other = Self.batch(reusing: batch)
        #expect(Self.place(other) != Self.place(batch))
        #expect(batch.events.count == 1 && batch.arena.count == 1 << 16)
    }

    @Test func theStorageOfAHugeOneIsGivenBack() {
        var batch: EventBatch? = Self.batch(reusing: EventBatch())
        let builder = BatchBuilder(
            reusing: batch.take() ?? EventBatch(), eventLimit: 1, byteLimit: 1 << 13)
        let empty = builder.seal(resume: nil, end: nil)
        #expect(empty.arena.capacity == 0)
    }

    private static func batch(reusing old: consuming EventBatch) -> EventBatch {
        var builder = BatchBuilder(reusing: old, eventLimit: 1, byteLimit: 1 << 16)
        let bytes = [UInt8](repeating: 1, count: 1 << 16)
        _ = unsafe bytes.withUnsafeBytes { unsafe builder.append($0) }
        builder.append(
            Event(
                operation: .insert, flags: 0, table: 0, commit: 1, ordinal: 0, transaction: 0,
                change: 1, commitMicros: 0, key: .empty, before: .empty, after: .empty,
                details: .empty))
        return builder.seal(resume: nil, end: nil)
    }

    private static func place(_ batch: EventBatch?) -> Int? {
        unsafe batch?.arena.withUnsafeBytes { Int(bitPattern: $0.baseAddress) }
    }
}
