import WeirCore
import WeirPostgresClient
import WeirValues

/// How rows of one version of a source table are written to its target. Pure.
///
/// A class, so that looking at it once per event costs one count.
final class CopyPlan: Sendable {
    /// A column that is written.
    struct Output: Sendable {
        let name: String
        let source: FieldReference
        /// An UPDATE may set it.
        let isSettable: Bool
    }

    let schema: TableSchema
    /// Its rows are documents.
    let isOfDocuments: Bool
    let target: TargetTable
    let outputs: [Output]
    /// The places of the key's columns in `outputs`, in the order of the source's key; empty for a
    /// table without one.
    let key: [Int]
    /// Rows are told apart by a unique index on the key; otherwise, in tables whose whole row is
    /// their key, any one equal row is taken.
    let isKeyed: Bool
    /// Makes the names of statements and temporary tables unique on a connection.
    let number: Int
    /// The sources of the outputs, and of the key's.
    let references: [FieldReference]
    let keyReferences: [FieldReference]
    /// How the key's columns are compared, in the order of `key`.
    private let keyMatches: [KeyMatch]
    private let taken: [Bool]

    /// The names of the prepared statements.
    let upsertName: String
    let moveName: String
    let deleteName: String
    let insertName: String

    /// The target asks for a column that is not written: rows that are there must not be inserted,
    /// not even to find that they are.
    let updatesFirst: Bool
    /// An UPDATE may give a row another key.
    let canMove: Bool
    /// Others at the target would see a row go that comes back at once.
    let mindsDeletes: Bool
    /// A row may be taken out and put back, and nobody sees or misses anything.
    let canSwap: Bool
    /// Keys of the source that differ may be one to the target, though their texts differ: the
    /// target's key is of another type than the source's.
    let mayCollide: Bool

    init(
        schema: TableSchema, target: TargetTable, outputs: [Output], key: [Int], isKeyed: Bool,
        number: Int, takes taken: [Bool], matching keyMatches: [KeyMatch] = []
    ) {
        self.schema = schema
        self.target = target
        self.outputs = outputs
        self.key = key
        self.isKeyed = isKeyed
        self.number = number
        self.taken = taken
        references = outputs.map(\.source)
        keyReferences = key.map { outputs[$0].source }
        self.keyMatches = key.map { index in
            keyMatches.first { $0.column == outputs[index].name } ?? .plain(outputs[index].name)
        }
        upsertName = "u\(number)"
        moveName = "m\(number)"
        deleteName = "d\(number)"
        insertName = "i\(number)"
        let others = target.columns.filter { column in
            !column.isGenerated && !outputs.contains { $0.name == column.name }
        }
        updatesFirst = others.contains(where: \.isDemanded)
        isOfDocuments = schema.isCollection
        mindsDeletes = isKeyed && target.isWatched && !isOfDocuments
        canMove = isKeyed && key.allSatisfy { outputs[$0].isSettable }
        let keyTypes = key.map { target.column(outputs[$0].name)?.type ?? "" }
        mayCollide = isOfDocuments && !keyTypes.allSatisfy(["text", "varchar"].contains)
        canSwap = isKeyed && !target.isWatched && others.isEmpty && !mayCollide
    }

    /// A document that was gone when it was looked up is left out: its delete follows. So is one
    /// that no key would tell from others.
    func takes(_ event: Event, of batch: EventBatch) -> Bool {
        taken[Int(event.operation.rawValue)] && !event.has(Event.rowGone)
            && !(isOfDocuments && hasNullKey(event, of: batch))
    }

    /// A document whose `_id` is null: a table's key takes none, and no condition finds it.
    func hasNullKey(_ event: Event, of batch: EventBatch) -> Bool {
        guard isOfDocuments, !event.key.isEmpty else { return false }
        let key = batch.values[Int(event.key.start)]
        // A document of one element: its length, then the element's type.
        guard key.form == .bson, key.bytes.count > 4 else { return false }
        let type = batch.arena[Int(key.bytes.start) + 4]
        // Null and, of old drivers, undefined.
        return type == 0x0A || type == 0x06
    }

    /// Whether some value that is written was not sent.
    func unsent(_ image: Slice, in batch: EventBatch) -> Bool {
        for reference in references
        where batch.values[Int(image.start) + reference.column].form == .unchanged {
            return true
        }
        return false
    }

    // MARK: SQL

    private func names(_ indexes: some Sequence<Int>) -> String {
        indexes.map { PostgresConnection.identifier(outputs[$0].name) }.joined(separator: ", ")
    }

    private func set(_ indexes: some Sequence<Int>, from source: String) -> String {
        indexes.filter { outputs[$0].isSettable }
            .map { index in
                let name = PostgresConnection.identifier(outputs[index].name)
                return "\(name) = \(source).\(name)"
            }.joined(separator: ", ")
    }

    private var rest: [Int] { outputs.indices.filter { !key.contains($0) } }

    /// `COPY` straight into the target.
    var copy: String { "COPY \(target.name.sql) (\(names(outputs.indices))) FROM STDIN" }

    private var onConflict: String {
        guard isKeyed else { return "" }
        let set = set(rest, from: "excluded")
        let action = set.isEmpty ? "DO NOTHING" : "DO UPDATE SET \(set)"
        return " ON CONFLICT (\(names(key))) \(action)"
    }

    /// A row that is put in counts as one, whether it was there or not.
    var countsEachRow: Bool { !isKeyed || rest.contains { outputs[$0].isSettable } }

    /// One row whose columns are all there.
    var upsert: String {
        // No list of values may be empty.
        if outputs.isEmpty { return "INSERT INTO \(target.name.sql) DEFAULT VALUES" }
        let values = outputs.indices.map { "$\($0 + 1)" }.joined(separator: ", ")
        return "\(insertInto)VALUES (\(values))\(onConflict)"
    }

    /// One row, unless there is one of its key.
    var insert: String {
        let values = outputs.indices.map { "$\($0 + 1)" }.joined(separator: ", ")
        return "\(insertInto)VALUES (\(values)) ON CONFLICT DO NOTHING"
    }

    /// The alias keeps a table of that name apart from the row that is excluded.
    private var insertInto: String {
        "INSERT INTO \(target.name.sql) AS weir_target (\(names(outputs.indices))) "
            + "OVERRIDING SYSTEM VALUE "
    }

    /// Changes the row of a key in some columns, all of which may be set: the key's values first,
    /// then the others'.
    func update(_ columns: [Int]) -> String {
        let set = columns.enumerated().map { place, index in
            "\(PostgresConnection.identifier(outputs[index].name)) = $\(key.count + place + 1)"
        }
        guard !set.isEmpty else {
            return "SELECT FROM \(target.name.sql) WHERE \(matchKey)"
        }
        return "UPDATE \(target.name.sql) SET \(set.joined(separator: ", ")) WHERE \(matchKey)"
    }

    /// Gives the row of a key another one: the old key's values first, then every column's. Inserts
    /// the row if there is none of the old key.
    var move: String {
        let values = outputs.indices.map { "$\(key.count + $0 + 1)" }.joined(separator: ", ")
        let set = outputs.indices.filter { outputs[$0].isSettable }.map { index in
            "\(PostgresConnection.identifier(outputs[index].name)) = $\(key.count + index + 1)"
        }.joined(separator: ", ")
        return "WITH moved AS (UPDATE \(target.name.sql) SET \(set) WHERE \(matchKey) RETURNING 1) "
            + "\(insertInto)SELECT \(values) WHERE NOT EXISTS (SELECT FROM moved)\(onConflict)"
    }

    var delete: String {
        isKeyed
            ? "DELETE FROM \(target.name.sql) WHERE \(matchKey)"
            // Partitions have a ctid of their own each.
            : "DELETE FROM \(target.name.sql) WHERE (tableoid, ctid) = "
                + "(SELECT tableoid, ctid FROM \(target.name.sql) WHERE \(matchRow) LIMIT 1)"
    }

    /// All at once, because one may refer to another. What waits for the commit is looked at
    /// before: no table may be emptied while its rows' constraints wait.
    ///
    /// - Parameter restarts: the source restarted the sequences of its columns.
    static func truncate(_ plans: [CopyPlan], restarts: Bool) -> [String] {
        let mayRestart = !plans.contains { $0.target.sequences == .notOurs }
        return [
            "SET CONSTRAINTS ALL IMMEDIATE",
            "TRUNCATE \(plans.map(\.target.name.sql).joined(separator: ", "))"
                + (restarts && mayRestart ? " RESTART IDENTITY" : ""),
            "SET CONSTRAINTS ALL DEFERRED",
        ]
    }

    private var matchKey: String {
        keyMatches.enumerated().map { place, match in
            match.matches(PostgresConnection.identifier(match.column), parameter: place + 1)
        }.joined(separator: " AND ")
    }

    /// Text is compared: some types know no equality, others one of their own. The parameter goes
    /// through the column's type, so that it is written as the column's values are.
    private var matchRow: String {
        // Rows of no columns are all equal.
        if outputs.isEmpty { return "true" }
        return key.enumerated().map { place, index in
            let name = outputs[index].name
            let type = target.column(name)?.sqlType ?? "text"
            return "\(PostgresConnection.identifier(name))::text IS NOT DISTINCT FROM "
                + "$\(place + 1)::\(type)::text"
        }.joined(separator: " AND ")
    }

    // MARK: Stages

    /// A temporary table that rows are copied into, to be merged with one statement.
    private func stage(_ name: String) -> String { "pg_temp.weir_\(name)_\(number)" }

    var createStages: [String] {
        let columns = outputs.map { output in
            "\(PostgresConnection.identifier(output.name)) "
                + (target.column(output.name)?.sqlType ?? "text")
        }.joined(separator: ", ")
        return ["rows", "gone"].map { name in
            "CREATE TEMPORARY TABLE IF NOT EXISTS weir_\(name)_\(number) (\(columns)) ON COMMIT DELETE ROWS"
        }
    }

    func empty(_ name: String) -> String { "TRUNCATE \(stage(name))" }

    func copyRows(_ columns: some Sequence<Int>) -> String {
        "COPY \(stage("rows")) (\(names(columns))) FROM STDIN"
    }

    var mergeRows: String {
        "\(insertInto)SELECT \(names(outputs.indices)) FROM \(stage("rows"))\(onConflict)"
    }

    /// Changes the rows of the staged keys in some columns; nil when none of them may be set.
    func update(staged columns: [Int]) -> String? {
        let match = matchStage("rows")
        let set = set(columns.filter { !key.contains($0) }, from: "s")
        if set.isEmpty { return nil }
        return "UPDATE \(target.name.sql) t SET \(set) FROM \(stage("rows")) s WHERE \(match)"
    }

    var copyGone: String { "COPY \(stage("gone")) (\(names(key))) FROM STDIN" }

    var deleteGone: String {
        "DELETE FROM \(target.name.sql) t USING \(stage("gone")) s WHERE \(matchStage("gone"))"
    }

    /// Finds a key that was staged twice.
    var findCollision: String {
        "SELECT FROM \(stage("gone")) GROUP BY \(names(key)) HAVING count(*) > 1 LIMIT 1"
    }

    private func matchStage(_ name: String) -> String {
        keyMatches.map { match in
            let name = PostgresConnection.identifier(match.column)
            return match.matches("t.\(name)", "s.\(name)")
        }.joined(separator: " AND ")
    }
}
