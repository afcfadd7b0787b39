import CLibMongoC
import Glibc
import Testing

@testable import WeirMongoDBClient

struct PageMemoryTests {
    private static let megabyte = 1 << 20

    private static func block(_ count: Int) throws -> UnsafeMutableRawPointer {
        guard let block = unsafe malloc(count) else { throw CancellationError() }
        return unsafe block
    }

    private static func fill(
        _ block: UnsafeMutableRawPointer?, _ count: Int, with byte: UInt8
    ) {
        unsafe UnsafeMutableRawBufferPointer(start: block, count: count)
            .initializeMemory(as: UInt8.self, repeating: byte)
    }

    @Test func aBlockIsGivenToWhoeverItFits() throws {
        var spare = SpareBlocks()
        spare.users = 1
        let block = unsafe try Self.block(2 * Self.megabyte)
        let isKept = unsafe spare.keep(block)
        #expect(isKept)
        // Too small for the one, far too large for the other.
        for count in [3 * Self.megabyte, Self.megabyte / 4] {
            let isThere = unsafe spare.take(count) != nil
            #expect(!isThere, "\(count)")
        }
        let isSame = unsafe spare.take(Self.megabyte) == block
        #expect(isSame)
        let isThereStill = unsafe spare.take(Self.megabyte) != nil
        #expect(!isThereStill)
        unsafe free(block)
    }

    @Test func noMoreAreKeptThanAPageTakes() throws {
        var spare = SpareBlocks()
        spare.users = 1
        for _ in 0..<SpareBlocks.countMax {
            let isKept = unsafe spare.keep(try Self.block(Self.megabyte))
            #expect(isKept)
        }
        let more = unsafe try Self.block(Self.megabyte)
        let isFull = unsafe !spare.keep(more)
        #expect(isFull)
        spare.removeAll()
        let isEmpty = unsafe spare.take(Self.megabyte) == nil
        #expect(isEmpty)
        let isKept = unsafe spare.keep(more)
        #expect(isKept)
    }

    @Test func nothingIsKeptForNobody() throws {
        var spare = SpareBlocks()
        let block = unsafe try Self.block(Self.megabyte)
        let isRefused = unsafe !spare.keep(block)
        #expect(isRefused)
        spare.users = 2
        let isKept = unsafe spare.keep(block)
        #expect(isKept)
        spare.users = 1
        let isThere = unsafe spare.take(Self.megabyte) == block
        #expect(isThere)
        let isKeptAgain = unsafe spare.keep(block)
        #expect(isKeptAgain)
        spare.users = 0
        let isGone = unsafe spare.take(Self.megabyte) == nil
        #expect(isGone)
    }

    /// As libmongoc grows the buffer it receives in.
    @Test func whatIsWrittenStaysWhenABlockGrows() {
        _ = MongoURL.library
        // One to move to, with something in it.
        let other = unsafe bson_malloc(4 * Self.megabyte)
        unsafe Self.fill(other, 4 * Self.megabyte, with: 0xEE)
        unsafe bson_free(other)
        var size = 1000
        var block: UnsafeMutableRawPointer? = unsafe bson_malloc(size)
        unsafe Self.fill(block, size, with: 7)
        while size < 8 * Self.megabyte {
            unsafe block = bson_realloc(block, 4 * size)
            let isKept = unsafe UnsafeRawBufferPointer(start: block, count: size)
                .allSatisfy { $0 == 7 }
            #expect(isKept, "\(size)")
            size *= 4
            unsafe Self.fill(block, size, with: 7)
        }
        unsafe bson_free(block)
    }
}
