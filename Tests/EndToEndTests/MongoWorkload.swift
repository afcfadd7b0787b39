import Foundation
import Testing
import WeirTesting

/// Items of a catalogue, which keep images, and orders, which do not; a load on both, and what
/// copies of them are to hold.
enum MongoWorkload {
    static let collections = ["items", "orders"]

    static func install(in database: MongoDatabase) async throws {
        try await database.create("items", hasImages: true)
        try await database.create("orders")
    }

    /// One change, alone or of a transaction.
    fileprivate enum Step: Sendable {
        case put(_ collection: String, _ id: String, _ document: String)
        case update(_ collection: String, _ filter: String, _ change: String, MongoShell.Update)
        case delete(_ collection: String, _ filter: String)

        func take(in database: MongoDatabase, by shell: MongoShell) async throws {
            switch self {
            case .put(let collection, let id, let document):
                try await shell.update(
                    #"{"_id": \#(id)}"#, document, in: database.place(collection), .replacement,
                    upsert: true)
            case .update(let collection, let filter, let change, let kind):
                try await shell.update(filter, change, in: database.place(collection), kind)
            case .delete(let collection, let filter):
                try await shell.delete(filter, from: database.place(collection))
            }
        }
    }

    /// Makes up changes. Each writer has documents of its own, a few, and so often the same ones:
    /// an old value that comes late, or a document that stays, is likely to show.
    fileprivate struct Changes {
        let writer: Int
        private var random: SeededGenerator
        private var count = 0

        init(writer: Int, seed: UInt64) {
            self.writer = writer
            random = SeededGenerator(seed: seed)
        }

        mutating func number(_ range: Range<Int>) -> Int { Int.random(in: range, using: &random) }

        /// Numbers, and ObjectIds.
        private mutating func orderID() -> String {
            let number = number(0..<40)
            let hex = String(1000 * writer + number, radix: 16)
            return number.isMultiple(of: 2)
                ? "\(1000 * writer + number)"
                : #"{"$oid": "\#(String(repeating: "0", count: 24 - hex.count))\#(hex)"}"#
        }

        private mutating func item() -> Step {
            let id = #""w\#(writer)-\#(number(0..<40))""#
            count += 1
            var fields = [
                #""_id": \#(id), "writer": \#(writer), "n": \#(count)"#,
                #""at": {"$date": {"$numberLong": "\#(1_700_000_000_000 + count)"}}"#,
                #""sold": {"$numberLong": "\#(9_007_199_254_740_993 + count)"}"#,
                #""price": \#(count).25, "live": \#(count.isMultiple(of: 2)), "none": null"#,
            ]
            if number(0..<10) > 0 {
                fields.append(
                    #""name": {"en": "Tea \#(count)", "my": "လက်ဖက်ရည် \#(count) \"\\"}"#)
            }
            if number(0..<10) > 0 {
                fields.append(#""variants": [{"sku": "A", "stock": \#(number(0..<100))}, [1, []]]"#)
            }
            if number(0..<10) == 0 {
                fields.append(#""text": "\#(String(repeating: "ü", count: 2000))""#)
            }
            return .put("items", id, "{\(fields.joined(separator: ", "))}")
        }

        private mutating func order() -> Step {
            let id = orderID()
            count += 1
            return .put(
                "orders", id,
                #"{"_id": \#(id), "writer": \#(writer), "n": \#(count), "lines": [{"of": "A"}]}"#)
        }

        private mutating func single() -> Step {
            let item = #"{"_id": "w\#(writer)-\#(number(0..<40))"}"#
            let order = #"{"_id": \#(orderID())}"#
            count += 1
            return switch number(0..<100) {
            case ..<20: self.item()
            case ..<35: self.order()
            case ..<50:
                .update(
                    "items", item,
                    #"{"$set": {"name.en": "Tea \#(count)", "variants.0.stock": \#(count)}}"#, .one)
            case ..<55:
                .update(
                    "items", item, #"{"$unset": {"name": 1}, "$inc": {"n": 1}}"#, .one)
            case ..<75:
                .update(
                    "orders", order,
                    #"{"$inc": {"n": 1}, "$push": {"lines": {"of": "B\#(count)"}}}"#, .one)
            case ..<78:
                .update(
                    "orders", #"{"writer": \#(writer)}"#,
                    #"[{"$set": {"n": {"$add": ["$n", 1]}, "lines": []}}]"#, .many)
            case ..<88: .delete("items", item)
            default: .delete("orders", order)
            }
        }

        /// What is done at once, and whether it is taken back.
        mutating func next() -> (steps: [Step], isTransaction: Bool, isAborted: Bool) {
            guard number(0..<100) < 25 else { return ([single()], false, false) }
            var steps = (0..<number(2..<8)).map { _ in
                // Of many documents at once others would be in the way.
                while true {
                    let step = single()
                    if case .update(_, _, _, .many) = step { continue }
                    return step
                }
            }
            // One document twice in one transaction.
            steps += [item(), steps[0], order()]
            return (steps, true, number(0..<8) == 0)
        }
    }

    /// A client that changes documents until it is stopped.
    final class Writer: Sendable {
        private let task: Task<Int, Never>

        init(_ number: Int, in database: MongoDatabase, seed: UInt64, pause: Duration) throws {
            let shell = try database.replicas.shell()
            task = Task.detached {
                var changes = Changes(writer: number, seed: seed)
                var done = 0
                while !Task.isCancelled {
                    let (steps, isTransaction, isAborted) = changes.next()
                    do {
                        if isTransaction { try await shell.begin() }
                        for step in steps { try await step.take(in: database, by: shell) }
                        if isTransaction {
                            if isAborted {
                                try await shell.abort()
                            } else {
                                try await shell.commit()
                            }
                        }
                        done += 1
                    } catch {
                        // A server that steps down refuses some.
                        if isTransaction { try? await shell.abort() }
                    }
                    try? await Task.sleep(for: pause)
                }
                return done
            }
        }

        deinit { task.cancel() }

        /// Returns how much it has done.
        func stop() async -> Int {
            task.cancel()
            return await task.value
        }
    }

    static func writers(
        _ count: Int, in database: MongoDatabase, _ random: inout SeededRandom,
        pause: Duration = .milliseconds(3)
    ) throws -> [Writer] {
        try (1...count).map { try Writer($0, in: database, seed: random.next(), pause: pause) }
    }

    // MARK: Copies of it

    /// Sinks of both collections: a table, and caches of each.
    static func sinks(_ database: MongoDatabase) -> [String: String] {
        [
            "copy": """
            "connection": "copy", "write": "table", "table": "copy.{table}",
            "documents": "canonical", "columns": {
              "id": "_id", "english": "name.en", "burmese": "name.my",
              "stock": "variants.0.stock", "document": "$"
            }
            """,
            "items": """
            "connection": "cache", "write": "json", "key": "item:{_id}",
            "tables": \(database.places("items"))
            """,
            "orders": """
            "connection": "cache", "write": "json", "key": "order:{_id}",
            "tables": \(database.places("orders"))
            """,
        ]
    }

    /// Nil when the table has exactly the documents of the collection.
    static func difference(
        _ target: TestDatabase, _ collection: String, of database: MongoDatabase
    ) async throws -> String? {
        let rows = try await database.shell.find(in: database.place(collection)).map { text in
            let document = try CanonicalDocument(text)
            let cells = ["_id", "name.en", "name.my", "variants.0.stock"].map(document.text)
            let literals = (cells + [text]).map { $0.map(literal) ?? "NULL" }
            return "(\(literals.joined(separator: ", ")))"
        }
        let values = rows.joined(separator: ",")
        let text = try target.sql(
            """
            CREATE TEMP TABLE expected (
                id text, english text, burmese text, stock text, document jsonb);
            \(rows.isEmpty ? "" : "INSERT INTO expected VALUES \(values);")
            SELECT 'missing', * FROM (
                TABLE expected EXCEPT ALL
                SELECT id, english, burmese, stock, document FROM copy.\(collection)) x
            UNION ALL SELECT 'too many', * FROM (
                SELECT id, english, burmese, stock, document FROM copy.\(collection)
                EXCEPT ALL TABLE expected) x
            ORDER BY 2 LIMIT 6
            """)
        return text.isEmpty ? nil : "\(collection) of \(rows.count): \(text.prefix(3000))"
    }

    private static func literal(_ text: String) -> String {
        "'\(text.replacing("'", with: "''"))'"
    }

    /// Nil when the cache has exactly the documents of the collection.
    static func difference(
        _ redis: RedisServer, _ prefix: String, _ collection: String, of database: MongoDatabase
    ) async throws -> String? {
        let found = try redis.contents().values(prefix).mapValues {
            try sorted(relaxed(JSONSerialization.jsonObject(with: Data($0))))
        }
        var expected: [Bytes: Bytes] = [:]
        for text in try await database.shell.find(in: database.place(collection)) {
            let document = try CanonicalDocument(text)
            let key = Bytes("\(prefix)\(document.text("_id") ?? "")".utf8)
            expected[key] = try sorted(relaxed(document.root))
        }
        return EndToEndTests.difference(found, expected)
    }

    private static func sorted(_ value: Any) throws -> Bytes {
        Bytes(try JSONSerialization.data(withJSONObject: value, options: [.sortedKeys]))
    }

    /// Takes canonical or relaxed Extended JSON. Numbers come out as numbers, and dates as
    /// milliseconds.
    private static func relaxed(_ value: Any) -> Any {
        if let list = value as? [Any] { return list.map(relaxed) }
        guard let members = value as? [String: Any] else { return value }
        if members.count == 1, let (name, inner) = members.first {
            let text = inner as? String ?? ""
            switch name {
            case "$numberInt", "$numberLong": return Int(text) ?? text
            case "$numberDouble": return Double(text) ?? text
            case "$date":
                let style = Date.ISO8601FormatStyle(includingFractionalSeconds: true)
                let plain = Date.ISO8601FormatStyle()
                if let date = (try? style.parse(text)) ?? (try? plain.parse(text)) {
                    return ["$date": Int((date.timeIntervalSince1970 * 1000).rounded())]
                }
            default: break
            }
        }
        return members.mapValues(relaxed)
    }
}

/// A document as the server's own canonical Extended JSON.
struct CanonicalDocument {
    let root: [String: Any]

    init(_ text: String) throws {
        guard
            let root = try JSONSerialization.jsonObject(with: Data(text.utf8)) as? [String: Any]
        else { throw TestingError("no document: \(text)") }
        self.root = root
    }

    /// What a path leads to, as plain text; nil for nothing, null, and what is no text, number or
    /// ObjectId.
    func text(_ path: String) -> String? {
        var value: Any? = root
        for part in path.split(separator: ".") {
            if let list = value as? [Any] {
                value = Int(part).flatMap { list.indices.contains($0) ? list[$0] : nil }
            } else {
                value = (value as? [String: Any])?[String(part)]
            }
        }
        if let text = value as? String { return text }
        guard let members = value as? [String: Any] else { return nil }
        return ["$numberInt", "$numberLong", "$numberDouble", "$oid"].lazy
            .compactMap { members[$0] as? String }.first
    }
}
