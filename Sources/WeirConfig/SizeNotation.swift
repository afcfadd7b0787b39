/// Sizes as the configuration writes them: a whole number and `KiB`, `MiB` or `GiB`, or of bytes.
enum SizeNotation {
    static let pattern = "^[0-9]+(KiB|MiB|GiB)?$"

    private static let units: [(unit: String, bytes: Int)] = [
        ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("", 1),
    ]

    /// Nil when the text is no size.
    static func parse(_ text: String) -> Int? {
        guard let (number, unit) = splitNumber(text),
            let factor = units.first(where: { $0.unit == unit })?.bytes
        else { return nil }
        guard let count = Int(number) else { return .max }
        let (product, overflow) = count.multipliedReportingOverflow(by: factor)
        return overflow ? .max : product
    }

    /// In the largest unit that shows it exactly.
    static func text(_ bytes: Int) -> String {
        guard bytes != 0, let hit = units.first(where: { bytes % $0.bytes == 0 }) else {
            return "\(bytes)"
        }
        return "\(bytes / hit.bytes)\(hit.unit)"
    }

    /// What was probably meant.
    static func suggestion(for text: String) -> String? {
        guard let (number, unit) = splitNumber(text.filter { $0 != " " }) else { return nil }
        switch unit.lowercased() {
        case "b", "byte", "bytes": return number
        case "k", "kb", "kib": return "\(number)KiB"
        case "m", "mb", "mib": return "\(number)MiB"
        case "g", "gb", "gib": return "\(number)GiB"
        default: return nil
        }
    }
}
