import CLibMongoC
import CMalloc
import Glibc
import Synchronization

/// Keeps the large blocks that libbson frees for those it asks for next.
///
/// A page of a change stream takes two blocks of megabytes: one it is received in, and one the
/// library copies it to. From malloc each would be new memory of the kernel, with a fault for every
/// 4 KB of it while the server waits (`weir-bench --case mongodb-backlog`).
enum PageMemory {
    /// Smaller ones are malloc's own matter, and larger ones not worth their room.
    static let bytes = (1 << 20)...(8 << 20)

    private static let spare = Mutex(SpareBlocks())

    /// Makes libbson use it. What was allocated before is malloc's too, and is freed as such.
    static func install() {
        var table = bson_mem_vtable_t()
        unsafe table.malloc = { unsafe PageMemory.allocate($0) }
        unsafe table.calloc = { unsafe calloc($0, $1) }
        unsafe table.realloc = { unsafe PageMemory.reallocate($0, $1) }
        unsafe table.free = { unsafe PageMemory.deallocate($0) }
        unsafe table.aligned_alloc = { unsafe aligned_alloc($0, $1) }
        unsafe bson_mem_set_vtable(&table)
    }

    /// Connections that may ask for some. Without one, nothing is kept.
    static func addUser() { spare.withLock { $0.users += 1 } }
    static func removeUser() { spare.withLock { $0.users -= 1 } }

    /// Frees what is kept when no connection has asked for any for a while.
    static func releaseIfUnused() {
        let now = ContinuousClock.now
        spare.withLock { if now - $0.lastUse > unusedLimit { $0.removeAll() } }
    }

    /// Longer than from one page to the next.
    private static let unusedLimit = Duration.milliseconds(500)

    private static func allocate(_ count: Int) -> UnsafeMutableRawPointer? {
        guard bytes.contains(count) else { return unsafe malloc(count) }
        return unsafe spare.withLock { unsafe $0.take(count) } ?? malloc(count)
    }

    private static func reallocate(
        _ block: UnsafeMutableRawPointer?, _ count: Int
    ) -> UnsafeMutableRawPointer? {
        guard let old = unsafe block, bytes.contains(count) else {
            return unsafe realloc(block, count)
        }
        let size = unsafe malloc_usable_size(old)
        if size >= count { return unsafe old }
        guard let new = unsafe spare.withLock({ unsafe $0.take(count) }) else {
            return unsafe realloc(old, count)
        }
        unsafe new.copyMemory(from: old, byteCount: size)
        unsafe deallocate(old)
        return unsafe new
    }

    private static func deallocate(_ block: UnsafeMutableRawPointer?) {
        guard let block = unsafe block else { return }
        if unsafe bytes.contains(malloc_usable_size(block)),
            spare.withLock({ unsafe $0.keep(block) })
        {
            return
        }
        unsafe free(block)
    }
}

/// Blocks of malloc that nobody uses. Owns them.
@safe
struct SpareBlocks: ~Copyable, @unchecked Sendable {
    private var blocks: [UnsafeMutableRawPointer] = unsafe []

    /// A page that is worked on, one that is received, and one that it is copied to.
    static let countMax = 3

    /// Of the last block taken or kept.
    private(set) var lastUse = ContinuousClock.now
    /// Nothing is kept while there are none.
    var users = 0 {
        didSet { if users == 0 { removeAll() } }
    }

    init() { unsafe blocks.reserveCapacity(Self.countMax) }

    deinit { for index in unsafe blocks.indices { unsafe free(blocks[index]) } }

    /// One of at least `count` bytes, and not of far more; nil when there is none.
    mutating func take(_ count: Int) -> UnsafeMutableRawPointer? {
        let fit = unsafe blocks.firstIndex { block in
            let size = unsafe malloc_usable_size(block)
            return size >= count && size / 4 <= count
        }
        lastUse = .now
        return unsafe fit.map { unsafe blocks.remove(at: $0) }
    }

    /// Whether it was kept; else it stays the caller's.
    mutating func keep(_ block: UnsafeMutableRawPointer) -> Bool {
        guard users > 0, unsafe blocks.count < Self.countMax else { return false }
        lastUse = .now
        unsafe blocks.append(block)
        return true
    }

    mutating func removeAll() {
        for index in unsafe blocks.indices { unsafe free(blocks[index]) }
        unsafe blocks.removeAll(keepingCapacity: true)
    }
}
