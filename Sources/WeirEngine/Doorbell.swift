import Synchronization

/// Wakes one waiting task. A ring while nobody waits is kept for the next `wait`; several are one.
package final class Doorbell: Sendable {
    private struct State {
        var isRung = false
        var waiter: CheckedContinuation<Void, Never>?
    }
    private let state = Mutex(State())

    package init() {}

    package func ring() {
        let waiter = state.withLock { state -> CheckedContinuation<Void, Never>? in
            guard let waiter = state.waiter.take() else {
                state.isRung = true
                return nil
            }
            return waiter
        }
        waiter?.resume()
    }

    /// Returns at the next ring, or at once when one was kept or the task is cancelled.
    package func wait() async {
        await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                let isKept = state.withLock { state -> Bool in
                    precondition(state.waiter == nil, "two tasks wait for one doorbell")
                    if state.isRung || Task.isCancelled {
                        state.isRung = false
                        return true
                    }
                    state.waiter = continuation
                    return false
                }
                if isKept { continuation.resume() }
            }
        } onCancel: {
            ring()
        }
    }

    /// Like `wait`, but no longer than `limit` (invariant 7).
    package func wait(upTo limit: Duration) async {
        if state.withLock({ $0.isRung }) { return await wait() }
        await withTaskGroup(of: Void.self) { group in
            group.addTask {
                try? await Task.sleep(for: limit)
                if !Task.isCancelled { self.ring() }
            }
            await self.wait()
            group.cancelAll()
        }
    }
}
