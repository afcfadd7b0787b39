import WeirCore
import WeirJSON

/// A source, as far as it matters for loops.
struct TableReader {
    let pipeline: String
    let databases: Set<String>
    let tables: [TableName]
    let filter: OriginFilter
    /// The key `origin`, or the whole source.
    let span: SourceSpan
}

/// A sink, as far as it matters for loops.
struct TableWriter {
    let pipeline: String
    let sink: String
    let databases: Set<String>
    let targets: [TableName: TableName]
    let origin: String?
    let span: SourceSpan
}

/// Pipelines that feed each other: what a sink writes is read by a source whose events come back
/// to where that sink's own pipeline reads.
///
/// Every such step must be cut by the source, which leaves out what the sink writes. Cutting one of
/// a loop's steps would end it too, but let each change through once more, over what the
/// application wrote meanwhile.
extension ConfigChecker {
    mutating func note(
        _ reach: TableReach?, of pipeline: String, _ tables: [TableName], _ scope: ObjectScope
    ) {
        guard let reach, case .reads(let filter) = reach.role else { return }
        readers.append(
            TableReader(
                pipeline: pipeline, databases: reach.databases, tables: tables, filter: filter,
                span: scope["origin"]?.value.span ?? scope.anchor))
    }

    mutating func note(
        _ reach: TableReach?, of pipeline: String, sink: String, _ scope: ObjectScope
    ) {
        guard let reach, case .writes(let targets, let origin) = reach.role else { return }
        writers.append(
            TableWriter(
                pipeline: pipeline, sink: sink, databases: reach.databases, targets: targets,
                origin: origin, span: scope.anchor))
    }

    mutating func checkLoops() {
        for step in LoopFinder(readers: readers, writers: writers).steps() {
            let (writer, reader) = (writers[step.writer], readers[step.reader])
            let tables = Self.words(step.tables)
            if step.isWithinOneTable {
                log.error(
                    ConfigErrorCode.loop,
                    "sink \(quoted(writer.sink)) of pipeline \(quoted(writer.pipeline)) writes to "
                        + "the very table its source reads: \(tables)",
                    at: writer.span, note: "name another \"table\" or connection")
                continue
            }
            let title = "sink \(quoted(writer.sink)) of pipeline \(quoted(writer.pipeline))"
            guard reader.filter.leavesOut(writer.origin) else {
                log.error(
                    ConfigErrorCode.loop,
                    "the source of pipeline \(quoted(reader.pipeline)) reads what \(title) writes "
                        + "(\(tables)), and its changes come back there: an endless echo",
                    at: reader.span, note: Self.cure(writer, reader))
                continue
            }
            if reader.filter == .everyOrigin, let origin = writer.origin {
                log.warning(
                    ConfigErrorCode.advice,
                    "\"origin\": \"none\" leaves out not only what \(title) writes, but also what "
                        + "any other replication writes to this database",
                    at: reader.span, note: "\"origin\": [\"\(origin)\"] leaves out only that sink's"
                )
            }
        }
    }

    /// What to add, as the file writes it.
    private static func cure(_ writer: TableWriter, _ reader: TableReader) -> String {
        let origin = writer.origin ?? "weir_\(writer.pipeline)_\(writer.sink)"
        var names = [origin]
        if case .origins(let known) = reader.filter { names = known + names }
        let list = names.map { "\"\($0)\"" }.joined(separator: ", ")
        let here = "this source needs \"origin\": [\(list)]"
        return writer.origin == nil ? "\(here), and that sink \"origin\": \"\(origin)\"" : here
    }

    private static func words(_ tables: [TableName]) -> String {
        let shown = tables.prefix(3).map { "\($0)" }.joined(separator: ", ")
        return tables.count > 3 ? "\(shown) and \(tables.count - 3) more" : shown
    }
}

/// Finds the steps of loops. Pure.
///
/// - Complexity: O(tables that are read or written).
struct LoopFinder {
    let readers: [TableReader]
    let writers: [TableWriter]

    /// From what a sink writes to the source that reads it.
    struct Step {
        let writer: Int
        let reader: Int
        /// In the words of the database they are written to, in the order of their names.
        var tables: [TableName]
        /// A sink writes to the table it follows.
        let isWithinOneTable: Bool
    }

    private struct Place: Hashable {
        let database: Int
        let table: TableName
    }

    /// One table that a sink copies to another.
    private struct Edge {
        let writer: Int
        let reader: Int
        let from: Int
        let to: Int
    }

    func steps() -> [Step] {
        let databases = numbered()
        var places: [Place: Int] = [:]
        var tables: [TableName] = []
        func number(_ database: Int, _ table: TableName) -> Int {
            let place = Place(database: database, table: table)
            if let known = places[place] { return known }
            places[place] = tables.count
            tables.append(table)
            return tables.count - 1
        }
        var edges: [Edge] = []
        let sources = Dictionary(
            readers.indices.map { (readers[$0].pipeline, $0) },
            uniquingKeysWith: { first, _ in first })
        for (index, writer) in writers.enumerated() {
            guard let at = sources[writer.pipeline] else { continue }
            for table in Set(readers[at].tables).sorted() {
                guard let target = writer.targets[table] else { continue }
                edges.append(
                    Edge(
                        writer: index, reader: at, from: number(databases[at], table),
                        to: number(databases[readers.count + index], target)))
            }
        }
        return steps(edges, tables)
    }

    private func steps(_ edges: [Edge], _ tables: [TableName]) -> [Step] {
        let loops = Self.loops(edges.map { ($0.from, $0.to) }, count: tables.count)
        // Only what stays in its loop comes back.
        let inside = edges.filter { loops[$0.from] == loops[$0.to] }
        var readersOf: [Int: Set<Int>] = [:]
        for edge in inside { readersOf[edge.from, default: []].insert(edge.reader) }
        var steps: [Step] = []
        var known: [[Int]: Int] = [:]
        for edge in inside {
            for reader in (readersOf[edge.to] ?? []).sorted() {
                let isOne = edge.from == edge.to && reader == edge.reader
                let name = [edge.writer, reader, isOne ? 1 : 0]
                if let index = known[name] {
                    steps[index].tables.append(tables[edge.to])
                } else {
                    known[name] = steps.count
                    steps.append(
                        Step(
                            writer: edge.writer, reader: reader, tables: [tables[edge.to]],
                            isWithinOneTable: isOne))
                }
            }
        }
        return steps
    }

    /// A number for the database of each reader, then of each writer: one database may have several
    /// names.
    private func numbered() -> [Int] {
        var numbers: [String: Int] = [:]
        var same: [Int] = []
        func root(_ number: Int) -> Int {
            var number = number
            while same[number] != number { number = same[number] }
            return number
        }
        let all = readers.map(\.databases) + writers.map(\.databases)
        let own = all.map { names in
            let number = same.count
            same.append(number)
            for name in names.sorted() {
                if let other = numbers[name] {
                    same[root(other)] = root(number)
                } else {
                    numbers[name] = number
                }
            }
            return number
        }
        return own.map(root)
    }

    /// The strongly connected component of each node, by Kosaraju's two walks.
    private static func loops(_ edges: [(from: Int, to: Int)], count: Int) -> [Int] {
        var next = [[Int]](repeating: [], count: count)
        var before = next
        for edge in edges {
            next[edge.from].append(edge.to)
            before[edge.to].append(edge.from)
        }
        var isSeen = [Bool](repeating: false, count: count)
        var finished: [Int] = []
        for start in 0..<count where !isSeen[start] {
            isSeen[start] = true
            var path = [(node: start, child: 0)]
            while let (node, child) = path.last {
                if child < next[node].count {
                    path[path.count - 1].child += 1
                    let target = next[node][child]
                    if !isSeen[target] {
                        isSeen[target] = true
                        path.append((target, 0))
                    }
                } else {
                    finished.append(node)
                    path.removeLast()
                }
            }
        }
        var component = [Int](repeating: -1, count: count)
        for start in finished.reversed() where component[start] < 0 {
            component[start] = start
            var open = [start]
            while let node = open.popLast() {
                for target in before[node] where component[target] < 0 {
                    component[target] = start
                    open.append(target)
                }
            }
        }
        return component
    }
}
