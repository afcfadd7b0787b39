import Testing
import WeirCore
import WeirTesting

@testable import WeirEngine

/// Transcripts: what goes into the machine, and what it says to do.
@Suite struct LaneMachineTests {
    private static let start = Position(high: 8)

    private func machine(
        queue: Int = 8 << 20, spill: Int = 0, mark: SinkMark? = nil
    ) -> TestLane {
        TestLane(start: Self.start, mark: mark, queueLimit: queue, spillLimit: spill)
    }

    private func outcome(_ count: Int, mark: String? = nil) -> WriteOutcome {
        WriteOutcome(.accepted, delivered: count, mark: mark.map(SinkMark.init(_:)))
    }

    /// Three events take more than this.
    private static let small = 100

    @Test func deliversEverythingThatWaitsInOneWrite() {
        let machine = machine()
        #expect(machine.take().isWait)
        #expect(machine.offer(SampleBatch.transaction(16, count: 2)).isQueued)
        #expect(machine.offer(SampleBatch.transaction(24, count: 1)).isQueued)
        #expect(machine.take().writes == ["16/0", "16/1", "24/0"])
        #expect(!machine.isIdle)
        _ = machine.wrote(outcome(3))
        #expect(machine.isIdle)
        #expect(machine.written == Position(high: 32))
        #expect(machine.delivered == 3)
        #expect(machine.take().isWait)
    }

    /// The batch, with another column instead of the table's last.
    private func reshaped(_ batch: EventBatch, version: UInt32) -> EventBatch {
        let table = SampleBatch.table
        let column = Column(name: "other", type: ColumnType(.text, name: "text"))
        return EventBatch(
            tables: [
                TableSchema(
                    version: version, database: table.database, schema: table.schema,
                    name: table.name, columns: [table.columns[0], column], key: table.key)
            ], events: batch.events, values: batch.values, arena: batch.arena,
            resume: batch.resume, end: batch.end)
    }

    @Test func whatLiesBeforeOtherColumnsIsWrittenByItself() {
        let machine = machine()
        _ = machine.offer(SampleBatch.transaction(16, count: 1))
        _ = machine.offer(SampleBatch.transaction(24, count: 1))
        _ = machine.offer(reshaped(SampleBatch.transaction(32, count: 1), version: 8))
        _ = machine.offer(reshaped(SampleBatch.transaction(40, count: 1), version: 9))
        #expect(machine.take().writes == ["16/0", "24/0"])
        _ = machine.wrote(outcome(2))
        #expect(machine.written == Position(high: 32))
        #expect(machine.take().writes == ["32/0", "40/0"])
        _ = machine.wrote(outcome(2))
        #expect(machine.isIdle)
    }

    @Test func repeatsWhatFailedBeforeAnythingNew() {
        let machine = machine()
        _ = machine.offer(SampleBatch.transaction(16, count: 1))
        #expect(machine.take().writes == ["16/0"])
        machine.failed()
        _ = machine.offer(SampleBatch.transaction(24, count: 1))
        #expect(machine.take().writes == ["16/0"])
        _ = machine.wrote(outcome(1))
        #expect(machine.take().writes == ["24/0"])
    }

    @Test func foldsBatchesThatOnlyMoveTheBoundary() {
        let machine = machine()
        for position in 2..<100 as Range<UInt64> {
            _ = machine.offer(SampleBatch.boundary(position * 8))
        }
        #expect(machine.queueCount == 1)
        guard case .write(let batches) = machine.take() else {
            Issue.record("a boundary must reach the sink")
            return
        }
        #expect(batches.count == 1)
        _ = machine.wrote(outcome(0))
        #expect(machine.written == Position(high: 99 * 8))
    }

    @Test func ignoresEmptyBatchesInsideATransaction() {
        let machine = machine()
        let inside = Position(high: 16, low: 1)
        #expect(machine.offer(SampleBatch().seal(resume: nil, end: inside)).isQueued)
        #expect(machine.isIdle)
    }

    @Test func dropsWhatAnEarlierLifeDelivered() {
        let machine = TestLane(
            start: Position(high: 32), mark: nil, queueLimit: 1 << 20, spillLimit: 0)
        _ = machine.offer(SampleBatch.transaction(16, count: 2))
        _ = machine.offer(SampleBatch.transaction(24, count: 2))
        _ = machine.offer(SampleBatch.transaction(32, count: 2))
        #expect(machine.take().writes == ["32/0", "32/1"])
        _ = machine.wrote(outcome(2))
        #expect(machine.written == Position(high: 40))
    }

    @Test func positionNeverGoesBackWhenAnOldBoundaryComes() {
        let machine = TestLane(
            start: Position(high: 80), mark: nil, queueLimit: 1 << 20, spillLimit: 0)
        _ = machine.offer(SampleBatch.boundary(16))
        _ = machine.take()
        _ = machine.wrote(outcome(0))
        #expect(machine.written == Position(high: 80))
    }

    /// What a lane has already is no reason to stop the reader, however large it was.
    @Test func droppedBatchesTakeNoRoom() {
        let machine = TestLane(
            start: Position(high: 8000), mark: nil, queueLimit: 1000, spillLimit: 0)
        for commit in 2..<100 as Range<UInt64> {
            _ = machine.offer(SampleBatch.transaction(commit * 8, count: 5))
        }
        #expect(machine.hasRoom)
        #expect(machine.queuedBytes == 0)
    }

    @Test func marksAndPositionsMoveTogetherInsideATransaction() {
        let machine = machine()
        _ = machine.offer(SampleBatch.transaction(16, count: 1))
        _ = machine.offer(SampleBatch.part(of: 24, 0..<2, isLast: false))
        _ = machine.take()
        _ = machine.wrote(outcome(3, mark: "one"))
        #expect(machine.written == Position(high: 24))
        #expect(machine.mark == SinkMark("one"))
        // A write inside the transaction moves neither, whatever the sink says.
        _ = machine.offer(SampleBatch.part(of: 24, 2..<3, isLast: false))
        _ = machine.take()
        _ = machine.wrote(outcome(1, mark: "inside"))
        #expect(machine.written == Position(high: 24))
        #expect(machine.mark == SinkMark("one"))
        _ = machine.offer(SampleBatch.part(of: 24, 3..<4, isLast: true))
        _ = machine.take()
        _ = machine.wrote(outcome(1, mark: "two"))
        #expect(machine.written == Position(high: 32))
        #expect(machine.mark == SinkMark("two"))
    }

    // MARK: Room

    @Test func aFullLaneHoldsTheReaderBackUntilItHasDelivered() {
        let machine = machine(queue: Self.small)
        #expect(machine.hasRoom)
        _ = machine.offer(SampleBatch.transaction(16, count: 1))
        #expect(!machine.hasRoom)
        _ = machine.take()
        #expect(!machine.hasRoom)
        _ = machine.wrote(outcome(1))
        #expect(machine.hasRoom)
    }

    @Test func aLaneThatIsDownWithoutSpillHoldsTheReaderBack() {
        let machine = machine(queue: Self.small)
        _ = machine.offer(SampleBatch.transaction(16, count: 1))
        _ = machine.take()
        machine.failed()
        #expect(!machine.hasRoom)
    }

    // MARK: Spill

    @Test func aWriteThatNeverEndsCountsAsDownAfterAWhile() {
        let machine = machine(queue: Self.small, spill: 1 << 20)
        _ = machine.offer(SampleBatch.transaction(16, count: 1))
        _ = machine.take()
        machine.began()
        machine.now += LaneMachine.slowLimit / 2
        #expect(!machine.hasRoom)
        #expect(machine.spillBound == nil, "it is only busy")
        // Its neighbours go on, well before it is called stuck.
        machine.now += LaneMachine.slowLimit / 2
        #expect(!machine.isStuck)
        #expect(machine.hasRoom)
        machine.now += LaneMachine.stuckLimit - LaneMachine.slowLimit
        #expect(machine.isStuck)
        guard case .spill(let copies, _) = machine.offer(SampleBatch.transaction(24, count: 1))
        else {
            Issue.record("a lane whose sink does not answer must spill")
            return
        }
        #expect(copies.map(\.ids) == [["16/0"]])
        _ = machine.wrote(outcome(1))
        #expect(!machine.isStuck)
    }

    /// A machine that is down with 16/0 in flight, 24/0 queued, and 32/0 just spilled.
    private func spilling(
        _ machine: TestLane, sourceLocation: SourceLocation = #_sourceLocation
    ) {
        _ = machine.offer(SampleBatch.transaction(16, count: 1))
        _ = machine.take()
        _ = machine.offer(SampleBatch.transaction(24, count: 1))
        machine.failed()
        #expect(machine.hasRoom, sourceLocation: sourceLocation)
        let third = SampleBatch.transaction(32, count: 1)
        guard case .spill(let copies, let new) = machine.offer(third) else {
            Issue.record("a lane that is down and full must spill", sourceLocation: sourceLocation)
            return
        }
        #expect(copies.map(\.ids) == [["16/0"], ["24/0"]], sourceLocation: sourceLocation)
        #expect(new.ids == ["32/0"], sourceLocation: sourceLocation)
    }

    @Test func spillHoldsCopiesOfAllThatWaits() {
        let machine = machine(queue: Self.small, spill: 1 << 20)
        spilling(machine)
        #expect(machine.isSpilling)
        #expect(machine.offer(SampleBatch.transaction(40, count: 1)).spilled == ["40/0"])
    }

    @Test func spillDrainsBackToMemoryInOrder() {
        let machine = machine(queue: Self.small, spill: 1 << 20)
        spilling(machine)
        #expect(machine.take().writes == ["16/0"])
        _ = machine.wrote(outcome(1))
        #expect(machine.take().writes == ["24/0"])
        _ = machine.wrote(outcome(1))
        #expect(machine.take().isReadSpill)
        #expect(machine.tookSpilled([SampleBatch.transaction(32, count: 1)]).writes == ["32/0"])
        // Still from disk: what came meanwhile must not overtake.
        #expect(machine.offer(SampleBatch.transaction(40, count: 1)).spilled == ["40/0"])
        _ = machine.wrote(outcome(1))
        #expect(machine.take().isReadSpill)
        #expect(machine.tookSpilled([SampleBatch.transaction(40, count: 1)]).writes == ["40/0"])
        _ = machine.wrote(outcome(1))
        #expect(machine.take().isReadSpill)
        #expect(machine.tookSpilled([]).isWait)
        #expect(!machine.isSpilling && machine.isIdle)
        #expect(machine.offer(SampleBatch.transaction(48, count: 1)).isQueued)
        #expect(machine.written == Position(high: 48))
    }

    @Test func aFullSpillHoldsTheReaderBack() {
        let machine = machine(queue: Self.small, spill: Self.small)
        spilling(machine)
        #expect(!machine.hasRoom)
    }

    // MARK: A full disk

    @Test func aDiskThatTakesNothingMoreHoldsTheReaderBackAndTheOrderIsKept() {
        let machine = machine(queue: Self.small, spill: 1 << 20)
        spilling(machine)
        let before = machine.spilledBytes
        #expect(machine.refusing(SampleBatch.transaction(40, count: 1)))
        #expect(!machine.hasRoom && machine.spillBound == .disk)
        #expect(machine.spilledBytes == before)
        #expect(machine.waitingEvents == 3, "16/0, 24/0 and the one that is nowhere else")
        for _ in 0..<2 {
            #expect(machine.take().writes?.count == 1)
            _ = machine.wrote(outcome(1))
        }
        #expect(machine.take().isReadSpill)
        #expect(machine.tookSpilled([SampleBatch.transaction(32, count: 1)]).writes == ["32/0"])
        _ = machine.wrote(outcome(1))
        #expect(machine.take().isReadSpill)
        // The spill has been read: what it could not take comes next.
        #expect(machine.tookSpilled([]).writes == ["40/0"])
        _ = machine.wrote(outcome(1))
        #expect(machine.written == Position(high: 48))
        machine.emptiedSpill()
        #expect(machine.hasRoom && !machine.isSpilling)
    }

    @Test func whatADiskRefusedGoesThereOnceItHasRoom() {
        let machine = machine(queue: Self.small, spill: 1 << 20)
        spilling(machine)
        #expect(machine.refusing(SampleBatch.transaction(40, count: 1)))
        #expect(machine.refusedBatches == [["40/0"]])
        machine.diskHasRoom()
        #expect(machine.hasRoom && machine.spillBound == nil)
        #expect(machine.offer(SampleBatch.transaction(48, count: 1)).spilled == ["48/0"])
    }

    @Test func aSpillThatCannotBeBegunLeavesAllInMemory() {
        let machine = machine(queue: Self.small, spill: 1 << 20)
        _ = machine.offer(SampleBatch.transaction(16, count: 1))
        _ = machine.take()
        machine.failed()
        #expect(machine.refusing(SampleBatch.transaction(24, count: 1)))
        #expect(!machine.isSpilling && machine.spilledBytes == 0)
        #expect(!machine.hasRoom && machine.spillBound == .disk)
        // Begun later, it holds copies of both, which memory delivers.
        #expect(machine.refusedBatches == [["16/0"], ["24/0"]])
        machine.diskHasRoom()
        #expect(machine.isSpilling && machine.isSpillWhole && machine.hasRoom)
        #expect(machine.take().writes == ["16/0"])
        _ = machine.wrote(outcome(1))
        #expect(machine.take().writes == ["24/0"])
        _ = machine.wrote(outcome(1))
        #expect(machine.take().isReadSpill)
        #expect(machine.tookSpilled([]).isWait)
    }

    @Test func aSinkThatIsBackBeforeTheDiskHasRoomNeedsNoSpill() {
        let machine = machine(queue: Self.small, spill: 1 << 20)
        _ = machine.offer(SampleBatch.transaction(16, count: 1))
        _ = machine.take()
        machine.failed()
        #expect(machine.refusing(SampleBatch.transaction(24, count: 1)))
        _ = machine.wrote(outcome(1))
        #expect(machine.refusedBatches == [])
        machine.diskHasRoom()
        #expect(!machine.isSpilling)
        #expect(machine.take().writes == ["24/0"])
    }

    @Test func anotherLifesSpillGoesOnWhereTheSinkStands() {
        let machine = machine(spill: 1 << 20, mark: SinkMark("m"))
        machine.resumeSpill(to: Position(high: 32), bytes: 100)
        // The reader begins at the spill's end or earlier, for another lane.
        #expect(machine.offer(SampleBatch.transaction(24, count: 1)).spilled ?? [] == [])
        #expect(machine.take().isReadSpill)
        #expect(machine.tookSpilled([SampleBatch.transaction(16, count: 1)]).writes == ["16/0"])
        _ = machine.wrote(outcome(1))
        #expect(machine.written == Position(high: 24))
    }

    /// A sink that went down inside a transaction forgets the first part of it at the next open,
    /// and the spill does not hold that part: it must not count as safe.
    @Test func aSpillBegunInsideATransactionCountsOnlyFromTheNextBoundary() {
        let machine = machine(queue: Self.small, spill: 1 << 20)
        _ = machine.offer(SampleBatch.part(of: 16, 0..<2, isLast: false))
        _ = machine.take()
        _ = machine.wrote(outcome(2))
        _ = machine.offer(SampleBatch.part(of: 16, 2..<4, isLast: false))
        _ = machine.take()
        machine.failed()
        #expect(
            machine.offer(SampleBatch.part(of: 16, 4..<5, isLast: true)).spilled == ["16/4"])
        #expect(machine.isSpilling)
        #expect(!machine.isSpillWhole)
        _ = machine.wrote(outcome(2))
        #expect(!machine.isSpillWhole)
        _ = machine.tookSpilled([SampleBatch.part(of: 16, 4..<5, isLast: true)])
        _ = machine.wrote(outcome(1))
        #expect(machine.isSpillWhole)
    }

    /// A source that is idle for weeks while a sink is down must not fill the disk.
    @Test func boundariesAloneHardlyReachTheSpill() {
        let machine = machine(queue: Self.small, spill: 1 << 20)
        spilling(machine)
        var spilled = 0
        for position in 100..<1100 as Range<UInt64> {
            if !machine.offer(SampleBatch.boundary(position * 8)).isQueued { spilled += 1 }
        }
        #expect((1...50).contains(spilled))
        _ = machine.take()
        _ = machine.wrote(outcome(1))
        _ = machine.take()
        _ = machine.wrote(outcome(1))
        _ = machine.tookSpilled([SampleBatch.transaction(32, count: 1)])
        _ = machine.wrote(outcome(1))
        // The last one is not forgotten.
        _ = machine.tookSpilled([])
        _ = machine.take()
        _ = machine.wrote(outcome(0))
        #expect(machine.written == Position(high: 1099 * 8))
        #expect(machine.isIdle)
    }

    // MARK: The end

    @Test func closingDeliversWhatIsThereAndFinishes() {
        let machine = machine()
        _ = machine.offer(SampleBatch.transaction(16, count: 1))
        machine.close()
        #expect(machine.take().writes == ["16/0"])
        _ = machine.wrote(outcome(1))
        #expect(machine.take().isFinished)
    }

    @Test func closingLeavesTheSpillForTheNextLife() {
        let machine = machine(queue: Self.small, spill: 1 << 20)
        spilling(machine)
        machine.close()
        #expect(machine.take().writes == ["16/0"])
        _ = machine.wrote(outcome(1))
        #expect(machine.take().writes == ["24/0"])
        _ = machine.wrote(outcome(1))
        #expect(machine.take().isFinished)
    }
}

extension LaneMachine.Offered {
    var isQueued: Bool { if case .queued = self { true } else { false } }
    /// The ids of the batch that only the spill gets.
    var spilled: [String]? { if case .spill(_, let new) = self { new.ids } else { nil } }
}

extension LaneMachine.Taken {
    var writes: [String]? {
        if case .write(let batches) = self { batches.flatMap(\.ids) } else { nil }
    }
    var isWait: Bool { if case .wait = self { true } else { false } }
    var isReadSpill: Bool { if case .readSpill = self { true } else { false } }
    var isFinished: Bool { if case .finished = self { true } else { false } }
}

/// A lane machine where macros can look at it.
private final class TestLane {
    private var machine: LaneMachine

    init(start: Position, mark: SinkMark?, queueLimit: Int, spillLimit: Int) {
        machine = LaneMachine(
            start: start, mark: mark, queueLimit: queueLimit, spillLimit: spillLimit)
    }

    /// The machine's time, moved by hand.
    var now = ContinuousClock.now

    func offer(_ batch: EventBatch) -> LaneMachine.Offered { machine.offer(batch, at: now) }
    func began() { machine.began(at: now) }
    func take() -> LaneMachine.Taken { machine.take() }
    func tookSpilled(_ batches: [EventBatch]) -> LaneMachine.Taken { machine.tookSpilled(batches) }
    func wrote(_ outcome: WriteOutcome) -> [EventBatch] { machine.wrote(outcome) }
    func failed() { machine.failed() }
    func close() { machine.close() }
    func resumeSpill(to end: Position, bytes: Int) { machine.resumeSpill(to: end, bytes: bytes) }

    /// Offers a batch to the spill, which has no room.
    func refusing(_ batch: EventBatch) -> Bool {
        let before = machine.spillState
        guard case .spill(_, let new) = machine.offer(batch, at: now) else { return false }
        machine.refused(new, backTo: before)
        return true
    }
    var refusedBatches: [[String]] { machine.refusedBatches(at: now).map(\.ids) }
    func diskHasRoom() { machine.diskHasRoom(at: now) }
    func emptiedSpill() { machine.emptiedSpill() }
    var spillBound: LaneSnapshot.SpillBound? { machine.spillBound(at: now) }
    var spilledBytes: Int { machine.spilledBytes }
    var waitingEvents: Int { machine.waitingEvents }

    var hasRoom: Bool { machine.hasRoom(at: now) }
    var isStuck: Bool { machine.isStuck(at: now) }
    var isIdle: Bool { machine.isIdle }
    var isSpilling: Bool { machine.isSpilling }
    var isSpillWhole: Bool { machine.isSpillWhole }
    var queueCount: Int { machine.queue.count }
    var queuedBytes: Int { machine.queuedBytes }
    var written: Position { machine.written }
    var mark: SinkMark? { machine.mark }
    var delivered: Int { machine.delivered }
}
