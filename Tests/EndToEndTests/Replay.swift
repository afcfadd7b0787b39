import Foundation
import Testing
import WeirTesting

/// Reads a file of format `weir` back, event by event, into tables; a line that is out of order,
/// comes twice or does not fit what came before is an error.
struct Replay {
    private(set) var lastId = ""
    private(set) var count = 0
    /// Table, key as JSON, row.
    private(set) var tables: [String: [String: [String: Any]]] = [:]
    /// Events of each transaction, without the ledger's own.
    private(set) var eventsOfTransaction: [Int: Int] = [:]
    /// Transactions in the order of their ledger rows.
    private(set) var ledger: [(xid: Int, rows: Int)] = []
    private var openTransaction = 0
    private var closedTransactions: Set<Int> = []
    /// Each event as the format `debezium` shows it: operation, table, and the row's text.
    private(set) var debezium: [String] = []
    var wantsDebezium = false

    init(file: String, wantsDebezium: Bool = false) throws {
        self.wantsDebezium = wantsDebezium
        let data = try Data(contentsOf: URL(fileURLWithPath: file), options: .alwaysMapped)
        if let last = data.last, last != UInt8(ascii: "\n") {
            throw TestingError("\(file) ends inside a line")
        }
        for line in data.split(separator: UInt8(ascii: "\n")) {
            try apply(line)
        }
    }

    private mutating func apply(_ line: Data) throws {
        guard let event = try JSONSerialization.jsonObject(with: line) as? [String: Any],
            let id = event["id"] as? String, let operation = event["op"] as? String,
            let source = event["source"] as? [String: Any], let table = source["table"] as? String,
            let position = event["pos"] as? [String: Any], let xid = position["xid"] as? Int
        else { throw TestingError("no event: \(String(decoding: line, as: UTF8.self))") }
        guard id > lastId else { throw TestingError("\(id) follows \(lastId)") }
        lastId = id
        count += 1
        try begin(xid)
        let key = try Self.text(event["key"] ?? [:])
        let oldKey = try event["old_key"].map(Self.text)
        let before = tables[table]?[oldKey ?? key]
        guard (operation == "insert") == (before == nil) else {
            throw TestingError("\(id): \(operation), but the row is \(before.map(\.count) ?? 0)")
        }
        if let oldKey { tables[table]?[oldKey] = nil }
        if operation == "delete" {
            tables[table]?[key] = nil
        } else {
            guard var row = event["after"] as? [String: Any] else {
                throw TestingError("\(id) has no row")
            }
            for name in event["unchanged"] as? [String] ?? [] { row[name] = before?[name] }
            tables[table, default: [:]][key] = row
            if table == "ledger", let rows = row["rows"] as? Int { ledger.append((xid, rows)) }
        }
        if table != "ledger" { eventsOfTransaction[xid, default: 0] += 1 }
        if wantsDebezium { noteDebezium(operation, table, oldKey, event) }
    }

    /// Transactions are never mixed: the server sends each whole, in commit order.
    private mutating func begin(_ xid: Int) throws {
        guard xid != openTransaction else { return }
        closedTransactions.insert(openTransaction)
        if closedTransactions.contains(xid) { throw TestingError("transaction \(xid) comes twice") }
        openTransaction = xid
    }

    static func text(_ object: Any) throws -> String {
        String(
            decoding: try JSONSerialization.data(withJSONObject: object, options: .sortedKeys),
            as: UTF8.self)
    }

    // MARK: Compared with the database

    /// Every committed transaction once, whole, nothing else, and the same rows in the end.
    func expectComplete(_ database: TestDatabase) throws {
        let written = try database.sql("SELECT xid, rows FROM ledger ORDER BY id").split(
            separator: "\n"
        ).map { $0.split(separator: "|").compactMap { Int($0) } }
        let theirs = Dictionary(uniqueKeysWithValues: written.map { ($0[0], $0[1]) })
        let ours = Dictionary(ledger.map { ($0.xid, $0.rows) }) { first, _ in
            Issue.record("a transaction has two rows in the ledger")
            return first
        }
        #expect(theirs == ours, "every transaction of the ledger, and no other")
        for (xid, rows) in theirs where eventsOfTransaction[xid, default: 0] != rows {
            Issue.record(
                "transaction \(xid): \(eventsOfTransaction[xid, default: 0]) of \(rows) events")
        }
        for xid in eventsOfTransaction.keys where theirs[xid] == nil {
            Issue.record("transaction \(xid) was never committed")
        }
        for table in ["items", "stock", "notes", "ledger"] { try expectRows(of: table, database) }
    }

    private func expectRows(of table: String, _ database: TestDatabase) throws {
        let keyColumns = table == "stock" ? ["place", "item"] : ["id"]
        let ours = tables[table] ?? [:]
        var found = 0
        let text = try database.sql("SELECT row_to_json(t) FROM \(table) t")
        for line in text.split(separator: "\n") {
            let object = try JSONSerialization.jsonObject(with: Data(line.utf8))
            let row = try #require(object as? [String: Any])
            found += 1
            let key = try Self.text(row.filter { keyColumns.contains($0.key) })
            guard let mine = ours[key], NSDictionary(dictionary: mine).isEqual(to: row) else {
                let shown = try ours[key].map(Self.text) ?? "nothing"
                Issue.record("\(table) has \(line.prefix(300)), the file \(shown.prefix(300))")
                return
            }
        }
        #expect(ours.count == found, "rows of \(table)")
    }

    // MARK: The same events in another format

    private mutating func noteDebezium(
        _ operation: String, _ table: String, _ oldKey: String?, _ event: [String: Any]
    ) {
        switch operation {
        case "insert": debezium.append("c \(table)")
        case "update" where oldKey != nil: debezium += ["d \(table)", "null", "c \(table)"]
        case "update": debezium.append("u \(table)")
        case "delete": debezium += ["d \(table)", "null"]
        default: debezium.append("\(operation) \(table)")
        }
        let at = debezium.count - (operation == "delete" ? 2 : 1)
        let row = event[operation == "delete" ? "key" : "after"] as? [String: Any] ?? [:]
        debezium[at] += " " + Self.identifying(row)
    }

    /// The columns every image of a row has, unless it lies out of line.
    private static func identifying(_ row: [String: Any]) -> String {
        ["id", "place", "item"].compactMap { name in row[name].map { "\($0)" } }
            .joined(separator: ",")
    }

    /// A file of format `debezium`, told in the same words; tombstones are `null`.
    static func debezium(file: String) throws -> [String] {
        let data = try Data(contentsOf: URL(fileURLWithPath: file), options: .alwaysMapped)
        var records: [String] = []
        for line in data.split(separator: UInt8(ascii: "\n")) {
            if line.elementsEqual("null".utf8) {
                records.append("null")
                continue
            }
            guard let event = try JSONSerialization.jsonObject(with: line) as? [String: Any],
                let operation = event["op"] as? String,
                let source = event["source"] as? [String: Any],
                let table = source["table"] as? String
            else { throw TestingError("no record: \(String(decoding: line, as: UTF8.self))") }
            let row = event[operation == "d" ? "before" : "after"] as? [String: Any] ?? [:]
            records.append("\(operation) \(table) \(identifying(row))")
        }
        return records
    }
}
