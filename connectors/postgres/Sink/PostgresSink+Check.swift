package import WeirCore
import WeirPostgresClient

extension PostgresSink: SinkCheck {
    package func check(_ tables: [TableSchema]) async throws(WeirError) -> [Finding] {
        await turn.take()
        defer { turn.give() }
        let session = try await ready()
        checked = tables
        var inspection: PlanMaker.Inspection
        do throws(TargetFailure) {
            inspection = try planMaker(session).inspect(tables)
        } catch {
            switch error {
            case .server(let failure): throw failed(failure, doing: "look at the target")
            case .weir(let error), .taken(let error): throw ended(error)
            }
        }
        inspection.findings += loops(inspection.targets, session)
        try await declareRemade(inspection.shapes, session)
        let isBlocked = inspection.findings.contains { $0.severity == .blocking }
        if isBlocked { return inspection.findings }
        if inspection.grants.isEmpty {
            try await note(inspection.shapes, remembers: false)
            return inspection.findings
        }
        // Retried, and not blocking: what is granted meanwhile is noticed without a new start.
        for finding in inspection.findings { context.reports.raise(finding) }
        throw WeirError(
            .permission, .transient,
            "the role of the sink may not do all it has to at \(place)",
            detail: "Weir goes on as soon as it may.",
            hint: inspection.grants.joined(separator: " "))
    }
}

extension PostgresSink {
    /// What a role must be granted that was refused something; nil where it lacks nothing, as when
    /// a trigger's function is what was refused. The session ends with the failure anyway.
    func missingGrants(_ session: TargetSession) -> String? {
        try? session.rollBack()
        guard let grants = try? planMaker(session).inspect(checked).grants, !grants.isEmpty else {
            return nil
        }
        return grants.joined(separator: " ")
    }

    /// What comes back by way of other pipelines of this process, whatever tables and connections
    /// are called: `weir validate` compares names only.
    private func loops(
        _ targets: [TableName: TargetTable], _ session: TargetSession
    ) -> [Finding] {
        let flows = TableFlows.shared
        flows.enter(
            writer: context.name, of: context.pipeline,
            targets.mapValues { ($0.name, TableFlows.Place(session.instance, $0.oid)) },
            origin: config.origin)
        // Within one sink the whole of it is told with its tables.
        let echoes = flows.echoes(of: context.name, in: context.pipeline).filter {
            !($0.writer.pipeline == context.pipeline && $0.writer.sink == context.name
                && $0.reader == context.pipeline)
        }
        // Refused, it writes nothing that others would have to leave out.
        if !echoes.isEmpty { flows.leave(writer: context.name, of: context.pipeline) }
        return echoes.map { echo in
            let writer = echo.writer
            let origin = writer.origin ?? "weir_\(writer.pipeline)_\(writer.sink)"
            var names = [origin]
            if case .origins(let known) = echo.filter { names = known + names }
            let list = names.map { "\"\($0)\"" }.joined(separator: ", ")
            let sink = "sink \"\(writer.sink)\" of pipeline \"\(writer.pipeline)\""
            return Finding(
                .targetUnfit, .blocking, "\(echo.target)",
                "what \(sink) writes to \"\(echo.target)\" is read by pipeline \"\(echo.reader)\" as "
                    + "\"\(echo.table)\" and comes back: an endless echo",
                hint: "Give the source of \"\(echo.reader)\" \"origin\": [\(list)]"
                    + (writer.origin == nil ? ", and \(sink) \"origin\": \"\(origin)\"." : "."))
        }
    }
}

extension PostgresSink: SinkCleanup {
    private var row: String {
        "the position of \(sessionName) in \"\(config.positionTable)\" at \(place)"
    }

    package func describeCleanUp(
        leaving others: Set<String>
    ) async throws(WeirError) -> [String] {
        await turn.take()
        defer { turn.give() }
        let hasRow = try await cleaning { (session) throws(PostgresFailure) in
            try session.hasPosition()
        }
        let position = hasRow ? "Remove \(row). The rows that were delivered stay." : nil
        return [position, try describeOriginCleanUp(leaving: others)].compactMap(\.self)
    }

    package func cleanUp(leaving others: Set<String>) async throws(WeirError) -> [String] {
        await turn.take()
        defer { turn.give() }
        let wasRemoved = try await cleaning { (session) throws(PostgresFailure) in
            try session.removePosition()
        }
        return [wasRemoved ? "removed \(row)" : nil, try dropOrigin(leaving: others)]
            .compactMap(\.self)
    }

    /// Over a session of its own, which keeps other daemons out meanwhile.
    private func cleaning<R: Sendable>(
        _ body: (TargetSession) throws(PostgresFailure) -> R
    ) async throws(WeirError) -> R {
        abandon()
        let session = try await connect(underOrigin: false)
        do throws(PostgresFailure) { return try body(session) } catch {
            throw positionFailure(error, session, doing: "remove the position")
        }
    }
}
