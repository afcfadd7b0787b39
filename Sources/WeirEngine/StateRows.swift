import GRDB
import Synchronization
package import WeirCore

// The tables of the state store. Rows a start depends on end in a checksum over their other
// columns.

/// Where one sink stands.
package struct CheckpointRow: Sendable, Equatable {
    package let pipeline: String
    package let sink: String
    /// What the sink holds durably.
    package let position: Position
    package let mark: SinkMark?
    /// What its spill holds durably beyond that.
    let spill: Spill.Extent?
    package let updatedMicros: Int64

    init(
        pipeline: String, sink: String, position: Position, mark: SinkMark?,
        spill: Spill.Extent? = nil, updatedMicros: Int64
    ) {
        self.pipeline = pipeline
        self.sink = sink
        self.position = position
        self.mark = mark
        self.spill = spill
        self.updatedMicros = updatedMicros
    }

    /// Everything before it is safe for this sink (invariant 1).
    package var covered: Position { max(position, spill?.end ?? position) }

    func save(_ database: Database) throws {
        let values: [String?] = [
            pipeline, sink, position.text, mark?.text, spill?.end.text,
            spill.map { "\($0.length)" }, "\(updatedMicros)",
        ]
        try database.execute(
            sql: """
                INSERT OR REPLACE INTO checkpoint
                (pipeline, sink, position, mark, spill_end, spill_length, updated, checksum)
                VALUES (?, ?, ?, ?, ?, ?, ?, ?)
                """,
            arguments: StatementArguments(values + [Checksum.of(values)]))
    }

    /// Of a sink that begins here.
    func saveAsBeginning(_ database: Database) throws {
        try save(database)
        try ConfiguredComponent.saveBeginning(
            database, pipeline, sink,
            ConfiguredComponent.Beginning(position: position.text, micros: updatedMicros))
    }

    func with(mark: SinkMark?) -> CheckpointRow {
        CheckpointRow(
            pipeline: pipeline, sink: sink, position: position, mark: mark, spill: spill,
            updatedMicros: updatedMicros)
    }

    /// The stored row of the same sink.
    static func find(_ database: Database, like row: CheckpointRow) throws -> CheckpointRow? {
        try all(database, of: row.pipeline).first { $0.sink == row.sink }
    }

    private static let columns =
        "pipeline, sink, position, mark, spill_end, spill_length, updated, checksum"

    static func all(_ database: Database, of pipeline: String) throws -> [CheckpointRow] {
        let rows = try Row.fetchAll(
            database,
            sql: """
                SELECT \(Checksum.texts(columns)) FROM checkpoint WHERE pipeline = ? ORDER BY sink
                """, arguments: [pipeline])
        return try rows.map { row in
            let values: [String?] = try Checksum.verified(row, count: 7, of: "checkpoint")
            let spillEnd = try values[4].map { try position($0, of: pipeline) }
            let spillLength = values[5].flatMap { Int($0) }
            return CheckpointRow(
                pipeline: values[0] ?? "", sink: values[1] ?? "",
                position: try position(values[2] ?? "", of: pipeline),
                mark: values[3].map(SinkMark.init(_:)),
                spill: spillEnd.flatMap { end in
                    spillLength.map { Spill.Extent(end: end, length: $0) }
                },
                updatedMicros: values[6].flatMap { Int64($0) } ?? 0)
        }
    }
}

extension CheckpointRow {
    private static func position(_ text: String, of pipeline: String) throws -> Position {
        guard let position = Position(text: text) else {
            throw WeirError(
                .stateDamaged, .blocked,
                "\"\(text.prefix(80))\" in the state store is no position",
                hint: ErrorCode.stateDamaged.remedy(for: pipeline))
        }
        return position
    }
}

/// Whose positions a pipeline holds.
package struct PipelineRow: Sendable, Equatable {
    package let name: String
    package let identity: SourceIdentity
    package let epoch: Int

    package init(name: String, identity: SourceIdentity, epoch: Int) {
        self.name = name
        self.identity = identity
        self.epoch = epoch
    }

    func save(_ database: Database) throws {
        let values: [String?] = [name, identity.description, "\(epoch)"]
        try database.execute(
            sql: """
                INSERT OR REPLACE INTO pipeline (pipeline, identity, epoch, checksum)
                VALUES (?, ?, ?, ?)
                """, arguments: StatementArguments(values + [Checksum.of(values)]))
    }

    static func find(_ database: Database, _ name: String) throws -> PipelineRow? {
        guard
            let row = try Row.fetchOne(
                database,
                sql: """
                    SELECT \(Checksum.texts("pipeline, identity, epoch, checksum"))
                    FROM pipeline WHERE pipeline = ?
                    """,
                arguments: [name])
        else { return nil }
        let values = try Checksum.verified(row, count: 3, of: "pipeline")
        return PipelineRow(
            name: name, identity: SourceIdentity(parsing: values[1] ?? ""),
            epoch: values[2].flatMap { Int($0) } ?? 0)
    }
}

/// Which life of a pipeline's positions: it rises when the source's identity changes or an operator
/// moves the position, and versions that sinks keep begin with it.
///
/// It is the time it began, in seconds since 1970: a pipeline whose state was lost or dropped
/// begins above every version that its earlier lives left in a sink.
enum Epoch {
    static func next(after epoch: Int?) -> Int {
        max(Int(WallClock.seconds()), (epoch ?? 0) + 1)
    }
}

/// Whose positions a pipeline is delivering, and of which epoch; its connectors look at it.
final class SourceNow: Sendable {
    struct Facts: Sendable {
        var epoch = 0
        var identity: SourceIdentity?
        /// See `ConnectorContext.isContinuous`.
        var isContinuous = false
    }

    private let facts = Mutex(Facts())

    var value: Facts {
        get { facts.withLock { $0 } }
        set { facts.withLock { $0 = newValue } }
    }
}

/// A word some connector wants to find again.
enum NoteRow {
    static func find(_ database: Database, _ pipeline: String, _ key: String) throws -> String? {
        guard
            let row = try Row.fetchOne(
                database,
                sql: """
                    SELECT \(Checksum.texts("pipeline, key, value, checksum"))
                    FROM note WHERE pipeline = ? AND key = ?
                    """,
                arguments: [pipeline, key])
        else { return nil }
        return try Checksum.verified(row, count: 3, of: "note")[2]
    }

    static func save(
        _ database: Database, _ pipeline: String, _ key: String, _ value: String
    ) throws {
        let values: [String?] = [pipeline, key, value]
        try database.execute(
            sql: "INSERT OR REPLACE INTO note (pipeline, key, value, checksum) VALUES (?, ?, ?, ?)",
            arguments: StatementArguments(values + [Checksum.of(values)]))
    }
}

/// One kind of error of one component: how often, since when, and its newest words.
package struct FailureRow: Sendable, Equatable {
    package let pipeline: String
    /// The sink's name, or "source".
    package let component: String
    package let code: String
    package let message: String
    package let firstMicros: Int64
    package let lastMicros: Int64
    package let count: Int

    package init(
        pipeline: String, component: String, code: String, message: String, firstMicros: Int64,
        lastMicros: Int64, count: Int
    ) {
        self.pipeline = pipeline
        self.component = component
        self.code = code
        self.message = message
        self.firstMicros = firstMicros
        self.lastMicros = lastMicros
        self.count = count
    }

    func save(_ database: Database) throws {
        try database.execute(
            sql: """
                INSERT INTO failure (pipeline, component, code, message, first, last, count)
                VALUES (?, ?, ?, ?, ?, ?, ?)
                ON CONFLICT (pipeline, component, code) DO UPDATE SET
                first = CASE WHEN last < excluded.first - 86400000000 THEN excluded.first ELSE first END,
                count = CASE WHEN last < excluded.first - 86400000000 THEN excluded.count
                        ELSE count + excluded.count END,
                last = excluded.last, message = excluded.message
                """,
            arguments: [pipeline, component, code, message, firstMicros, lastMicros, count])
    }

    static func recent(
        _ database: Database, _ pipeline: String, _ sinceMicros: Int64
    ) throws -> [FailureRow] {
        try Row.fetchAll(
            database,
            sql: """
                SELECT COALESCE(CAST(component AS TEXT), ''), COALESCE(CAST(code AS TEXT), ''),
                COALESCE(CAST(message AS TEXT), ''), COALESCE(CAST(first AS INTEGER), 0),
                COALESCE(CAST(last AS INTEGER), 0), COALESCE(CAST(count AS INTEGER), 0)
                FROM failure WHERE pipeline = ? AND last >= ? ORDER BY last DESC LIMIT 100
                """, arguments: [pipeline, sinceMicros]
        ).map { row in
            FailureRow(
                pipeline: pipeline, component: row[0], code: row[1], message: row[2],
                firstMicros: row[3], lastMicros: row[4], count: row[5])
        }
    }
}

/// Guards a row against edits and bit rot.
enum Checksum {
    static func of(_ values: [String?]) -> String {
        var bytes: [UInt8] = []
        for value in values {
            // Lengths keep neighbours apart; -1 tells NULL from empty.
            bytes += Array("\(value?.utf8.count ?? -1):".utf8)
            bytes += Array((value ?? "").utf8)
        }
        return String(SpillCodec.checksum(bytes), radix: 16)
    }

    /// The columns as text whatever the file says they are: a damaged type must not trap.
    static func texts(_ columns: String) -> String {
        columns.split(separator: ",").map { "CAST(\($0) AS TEXT)" }.joined(separator: ", ")
    }

    static func verified(_ row: Row, count: Int, of table: String) throws -> [String?] {
        let values: [String?] = (0..<count).map { row[$0] }
        let stored: String? = row[count]
        guard stored == of(values) else {
            throw WeirError(
                .stateDamaged, .blocked,
                "a row of \"\(table)\" in the state store does not match its checksum",
                // Each of these tables begins with the pipeline.
                hint: ErrorCode.stateDamaged.remedy(
                    for: values.first.flatMap(\.self).flatMap { $0.isEmpty ? nil : $0 }
                        ?? "PIPELINE"))
        }
        return values
    }
}

/// The file's layout and its history.
enum StateSchema {
    /// The first layout's gaps, in the columns of the second.
    static let oldGapColumns =
        "rowid, pipeline, 'source', 'engine.position_set', '', \"from\", \"to\", reason, '', at"

    static func migrate(_ queue: DatabaseQueue) throws {
        var migrator = DatabaseMigrator()
        migrator.registerMigration("1") { database in
            try database.execute(
                sql: """
                    CREATE TABLE pipeline (
                        pipeline TEXT PRIMARY KEY, identity TEXT NOT NULL, epoch TEXT NOT NULL,
                        checksum TEXT NOT NULL) STRICT;
                    CREATE TABLE checkpoint (
                        pipeline TEXT NOT NULL, sink TEXT NOT NULL, position TEXT NOT NULL,
                        mark TEXT, spill_end TEXT, spill_length TEXT, updated TEXT NOT NULL,
                        checksum TEXT NOT NULL, PRIMARY KEY (pipeline, sink)) STRICT;
                    CREATE TABLE note (
                        pipeline TEXT NOT NULL, key TEXT NOT NULL, value TEXT NOT NULL,
                        checksum TEXT NOT NULL, PRIMARY KEY (pipeline, key)) STRICT;
                    CREATE TABLE failure (
                        pipeline TEXT NOT NULL, component TEXT NOT NULL, code TEXT NOT NULL,
                        message TEXT NOT NULL, first INTEGER NOT NULL, last INTEGER NOT NULL,
                        count INTEGER NOT NULL, PRIMARY KEY (pipeline, component, code)) STRICT;
                    CREATE TABLE gap (
                        pipeline TEXT NOT NULL, "from" TEXT NOT NULL, "to" TEXT NOT NULL,
                        reason TEXT NOT NULL, at INTEGER NOT NULL) STRICT;
                    """)
        }
        migrator.registerMigration("2") { database in
            try database.execute(
                sql: """
                    ALTER TABLE gap RENAME TO gap_1;
                    CREATE TABLE gap (
                        id INTEGER PRIMARY KEY AUTOINCREMENT, pipeline TEXT NOT NULL,
                        component TEXT NOT NULL, code TEXT NOT NULL, subject TEXT NOT NULL,
                        "from" TEXT NOT NULL, "to" TEXT NOT NULL, message TEXT NOT NULL,
                        hint TEXT NOT NULL, declared INTEGER NOT NULL, resolved INTEGER) STRICT;
                    INSERT INTO gap (id, pipeline, component, code, subject, "from", "to", message,
                        hint, declared)
                        SELECT \(oldGapColumns) FROM gap_1;
                    DROP TABLE gap_1;
                    """)
        }
        migrator.registerMigration("configured") { database in
            try database.execute(
                sql: """
                    CREATE TABLE configured (
                        pipeline TEXT NOT NULL, component TEXT NOT NULL, kind TEXT NOT NULL,
                        name TEXT NOT NULL, value TEXT NOT NULL,
                        PRIMARY KEY (pipeline, component, kind, name)) STRICT;
                    """)
        }
        try queue.read { database in
            if try migrator.hasBeenSuperseded(database) {
                throw WeirError(
                    .stateNewer, .blocked, "the state store was written by a newer Weir",
                    hint: ErrorCode.stateNewer.remedy)
            }
        }
        try migrator.migrate(queue)
    }
}
