import CMalloc
import Glibc
import Logging

/// What a process of ours is, before it does anything.
enum ProcessSetup {
    /// Call first of all.
    static func begin() {
        weir_forbid_dumps()
        guard CommandLine.arguments.dropFirst().first == "run" else { return }
        // Until there is something to stop in good order, a daemon that is told to stop has done
        // what it was told. `RunCommand` takes the two over before it begins anything.
        for number in [SIGTERM, SIGINT] { signal(number) { _ in _exit(0) } }
    }

    /// A daemon of one pipeline has about forty open. A few more than that are no use either.
    private static let descriptorsMin: UInt = 64
    /// More than thousands of pipelines need.
    private static let descriptorsWanted: UInt = 65_536

    /// Below the limit, what fails first is not Weir's own code, and ends the process with a trap.
    static func checkDescriptors() throws {
        let limit = weir_raise_descriptors(descriptorsWanted)
        guard limit >= descriptorsMin else {
            throw Failure(
                .unavailable,
                "error: only \(limit) files may be open at once, and Weir needs at least "
                    + "\(descriptorsMin)\n  Raise the limit: ulimit -n 1024, or LimitNOFILE= of the "
                    + "service.")
        }
    }

    static func warnOfRoot(_ logger: Logger) {
        guard geteuid() == 0 else { return }
        logger.warning(
            "weir runs as root, which it never needs: give it a user of its own, who owns the state directory and may read the configuration"
        )
    }
}
