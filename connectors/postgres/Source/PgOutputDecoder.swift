import Glibc
import WeirCore
import WeirJSON
import WeirPostgresClient

// pgoutput, protocol version 1 (PostgreSQL manual, "Logical Replication Message Formats").
// Every integer is big-endian; a string ends with NUL; LSNs and times are Int64.
//
//   B  begin    │ final LSN 8 │ commit time 8 │ xid 4 │
//   C  commit   │ flags 1 │ commit LSN 8 │ end LSN 8 │ commit time 8 │
//   O  origin   │ LSN 8 │ name… │
//   R  relation │ oid 4 │ schema… │ table… │ identity 1 │ n 2 │ n × (flags 1, name…, type 4, mod 4)
//   Y  type     │ oid 4 │ schema… │ name… │
//   I  insert   │ oid 4 │ 'N' │ tuple │
//   U  update   │ oid 4 │ [ 'K' or 'O' │ tuple ] │ 'N' │ tuple │
//   D  delete   │ oid 4 │ 'K' or 'O' │ tuple │
//   T  truncate │ n 4 │ options 1 │ n × oid 4 │
//   M  message  │ flags 1 │ LSN 8 │ prefix… │ n 4 │ n bytes │
//   tuple       │ n 2 │ n × ('n' null, 'u' unchanged, 't' text or 'b' binary with length 4 and bytes)

/// What a message asks of the one who feeds the decoder.
enum PgOutputStep {
    case nothing
    /// A transaction, or a message outside of one, ended here: reading may resume at this LSN.
    case boundary(LSN)
    /// A relation was described; `install` it, with its primary key looked up, before going on.
    case relation(RelationMessage)
}

/// Turns pgoutput messages into events of a batch. Pure: no I/O, no clock.
struct PgOutputDecoder: ~Copyable {
    /// Changes before this are ones the engine already has (CORRECTNESS 36).
    private let start: Position
    /// Which transactions to leave out by who wrote them (CORRECTNESS 22).
    private let origins: OriginSieve
    private let messageTable: TableSchema
    private var catalogue: RelationCatalogue

    // The open transaction. Plain fields rather than an optional: they change with every event.
    private var isInTransaction = false
    private var commit: UInt64 = 0
    private var xid: UInt32 = 0
    private var commitMicros: Int64 = 0
    private var ordinal: UInt32 = 0
    /// Somebody wrote the open transaction whose changes are left out.
    private var isForeign = false
    /// Changes of the open transaction below this ordinal are left out.
    private var firstTaken: UInt32 = 0

    /// The relation of the last change, so that runs of one table cost no look-up.
    private var current: Relation?
    private var currentTable: UInt32 = 0
    /// The same for runs of a table that is left out.
    private var currentLeftOut: UInt32?

    /// Whether one of our own markers passed in this batch.
    private(set) var sawMarker = false

    /// A table that was described before has other columns from here on.
    private(set) var hasNewShape = false

    /// The table of an old row that came without its key: a partition with another identity than
    /// its root's wrote it (CORRECTNESS 74).
    private(set) var tableWithoutKey: TableSchema?

    /// Messages with this prefix are Weir's own markers and never reach a sink.
    static let markerPrefix = "weir"
    /// PostgreSQL counts from 2000-01-01, we from 1970-01-01.
    private static let epochOffsetMicros: Int64 = 946_684_800_000_000

    init(
        from start: Position,
        catalogue: consuming RelationCatalogue,
        origins: OriginSieve
    ) {
        self.start = start
        self.origins = origins
        messageTable = .messages(version: 0, database: catalogue.database)
        self.catalogue = catalogue
    }

    /// Inside a transaction: its commit and how many of its changes were read.
    var openTransaction: (commit: UInt64, ordinal: UInt32)? {
        isInTransaction ? (commit, ordinal) : nil
    }

    /// Above every schema version given out; sinks keep projections by version over reconnects.
    var nextSchemaVersion: UInt32 { catalogue.nextVersion }

    /// Call before decoding into a new batch: table indexes belong to one batch.
    mutating func beginBatch() {
        current = nil
        sawMarker = false
        hasNewShape = false
    }

    /// No event of the batch came before the new columns.
    mutating func beginShape() { hasNewShape = false }

    /// Makes a described relation known. `table` is nil when the catalogue no longer knows it.
    ///
    /// - Parameter memory: what is remembered of it.
    mutating func install(
        _ message: RelationMessage, table: CatalogueTable?, memory: TableMemory.Table? = nil
    ) {
        let before = catalogue.relations[message.oid]?.schema.columns
        catalogue.install(message, table: table, memory: memory)
        if let before, before != catalogue.relations[message.oid]?.schema.columns {
            hasNewShape = true
        }
        current = nil
        currentLeftOut = nil
    }

    /// Decodes one message that begins at `change` in the log.
    ///
    /// - Throws: when the bytes do not follow the protocol; nothing after them can be trusted.
    /// - Complexity: O(bytes); a row's message is copied once into the batch's arena.
    mutating func decode(
        _ message: UnsafeRawBufferPointer, change: UInt64, into batch: inout BatchBuilder
    ) throws(MalformedBytes) -> PgOutputStep {
        var reader = unsafe ByteReader(message)
        let step = try unsafe decode(&reader, message, change, &batch)
        guard reader.isAtEnd else {
            throw MalformedBytes("message goes on behind its end", at: reader.offset)
        }
        return step
    }

    private mutating func decode(
        _ reader: inout ByteReader, _ message: UnsafeRawBufferPointer, _ change: UInt64,
        _ batch: inout BatchBuilder
    ) throws(MalformedBytes) -> PgOutputStep {
        switch try reader.readByte() {
        case UInt8(ascii: "I"): try unsafe decodeInsert(&reader, message, change, &batch)
        case UInt8(ascii: "U"): try unsafe decodeUpdate(&reader, message, change, &batch)
        case UInt8(ascii: "D"): try unsafe decodeDelete(&reader, message, change, &batch)
        case UInt8(ascii: "B"): try decodeBegin(&reader)
        case UInt8(ascii: "C"): return try decodeCommit(&reader)
        case UInt8(ascii: "R"):
            try RelationCatalogue.checkDescription(message.count)
            let relation = try RelationMessage(&reader)
            guard catalogue.takes(relation) else {
                try catalogue.leaveOut(relation)
                current = nil
                currentLeftOut = nil
                return .nothing
            }
            try catalogue.checkRoom(for: relation)
            return .relation(relation)
        case UInt8(ascii: "Y"):
            try RelationCatalogue.checkDescription(message.count)
            try catalogue.addType(&reader)
        case UInt8(ascii: "T"): try decodeTruncate(&reader, change, &batch)
        case UInt8(ascii: "M"): return try unsafe decodeMessage(&reader, message, change, &batch)
        case UInt8(ascii: "O"):
            _ = try reader.readInteger(UInt64.self)
            let name = try reader.readCString()
            // CORRECTNESS 22: it comes right after B; all of the transaction came from elsewhere.
            if origins.leavesOut(name) {
                isForeign = true
                firstTaken = .max
            }
        default: throw MalformedBytes("unknown kind of message", at: 0)
        }
        return .nothing
    }

    // MARK: Transactions

    private mutating func decodeBegin(_ reader: inout ByteReader) throws(MalformedBytes) {
        guard !isInTransaction else {
            throw MalformedBytes("begin inside a transaction", at: reader.offset)
        }
        commit = try reader.readLSN().value
        commitMicros = try reader.readInteger(Int64.self) &+ Self.epochOffsetMicros
        xid = try reader.readInteger(UInt32.self)
        ordinal = 0
        isInTransaction = true
        isForeign = false
        // CORRECTNESS 36: a transaction below the start was delivered before a reconnect.
        if commit < start.high {
            firstTaken = .max
        } else {
            firstTaken = commit == start.high ? start.low : 0
        }
    }

    private mutating func decodeCommit(
        _ reader: inout ByteReader
    ) throws(MalformedBytes) -> PgOutputStep {
        _ = try reader.readByte()
        let commitLSN = try reader.readLSN().value
        let end = try reader.readLSN()
        _ = try reader.readInteger(Int64.self)
        guard isInTransaction, commitLSN == commit, end.value > commit else {
            throw MalformedBytes("commit does not match its begin", at: reader.offset)
        }
        isInTransaction = false
        return .boundary(end)
    }

    /// Counts one change of the open transaction. CORRECTNESS 36: before any filter of ours.
    private mutating func countChange(
        at offset: Int
    ) throws(MalformedBytes) -> (ordinal: UInt32, isTaken: Bool) {
        guard isInTransaction else {
            throw MalformedBytes("change outside of a transaction", at: offset)
        }
        guard ordinal < .max else {
            throw MalformedBytes("transaction has more changes than can be counted", at: offset)
        }
        defer { ordinal += 1 }
        return (ordinal, ordinal >= firstTaken)
    }

    /// Counts a change and finds its relation; nil when it is to be left out.
    private mutating func nextChange(
        _ reader: inout ByteReader, _ batch: inout BatchBuilder
    ) throws(MalformedBytes) -> (ordinal: UInt32, relation: Relation)? {
        let (ordinal, isNew) = try countChange(at: reader.offset)
        if let relation = try relation(&reader, &batch), isNew { return (ordinal, relation) }
        // What was delivered before a reconnect is not filtered, only known.
        if isNew || isForeign && commit >= start.high {
            batch.countFiltered()
        }
        return nil
    }

    private mutating func relation(
        _ reader: inout ByteReader, _ batch: inout BatchBuilder
    ) throws(MalformedBytes) -> Relation? {
        let oid = try reader.readInteger(UInt32.self)
        if let current, current.oid == oid { return current }
        if oid == currentLeftOut { return nil }
        guard let relation = catalogue.relations[oid] else {
            guard catalogue.leftOut.contains(oid) else {
                throw MalformedBytes(
                    "change of a relation that was not described", at: reader.offset)
            }
            currentLeftOut = oid
            return nil
        }
        current = relation
        currentTable = batch.table(relation.schema)
        return relation
    }

    // MARK: Rows

    private mutating func decodeInsert(
        _ reader: inout ByteReader, _ message: UnsafeRawBufferPointer, _ change: UInt64,
        _ batch: inout BatchBuilder
    ) throws(MalformedBytes) {
        guard let (ordinal, described) = try nextChange(&reader, &batch) else {
            _ = try reader.skip(reader.remaining)
            return
        }
        var relation = described
        let base = unsafe batch.append(message)
        try expect(UInt8(ascii: "N"), &reader)
        let after = try unsafe tuple(&reader, message, base, relation, &batch)
        let key = keySlice(&relation, from: after, &batch)
        batch.append(
            Event(
                operation: .insert, table: currentTable, commit: commit, ordinal: ordinal,
                transaction: xid, change: change, commitMicros: commitMicros, key: key,
                after: after))
    }

    /// CORRECTNESS 27: an old tuple comes as K, as O, or not at all.
    private mutating func decodeUpdate(
        _ reader: inout ByteReader, _ message: UnsafeRawBufferPointer, _ change: UInt64,
        _ batch: inout BatchBuilder
    ) throws(MalformedBytes) {
        guard let (ordinal, described) = try nextChange(&reader, &batch) else {
            _ = try reader.skip(reader.remaining)
            return
        }
        var relation = described
        let base = unsafe batch.append(message)
        var kind = try reader.readByte()
        var before = Slice.empty
        var flags: UInt8 = 0
        if kind != UInt8(ascii: "N") {
            before = try unsafe oldTuple(kind, &reader, message, base, &relation, &batch)
            if isKeyOnly(kind, relation) { flags |= Event.beforeIsKey }
            kind = try reader.readByte()
        }
        guard kind == UInt8(ascii: "N") else {
            throw MalformedBytes("update without a new row", at: reader.offset)
        }
        let after = try unsafe tuple(&reader, message, base, relation, &batch)
        if !before.isEmpty {
            fillUnchanged(after, from: before, &batch)
            // CORRECTNESS 28: a changed key is one update that carries both.
            let isSame = relation.schema.key.allSatisfy { column in
                unsafe same(
                    batch.value(Int(before.start) + column),
                    batch.value(Int(after.start) + column), message, base)
            }
            if !isSame { flags |= Event.keyChanged }
        }
        let key = keySlice(&relation, from: after, &batch)
        batch.append(
            Event(
                operation: .update, flags: flags, table: currentTable, commit: commit,
                ordinal: ordinal, transaction: xid, change: change, commitMicros: commitMicros,
                key: key, before: before, after: after))
    }

    private mutating func decodeDelete(
        _ reader: inout ByteReader, _ message: UnsafeRawBufferPointer, _ change: UInt64,
        _ batch: inout BatchBuilder
    ) throws(MalformedBytes) {
        guard let (ordinal, described) = try nextChange(&reader, &batch) else {
            _ = try reader.skip(reader.remaining)
            return
        }
        var relation = described
        let base = unsafe batch.append(message)
        let kind = try reader.readByte()
        let before = try unsafe oldTuple(kind, &reader, message, base, &relation, &batch)
        let key = keySlice(&relation, from: before, &batch)
        batch.append(
            Event(
                operation: .delete,
                flags: isKeyOnly(kind, relation) ? Event.beforeIsKey : 0,
                table: currentTable, commit: commit, ordinal: ordinal, transaction: xid,
                change: change, commitMicros: commitMicros, key: key, before: before))
    }

    private func isKeyOnly(_ kind: UInt8, _ relation: Relation) -> Bool {
        kind == UInt8(ascii: "K")
            ? !relation.sendsWholeRowsAsKeys : !relation.sendsWholeOldRows
    }

    /// CORRECTNESS 26: a tuple of another width than its relation is an error, never a guess.
    private func tuple(
        _ reader: inout ByteReader, _ message: UnsafeRawBufferPointer, _ base: Int,
        _ relation: Relation, _ batch: inout BatchBuilder
    ) throws(MalformedBytes) -> Slice {
        let count = Int(try reader.readInteger(UInt16.self))
        guard count == relation.columnCount else {
            throw MalformedBytes(
                "row with another number of columns than its table", at: reader.offset)
        }
        let first = batch.valueCount
        for column in 0..<count {
            switch try reader.readByte() {
            case UInt8(ascii: "t"):
                let length = Int(try reader.readInteger(Int32.self))
                let at = try reader.skip(length)
                var form = Value.Form.text
                if relation.checksText, relation.checkedColumns[column],
                    unsafe !isValidUTF8(UnsafeRawBufferPointer(rebasing: message[at..<at + length]))
                {
                    form = .binary
                }
                batch.append(Value(form: form, bytes: Slice(start: base + at, count: length)))
            case UInt8(ascii: "n"): batch.append(.null)
            case UInt8(ascii: "u"): batch.append(.unchanged)
            case UInt8(ascii: "b"):
                let length = Int(try reader.readInteger(Int32.self))
                let at = try reader.skip(length)
                batch.append(Value(form: .binary, bytes: Slice(start: base + at, count: length)))
            default: throw MalformedBytes("unknown kind of column", at: reader.offset)
            }
        }
        return Slice(start: first, count: count)
    }

    /// K holds the identity's columns and NULL elsewhere: those say nothing about the row.
    private mutating func oldTuple(
        _ kind: UInt8, _ reader: inout ByteReader, _ message: UnsafeRawBufferPointer, _ base: Int,
        _ relation: inout Relation, _ batch: inout BatchBuilder
    ) throws(MalformedBytes) -> Slice {
        guard kind == UInt8(ascii: "K") || kind == UInt8(ascii: "O") else {
            throw MalformedBytes("old row that is neither K nor O", at: reader.offset)
        }
        let slice = try unsafe tuple(&reader, message, base, relation, &batch)
        if kind == UInt8(ascii: "K") {
            for column in 0..<relation.columnCount where !relation.isIdentity[column] {
                batch.replaceValue(Int(slice.start) + column, with: .unchanged)
            }
        }
        if relation.hasUniqueKey {
            for column in relation.schema.key {
                let form = batch.value(Int(slice.start) + column).form
                guard form == .null || form == .unchanged else { continue }
                if form == .null, kind == UInt8(ascii: "O"), !relation.isPartitioned {
                    dropKey(of: &relation, &batch)
                    break
                }
                tableWithoutKey = relation.schema
                throw MalformedBytes("old row without its key", at: reader.offset)
            }
        }
        if kind == UInt8(ascii: "O"), !relation.sendsWholeOldRows {
            for index in slice.range where batch.value(index).form == .null {
                batch.replaceValue(index, with: .unchanged)
            }
        }
        return slice
    }

    /// CORRECTNESS 29: an unchanged TOAST value is taken from the old row where that has it.
    private func fillUnchanged(_ after: Slice, from before: Slice, _ batch: inout BatchBuilder) {
        for column in 0..<Int(after.count)
        where batch.value(Int(after.start) + column).form == .unchanged {
            batch.replaceValue(
                Int(after.start) + column, with: batch.value(Int(before.start) + column))
        }
    }

    private mutating func keySlice(
        _ relation: inout Relation, from row: Slice, _ batch: inout BatchBuilder
    ) -> Slice {
        if relation.hasUniqueKey, !relation.isPartitioned,
            relation.schema.key.contains(where: {
                batch.value(Int(row.start) + $0).form == .null
            })
        {
            dropKey(of: &relation, &batch)
        }
        let first = batch.valueCount
        for column in relation.schema.key { batch.append(batch.value(Int(row.start) + column)) }
        return Slice(start: first, count: relation.schema.key.count)
    }

    /// CORRECTNESS 24: what the table has as its key by now had a null in this row.
    private mutating func dropKey(of relation: inout Relation, _ batch: inout BatchBuilder) {
        relation = catalogue.dropKey(of: relation)
        current = relation
        currentTable = batch.table(relation.schema)
    }

    private func same(
        _ left: Value, _ right: Value, _ message: UnsafeRawBufferPointer, _ base: Int
    ) -> Bool {
        guard left.form == right.form, left.bytes.count == right.bytes.count,
            let start = message.baseAddress
        else { return false }
        return unsafe memcmp(
            start + (Int(left.bytes.start) - base), start + (Int(right.bytes.start) - base),
            Int(left.bytes.count)) == 0 || left.bytes.isEmpty
    }

    private func expect(_ kind: UInt8, _ reader: inout ByteReader) throws(MalformedBytes) {
        guard try reader.readByte() == kind else {
            throw MalformedBytes("unexpected kind of row", at: reader.offset)
        }
    }

    // MARK: Truncate and messages

    /// CORRECTNESS 31: one event for each relation, each with its own ordinal.
    private mutating func decodeTruncate(
        _ reader: inout ByteReader, _ change: UInt64, _ batch: inout BatchBuilder
    ) throws(MalformedBytes) {
        let count = try reader.readInteger(UInt32.self)
        let options = try reader.readByte()
        for _ in 0..<count {
            guard let (ordinal, _) = try nextChange(&reader, &batch) else { continue }
            batch.append(
                Event(
                    operation: .truncate,
                    flags: options & (Event.cascade | Event.restartIdentity), table: currentTable,
                    commit: commit, ordinal: ordinal, transaction: xid, change: change,
                    commitMicros: commitMicros))
        }
    }

    /// CORRECTNESS 16: a message may stand outside of any transaction; the flag says so.
    private mutating func decodeMessage(
        _ reader: inout ByteReader, _ message: UnsafeRawBufferPointer, _ change: UInt64,
        _ batch: inout BatchBuilder
    ) throws(MalformedBytes) -> PgOutputStep {
        let isTransactional = try reader.readByte() & 1 == 1
        let lsn = try reader.readLSN().value
        let prefixStart = reader.offset
        let prefix = try reader.readCString()
        let prefixCount = reader.offset - 1 - prefixStart
        let count = Int(try reader.readInteger(Int32.self))
        let contentStart = try reader.skip(count)

        // Outside of a transaction the message's own end is its place. One less is inside its
        // record, where no commit can stand, so that ids stay unique and in order.
        var place = (commit: lsn &- 1, ordinal: UInt32(0))
        var isTaken = (place.commit, place.ordinal) >= (start.high, start.low)
        if isTransactional {
            let counted = try countChange(at: reader.offset)
            place = (commit, counted.ordinal)
            isTaken = counted.isTaken
        } else if isInTransaction || lsn == 0 {
            throw MalformedBytes("message between begin and commit", at: reader.offset)
        }
        let step = isTransactional ? PgOutputStep.nothing : .boundary(LSN(lsn))
        if prefix == Self.markerPrefix {
            sawMarker = true
            return step
        }
        guard isTaken else { return step }
        let base = unsafe batch.append(message)
        let first = batch.valueCount
        for (at, length) in [(prefixStart, prefixCount), (contentStart, count)] {
            let bytes = unsafe UnsafeRawBufferPointer(rebasing: message[at..<at + length])
            batch.append(
                Value(
                    form: unsafe isValidUTF8(bytes) ? .text : .binary,
                    bytes: Slice(start: base + at, count: length)))
        }
        batch.append(
            Event(
                operation: .message, flags: isTransactional ? 0 : Event.outsideTransaction,
                table: batch.table(messageTable), commit: place.commit, ordinal: place.ordinal,
                transaction: isTransactional ? xid : 0, change: change,
                commitMicros: isTransactional ? commitMicros : Event.noTime,
                after: Slice(start: first, count: 2)))
        return step
    }
}
