import Glibc

/// A thread that runs one command at a time for a connection, while the connection's own thread
/// works on the answer before.
@safe
final class AheadThread {
    /// Used by the thread from `begin` until there is an outcome, and by the connection otherwise.
    private let handle: MongoHandle
    private let mutex: UnsafeMutablePointer<pthread_mutex_t>
    private let changed: UnsafeMutablePointer<pthread_cond_t>
    // All of these under the mutex.
    private var job: (command: [UInt8], database: String)?
    private var isRunning = false
    private var outcome: Result<MongoReply, MongoFailure>?
    private var isStopped = false

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

    /// Hands over a command. Nothing else may be under way.
    func begin(_ command: [UInt8], database: String) {
        locked {
            precondition(job == nil && !isRunning && outcome == nil, "one command runs ahead")
            job = (command, database)
        }
    }

    /// Waits until nothing runs; the outcome stays.
    func wait() {
        locked { while job != nil || isRunning { unsafe pthread_cond_wait(changed, mutex) } }
    }

    /// Waits for the outcome of what began last; nil when nothing did.
    func take() -> Result<MongoReply, MongoFailure>? {
        wait()
        return locked {
            let taken = outcome
            outcome = nil
            return taken
        }
    }

    /// Ends the thread behind what it does now. Does not wait.
    func stop() { locked { isStopped = true } }

    private func work() {
        while true {
            let next = locked { () -> (command: [UInt8], database: String)? in
                while job == nil && !isStopped { unsafe pthread_cond_wait(changed, mutex) }
                if isStopped { return nil }
                let next = job
                job = nil
                isRunning = true
                return next
            }
            guard let next else { return }
            let result: Result<MongoReply, MongoFailure>
            do throws(MongoFailure) {
                result = .success(try handle.run(next.command, database: next.database))
            } catch {
                result = .failure(error)
            }
            locked {
                isRunning = false
                outcome = result
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
