import WeirCore
import WeirJSON
import WeirValues

/// What the sink has compiled for one version of a table.
struct CachedTable: Sendable {
    let projection: Projection
    let key: CompiledKey
    /// What `string` stores.
    let value: FieldReference?
    /// What `hash` stores: the fields' names and values.
    let hashFields: [(name: [UInt8], value: FieldReference)]
    /// The columns the value is made of.
    let valueColumns: [Int]

    /// Nil for a table the sink takes nothing of.
    init?(_ schema: TableSchema, _ config: RedisSinkConfig) throws(WeirError) {
        let isTaken = Operation.allCases.contains { config.routing.takes($0, of: schema) }
        // Messages belong to no table and have no key.
        guard isTaken, !schema.isMessages else { return nil }
        projection = try Projection(
            schema, routing: config.routing, columns: config.columns, options: config.values)
        // What a sink of one table chooses is there, though only the source lists the table.
        if config.tables.count == 1 {
            for path in config.columns?.paths ?? [] where !path.isOfOtherVersion(of: schema) {
                _ = try path.find(in: schema, namedUnder: "columns")
            }
        }
        key = try config.key.compile(for: schema)
        value = try config.value.flatMap { (path) throws(WeirError) in
            _ = try path.find(in: schema, namedUnder: "value")
            return path.resolve(in: schema, options: config.values)
        }
        let projection = projection
        hashFields =
            config.form == .hash
            ? projection.fields.map { field in
                (projection.plainName(of: field), projection.reference(of: field))
            } : []
        valueColumns = value.map { [$0.column] } ?? projection.fields.map(\.column)
    }
}

/// Turns events into the keys and arguments of script calls. Decides, and does no I/O.
struct CacheEncoder: ~Copyable {
    private let config: RedisSinkConfig
    private let notation: SourceNotation
    private var tables = SchemaCache<CachedTable?>()
    private var rows = RowEncoder()
    private var plain = PlainRenderer()
    private var key = JSONWriter(capacity: 512)
    private var oldKey = JSONWriter(capacity: 512)
    private var side = JSONWriter(capacity: 512)
    private var value = JSONWriter(capacity: 4096)
    private var nulls = JSONWriter(capacity: 512)
    /// What to do about a row whose values were not all sent.
    enum IncompleteRows {
        /// A hash that exists is changed in part; others are not encoded before they are completed.
        case changeInPart
        /// Nobody has more of it: the columns are gone from the table.
        case takeAsTheyAre
        /// The row is gone; only the key it had before is removed.
        case leaveOut
    }
    var incompleteRows = IncompleteRows.changeInPart

    /// Where versions come from.
    struct Versions {
        let epoch: UInt32
        /// For rows read beside the stream: the one version all of them get. It has no tail.
        var fixed: CacheVersion?

        fileprivate func version(
            of event: Event, in view: BatchView
        ) throws(WeirError) -> EventVersion {
            if let fixed { return EventVersion(fixed) }
            return EventVersion(epoch: epoch, of: event, in: view)
        }
    }

    /// Why encoding stopped, and where it goes on.
    enum Stop {
        case end
        /// The call is full.
        case full(next: Int)
        /// The event at `next - 1` empties its table.
        case truncate(next: Int)
    }

    struct Counts {
        var delivered = 0
        var filtered = 0
        var late = 0
        /// Changed or deleted rows whose old key is not known and was left to its ttl.
        var unknownKeys = 0
        /// The last TRUNCATE that was ignored.
        var ignoredTruncate: Position?
    }

    /// A part of a hash whose key may turn out to be missing.
    struct Part {
        /// Its place in the call, from 1.
        let place: Int
        let event: Int
    }

    init(_ config: RedisSinkConfig, _ notation: SourceNotation) {
        self.config = config
        self.notation = notation
    }

    /// Gives back the memory that one huge row had asked for.
    mutating func shrink() {
        value.removeAll()
        side.removeAll()
        value.shrink(to: ScriptCall.bytesMax)
        side.shrink(to: ScriptCall.bytesMax)
    }

    // MARK: Batches

    private mutating func prepare(_ tables: [TableSchema]) throws(WeirError) {
        let config = config
        try self.tables.prepare(tables) { (schema) throws(WeirError) in
            do throws(WeirError) {
                return try CachedTable(schema, config)
            } catch {
                throw error.ofOldRows(in: config.pipeline)
            }
        }
    }

    /// The first events from `start` on whose value the stream did not send whole, at most `limit`,
    /// and where looking ended.
    mutating func incomplete(
        in batch: EventBatch, from start: Int, limit: Int
    ) throws(WeirError) -> (events: [Int], end: Int) {
        try prepare(batch.tables)
        var found: [Int] = []
        // A part of a hash goes as it is; the server says whether there is a whole to change.
        guard config.form == .json || config.form == .string else {
            return (found, batch.events.count)
        }
        for index in start..<batch.events.count {
            let event = batch.events[index]
            guard event.operation == .update, !event.has(Event.rowGone),
                let table = tables[Int(event.table)], table.projection.takes(.update)
            else { continue }
            let first = Int(event.after.start)
            if table.valueColumns.contains(where: {
                batch.values[first + $0].form == .unchanged
            }) {
                found.append(index)
                if found.count == limit { return (found, index + 1) }
            }
        }
        return (found, batch.events.count)
    }

    /// Appends events to the call until it is full, a table is emptied, or they end.
    ///
    /// - Parameter parts: gets the parts of hashes that were appended.
    mutating func encode(
        _ batch: borrowing EventBatch, _ range: Range<Int>, _ versions: Versions, countMax: Int,
        into call: inout ScriptCall, parts: inout [Part], counts: inout Counts
    ) throws(WeirError) -> Stop {
        // Another batch may have come in between.
        try prepare(batch.tables)
        let events = batch.events
        let outcome = unsafe batch.arena.withUnsafeBytes { arena in
            unsafe batch.values.withUnsafeBufferPointer { values in
                let view = unsafe BatchView(arena: arena, values: values)
                return Result { () throws(WeirError) in
                    try encode(
                        events, range, view, versions, countMax: countMax, into: &call,
                        parts: &parts, counts: &counts)
                }
            }
        }
        return try outcome.get()
    }

    private mutating func encode(
        _ events: [Event], _ range: Range<Int>, _ view: BatchView, _ versions: Versions,
        countMax: Int, into call: inout ScriptCall, parts: inout [Part], counts: inout Counts
    ) throws(WeirError) -> Stop {
        var index = range.lowerBound
        while index < range.upperBound {
            // Events of one table mostly come in a row; what belongs to it is looked up once.
            let tableIndex = events[index].table
            guard let table = tables[Int(tableIndex)] else {
                counts.filtered += 1
                index += 1
                continue
            }
            repeat {
                let event = events[index]
                index += 1
                // Rows that are read again are the sink's own wish, whatever operations it takes.
                guard versions.fixed != nil || table.projection.takes(event.operation) else {
                    counts.filtered += 1
                    continue
                }
                guard table.projection.schema.explains(event) else {
                    throw WeirError(
                        .bug, .bug,
                        "event \(view.position(of: event)) does not fit the table it names")
                }
                if event.operation == .truncate {
                    guard config.truncates else {
                        counts.filtered += 1
                        counts.ignoredTruncate = view.position(of: event)
                        continue
                    }
                    counts.delivered += 1
                    return .truncate(next: index)
                }
                let before = call.count
                let version = try versions.version(of: event, in: view)
                if try append(event, table, view, version, to: &call, &counts) {
                    parts.append(Part(place: call.count, event: index - 1))
                }
                if call.count > before {
                    counts.delivered += 1
                    if event.has(Event.late) { counts.late += 1 }
                } else {
                    counts.filtered += 1
                }
                if call.isFull(countMax: countMax) { return .full(next: index) }
            } while index < range.upperBound && events[index].table == tableIndex
        }
        return .end
    }

    /// Returns whether a part of a hash was appended.
    private mutating func append(
        _ event: Event, _ table: CachedTable, _ view: BatchView, _ version: EventVersion,
        to call: inout ScriptCall, _ counts: inout Counts
    ) throws(WeirError) -> Bool {
        switch event.operation {
        case .insert, .read:
            // To a service that reads through its cache, a new row is a miss like any other. Rows
            // are only read again after invalidations were lost.
            if config.form == .invalidate && event.operation == .insert { return false }
            guard try appendKey(of: event.after, table, view) else { return false }
        case .update:
            // The delete that follows a row that is gone removes the key it has now.
            var hasNew = false
            if !event.has(Event.rowGone) {
                hasNew = try appendKey(of: event.after, table, view)
            }
            let old = try appendKeyBeforeUpdate(event, table, view)
            if old == .known, !hasNew || !isSameKey {
                appendRemoval(old: true, version, into: &call)
            }
            if old == .unknown { counts.unknownKeys += 1 }
            if !hasNew || incompleteRows == .leaveOut { return false }
        case .delete:
            switch try appendOldKey(event, table, view) {
            case .known: appendRemoval(old: true, version, into: &call)
            case .unknown: counts.unknownKeys += 1
            case .none: break
            }
            return false
        case .truncate, .message:
            return false
        }
        return appendValue(event, table, view, version, into: &call)
    }

    // MARK: Keys

    private var isSameKey: Bool {
        unsafe key.withBytes { new in
            unsafe oldKey.withBytes { old in unsafe new.elementsEqual(old) }
        }
    }

    /// Renders the key of a row image; false when a field of it is null or, in a document, missing:
    /// such a row has no key.
    private mutating func appendKey(
        of image: Slice, _ table: CachedTable, _ view: BatchView
    ) throws(WeirError) -> Bool {
        key.removeAll()
        switch table.key.append(row: image, in: view, using: &plain, into: &key) {
        case .written: return true
        case .null: return false
        // Without it there is no place for the value either.
        case .missing: throw keyUnknown(table)
        }
    }

    private enum OldKey {
        /// The row had none, or the same as now.
        case none
        case known
        /// And is left to its ttl.
        case unknown
    }

    /// Renders the key the row had before an update, when that may have been another.
    private mutating func appendKeyBeforeUpdate(
        _ event: Event, _ table: CachedTable, _ view: BatchView
    ) throws(WeirError) -> OldKey {
        if table.key.columnsAreWithinKey {
            if !event.has(Event.keyChanged) { return .none }
        } else if !config.keyFields.mayHaveChanged(by: event, in: view, notation) {
            return .none
        }
        return try appendOldKey(event, table, view)
    }

    /// Renders the key of the row before the change.
    private mutating func appendOldKey(
        _ event: Event, _ table: CachedTable, _ view: BatchView
    ) throws(WeirError) -> OldKey {
        oldKey.removeAll()
        let isCollection = table.projection.schema.isCollection
        // The key of a document may hold more than its id: that of a shard.
        let canHaveKey =
            table.key.columnsAreWithinKey || isCollection || !event.has(Event.beforeIsKey)
        if !event.before.isEmpty && canHaveKey {
            switch table.key.append(row: event.before, in: view, using: &plain, into: &oldKey) {
            case .written: return .known
            case .null: return .none
            case .missing:
                // An id is always sent whole.
                if isCollection && table.key.columnsAreWithinKey { return .none }
            }
        }
        if config.onUnknownKey == .expire { return .unknown }
        throw keyUnknown(table)
    }

    private func keyUnknown(_ table: CachedTable) -> WeirError {
        .keyUnknown(table.projection.schema, config)
    }

    /// Appends key and side key to the call.
    private mutating func append(old: Bool, to call: inout ScriptCall) {
        side.removeAll()
        if old {
            unsafe oldKey.withBytes { key in unsafe config.key.appendSideKey(of: key, into: &side) }
            unsafe oldKey.withBytes { key in
                unsafe side.withBytes { side in unsafe call.append(key: key, side: side) }
            }
        } else {
            unsafe key.withBytes { key in unsafe config.key.appendSideKey(of: key, into: &side) }
            unsafe key.withBytes { key in
                unsafe side.withBytes { side in unsafe call.append(key: key, side: side) }
            }
        }
    }

    // MARK: Values

    private mutating func appendRemoval(
        old: Bool, _ version: EventVersion, into call: inout ScriptCall
    ) {
        append(old: old, to: &call)
        switch config.form {
        case .invalidate: break
        case .json, .string:
            call.append(side: version, isTombstone: true)
            call.append(argument: "")
        case .hash:
            call.append(side: version, isTombstone: true)
            call.append(argument: "whole")
            call.append(argument: 0)
            call.append(argument: 0)
        }
    }

    private mutating func appendValue(
        _ event: Event, _ table: CachedTable, _ view: BatchView, _ version: EventVersion,
        into call: inout ScriptCall
    ) -> Bool {
        switch config.form {
        case .invalidate:
            append(old: false, to: &call)
            return false
        case .json:
            value.removeAll()
            rows.append(event.after, of: table.projection, in: view, into: &value)
            appendSet(version, into: &call)
            return false
        case .string:
            guard let reference = table.value else { return false }
            value.removeAll()
            let outcome = plain.append(reference, of: event.after, in: view, into: &value)
            if outcome == .written {
                appendSet(version, into: &call)
            } else {
                // Nothing to store: null, or no such path. Nobody shall find what was there before.
                appendRemoval(old: false, version, into: &call)
            }
            return false
        case .hash:
            return appendHash(event, table, view, version, into: &call)
        }
    }

    private mutating func appendSet(_ version: EventVersion, into call: inout ScriptCall) {
        append(old: false, to: &call)
        call.append(side: version)
        unsafe value.withBytes { bytes in unsafe call.append(argument: bytes) }
    }

    private mutating func appendHash(
        _ event: Event, _ table: CachedTable, _ view: BatchView, _ version: EventVersion,
        into call: inout ScriptCall
    ) -> Bool {
        append(old: false, to: &call)
        value.removeAll()
        nulls.removeAll()
        var fieldCount = 0
        var nullCount = 0
        var isPart = false
        for field in table.hashFields {
            side.removeAll()
            switch plain.append(field.value, of: event.after, in: view, into: &side) {
            case .written:
                unsafe field.name.withUnsafeBytes { name in unsafe value.appendBulk(name) }
                unsafe side.withBytes { bytes in unsafe value.appendBulk(bytes) }
                fieldCount += 1
            case .null, .absent:
                unsafe field.name.withUnsafeBytes { name in unsafe nulls.appendBulk(name) }
                nullCount += 1
            case .unchanged: isPart = incompleteRows == .changeInPart
            }
        }
        call.append(side: version)
        call.append(argument: isPart ? "part" : "whole")
        call.append(argument: 2 * fieldCount)
        call.append(encoded: value, count: 2 * fieldCount)
        call.append(argument: nullCount)
        call.append(encoded: nulls, count: nullCount)
        return isPart
    }
}

extension WeirError {
    /// The table as it is now was checked: a key or value that a version of it lacks may be younger
    /// than the row.
    fileprivate func ofOldRows(in pipeline: String) -> WeirError {
        guard code == .unknownColumn else { return self }
        var error = self
        error.hint =
            (hint.map { $0 + " " } ?? "")
            + "Rows from before the column was added have none: name one that they have until they "
            + "are delivered, or go on behind them, and declare the gap: "
            + "weir position set \(pipeline) now --yes"
        return error
    }
}

extension BatchView {
    fileprivate func position(of event: Event) -> Position {
        Position(
            high: event.commit, low: event.ordinal,
            tail: detail(.tail, of: event).map {
                unsafe String(decoding: bytes(of: $0), as: UTF8.self)
            } ?? "")
    }
}
