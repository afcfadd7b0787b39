import Synchronization
import WeirCore

/// Makes what the lanes delivered durable, stores it, and says how far the source may forget.
///
/// The order is invariant 1: every sink durable, then the checkpoint on disk, then, by the reader,
/// the acknowledgement. It runs behind delivery: no write waits for it.
final class Checkpointer: Sendable {
    private let pipeline: String
    private let lanes: [Lane]
    private let store: StateStore
    private let pace: Pace
    private struct State {
        var stored: [CheckpointRow]
        var delivered: [Int]
        var lastIdle: ContinuousClock.Instant
    }
    private let state: Mutex<State>
    private let bell = Doorbell()
    /// Everything before it is safe everywhere and stored.
    private let durable: Mutex<Position?>
    /// Rung when `durable` moved.
    private let progressed: Doorbell

    init(
        pipeline: String, lanes: [Lane], stored: [CheckpointRow], store: StateStore,
        progressed: Doorbell, pace: Pace
    ) {
        self.pipeline = pipeline
        self.lanes = lanes
        self.store = store
        self.pace = pace
        self.progressed = progressed
        state = Mutex(
            State(
                stored: stored, delivered: lanes.map { _ in 0 },
                lastIdle: .now - pace.idleCheckpoint))
        durable = Mutex(stored.map(\.covered).min())
    }

    /// What may be acknowledged.
    var safe: Position? { durable.withLock { $0 } }

    func run() async throws(WeirError) {
        while !Task.isCancelled {
            await bell.wait(upTo: pace.checkpoint)
            if Task.isCancelled { return }
            try await checkpoint(isFinal: false)
        }
    }

    /// - Throws: when a sink's flush failed, which may have lost what it accepted, or the state
    ///   cannot be written: the pipeline then goes back to the last checkpoint.
    func checkpoint(isFinal: Bool) async throws(WeirError) {
        let progress = lanes.map { $0.progress() }
        let before = state.withLock { $0 }
        let hasDelivered = zip(progress, before.delivered).contains { $0.delivered > $1 }
        let hasMoved = zip(progress, before.stored).contains { $0.written > $1.position }
        let isSpilling = progress.contains { $0.isSpilling }
        let isIdleDue = ContinuousClock.now - before.lastIdle >= pace.idleCheckpoint
        guard hasDelivered || isSpilling || hasMoved && (isIdleDue || isFinal) else { return }

        var rows = before.stored
        var failure: WeirError?
        for (index, lane) in lanes.enumerated() {
            let now = progress[index]
            do throws(WeirError) {
                if now.delivered > before.delivered[index] { try await lane.sink.flush() }
                if now.extent != nil { try lane.syncSpill() }
            } catch {
                // This sink's row stays; what the others hold is stored all the same.
                failure = failure ?? error.of(lane.plan.name)
                continue
            }
            rows[index] = CheckpointRow(
                pipeline: pipeline, sink: lane.plan.name,
                position: max(now.written, before.stored[index].position),
                mark: now.mark, spill: now.extent.flatMap { $0.end > now.written ? $0 : nil },
                updatedMicros: WallClock.micros())
        }
        let changed = zip(rows, before.stored).filter {
            $0.position != $1.position || $0.mark != $1.mark || $0.spill != $1.spill
        }.map(\.0)
        if !changed.isEmpty { try await store.save(changed) }
        state.withLock {
            $0.stored = rows
            $0.delivered = progress.map(\.delivered)
            $0.lastIdle = .now
        }
        for (lane, row) in zip(lanes, rows) where row.spill == nil { try lane.releaseSpill() }
        durable.withLock { $0 = rows.map(\.covered).min() }
        progressed.ring()
        if let failure { throw failure }
    }
}
