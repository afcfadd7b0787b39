import Glibc

/// Runs something that blocks on a thread of its own, which ends with it.
///
/// Returns false, and runs nothing, when no thread can be started.
func runDetached(_ work: @escaping () -> Void) -> Bool {
    let context = unsafe Unmanaged.passRetained(ThreadBody(work)).toOpaque()
    var thread = pthread_t()
    let failure = unsafe pthread_create(
        &thread, nil,
        { context in
            guard let context = unsafe context else { return nil }
            unsafe Unmanaged<ThreadBody>.fromOpaque(context).takeRetainedValue().work()
            return nil
        }, context)
    guard failure == 0 else {
        unsafe Unmanaged<ThreadBody>.fromOpaque(context).release()
        return false
    }
    pthread_detach(thread)
    return true
}

/// What a C function can hand to a thread.
private final class ThreadBody {
    let work: () -> Void
    init(_ work: @escaping () -> Void) { self.work = work }
}
