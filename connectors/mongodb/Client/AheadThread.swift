import Glibc
import Synchronization

/// Says that nobody waits for a server's answer any more.
package final class Interruption: Sendable {
    private let flag = Atomic(false)

    package init() {}

    package var isSet: Bool { flag.load(ordering: .acquiring) }
    package func set() { flag.store(true, ordering: .releasing) }
}

/// A thread that runs commands for a connection, while the connection's own thread works on the
/// answer before.
///
/// A command is repeated as long as its answers are large, each time when the answer before is
/// taken. Whoever already waits for one counts as having taken it: waking him up takes as long as
/// many events take the server.
@safe
final class AheadThread<Answer> {
    struct Job {
        let command: [UInt8]
        let database: String
        /// An answer of so many bytes is large.
        let largeBytes: Int
    }

    struct Outcome {
        let result: Result<Answer, MongoFailure>
        let isLarge: Bool
    }

    /// Called by the thread from `begin` until there is an outcome that nobody takes; the
    /// connection runs nothing then.
    private let run: (Job) -> Outcome
    private let mutex: UnsafeMutablePointer<pthread_mutex_t>
    private let changed: UnsafeMutablePointer<pthread_cond_t>
    // All of these under the mutex.
    /// What to run, until an answer is small.
    private var job: Job?
    private var isRunning = false
    private var outcome: Result<Answer, MongoFailure>?
    /// The connection's thread waits in `take`.
    private var isAwaited = false
    private var isStopped = false

    /// Whoever waits for the thread stops waiting when it is set.
    private let interruption: Interruption

    /// Nil when no thread can be started.
    init?(_ interruption: Interruption = Interruption(), _ run: @escaping (Job) -> Outcome) {
        self.interruption = interruption
        self.run = run
        unsafe mutex = .allocate(capacity: 1)
        unsafe changed = .allocate(capacity: 1)
        unsafe pthread_mutex_init(mutex, nil)
        var attributes = pthread_condattr_t()
        unsafe pthread_condattr_init(&attributes)
        unsafe pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC)
        unsafe pthread_cond_init(changed, &attributes)
        unsafe pthread_condattr_destroy(&attributes)
        // The thread holds on to this object until it ends.
        guard runDetached(work) else { return nil }
    }

    deinit {
        unsafe pthread_mutex_destroy(mutex)
        unsafe pthread_cond_destroy(changed)
        unsafe mutex.deallocate()
        unsafe changed.deallocate()
    }

    /// Hands over a command. One that is repeated already is replaced behind the answer that is
    /// under way. Does nothing when an answer that ended the repetition waits to be taken: what
    /// follows it is for whoever takes it to ask for.
    func begin(_ job: Job) {
        locked { if self.job != nil || outcome == nil { self.job = job } }
    }

    /// Waits until nothing runs; an outcome stays, and nothing is begun before it is taken.
    func wait() {
        locked {
            while isRunning || job != nil && outcome == nil {
                if interruption.isSet { return }
                waitAWhile()
            }
        }
    }

    /// Waits for the next outcome; nil when nothing runs and no outcome waits.
    func take() -> Result<Answer, MongoFailure>? {
        locked {
            isAwaited = true
            while outcome == nil && (isRunning || job != nil) {
                if interruption.isSet { break }
                waitAWhile()
            }
            isAwaited = false
            if interruption.isSet { return .failure(.interrupted) }
            let taken = outcome
            outcome = nil
            return taken
        }
    }

    /// Waits until nothing runs, and forgets what was begun and what came of it.
    func cancel() {
        locked {
            job = nil
            while isRunning {
                if interruption.isSet { return }
                waitAWhile()
            }
            job = nil
            outcome = nil
        }
    }

    /// Ends the thread behind what it does now. Does not wait.
    func stop() { locked { isStopped = true } }

    /// Until something changes, or for a moment: an interruption is looked for, and wakes nobody.
    private func waitAWhile() {
        var end = timespec()
        unsafe clock_gettime(CLOCK_MONOTONIC, &end)
        end.tv_nsec += 250_000_000
        if end.tv_nsec >= 1_000_000_000 {
            end.tv_nsec -= 1_000_000_000
            end.tv_sec += 1
        }
        unsafe pthread_cond_timedwait(changed, mutex, &end)
    }

    private func work() {
        while true {
            let next = locked { () -> Job? in
                while !isStopped && (job == nil || outcome != nil && !isAwaited) {
                    unsafe pthread_cond_wait(changed, mutex)
                }
                isRunning = !isStopped
                return isStopped ? nil : job
            }
            guard let next else { return }
            let new = run(next)
            locked {
                while outcome != nil && !isStopped { unsafe pthread_cond_wait(changed, mutex) }
                isRunning = false
                outcome = new.result
                if !new.isLarge { job = nil }
            }
        }
    }

    /// Every change is told to whoever waits.
    private func locked<R>(_ body: () -> R) -> R {
        unsafe pthread_mutex_lock(mutex)
        defer {
            unsafe pthread_cond_broadcast(changed)
            unsafe pthread_mutex_unlock(mutex)
        }
        return body()
    }
}
