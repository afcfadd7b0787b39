/// Durations as the configuration writes them: a whole number and `ms`, `s`, `m` or `h`.
enum DurationNotation {
    static let pattern = "^[0-9]+(ms|s|m|h)$"

    private static let milliseconds: [(unit: String, count: Int64)] = [
        ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1),
    ]

    /// More than any range allows, for numbers too large to compute with.
    private static let beyond = Duration.milliseconds(Int64.max)

    /// Nil when the text is no duration.
    static func parse(_ text: String) -> Duration? {
        guard let (number, unit) = splitNumber(text),
            let factor = milliseconds.first(where: { $0.unit == unit })?.count
        else { return nil }
        guard let count = Int64(number) else { return beyond }
        let (product, overflow) = count.multipliedReportingOverflow(by: factor)
        return overflow ? beyond : .milliseconds(product)
    }

    /// In the largest unit that shows it exactly.
    static func text(_ duration: Duration) -> String {
        let (seconds, attoseconds) = duration.components
        let fraction = attoseconds / 1_000_000_000_000_000
        if fraction != 0 { return "\(seconds * 1000 + fraction)ms" }
        let hit = milliseconds.first { $0.count >= 1000 && seconds % ($0.count / 1000) == 0 }
        guard seconds != 0, let hit else { return "\(seconds)s" }
        return "\(seconds / (hit.count / 1000))\(hit.unit)"
    }

    /// What was probably meant.
    static func suggestion(for text: String) -> String? {
        guard let (number, unit) = splitNumber(text.filter { $0 != " " }) else { return nil }
        switch unit.lowercased() {
        case "", "s", "sec", "secs", "second", "seconds": return "\(number)s"
        case "ms", "msec", "millis", "millisecond", "milliseconds": return "\(number)ms"
        case "m", "min", "mins", "minute", "minutes": return "\(number)m"
        case "h", "hr", "hrs", "hour", "hours": return "\(number)h"
        case "d", "day", "days":
            guard let days = Int32(number) else { return nil }
            return "\(Int64(days) * 24)h"
        default: return nil
        }
    }
}

/// Splits leading ASCII digits, at least one and few enough for a message, from what follows them.
func splitNumber(_ text: String) -> (number: String, unit: String)? {
    let digits = text.utf8.prefix { (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) }
    guard (1...64).contains(digits.count) else { return nil }
    return (String(digits) ?? "", String(text.utf8.dropFirst(digits.count)) ?? "")
}
