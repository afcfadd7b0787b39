import WeirCore
import WeirPostgresClient

/// How a session of the target begins: connection, lock, origin.
extension PostgresSink {
    private static let tooOld = "weir: too old"
    private static let versionMin = 140000

    var sessionName: String { "\(context.pipeline)/\(context.name)" }
    /// The note that keeps the last session's name, so that a later life knows it as its own.
    private var sessionNote: String { "postgres session \(context.name)" }

    /// - Parameter underOrigin: false for what the sink does about its own traces, the origin among
    ///   them: a session that has it cannot remove it.
    func connect(underOrigin: Bool = true) async throws(WeirError) -> TargetSession {
        let session: TargetSession
        do throws(PostgresFailure) {
            let connection = try PostgresConnection(
                config.connection, mode: .sink, name: "weir \(sessionName)")
            guard connection.serverVersion >= Self.versionMin else {
                throw PostgresFailure(.statement, "", sqlState: Self.tooOld)
            }
            session = try TargetSession(
                connection,
                PositionSQL(
                    table: config.positionTable, pipeline: context.pipeline, sink: context.name))
        } catch {
            if error.sqlState == Self.tooOld {
                throw WeirError(
                    .serverVersion, .blocked, "\(place) is older than PostgreSQL 14",
                    hint: ErrorCode.serverVersion.remedy)
            }
            throw failures.error(error, doing: "connect")
        }
        try await takeLock(session)
        if underOrigin, let origin = config.origin { try setUp(origin, session) }
        watch(session)
        return session
    }

    // MARK: The lock

    /// Takes the lock that keeps other daemons out, if need be from an earlier session of ours.
    ///
    /// A session that is lost behind a proxy lives on at the server, which does not learn that its
    /// client is gone, and would keep us out for as long as the proxy likes. Only a session whose
    /// process has ended, or is this one, is ended: a copied state directory names another
    /// daemon's.
    private func takeLock(_ session: TargetSession) async throws(WeirError) {
        if try !isLocked(session) {
            let holder = try holder(session)
            let note = try await context.notes.get(sessionNote) ?? ""
            let lines = note.split(separator: "\n")
            guard let holder, lines.count == 2, holder.name == lines[0],
                SessionOwner(parsing: lines[1])?.hasLeft == true
            else { throw held(by: holder) }
            try end(holder, session)
            guard try isLocked(session) else { throw held(by: try self.holder(session)) }
        }
        let owner = SessionOwner.current?.description ?? ""
        try await context.notes.set(sessionNote, "\(session.name)\n\(owner)")
    }

    private func isLocked(_ session: TargetSession) throws(WeirError) -> Bool {
        do { return try session.lock() } catch {
            throw failures.error(error, doing: "take the lock of \(sessionName)")
        }
    }

    private func holder(_ session: TargetSession) throws(WeirError) -> LockHolder? {
        do { return try LockHolder(row: session.connection.query(session.sql.holder).first) } catch
        {
            throw failures.error(error, doing: "look who holds the lock of \(sessionName)")
        }
    }

    private func end(_ holder: LockHolder, _ session: TargetSession) throws(WeirError) {
        do throws(PostgresFailure) {
            _ = try session.connection.query(holder.terminate)
        } catch {
            guard error.sqlState == "42501" else {
                throw failures.error(error, doing: "end our own earlier session")
            }
            throw held(by: holder)
        }
        context.log(
            .warning,
            "ended our own earlier session at \(place) (pid \(holder.pid)): the server had not "
                + "noticed that its connection was lost")
    }

    private func held(by holder: LockHolder?) -> WeirError {
        let who = holder.map { " (\($0.description))" } ?? ""
        let end = holder.map { "\n\($0.command)" } ?? ""
        return WeirError(
            .otherWriter, .transient,
            "another session writes to \(place) as \(sessionName)\(who)",
            hint: "Two daemons with one pipeline? It is named \"weir \(sessionName)\" in "
                + "pg_stat_activity. Weir goes on when it ends. If no daemon runs there any more, "
                + "end it, as its own role or a superuser:\(end)")
    }

    // MARK: Silence

    /// From now on no wait for this session outlasts what the server does for it.
    private func watch(_ session: TargetSession) {
        let probe = SilenceProbe(
            connection: config.connection, name: "weir \(sessionName) probe",
            session: session.name, instance: session.instance)
        session.connection.silence = SilenceWatch(limit: silenceLimit) { [silenceLimit] in
            probe.verdict(after: silenceLimit)
        }
    }
}

/// The session that holds the lock of a pipeline and sink.
struct LockHolder: Equatable {
    let pid: String
    /// As `TargetSession.name`; empty where the server does not show it.
    let name: String
    let address: String?
    let since: String?

    init?(row: TextRow?) {
        guard let row, row.count == 4, let pid = row[0] else { return nil }
        self.pid = pid
        name = row[1].map { "\(pid) \($0)" } ?? ""
        address = row[2]
        since = row[3]
    }

    var description: String {
        var text = "pid \(pid)"
        if let address { text += " from \(address)" }
        if let since { text += " since \(since)" }
        return text
    }

    /// For an operator.
    var command: String { "SELECT pg_catalog.pg_terminate_backend(\(pid));" }

    /// For us: never another session that has its number by now.
    var terminate: String {
        "SELECT pg_catalog.pg_terminate_backend(pid, 5000) FROM pg_catalog.pg_stat_activity "
            + "WHERE \(TargetSession.nameSQL) = \(PostgresConnection.literal(name))"
    }
}

/// Whether the target is the database that is read.
extension PostgresSink {
    /// Call when the source is open: only then the note is about the server it reads now.
    func lookForSource(_ session: TargetSession) async throws(WeirError) {
        guard !session.isSourceKnown, let source = context.source() else { return }
        session.know(isSource: try await isSource(source, session))
    }

    private func isSource(
        _ source: SourceIdentity, _ session: TargetSession
    ) async throws(WeirError) -> Bool {
        let own = session.instance
        guard let system = source["system"], own.mayBeOfSystem(system),
            own.database == source["database"]
        else { return false }
        let note = try await context.notes.get(ServerInstance.noteKey) ?? ""
        guard let read = ServerInstance(parsing: note), read.mayBeOfSystem(system),
            read.database == own.database
        else { return true }
        return own.isSame(as: read)
    }
}
