import Foundation

/// What one case found.
struct CaseReport: Encodable, Sendable {
    let name: String
    let figures: [Figure]
    /// What the figures were computed from, per round or per try.
    var samples: [Samples] = []
}

struct Samples: Encodable, Sendable {
    let name: String
    let unit: Unit
    let values: [Double]
}

/// What a number counts, and how it is shown.
enum Unit: String, Encodable, Sendable {
    case seconds, milliseconds, nanoseconds, rowsPerSecond, ratio, bytes, count, ticksPerSecond

    func text(_ value: Double) -> String {
        switch self {
        case .seconds: decimal(value, 3) + " s"
        case .milliseconds: decimal(value, 2) + " ms"
        case .nanoseconds: decimal(value, 0) + " ns"
        case .rowsPerSecond: grouped(value) + " rows/s"
        case .ratio: decimal(value, 3)
        case .bytes: decimal(value / 1_048_576, 1) + " MB"
        case .count: grouped(value)
        case .ticksPerSecond: decimal(value, 1) + " ticks/s"
        }
    }
}

/// One result, perhaps with what the project promises about it.
struct Figure: Encodable, Sendable {
    struct Goal: Encodable, Sendable {
        let isUpperLimit: Bool
        let limit: Double
    }

    let name: String
    let unit: Unit
    let value: Double
    let goal: Goal?

    init(_ name: String, _ unit: Unit, _ value: Double, atMost limit: Double) {
        self.init(name, unit, value, goal: Goal(isUpperLimit: true, limit: limit))
    }

    init(_ name: String, _ unit: Unit, _ value: Double, atLeast limit: Double) {
        self.init(name, unit, value, goal: Goal(isUpperLimit: false, limit: limit))
    }

    init(_ name: String, _ unit: Unit, _ value: Double, goal: Goal? = nil) {
        self.name = name
        self.unit = unit
        self.value = value
        self.goal = goal
    }

    /// Nil without a goal.
    var isMet: Bool? {
        goal.map { $0.isUpperLimit ? value <= $0.limit : value >= $0.limit }
    }

    var text: String { pad(name, to: 34) + unit.text(value) }
}

struct BenchmarkReport: Encodable, Sendable {
    var schema = "weir.bench/1"
    let machine: [String]
    let isDebugBuild: Bool
    let rounds: Int
    let cases: [CaseReport]

    var isEveryGoalMet: Bool {
        cases.flatMap(\.figures).allSatisfy { $0.isMet ?? true }
    }

    var goalLines: [String] {
        cases.flatMap { report in
            report.figures.compactMap { figure in
                guard let goal = figure.goal, let isMet = figure.isMet else { return nil }
                let limit =
                    (goal.isUpperLimit ? "at most " : "at least ") + figure.unit.text(goal.limit)
                return "  \(isMet ? "✓" : "✗") " + pad(report.name, to: BenchmarkCase.nameWidth)
                    + pad(figure.name, to: 32) + pad(figure.unit.text(figure.value), to: 12)
                    + "(\(limit))"
            }
        }
    }

    func json() throws -> String {
        let encoder = JSONEncoder()
        encoder.keyEncodingStrategy = .convertToSnakeCase
        encoder.outputFormatting = [.sortedKeys, .prettyPrinted, .withoutEscapingSlashes]
        return String(decoding: try encoder.encode(self), as: UTF8.self)
    }
}

/// The middle value, or the mean of the two in the middle; NaN for none.
func median(_ values: [Double]) -> Double {
    guard !values.isEmpty else { return .nan }
    let sorted = values.sorted()
    let middle = sorted.count / 2
    return sorted.count % 2 == 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2
}

/// The smallest value that at least this share of the sorted values does not exceed.
func percentile(_ share: Double, ofSorted values: [Double]) -> Double {
    guard !values.isEmpty else { return .nan }
    let rank = Int((share * Double(values.count)).rounded(.up))
    return values[min(max(rank, 1), values.count) - 1]
}

func decimal(_ value: Double, _ digits: Int) -> String {
    String(format: "%.\(digits)f", value)
}

/// `171204` as `171,204`.
func grouped(_ value: Double) -> String {
    guard value.isFinite else { return "-" }
    var text = ""
    for (index, digit) in String(Int(value.rounded())).reversed().enumerated() {
        if index > 0 && index % 3 == 0 && digit != "-" { text.append(",") }
        text.append(digit)
    }
    return String(text.reversed())
}

extension Duration {
    var inSeconds: Double {
        let (seconds, attoseconds) = components
        return Double(seconds) + Double(attoseconds) / 1e18
    }
}
