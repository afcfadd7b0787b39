import Glibc

/// A thread that runs commands for a connection, while the connection's own thread works on the
/// answer before.
///
/// A command is repeated as long as its answers are large, each time when the answer before is
/// taken. Whoever already waits for one counts as having taken it: waking him up takes as long as
/// many events take the server.
@safe
final class AheadThread {
    /// Used by the thread from `begin` until there is an outcome that nobody takes, and by the
    /// connection otherwise.
    private let handle: MongoHandle
    private let mutex: UnsafeMutablePointer<pthread_mutex_t>
    private let changed: UnsafeMutablePointer<pthread_cond_t>
    // All of these under the mutex.
    /// What to run, until an answer is small.
    private var job: Job?
    private var isRunning = false
    private var outcome: Result<MongoReply, MongoFailure>?
    /// The connection's thread waits in `take`.
    private var isAwaited = false
    private var isStopped = false

    struct Job {
        let command: [UInt8]
        let database: String
        /// An answer of so many bytes is large.
        let largeBytes: Int
    }

    init(_ handle: MongoHandle) {
        self.handle = handle
        unsafe mutex = .allocate(capacity: 1)
        unsafe changed = .allocate(capacity: 1)
        unsafe pthread_mutex_init(mutex, nil)
        unsafe pthread_cond_init(changed, nil)
        // The thread holds on to this object until it ends.
        let context = unsafe Unmanaged.passRetained(self).toOpaque()
        var thread = pthread_t()
        let failure = unsafe pthread_create(
            &thread, nil,
            { context in
                guard let context = unsafe context else { return nil }
                unsafe Unmanaged<AheadThread>.fromOpaque(context).takeRetainedValue().work()
                return nil
            }, context)
        precondition(failure == 0, "a thread can be started")
        pthread_detach(thread)
    }

    deinit {
        unsafe pthread_mutex_destroy(mutex)
        unsafe pthread_cond_destroy(changed)
        unsafe mutex.deallocate()
        unsafe changed.deallocate()
    }

    /// Hands over a command. One that is repeated already is replaced behind the answer that is
    /// under way.
    func begin(_ job: Job) { locked { self.job = job } }

    /// Waits until nothing runs; an outcome stays, and nothing is begun before it is taken.
    func wait() {
        locked {
            while isRunning || job != nil && outcome == nil {
                unsafe pthread_cond_wait(changed, mutex)
            }
        }
    }

    /// Waits for the outcome of what began last; nil when nothing did.
    func take() -> Result<MongoReply, MongoFailure>? {
        locked {
            isAwaited = true
            while outcome == nil && (isRunning || job != nil) {
                unsafe pthread_cond_wait(changed, mutex)
            }
            isAwaited = false
            let taken = outcome
            outcome = nil
            return taken
        }
    }

    /// Waits until nothing runs, and forgets what was begun and what came of it.
    func cancel() {
        locked {
            job = nil
            while isRunning { unsafe pthread_cond_wait(changed, mutex) }
            outcome = nil
        }
    }

    /// Ends the thread behind what it does now. Does not wait.
    func stop() { locked { isStopped = true } }

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
            let result: Result<MongoReply, MongoFailure>
            do throws(MongoFailure) {
                result = .success(try handle.run(next.command, database: next.database))
            } catch {
                result = .failure(error)
            }
            let isLarge = (try? result.get()).map { $0.byteCount >= next.largeBytes } ?? false
            locked {
                while outcome != nil && !isStopped { unsafe pthread_cond_wait(changed, mutex) }
                isRunning = false
                outcome = result
                if !isLarge { job = nil }
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
