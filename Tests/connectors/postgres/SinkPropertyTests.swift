import Testing
import WeirCore
import WeirPostgresClient
import WeirTesting

@testable import WeirPostgresSink

/// Random transactions in random batches, with sessions that end at any moment: at every position
/// the target is what the source was, each change there once.
struct SinkPropertyTests {
    /// Ends the session that writes, in the middle of a statement or of a commit, when as many rows
    /// as `bomb` says have passed. A sequence counts, because nothing takes its numbers back.
    private static let bombs = """
        CREATE SEQUENCE passed;
        CREATE TABLE bomb (at bigint);
        INSERT INTO bomb VALUES (0);
        CREATE FUNCTION tick() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            IF nextval('public.passed') = (SELECT at FROM public.bomb) THEN
                PERFORM pg_terminate_backend(pg_backend_pid());
            END IF;
            RETURN new;
        END $$;
        CREATE TRIGGER tick BEFORE INSERT OR UPDATE ON children FOR EACH ROW EXECUTE FUNCTION tick();
        CREATE TRIGGER tick BEFORE INSERT OR UPDATE ON log FOR EACH ROW EXECUTE FUNCTION tick();
        CREATE CONSTRAINT TRIGGER late AFTER INSERT OR UPDATE ON parents
            DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION tick();
        """

    private func replay(
        _ seed: UInt64, cascades: Bool, hasBombs: Bool, transactions: Int = 250
    ) async throws -> [String: Int] {
        let rule = cascades ? "ON UPDATE CASCADE ON DELETE CASCADE" : ""
        let database = try await TestDatabase(
            SinkWorld.definition(rule) + (hasBombs ? Self.bombs : ""))
        var replay = try await SinkReplay(
            SinkHarness(database), SinkWorld(cascades: cascades),
            transactions: transactions,
            seed: seed, comment: "seed \(seed)")
        try await replay.run { random, harness, observer in
            switch random.below(14) {
            case 0: try harness.disconnect(observer)
            case 1..<3 where hasBombs:
                _ = try observer.query(
                    "UPDATE bomb SET at = (SELECT last_value FROM passed) + \(random.below(300))")
            default: break
            }
        }
        return replay.counts
    }

    /// What must happen for the seeds to prove something.
    private func expect(_ names: [String], _ counts: [[String: Int]]) {
        for name in names {
            let count = counts.reduce(0) { $0 + $1[name, default: 0] }
            #expect(count > 0, "no seed did \(name): \(counts)")
        }
    }

    @Test func everyPositionIsATransactionsEnd() async throws {
        var counts: [[String: Int]] = []
        for seed in 1...3 as ClosedRange<UInt64> {
            counts.append(try await replay(seed, cascades: seed % 2 == 0, hasBombs: false))
        }
        expect(["write", "inside", "held back", "checkpoint", "crash", "rewound"], counts)
    }

    @Test func sessionsThatEndAnywhereTakeNothingAlong() async throws {
        var counts: [[String: Int]] = []
        for seed in 11...13 as ClosedRange<UInt64> {
            counts.append(try await replay(seed, cascades: seed % 2 == 0, hasBombs: true))
        }
        expect(["write", "inside", "checkpoint", "crash", "transient", "rewound"], counts)
    }
}
