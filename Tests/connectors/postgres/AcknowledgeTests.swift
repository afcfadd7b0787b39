import Testing
import WeirCore
import WeirPostgresSource
import WeirTesting

struct AcknowledgeTests {
    @Test("CORRECTNESS 5: opening where reading stood tells the server nothing")
    func openingWhereReadingStoodConfirmsNothing() async throws {
        let database = try await TestDatabase("CREATE TABLE t (id int PRIMARY KEY)")
        let harness = try await SourceHarness.open(database, tables: ["public.t"])
        let confirmed = try database.slot("confirmed_flush_lsn")
        try database.run("INSERT INTO t SELECT generate_series(1, 3)")
        #expect(try await harness.drain().count == 3)
        // The connection is lost; what was read is in memory only.
        try await harness.open()
        try await harness.source.acknowledge(nil)
        #expect(try await harness.drain().isEmpty)
        #expect(try database.slot("confirmed_flush_lsn") == confirmed)
        // A restart from what the slot confirmed finds everything again.
        let start = try #require(harness.start)
        let from = try #require(Position(lsn: confirmed))
        try await harness.open(
            atStored: StoredPosition(position: from, identity: start.identity))
        #expect(try await harness.drain().count == 3)
        await harness.source.close()
    }
}

extension Position {
    /// From PostgreSQL's notation.
    fileprivate init?(lsn: String) {
        let parts = lsn.split(separator: "/").compactMap { UInt64($0, radix: 16) }
        guard parts.count == 2 else { return nil }
        self.init(high: parts[0] << 32 | parts[1])
    }
}
