/// What happened to a row, in the field's words.
public enum Operation: UInt8, Sendable, BitwiseCopyable, CaseIterable {
    case insert, update, delete, read, truncate, message

    /// The word used in the configuration and in every output format of our own.
    public var name: StaticString {
        switch self {
        case .insert: "insert"
        case .update: "update"
        case .delete: "delete"
        case .read: "read"
        case .truncate: "truncate"
        case .message: "message"
        }
    }
}

/// A range of an `EventBatch`: bytes of its arena, or entries of its values.
public struct Slice: Sendable, BitwiseCopyable, Equatable {
    public let start: UInt32
    public let count: UInt32

    public static let empty = Slice(start: 0, count: 0)

    @inlinable public init(start: UInt32, count: UInt32) {
        self.start = start
        self.count = count
    }

    @inlinable public init(start: Int, count: Int) {
        self.start = UInt32(truncatingIfNeeded: start)
        self.count = UInt32(truncatingIfNeeded: count)
    }

    @inlinable public var range: Range<Int> { Int(start)..<Int(start) + Int(count) }
    @inlinable public var isEmpty: Bool { count == 0 }
}

/// One column of one row image: a form and, where it has bytes, their place in the arena.
public struct Value: Sendable, BitwiseCopyable, Equatable {
    public enum Form: UInt8, Sendable, BitwiseCopyable {
        /// SQL NULL.
        case null
        /// Not sent by the source: in `after` a TOAST value that did not change, in `before` a
        /// column outside the replica identity. Never shown as null (invariant 6).
        case unchanged
        /// The source's text rendering, valid UTF-8.
        case text
        /// Bytes that are no valid text; shown in PostgreSQL's `\x` form and named in `binary`.
        case binary
        /// One BSON document.
        case bson
        /// A BSON document with the fields of the key only: what it lacks was not sent.
        case bsonKey
    }
    public let form: Form
    public let bytes: Slice

    public static let null = Value(form: .null, bytes: .empty)
    public static let unchanged = Value(form: .unchanged, bytes: .empty)

    @inlinable public init(form: Form, bytes: Slice) {
        self.form = form
        self.bytes = bytes
    }
}

/// One change. All slices point into the batch that holds it.
public struct Event: Sendable, BitwiseCopyable {
    public let operation: Operation
    /// Bits the source sets for an operation: see `Event.cascade`, `Event.restartIdentity`.
    public let flags: UInt8
    /// Index into `EventBatch.tables`.
    public let table: UInt32
    /// Where the transaction committed in the source's log: the high number of the event's
    /// position. PostgreSQL: commit LSN; MongoDB: cluster time, seconds in the upper half and
    /// increment in the lower.
    public let commit: UInt64
    /// The number of the change inside its transaction, from 0: the low number of its position;
    /// always 0 where `details` hold a tail.
    public let ordinal: UInt32
    /// The source's transaction id, 0 when there is none.
    public let transaction: UInt32
    /// Where this change itself stands in the log; for people, never an identity:
    /// several changes may have the same.
    public let change: UInt64
    /// Commit time in microseconds since 1970-01-01 UTC, or `noTime`.
    public let commitMicros: Int64
    /// One value per key column of the table, in the order of `TableSchema.key`.
    public let key: Slice
    /// The row before, one value per column, or empty.
    public let before: Slice
    /// The row after, one value per column, or empty. For a message: its prefix and content.
    public let after: Slice
    /// What only a source of documents sends: empty, or one value per `Event.Detail`.
    public let details: Slice

    /// TRUNCATE … CASCADE.
    public static let cascade: UInt8 = 1
    /// TRUNCATE … RESTART IDENTITY.
    public static let restartIdentity: UInt8 = 2
    /// `before` holds the key columns only, not a whole row.
    public static let beforeIsKey: UInt8 = 4
    /// `before` differs from `after` in a key column.
    public static let keyChanged: UInt8 = 8
    /// The message was not part of a transaction.
    public static let outsideTransaction: UInt8 = 16
    /// `after` was read from the source later than the change, and may hold later ones.
    public static let late: UInt8 = 32
    /// An update whose row was gone when the source looked it up: `after` is empty, and a delete
    /// follows, or a truncate. Sinks that hold state leave the event out.
    public static let rowGone: UInt8 = 64
    /// The table was not emptied but dropped, or renamed.
    public static let dropped: UInt8 = 128

    /// The places of the values in `details`.
    public enum Detail: Int, Sendable, CaseIterable {
        /// The tail of the change's position: hexadecimal digits, in capitals, and no tail begins
        /// that of another change of the same commit.
        case tail
        /// What an update changed, as MongoDB's `updateDescription`, or null. Which fields those
        /// may be is read by `SourceNotation.mayTouch`.
        case changes
        /// The transaction, as text `<session>:<number>`, or null.
        case transaction
    }

    /// The source gives no time for it: a message outside of a transaction.
    public static let noTime = Int64.min

    public init(
        operation: Operation,
        flags: UInt8 = 0,
        table: UInt32,
        commit: UInt64,
        ordinal: UInt32,
        transaction: UInt32,
        change: UInt64,
        commitMicros: Int64,
        key: Slice = .empty,
        before: Slice = .empty,
        after: Slice = .empty,
        details: Slice = .empty
    ) {
        self.operation = operation
        self.flags = flags
        self.table = table
        self.commit = commit
        self.ordinal = ordinal
        self.transaction = transaction
        self.change = change
        self.commitMicros = commitMicros
        self.key = key
        self.before = before
        self.after = after
        self.details = details
    }

    @inlinable public func has(_ flag: UInt8) -> Bool { flags & flag != 0 }
}
