import WeirCore
import WeirPostgresClient

/// The numbers (OIDs) of the tables that were written to. Pure.
///
/// A table that was dropped and made again, or restored alone from a dump, has its name and maybe
/// other rows, and the position beside it says nothing of that.
struct TargetNumbers: Equatable {
    private(set) var numbers: [TableName: UInt32] = [:]

    init() {}

    /// Lines of `oid schema.table`.
    init(text: String) {
        for line in text.split(separator: "\n") {
            let words = line.split(separator: " ", maxSplits: 1)
            guard words.count == 2, let number = UInt32(words[0]),
                let name = TableName(parsing: String(words[1]))
            else { continue }
            numbers[name] = number
        }
    }

    var text: String {
        numbers.map { "\($0.value) \($0.key)" }.sorted().joined(separator: "\n")
    }

    /// Takes the tables as they are now.
    ///
    /// - Returns: those that have another number than before.
    mutating func follow(_ tables: [TableName: UInt32]) -> [TableName] {
        let remade = tables.filter { name, number in numbers[name].map { $0 != number } ?? false }
        numbers.merge(tables) { $1 }
        return remade.keys.sorted()
    }
}

extension PostgresSink {
    private var numbersNote: String { "postgres target numbers \(context.name)" }

    /// Declares the loss of what was written to tables that are others now.
    ///
    /// - Parameter targets: by the source's table.
    func declareRemade(
        _ targets: [TableName: TargetTable], _ session: TargetSession
    ) async throws(WeirError) {
        let before = try await context.notes.get(numbersNote) ?? ""
        var numbers = TargetNumbers(text: before)
        let remade = numbers.follow(
            Dictionary(targets.values.map { ($0.name, $0.oid) }, uniquingKeysWith: { $1 }))
        let position = place(of: committedPosition)
        for target in remade where session.targets.contains(target.description) {
            let sources = targets.filter { $0.value.name == target }.keys.sorted()
            let names = sources.map { "\"\($0)\"" }.joined(separator: ", ")
            try await context.reports.declare(
                DeclaredGap(
                    .targetRemade, "\(target)", to: position,
                    "the target \"\(target)\" is another table than the one that was written to: it "
                        + "was made again, or restored alone, and may lack rows from before "
                        + "\(position)",
                    hint: "Compare it with \(names) at the source; an UPDATE there that changes "
                        + "nothing sends its rows again. Then: weir gap resolve ID"))
        }
        let text = numbers.text
        if text != before { try await context.notes.set(numbersNote, text) }
    }
}
