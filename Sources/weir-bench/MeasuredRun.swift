import Foundation
import Glibc
import WeirTesting

/// What one run of a program took, from before its start to its end.
struct MeasuredRun: Sendable {
    let seconds: Double
    let userSeconds: Double
    let systemSeconds: Double
    let peakBytes: Double
    let standardOutput: String

    /// Runs a program to its end.
    ///
    /// - Throws: when it fails, with what it said, or runs longer than `limit`.
    init(
        _ path: String, _ arguments: [String], within limit: Duration = .seconds(300)
    ) throws {
        let folder = try TemporaryDirectory()
        let before = Self.childrenSeconds()
        let start = ContinuousClock.now
        let process = try ChildProcess(
            path, arguments, stdout: folder.file("stdout"), stderr: folder.file("stderr"))
        var peak = 0.0
        var sampled = start
        var status = process.exitStatus
        while status == nil {
            let now = ContinuousClock.now
            guard now - start < limit else {
                throw TestingError("\"\(path)\" still runs after \(limit)")
            }
            if now - sampled > .milliseconds(10) || peak == 0 {
                sampled = now
                peak = max(peak, ProcessMemory(process.pid)?.peakBytes ?? 0)
            }
            // Short programs are timed finely, long ones hardly disturbed.
            usleep(now - start < .milliseconds(200) ? 100 : 1_000)
            status = process.exitStatus
        }
        seconds = (ContinuousClock.now - start).inSeconds
        // No other child ends meanwhile, so the difference is this one's.
        let after = Self.childrenSeconds()
        userSeconds = after.user - before.user
        systemSeconds = after.system - before.system
        peakBytes = peak
        standardOutput = try process.standardOutput()
        guard status == .exited(0) else {
            let said = try process.standardError()
            throw TestingError(
                "\"\(path) \(arguments.joined(separator: " "))\" ended with "
                    + "\(status.map(\.description) ?? "nothing"): \(said)")
        }
    }

    private static func childrenSeconds() -> (user: Double, system: Double) {
        var usage = rusage()
        unsafe getrusage(RUSAGE_CHILDREN.rawValue, &usage)
        return (usage.ru_utime.inSeconds, usage.ru_stime.inSeconds)
    }
}

/// Memory of a running process.
///
/// Not `ru_maxrss`: a process that we start inherits our own peak in it.
struct ProcessMemory {
    let residentBytes: Double
    let peakBytes: Double
    /// The part that is not pages of files, which the kernel may drop whenever it likes.
    let anonymousBytes: Double

    /// Nil when it has ended.
    init?(_ pid: Int32) {
        let file = unsafe open("/proc/\(pid)/status", O_RDONLY | O_CLOEXEC)
        guard file >= 0 else { return nil }
        defer { close(file) }
        var bytes = [UInt8](repeating: 0, count: 4_096)
        let count = unsafe read(file, &bytes, bytes.count)
        guard count > 0 else { return nil }
        var found: [String: Double] = [:]
        for line in bytes[..<count].split(separator: UInt8(ascii: "\n")) {
            let words = line.split { $0 == UInt8(ascii: " ") || $0 == UInt8(ascii: "\t") }
            guard words.count == 3 else { continue }
            let kibibytes = Double(String(decoding: words[1], as: UTF8.self))
            found[String(decoding: words[0], as: UTF8.self)] = kibibytes.map { $0 * 1_024 }
        }
        guard let resident = found["VmRSS:"], let peak = found["VmHWM:"],
            let anonymous = found["RssAnon:"]
        else { return nil }
        residentBytes = resident
        peakBytes = peak
        anonymousBytes = anonymous
    }
}

extension timeval {
    fileprivate var inSeconds: Double { Double(tv_sec) + Double(tv_usec) / 1e6 }
}
