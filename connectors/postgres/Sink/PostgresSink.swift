package import WeirCore
import WeirPostgresClient
import WeirValues

/// Keeps tables of another database in step with the source's, exactly once: rows and position
/// commit in one transaction, and a transaction of the source is never split over two.
///
/// Commits are not waited for; `flush` makes them durable all at once, before the checkpoint.
package actor PostgresSink: SinkConnector {
    package typealias Config = PostgresSinkConfig

    let config: PostgresSinkConfig
    let context: ConnectorContext
    private let executor: any SerialExecutor
    package nonisolated var unownedExecutor: UnownedSerialExecutor {
        unsafe executor.asUnownedSerialExecutor()
    }

    private var session: TargetSession?
    private var plans = SchemaCache<CopyPlan?>()
    private var planCount = 0
    /// What was compiled and is not noted yet.
    private var newShapes: [WrittenShape] = []
    /// Nil before it was read.
    var memory: LeftOut?
    /// The source's tables as they were looked at last: what they need is what the role lacks.
    var checked: [TableSchema] = []
    /// Targets that leave out rows, as far as that was said.
    var skipping: Set<TableName> = []
    var sets = SetWriter()
    var rows = RowWriter()
    private var rowReader: (any RowReader)?

    /// Where the target stands, as far as we know; nil before the first `open`.
    private var committed: SinkPosition?
    /// What the target cannot lose any more.
    private var durable: SinkPosition?
    /// The open transaction holds events of an earlier write.
    private(set) var isInside = false
    /// Events that were accepted are gone: nothing is written before the next `open`.
    private var isLost = false
    /// Batches of the open transaction that were accepted and could not be written yet.
    private var held: [EventBatch] = []
    private static let heldBytesMax = 24 << 20
    let turn = Turn()
    /// The row that waits for one it refers to, and how often it was tried.
    private var orphan: (position: Position, attempts: Int)?
    /// Where the target did not fit what was compiled, and was looked at again.
    private var lookedAgain: SinkPosition?
    private static let orphanAttempts = 6

    static let hugeBytes = 32 << 20
    /// The connection has written a huge row: the client library keeps the memory it took for as
    /// long as the connection lives.
    private var hasWrittenHuge = false

    /// How long the target may be silent in a wait before a look shows whether it still works.
    let silenceLimit: Duration
    /// How often a look shows whether the targets are still those that were planned for.
    let lookInterval: Duration

    package init(_ config: PostgresSinkConfig, _ context: ConnectorContext) {
        self.init(config, context, silenceLimit: .seconds(20))
    }

    init(
        _ config: PostgresSinkConfig, _ context: ConnectorContext, silenceLimit: Duration,
        lookInterval: Duration = .seconds(1)
    ) {
        self.config = config
        self.context = context
        self.silenceLimit = silenceLimit
        self.lookInterval = lookInterval
        executor = context.executor
    }

    var failures: SinkFailureMap {
        SinkFailureMap(server: ServerFailureMap(config.connection))
    }
    var place: String { config.connection.place }
    var committedPosition: Position? { committed?.position }
    var source: String { context.source()?.description ?? "" }

    // MARK: Life

    package func open(at mark: SinkMark?) async throws(WeirError) -> SinkMark? {
        await turn.take()
        defer { turn.give() }
        abandon()
        isLost = false
        skipping = []
        committed = nil
        var known: SinkPosition?
        let renamed = mark?.renamed
        if let mark = renamed?.mark ?? mark {
            guard let parsed = SinkPosition(mark) else {
                throw WeirError(.bug, .bug, "the stored mark \"\(mark.text)\" is no position")
            }
            known = parsed
        }
        let session = try await connect()
        do throws(WeirError) {
            self.session = session
            var former: Set<String> = []
            if let renamed, let left = known {
                former = try await takeOver(from: renamed.sink, left, session)
                known = nil
            }
            durable = known
            try await begin(session, mark: known)
            do { try session.inherit(former) } catch {
                throw failed(error, doing: "write the position")
            }
            try makeDurable(session)
        } catch {
            abandon()
            throw error
        }
        return committed?.mark
    }

    package func close() async {
        abandon()
        await rowReader?.close()
        rowReader = nil
    }

    /// Nothing is known of a session after a failure: a new one is made when it is needed.
    func abandon() {
        session = nil
        plans = SchemaCache()
        rows = RowWriter()
        sets = SetWriter()
        held = []
        isInside = false
        hasWrittenHuge = false
    }

    /// Reads the target's position and decides what it means at a start.
    private func begin(
        _ session: TargetSession, mark: SinkPosition?
    ) async throws(WeirError) {
        let found = try readPosition(session)
        let epoch = context.epoch()
        // Beside the mark, which a moved position clears: whether the state knows this sink at all.
        let note = "postgres sink \(context.name)"
        let noted = try await context.notes.get(note).flatMap { UInt32($0) }
        let verdict = PositionVerdict.judge(
            found: found, mark: mark, noted: noted, epoch: epoch, source: source)
        switch verdict {
        case .goOn: committed = found?.position
        case .new:
            if let mark, mark.position != nil { try await declareRestored(nil, mark) }
            let position = SinkPosition(epoch: epoch, position: nil)
            try run(session.sql.insert(position, source: source), session, "write the position")
            committed = position
        case .newEpoch:
            let position = SinkPosition(epoch: epoch, position: nil)
            if let found {
                if let mark, mark.isAhead(of: found.position) {
                    try await declareRestored(found.position, mark)
                }
                let move = PositionMove(from: found.position, to: position, source: source)
                try run(session.sql.move(move), session, "write the position")
            }
            do { try session.forgetTargets() } catch {
                throw failed(error, doing: "write the position")
            }
            committed = position
        case .restored: throw restored(found?.position, mark)
        case .forgotten:
            try await context.notes.set(note, "\(epoch)")
            throw WeirError(
                .targetForgotten, .positionLost,
                "\(place) was written by \(context.pipeline)/\(context.name) before, up to "
                    + "\(words(found?.position.position) ?? "-"), and the state store does not know of it",
                hint: "weir position set \(context.pipeline) confirmed --yes goes on with what is "
                    + "there. To start anew, empty the target and run there: "
                    + session.sql.remove + ";")
        case .otherSource(let other):
            try await context.notes.set(note, "\(epoch)")
            throw WeirError(
                .otherWriter, .blocked,
                "\(place) holds a position of \(context.pipeline)/\(context.name) for another "
                    + "source (\(other))",
                detail: "This source is \(source).",
                hint: "If the pipeline now follows another source, empty the target and run there: "
                    + "\(session.sql.remove); Else give the pipeline or the sink another name.")
        case .otherWriter: throw otherWriter()
        }
        if noted != epoch { try await context.notes.set(note, "\(epoch)") }
    }

    func readPosition(
        _ session: TargetSession
    ) throws(WeirError) -> (position: SinkPosition, source: String)? {
        do { return try session.readPosition() } catch {
            throw positionFailure(
                error, session, doing: "read the position in \"\(config.positionTable)\"")
        }
    }

    /// A failure at the position table; of missing rights it says which.
    func positionFailure(
        _ failure: PostgresFailure, _ session: TargetSession, doing work: String
    ) -> WeirError {
        var error = failures.error(failure, doing: work)
        guard failure.sqlState == "42501" else { return error }
        try? session.rollBack()
        let grants = try? TargetCatalogue(connection: session.connection)
            .grantsOfPosition(config.positionTable)
        if let grants, !grants.isEmpty { error.hint = grants.joined(separator: " ") }
        return error
    }

    func words(_ position: Position?) -> String? {
        position.map(context.notation.display)
    }

    func restored(_ found: SinkPosition?, _ mark: SinkPosition?) -> WeirError {
        WeirError(
            .targetRestored, .positionLost,
            "\(place) stands at \(words(found?.position) ?? "no position") and had stood at "
                + "\(words(mark?.position) ?? "-"): it was restored, or its position removed",
            hint: "Restore the target, then go on with what is there: weir position set "
                + "\(context.pipeline) confirmed --yes")
    }

    func otherWriter() -> WeirError {
        WeirError(
            .otherWriter, .blocked,
            "another daemon moved the position of \(context.pipeline)/\(context.name) in \(place)",
            hint: ErrorCode.otherWriter.remedy(for: context.pipeline))
    }

    /// The session, after a lost one a new one that stands where the old one did. It knows whether
    /// its database is the source's.
    func ready() async throws(WeirError) -> TargetSession {
        let session = try await connected()
        try await lookForSource(session)
        return session
    }

    private func connected() async throws(WeirError) -> TargetSession {
        if isLost { throw lost("the pipeline has not gone back yet") }
        if let session, session.isUsable {
            if isInside { return session }
            if try fits(session) { return session }
        } else if isInside {
            // Said before anything else may fail: nobody else remembers it.
            throw lost("the connection ended inside a long transaction")
        }
        abandon()
        guard let expected = committed else {
            throw WeirError(.bug, .bug, "the sink is written to before it was opened")
        }
        let session = try await connect()
        guard let found = try readPosition(session)?.position else {
            throw restored(nil, durable)
        }
        if found.epoch != expected.epoch { throw otherWriter() }
        if expected.isAhead(of: found) {
            if let durable, durable.isAhead(of: found) { throw restored(found, durable) }
            throw lost("the target lost commits that were not durable yet")
        }
        // At or behind it: a commit whose answer was lost was made all the same.
        committed = found
        self.session = session
        return session
    }

    /// Whether the targets are still those that the statements were made for. The server would run
    /// them on any table of the name.
    private func fits(_ session: TargetSession) throws(WeirError) -> Bool {
        do { return try session.stillFits(lookingEvery: lookInterval) } catch {
            throw failed(error, doing: "look at the target")
        }
    }

    /// `flush` fails too from now on, so that no checkpoint counts on what is gone.
    private func lost(_ why: String) -> WeirError {
        abandon()
        isLost = true
        return WeirError(
            .acceptedLost, .rewind, "\(why); going back to the last checkpoint",
            hint: ErrorCode.acceptedLost.remedy)
    }

    // MARK: Durability

    package func flush() async throws(WeirError) {
        await turn.take()
        defer { turn.give() }
        // What lies before an open transaction was made durable when that began.
        guard !isInside, isLost || durable != committed else { return }
        try makeDurable(try await ready())
    }

    private func makeDurable(_ session: TargetSession) throws(WeirError) {
        guard let committed else { return }
        do throws(PostgresFailure) {
            try session.makeDurable(
                PositionMove(from: committed, to: committed, source: source))
        } catch {
            throw failed(error, doing: "make commits durable")
        }
        durable = committed
    }

    /// Ends the session after a failure of the target.
    func failed(_ failure: PostgresFailure, doing work: String) -> WeirError {
        if FailureClass(failure) == .otherWriter {
            abandon()
            return otherWriter()
        }
        let isRepeated = lookedAgain != nil && lookedAgain == committed
        if failure.kind == .statement, !ServerFailureMap.passes(failure.sqlState),
            failure.sqlState != "42501"
        {
            lookedAgain = committed
        }
        var error = failures.error(failure, doing: work, isRepeated: isRepeated)
        if failure.sqlState == "42501", let grants = session.flatMap(missingGrants) {
            error.hint = grants
        }
        return ended(error)
    }

    /// What a failed statement asks for. A target that has been looked at anew and does not fit
    /// still is no matter of definitions: a value names what is not there.
    func kind(of failure: PostgresFailure) -> FailureClass {
        let kind = FailureClass(failure)
        guard kind == .definition, let lookedAgain, lookedAgain == committed else { return kind }
        return .data
    }

    /// The target holds everything before this position, on disk.
    func kept(_ position: SinkPosition) {
        committed = position
        durable = position
        isInside = false
    }

    /// Ends the session. Events that the open transaction had taken before are then lost.
    func ended(_ error: WeirError) -> WeirError {
        let wasInside = isInside
        abandon()
        guard wasInside, error.disposition == .transient else { return error }
        isLost = true
        return WeirError(
            error.code, .rewind, error.message, detail: error.detail, hint: error.hint)
    }

    private func run(
        _ sql: String, _ session: TargetSession, _ work: String
    ) throws(WeirError) {
        do { _ = try session.connection.query(sql) } catch {
            throw failed(error, doing: work)
        }
    }

    // MARK: Writing

    package func write(_ batches: [EventBatch]) async throws(WeirError) -> WriteOutcome {
        await turn.take()
        defer { turn.give() }
        let session = try await ready()
        guard let committed else {
            throw WeirError(.bug, .bug, "the sink is written to before it was opened")
        }
        let bytes = batches.reduce(0) { $0 + $1.arena.count }
        let batches = held + batches
        held = []
        // Whole transactions up to the last boundary; behind it lies the beginning of a long one.
        let boundary = batches.lastIndex { $0.resume != nil }
        var counts = Counts()
        if let boundary {
            let isContinued = boundary + 1 < batches.count
            try await write(
                Array(batches[...boundary]), to: batches[boundary].resume,
                isContinued: isContinued, committed, &counts, session)
        }
        let rest = boundary.map { $0 + 1 } ?? 0
        if rest < batches.count {
            try await write(
                Array(batches[rest...]), to: nil, isContinued: true, self.committed ?? committed,
                &counts, session)
        }
        if batches.contains(where: { $0.arena.count > Self.hugeBytes }) { hasWrittenHuge = true }
        if !isInside, hasWrittenHuge { abandon() }
        return WriteOutcome(
            .accepted, delivered: counts.delivered, filtered: counts.filtered, late: counts.late,
            bytes: bytes, mark: boundary == nil ? nil : self.committed?.mark)
    }

    private struct Counts {
        var delivered = 0
        var filtered = 0
        var late = 0
    }

    /// Writes batches and commits them with their position, or leaves their transaction open.
    ///
    /// - Parameter isContinued: an open transaction follows, or this is one: what lies before it
    ///   must be durable, because a flush cannot reach it then.
    private func write(
        _ batches: [EventBatch], to boundary: Position?, isContinued: Bool,
        _ committed: SinkPosition, _ counts: inout Counts, _ session: TargetSession
    ) async throws(WeirError) {
        var batches = batches
        if let covered = committed.position {
            for index in batches.indices {
                let before = batches[index].events.count
                batches[index].drop(through: covered)
                counts.filtered += before - batches[index].events.count
            }
        }
        let compiled = try compile(batches, session)
        if !newShapes.isEmpty {
            try await declareRemade(newShapes, session)
            try await note(newShapes, remembers: true)
            newShapes = []
        }
        // Whole transactions never wait with the beginning of another for its end.
        if boundary == nil, let place = WriteChunk.lastTransaction(of: batches) {
            let batch = batches[place.batch]
            try await write(
                WriteChunk(batches, compiled, before: place),
                to: batch.position(of: batch.events[place.event]), isContinued: true, committed,
                &counts, session)
            return try await writeBeginning(
                WriteChunk(batches, compiled, from: place), self.committed ?? committed, &counts,
                session)
        }
        let chunk = WriteChunk(batches, compiled)
        if let boundary {
            try await write(
                chunk, to: boundary, isContinued: isContinued, committed, &counts, session)
        } else {
            try await writeBeginning(chunk, committed, &counts, session)
        }
    }

    /// Writes a part of a transaction whose end is still to come.
    private func writeBeginning(
        _ chunk: WriteChunk, _ committed: SinkPosition, _ counts: inout Counts,
        _ session: TargetSession
    ) async throws(WeirError) {
        guard let place = chunk.openDelete else {
            return try await write(
                chunk, to: nil, isContinued: true, committed, &counts, session)
        }
        // What comes next may bring the row back, so that its delete is none.
        if !isInside, durable != committed { try makeDurable(session) }
        let (before, last) = chunk.split(at: place)
        try await write(before, to: nil, isContinued: true, committed, &counts, session)
        held = held.isEmpty ? last.ownBatches : chunk.ownBatches
        isInside = true
    }

    private func write(
        _ chunk: WriteChunk, to boundary: Position?, isContinued: Bool, _ committed: SinkPosition,
        _ counts: inout Counts, _ session: TargetSession
    ) async throws(WeirError) {
        counts.filtered += chunk.filtered
        counts.delivered += chunk.taken
        try await noteWhatIsLeftOut(chunk)
        guard chunk.taken > 0 || isInside && boundary != nil else { return }
        if boundary == nil, !isInside, durable != committed { try makeDurable(session) }
        // The epoch rises in one life when the source fails over; its positions stay comparable.
        let epoch = max(committed.epoch, context.epoch())
        let next = boundary.map { SinkPosition(epoch: epoch, position: $0) }
        do throws(TargetFailure) {
            let completed = try await write(
                chunk, from: committed, to: next, isDurable: isContinued, session)
            counts.late += completed + chunk.late
        } catch {
            switch error {
            case .server(let failure): throw failed(failure, doing: "write")
            case .weir(let error): throw ended(error)
            case .taken(let error):
                guard boundary == nil else { throw ended(error) }
                counts.filtered -= chunk.filtered
                counts.delivered -= chunk.taken
                return try hold(chunk, error, session)
            }
        }
        if let next {
            self.committed = next
            if isContinued { durable = next }
            isInside = false
        } else {
            isInside = true
        }
    }

    /// Keeps the beginning of a transaction back until more of it is there, since its end may hold
    /// what makes it fit.
    private func hold(
        _ chunk: WriteChunk, _ error: WeirError, _ session: TargetSession
    ) throws(WeirError) {
        let batches = chunk.ownBatches
        guard batches.reduce(0, { $0 + $1.byteCount }) < Self.heldBytesMax else {
            throw ended(error)
        }
        do throws(PostgresFailure) { try session.undo() } catch {
            throw failed(error, doing: "write")
        }
        held = batches
        isInside = true
    }

    /// Finds out how the tables of each batch are written.
    private func compile(
        _ batches: [EventBatch], _ session: TargetSession
    ) throws(WeirError) -> [[CopyPlan?]] {
        var compiled: [[CopyPlan?]] = []
        for batch in batches {
            var failure: TargetFailure?
            do throws(WeirError) {
                try plans.prepare(batch.tables) { (schema) throws(WeirError) in
                    do throws(TargetFailure) {
                        return try plan(schema, session)
                    } catch {
                        failure = error
                        throw WeirError(.bug, .bug, "a plan failed")
                    }
                }
            } catch {
                switch failure {
                case .server(let failure): throw failed(failure, doing: "look at the target")
                case .weir(let error), .taken(let error): throw ended(error)
                case nil: throw ended(error)
                }
            }
            compiled.append((0..<plans.count).map { plans[$0] })
        }
        return compiled
    }

    private func plan(
        _ schema: TableSchema, _ session: TargetSession
    ) throws(TargetFailure) -> CopyPlan? {
        planCount += 1
        guard let planned = try planMaker(session).plan(schema) else { return nil }
        newShapes.append(planned.shape)
        return planned.plan
    }

    func planMaker(_ session: TargetSession) -> PlanMaker {
        PlanMaker(
            config: config, session: session, number: planCount,
            hasPosition: committed?.position != nil, reports: context.reports, log: context.log)
    }

    /// Whether a row that refers to one which is not there is to be tried again: some seconds long.
    func waitsForParent(of position: Position) -> Bool {
        if orphan?.position != position { orphan = (position, 0) }
        orphan?.attempts += 1
        return orphan.map { $0.attempts < Self.orphanAttempts } ?? false
    }

    // MARK: Rows beside the stream

    func reader() throws(WeirError) -> any RowReader {
        if let rowReader { return rowReader }
        guard let make = context.makeRowReader else {
            throw WeirError(
                .targetUnfit, .blocked,
                "the target lacks a row of which the source sent only a part, and this source "
                    + "cannot be asked for rows")
        }
        let made = try make()
        rowReader = made
        return made
    }
}
