import GRDB
import Glibc
package import WeirCore
import WeirFiles

/// What Weir remembers: one SQLite file per daemon, readable with `sqlite3`.
///
/// Every row that a start depends on carries a checksum; a mismatch stops loudly. Writes are one
/// transaction each (invariant 5), on disk when the call returns, and those that arrive together
/// share one.
package actor StateStore {
    private let executor: ThreadExecutor
    package nonisolated var unownedExecutor: UnownedSerialExecutor {
        unsafe executor.asUnownedSerialExecutor()
    }
    let database: DatabaseQueue
    /// Calls of `save` that share one transaction, and how it ended.
    private final class Gathering {
        var rows: [CheckpointRow] = []
        var outcome: Result<Void, WeirError>?
    }
    private var gathering = Gathering()
    /// Nil when the store is only read.
    private let reserve: StateReserve?

    /// Pages of the journal before SQLite writes them back to the database: it grows to this and no
    /// further, a megabyte.
    private static let journalPages = 250

    /// - Parameter isReadOnly: for `status` beside a running daemon.
    package init(
        directory: StateDirectory, executor: ThreadExecutor, isReadOnly: Bool = false
    ) throws(WeirError) {
        self.executor = executor
        var settings = GRDB.Configuration()
        settings.readonly = isReadOnly
        settings.busyMode = .timeout(5)
        settings.prepareDatabase { database in
            // A queue keeps these; a pool would set synchronous back to NORMAL and not sync.
            if !isReadOnly {
                try database.execute(sql: "PRAGMA journal_mode = WAL")
                try database.execute(sql: "PRAGMA synchronous = FULL")
                try database.execute(sql: "PRAGMA wal_autocheckpoint = \(Self.journalPages)")
            }
        }
        if !isReadOnly {
            // Made by us, it is private, and SQLite gives its journal the same rights.
            do throws(FileFailure) {
                _ = try FileDescriptor(path: directory.databasePath, flags: O_RDWR | O_CREAT)
            } catch {
                throw WeirError(
                    .stateFailed, .transient, error.message, hint: ErrorCode.stateFailed.remedy)
            }
        }
        database = try Self.catching("open", directory.databasePath) {
            let queue = try DatabaseQueue(
                path: directory.databasePath, configuration: settings)
            if !isReadOnly { try StateSchema.migrate(queue) }
            return queue
        }
        reserve = isReadOnly ? nil : StateReserve(path: directory.reservePath)
        reserve?.hold()
    }

    private static func catching<R>(
        _ work: String, _ path: String, _ body: () throws -> R
    ) throws(WeirError) -> R {
        do { return try body() } catch let error as WeirError { throw error } catch {
            let failure = error as? DatabaseError
            let reason = failure?.message ?? "\(error)"
            if let code = failure?.resultCode, [.SQLITE_CORRUPT, .SQLITE_NOTADB].contains(code) {
                throw WeirError(
                    .stateDamaged, .blocked, "state store \"\(path)\" is damaged: \(reason)",
                    hint: ErrorCode.stateDamaged.remedy)
            }
            throw WeirError(
                .stateFailed, .transient, "could not \(work) state store \"\(path)\": \(reason)",
                hint: "Check that the disk has room and the file belongs to Weir's user.")
        }
    }

    func write<R>(_ body: (Database) throws -> R) throws(WeirError) -> R {
        try Self.catching("write", database.path) {
            do { return try database.write(body) } catch let error as DatabaseError {
                // A full disk: what the store kept for itself is for this moment.
                guard [.SQLITE_FULL, .SQLITE_IOERR].contains(error.resultCode),
                    reserve?.release() == true
                else { throw error }
                return try database.write(body)
            }
        }
    }

    func read<R>(_ body: (Database) throws -> R) throws(WeirError) -> R {
        try Self.catching("read", database.path) { try database.read(body) }
    }

    // MARK: Checkpoints

    /// Stores rows durably. Calls that wait meanwhile are committed together. A row without a mark
    /// keeps the one that is stored: it may have been made before the sink was opened.
    package func save(_ rows: [CheckpointRow]) async throws(WeirError) {
        let mine = gathering
        mine.rows += rows
        // Lets calls that are queued behind this one add their rows.
        await Task.yield()
        // The first of them to come back commits for all; all learn how that ended.
        if mine.outcome == nil {
            gathering = Gathering()
            mine.outcome = Result { () throws(WeirError) in try commit(mine.rows) }
        }
        try mine.outcome?.get()
    }

    private func commit(_ rows: [CheckpointRow]) throws(WeirError) {
        try write { database in
            for row in rows {
                let stored = try row.mark == nil ? CheckpointRow.find(database, like: row) : nil
                try row.with(mark: row.mark ?? stored?.mark).save(database)
            }
        }
    }

    /// Stores where a sink stands after its opening. The rest of its row stays, above all what its
    /// spill holds: the source may have forgotten that already.
    package func setMark(
        _ mark: SinkMark?, of pipeline: String, sink: String
    ) throws(WeirError) {
        try write { database in
            let stored = try CheckpointRow.all(database, of: pipeline).first { $0.sink == sink }
            try stored?.with(mark: mark).save(database)
        }
    }

    /// Forgets what a sink of another type left for itself. The rest of its row stays, and so do
    /// the settings it last ran with, which those of the new one are compared with.
    func clearMark(of pipeline: String, sink: String, newType: String) throws(WeirError) {
        try write { database in
            let stored = try CheckpointRow.all(database, of: pipeline).first { $0.sink == sink }
            try stored?.with(mark: nil).save(database)
            try ConfiguredComponent.saveMarkType(database, pipeline, sink, newType)
        }
    }

    package func checkpoints(of pipeline: String) throws(WeirError) -> [CheckpointRow] {
        try read { try CheckpointRow.all($0, of: pipeline) }
    }

    /// The sinks there are rows of, damaged ones too.
    package func sinkNames(of pipeline: String) throws(WeirError) -> [String] {
        try read {
            try String.fetchAll(
                $0,
                sql: "SELECT CAST(sink AS TEXT) FROM checkpoint WHERE pipeline = ? ORDER BY sink",
                arguments: [pipeline])
        }
    }

    /// Who the pipeline's positions belong to, and its epoch; nil before the first start.
    package func pipeline(_ name: String) throws(WeirError) -> PipelineRow? {
        try read { try PipelineRow.find($0, name) }
    }

    /// Records the source of a pipeline and, at a first start or after an operator moved it, its
    /// position for every sink, in one transaction.
    package func begin(_ row: PipelineRow, checkpoints: [CheckpointRow]) throws(WeirError) {
        try write { database in
            try row.save(database)
            for checkpoint in checkpoints { try checkpoint.save(database) }
        }
    }

    /// The very first start: every sink begins at its row.
    ///
    /// - Returns: the gaps as they are stored.
    func beginFirst(
        _ row: PipelineRow, checkpoints: [CheckpointRow], gaps: [DeclaredGap]
    ) throws(WeirError) -> [GapRow] {
        try write { database in
            try row.save(database)
            for checkpoint in checkpoints { try checkpoint.saveAsBeginning(database) }
            return try gaps.compactMap {
                try GapRow.declare(database, row.name, "source", $0, atMicros: WallClock.micros())
            }
        }
    }

    /// Follows a change of the configuration: sinks that are gone, with what is lost with them, and
    /// new ones, in one transaction, so that a pipeline is never without a position.
    ///
    /// - Returns: the gaps that are new.
    @discardableResult
    func follow(
        _ roster: SinkRoster, new: [CheckpointRow], of pipeline: String
    ) throws(WeirError) -> [GapRow] {
        try write { database in
            var declared: [GapRow] = []
            for gone in roster.gone {
                let sink = gone.row.sink
                if let gap = gone.gap,
                    let row = try GapRow.declare(
                        database, pipeline, sink, gap, atMicros: WallClock.micros())
                {
                    declared.append(row)
                }
                try database.execute(
                    sql: "DELETE FROM checkpoint WHERE pipeline = ? AND sink = ?",
                    arguments: [pipeline, sink])
                try ConfiguredComponent.forget(database, pipeline, sink)
            }
            for row in new { try row.saveAsBeginning(database) }
            return declared
        }
    }

    /// Forgets everything about a pipeline.
    package func remove(_ pipeline: String) throws(WeirError) {
        try write { database in
            for table in ["checkpoint", "pipeline", "note", "failure", "gap", "configured"] {
                try database.execute(
                    sql: "DELETE FROM \(table) WHERE pipeline = ?", arguments: [pipeline])
            }
        }
    }

    // MARK: Notes, failures, gaps

    package func note(_ key: String, of pipeline: String) throws(WeirError) -> String? {
        try read { try NoteRow.find($0, pipeline, key) }
    }

    package func setNote(_ key: String, _ value: String, of pipeline: String) throws(WeirError) {
        try write { try NoteRow.save($0, pipeline, key, value) }
    }

    /// Counts an error; the newest message of a code stands for all.
    package func record(_ failure: FailureRow) throws(WeirError) {
        try write { try failure.save($0) }
    }

    package func failures(
        of pipeline: String, sinceMicros: Int64
    ) throws(WeirError) -> [FailureRow] {
        try read { try FailureRow.recent($0, pipeline, sinceMicros) }
    }

    /// Writes a gap down.
    ///
    /// - Returns: the gap as it is stored; nil when the same one is there already and open.
    @discardableResult
    package func declare(
        _ gap: DeclaredGap, of pipeline: String, component: String, atMicros: Int64
    ) throws(WeirError) -> GapRow? {
        try write { try GapRow.declare($0, pipeline, component, gap, atMicros: atMicros) }
    }

    /// The gaps nobody has resolved; nil asks for those of all pipelines.
    package func openGaps(of pipeline: String? = nil) throws(WeirError) -> [GapRow] {
        try read { try GapRow.open($0, pipeline) }
    }

    /// - Returns: whether there was such a gap, still open.
    package func resolveGap(_ id: Int64, atMicros: Int64) throws(WeirError) -> Bool {
        try write { try GapRow.resolve($0, id, atMicros: atMicros) }
    }

    /// The daemon's own heartbeat, for `status` while it is down.
    package func setLastSeen(_ micros: Int64) throws(WeirError) {
        try write { try NoteRow.save($0, "", "last_seen", "\(micros)") }
        reserve?.hold()
    }

    package func lastSeen() throws(WeirError) -> Int64? {
        try read { try NoteRow.find($0, "", "last_seen") }.flatMap { Int64($0) }
    }
}

extension ErrorCode {
    static let stateFailed = ErrorCode(
        "state.failed",
        meaning: "The file that holds positions could not be opened, read or written.",
        remedy: "Check the disk, the rights and the owner of the state directory. Nothing is "
            + "acknowledged to a source until it works again.")
    static let stateDamaged = ErrorCode(
        "state.damaged",
        meaning: "A row of the state store does not match its checksum: the file was edited or the "
            + "disk returned other bytes than were written.",
        remedy: "Restore the state directory from a backup, or set the position by hand: "
            + "weir position set PIPELINE confirmed --yes (MongoDB: now, or a time). Where SQLite "
            + "itself calls the file damaged, move state.sqlite away first.")
    static let stateLocked = ErrorCode(
        "state.locked",
        meaning: "Another Weir process uses this state directory.",
        remedy: "Stop it first (weir stop), or give this one a directory of its own "
            + "(--state-dir).")
    static let stateNewer = ErrorCode(
        "state.newer",
        meaning: "The state store was written by a newer version of Weir.",
        remedy: "Run that version or a newer one.")

    /// The codes of the engine itself.
    package static let engine: [ErrorCode] = [
        .stateFailed, .stateDamaged, .stateLocked, .stateNewer, .spillFailed, .spillLost,
        .onceUnsupported, .controlFailed, .controlForbidden, .positionSet, .sinkRemoved,
        .configurationChanged,
        .tablesAdded, .tablesRemoved, .pipelineReplaced, .sourceLost, .dropIncomplete,
        .configurationUnread,
        .streamStuck, .sourceSilent, .sinkSilent, .spillFull, .sinkSlow,
    ]
}
