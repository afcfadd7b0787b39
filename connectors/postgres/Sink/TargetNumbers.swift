import WeirCore
import WeirPostgresClient

/// The numbers of the tables that were written to (OIDs) and of their columns. Pure.
///
/// A table that was dropped and made again, or restored alone from a dump, has its name and maybe
/// other rows, and the position beside it says nothing of that. So it is with a column.
struct TargetNumbers: Equatable {
    struct Numbers: Equatable {
        var oid: UInt32
        var columns: [String: Int] = [:]
    }

    /// What is another one than before.
    enum Remade: Equatable {
        case table
        case columns([String])
    }

    private(set) var numbers: [TableName: Numbers] = [:]

    init() {}

    // A line for a table, and behind it one for each of its columns:
    //   oid schema.table
    //   cnumber column

    init(text: String) {
        var last: TableName?
        for line in text.split(separator: "\n") {
            let words = line.split(separator: " ", maxSplits: 1)
            guard words.count == 2 else { continue }
            if words[0].hasPrefix("c"), let number = Int(words[0].dropFirst()) {
                guard let last else { continue }
                numbers[last]?.columns[String(words[1]).fromNoteWord] = number
            } else if let oid = UInt32(words[0]), let name = TableName(parsing: String(words[1])) {
                numbers[name] = Numbers(oid: oid)
                last = name
            }
        }
    }

    var text: String {
        numbers.sorted { $0.key < $1.key }.map { name, table in
            (["\(table.oid) \(name)"]
                + table.columns.sorted { $0.value < $1.value }.map {
                    "c\($0.value) \($0.key.noteWord)"
                }).joined(separator: "\n")
        }.joined(separator: "\n")
    }

    /// Takes a target as it is now. A column that is missing now is still known: when it comes
    /// back it lacks its values.
    mutating func follow(_ shape: WrittenShape) -> Remade? {
        guard var known = numbers[shape.target], known.oid == shape.oid else {
            let isKnown = numbers[shape.target] != nil
            numbers[shape.target] = Numbers(oid: shape.oid, columns: shape.numbers)
            return isKnown ? .table : nil
        }
        let others = shape.numbers.filter { name, number in
            known.columns[name].map { $0 != number } ?? false
        }
        // A renamed one is known by its new name only.
        let taken = Set(shape.numbers.values)
        known.columns = known.columns.filter { !taken.contains($0.value) }
        known.columns.merge(shape.numbers) { $1 }
        numbers[shape.target] = known
        return others.isEmpty ? nil : .columns(others.keys.sorted())
    }
}

extension PostgresSink {
    var numbersNote: String { "postgres target numbers \(context.name)" }

    /// Declares the loss of what was written to tables and columns that are others now.
    func declareRemade(
        _ shapes: [WrittenShape], _ session: TargetSession
    ) async throws(WeirError) {
        let before = try await context.notes.get(numbersNote) ?? ""
        var numbers = TargetNumbers(text: before)
        let leftOut = try await recall()
        let position = place(of: committedPosition)
        for shape in shapes {
            let remade = numbers.follow(shape)
            guard session.wasWritten(shape.target), let remade else { continue }
            switch remade {
            case .table: try await context.reports.declare(shape.remadeGap(at: position))
            case .columns(let names):
                // What old rows lack of a column that was left out is said with that.
                let known = leftOut.targets[shape.target]?.leftOut ?? []
                let names = names.filter { !known.contains($0) }
                if names.isEmpty { continue }
                try await context.reports.declare(shape.remadeGap(of: names, at: position))
            }
        }
        let text = numbers.text
        if text != before { try await context.notes.set(numbersNote, text) }
    }
}

extension WrittenShape {
    fileprivate func remadeGap(at position: String) -> DeclaredGap {
        DeclaredGap(
            .targetRemade, "\(target)", to: position,
            "the target \"\(target)\" is another table than the one that was written to: it "
                + "was made again, or restored alone, and may lack rows from before "
                + "\(position)",
            hint: "Compare it with \"\(source)\" at the source; an UPDATE there that changes "
                + "nothing sends its rows again. Then: weir gap resolve ID")
    }

    fileprivate func remadeGap(of names: [String], at position: String) -> DeclaredGap {
        let list = TargetCheck.list(names)
        return DeclaredGap(
            .targetRemade, "\(target)", to: position,
            "\(list) of \"\(target)\" was dropped and added again: rows that were written before "
                + "\(position) may lack its values",
            hint: refill(names).map {
                "At the source, in parts where there are many rows: \($0) Then: weir gap resolve ID"
            } ?? "Fill \(list) of the old rows from the source; then: weir gap resolve ID")
    }
}
