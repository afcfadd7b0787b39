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
    static let targetForgotten = ErrorCode(
        "postgres.target_forgotten",
        meaning: "The target has a position of this pipeline and sink, but the state directory "
            + "knows nothing of this sink: it was taken out of the configuration for a while, or "
            + "the state was lost. Changes since that position are missing in the target.",
        remedy: "Empty the target and remove its row from the position table to start anew, or "
            + "weir position set PIPELINE confirmed --yes goes on with what is there.")
    static let keyNotChosen = ErrorCode(
        "postgres.key_not_chosen",
        meaning: "The columns a sink writes leave out a column of the source table's key, so that "
            + "rows could not be told apart.",
        remedy: "Add the column to \"columns\".")
    static let noUniqueIndex = ErrorCode(
        "postgres.no_unique_index",
        meaning: "The target table has no unique index on exactly the key's columns, or only a "
            + "partial or deferrable one.",
        remedy: "ALTER TABLE … ADD PRIMARY KEY (…), as the message says.")
    static let newColumn = ErrorCode(
        "postgres.new_column",
        meaning: "The source has a column that the target lacks, and \"on_new_column\" is stop, or "
            + "\"columns\" names it.",
        remedy: "Add it to the target as the message says, or set \"on_new_column\".")
    static let targetUnfit = ErrorCode(
        "postgres.target_unfit",
        meaning: "The target cannot be written as the configuration asks.",
        remedy: "See the message.")
    static let rowRefused = ErrorCode(
        "postgres.row_refused",
        meaning: "The target refuses a row even alone: a constraint, a type or a trigger of the "
            + "target does not take it.",
        remedy: "Change the constraint, the column or the row in the target, then start the "
            + "pipeline again. What lies before it was delivered, nothing behind it; the source "
            + "keeps it.")
    static let readOnly = ErrorCode(
        "postgres.read_only",
        meaning: "The target takes no writes: it is a standby, or fenced off.",
        remedy: "Let the connection's host name lead to the primary. Weir connects again by itself."
    )
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

    package static let postgresSink: [ErrorCode] = [
        otherWriter, targetRestored, targetForgotten, keyNotChosen, noUniqueIndex, newColumn,
        targetUnfit, rowRefused, readOnly, diskFull, originActive, acceptedLost,
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

    /// What is in no list is blamed on a row: alone, it is refused by name instead of tried for
    /// ever.
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
                    "Let \(server.role) own the target tables, or grant it SELECT, INSERT, UPDATE "
                    + "and DELETE on them and on the position table, USAGE on their schemas and "
                    + "on those of their columns' types, and TEMPORARY on the database."
            )
        case "25006": return server.make(.readOnly, .transient, failure, work)
        case "53100", "53200": return server.make(.diskFull, .transient, failure, work)
        case "55P03", "57014": return server.make(.timeout, .transient, failure, work)
        default: return server.error(failure, doing: work)
        }
    }
}
