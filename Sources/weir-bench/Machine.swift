import Foundation
import Glibc
import WeirTesting

/// Where the figures come from.
enum Machine {
    static func facts(_ weir: WeirProgram) throws -> [String] {
        let version = try runProcess(weir.path, ["version"]).stdout
            .trimmingCharacters(in: .whitespacesAndNewlines)
        return [
            "\(version) (\(weir.path))",
            "\(sysconf(Int32(_SC_NPROCESSORS_ONLN))) × \(processor), load \(load)",
        ]
    }

    private static var processor: String {
        let text = (try? String(contentsOfFile: "/proc/cpuinfo", encoding: .utf8)) ?? ""
        let line = text.split(separator: "\n").first { $0.hasPrefix("model name") }
        let name = line?.split(separator: ":").last ?? "unknown processor"
        return name.trimmingCharacters(in: .whitespaces)
    }

    /// What else runs: above zero, seconds are noisy.
    private static var load: String {
        let text = (try? String(contentsOfFile: "/proc/loadavg", encoding: .utf8)) ?? ""
        return text.split(separator: " ").first.map(String.init) ?? "unknown"
    }
}
