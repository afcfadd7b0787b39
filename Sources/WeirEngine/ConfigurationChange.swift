import WeirCore

/// Where each sink of a pipeline begins when the configured sinks are held against the stored
/// positions, and what is lost with those that are gone. Pure.
struct SinkRoster {
    /// A row of a sink that is no longer configured.
    struct Gone {
        let row: CheckpointRow
        /// The added sink that writes where it wrote.
        let successor: String?
        /// What nothing will deliver to its target.
        let gap: DeclaredGap?
    }

    /// The rows of configured sinks.
    let kept: [CheckpointRow]
    /// Configured sinks without a row.
    let added: [String]
    let gone: [Gone]
    /// Where the added ones begin: a renamed sink is one that is gone and one that is added, so
    /// nothing is lost when they begin where the slowest of all stood. The source kept that much.
    let beginning: Position

    /// What the successors of sinks that are gone are to go by.
    var marks: [String: SinkMark] {
        gone.reduce(into: [:]) { marks, gone in
            guard let successor = gone.successor, let mark = gone.row.mark else { return }
            marks[successor] = SinkMark(of: gone.row.sink, mark)
        }
    }

    /// - Parameters:
    ///   - rows: at least one.
    ///   - settings: how sinks are configured now; those that are not compared are left out.
    ///   - before: how they were configured when they last ran.
    init?(
        sinks: [String], rows: [CheckpointRow], _ notation: SourceNotation,
        settings: [String: ConnectorSettings] = [:], before: [String: ConnectorSettings] = [:]
    ) {
        guard let slowest = rows.map(\.covered).min(), let fastest = rows.map(\.covered).max()
        else { return nil }
        let added = sinks.filter { name in !rows.contains { $0.sink == name } }
        self.added = added
        beginning = slowest
        kept = rows.filter { sinks.contains($0.sink) }
        var free = added
        gone = rows.filter { !sinks.contains($0.sink) }.map { row in
            let index = free.firstIndex { name in
                guard let now = settings[name], let old = before[row.sink] else { return false }
                return now.type == old.type && now.place == old.place && now.claims == old.claims
            }
            let successor = index.map { free.remove(at: $0) }
            // What begins at `slowest` gets all that comes after it.
            let end = successor == nil ? fastest : slowest
            return Gone(
                row: row, successor: successor,
                gap: row.position < end ? Self.gap(of: row, to: end, notation) : nil)
        }
    }

    private static func gap(
        of row: CheckpointRow, to end: Position, _ notation: SourceNotation
    ) -> DeclaredGap {
        let (from, to) = (notation.display(row.position), notation.display(end))
        let spilled = row.spill.map { " (\($0.length) bytes of them waited on disk)" } ?? ""
        return DeclaredGap(
            .sinkRemoved, from: from, to: to,
            "sink \"\(row.sink)\" is no longer configured and had not taken the changes from "
                + "\(from) to \(to)\(spilled)",
            hint: "Bring what it wrote to in step with the source, or give it up; then: "
                + "weir gap resolve ID")
    }
}

/// What changed in the configuration of one source or sink since it last ran. Pure.
struct SettingsChange {
    let component: String
    let before: ConnectorSettings
    let now: ConnectorSettings
    /// Keys whose change leaves nothing behind.
    let passing: Set<String>
    /// What the sink has written stays as it is.
    var isAppendOnly = false
    /// What the other sinks of the pipeline write to now: the sink by its claim.
    var others: [String: String] = [:]

    private struct Change {
        let key: String
        let before: String
        let now: String

        var words: String { "\(key) was \(before), is \(now)" }
    }

    /// For messages: a list of a thousand columns says no more than its beginning.
    private static let shownCharacters = 160
    private static let shownNames = 8

    private static func shown(_ text: String) -> String {
        text.count <= shownCharacters ? text : text.prefix(shownCharacters) + "…"
    }

    private static func shown(_ names: [String]) -> String {
        let rest = names.count - shownNames
        return names.prefix(shownNames).map { "\"\($0)\"" }.joined(separator: ", ")
            + (rest > 0 ? " and \(rest) more" : "")
    }

    /// Both list their tables, so that they can be told one by one.
    private var comparesTables: Bool { !before.tables.isEmpty && !now.tables.isEmpty }

    private var changes: [Change] {
        var changes: [Change] = []
        if before.type != now.type {
            changes.append(Change(key: "type", before: before.type, now: now.type))
        }
        // The same place under another connection's name is no change.
        let places = (before.place ?? before.connection, now.place ?? now.connection)
        if places.0 != places.1, before.type == now.type {
            changes.append(
                Change(key: "place", before: places.0 ?? "none", now: places.1 ?? "none"))
        }
        let keys = Set((before.entries + now.entries).map(\.key)).sorted()
        for key in keys where !(comparesTables && ["tables", "collections"].contains(key)) {
            let old = before.entries.first { $0.key == key }?.json
            let new = now.entries.first { $0.key == key }?.json
            guard old != new else { continue }
            changes.append(
                Change(
                    key: key, before: old.map(Self.shown) ?? "the default",
                    now: new.map(Self.shown) ?? "the default"))
        }
        return changes
    }

    /// One line for the log; nil when nothing changed.
    var words: String? {
        var words = changes.map(\.words)
        if comparesTables {
            if !addedTables.isEmpty { words.append("added \(Self.shown(addedTables))") }
            if !removedTables.isEmpty { words.append("removed \(Self.shown(removedTables))") }
        }
        return words.isEmpty ? nil : "configuration changed: " + words.joined(separator: "; ")
    }

    private var addedTables: [String] { now.tables.filter { !before.tables.contains($0) } }
    private var removedTables: [String] { before.tables.filter { !now.tables.contains($0) } }

    /// What the change leaves behind.
    ///
    /// - Parameter place: where it takes effect, in the source's notation.
    func gaps(at place: String) -> [DeclaredGap] {
        var gaps: [DeclaredGap] = []
        // Whether a source is another one, its own identity says, whatever its address.
        let lasting = changes.filter {
            !passing.contains($0.key) && !(component == "source" && $0.key == "place")
        }
        if !lasting.isEmpty { gaps.append(changed(lasting, at: place)) }
        guard comparesTables else { return gaps }
        if !addedTables.isEmpty {
            gaps.append(
                DeclaredGap(
                    .tablesAdded, Self.shown(addedTables), to: place,
                    "rows of \(Self.shown(addedTables)) from before \(place) are not delivered: "
                        + "the table was added to the configuration there",
                    hint: "Copy them to the targets, or update them at the source so that they "
                        + "come; then: weir gap resolve ID"))
        }
        if !removedTables.isEmpty {
            gaps.append(
                DeclaredGap(
                    .tablesRemoved, Self.shown(removedTables), from: place,
                    "what was delivered of \(Self.shown(removedTables)) stays as it was at \(place)"
                        + ": it is no longer configured, and later changes do not arrive",
                    hint: "Remove it at the targets, or leave it; then: weir gap resolve ID"))
        }
        return gaps
    }

    private func changed(_ lasting: [Change], at place: String) -> DeclaredGap {
        let list = lasting.map(\.words).joined(separator: "; ")
        if component == "source" {
            return DeclaredGap(
                .configurationChanged, lasting.map(\.key).joined(separator: ", "), to: place,
                "the source was changed (\(list)): targets hold what was delivered before \(place) "
                    + "under the old configuration",
                hint: "Bring the targets in step with the source where that matters; then: "
                    + "weir gap resolve ID")
        }
        let operations = operationsLeftOut(before: place)
        let left = before.claims.filter { !now.claims.contains($0) }
        if isAppendOnly { return ended(lasting, left, operations, at: place) }
        let behind = left.isEmpty ? "" : "; left behind: \(Self.shown(left))"
        return DeclaredGap(
            .configurationChanged, lasting.map(\.key).joined(separator: ", "), to: place,
            "sink \"\(component)\" was changed (\(list)): what it wrote before \(place) keeps its "
                + "old form until its row changes again, and what has another place now is no "
                + "longer updated or removed where it was\(behind)"
                + operations.map { "; \($0)" }.joined(),
            hint: "Write the old rows anew and remove what is left behind; then: "
                + "weir gap resolve ID")
    }
}

extension SettingsChange {
    /// Of a sink that only adds to its target: nothing there is out of step.
    private func ended(
        _ lasting: [Change], _ left: [String], _ operations: [String], at place: String
    ) -> DeclaredGap {
        let list = lasting.map(\.words).joined(separator: "; ")
        let begun = now.claims.filter { !before.claims.contains($0) }
        var what = ""
        let hint: String
        if left.isEmpty {
            let isForm = lasting.contains { $0.key != "operations" } || operations.isEmpty
            if isForm { what = "what it wrote before \(place) keeps its old form" }
            hint =
                isForm
                ? "Where its readers know both forms: weir gap resolve ID"
                : "Where its readers can do with that: weir gap resolve ID"
        } else {
            let next =
                begun.isEmpty ? "" : "; from there on its lines are in \(Self.shown(begun))"
            let heirs = Set(left.compactMap { others[$0] }).sorted()
            let end =
                heirs.isEmpty
                ? "stays as it is and gets nothing more"
                : "goes on with the lines of sink \(Self.shown(heirs))"
            what = "\(Self.shown(left)) is complete up to \(place), \(end)\(next)"
            hint = "When its readers have gone on to the new one: weir gap resolve ID"
        }
        return DeclaredGap(
            .configurationChanged, lasting.map(\.key).joined(separator: ", "), to: place,
            "sink \"\(component)\" was changed (\(list)): "
                + ((what.isEmpty ? [] : [what]) + operations).joined(separator: "; "), hint: hint)
    }

    /// Which kinds of changes one of the two sides lacks, where "operations" was changed.
    private func operationsLeftOut(before place: String) -> [String] {
        func names(_ settings: ConnectorSettings) -> Set<String> {
            guard let json = settings.entries.first(where: { $0.key == "operations" })?.json else {
                return Set(Operation.allCases.map { "\($0.name)" })
            }
            // A list of plain words.
            let words = json.split(separator: "\"").filter { $0.allSatisfy(\.isLetter) }
            return Set(words.map(String.init))
        }
        let (old, new) = (names(before), names(now))
        let (added, removed) = (new.subtracting(old), old.subtracting(new))
        return [
            added.isEmpty
                ? nil
                : "it lacks each \(Self.shown(added.sorted())) from before \(place), which it did "
                    + "not take then",
            removed.isEmpty
                ? nil : "each \(Self.shown(removed.sorted())) is left out from \(place) on",
        ].compactMap(\.self)
    }
}

extension ErrorCode {
    static let sinkRemoved = ErrorCode(
        "engine.sink_removed",
        meaning:
            "A sink that was behind is no longer configured, so what it had not taken yet will "
            + "not reach its target. A new sink of the same type that writes to the same place is "
            + "taken for the same one under another name: it begins where the slowest sink of the "
            + "pipeline stood and lacks nothing but what waited for the old one on disk. It looks "
            + "whether the target still has what was delivered under the old name.",
        remedy: "Bring its target in step with the source, or give it up; then: weir gap resolve "
            + "ID.")
    static let configurationChanged = ErrorCode(
        "engine.config_changed",
        meaning: "Keys of a source or sink that decide where and how rows are written were "
            + "changed. What was written before is not moved: it stays at its old place and in its "
            + "old form, and what has another place now is not updated or removed there. A sink that "
            + "only adds to its target goes on at the new place, and the old one stays complete up "
            + "to there.",
        remedy: "Write the old rows anew (an UPDATE at the source makes them come), remove what is "
            + "left at the old place; then: weir gap resolve ID.")
    static let tablesAdded = ErrorCode(
        "engine.tables_added",
        meaning: "A table was added to a pipeline that had run without it: its rows from before "
            + "are not delivered.",
        remedy: "Copy them to the targets, or update them at the source so that they come; then: "
            + "weir gap resolve ID.")
    static let tablesRemoved = ErrorCode(
        "engine.tables_removed",
        meaning: "A table was removed from a pipeline: what was delivered of it stays at the "
            + "targets, and later changes do not arrive.",
        remedy: "Remove it at the targets, or leave it; then: weir gap resolve ID.")
    static let pipelineReplaced = ErrorCode(
        "engine.pipeline_replaced",
        meaning: "A pipeline began that reads the same tables as one that is no longer configured, "
            + "as after a change of the pipeline's name. It begins at the present, and changes "
            + "between the place where the other one stood and that are with the other one only.",
        remedy:
            "If it was renamed: weir stop, give it its old name in the configuration, weir drop "
            + "the new name, weir start. Otherwise weir gap resolve ID, and weir drop the old "
            + "name.")
}
