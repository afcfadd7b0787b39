package import WeirCore
import WeirPostgresClient

extension ErrorCode {
    static let walLevel = ErrorCode(
        "postgres.wal_level",
        meaning: "Logical replication needs wal_level = logical.",
        remedy: "ALTER SYSTEM SET wal_level = logical; and restart PostgreSQL.")
    static let tableMissing = ErrorCode(
        "postgres.table_missing",
        meaning: "A configured table does not exist, or is not an ordinary or partitioned table.",
        remedy: "Correct the name in the configuration, or create the table.")
    static let noReplicaIdentity = ErrorCode(
        "postgres.no_replica_identity",
        meaning: "Publishing a table without primary key or replica identity makes every UPDATE "
            + "and DELETE of it fail in the application.",
        remedy:
            "Add a primary key, or ALTER TABLE … REPLICA IDENTITY FULL; or create a publication "
            + "with publish = 'insert' by hand and name it in the configuration.")
    static let publicationMissing = ErrorCode(
        "postgres.publication_missing",
        meaning: "The publication the slot needs does not exist, or did not when the next change "
            + "was written. Creating it again does not help for what was written before.",
        remedy: "weir position set PIPELINE now --yes starts a new slot and declares the gap.")
    static let publicationUnfit = ErrorCode(
        "postgres.publication_unfit",
        meaning: "A publication Weir did not create does not publish what the configuration asks.",
        remedy: "Alter the publication as the message says, or let Weir create its own by leaving "
            + "out \"publication\".")
    static let publicationChanged = ErrorCode(
        "postgres.publication_changed",
        meaning: "The publication was altered while Weir was streaming.",
        remedy: "Nothing: Weir connects again and checks it.")
    static let slotMissing = ErrorCode(
        "postgres.slot_missing",
        meaning:
            "The replication slot is gone: it was dropped, or this server was promoted without "
            + "it. What was written since the last confirmed position cannot be read any more.",
        remedy: "weir position set PIPELINE now --yes starts a new slot and declares the gap.")
    static let slotInvalidated = ErrorCode(
        "postgres.slot_invalidated",
        meaning: "The server removed WAL that the slot still needed (max_slot_wal_keep_size, "
            + "wal_level, idle_replication_slot_timeout).",
        remedy: "weir position set PIPELINE now --yes starts a new slot and declares the gap.")
    static let slotUnknown = ErrorCode(
        "postgres.slot_unknown",
        meaning:
            "A slot of this name exists, but Weir's state knows nothing of it. It may belong to "
            + "another daemon, or the state directory was lost.",
        remedy: "weir position set PIPELINE confirmed --yes takes it over where it stands; "
            + "weir drop PIPELINE --yes removes it.")
    static let slotUnfit = ErrorCode(
        "postgres.slot_unfit",
        meaning: "The slot is of another plugin, kind or database than Weir needs.",
        remedy: "Name another \"slot\" in the configuration, or drop that one.")
    static let slotActive = ErrorCode(
        "postgres.slot_active",
        meaning:
            "Another connection is streaming from the slot: another daemon, or a connection of "
            + "ours that the server has not given up yet.",
        remedy: "Weir retries by itself. If it stays, find the other consumer: SELECT active_pid "
            + "FROM pg_replication_slots.")
    static let slotAdvanced = ErrorCode(
        "postgres.slot_advanced",
        meaning: "The slot was confirmed beyond what Weir delivered: someone else advanced or "
            + "recreated it. Changes between the two positions cannot be read any more.",
        remedy: "weir position set PIPELINE confirmed --yes goes on there and declares the gap.")
    static let identityChanged = ErrorCode(
        "postgres.identity_changed",
        meaning: "The connection leads to another server or database than the stored position "
            + "belongs to; positions mean nothing there.",
        remedy: "Correct the URL, or weir position set PIPELINE now --yes to start anew there.")
    static let positionAhead = ErrorCode(
        "postgres.position_ahead",
        meaning: "The stored position lies beyond the end of the server's log: the server was "
            + "restored from a backup, or lost its newest changes in a failover. Weir has delivered "
            + "changes that this server does not have.",
        remedy: "Compare the sinks with the source, then weir position set PIPELINE now --yes.")
    static let tableChanged = ErrorCode(
        "postgres.table_changed",
        meaning: "A followed table was renamed, dropped or replaced while Weir was streaming.",
        remedy: "Nothing: Weir connects again and looks at the tables.")
    static let tableReplaced = ErrorCode(
        "postgres.table_replaced",
        meaning: "Under the name of a followed table there is another table now: it was dropped "
            + "and made again, or swapped in by renaming. Targets keep rows of the table before, "
            + "and lack rows that the new one was filled with before Weir followed it.",
        remedy: "Empty the targets of that table and send its rows again with an UPDATE at the "
            + "source that changes nothing, then: weir gap resolve ID.")
    static let partitionIdentity = ErrorCode(
        "postgres.partition_identity",
        meaning: "A partition writes old rows after its own replica identity, and that is another "
            + "than its root's or the other partitions'. Without a common key, rows of updates "
            + "and deletes could not be named.",
        remedy: "Give all partitions the same identity: ALTER TABLE … REPLICA IDENTITY DEFAULT or "
            + "FULL for each.")
    static let partitionNotSent = ErrorCode(
        "postgres.partition_not_sent",
        meaning:
            "A partition is a foreign table or unlogged: the server sends none of its changes.",
        remedy: "Follow a foreign table at its own server; ALTER TABLE … SET LOGGED an unlogged "
            + "one.")
    static let childrenNotRead = ErrorCode(
        "postgres.children_not_read",
        meaning: "Tables inherit from a followed one. They are tables of their own: their rows are "
            + "not read with it.",
        remedy: "Add them to \"tables\" of the source.")
    static let publicationPartial = ErrorCode(
        "postgres.publication_partial",
        meaning: "A publication that Weir did not create leaves out operations, rows or columns: "
            + "targets never see those changes.",
        remedy: "Nothing if that is meant; else alter the publication as the message says.")
    static let streamSilent = ErrorCode(
        "postgres.stream_silent",
        meaning: "The server has sent nothing on the replication connection for twenty seconds, "
            + "though feedback asked for an answer: its session hangs, or a proxy lost the "
            + "connection.",
        remedy: "If that lasts: SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots "
            + "WHERE slot_name = 'SLOT' AND active; Weir connects anew.")
    static let publicationAltered = ErrorCode(
        "postgres.publication_altered",
        meaning: "Somebody altered Weir's own publication, so that operations, rows, columns or "
            + "tables were left out until Weir noticed and put it right. Those changes are lost "
            + "to the targets.",
        remedy: "Send the rows again with an UPDATE at the source that changes nothing, remove "
            + "rows that were deleted meanwhile, then: weir gap resolve ID. For changes of your own "
            + "to a publication, create one and name it in the configuration.")
    static let rowsChangedSilently = ErrorCode(
        "postgres.rows_changed_silently",
        meaning: "ALTER TABLE gave rows that exist new values: a column with a default was added, "
            + "or a column was written anew. Or rows were changed while their table or partition "
            + "was UNLOGGED, or a single partition was truncated. The server sends nothing of that, "
            + "so copies keep what they have.",
        remedy: "Send the rows again with an UPDATE at the source that changes nothing, then: "
            + "weir gap resolve ID.")
    static let partitionMoved = ErrorCode(
        "postgres.partition_moved",
        meaning:
            "A partition was attached, detached or dropped with rows in it, or was detached and "
            + "attached again. The server sends no changes for them: targets lack the rows that "
            + "came, and keep those that went.",
        remedy: "Send the rows that came with an UPDATE of the partition that changes nothing; "
            + "remove those that went from the targets. Then: weir gap resolve ID.")
    static let slotWaits = ErrorCode(
        "postgres.slot_waits",
        meaning: "The server makes a replication slot only when every transaction that was open "
            + "has ended, prepared ones too.",
        remedy: "Wait, or end the transaction. Weir goes on by itself.")
    static let oldTransaction = ErrorCode(
        "postgres.old_transaction",
        meaning: "A transaction that has been open for long holds the replication slot back: the "
            + "server keeps its log from there on.",
        remedy: "End it: ROLLBACK PREPARED or COMMIT PREPARED, or pg_terminate_backend.")
    static let failover = ErrorCode(
        "postgres.failover",
        meaning: "The server is on another timeline than before: a standby was promoted, or the "
            + "server was restored to a point in time. The position was checked against it.",
        remedy: "Nothing, if that was a failover.")
    static let generatedNotSent = ErrorCode(
        "postgres.generated_not_sent",
        meaning:
            "A followed table has generated columns that the server does not send: stored ones "
            + "before PostgreSQL 18 and where the publication does not say otherwise, virtual ones "
            + "never.",
        remedy: "Nothing if they are not wanted. Else let the target compute them, or from "
            + "PostgreSQL 18 on publish stored ones: publish_generated_columns = stored.")
    static let leftBehind = ErrorCode(
        "postgres.left_behind",
        meaning:
            "A replication slot or a publication that Weir made for this pipeline is no longer "
            + "configured and still exists. Such a slot keeps the server's log for ever.",
        remedy: "Drop it as the message says; weir drop PIPELINE --yes drops it with the "
            + "pipeline.")
    static let streamRefused = ErrorCode(
        "postgres.stream_refused",
        meaning: "The server cannot send a transaction, and would fail at it again: a value is too "
            + "large to be written as text (bytea over 536 MB), or a row filter fails.",
        remedy: "Go on behind it: weir position set PIPELINE LSN --yes, with the position of the "
            + "message; changes of that transaction are left out.")
    static let notVisible = ErrorCode(
        "postgres.not_visible",
        meaning: "The server sent a transaction whose changes other sessions cannot see yet, so "
            + "rows could not be read after it. A synchronous standby that does not answer does "
            + "that.",
        remedy: "See whether every standby in synchronous_standby_names is connected: SELECT * "
            + "FROM pg_stat_replication. Weir retries by itself.")
    static let originUnknown = ErrorCode(
        "postgres.origin_unknown",
        meaning:
            "The source leaves out a replication origin that its server does not know, so that "
            + "nothing is left out under that name.",
        remedy: "Correct \"origin\" of the source. A sink that names an origin makes it when it "
            + "starts.")
    static let protocolError = ErrorCode(
        "postgres.protocol",
        meaning: "The server sent bytes that do not follow the replication protocol.",
        remedy: "If it is no proxy's doing, report it. Weir connects again by itself.")

    /// Those of any connection, and the source's own.
    package static let postgresSource: [ErrorCode] =
        postgresClient + [
            walLevel, tableMissing, noReplicaIdentity, publicationMissing, publicationUnfit,
            publicationChanged, slotMissing, slotInvalidated, slotUnknown, slotUnfit, slotActive,
            slotAdvanced, identityChanged, positionAhead, notVisible, originUnknown, protocolError,
            tableChanged, tableReplaced, partitionIdentity, partitionNotSent, childrenNotRead,
            publicationPartial, publicationAltered, streamSilent, rowsChangedSilently, slotWaits,
            oldTransaction,
            failover, streamRefused, partitionMoved, generatedNotSent, leftBehind,
        ]
}

/// Turns a server's error into what the engine acts on (CORRECTNESS 10). Pure.
struct FailureMap {
    /// Host, port and database.
    let place: String
    let pipeline: String
    let slot: String
    /// As SQL, where the URL names them.
    let role: String
    let database: String

    func error(_ failure: PostgresFailure, doing work: String) -> WeirError {
        guard failure.kind == .statement || !failure.sqlState.isEmpty else {
            return server.error(failure, doing: work)
        }
        switch failure.sqlState {
        case "42704" where failure.message.hasPrefix("publication"):
            return make(.publicationMissing, .positionLost, failure, work, hint: restartHint)
        case "42704" where failure.message.hasPrefix("replication slot"):
            return make(.slotMissing, .positionLost, failure, work, hint: restartHint)
        case "55006":
            // Slots have names of small letters, digits and underscores only.
            let slots = "FROM pg_replication_slots WHERE slot_name = '\(slot)';"
            return make(
                .slotActive, .transient, failure, work,
                hint: "Weir retries by itself. Who holds it: SELECT pid, usename, client_addr, "
                    + "application_name FROM pg_stat_activity WHERE pid = (SELECT active_pid "
                    + "\(slots.dropLast())); Where that is an earlier session of this pipeline, "
                    + "frozen or cut off: SELECT pg_terminate_backend(active_pid) \(slots)")
        case "55000" where isInvalidation(failure.message):
            return make(.slotInvalidated, .positionLost, failure, work, hint: restartHint)
        case "42501":
            // CORRECTNESS 15: the commands that allow it.
            return make(
                .permission, .blocked, failure, work,
                hint: "The role must own the tables, or be a member of the role that owns them. As "
                    + "superuser: ALTER ROLE \(role) REPLICATION; GRANT CREATE ON DATABASE "
                    + "\(database) TO \(role);")
        default: return server.error(failure, doing: work)
        }
    }

    /// Of the stream. What the server cannot send it cannot send the next time either; then the
    /// way on is behind the transaction.
    ///
    /// - Parameter transaction: where the one that is being read was committed; nil between two.
    func error(_ failure: PostgresFailure, reading transaction: LSN?) -> WeirError {
        let work = "read from replication slot \"\(slot)\""
        let plain = error(failure, doing: work)
        guard plain.code == .commandFailed else { return plain }
        let hint = transaction.map {
            "To go on behind this transaction, without its changes: weir position set "
                + "\(pipeline) \($0.next) --yes"
        }
        // Errors in data, in expressions, in functions, and limits of the server do not pass.
        let isLasting =
            ["22", "23", "38", "39", "42", "54", "P0"].contains(failure.sqlState.prefix(2))
            || failure.message.contains("invalid memory alloc request size")
        var error = make(
            .streamRefused, isLasting ? .blocked : .transient, failure, work, hint: hint)
        let place = transaction.map { "It happened in the transaction committed at \($0)." }
        error.detail = [error.detail, place].compactMap(\.self).joined(separator: " ")
        if failure.message.contains("invalid memory alloc request size") {
            error.detail? +=
                " A value is too large to be written as text: of bytea more than 536 MB are."
        }
        return error
    }

    /// Of reading a table's rows beside the stream, for which it needs a right of its own.
    func error(_ failure: PostgresFailure, reading table: TableName) -> WeirError {
        let work = "read rows of \"\(table)\""
        switch failure.sqlState {
        case "42501":
            let schema = PostgresConnection.identifier(table.schema)
            return make(
                .permission, .blocked, failure, work,
                hint: "GRANT USAGE ON SCHEMA \(schema) TO \(role); GRANT SELECT ON "
                    + "\(table.sql) TO \(role); and if a policy hides "
                    + "rows: ALTER ROLE \(role) BYPASSRLS;")
        // Limits of our own, which the server keeps: on a lock and on the statement.
        case "55P03", "57014": return make(.timeout, .transient, failure, work)
        default: return error(failure, doing: work)
        }
    }

    var restartHint: String {
        "Start a new slot and declare the gap: weir position set \(pipeline) now --yes"
    }

    /// PostgreSQL 14 to 18 word an invalidated slot differently.
    private func isInvalidation(_ message: String) -> Bool {
        ["invalidated", "can no longer", "cannot read from", "must be at least", "wal_level"]
            .contains { message.contains($0) }
    }

    private var server: ServerFailureMap {
        ServerFailureMap(place: place, role: role, database: database)
    }

    private func make(
        _ code: ErrorCode, _ disposition: Disposition, _ failure: PostgresFailure, _ work: String,
        hint: String? = nil
    ) -> WeirError {
        server.make(code, disposition, failure, work, hint: hint)
    }
}

extension FailureMap {
    init(_ config: PostgresSourceConfig, pipeline: String) {
        let server = ServerFailureMap(config.connection)
        place = server.place
        role = server.role
        database = server.database
        self.pipeline = pipeline
        slot = config.slot
    }
}
