package import WeirCore
package import WeirJSON

/// How a line shows an event.
package enum LineFormat: String, Sendable, CaseIterable {
    /// Weir's own envelope: everything that is known of the event, and nothing that could differ on
    /// redelivery (so no `emitted`, `tx` or `pos.last`).
    case weir
    /// The row as it is now, and nothing else.
    case row
    /// Debezium's envelope with schemas off.
    case debezium
    /// One short line for people, and no JSON.
    case text
}

/// Encodes events as JSON lines: one object and a LF per event, and for `debezium` a few more.
///
/// A line depends on the event alone, never on the clock, on the batch or on what came before it:
/// delivered again, it is the same line byte for byte.
package struct LineEncoder: ~Copyable {
    package let format: LineFormat
    let sourceKind: String
    let sourceName: String
    let id: EventID
    private let routing: Routing
    private let columns: [ColumnChoice]?
    let options: ValueOptions
    /// `debezium` writes a line `null` behind each delete.
    let tombstones: Bool
    private let isOnlyTable: Bool

    private var compiled = SchemaCache<CompiledTable>()
    var rows = RowWriter()
    var stamp = CommitStamp()
    /// The time alone, for documents: mostly no two of them are of one commit.
    var clock = CommitStamp()
    /// A document on its way into a string; empty between two uses.
    var document = JSONWriter(capacity: 4096)

    /// One huge document must not keep its memory for ever.
    static let documentBytesKept = 1 << 20

    /// - Parameters:
    ///   - sourceKind: the source's type, `postgres` or `mongodb`.
    ///   - columns: the columns or paths to show and their names; nil for all. Keys are not
    ///     affected.
    ///   - tombstones: for `debezium`, a line `null` behind each delete.
    ///   - isOnlyTable: the source has one table, so that a column it lacks is an error.
    package init(
        format: LineFormat,
        sourceKind: String,
        sourceName: String,
        notation: SourceNotation,
        routing: Routing,
        columns: [ColumnChoice]? = nil,
        options: ValueOptions = ValueOptions(),
        tombstones: Bool = false,
        isOnlyTable: Bool = false
    ) {
        self.isOnlyTable = isOnlyTable
        self.tombstones = tombstones
        self.format = format
        self.sourceKind = sourceKind
        self.sourceName = sourceName
        id = EventID(notation, source: sourceName)
        self.routing = routing
        self.columns = columns
        self.options = options
    }

    /// Appends the lines of all events that the routing takes.
    ///
    /// Throws before anything is appended, or removes what was.
    /// - Returns: events written, and events left out by routing or because the format has no line
    ///   for them.
    package mutating func encode(
        _ batch: borrowing EventBatch,
        into writer: inout JSONWriter
    ) throws(WeirError) -> (delivered: Int, filtered: Int) {
        try compile(batch.tables)
        let start = writer.count
        var delivered = 0
        let events = batch.events
        let broken = unsafe batch.arena.withUnsafeBytes { arena in
            unsafe batch.values.withUnsafeBufferPointer { values in
                let view = unsafe BatchView(arena: arena, values: values)
                return encode(events, in: view, &delivered, into: &writer)
            }
        }
        if let broken {
            writer.truncate(to: start)
            throw WeirError(
                .bug,
                .bug,
                "event \(batch.position(of: broken)) does not fit the table it names"
            )
        }
        if format == .text { writer.escapeForTerminal(from: start) }
        return (delivered, events.count - delivered)
    }

    /// Returns the event that its table's schema does not explain, if there is one.
    private mutating func encode(
        _ events: [Event],
        in batch: BatchView,
        _ delivered: inout Int,
        into writer: inout JSONWriter
    ) -> Event? {
        var index = 0
        while index < events.count {
            let tableIndex = Int(events[index].table)
            guard tableIndex < compiled.count else { return events[index] }
            // Events of one table mostly come in a row; its constants are looked up once.
            let table = compiled[tableIndex]
            repeat {
                let event = events[index]
                index += 1
                guard table.projection.takes(event.operation) else { continue }
                guard table.projection.schema.explains(event) else { return event }
                switch format {
                case .text: appendTextLine(event, table, batch, into: &writer)
                case .row:
                    if !appendRowLine(event, table, batch, into: &writer) { continue }
                case .weir where table.isCollection:
                    appendWeirLine(ofDocument: event, table, batch, into: &writer)
                case .weir:
                    appendWeirLine(event, table, batch, into: &writer)
                case .debezium where table.isCollection:
                    appendDebeziumLines(ofDocument: event, table, batch, into: &writer)
                case .debezium:
                    appendDebeziumLines(event, table, batch, into: &writer)
                }
                delivered += 1
            } while index < events.count && Int(events[index].table) == tableIndex
        }
        return nil
    }

    private mutating func compile(_ tables: [TableSchema]) throws(WeirError) {
        try compiled.prepare(tables) { (schema) throws(WeirError) in
            CompiledTable(
                isCollection: schema.isCollection,
                projection: try Projection(
                    schema, routing: routing, columns: columns, options: options,
                    isOnlyTable: isOnlyTable),
                constants: format.constants(of: schema, kind: sourceKind, name: sourceName))
        }
    }
}

/// What lines of one table version are made with.
struct CompiledTable {
    let isCollection: Bool
    let projection: Projection
    let constants: LineConstants
}

/// Runs of bytes that all lines of a table have in common; each format says where they stand.
struct LineConstants {
    var begin: [UInt8] = []
    var source: [UInt8] = []
    var sourceEnd: [UInt8] = []
    var end: [UInt8] = []
}

extension LineFormat {
    fileprivate func constants(
        of schema: TableSchema,
        kind: String,
        name: String
    ) -> LineConstants {
        switch self {
        case .weir: .weir(schema, kind: kind, name: name)
        case .row: LineConstants()
        case .text: .text(schema)
        case .debezium where schema.isCollection: .debezium(ofCollection: schema, name: name)
        case .debezium: .debezium(schema, name: name)
        }
    }
}

extension TableSchema {
    /// Whether the event's images have one value per column.
    @inline(__always)
    package func explains(_ event: Event) -> Bool {
        if isMessages { return event.operation == .message && event.after.count == 2 }
        let hasRow =
            switch event.operation {
            case .insert, .read: true
            case .update: !event.has(Event.rowGone)
            case .delete, .truncate: false
            case .message: event.after.count == 2
            }
        return event.operation != .message
            && event.after.count == (hasRow ? columns.count : 0)
            && (event.before.isEmpty || event.before.count == columns.count)
            && (event.key.isEmpty || event.key.count == key.count)
            && (event.details.isEmpty || event.details.count == Event.Detail.allCases.count)
    }
}
