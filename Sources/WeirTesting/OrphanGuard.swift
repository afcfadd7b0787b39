import Glibc

/// Cleans up after this process however it ends, even by SIGKILL.
///
/// A small shell reads what is to be watched from a socket. The other end is held by this process
/// alone, so the shell sees end of file when the process is gone; it then stops every process and
/// removes every folder still on its lists.
final class OrphanGuard: Sendable {
    static let shared = Result { try OrphanGuard() }

    private let descriptor: Int32
    private let shell: Int32

    // A zombie counts as ended: not every container reaps orphans at once.
    // Each list is a string of words between single spaces; a folder's name has no space.
    private static let script = """
        trap '' HUP INT TERM
        processes=' ' folders=' '
        ended() {
            case $(cat "/proc/$1/stat") in
            *') '[!Z]' '*) return 1 ;;
            *) return 0 ;;
            esac
        }
        while read -r verb word; do
            case $verb in
            watch-process) processes="$processes$word " ;;
            watch-folder) folders="$folders$word " ;;
            forget-process)
                case $processes in
                *" $word "*) processes="${processes%% $word *} ${processes#* $word }" ;;
                esac ;;
            forget-folder)
                case $folders in
                *" $word "*) folders="${folders%% $word *} ${folders#* $word }" ;;
                esac ;;
            esac
        done
        for process in $processes; do kill -s "${process%:*}" "${process#*:}"; done
        tries=0
        for process in $processes; do
            until ended "${process#*:}" || [ $tries -ge 100 ]; do
                tries=$((tries + 1)); sleep 0.05
            done
            kill -s KILL -- "-${process#*:}"
        done
        for folder in $folders; do rm -rf -- "$folder"; done
        """

    init() throws {
        var ends: [Int32] = [-1, -1]
        let type = Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue)
        guard unsafe socketpair(AF_UNIX, type, 0, &ends) == 0 else {
            throw TestingError("could not create a socket pair: \(errorText(errno))")
        }
        descriptor = ends[0]
        defer { close(ends[1]) }
        // The shell must not hold this process's output: whoever reads that waits for its end.
        let null = try openFile("/dev/null", O_RDWR)
        defer { close(null) }
        let command = Command(
            path: "/bin/sh",
            arguments: ["-c", Self.script, "weir-orphan-guard"],
            environment: environment(adding: [:]),
            directory: "/"
        )
        shell = try spawn(command, input: ends[1], output: null, errors: null)
    }

    /// Lets the shell clean up now. Only tests get here: the shared guard lives as long as we do.
    deinit {
        close(descriptor)
        var status: Int32 = 0
        unsafe waitpid(shell, &status, 0)
    }

    /// When this process ends, `pid` gets the signal `name` (as in `kill -s`), and after five
    /// seconds its process group gets SIGKILL.
    func watch(process pid: Int32, signal name: String) { tell("watch-process \(name):\(pid)") }

    func forget(process pid: Int32, signal name: String) { tell("forget-process \(name):\(pid)") }

    func watch(folder: String) { tell("watch-folder \(folder)") }

    func forget(folder: String) { tell("forget-folder \(folder)") }

    private func tell(_ line: String) {
        // One send per line: lines of several threads do not mix. A dead shell must not kill us.
        let bytes = Array("\(line)\n".utf8)
        _ = unsafe send(descriptor, bytes, bytes.count, Int32(MSG_NOSIGNAL))
    }
}
