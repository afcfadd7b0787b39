package import WeirCore
import WeirPostgresClient

extension ErrorCode {
    static let otherWriter = ErrorCode(
        "postgres.other_writer",
        meaning: "Another daemon writes to the target under the same pipeline and sink, or wrote "
            + "there with a later epoch than this state directory knows.",
        remedy: "Stop the other one, or give one of the two pipelines another name. If there is "
            + "none, weir position set PIPELINE confirmed --yes begins a later epoch.")
    static let targetRestored = ErrorCode(
        "postgres.target_restored",
        meaning: "The target holds less than Weir had made durable there: it was restored from a "
            + "backup, or its position table or a target table was dropped. The source may have "
            + "forgotten what lies between.",
        remedy: "Restore the target from the source, then weir position set PIPELINE confirmed "
            + "--yes goes on with what is there.")
    static let targetRemade = ErrorCode(
        "postgres.target_remade",
        meaning: "A target table, or a column of it, was dropped and made again, or a table was "
            + "swapped by a rename or restored alone from a dump. What had been written to the "
            + "one before may be missing in it.",
        remedy: "Compare it with the source, send the rows again with an UPDATE there that changes "
            + "nothing, then: weir gap resolve ID")
    static let targetForgotten = ErrorCode(
        "postgres.target_forgotten",
        meaning: "The target has a position of this pipeline and sink, but the state directory "
            + "knows nothing of this sink: it was taken out of the configuration for a while, or "
            + "the state was lost. Changes since that position are missing in the target.",
        remedy: "weir position set PIPELINE confirmed --yes goes on with what is there. To start "
            + "anew, empty the target and delete its row of the position table, as the message "
            + "says.")
    static let keyNotChosen = ErrorCode(
        "postgres.key_not_chosen",
        meaning: "The columns a sink writes leave out a column of the source table's key, so that "
            + "rows could not be told apart.",
        remedy: "Add the column to \"columns\".")
    static let noUniqueIndex = ErrorCode(
        "postgres.no_unique_index",
        meaning: "The target table has no unique index on exactly the key's columns, or only a "
            + "partial or deferrable one.",
        remedy: "Make one, as the message says.")
    static let newColumn = ErrorCode(
        "postgres.new_column",
        meaning: "The source has a column that the target lacks. It is left out, or the pipeline "
            + "stops where \"on_new_column\" is stop, \"columns\" names it, or the key needs it.",
        remedy: "Add it to the target as the message says, or set \"on_new_column\".")
    static let targetUnfit = ErrorCode(
        "postgres.target_unfit",
        meaning: "The target cannot be written as the configuration asks.",
        remedy: "See the message.")
    static let rowRefused = ErrorCode(
        "postgres.row_refused",
        meaning: "The target refuses a row even alone: a constraint, a type or a trigger of the "
            + "target does not take it.",
        remedy: "Change the constraint, the column or the row in the target, then weir stop "
            + "and weir start. What lies before it was delivered, nothing behind it; the source "
            + "keeps it.")
    static let readOnly = ErrorCode(
        "postgres.read_only",
        meaning: "The target takes no writes: it is a standby, or fenced off.",
        remedy: "Let the connection's host name lead to the primary. If it does, the role or the "
            + "database has default_transaction_read_only. Weir connects again by itself.")
    static let diskFull = ErrorCode(
        "postgres.disk_full",
        meaning: "The target has no disk space or memory left.",
        remedy: "Make room. Weir retries by itself; nothing is lost.")
    static let originActive = ErrorCode(
        "postgres.origin_active",
        meaning: "Another session writes to the target's server under the replication origin this "
            + "sink names; a server lets one session at a time do that.",
        remedy: "Give each sink an \"origin\" of its own.")
    static let acceptedLost = ErrorCode(
        "postgres.accepted_lost",
        meaning: "The connection ended inside a transaction whose first part the target had taken, "
            + "or the target lost commits it had not made durable.",
        remedy: "Nothing: Weir goes back to its last checkpoint and delivers them again.")

    static let identityAlways = ErrorCode(
        "postgres.identity_always",
        meaning: "A column of the target is GENERATED ALWAYS AS IDENTITY: the server takes no "
            + "value for it in an UPDATE, so that it would keep its first one for ever.",
        remedy: "ALTER TABLE … ALTER COLUMN … SET GENERATED BY DEFAULT, as the message says.")
    static let columnGenerated = ErrorCode(
        "postgres.column_generated",
        meaning: "The configuration writes to a column that the target computes by itself. The "
            + "source's value is left out.",
        remedy: "Take it out of \"columns\", or make it an ordinary column as the message says.")
    static let columnNarrow = ErrorCode(
        "postgres.column_narrow",
        meaning: "A column of the target does not take all values that the source's may have, or "
            + "takes some of them changed: it is shorter, less precise, of another type, NOT NULL, "
            + "or has a domain's constraints.",
        remedy: "Give the target's column the source's type, as the message says. Where the values "
            + "that occur all fit, nothing need be done.")
    static let keysMeet = ErrorCode(
        "postgres.keys_meet",
        meaning: "Keys that differ at the source may be one key at the target, whose column is of "
            + "another type, precision or collation. The rows of two such keys would be one row "
            + "there, with the values of whichever changed last.",
        remedy: "Give the target's key the source's type, as the message says. A warning is about "
            + "other spellings of one value only, such as 1 and 01.")
    static let columnUnfit = ErrorCode(
        "postgres.column_unfit",
        meaning: "A column of the target is of a type that has no value in common with the "
            + "source's.",
        remedy: "Give it another type, or write the source's column elsewhere.")
    static let columnUnfilled = ErrorCode(
        "postgres.column_unfilled",
        meaning: "A column of the target is NOT NULL, has no default and is not written: rows that "
            + "are not there yet are refused.",
        remedy: "Give it a default, or let it be null.")
    static let searchColumn = ErrorCode(
        "postgres.search_column",
        meaning: "The column for search cannot be made, or shares its name with a column of the "
            + "source.",
        remedy: "Choose another name with \"column\" in \"text\", or another \"config\".")
    static let searchPartial = ErrorCode(
        "postgres.search_partial",
        meaning: "Some columns of text are not found by the search of a target.",
        remedy:
            "Name the columns to search in \"text\"; drop the column for search, and Weir makes "
            + "it anew.")
    static let targetMade = ErrorCode(
        "postgres.target_made",
        meaning: "A pipeline that has delivered before made a target table. It has the changes "
            + "since then and not the rows from before.",
        remedy: "If a table was renamed, rename its target too while Weir is stopped. Else copy "
            + "the older rows yourself, if they are wanted.")
    static let typeSubstituted = ErrorCode(
        "postgres.type_substituted",
        meaning: "A target was made with another type than the source's, because the target does "
            + "not have that one.",
        remedy: "Nothing, if text or the base type will do. Else make the type in the target and "
            + "alter the column.")
    static let columnsLeftOut = ErrorCode(
        "postgres.columns_left_out",
        meaning: "A column of the source that the target did not take is written from now on: it "
            + "was added to the target, or is no longer computed there. Rows that were written "
            + "before lack its values.",
        remedy: "Send them again with the UPDATE in the message, at the source; then: weir gap "
            + "resolve ID.")
    static let truncateIgnored = ErrorCode(
        "postgres.truncate_ignored",
        meaning: "The source emptied a table while the sink had \"truncate\": \"ignore\", which it "
            + "no longer has: the target still holds the rows from before.",
        remedy: "Empty the target and send the source's rows again, as the message says; then: "
            + "weir gap resolve ID.")
    static let nullKey = ErrorCode(
        "postgres.null_key",
        meaning: "A collection has a document whose _id is null. A table's key takes no null, so "
            + "it is left out; all others are delivered.",
        remedy: "Insert a copy of it under another _id and delete it, or do without it; then: weir "
            + "gap resolve ID.")
    static let targetShared = ErrorCode(
        "postgres.target_shared",
        meaning: "Another pipeline or sink, perhaps of another daemon, has a position in the same "
            + "position table and writes to the same target. Each would undo what the other wrote.",
        remedy:
            "Give one of them another \"table\". If that pipeline is gone, remove its row as the "
            + "message says.")
    static let restartIdentity = ErrorCode(
        "postgres.restart_identity",
        meaning: "The role may empty a target but not restart its sequences, as TRUNCATE … RESTART "
            + "IDENTITY of the source does there.",
        remedy: "Let the role own the target, if its sequences matter.")
    static let rowsSkipped = ErrorCode(
        "postgres.rows_skipped",
        meaning: "A trigger or rule of a target leaves out rows that are written to it, or keeps "
            + "rows that are deleted, and does not say so.",
        remedy: "Nothing, if that is what it is for. Else drop it, and write the rows anew.")

    package static let postgresSink: [ErrorCode] = [
        otherWriter, targetRestored, targetRemade, targetForgotten, keyNotChosen, noUniqueIndex,
        newColumn,
        targetUnfit, rowRefused, readOnly, diskFull, originActive,
        acceptedLost, identityAlways,
        columnGenerated, columnNarrow, keysMeet, columnUnfit, columnUnfilled, searchColumn,
        searchPartial,
        targetMade, typeSubstituted, restartIdentity, columnsLeftOut,
        truncateIgnored, nullKey, targetShared, rowsSkipped,
    ]
}

/// What a failed statement asks for.
enum FailureClass: Equatable {
    /// The rows at hand, in the form and order they were written, do not fit.
    case data
    /// Another transaction was in the way: the same again.
    case conflict
    /// What was compiled does not fit the target any more: look at it again.
    case definition
    /// Our own guard: another daemon has moved the position.
    case otherWriter
    /// The server or what it runs on: no row is to blame.
    case environment

    /// What is in no list is written again more carefully, row by row. A row that fails alone is
    /// to blame unless the state is one that `passes` (see `refused`).
    init(_ failure: PostgresFailure) {
        guard failure.kind == .statement else {
            self = .environment
            return
        }
        if failure.message.contains(PositionSQL.moved) {
            self = .otherWriter
            return
        }
        switch failure.sqlState {
        case "40001", "40P01", "55P03", "57014": self = .conflict
        // In a function of the target's it is the function that names what is not there.
        case "42P01", "42703", "42P10", "3F000", "42704":
            self = failure.isInFunction ? .data : .definition
        case "42501", "26000", "": self = .environment
        case let state
        where ["08", "0L", "0P", "25", "28", "53", "57", "58"].contains {
            state.hasPrefix($0)
        }:
            self = .environment
        default: self = .data
        }
    }
}

extension PostgresFailure {
    /// The message without what it quotes: of values that do not fit a type, the server says which.
    var words: String {
        guard sqlState.hasPrefix("22"), let quote = message.firstIndex(of: "\"") else {
            return message
        }
        return String(message[..<quote]).trimmedTail
    }

    var withoutValues: PostgresFailure {
        PostgresFailure(
            kind, words, sqlState: sqlState, hint: hint, context: context,
            isInFunction: isInFunction)
    }
}

/// Turns a target's error into what the engine acts on. Pure.
struct SinkFailureMap: Sendable {
    let server: ServerFailureMap

    /// - Parameter isRepeated: it failed in the same way at the same place before. The first time
    ///   a target may just be changing: it is looked at again.
    func error(
        _ failure: PostgresFailure, doing work: String, isRepeated: Bool = true
    ) -> WeirError {
        let failure = failure.withoutValues
        if !isRepeated, failure.kind == .statement, !ServerFailureMap.passes(failure.sqlState),
            failure.sqlState != "42501"
        {
            return server.make(.commandFailed, .transient, failure, work)
        }
        switch failure.sqlState {
        case "42501":
            return server.make(
                .permission, .transient, failure, work,
                hint:
                    "Let \(server.role) own the target tables, or grant it SELECT, INSERT, UPDATE, "
                    + "DELETE and TRUNCATE on them, SELECT, INSERT and UPDATE on the position "
                    + "table, USAGE on their schemas and on those of their columns' types, and "
                    + "TEMPORARY on the database. The next start says which are missing."
            )
        case "25006":
            return server.make(
                .readOnly, .transient, failure, work,
                hint: "Let the connection's host name lead to the primary. If it does, and is not "
                    + "to be read-only: ALTER ROLE \(server.role) RESET "
                    + "default_transaction_read_only; ALTER DATABASE \(server.database) RESET "
                    + "default_transaction_read_only;")
        case "53100", "53200": return server.make(.diskFull, .transient, failure, work)
        case "55P03", "57014": return server.make(.timeout, .transient, failure, work)
        default: return server.error(failure, doing: work)
        }
    }
}
