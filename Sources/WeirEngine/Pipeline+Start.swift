import Logging
import WeirCore

// Where a life begins, and what the configuration has become since the last one.

extension Pipeline {
    /// Where a life begins: the stored rows, one per sink, in the plan's order.
    struct Start: Sendable {
        let stored: StoredPosition
        let epoch: Int
        var rows: [CheckpointRow]
        /// The source is open already: the very first start opens it to learn its position.
        let opened: SourceStart?
    }

    func resolveStart(_ source: any SourceConnector) async throws(WeirError) -> Start {
        let known = try await store.pipeline(plan.name)
        let rows = try await store.checkpoints(of: plan.name)
        if (known == nil) != rows.isEmpty {
            // Taking it for a first start would skip what was not delivered.
            throw WeirError(
                .stateDamaged, .blocked,
                "the state store holds only a part of pipeline \"\(plan.name)\"",
                hint: ErrorCode.stateDamaged.remedy(for: plan.name))
        }
        let remembered = try await store.configured(of: plan.name)
        let configured = remembered.mapValues(\.settings)
        guard let known, let roster = roster(rows, configured) else {
            return try await firstStart(source)
        }
        let all = try await withoutForeignMarks(
            makeRows(roster.kept, from: roster.beginning, roster.marks), remembered)
        if !roster.gone.isEmpty || !roster.added.isEmpty {
            let gaps = try await store.follow(
                roster, new: all.filter { roster.added.contains($0.sink) }, of: plan.name)
            say(roster, configured, gaps)
            // After the gaps are on disk: what waited there is lost with its sink.
            directory.removeSpills(of: plan.name, sinks: roster.gone.map(\.row.sink))
        }
        return Start(
            stored: StoredPosition(
                position: all.map(\.covered).min() ?? roster.beginning, identity: known.identity),
            epoch: known.epoch, rows: all, opened: nil)
    }

    private func roster(
        _ rows: [CheckpointRow], _ before: [String: ConnectorSettings]
    ) -> SinkRoster? {
        let now = plan.sinks.compactMap { sink in
            sink.settings.map { (sink.name, $0.settings) }
        }
        return SinkRoster(
            sinks: plan.sinks.map(\.name), rows: rows, plan.notation,
            settings: Dictionary(now, uniquingKeysWith: { first, _ in first }), before: before)
    }

    /// Making what a first start needs may wait for as long as some transaction at the server: a
    /// stop cuts it short (invariant 7).
    private func openFirst(_ source: any SourceConnector) async throws(WeirError) -> SourceStart {
        let task = Task { () -> Result<SourceStart, WeirError> in
            do throws(WeirError) { return .success(try await source.open(at: nil)) } catch {
                return .failure(error)
            }
        }
        return try await withStopHandler({ task.cancel() }) { await task.value }.get()
    }

    private func firstStart(_ source: any SourceConnector) async throws(WeirError) -> Start {
        let opened = try await openFirst(source)
        let start = Start(
            stored: StoredPosition(position: opened.position, identity: opened.identity),
            epoch: Epoch.next(after: nil), rows: makeRows([], from: opened.position),
            opened: opened)
        let gaps = try await replacedPipelines(at: opened.position)
        let declared = try await store.beginFirst(
            PipelineRow(name: plan.name, identity: opened.identity, epoch: start.epoch),
            checkpoints: start.rows, gaps: gaps)
        let place = plan.notation.display(opened.position)
        logger.info(
            "begins at \(place): rows and changes from before are not delivered")
        for gap in declared { logger.error("\(gap.words)") }
        return start
    }

    /// - Parameter marks: what new sinks that stand in for others are to go by.
    private func makeRows(
        _ kept: [CheckpointRow], from position: Position, _ marks: [String: SinkMark] = [:]
    ) -> [CheckpointRow] {
        plan.sinks.map { sink in
            kept.first { $0.sink == sink.name }
                ?? CheckpointRow(
                    pipeline: plan.name, sink: sink.name, position: position,
                    mark: marks[sink.name],
                    updatedMicros: WallClock.micros())
        }
    }

    /// A sink that is of another type now cannot read what the one before left for itself. It is
    /// removed from the state at once, so that what the new one leaves there stays, also while its
    /// settings are not taken up yet.
    private func withoutForeignMarks(
        _ rows: [CheckpointRow], _ configured: [String: ConfiguredComponent]
    ) async throws(WeirError) -> [CheckpointRow] {
        var all: [CheckpointRow] = []
        for row in rows {
            guard let now = plan.settings(of: row.sink)?.settings.type,
                let before = configured[row.sink]?.markType, !before.isEmpty, before != now
            else {
                all.append(row)
                continue
            }
            try await store.clearMark(of: plan.name, sink: row.sink, newType: now)
            all.append(row.with(mark: nil))
        }
        return all
    }

    /// - Parameter gaps: those of the sinks that are gone and new in the state.
    private func say(
        _ roster: SinkRoster, _ configured: [String: ConnectorSettings], _ gaps: [GapRow]
    ) {
        for sink in roster.added {
            let beginning = plan.notation.display(roster.beginning)
            logger.warning(
                "\(sink): new, begins at \(beginning): what came before is not delivered to it")
        }
        for gap in gaps { logger.error("\(gap.component): \(gap.words)") }
        for gone in roster.gone {
            let row = gone.row
            if let successor = gone.successor {
                let place = plan.notation.display(roster.beginning)
                logger.warning(
                    "\(row.sink): no longer configured; \(successor) writes there from \(place) on")
            } else if gone.gap == nil {
                let position = plan.notation.display(row.position)
                logger.warning("\(row.sink): no longer configured; it had all before \(position)")
            }
            if let kept = configured[row.sink], !kept.removal.isEmpty {
                // A sink of that name would find it there and stop.
                let place = kept.place ?? kept.type
                let statements = kept.removal.joined(separator: " ")
                logger.warning("\(row.sink): its own rows stay at \(place): \(statements)")
            }
        }
    }

    /// Pipelines that are no longer configured and read the same tables of the same place: if this
    /// one stands in for one of them, what came between the two is missing.
    private func replacedPipelines(
        at position: Position
    ) async throws(WeirError) -> [DeclaredGap] {
        guard let now = plan.settings?.settings, now.place != nil else { return [] }
        var gaps: [DeclaredGap] = []
        for name in try await store.pipelineNames() where !isConfigured(name) {
            guard let before = try await store.configured(of: name)["source"]?.settings,
                before.type == now.type, before.place == now.place,
                before.tables.isEmpty || now.tables.isEmpty
                    || !Set(before.tables).isDisjoint(with: now.tables),
                let stood = try await whereStood(name)
            else { continue }
            let (from, to) = (plan.notation.display(stood), plan.notation.display(position))
            gaps.append(
                DeclaredGap(
                    .pipelineReplaced, name, from: from, to: to,
                    "pipeline \"\(name)\" read the same tables, is no longer configured and stood "
                        + "at \(from); \"\(plan.name)\" begins at \(to), "
                        + "and changes between the two are not delivered",
                    hint: "If it was renamed, nothing is lost yet: weir stop, name it \"\(name)\" "
                        + "again in the configuration, weir drop \(plan.name) --yes, weir start. "
                        + "If not: weir gap resolve ID"))
        }
        return gaps
    }

    /// Nil also where its rows are damaged: that one is gone must not stop this one.
    private func whereStood(_ replaced: String) async throws(WeirError) -> Position? {
        do throws(WeirError) {
            return try await store.checkpoints(of: replaced).map(\.position).min()
        } catch  where error.code == .stateDamaged {
            let gone = "pipeline \"\(replaced)\" read the same tables and is no longer configured"
            logger.warning(
                "\(gone); what lies between is not declared: \(error.message)")
            return nil
        }
    }

    /// The other sinks, by what they write to now.
    private func claims(besides component: String) -> [String: String] {
        plan.sinks.filter { $0.name != component }.reduce(into: [:]) { claims, sink in
            for claim in sink.settings?.settings.claims ?? [] { claims[claim] = sink.name }
        }
    }

    /// Takes up the configuration of a component that works with it: what was changed is said, and
    /// what that leaves behind is declared.
    func adopt(_ component: String) async throws(WeirError) {
        guard let planned = plan.settings(of: component) else { return }
        let before = try await store.configured(of: plan.name)[component]?.settings
        guard before != planned.settings else { return }
        var gaps: [DeclaredGap] = []
        if let before, !before.type.isEmpty {
            let change = SettingsChange(
                component: component, before: before, now: planned.settings,
                passing: planned.passingKeys, isAppendOnly: planned.isAppendOnly,
                others: claims(besides: component))
            let rows = try await store.checkpoints(of: plan.name)
            let place =
                component == "source"
                ? rows.map(\.covered).min() : rows.first { $0.sink == component }?.covered
            gaps = change.gaps(at: place.map(plan.notation.display) ?? "")
            if let words = change.words { logger.warning("\(component): \(words)") }
        }
        let new = try await store.adopt(
            ConfiguredComponent(component: component, settings: planned.settings), of: plan.name,
            gaps: gaps, atMicros: WallClock.micros())
        for gap in new { logger.error("\(component): \(gap.words)") }
    }
}
