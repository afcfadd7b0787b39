import WeirCore
import WeirPostgresClient

/// How far a target is: a row of the position table, moved in the transaction that writes the rows.
struct SinkPosition: Sendable, Equatable {
    /// The epoch of the source's positions: see `ConnectorContext.epoch`.
    let epoch: UInt32
    /// Everything before it is in the target; nil before the first transaction of the epoch.
    let position: Position?

    /// What the checkpoint keeps.
    var mark: SinkMark { SinkMark("\(epoch) \(position?.text ?? "")") }

    init(epoch: UInt32, position: Position?) {
        self.epoch = epoch
        self.position = position
    }

    init?(_ mark: SinkMark) {
        let parts = mark.text.split(separator: " ", omittingEmptySubsequences: false)
        guard parts.count == 2, let epoch = UInt32(parts[0]) else { return nil }
        self.epoch = epoch
        position = Position(text: parts[1])
        guard position != nil || parts[1].isEmpty else { return nil }
    }

    /// Whether the target holds less than this.
    func isAhead(of other: SinkPosition) -> Bool {
        if epoch != other.epoch { return epoch > other.epoch }
        guard let position else { return false }
        return other.position.map { $0 < position } ?? true
    }
}

/// What a target's row means beside what the checkpoint keeps. Pure.
enum PositionVerdict: Equatable {
    /// Nothing was ever written by this sink: make the row.
    case new
    /// Go on behind what the row covers.
    case goOn
    /// The position was moved by an operator, or the source failed over: what the row covers says
    /// nothing about what comes.
    case newEpoch
    /// The target holds less than the checkpoint says it had made durable.
    case restored
    /// The target was fed by this sink once, and the state store does not know how far.
    case forgotten
    /// The row belongs to a source of another server or database.
    case otherSource(String)
    /// The row is of a later epoch.
    case otherWriter

    /// - Parameters:
    ///   - found: the target's row and the source it names.
    ///   - mark: what the checkpoint keeps; nil when it never knew of this sink, and after an
    ///     operator moved the position.
    ///   - noted: the epoch in which the state last knew of this sink, also when it only said that
    ///     it knows too little; nil when it never did.
    ///   - epoch: the epoch of the events that come.
    static func judge(
        found: (position: SinkPosition, source: String)?, mark: SinkPosition?, noted: UInt32?,
        epoch: UInt32, source: String
    ) -> PositionVerdict {
        guard let found else {
            // A new epoch is an operator's word that it is to go on with what is there.
            guard let mark, mark.position != nil else { return .new }
            return mark.epoch < epoch ? .new : .restored
        }
        if found.position.epoch > epoch { return .otherWriter }
        guard let mark else {
            if let noted, noted < epoch { return .newEpoch }
            if found.source != source { return .otherSource(found.source) }
            if found.position.position != nil { return .forgotten }
            return found.position.epoch < epoch ? .newEpoch : .goOn
        }
        if mark.epoch < epoch { return found.position.epoch < epoch ? .newEpoch : .goOn }
        return mark.isAhead(of: found.position) ? .restored : .goOn
    }
}

/// A step of the position row.
struct PositionMove: Sendable {
    let from: SinkPosition
    let to: SinkPosition
    let source: String

    var values: [String] {
        [
            "\(to.epoch)", to.position?.text ?? "", source, "\(from.epoch)",
            from.position?.text ?? "",
        ]
    }
}

/// The statements of the position table. Names are quoted, values are literals of our own making.
struct PositionSQL: Sendable {
    let table: TableName
    let pipeline: String
    let sink: String

    private var name: String { table.sql }
    private var key: String {
        "pipeline = \(Self.literal(pipeline)) AND sink = \(Self.literal(sink))"
    }
    private static func literal(_ text: String) -> String { PostgresConnection.literal(text) }

    var schemaExists: String {
        "SELECT pg_catalog.to_regnamespace("
            + Self.literal(PostgresConnection.identifier(table.schema)) + ")::text"
    }

    var createSchema: String { TargetDefinition.createSchema(table.schema) }

    var exists: String { "SELECT pg_catalog.to_regclass(\(Self.literal(name)))::text" }

    /// Two pipelines may begin at once, and IF NOT EXISTS alone does not keep them apart.
    static let lockDefinitions =
        "SELECT pg_catalog.pg_advisory_xact_lock("
        + "pg_catalog.hashtextextended('weir definitions', 0))"

    var create: String {
        """
        BEGIN; \(Self.lockDefinitions); CREATE TABLE IF NOT EXISTS \(name) (pipeline text, sink text, source text NOT NULL, \
        epoch bigint NOT NULL, position text NOT NULL, targets text[] NOT NULL DEFAULT '{}', \
        updated timestamptz NOT NULL DEFAULT pg_catalog.now(), PRIMARY KEY (pipeline, sink)) \
        WITH (fillfactor = 50); COMMIT
        """
    }

    /// Taken for the life of the connection: one daemon writes for a pipeline and sink.
    var lock: String {
        "SELECT pg_catalog.pg_advisory_lock(\(lockKey))"
    }

    private var lockKey: String {
        let name = "weir \(pipeline)/\(sink) \(table)"
        return "pg_catalog.hashtextextended(\(Self.literal(name)), 0)"
    }

    /// Who has the lock: its number, the beginning of its session, where it comes from and since
    /// when. Sessions of other roles show only their number, except to a superuser.
    var holder: String {
        """
        SELECT l.pid, (extract(epoch FROM a.backend_start) * 1000000)::bigint, \
        host(a.client_addr), to_char(a.backend_start AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS "UTC"') \
        FROM (SELECT \(lockKey) AS k) AS key, pg_catalog.pg_locks l \
        LEFT JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid \
        WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1 \
        AND l.database = (SELECT oid FROM pg_catalog.pg_database \
        WHERE datname = pg_catalog.current_database()) \
        AND l.classid::bigint = (key.k >> 32 & 4294967295) AND l.objid::bigint = (key.k & 4294967295)
        """
    }

    var read: String { "SELECT epoch, position, source FROM \(name) WHERE \(key)" }

    /// The tables that were written in this epoch: one that vanishes took rows with it.
    var readTargets: String {
        "SELECT pg_catalog.unnest(targets) FROM \(name) WHERE \(key)"
    }

    /// Sinks of other pipelines that have written to some of these: names, target, when last. Those
    /// of the pipeline itself are compared by the configuration; one may have had another's target.
    func others(writing targets: [TableName]) -> String {
        let list = targets.map { Self.literal($0.description) }.joined(separator: ", ")
        return "SELECT pipeline, sink, t, pg_catalog.to_char(updated AT TIME ZONE 'UTC', "
            + "'YYYY-MM-DD HH24:MI \"UTC\"') FROM \(name), pg_catalog.unnest(targets) t "
            + "WHERE pipeline <> \(Self.literal(pipeline)) AND t IN (\(list)) ORDER BY 3, 1, 2"
    }

    func addTarget(_ target: TableName) -> String {
        "UPDATE \(name) SET targets = pg_catalog.array_append(targets, "
            + "\(Self.literal(target.description))) WHERE \(key)"
    }

    func removeTarget(_ target: TableName) -> String {
        "UPDATE \(name) SET targets = pg_catalog.array_remove(targets, "
            + "\(Self.literal(target.description))) WHERE \(key)"
    }

    func rewrite(_ former: String, as text: String) -> String {
        "UPDATE \(name) SET position = \(Self.literal(text)) "
            + "WHERE \(key) AND position = \(Self.literal(former))"
    }

    var remove: String { "DELETE FROM \(name) WHERE \(key)" }

    var forgetTargets: String { "UPDATE \(name) SET targets = '{}' WHERE \(key)" }

    func insert(_ position: SinkPosition, source: String) -> String {
        """
        INSERT INTO \(name) (pipeline, sink, source, epoch, position) VALUES \
        (\(Self.literal(pipeline)), \(Self.literal(sink)), \(Self.literal(source)), \
        \(position.epoch), \(Self.literal(position.position?.text ?? "")))
        """
    }

    /// Moves the row from one position to the next, and fails the transaction when it is not where
    /// it was: then another daemon writes here.
    func move(_ move: PositionMove) -> String { sql(move.values.map(Self.literal)) }

    /// The same with parameters: `PositionMove.values`.
    var preparedMove: String { sql((1...5).map { "$\($0)" }) }

    private func sql(_ values: [String]) -> String {
        """
        WITH moved AS (UPDATE \(name) SET epoch = \(values[0]), position = \(values[1]), \
        source = \(values[2]), updated = pg_catalog.now() WHERE \(key) \
        AND epoch = \(values[3]) AND position = \(values[4]) RETURNING 1) \
        SELECT CASE WHEN pg_catalog.count(*) = 1 THEN 1 \
        ELSE ('\(Self.moved) ' || pg_catalog.count(*))::int END FROM moved
        """
    }

    /// What the server's message holds, in whatever language, when `move` found no row.
    static let moved = "weir: position moved"
}
