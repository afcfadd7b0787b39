import Foundation

/// CPU time of a running process so far, user and system, in clock ticks of 10 ms.
struct ProcessTimes {
    let parent: Int32
    let ticks: Double
    /// Of its children that ended.
    let endedChildrenTicks: Double

    /// Nil when it has ended.
    init?(_ pid: Int32) {
        let text = (try? String(contentsOfFile: "/proc/\(pid)/stat", encoding: .utf8)) ?? ""
        // The second field is a name in parentheses that may hold anything.
        let fields = text.split(separator: ")").last?.split(separator: " ") ?? []
        guard fields.count > 14, let parent = Int32(fields[1]) else { return nil }
        let times = fields[11...14].compactMap { Double($0) }
        guard times.count == 4 else { return nil }
        self.parent = parent
        ticks = times[0] + times[1]
        endedChildrenTicks = times[2] + times[3]
    }
}

/// CPU time so far of a running server, its child processes and those that ended; NaN when it has
/// ended.
func serverCPUSeconds(_ pid: Int32) -> Double {
    while let server = ProcessTimes(pid) {
        let names = (try? FileManager.default.contentsOfDirectory(atPath: "/proc")) ?? []
        let children = names.compactMap { Int32($0) }.compactMap { ProcessTimes($0) }
            .filter { $0.parent == pid }
        // A child that ended meanwhile is in neither sum, or in both.
        guard ProcessTimes(pid)?.endedChildrenTicks == server.endedChildrenTicks else { continue }
        let ticks = children.reduce(server.ticks + server.endedChildrenTicks) { $0 + $1.ticks }
        return ticks / 100
    }
    return .nan
}
