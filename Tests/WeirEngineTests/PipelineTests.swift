import Foundation
import Testing
import WeirCore
import WeirTesting

@testable import WeirEngine

@Suite(.timeLimit(.minutes(1))) struct PipelineTests {
    private let state: TestState
    init() throws { state = try TestState() }

    /// A pipeline whose every acknowledgement is checked.
    private func watched(
        _ count: Int = 1, batchEventsMax: Int = 4, queueBytes: Int = 8 << 20
    ) throws -> TestPipeline {
        let disks = (0..<count).map { _ in SinkDisk() }
        let watch = try InvariantWatch(
            state, Dictionary(uniqueKeysWithValues: zip(["a", "b", "c"], disks)))
        let server = ScriptedServer(batchEventsMax: batchEventsMax) { watch.fault($0, $1) }
        return TestPipeline(server: server, disks: disks, queueBytes: queueBytes)
    }

    private func arrived(_ pipeline: TestPipeline, at disk: Int = 0) async throws {
        try await eventually("all events arrive") {
            pipeline.disks[disk].kept == pipeline.server.ids
        }
    }

    private func finish(
        _ pipeline: TestPipeline, sourceLocation: SourceLocation = #_sourceLocation
    ) {
        for disk in pipeline.disks {
            #expect(disk.kept == pipeline.server.ids, sourceLocation: sourceLocation)
        }
        #expect(pipeline.server.violations == [], sourceLocation: sourceLocation)
    }

    // MARK: Delivery and the order of effects

    @Test func deliversEverythingAndAcknowledgesIt() async throws {
        let pipeline = try watched(2)
        for count in [1, 3, 0, 9] { pipeline.server.commit(count) }
        let ending = try await pipeline.run(in: state) { _ in
            try await arrived(pipeline)
            pipeline.server.commit(5)
            try await arrived(pipeline)
            try await eventually("the source may forget all") {
                pipeline.server.confirmed == pipeline.server.head
            }
        }
        #expect(ending.error == nil)
        finish(pipeline)
    }

    @Test func stoppingDrainsStoresAndAcknowledges() async throws {
        let pipeline = try watched()
        pipeline.disks[0].fail(write: [.slow(.milliseconds(50))])
        pipeline.server.commit(20)
        try await pipeline.run(in: state) { _ in
            try await eventually("a write begins") {
                pipeline.disks[0].calls.contains { if case .write = $0 { true } else { false } }
            }
        }
        // What was read is there, durable, stored and acknowledged; nothing half.
        let row = try #require(try await state.rows().first)
        #expect(pipeline.disks[0].durable == pipeline.disks[0].kept.count)
        #expect(pipeline.server.confirmed == row.position)
        #expect(pipeline.disks[0].calls.last == .close)
        try await pipeline.runOnce(in: state)
        finish(pipeline)
    }

    /// The way on may be behind the place where the source stopped.
    @Test func whatWasReadBeforeTheSourceStoppedIsDelivered() async throws {
        let pipeline = try watched(2)
        pipeline.disks[1].fail(write: [.hold])
        pipeline.server.commit(20)
        let ending = try await pipeline.run(in: state) { running in
            try await eventually("all is read, and a write hangs") {
                running.monitor.now.received == 20 && pipeline.disks[1].isHeld
            }
            pipeline.server.losePosition()
            try await eventually("the source has stopped") { running.lanes.allSatisfy(\.isClosing) }
            pipeline.disks[1].release()
            try await eventually("the pipeline has stopped") {
                running.monitor.now.state == .stopped
            }
        }
        #expect(ending.error?.disposition == .positionLost)
        finish(pipeline)
        #expect(try await state.rows().allSatisfy { $0.position == pipeline.server.head })
    }

    @Test func flushThenCheckpointThenAcknowledge() async throws {
        let pipeline = try watched(2)
        // The watch looks at the disks and at the store at each acknowledgement.
        pipeline.disks[1].fail(flush: [.slow(.milliseconds(30)), .slow(.milliseconds(30))])
        try await pipeline.run(in: state) { _ in
            for count in 1...20 {
                pipeline.server.commit(count)
                try await Task.sleep(for: .milliseconds(2))
            }
            try await arrived(pipeline, at: 1)
        }
        #expect(!pipeline.server.acknowledged.isEmpty)
        finish(pipeline)
    }

    @Test func onceEndsWhenEverythingIsDelivered() async throws {
        let pipeline = try watched(2)
        for count in [4, 7] { pipeline.server.commit(count) }
        let ending = try await pipeline.runOnce(in: state)
        #expect(ending.error == nil)
        finish(pipeline)
        #expect(pipeline.server.confirmed == pipeline.server.head)
    }

    @Test func anIdleSourceMovesOnItsPosition() async throws {
        let pipeline = try watched()
        try await pipeline.run(in: state) { _ in
            for _ in 0..<3 { pipeline.server.commit(0) }
            try await eventually("empty transactions are acknowledged") {
                pipeline.server.confirmed == pipeline.server.head
            }
        }
        finish(pipeline)
    }

    // MARK: Failures of a sink

    @Test(arguments: [
        SinkFault.reject(.transient), .failHalfway(.transient), .failAfterWrite(.transient),
    ])
    func aFailedWriteIsRepeatedAndThereOnce(fault: SinkFault) async throws {
        let pipeline = try watched()
        pipeline.disks[0].fail(write: [fault, fault, fault])
        pipeline.server.commit(6)
        try await pipeline.run(in: state) { _ in try await arrived(pipeline) }
        finish(pipeline)
    }

    @Test func aFailedFlushGoesBackToTheCheckpoint() async throws {
        let pipeline = try watched()
        pipeline.disks[0].fail(flush: [.reject(.transient), .reject(.transient)])
        pipeline.server.commit(6)
        try await pipeline.run(in: state) { _ in
            try await eventually("a flush works") {
                pipeline.server.confirmed == pipeline.server.head
            }
        }
        #expect(pipeline.disks[0].calls.count { if case .open = $0 { true } else { false } } == 3)
        finish(pipeline)
    }

    /// The lane does not ask the sink again: only what comes from the checkpoint on mends it.
    @Test(arguments: [false, true])
    func aSinkThatLostWhatItHadAcceptedGetsItAgain(isLostInFlush: Bool) async throws {
        let pipeline = try watched(2)
        let disk = pipeline.disks[1]
        pipeline.server.commit(6)
        let ending = try await pipeline.run(in: state) { _ in
            try await eventually("a checkpoint") {
                pipeline.server.confirmed == pipeline.server.head
            }
            disk.fail(flush: isLostInFlush ? [.lose] : [.hold])
            pipeline.server.commit(4)
            if !isLostInFlush {
                try await eventually("events that no flush has covered") {
                    disk.isHeld && disk.kept.count == 10 && disk.durable == 6
                }
                disk.fail(write: [.lose])
            }
            pipeline.server.commit(3)
            try await eventually("all of it is safe") {
                disk.durable == 13 && pipeline.server.confirmed == pipeline.server.head
            }
        }
        #expect(ending.error == nil)
        #expect(disk.calls.filter(\.isOpen) == [.open(mark: nil), .open(mark: "6")])
        finish(pipeline)
    }

    @Test func onceGoesBackAFewTimesForASinkThatLosesWhatItHadAccepted() async throws {
        let pipeline = try watched()
        pipeline.disks[0].fail(write: [.lose, .lose])
        pipeline.server.commit(6)
        let ending = try await pipeline.runOnce(in: state)
        #expect(ending.error == nil)
        finish(pipeline)

        pipeline.disks[0].fail(write: (0..<10_000).map { _ in .lose })
        pipeline.server.commit(6)
        let hopeless = try await pipeline.runOnce(in: state)
        #expect(hopeless.error?.disposition == .rewind)
        #expect(hopeless.error?.component == "a")
    }

    @Test func aSinkWhoseFlushFailsDoesNotHoldBackTheOthersCheckpoint() async throws {
        let pipeline = try watched(2)
        pipeline.disks[0].fail(flush: (0..<10_000).map { _ in .reject(.transient) })
        pipeline.server.commit(6)
        try await pipeline.run(in: state) { _ in
            try await eventually("the other sink's position is stored") {
                try await state.rows().last?.position == pipeline.server.head
            }
            #expect(pipeline.server.acknowledged.allSatisfy { $0 < pipeline.server.head })
            pipeline.disks[0].heal()
            try await eventually("all is well again") {
                pipeline.server.confirmed == pipeline.server.head
            }
        }
        finish(pipeline)
    }

    @Test(arguments: ["open", "write", "flush"])
    func anErrorForTheOperatorStopsThePipelineAndNamesTheSink(call: String) async throws {
        let pipeline = try watched(2)
        let fault = [SinkFault.reject(.blocked)]
        pipeline.disks[1].fail(
            open: call == "open" ? fault : [], write: call == "write" ? fault : [],
            flush: call == "flush" ? fault : [])
        pipeline.server.commit(6)
        let ending = try await state.withStore { store in
            await pipeline.make(store, state).run(isOnce: false)
        }
        #expect(ending.error?.disposition == .blocked)
        #expect(ending.error?.component == "b")
        try await state.withStore { store in
            let failures = try await store.failures(of: "p", sinceMicros: 0)
            #expect(failures.map(\.component) == ["b"])
        }
        for disk in pipeline.disks { #expect(disk.calls.last == .close) }
        try await pipeline.runOnce(in: state)
        finish(pipeline)
    }

    @Test func cancellingEndsThePipelineThoughASinkHangs() async throws {
        let pipeline = try watched()
        pipeline.disks[0].fail(write: [.hold])
        pipeline.server.commit(6)
        try await state.withStore { store in
            let task = Task { await pipeline.make(store, state).run(isOnce: false) }
            try await eventually("the write hangs") { pipeline.disks[0].isHeld }
            task.cancel()
            _ = await task.value
        }
        pipeline.disks[0].heal()
        try await pipeline.runOnce(in: state)
        finish(pipeline)
    }

    @Test func stoppingDoesNotWaitForASinkThatIsDown() async throws {
        let pipeline = try watched()
        pipeline.disks[0].fail(write: (0..<10_000).map { _ in .reject(.transient) })
        pipeline.server.commit(6)
        try await pipeline.run(in: state) { _ in
            try await eventually("attempts fail") { pipeline.disks[0].calls.count > 3 }
        }
        pipeline.disks[0].heal()
        try await pipeline.runOnce(in: state)
        finish(pipeline)
    }

    @Test func aFullLaneKeepsAnsweringTheSource() async throws {
        let pipeline = try watched(queueBytes: 1000)
        pipeline.disks[0].fail(write: [.hold])
        for _ in 0..<40 { pipeline.server.commit(4) }
        try await pipeline.run(in: state) { _ in
            try await eventually("the source hears from us") { pipeline.server.keepalives > 3 }
            pipeline.disks[0].release()
            try await arrived(pipeline)
        }
        finish(pipeline)
    }

    // MARK: Failures of the source

    @Test func aConnectionLostInsideATransactionNeitherRepeatsNorSkips() async throws {
        let pipeline = try watched(2, batchEventsMax: 3)
        for count in [10, 20, 5] { pipeline.server.commit(count) }
        pipeline.server.cut(afterReads: 5, refusingOpens: 3)
        try await pipeline.run(in: state) { _ in
            try await arrived(pipeline)
            pipeline.server.cut(afterReads: 0, refusingOpens: 1)
            pipeline.server.commit(7)
            try await arrived(pipeline)
            try await arrived(pipeline, at: 1)
        }
        for disk in pipeline.disks {
            // The sinks never noticed.
            #expect(disk.calls.count { if case .open = $0 { true } else { false } } == 1)
        }
        finish(pipeline)
    }

    @Test func aSourceWithoutWhatComesNextStopsThePipeline() async throws {
        let pipeline = try watched()
        pipeline.server.commit(6)
        let ending = try await state.withStore { store in
            let running = pipeline.make(store, state)
            let task = Task { await running.run(isOnce: false) }
            try await arrived(pipeline)
            pipeline.server.losePosition()
            return await task.value
        }
        #expect(ending.error?.disposition == .positionLost)
    }

    // MARK: Spill

    private static let down = (0..<100_000).map { _ in SinkFault.reject(.transient) }

    @Test func aSinkThatIsDownDoesNotStopItsNeighbour() async throws {
        let pipeline = try watched(2, queueBytes: 500)
        pipeline.disks[0].fail(write: Self.down)
        try await pipeline.run(in: state) { _ in
            for _ in 0..<50 { pipeline.server.commit(4) }
            try await arrived(pipeline, at: 1)
            try await eventually("the spill is safe, so the source may forget") {
                pipeline.server.confirmed == pipeline.server.head
            }
            #expect(pipeline.disks[0].kept.isEmpty)
            pipeline.disks[0].heal()
            try await arrived(pipeline)
            for _ in 0..<10 { pipeline.server.commit(4) }
            try await arrived(pipeline)
            try await eventually("the disk space is given back") {
                try await state.rows().first?.position == pipeline.server.head
                    && spillBytes("a") == 8
            }
        }
        finish(pipeline)
    }

    private func spillBytes(_ sink: String) -> Int {
        let path = state.directory.spillPath(pipeline: "p", sink: sink)
        let facts = try? FileManager.default.attributesOfItem(atPath: path)
        return (facts?[.size] as? Int) ?? -1
    }

    @Test func aSpillOutlivesTheProcess() async throws {
        let pipeline = try watched(2, queueBytes: 500)
        pipeline.disks[0].fail(write: Self.down)
        for _ in 0..<50 { pipeline.server.commit(4) }
        try await pipeline.run(in: state) { _ in
            try await eventually("the source has forgotten") {
                pipeline.server.confirmed == pipeline.server.head
            }
        }
        #expect(pipeline.disks[0].kept.isEmpty)
        pipeline.disks[0].heal()
        try await pipeline.runOnce(in: state)
        try await pipeline.run(in: state) { _ in try await arrived(pipeline) }
        finish(pipeline)
    }

    /// The part of the transaction that the sink took before it went down is not in the spill, and
    /// the sink forgets it when it is opened again.
    @Test func aSinkLostInsideATransactionGetsAllOfItAgain() async throws {
        let pipeline = try watched(2, batchEventsMax: 2, queueBytes: 300)
        // The first write works and ends inside the transaction; then the sink is gone.
        pipeline.disks[0].fail(write: [.slow(.zero)] + Self.down)
        pipeline.server.commit(60)
        for _ in 0..<5 { pipeline.server.commit(4) }
        try await pipeline.run(in: state) { _ in
            try await arrived(pipeline, at: 1)
            try await eventually("it is written down how far the neighbour is") {
                try await state.rows().last?.position == pipeline.server.head
            }
        }
        for disk in pipeline.disks { disk.crash { _ in 0 } }
        try await pipeline.runOnce(in: state)
        try await pipeline.run(in: state) { _ in try await arrived(pipeline) }
        finish(pipeline)
    }

    @Test func aSinkThatIsDownFromTheStartLosesNothingWhenItOpens() async throws {
        let pipeline = try watched(2, queueBytes: 300)
        pipeline.disks[0].fail(open: Self.down)
        for _ in 0..<20 { pipeline.server.commit(4) }
        try await pipeline.run(in: state) { _ in
            try await eventually("the spill is safe, so the source has forgotten") {
                pipeline.server.confirmed == pipeline.server.head
            }
            pipeline.disks[0].heal()
            try await arrived(pipeline)
        }
        for disk in pipeline.disks { disk.crash { _ in 0 } }
        try await pipeline.runOnce(in: state)
        finish(pipeline)
    }

    // MARK: Starting

    @Test func aSinkThatIsNewBeginsWhereThePipelineStands() async throws {
        let pipeline = try watched()
        let both = TestPipeline(server: pipeline.server, disks: pipeline.disks + [SinkDisk()])
        both.server.commit(3)
        try await pipeline.runOnce(in: state)
        both.server.commit(4)
        try await both.runOnce(in: state)
        #expect(both.disks[0].kept == both.server.ids)
        #expect(both.disks[1].kept == Array(both.server.ids.dropFirst(3)))
        #expect(both.server.violations == [])
    }

    @Test func aSinkThatIsGoneHoldsNothingBack() async throws {
        let both = try watched(2)
        both.disks[1].fail(write: Self.down)
        both.server.commit(3)
        try await both.run(in: state) { _ in try await arrived(both) }
        let one = TestPipeline(server: both.server, disks: [both.disks[0]])
        one.server.commit(3)
        try await one.runOnce(in: state)
        #expect(one.server.confirmed == one.server.head)
        #expect(try await state.rows().map(\.sink) == ["a"])
        #expect(both.disks[0].kept == both.server.ids)
        #expect(both.server.violations == [])
    }

    @Test func renamingTheOnlySinkKeepsThePosition() async throws {
        let old = try watched()
        old.server.commit(3)
        try await old.runOnce(in: state)
        let new = TestPipeline(server: old.server, disks: old.disks, names: ["z"])
        new.server.commit(2)
        try await new.runOnce(in: state)
        #expect(try await state.rows().map(\.sink) == ["z"])
        finish(new)
    }

    /// Half of the state is no fresh start.
    @Test func aKnownPipelineWithoutPositionsIsRefused() async throws {
        let pipeline = try watched()
        pipeline.server.commit(3)
        try await pipeline.runOnce(in: state)
        try await state.withStore { store in
            let rows = try await store.checkpoints(of: "p")
            let roster = try #require(SinkRoster(sinks: [], rows: rows, .numbers))
            try await store.follow(roster, new: [], of: "p")
            let ending = await pipeline.make(store, state).run(isOnce: true)
            #expect(ending.error?.code.name == "state.damaged")
            #expect(ending.error?.disposition == .blocked)
        }
        #expect(pipeline.server.opens == 1)
    }

    @Test func aFirstStartThatWasCutShortIsTakenUpAgain() async throws {
        let pipeline = try watched()
        pipeline.server.commit(3)
        try await state.withStore { store in
            let running = pipeline.make(store, state)
            running.stop()
            _ = await running.run(isOnce: false)
        }
        try await pipeline.runOnce(in: state)
        finish(pipeline)
    }

    // MARK: Resources

    @Test func livesLeakNoThreads() async throws {
        let pipeline = try watched(2)
        pipeline.server.commit(3)
        try await state.withStore { store in
            let running = pipeline.make(store, state)
            let task = Task { await running.run(isOnce: false) }
            try await arrived(pipeline)
            let before = try threads()
            for life in 1...30 {
                pipeline.disks[0].fail(flush: [.reject(.transient)])
                pipeline.server.commit(1)
                try await eventually("life \(life) ends") {
                    pipeline.disks[0].calls.count { $0.isOpen } > life
                }
            }
            try await arrived(pipeline)
            #expect(try threads() < before + 20)
            running.stop()
            _ = await task.value
        }
        finish(pipeline)
    }

    private func threads() throws -> Int {
        try FileManager.default.contentsOfDirectory(atPath: "/proc/self/task").count
    }
}

extension SinkDisk.Call {
    var isOpen: Bool { if case .open = self { true } else { false } }
}
