import Synchronization
package import WeirCore

/// Which tables the pipelines of this process read and write, by the objects that the servers know
/// them as: the configuration compares names, and one table's rows may be written under the name of
/// its partition, over a connection whose address looks like another server's.
///
/// Sources and sinks enter themselves once they are open; whoever comes last sees the loop.
package final class TableFlows: Sendable {
    package static let shared = TableFlows()

    /// A table of a running server.
    package struct Place: Hashable, Sendable {
        private let database: String
        package let table: UInt32

        package init(_ instance: ServerInstance, _ table: UInt32) {
            database = instance.runningDatabase
            self.table = table
        }
    }

    private struct Reader {
        /// By the followed table: itself, what it is a part of, and its parts.
        let families: [TableName: Set<Place>]
        let filter: OriginFilter
    }

    private struct Writer {
        let pipeline: String
        let sink: String
        /// By the source's table.
        let targets: [TableName: (name: TableName, place: Place)]
        let origin: String?
    }

    private struct State {
        var readers: [String: Reader] = [:]
        var writers: [String: Writer] = [:]
    }

    private let state = Mutex(State())

    package init() {}

    package func enter(
        reader pipeline: String, _ families: [TableName: Set<Place>],
        leavingOut filter: OriginFilter
    ) {
        state.withLock { $0.readers[pipeline] = Reader(families: families, filter: filter) }
    }

    package func enter(
        writer sink: String, of pipeline: String,
        _ targets: [TableName: (name: TableName, place: Place)], origin: String?
    ) {
        let writer = Writer(pipeline: pipeline, sink: sink, targets: targets, origin: origin)
        state.withLock { $0.writers["\(pipeline)/\(sink)"] = writer }
    }

    /// Nothing of this sink comes back any more.
    package func leave(writer sink: String, of pipeline: String) {
        state.withLock { $0.writers["\(pipeline)/\(sink)"] = nil }
    }

    /// What a sink writes, a source reads and brings back to where it began, without leaving it
    /// out.
    package struct Echo: Sendable, Equatable {
        package let target: TableName
        /// Under which name which pipeline's source reads it.
        package let table: TableName
        package let reader: String
        package let filter: OriginFilter
        package let writer: (pipeline: String, sink: String, origin: String?)

        package static func == (left: Echo, right: Echo) -> Bool {
            left.target == right.target && left.table == right.table && left.reader == right.reader
        }
    }

    private struct Node: Hashable {
        let pipeline: String
        let table: TableName
    }

    private struct Step {
        let from: Node
        let to: Node
        let echo: Echo
        let isCut: Bool
    }

    /// The steps of loops that a sink is part of and that nothing cuts.
    ///
    /// - Complexity: O(tables of all pipelines, squared), once for each start of a sink.
    package func echoes(of sink: String, in pipeline: String) -> [Echo] {
        let steps = Self.steps(state.withLock { $0 })
        var next: [Node: [Int]] = [:]
        for (index, step) in steps.enumerated() { next[step.from, default: []].append(index) }
        func reachable(from start: Node) -> Set<Node> {
            var seen: Set<Node> = [start]
            var open = [start]
            while let node = open.popLast() {
                for index in next[node] ?? [] where seen.insert(steps[index].to).inserted {
                    open.append(steps[index].to)
                }
            }
            return seen
        }
        var found: [Echo] = []
        for own in steps where own.echo.writer.pipeline == pipeline && own.echo.writer.sink == sink
        {
            let ahead = reachable(from: own.to)
            guard ahead.contains(own.from) else { continue }
            // Every step of the loop must be cut, else each change comes through once more.
            for step in steps where !step.isCut && ahead.contains(step.from) {
                guard reachable(from: step.to).contains(own.from), !found.contains(step.echo)
                else { continue }
                found.append(step.echo)
            }
        }
        return found
    }

    private static func steps(_ state: State) -> [Step] {
        var readersOf: [Place: [(Node, OriginFilter)]] = [:]
        for (pipeline, reader) in state.readers.sorted(by: { $0.key < $1.key }) {
            for (table, family) in reader.families.sorted(by: { $0.key < $1.key }) {
                let node = Node(pipeline: pipeline, table: table)
                for place in family { readersOf[place, default: []].append((node, reader.filter)) }
            }
        }
        return state.writers.sorted { $0.key < $1.key }.flatMap { _, writer in
            writer.targets.sorted { $0.key < $1.key }.flatMap { source, target in
                (readersOf[target.place] ?? []).map { node, filter in
                    Step(
                        from: Node(pipeline: writer.pipeline, table: source), to: node,
                        echo: Echo(
                            target: target.name, table: node.table, reader: node.pipeline,
                            filter: filter,
                            writer: (writer.pipeline, writer.sink, writer.origin)),
                        isCut: filter.leavesOut(writer.origin))
                }
            }
        }
    }

    /// The tables of these names, each with all that it is a part of and all its parts: schema,
    /// name, number of one of them.
    package static func familiesQuery(_ tables: [TableName]) -> String {
        let names = tables.map {
            "(\(PostgresConnection.literal($0.schema)), \(PostgresConnection.literal($0.name)))"
        }
        return """
            SELECT n.nspname, c.relname, f.oid FROM pg_catalog.pg_class c \
            JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace CROSS JOIN LATERAL (\
            WITH RECURSIVE above AS (SELECT c.oid UNION SELECT h.inhparent \
            FROM above JOIN pg_catalog.pg_inherits h ON h.inhrelid = above.oid), \
            below AS (SELECT c.oid UNION SELECT h.inhrelid \
            FROM below JOIN pg_catalog.pg_inherits h ON h.inhparent = below.oid) \
            TABLE above UNION TABLE below) f \
            WHERE (n.nspname, c.relname) IN (\(names.joined(separator: ", ")))
            """
    }
}
