import Foundation
import Glibc
import Testing
import WeirTesting

/// One pipeline of a configuration that copies from one PostgreSQL database to another.
struct CopyPipeline {
    var tables: [String]
    /// The fields of each sink as JSON, by its name; without "type" it writes to the target.
    var sinks: [String: String]
    /// Further fields of the source.
    var source: String

    init(
        _ tables: [String], sinks: [String: String] = PostgresCopy.plainSink, source: String = ""
    ) {
        self.tables = tables
        self.sinks = sinks
        self.source = source
    }

    fileprivate var text: String {
        let sinks = sinks.sorted { $0.key < $1.key }.map { name, fields in
            let connection = fields.contains("\"type\"") ? "" : "\"connection\": \"copy\", "
            return "\(quoted(name)): { \(connection)\(fields) }"
        }
        let tables = tables.map(quoted).joined(separator: ", ")
        return """
            {
              "source": { "connection": "db", "tables": [\(tables)]\(source) },
              "sinks": { \(sinks.joined(separator: ",\n")) }
            }
            """
    }
}

/// Two databases, and a Weir whose pipeline "shop" keeps tables of the second like those of the
/// first.
struct PostgresCopy: Sendable {
    let source: TestDatabase
    let target: TestDatabase
    let home: WeirHome

    /// A sink of every column of every table, under its own name.
    static let plainSink = ["copy": #""write": "table""#]

    /// - Parameters:
    ///   - source: for tests that stop its server, or run another version; else a fresh database.
    ///   - target: likewise.
    ///   - others: pipelines beside "shop".
    static func make(
        _ tables: [String], sinks: [String: String] = plainSink, source: TestDatabase? = nil,
        target: TestDatabase? = nil, others: [String: CopyPipeline] = [:]
    ) async throws -> PostgresCopy {
        // Making a database removes the slots of its server.
        var databases = [source, target]
        for index in databases.indices where databases[index] == nil {
            databases[index] = try await TestDatabase.make()
        }
        let made = databases.compactMap(\.self)
        let pipelines = others.merging(["shop": CopyPipeline(tables, sinks: sinks)]) { $1 }
        let home = try WeirHome { _ in configuration(made[0], made[1], pipelines) }
        return PostgresCopy(source: made[0], target: made[1], home: home)
    }

    static func configuration(
        _ source: TestDatabase, _ target: TestDatabase, _ pipelines: [String: CopyPipeline]
    ) -> String {
        let pipelines = pipelines.sorted { $0.key < $1.key }.map { "\(quoted($0)): \($1.text)" }
        return """
            {
              "connections": {
                "db": { "type": "postgres", "url": "\(source.url)" },
                "copy": { "type": "postgres", "url": "\(target.url)" }
              },
              "pipelines": { \(pipelines.joined(separator: ",\n")) }
            }
            """
    }

    /// Runs the same SQL in both databases.
    func both(_ sql: String) throws {
        try source.sql(sql)
        try target.sql(sql)
    }

    /// Runs SQL at the source and delivers what it changed.
    func deliver(_ sql: String) throws {
        try source.sql(sql)
        try home.once()
    }

    /// Runs a daemon beside `body`, ends it in order, and delivers what is left: then nothing is
    /// under way.
    func whileRunning(_ body: () async throws -> Void) async throws {
        let daemon = try home.run()
        try await home.untilStreaming()
        try await body()
        try await home.settle(daemon)
    }

    // MARK: Both sides

    /// Nil when both databases have the same rows, else how they differ.
    ///
    /// - Parameters:
    ///   - rows: what stands behind FROM: a table, or a query in parentheses.
    ///   - copy: the same of the target, where it is something else.
    func difference(_ rows: String, _ copy: String? = nil) throws -> String? {
        let expected = try source.digest(rows)
        let found = try target.digest(copy ?? rows)
        if found == expected { return nil }
        let (theirs, ours) = (try source.texts(rows), try target.texts(copy ?? rows))
        let missing = theirs.filter { $0.value > ours[$0.key, default: 0] }.keys.sorted()
        let surplus = ours.filter { $0.value > theirs[$0.key, default: 0] }.keys.sorted()
        return "\(rows) has \(expected), the copy \(found); \(missing.count) rows are missing, "
            + "such as \(missing.prefix(3)); \(surplus.count) are too many, such as "
            + "\(surplus.prefix(3))"
    }

    func expectEqual(
        _ rows: String, _ copy: String? = nil, at location: SourceLocation = #_sourceLocation
    ) throws {
        let text = try difference(rows, copy)
        #expect(text == nil, sourceLocation: location)
    }

    /// Waits until all of these have the same rows in both databases.
    func untilEqual(_ tables: String..., within limit: Duration = .seconds(20)) async throws {
        for table in tables { try await untilSame(table, within: limit) }
    }

    func untilSame(
        _ rows: String, _ copy: String? = nil, within limit: Duration = .seconds(20)
    ) async throws {
        var last: String?
        do {
            try await eventually(within: limit, "a copy equals \(rows)", poll: .milliseconds(20)) {
                do { last = try difference(rows, copy) } catch { last = "\(error)" }
                return last == nil
            }
        } catch {
            throw TestingError("\(error): \(last ?? "") \(home.logText().suffix(3000))")
        }
    }

    // MARK: Stops

    /// Starts, waits until the pipeline "shop" has stopped with this code, ends the daemon, and
    /// returns what `status --json` said.
    @discardableResult
    func expectStopped(_ code: String) async throws -> Status.Problem {
        let daemon = try home.run()
        let problem = try await untilStopped(code)
        daemon.signal(SIGTERM)
        #expect(try await daemon.wait() == .exited(0))
        return problem
    }

    /// Waits until the pipeline "shop" of a running daemon has stopped with this code.
    func untilStopped(_ code: String) async throws -> Status.Problem {
        let problem = try await home.untilProblem(code)
        try await eventually("it has stopped") {
            try home.status().pipeline("shop")?.state == "stopped"
        }
        #expect(home.logText().contains(code))
        return problem
    }
}

extension TestDatabase {
    /// How many rows there are, and a hash of them all as the server writes them.
    func digest(_ rows: String) throws -> String {
        try sql(
            """
            SELECT count(*) || ' ' || coalesce(
                md5(string_agg(x, E'\\n' ORDER BY x COLLATE "C")), '')
            FROM (SELECT whole::text AS x FROM \(rows) whole) AS texts
            """)
    }

    /// The beginnings of rows, on one line each, and how often there are such; not of all, where
    /// there are many.
    fileprivate func texts(_ rows: String) throws -> [String: Int] {
        let text = try sql(
            """
            SELECT replace(left(whole::text, 300), E'\\n', '\\n') || ' ' || md5(whole::text)
            FROM \(rows) whole ORDER BY 1 LIMIT 50000
            """)
        return Dictionary(text.split(separator: "\n").map { (String($0), 1) }, uniquingKeysWith: +)
    }

    /// The columns of a table with their types, in order; empty when there is no such table.
    func columns(of table: String) throws -> [String] {
        try sql(
            """
            SELECT attname || ' ' || format_type(atttypid, atttypmod) FROM pg_attribute
            WHERE attrelid = to_regclass('\(table)') AND attnum > 0 AND NOT attisdropped
            ORDER BY attnum
            """
        ).split(separator: "\n").map(String.init)
    }

    /// The definitions of a table's indexes.
    func indexes(of table: String) throws -> [String] {
        try sql(
            "SELECT pg_get_indexdef(indexrelid) FROM pg_index WHERE indrelid = '\(table)'::regclass"
        ).split(separator: "\n").map(String.init)
    }

    func count(_ rows: String) throws -> Int { try number("SELECT count(*) FROM \(rows)") }

    /// Where the pipeline "shop" stands, as the target knows it.
    func position(of sink: String = "copy", _ pipeline: String = "shop") throws -> String {
        try sql(
            """
            SELECT epoch || ' ' || position FROM public.weir_position
            WHERE pipeline = '\(pipeline)' AND sink = '\(sink)'
            """)
    }
}

/// A text as JSON.
func quoted(_ text: String) -> String {
    guard let data = try? JSONEncoder().encode(text) else { return "\"\"" }
    return String(decoding: data, as: UTF8.self)
}
