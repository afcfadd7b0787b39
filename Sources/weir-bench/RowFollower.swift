import Glibc
import WeirTesting

/// Answers which rows a destination holds.
protocol RowStore: ~Copyable {
    /// Those of these ids that are there.
    mutating func present(_ ids: [Int]) throws -> Set<Int>
}

/// Asks a destination which of the next rows it holds, and notes when.
///
/// Rows come nearly in the order of their ids: it asks for the few that were passed over and for
/// some more. The questions take a part of a core, and of the destination's server.
struct RowFollower<Store: RowStore & ~Copyable>: CommitFollower, ~Copyable {
    /// Microseconds since 1970 at which each id was there.
    private(set) var seen: [Int: Int64] = [:]
    private var store: Store
    private var awaited: [Int]
    private var nextID: Int

    /// - Parameter firstID: of the rows that it waits for.
    init(_ store: consuming Store, from firstID: Int = 1) {
        self.store = store
        // More than the clients that may pass one another. It may be fewer than arrive at once:
        // after each find it looks again without sleeping.
        nextID = firstID + 4 * SteadyLoad.clients
        awaited = Array(firstID..<nextID)
    }

    var count: Int { seen.count }

    mutating func look() throws {
        let present = try store.present(awaited)
        let now = microsNow()
        guard !present.isEmpty else {
            usleep(100)
            return
        }
        for (index, id) in awaited.enumerated() where present.contains(id) {
            seen[id] = now
            awaited[index] = nextID
            nextID += 1
        }
    }
}
