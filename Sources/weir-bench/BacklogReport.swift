/// What one round measured.
struct BacklogRound: Sendable {
    let weir: Drain
    /// `pg_recvlogical`, and the destination's own limit where it has one.
    let limits: [Drain]

    /// That program's time divided by Weir's.
    func ratio(to program: String) -> Double {
        let limit = limits.first { $0.program == program }
        return (limit?.seconds ?? .nan) / weir.seconds
    }

    fileprivate var drains: [Drain] { [weir] + limits }
}

/// The goal.
private let peakBytesMax = 64.0 * 1_048_576

extension CaseReport {
    /// A backlog's: medians over the rounds, the ratios first.
    init(_ name: String, _ changes: Int, _ rounds: [BacklogRound], _ yardstick: Yardstick) {
        var figures: [Figure] = []
        var samples: [Samples] = []
        for program in rounds.first?.limits.map(\.program) ?? [] {
            let ratios = rounds.map { $0.ratio(to: program) }
            let title = "weir / \(program)"
            let ratioMin = program == yardstick.program ? yardstick.ratioMin : nil
            figures.append(
                Figure(
                    title, .ratio, median(ratios),
                    goal: ratioMin.map { Figure.Goal(isUpperLimit: false, limit: $0) }))
            samples.append(Samples(name: title, unit: .ratio, values: ratios))
        }
        let programs = (rounds.first?.drains ?? []).indices.map { index in
            rounds.map { $0.drains[index] }
        }
        for (index, drains) in programs.enumerated() {
            guard let peak = drains.compactMap(\.run?.peakBytes).max() else { continue }
            let title = "\(drains[0].program) peak RSS"
            // Weir comes first.
            let goal = index == 0 ? Figure.Goal(isUpperLimit: true, limit: peakBytesMax) : nil
            figures.append(Figure(title, .bytes, peak, goal: goal))
        }
        for drains in programs {
            let name = drains[0].program
            let seconds = drains.map(\.seconds)
            figures += [
                Figure("\(name) time", .seconds, median(seconds)),
                Figure("\(name) speed", .rowsPerSecond, Double(changes) / median(seconds)),
            ]
            samples.append(Samples(name: "\(name) time", unit: .seconds, values: seconds))
            let more: [(String, Unit, [Double])] = [
                ("output", .bytes, drains.compactMap(\.bytes)),
                ("fsync after", .seconds, drains.compactMap(\.syncSeconds)),
                ("user CPU", .seconds, drains.compactMap(\.run?.userSeconds)),
                ("system CPU", .seconds, drains.compactMap(\.run?.systemSeconds)),
                ("server CPU", .seconds, drains.compactMap(\.serverSeconds)),
            ]
            for (what, unit, values) in more where !values.isEmpty {
                figures.append(Figure("\(name) \(what)", unit, median(values)))
            }
        }
        figures.append(Figure("changes", .count, Double(changes)))
        self.init(name: name, figures: figures, samples: samples)
    }
}
