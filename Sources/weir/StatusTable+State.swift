import WeirCore
import WeirEngine

// What the state has to say: gaps, and pipelines that are no longer configured.

extension StatusTable {
    func gap(_ gap: GapReport, of pipeline: String) -> [String] {
        let day = gap.declared.prefix(19).replacing("T", with: " ")
        var lines = [
            "",
            "! \(pipeline)/\(gap.component)  gap \(gap.id) since \(day): \(gap.message) "
                + "(\(gap.code))",
        ]
        if !gap.hint.isEmpty { lines += Self.indented([gap.hint]) }
        return lines
    }

    /// Where sinks began: what came before is not at their targets.
    func beginnings(_ pipeline: PipelineReport) -> [String] {
        pipeline.sinks.compactMap { sink in
            guard let began = sink.began, let at = sink.beganAt else { return nil }
            let day = at.prefix(19).replacing("T", with: " ")
            return "\(sink.name) began at \(began) on \(day); what came before is not there"
        }
    }

    func orphan(_ orphan: OrphanReport) -> [String] {
        var lines = ["", "! \(orphan.message)"]
        let stored = orphan.stored.map {
            ", stored \($0.prefix(19).replacing("T", with: " "))"
        }
        lines.append("    It stands at \(orphan.position)\(stored ?? "").")
        if let retention = orphan.retention {
            let words = RetentionWords.of(orphan.type)
            let kept = retention.retainedBytes.map {
                " keeps \(Self.bytes($0)) \(words.log) (\(retention.status))."
            }
            lines.append(
                "    \(words.holderAtStart) \(retention.name)"
                    + (kept ?? ": \(retention.status)."))
        } else if let problem = orphan.problem {
            lines.append("    What its source keeps is not known: \(problem).")
        }
        if orphan.spilledBytes > 0 {
            lines.append("    \(Self.bytes(orphan.spilledBytes)) wait on disk (spill).")
        }
        lines.append("    \(Hints.completed(orphan.hint))")
        for gap in orphan.gaps { lines += self.gap(gap, of: orphan.name) }
        return lines
    }

    /// For `weir status NAME`.
    func lines(_ orphan: OrphanReport) -> String {
        Self.printed(Array(self.orphan(orphan).dropFirst()))
    }
}

extension RetentionWords {
    /// Of a type of source.
    static func of(_ type: String?) -> RetentionWords {
        SourceNotation.of(type).retention
    }

    /// At the start of a sentence.
    var holderAtStart: String { holder.prefix(1).uppercased() + holder.dropFirst() }
}
