import Glibc
import Synchronization
import Testing
import WeirCore
import WeirTesting

@testable import WeirEngine

/// A sink whose calls block their thread, as those on a slow disk or in a C client do.
private actor BlockingSink: SinkConnector {
    struct Config: ConnectorConfig {
        static let fields: [ConfigField] = []
        init(_ scope: ConfigScope) throws(ConfigIssue) {}
    }
    private let executor: any SerialExecutor
    nonisolated var unownedExecutor: UnownedSerialExecutor {
        unsafe executor.asUnownedSerialExecutor()
    }
    /// Long enough for a test machine with other things to do; a flush ends it at once.
    let isWriting = Atomic(false)
    let flushedDuringWrite = Atomic(false)

    init(_ config: Config, _ context: ConnectorContext) { executor = context.executor }
    func open(at mark: SinkMark?) -> SinkMark? { nil }
    func write(_ batches: [EventBatch]) -> WriteOutcome {
        isWriting.store(true, ordering: .sequentiallyConsistent)
        for _ in 0..<50_000 where !flushedDuringWrite.load(ordering: .sequentiallyConsistent) {
            usleep(1000)
        }
        isWriting.store(false, ordering: .sequentiallyConsistent)
        return WriteOutcome(.accepted, delivered: 0)
    }
    nonisolated func flush() {
        let during = isWriting.load(ordering: .sequentiallyConsistent)
        if during { flushedDuringWrite.store(true, ordering: .sequentiallyConsistent) }
    }
    func close() {}
}

@Suite(.timeLimit(.minutes(2))) struct FlushTests {
    /// "No write waits for it": a flush that is not bound to the sink's thread runs beside a write.
    @Test func aFlushRunsBesideABlockingWrite() async throws {
        let thread = ThreadExecutor(name: "weir/test")
        defer { thread.stop() }
        let context = ConnectorContext.test(executor: thread)
        let scope = ConfigScope(pipeline: "p", name: "s", values: ConfigValues([:]))
        let sink = try BlockingSink(BlockingSink.Config(scope), context)
        let anySink: any SinkConnector = sink
        let write = Task { try await anySink.write([]) }
        try await eventually("the write blocks") {
            sink.isWriting.load(ordering: .sequentiallyConsistent)
        }
        try await anySink.flush()
        _ = try await write.value
        let isBeside = sink.flushedDuringWrite.load(ordering: .sequentiallyConsistent)
        #expect(isBeside)
    }
}
