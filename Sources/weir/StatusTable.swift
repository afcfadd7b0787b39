import WeirConfig
import WeirCore
import WeirEngine

/// Lays a report out for a terminal of 80 columns. Pure.
struct StatusTable {
    let isASCII: Bool
    let nowMicros: Int64

    // MARK: All pipelines

    func overview(_ report: StatusReport) -> String {
        var rows = [["PIPELINE", "STATE", "LAG", "QUEUED", "IN/s", "OUT/s", "LAST 10m", "ERR/h"]]
        for pipeline in report.pipelines {
            rows.append([
                pipeline.name, pipeline.state.rawValue, lag(pipeline, report),
                Self.count(pipeline.queuedEvents), Self.count(pipeline.receivedPerSecond),
                Self.count(pipeline.deliveredPerSecond),
                sparkline(pipeline.deliveredLastMinutes), Self.count(pipeline.errorsLastHour),
            ])
        }
        var lines = [header(report), ""]
        lines += Self.table(
            rows,
            [
                Column(width: 16, isWord: true), Column(width: 12, isWord: true), Column(width: 8),
                Column(width: 7), Column(width: 6), Column(width: 6),
                Column(width: 10, isWord: true), Column(width: 5),
            ])
        for pipeline in report.pipelines { lines += problems(pipeline) }
        for orphan in report.orphans { lines += self.orphan(orphan) }
        return Self.printed(lines)
    }

    private func header(_ report: StatusReport) -> String {
        let count = report.pipelines.count
        let pipelines = "\(count) pipeline\(count == 1 ? "" : "s")"
        guard report.isRunning else {
            let seen = report.lastSeen.flatMap(ISOTime.micros).map {
                " (last seen \(Self.ago(nowMicros - $0)) ago)"
            }
            return "weir \(report.version)  daemon not running\(seen ?? "")  \(pipelines)"
        }
        let up = report.uptimeSeconds.map { "  up \(Self.ago(Int64($0 * 1_000_000)))" } ?? ""
        let ok = report.pipelines.count { $0.state == .streaming || $0.state == .catchingUp }
        let rest = count - ok
        let tally = rest == 0 ? "\(ok) ok" : "\(ok) ok, \(rest) not"
        return "weir \(report.version)\(up)  \(pipelines): \(tally)"
    }

    private func lag(_ pipeline: PipelineReport, _ report: StatusReport) -> String {
        guard report.isRunning else {
            return pipeline.source.retention?.lagBytes.map(Self.bytes) ?? "?"
        }
        return Self.lag(pipeline.lagSeconds)
    }

    private func problems(_ pipeline: PipelineReport) -> [String] {
        var lines: [String] = []
        for problem in pipeline.problems {
            lines += [
                "", "! \(pipeline.name)/\(problem.component)  \(problem.message) (\(problem.code))",
            ]
            var when: [String] = []
            if let since = problem.since { when.append("since \(Self.clock(since))") }
            if let attempt = problem.attempt { when.append("attempt \(attempt)") }
            if let next = problem.nextAttemptSeconds {
                when.append("next in \(Self.seconds(next))")
            }
            if !when.isEmpty { lines.append("    " + when.joined(separator: ", ") + ".") }
            if let sink = pipeline.sinks.first(where: { $0.name == problem.component }),
                let waiting = waiting(sink)
            {
                lines.append("    \(waiting)")
            }
            lines += Self.indented([problem.detail, problem.note, problem.hint])
        }
        if let risk = risk(pipeline) {
            if !pipeline.problems.isEmpty {
                lines.append("    \(risk)")
            } else if let status = pipeline.source.retention?.status, status == "at risk" {
                lines += ["", "! \(pipeline.name)/source  \(risk)"]
            }
        }
        for warning in pipeline.warnings { lines += ["", "! \(pipeline.name)  \(warning)"] }
        for finding in pipeline.findings {
            lines += [
                "", "! \(pipeline.name)/\(finding.component)  \(finding.message) (\(finding.code))",
            ]
            lines += Self.indented([finding.detail, finding.hint])
        }
        for gap in pipeline.gaps { lines += self.gap(gap, of: pipeline.name) }
        if !pipeline.problems.isEmpty {
            lines.append(Hints.completed("  Next: weir status \(pipeline.name)"))
        }
        return lines
    }

    /// What a sink that fails has not taken yet; the rest is still in the source's log.
    private func waiting(_ sink: SinkReport) -> String? {
        let queued = sink.queuedEvents ?? 0
        guard queued > 0 || sink.spilledBytes > 0 else { return nil }
        let events = queued == 1 ? "1 event waits" : "\(Self.grouped(queued)) events wait"
        let spilled = sink.spilledBytes > 0 ? ", \(Self.bytes(sink.spilledBytes)) on disk" : ""
        return events + " in memory (\(Self.bytes(sink.queuedBytes ?? 0)))\(spilled)."
    }

    /// Will the database's disk fill because of us?
    private func risk(_ pipeline: PipelineReport) -> String? {
        guard let retention = pipeline.source.retention else { return nil }
        let words = RetentionWords.of(pipeline.source.type)
        if let window = retention.windowSeconds, let left = retention.headroomSeconds {
            return
                "The \(words.log) reaches back \(Self.seconds(window)); \(Self.seconds(max(0, left))) "
                + "are left before the position is lost (\(retention.status))"
                + "\(age(pipeline.source))."
        }
        guard let kept = retention.retainedBytes else { return nil }
        let verdict: String
        if let limit = retention.limitBytes, limit > 0 {
            let percent = Double(kept) / Double(limit) * 100
            let shown = percent < 1 ? "under 1%" : "\(Int(percent))%"
            verdict = "\(shown) of \(Self.bytes(limit)) limit, \(percent < 80 ? "safe" : "AT RISK")"
        } else {
            verdict = "no limit set" + (words.unlimited.map { ": \($0)" } ?? "")
        }
        return
            "\(words.holderAtStart) \(retention.name) keeps \(Self.bytes(kept)) \(words.log) "
            + "(\(verdict))\(age(pipeline.source))."
    }

    /// What the source keeps is asked every two seconds while it can be asked.
    private func age(_ source: SourceReport) -> String {
        guard let asked = source.retentionAsOf.flatMap(ISOTime.micros),
            nowMicros - asked > 30_000_000
        else { return "" }
        return ", as of \(Self.ago(nowMicros - asked)) ago"
    }

    // MARK: One pipeline

    func detail(_ pipeline: PipelineReport, isRunning: Bool) -> String {
        let source = pipeline.source
        let sinks = pipeline.sinks.count
        let server = source.server.isEmpty ? "" : " (\(source.server))"
        var lines = [
            "\(pipeline.name)   \(isRunning ? pipeline.state.rawValue : "daemon not running")   "
                + "\(source.type) \(source.connection)\(server) -> "
                + "\(sinks) sink\(sinks == 1 ? "" : "s")"
        ]
        if let retention = source.retention {
            let words = RetentionWords.of(source.type)
            lines.append(
                "Source   \(words.holder) \(retention.name)  "
                    + "\(retention.active ? "active" : "inactive")  "
                    + "head \(retention.head ?? "?")  confirmed \(retention.confirmed ?? "?")")
            let beat =
                source.lastHeartbeat.flatMap(ISOTime.micros)
                .map { "  heartbeat \(Self.ago(nowMicros - $0)) ago" } ?? ""
            lines.append(
                "         \(Self.log(retention, words))\(beat)")
        }
        if isRunning {
            let last = source.lastEvent.flatMap { text in
                ISOTime.micros(text).map {
                    "  last event \(Self.clock(text)) (\(Self.ago(nowMicros - $0)) ago)"
                }
            }
            lines.append(
                "         received \(Self.grouped(source.received ?? 0))  filtered "
                    + "\(Self.grouped(source.filtered ?? 0))\(last ?? "")")
            if let read = source.lastRead.flatMap(ISOTime.micros), nowMicros - read > 2_000_000 {
                lines.append(
                    "         not read for \(Self.ago(nowMicros - read)); lag counts from then")
            }
        }
        lines += sinkRows(pipeline)
        lines += beginnings(pipeline)
        lines += errorRows(pipeline)
        lines += problems(pipeline).filter { !$0.hasPrefix("  Next:") }
        if let risk = risk(pipeline), pipeline.problems.isEmpty { lines.append(risk) }
        return Self.printed(lines)
    }

    private static func log(_ retention: SourceRetention, _ words: RetentionWords) -> String {
        let status = (words.status.map { "\($0) " } ?? "") + retention.status
        if let window = retention.windowSeconds {
            let left = retention.headroomSeconds.map { seconds(max(0, $0)) } ?? "?"
            return "\(words.log) \(seconds(window)), \(left) left (\(status))"
        }
        if let unknown = words.unknown { return "\(words.log) unknown: \(unknown)" }
        let limit = retention.limitBytes.map { " of \(bytes($0))" } ?? ""
        return "\(words.log) kept \(retention.retainedBytes.map(bytes) ?? "?")\(limit) (\(status))"
    }

    private func sinkRows(_ pipeline: PipelineReport) -> [String] {
        var rows = [
            ["SINK", "STATE", "AT", "LAG", "QUEUED", "p50/p99 ms", "DELIVERED", "RETRIES"]
        ]
        for sink in pipeline.sinks {
            var latency = "-"
            if let p50 = sink.p50Ms, let p99 = sink.p99Ms {
                latency = "\(Self.short(p50))/\(Self.short(p99))"
            }
            rows.append([
                sink.name, sink.state.rawValue, sink.position, Self.lag(sink.lagSeconds),
                Self.count(sink.queuedEvents), latency, sink.delivered.map(Self.grouped) ?? "?",
                Self.count(sink.retries),
            ])
        }
        let table = Self.table(
            rows,
            [
                Column(width: 12, isWord: true), Column(width: 9, isWord: true),
                Column(width: 12, isWord: true), Column(width: 8), Column(width: 7),
                Column(width: 10), Column(width: 12), Column(width: 7),
            ])
        var lines = [table[0]]
        for (row, sink) in zip(table.dropFirst(), pipeline.sinks) {
            lines.append(row)
            if sink.spilledBytes > 0 {
                lines.append("             \(Self.bytes(sink.spilledBytes)) wait on disk (spill)")
            }
            if let late = sink.late, late > 0 {
                lines.append("             \(Self.grouped(late)) completed with values read later")
            }
        }
        return lines
    }

    private func errorRows(_ pipeline: PipelineReport) -> [String] {
        guard !pipeline.errors.isEmpty else { return [] }
        return ["Errors (last 24 h)"]
            + pipeline.errors.prefix(8).map { error in
                let first = Self.clock(error.first)
                let last = Self.clock(error.last)
                let span = first == last ? first : "\(first)-\(last)"
                return "  \(error.count)x  \(span)  \(error.component)  \(error.code)  "
                    + error.message
            }
    }

    // MARK: Cells

    /// Words from the left, numbers from the right; a column is as wide as its widest cell.
    private static func table(_ rows: [[String]], _ columns: [Column]) -> [String] {
        let shown = rows.map { $0.map(VisibleText.of) }
        let widths = columns.indices.map { index in
            shown.reduce(columns[index].width) { max($0, VisibleText.width($1[index])) }
        }
        return shown.map { cells in
            cells.indices.map { index in
                let cell = cells[index]
                let space = String(
                    repeating: " ", count: widths[index] - VisibleText.width(cell))
                return columns[index].isWord ? cell + space : space + cell
            }.joined(separator: " ")
        }
    }

    /// Text that may have lines of its own, below the line it belongs to.
    static func indented(_ texts: [String?]) -> [String] {
        texts.compactMap { $0 }.flatMap { text in
            text.split(separator: "\n", omittingEmptySubsequences: false).map { "    \($0)" }
        }
    }

    /// The edge to the terminal: servers' words are among the lines.
    static func printed(_ lines: [String]) -> String {
        lines.map { trimmed(VisibleText.of($0)) + "\n" }.joined()
    }

    private struct Column {
        let width: Int
        var isWord = false
    }

    func sparkline(_ counts: [Int]) -> String {
        let steps: [Character] = isASCII ? Array(".:-=#") : Array("▁▂▃▄▅▆▇█")
        guard let top = counts.max(), top > 0 else { return "" }
        return String(
            counts.map { count in
                count == 0 ? steps[0] : steps[max(1, count * (steps.count - 1) / top)]
            })
    }

    /// What is not known is no number.
    static func lag(_ value: Double?) -> String { value.map(seconds) ?? "?" }
    static func count(_ value: Double?) -> String { count(value.map { Int($0.rounded()) }) }
    static func count(_ value: Int?) -> String { value.map(count) ?? "?" }

    static func seconds(_ value: Double) -> String {
        switch value {
        case ..<0.05: "0s"
        case ..<10: "\((value * 10).rounded() / 10)s"
        case ..<60: "\(Int(value))s"
        case ..<3600: "\(Int(value) / 60)m\(Int(value) % 60)s"
        default: "\(Int(value) / 3600)h\(Int(value) % 3600 / 60)m"
        }
    }

    static func ago(_ micros: Int64) -> String {
        let value = max(0, micros / 1_000_000)
        switch value {
        case ..<60: return "\(value)s"
        case ..<3600: return "\(value / 60)m \(value % 60)s"
        case ..<86_400: return "\(value / 3600)h \(value % 3600 / 60)m"
        default: return "\(value / 86_400)d \(value % 86_400 / 3600)h"
        }
    }

    static func count(_ value: Int) -> String {
        switch value {
        case ..<1000: "\(value)"
        case ..<1_000_000: "\(Double(value / 100) / 10)k"
        default: "\(Double(value / 100_000) / 10)M"
        }
    }

    static func bytes(_ value: Int64) -> String { bytes(Int(value)) }

    static func bytes(_ value: Int) -> String {
        var number = Double(value)
        for unit in ["B", "KiB", "MiB", "GiB"] {
            if abs(number) < 1024 || unit == "GiB" {
                return unit == "B" ? "\(Int(number)) B" : "\((number * 10).rounded() / 10) \(unit)"
            }
            number /= 1024
        }
        return "\(value) B"
    }

    static func grouped(_ value: Int) -> String {
        let digits = Array(String(value))
        return digits.enumerated().reduce(into: "") { text, digit in
            if digit.offset > 0 && (digits.count - digit.offset) % 3 == 0 { text += "," }
            text.append(digit.element)
        }
    }

    /// Hours, minutes and seconds of an ISO time, UTC as everything Weir prints.
    static func clock(_ iso: String) -> String { String(iso.dropFirst(11).prefix(8)) }

    private static func short(_ value: Double) -> String {
        if value < 0.1 { return "<0.1" }
        return value < 10 ? "\((value * 10).rounded() / 10)" : "\(Int(value.rounded()))"
    }

    private static func trimmed(_ line: String) -> String {
        var line = line[...]
        while line.last == " " { line.removeLast() }
        return String(line)
    }
}
