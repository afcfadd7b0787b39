import Glibc

/// One thread that runs, in order, every job of the actors and tasks pinned to it.
///
/// Blocking calls on it stall only those, never Swift's shared pool, which has two threads on a
/// small machine. A hop to it from another thread costs about 20 µs: hop per batch, never per
/// event. Call `stop` once, after the last actor using it is done; jobs enqueued later never run.
@safe package final class ThreadExecutor: SerialExecutor, TaskExecutor, @unchecked Sendable {
    private let mutex: UnsafeMutablePointer<pthread_mutex_t>
    private let wake: UnsafeMutablePointer<pthread_cond_t>
    // Guarded by the mutex.
    private var jobs: [UnownedJob] = []
    private var isStopping = false
    private var hasStopped = false
    // Written before the thread can be handed a job.
    private var thread = pthread_t()

    package let name: String

    /// The name is shown by the kernel; its first 15 bytes count.
    package init(name: String) {
        self.name = name
        unsafe mutex = .allocate(capacity: 1)
        unsafe wake = .allocate(capacity: 1)
        unsafe pthread_mutex_init(mutex, nil)
        unsafe pthread_cond_init(wake, nil)
        let unmanaged = unsafe Unmanaged.passRetained(self).toOpaque()
        let code = unsafe pthread_create(
            &thread, nil,
            { raw in
                if let raw = unsafe raw {
                    unsafe Unmanaged<ThreadExecutor>.fromOpaque(raw).takeRetainedValue().run()
                }
                return nil
            }, unmanaged)
        precondition(code == 0, "could not start a thread: \(code)")
    }

    deinit {
        unsafe pthread_cond_destroy(wake)
        unsafe pthread_mutex_destroy(mutex)
        unsafe wake.deallocate()
        unsafe mutex.deallocate()
    }

    package func enqueue(_ job: consuming ExecutorJob) {
        let job = UnownedJob(job)
        unsafe pthread_mutex_lock(mutex)
        jobs.append(job)
        let isFirst = jobs.count == 1
        unsafe pthread_mutex_unlock(mutex)
        if isFirst { unsafe pthread_cond_signal(wake) }
    }

    package func isIsolatingCurrentContext() -> Bool? {
        pthread_equal(pthread_self(), thread) != 0
    }

    package func checkIsolated() {
        precondition(isIsolatingCurrentContext() == true, "not on thread \(name)")
    }

    /// Ends the thread once the jobs it has are done. Safe to call twice, not from its own jobs.
    package func stop() {
        unsafe pthread_mutex_lock(mutex)
        isStopping = true
        let isRepeated = hasStopped
        hasStopped = true
        unsafe pthread_mutex_unlock(mutex)
        unsafe pthread_cond_signal(wake)
        if !isRepeated { pthread_join(thread, nil) }
    }

    private func run() {
        // pthread_setname_np is not visible through Glibc.
        let file = unsafe open("/proc/thread-self/comm", O_WRONLY)
        if file >= 0 {
            _ = unsafe write(file, name, min(15, name.utf8.count))
            close(file)
        }
        var batch: [UnownedJob] = []
        while true {
            unsafe pthread_mutex_lock(mutex)
            while jobs.isEmpty && !isStopping { unsafe pthread_cond_wait(wake, mutex) }
            swap(&batch, &jobs)
            unsafe pthread_mutex_unlock(mutex)
            if batch.isEmpty { return }
            for job in batch {
                unsafe job.runSynchronously(
                    isolatedTo: asUnownedSerialExecutor(),
                    taskExecutor: asUnownedTaskExecutor())
            }
            batch.removeAll(keepingCapacity: true)
        }
    }
}
