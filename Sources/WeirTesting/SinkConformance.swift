package import WeirCore

/// A sink under test and the place it writes to.
package struct SinkSubject: Sendable {
    package let make: @Sendable (ConnectorContext) throws(WeirError) -> any SinkConnector
    /// The ids of the events that are there now, in order; nil when the sink keeps nothing.
    package let ids: @Sendable () throws -> [String]?

    package init(
        make: @escaping @Sendable (ConnectorContext) throws(WeirError) -> any SinkConnector,
        ids: @escaping @Sendable () throws -> [String]?
    ) {
        self.make = make
        self.ids = ids
    }
}

/// What every sink must do. Passing it is what makes a connector a sink.
package enum SinkConformance {
    /// - Parameters:
    ///   - isExactlyOnce: the sink takes marks, so that a replay leaves every event there once.
    ///   - fresh: a subject that writes to a new, empty place; called once per rule.
    /// - Throws: what rule was broken.
    package static func check(
        isExactlyOnce: Bool, _ fresh: () throws -> SinkSubject
    ) async throws {
        try await takesEveryShape(of: fresh())
        try await takesEveryForm(of: fresh())
        try await takesExtremeSizes(of: fresh())
        try await splitsTransactions(of: fresh())
        try await closesTwice(of: fresh())
        try await flushesIdle(of: fresh())
        if isExactlyOnce { try await replays(of: fresh()) }
    }

    /// Empty, one event, several batches in one call; order is kept.
    private static func takesEveryShape(of subject: SinkSubject) async throws {
        let sink = try await opened(subject)
        try await expectCount(0, sink, [SampleBatch.boundary(8)])
        try await expectCount(1, sink, [SampleBatch.transaction(16, count: 1)])
        try await expectCount(
            7, sink,
            [
                SampleBatch.transaction(24, count: 3), SampleBatch.boundary(32),
                SampleBatch.transaction(40, count: 4),
            ])
        // Fanned out: the batch is in other hands too, and may be written again as it is.
        let shared = SampleBatch.transaction(48, count: 2)
        let copy = shared
        try await expectCount(2, sink, [shared])
        try expect(copy.ids == ["48/0", "48/1"], "a sink changed a batch it shares")
        try await sink.flush()
        await sink.close()
        try expectIDs(
            ["16/0", "24/0", "24/1", "24/2", "40/0", "40/1", "40/2", "40/3", "48/0", "48/1"],
            subject)
    }

    private static func takesEveryForm(of subject: SinkSubject) async throws {
        let sink = try await opened(subject)
        var batch = SampleBatch()
        let notes: [SampleBatch.Note] = [
            .null, .unchanged, .text(Array("é\"\\\n".utf8)), .binary([0, 0xFF, 0x80]),
            .bson([5, 0, 0, 0, 0]),
        ]
        for (ordinal, note) in notes.enumerated() {
            batch.add(commit: 16, ordinal: UInt32(ordinal), operation: .update, note: note)
        }
        batch.add(commit: 16, ordinal: 5, operation: .delete)
        batch.add(commit: 16, ordinal: 6, operation: .read)
        let end = Position(high: 24)
        try await expectCount(7, sink, [batch.seal(resume: end, end: end)])
        try await sink.flush()
        await sink.close()
        try expectIDs((0..<7).map { "16/\($0)" }, subject)
    }

    private static func takesExtremeSizes(of subject: SinkSubject) async throws {
        let sink = try await opened(subject)
        var batch = SampleBatch()
        batch.add(commit: 16, ordinal: 0, note: .text([]))
        batch.add(commit: 16, ordinal: 1, note: .text([UInt8](repeating: 0x61, count: 1 << 20)))
        batch.add(commit: 16, ordinal: 2, note: .binary([]))
        let end = Position(high: 24)
        try await expectCount(3, sink, [batch.seal(resume: end, end: end)])
        try await sink.flush()
        await sink.close()
        try expectIDs(["16/0", "16/1", "16/2"], subject)
    }

    /// A boundary and its mark belong together also when a write ends inside a transaction.
    private static func splitsTransactions(of subject: SinkSubject) async throws {
        let sink = try await opened(subject)
        let first = try await sink.write([SampleBatch.transaction(16, count: 1)])
        let inside = try await sink.write([SampleBatch.part(of: 24, 0..<2, isLast: false)])
        try expect(
            inside.mark == first.mark || inside.mark == nil,
            "the mark moved inside a transaction")
        let last = try await sink.write([SampleBatch.part(of: 24, 2..<3, isLast: true)])
        try expect(
            first.mark == nil || last.mark != first.mark,
            "the mark did not move with the end of a transaction")
        try await sink.flush()
        await sink.close()
        try expectIDs(["16/0", "24/0", "24/1", "24/2"], subject)
    }

    private static func closesTwice(of subject: SinkSubject) async throws {
        let unopened = try subject.make(.test())
        await unopened.close()
        let sink = try await opened(subject)
        await sink.close()
        await sink.close()
        try expectIDs([], subject)
    }

    private static func flushesIdle(of subject: SinkSubject) async throws {
        let sink = try await opened(subject)
        try await sink.flush()
        try await sink.flush()
        await sink.close()
    }

    /// A crash and a start at the checkpoint's mark leaves every event there once.
    private static func replays(of subject: SinkSubject) async throws {
        var sink = try await opened(subject)
        let first = try await sink.write([SampleBatch.transaction(16, count: 2)])
        try await sink.flush()
        for end in [2, 3] {
            // Written, but not in the checkpoint; then the process is gone.
            _ = try await sink.write([SampleBatch.part(of: 24, 0..<end, isLast: end == 3)])
            await sink.close()
            sink = try subject.make(.test())
            let mark = try await sink.open(at: first.mark)
            try expect(mark == first.mark, "open did not go back to the mark")
            try expectIDs(["16/0", "16/1"], subject)
        }
        _ = try await sink.write([SampleBatch.transaction(24, count: 3)])
        try await sink.flush()
        await sink.close()
        try expectIDs(["16/0", "16/1", "24/0", "24/1", "24/2"], subject)
    }

    // MARK: Support

    private static func opened(_ subject: SinkSubject) async throws -> any SinkConnector {
        let sink = try subject.make(.test())
        _ = try await sink.open(at: nil)
        return sink
    }

    private static func expectCount(
        _ count: Int, _ sink: any SinkConnector, _ batches: [EventBatch]
    ) async throws {
        let outcome = try await sink.write(batches)
        try expect(
            outcome.delivered == count && outcome.filtered == 0,
            "of \(count) events \(outcome.delivered) were delivered, \(outcome.filtered) filtered")
    }

    private static func expectIDs(_ ids: [String], _ subject: SinkSubject) throws {
        guard let found = try subject.ids() else { return }
        try expect(found == ids, "the sink holds \(found), not \(ids)")
    }

    private static func expect(_ condition: Bool, _ message: String) throws {
        if !condition { throw TestingError(message) }
    }
}
