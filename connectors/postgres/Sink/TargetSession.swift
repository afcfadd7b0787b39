import WeirCore
import WeirPostgresClient

/// One connection to the target and what belongs to its life: the lock that keeps other daemons
/// out, prepared statements, temporary tables, the open transaction. Blocks its thread.
final class TargetSession {
    let connection: PostgresConnection
    /// Of this sink, but for a while of the one it goes on for.
    private(set) var sql: PositionSQL
    /// Names of what was prepared.
    private var prepared: Set<String> = []
    /// Numbers of the plans whose temporary tables exist, and names of those that hold rows.
    private var staged: Set<Int> = []
    private var filled: Set<String> = []
    private(set) var isInTransaction = false
    private var hasSavepoint = false
    /// The backend's number and when it began: no other session ever has the same. Empty where the
    /// server does not show it to the role that the session works as.
    let name: String
    let instance: ServerInstance
    /// The target is the very database that is read, as far as that was looked for.
    private(set) var isSource = false
    private(set) var isSourceKnown = false
    /// The tables that were written in this epoch.
    private(set) var targets: Set<String> = []
    /// Those of them that were written before this session, or planned by it.
    private var written: Set<String> = []
    /// The tables as the statements of this session take them to be.
    private var planned: [TableName: TargetTable] = [:]
    private var lookedAt = ContinuousClock.now
    /// The source's table of each target, where the configuration does not list them.
    private var claims: [TableName: TableName] = [:]

    /// Honest work may take long; when nothing at all comes for so long the connection is given up.
    static let statementLimit = Duration.seconds(300)
    /// The server gives up waiting for a lock earlier, and says so.
    private static let lockWaitMillis = 60_000
    /// A daemon that was killed leaves a session behind, which the server ends a moment later.
    private static let lockLimitMillis = 3000

    /// `name`, of a row of `pg_stat_activity`.
    static let nameSQL = "pid || ' ' || (extract(epoch FROM backend_start) * 1000000)::bigint"

    init(_ connection: PostgresConnection, _ sql: PositionSQL) throws(PostgresFailure) {
        self.connection = connection
        self.sql = sql
        let row = try connection.queryRow(
            "SELECT \(Self.nameSQL) FROM pg_catalog.pg_stat_activity "
                + "WHERE pid = pg_catalog.pg_backend_pid()")
        name = row[0] ?? ""
        instance = try ServerInstance(connection)
    }

    /// False once the server ended the session: it then says why, and closes behind that.
    var isUsable: Bool {
        connection.isQuiet()
            || connection.isAlive() && (connection.isQuiet() || connection.isAlive())
    }

    var deadline: ContinuousClock.Instant { .now + Self.statementLimit }

    /// Takes the lock; false when another session holds it.
    func lock() throws(PostgresFailure) -> Bool {
        // Where the server can, it ends a statement whose client is gone.
        _ = try? connection.query("SET client_connection_check_interval = 1000")
        do {
            _ = try connection.query(
                "SET lock_timeout = \(Self.lockLimitMillis); \(sql.lock); "
                    + "SET lock_timeout = \(Self.lockWaitMillis)")
            return true
        } catch {
            guard error.sqlState == "55P03" else { throw error }
            return false
        }
    }

    func know(isSource: Bool) {
        self.isSource = isSource
        isSourceKnown = true
    }

    /// The position row, after the table was made if it is missing.
    func readPosition() throws(PostgresFailure) -> (position: SinkPosition, source: String)? {
        if try connection.queryRow(sql.exists)[0] == nil {
            if try connection.queryRow(sql.schemaExists)[0] == nil {
                _ = try connection.query(sql.createSchema)
            }
            _ = try connection.query(sql.create)
        }
        guard let row = try connection.query(sql.read).first,
            let epoch = row[0].flatMap({ UInt32($0) }), let token = row[1]
        else { return nil }
        targets = Set(try connection.query(sql.readTargets).compactMap { $0[0] })
        written = targets
        let position = Position(text: token)
        if let position, position.text != token {
            // As an earlier version wrote it. A move compares the text.
            _ = try connection.query(sql.rewrite(token, as: position.text))
        }
        guard position != nil || token.isEmpty else {
            throw PostgresFailure(.statement, "\"\(token.prefix(80))\" is no position")
        }
        return (SinkPosition(epoch: epoch, position: position), row[2] ?? "")
    }

    /// The position row that another sink of the pipeline left, and the targets it wrote to.
    func readPosition(
        of sink: String
    ) throws(PostgresFailure) -> (position: SinkPosition?, targets: Set<String>) {
        let own = sql
        sql = PositionSQL(table: own.table, pipeline: own.pipeline, sink: sink)
        defer {
            sql = own
            targets = []
            written = []
        }
        let position = try readPosition()?.position
        return (position, position == nil ? [] : targets)
    }

    func hasPosition() throws(PostgresFailure) -> Bool {
        guard try hasPositionTable() else { return false }
        return try !connection.query(sql.read).isEmpty
    }

    /// Returns whether there was one.
    func removePosition() throws(PostgresFailure) -> Bool {
        guard try hasPositionTable() else { return false }
        return try !connection.query("\(sql.remove) RETURNING 1").isEmpty
    }

    private func hasPositionTable() throws(PostgresFailure) -> Bool {
        try connection.queryRow(sql.exists)[0] != nil
    }

    func add(target: TableName) throws(PostgresFailure) {
        guard targets.insert(target.description).inserted else { return }
        _ = try connection.query(sql.addTarget(target))
    }

    /// Goes on for another sink: what that one wrote to counts as written by this one.
    func inherit(_ former: Set<String>) throws(PostgresFailure) {
        for target in former.sorted() {
            guard let name = TableName(parsing: target) else { continue }
            try add(target: name)
            written.insert(target)
        }
    }

    /// Whether rows may have been written to it before it was looked at now.
    func wasWritten(_ target: TableName) -> Bool {
        guard targets.contains(target.description) else { return false }
        return !written.insert(target.description).inserted
    }

    func plan(_ target: TargetTable) { planned[target.name] = target }

    /// Looks now and then, and less often at many tables, so that it costs nothing that can be
    /// measured.
    ///
    /// - Returns: false once a table was made again, swapped, renamed or given a column.
    func stillFits(lookingEvery interval: Duration) throws(PostgresFailure) -> Bool {
        let now = ContinuousClock.now
        guard !planned.isEmpty, now - lookedAt >= interval * (1 + planned.count / 100)
        else { return true }
        lookedAt = now
        let rows = planned.values.map {
            "(\($0.oid)::pg_catalog.oid, \(PostgresConnection.literal($0.name.schema)), "
                + "\(PostgresConnection.literal($0.name.name)), \($0.width))"
        }
        let count = try connection.queryRow(
            """
            SELECT pg_catalog.count(*) FROM (VALUES \(rows.joined(separator: ", "))) \
            v(oid, schema, name, width) JOIN pg_catalog.pg_class c \
            ON c.oid = v.oid AND c.relname = v.name AND c.relnatts = v.width \
            JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace AND n.nspname = v.schema
            """)[0]
        return count == "\(planned.count)"
    }

    /// Returns the other table that is written to the target already; nil when there is none.
    func claim(_ target: TableName, for source: TableName) -> TableName? {
        if let other = claims[target], other != source { return other }
        claims[target] = source
        return nil
    }

    func forgetTargets() throws(PostgresFailure) {
        _ = try connection.query(sql.forgetTargets)
        targets = []
        written = []
    }

    // MARK: Transactions

    static let savepoint = "weir"

    /// Begins a transaction, or a part of the one that is open.
    func begin() throws(PostgresFailure) {
        if isInTransaction {
            // One at a time: they would nest, once per write.
            let release = hasSavepoint ? "RELEASE SAVEPOINT \(Self.savepoint); " : ""
            _ = try connection.query(
                "\(release)SAVEPOINT \(Self.savepoint)", within: Self.statementLimit)
            hasSavepoint = true
        } else {
            try beginAnew()
        }
    }

    private func beginAnew() throws(PostgresFailure) {
        // Constraints that may wait, wait: the source had them hold at each commit only.
        _ = try connection.query("BEGIN; SET CONSTRAINTS ALL DEFERRED", within: Self.statementLimit)
        isInTransaction = true
        hasSavepoint = false
        filled = []
    }

    /// Undoes everything since `begin`, and begins again.
    ///
    /// - Parameter isPart: whether there was a transaction before.
    func beginAgain(isPart: Bool) throws(PostgresFailure) {
        if isPart {
            _ = try connection.query(
                "ROLLBACK TO SAVEPOINT \(Self.savepoint)", within: Self.statementLimit)
            staged = []
        } else {
            try rollBack()
            try beginAnew()
        }
    }

    /// Undoes everything since `begin`, and leaves what was before it.
    func undo() throws(PostgresFailure) {
        guard hasSavepoint else { return try rollBack() }
        _ = try connection.query(
            "ROLLBACK TO SAVEPOINT \(Self.savepoint)", within: Self.statementLimit)
        staged = []
        forgetPrepared()
    }

    func rollBack() throws(PostgresFailure) {
        _ = try connection.query("ROLLBACK", within: Self.statementLimit)
        isInTransaction = false
        filled = []
        // Those made inside are gone.
        staged = []
    }

    /// - Parameter isDurable: whether to wait until it, and all before it, is on disk.
    func commit(_ move: PositionMove, isDurable: Bool) throws(PostgresFailure) {
        let durable = isDurable ? "SET LOCAL synchronous_commit = on; " : ""
        _ = try connection.query("\(durable)\(sql.move(move)); COMMIT", within: Self.statementLimit)
        isInTransaction = false
        filled = []
    }

    /// A transaction of its own that moves nothing but makes all before it durable.
    func makeDurable(_ move: PositionMove) throws(PostgresFailure) {
        _ = try connection.query(
            "BEGIN; SET LOCAL synchronous_commit = on; \(sql.move(move)); COMMIT",
            within: Self.statementLimit)
    }

    // MARK: Temporary tables

    /// Makes a plan's temporary tables, and empties one that holds rows of this transaction.
    func prepareStage(_ name: String, _ plan: CopyPlan) throws(PostgresFailure) {
        if staged.insert(plan.number).inserted {
            _ = try connection.query(plan.createStages.joined(separator: "; "))
        }
        guard !filled.insert("\(name)\(plan.number)").inserted else { return }
        _ = try connection.query(plan.empty(name), within: Self.statementLimit)
    }

    // MARK: Statements

    /// Adds the execution of a statement to the pipeline, and its preparation before the first.
    /// Returns how many commands that were.
    func add(
        _ name: String, _ sql: @autoclosure () -> String,
        _ parameters: borrowing StatementParameters
    ) throws(PostgresFailure) -> Int {
        var count = 1
        if prepared.insert(name).inserted {
            try connection.addPreparation(name, sql())
            count = 2
        }
        try connection.addExecution(name, parameters)
        return count
    }

    /// After a failure: what was prepared behind it was not.
    func forgetPrepared() {
        guard !prepared.isEmpty else { return }
        _ = try? connection.query("DEALLOCATE ALL")
        prepared = []
    }
}
