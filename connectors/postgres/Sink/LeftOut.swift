import WeirCore
import WeirPostgresClient

/// What is written of a source table, and what is not. Pure.
struct WrittenShape: Sendable {
    let source: TableName
    let target: TableName
    let oid: UInt32
    /// By the columns in `written`.
    let numbers: [String: Int]
    let isCollection: Bool
    /// By the target's columns, as far as the source has them as columns of their own.
    let columns: [String: Column]
    /// The target's columns that rows bring values for.
    let written: Set<String>
    /// Columns of the source, under the target's names, whose values go nowhere.
    let leftOut: Set<String>
    /// The first column of the source's key.
    let key: String?
    let truncates: Bool

    init(
        _ schema: TableSchema, _ wanted: WantedColumns, _ table: TargetTable, _ taken: [Bool],
        search: String?
    ) {
        func takes(_ operation: Operation) -> Bool { taken[Int(operation.rawValue)] }
        source = TableName(schema: schema.schema, name: schema.name)
        target = table.name
        oid = table.oid
        isCollection = schema.isCollection
        columns = Dictionary(
            wanted.all.compactMap { wanted in wanted.column.map { (wanted.output, $0) } }
        ) { first, _ in first }
        let outputs = wanted.all.map(\.output).filter { $0 != search }
        let isWritten = { (name: String) in table.column(name)?.isGenerated == false }
        written = Set(outputs.filter(isWritten))
        numbers = Dictionary(
            table.columns.map { ($0.name, $0.number) }, uniquingKeysWith: { $1 }
        ).filter { [written] in written.contains($0.key) }
        let writes = takes(.insert) || takes(.update) || takes(.read)
        leftOut = writes ? Set(outputs.filter { !isWritten($0) }) : []
        key = schema.isCollection ? nil : schema.key.first.map { schema.columns[$0].name }
        truncates = takes(.truncate)
    }
}

/// What a sink did not do at its targets though the source had it, so that it can say what old rows
/// lack once it does. It is kept in the sink's notes. Pure.
struct LeftOut: Sendable, Equatable {
    struct Target: Sendable, Equatable {
        /// Columns that rows were written without.
        var leftOut: Set<String> = []
        /// The source's last TRUNCATE that did not empty it, in the source's notation.
        var truncatedAt: String?

        var isEmpty: Bool { leftOut.isEmpty && truncatedAt == nil }
    }

    private(set) var targets: [TableName: Target] = [:]

    init() {}

    mutating func leaveOut(_ shape: WrittenShape) {
        targets[shape.target, default: Target()].leftOut.formUnion(shape.leftOut)
        dropIfEmpty(shape.target)
    }

    mutating func ignoreTruncate(of target: TableName, at position: String) {
        targets[target, default: Target()].truncatedAt = position
    }

    /// What old rows of a target lack now that it is written in this shape; it is said once.
    ///
    /// - Parameter position: from where on, in the source's notation.
    mutating func gaps(_ shape: WrittenShape, at position: String) -> [DeclaredGap] {
        guard let known = targets[shape.target] else { return [] }
        var gaps: [DeclaredGap] = []
        let columns = known.leftOut.intersection(shape.written).sorted()
        if !columns.isEmpty {
            gaps.append(shape.columnsGap(columns, at: position))
            targets[shape.target]?.leftOut.subtract(columns)
        }
        if let truncatedAt = known.truncatedAt, shape.truncates {
            gaps.append(shape.truncateGap(at: truncatedAt))
            targets[shape.target]?.truncatedAt = nil
        }
        dropIfEmpty(shape.target)
        return gaps
    }

    private mutating func dropIfEmpty(_ target: TableName) {
        if targets[target]?.isEmpty == true { targets[target] = nil }
    }

    // MARK: Text

    // One line for a target, its words apart by a blank:
    //   schema name column,… position

    var text: String {
        targets.sorted { $0.key < $1.key }.map { name, target in
            let columns = target.leftOut.sorted().map(\.noteWord).joined(separator: ",")
            return [
                name.schema.noteWord, name.name.noteWord, columns.isEmpty ? "-" : "," + columns,
                target.truncatedAt.map { "@" + $0.noteWord } ?? "-",
            ].joined(separator: " ")
        }.joined(separator: "\n")
    }

    init(text: String) {
        for line in text.split(separator: "\n") {
            let words = line.split(separator: " ")
            guard words.count == 4 else { continue }
            let name = TableName(
                schema: String(words[0]).fromNoteWord, name: String(words[1]).fromNoteWord)
            var target = Target()
            if words[2] != "-" {
                target.leftOut = Set(
                    words[2].split(separator: ",").map { String($0).fromNoteWord })
            }
            if words[3] != "-" { target.truncatedAt = String(words[3].dropFirst()).fromNoteWord }
            targets[name] = target
        }
    }
}

extension String {
    /// One word in which no blank, comma or line end is left.
    var noteWord: String {
        utf8.reduce(into: "") { text, byte in
            if byte > 0x20, byte < 0x7F, byte != UInt8(ascii: "%"), byte != UInt8(ascii: ",") {
                text.unicodeScalars.append(Unicode.Scalar(byte))
            } else {
                text += "%" + (byte < 16 ? "0" : "") + String(byte, radix: 16)
            }
        }
    }

    var fromNoteWord: String {
        var bytes: [UInt8] = []
        var rest = Array(utf8)[...]
        while let byte = rest.popFirst() {
            guard byte == UInt8(ascii: "%"), rest.count >= 2,
                let value = UInt8(String(decoding: rest.prefix(2), as: UTF8.self), radix: 16)
            else {
                bytes.append(byte)
                continue
            }
            bytes.append(value)
            rest = rest.dropFirst(2)
        }
        return String(decoding: bytes, as: UTF8.self)
    }
}

// MARK: Gaps

extension WrittenShape {
    fileprivate func columnsGap(_ names: [String], at position: String) -> DeclaredGap {
        let list = TargetCheck.list(names)
        return DeclaredGap(
            .columnsLeftOut, "\(target)", to: position,
            "rows that were written to \"\(target)\" before \(position) lack \(list): the target "
                + "did not take it then, and takes it from now on",
            hint: refill(names).map { "At the source, in parts where there are many rows: \($0) " }
                .map { $0 + "Then: weir gap resolve ID" }
                ?? "Fill \(list) of the old rows in \"\(target)\" from the source, or write the "
                + "documents anew there (a replacement by the same document sends it again); "
                + "then: weir gap resolve ID")
    }

    /// An UPDATE that sends these columns of all rows that have a value there.
    func refill(_ names: [String]) -> String? {
        let columns = names.compactMap { self.columns[$0] }
        guard !isCollection, columns.count == names.count else { return nil }
        let set = columns.map { "\(PostgresConnection.identifier($0.name)) = \(Self.anew($0))" }
        let filled = columns.map { "\(PostgresConnection.identifier($0.name)) IS NOT NULL" }
        return "UPDATE \(source.sql) SET \(set.joined(separator: ", ")) "
            + "WHERE \(filled.joined(separator: " OR "));"
    }

    private static let plainTypes: Set<String> = [
        "bool", "int2", "int4", "int8", "oid", "float4", "float8", "uuid", "date", "time",
        "timetz", "timestamp", "timestamptz", "interval", "money", "macaddr", "macaddr8", "char",
        "name", "pg_lsn",
    ]

    /// The value itself, made anew: one that is stored outside of its row and stays the same is not
    /// sent with an update.
    private static func anew(_ column: Column) -> String {
        let name = PostgresConnection.identifier(column.name)
        if column.type.array == .scalar {
            if plainTypes.contains(column.type.name) { return name }
            if ["text", "varchar", "bpchar", "citext"].contains(column.type.name) {
                return "\(name) || ''"
            }
        }
        let type = column.declaredType ?? TargetDefinition.sqlType(column.type)
        return "\(name)::text::\(type)"
    }

    fileprivate func truncateGap(at position: String) -> DeclaredGap {
        let again = key.map { name in
            let column = PostgresConnection.identifier(name)
            return "While Weir is stopped, at the target: TRUNCATE \(target.sql); Then, at the "
                + "source, so that its rows come again, in parts where there are many: "
                + "UPDATE \(source.sql) SET \(column) = \(column); Then: weir gap resolve ID"
        }
        return DeclaredGap(
            .truncateIgnored, "\(target)", from: position,
            "rows that \"\(target)\" had when the source emptied \"\(source)\" at \(position) were "
                + "left there, and TRUNCATE is applied only from now on",
            hint: again
                ?? "Remove the rows from \"\(target)\" that the source does not have; then: weir "
                + "gap resolve ID")
    }
}

// MARK: Keeping it

extension PostgresSink {
    var memoryNote: String { "postgres left out \(context.name)" }

    func recall() async throws(WeirError) -> LeftOut {
        if let memory { return memory }
        let known = LeftOut(text: try await context.notes.get(memoryNote) ?? "")
        memory = known
        return known
    }

    private func keep(_ changed: LeftOut) async throws(WeirError) {
        guard changed != memory else { return }
        try await context.notes.set(memoryNote, changed.text)
        memory = changed
    }

    /// Declares what old rows lack that are written otherwise from now on. What is left out is
    /// remembered before anything is written without it.
    ///
    /// - Parameter remembers: rows of these shapes are about to be written.
    func note(_ shapes: [WrittenShape], remembers: Bool) async throws(WeirError) {
        var changed = try await recall()
        let position = place(of: committedPosition)
        for shape in shapes {
            for gap in changed.gaps(shape, at: position) { try await context.reports.declare(gap) }
            if remembers { changed.leaveOut(shape) }
        }
        try await keep(changed)
    }

    /// Before anything of the chunk is written.
    func noteWhatIsLeftOut(_ chunk: WriteChunk) async throws(WeirError) {
        if !chunk.ignoredTruncates.isEmpty, config.routing.operations.contains(.truncate) {
            var changed = try await recall()
            for (target, position) in chunk.ignoredTruncates {
                changed.ignoreTruncate(of: target, at: place(of: position))
            }
            try await keep(changed)
        }
        for target in chunk.withoutKey.sorted() {
            try await context.reports.declare(
                DeclaredGap(
                    .nullKey, "\(target)",
                    "the document whose _id is null is not in \"\(target)\": a table's key takes no "
                        + "null",
                    hint: "Give it another _id at the source, by inserting a copy of it and then "
                        + "deleting it: the copy arrives. Or do without it. Then: weir gap resolve "
                        + "ID"))
        }
    }

    func place(of position: Position?) -> String {
        position.map(context.notation.display) ?? "the first change"
    }
}
