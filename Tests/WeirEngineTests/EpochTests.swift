import Synchronization
import Testing
import WeirCore
import WeirTesting

@testable import WeirEngine

/// Versions that sinks keep begin with the epoch, so it must never fall, whatever is lost.
@Suite(.timeLimit(.minutes(1))) struct EpochTests {
    @Test func anEpochIsTheTimeItBeganAndAboveTheOneBefore() {
        let now = Int(WallClock.seconds())
        #expect(abs(Epoch.next(after: nil) - now) <= 1)
        #expect(abs(Epoch.next(after: 3) - now) <= 1)
        // Two in one second, or a clock that stood in the future.
        #expect(Epoch.next(after: now + 5) == now + 6)
        #expect(Epoch.next(after: nil) < UInt32.max, "versions have 32 bits for it")
    }

    @Test func sinksSeeTheEpochThatIsStored() async throws {
        let state = try TestState()
        let server = ScriptedServer()
        let disk = SinkDisk()
        let seen = Mutex<[UInt32]>([])
        let sink = SinkPlan(name: "a", type: "faulty") { context in
            seen.withLock { $0.append(context.epoch()) }
            return FaultySink(FaultySink.Config(disk: disk), context)
        }
        let plan = PipelinePlan(
            name: "p", sourceType: "scripted", notation: .numbers, connection: "test", sinks: [sink]
        ) { ScriptedSource(ScriptedSource.Config(server: server), $0) }
        server.commit(3)
        for _ in 0..<2 {
            try await state.withStore { store in
                _ = await Pipeline(
                    plan, store: store, directory: state.directory, logger: TestPipeline.logger,
                    pace: TestPipeline.pace
                ).run(isOnce: true)
            }
        }
        let stored = try await state.withStore { try await $0.pipeline("p")?.epoch }
        #expect(seen.withLock { $0 }.map(Int.init) == [stored, stored])
    }

    @Test func sinksSeeWhosePositionsAreDelivered() async throws {
        let state = try TestState()
        let server = ScriptedServer()
        let disk = SinkDisk()
        let contexts = Mutex<[ConnectorContext]>([])
        let seen = Mutex<[SourceIdentity?]>([])
        let sink = SinkPlan(name: "a", type: "faulty") { context in
            contexts.withLock { $0.append(context) }
            seen.withLock { $0.append(context.source()) }
            return FaultySink(FaultySink.Config(disk: disk), context)
        }
        let plan = PipelinePlan(
            name: "p", sourceType: "scripted", notation: .numbers, connection: "test", sinks: [sink]
        ) { context in
            seen.withLock { $0.append(context.source()) }
            return ScriptedSource(ScriptedSource.Config(server: server), context)
        }
        func run() async throws -> PipelineRow? {
            try await state.withStore { store in
                let pipeline = Pipeline(
                    plan, store: store, directory: state.directory, logger: TestPipeline.logger,
                    pace: TestPipeline.pace)
                let ending = await pipeline.run(isOnce: true)
                #expect(ending.error == nil)
                return try await store.pipeline("p")
            }
        }
        server.commit(3)
        _ = try await run()
        // The same source in another life, as after a failover.
        let earlier = SourceIdentity([("system", "1"), ("timeline", "1")])
        let epoch = try await state.withStore { store in
            let epoch = Epoch.next(after: try await store.pipeline("p")?.epoch)
            try await store.begin(
                PipelineRow(name: "p", identity: earlier, epoch: epoch), checkpoints: [])
            return epoch
        }
        server.commit(3)
        let stored = try #require(try await run())
        #expect(seen.withLock { $0 } == [nil, ScriptedSource.identity, nil, earlier])
        let last = try #require(contexts.withLock { $0 }.last)
        #expect(last.source() == ScriptedSource.identity)
        #expect(stored.identity == ScriptedSource.identity && stored.epoch > epoch)
        #expect(Int(last.epoch()) == stored.epoch)
    }

    @Test func aDroppedPipelineBeginsAboveItsEarlierLife() async throws {
        let state = try TestState()
        let identity = ScriptedSource.identity
        try await state.withStore { store in
            try await store.begin(
                PipelineRow(name: "p", identity: identity, epoch: Epoch.next(after: nil)),
                checkpoints: [])
            let before = try #require(try await store.pipeline("p")?.epoch)
            try await store.remove("p")
            #expect(try await store.pipeline("p") == nil)
            #expect(Epoch.next(after: nil) >= before)
        }
    }
}
