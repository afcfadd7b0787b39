import Foundation
import Testing
import WeirTesting

typealias Bytes = [UInt8]

/// What one database of a Redis server holds, told apart as the sink lays it out.
struct CacheContents {
    /// Strings, by key.
    var values: [Bytes: Bytes] = [:]
    /// Keys of other types.
    var others: Set<Bytes> = []
    /// Versions beside values, by the value's key; `!` at the end stands for a deleted one.
    var versions: [Bytes: String] = [:]
    /// Of each pipeline and sink, such as `shop/cache`.
    var markers: Set<String> = []

    /// The keys that one sink's template can make.
    func values(_ prefix: String) -> [Bytes: Bytes] {
        values.filter { $0.key.starts(with: prefix.utf8) }
    }
}

extension RedisServer {
    /// Everything in database 0.
    func contents() throws -> CacheContents {
        var found = CacheContents()
        guard case .array(let keys) = try command("KEYS", "*") else { return found }
        let names = keys.compactMap { if case .bulk(let bytes) = $0 { bytes } else { nil } }
        if names.isEmpty { return found }
        guard case .array(let values) = try command([Bytes("MGET".utf8)] + names) else {
            throw TestingError("MGET was not answered by values")
        }
        for (key, value) in zip(names, values) {
            guard case .bulk(let bytes) = value else {
                found.others.insert(key)
                continue
            }
            if key.suffix(2) == Bytes(":v".utf8)[...] {
                let text = String(decoding: bytes, as: UTF8.self)
                // Braces make the hash tag, unless the key has one.
                let isBraced = key.first == UInt8(ascii: "{")
                let name = isBraced ? key.dropFirst().dropLast(3) : key.dropLast(2)
                found.versions[Bytes(name)] = text
            } else if key.starts(with: "weir:{".utf8) {
                let name = key.dropFirst(6).prefix { $0 != UInt8(ascii: "}") }
                found.markers.insert(String(decoding: name, as: UTF8.self))
            } else {
                found.values[key] = bytes
            }
        }
        return found
    }

    /// Hashes whose keys begin with `prefix`.
    func hashes(_ prefix: String) throws -> [Bytes: [String: Bytes]] {
        var found: [Bytes: [String: Bytes]] = [:]
        for key in try contents().others where key.starts(with: prefix.utf8) {
            guard case .array(let parts) = try command([Bytes("HGETALL".utf8), key]) else {
                continue
            }
            var fields: [String: Bytes] = [:]
            for index in stride(from: 0, to: parts.count, by: 2) {
                guard let name = parts[index].text, case .bulk(let value) = parts[index + 1] else {
                    continue
                }
                fields[name] = value
            }
            found[key] = fields
        }
        return found
    }

    /// Milliseconds a key still lives; -1 for ever, -2 without such a key.
    func life(of key: String) throws -> Int {
        guard case .integer(let life) = try command("PTTL", key) else {
            throw TestingError("PTTL was not answered by a number")
        }
        return life
    }

    func text(_ key: String) throws -> String? {
        try get(key).map { String(decoding: $0, as: UTF8.self) }
    }
}

extension TestDatabase {
    /// The rows of `source` as keys and values: two SQL expressions, their bytes as they are.
    func pairs(_ key: String, _ value: String, from source: String) throws -> [Bytes: Bytes] {
        // Base64 comes in lines.
        let columns = [key, value].map {
            "translate(encode(convert_to((\($0))::text, 'UTF8'), 'base64'), E'\\n', '')"
        }
        var pairs: [Bytes: Bytes] = [:]
        let text = try sql("SELECT \(columns.joined(separator: ", ")) FROM \(source)")
        for line in text.split(separator: "\n") {
            let cells = line.split(separator: "|", omittingEmptySubsequences: false).map {
                Data(base64Encoded: String($0)).map(Bytes.init)
            }
            guard cells.count == 2, let key = cells[0], let value = cells[1] else {
                throw TestingError("not a key and a value: \(line.prefix(200))")
            }
            pairs[key] = value
        }
        return pairs
    }

    /// What a sink of write "json" is to hold of a table: the server's own JSON.
    func jsonRows(_ table: String, key: String) throws -> [Bytes: Bytes] {
        try pairs(key, "row_to_json(t)", from: "\(table) t")
    }
}

/// Nil when both are the same, else how many differ, and the first of them.
func difference<Value: Equatable>(
    _ found: [Bytes: Value], _ expected: [Bytes: Value]
) -> String? {
    let missing = expected.keys.filter { found[$0] == nil }
    let surplus = found.keys.filter { expected[$0] == nil }
    let other = expected.keys.filter { found[$0] != nil && found[$0] != expected[$0] }
    if missing.isEmpty, surplus.isEmpty, other.isEmpty { return nil }
    func first(_ keys: [Bytes]) -> String {
        keys.first.map { " (\(String(decoding: $0, as: UTF8.self)))" } ?? ""
    }
    let example = other.first.map { key in
        "; found \(shown(found[key])), expected \(shown(expected[key]))"
    }
    return "of \(expected.count) keys \(missing.count) are missing\(first(missing)), "
        + "\(surplus.count) are too many\(first(surplus)), "
        + "\(other.count) differ\(first(other))\(example ?? "")"
}

private func shown(_ value: Any?) -> String {
    guard let bytes = value as? Bytes else { return "\(value as Any)" }
    return String(decoding: bytes.prefix(500), as: UTF8.self)
}

extension WeirHome {
    /// A pipeline "shop" from `tables` to sinks of one Redis server, each given by its fields as
    /// JSON; where asked for, beside it a pipeline "filed" that writes the same to `output`.
    convenience init(
        _ database: TestDatabase, cache url: String, tables: [String], sinks: [String: String],
        hasFile: Bool = false
    ) throws {
        let made = sinks.sorted { $0.key < $1.key }.map { name, fields in
            "\"\(name)\": { \"connection\": \"cache\", \(fields) }"
        }
        try self.init { home in
            let filed = """
                , "filed": {
                  "source": { "connection": "db", "tables": \(json(tables)) },
                  "sinks": { "file": { "type": "file", "path": "\(home.output)" } }
                }
                """
            return """
                {
                  "connections": {
                    "db": { "type": "postgres", "url": "\(database.url)" },
                    "cache": { "type": "redis", "url": "\(url)" }
                  },
                  "pipelines": {
                    "shop": {
                      "source": { "connection": "db", "tables": \(json(tables)) },
                      "sinks": { \(made.joined(separator: ",\n")) }
                    }\(hasFile ? filed : "")
                  }
                }
                """
        }
    }

    /// Ends the daemon in order, then delivers what it had not read: now nothing is under way.
    func settle(_ daemon: ChildProcess) async throws {
        daemon.signal(SIGTERM)
        #expect(try await daemon.wait() == .exited(0))
        try once()
    }

    /// Delivers everything there is and ends.
    func once() throws {
        let end = try weir("run", "--once")
        guard end.code == 0 else { throw TestingError("run --once: \(end.code) \(end.err)") }
    }

    /// What `status` knows of the pipeline "shop", whether or not a daemon runs.
    func figures() throws -> PipelineFigures {
        let decoder = JSONDecoder()
        decoder.keyDecodingStrategy = .convertFromSnakeCase
        let report = try decoder.decode(
            Figures.self, from: Data(weir("status", "--json").out.utf8))
        guard let shop = report.pipelines.first(where: { $0.name == "shop" }) else {
            throw TestingError("there is no pipeline \"shop\"")
        }
        return shop
    }

    /// Waits until the pipeline "shop" has this problem, and returns what is said of it.
    func untilProblem(_ code: String) async throws -> Status.Problem {
        var found: Status.Problem?
        do {
            try await eventually(within: .seconds(30), "the problem \(code)") {
                found = try? status().pipeline("shop")?.problems.first { $0.code == code }
                return found != nil
            }
        } catch {
            throw TestingError("\(error): \(logText().suffix(2000))")
        }
        guard let found else { throw TestingError("no problem \(code)") }
        return found
    }

    /// The cell under QUEUED in the table of `weir status`.
    func queuedShown(_ pipeline: String = "shop") throws -> String {
        let table = try weir("status").out.split(separator: "\n")
        guard let header = table.first(where: { $0.hasPrefix("PIPELINE") }),
            let row = table.first(where: { $0.hasPrefix("\(pipeline) ") }),
            let column = header.firstRange(of: "QUEUED")?.upperBound
        else { throw TestingError("no such row: \(table)") }
        let width = header.distance(from: header.startIndex, to: column)
        return String(row.prefix(width).split(separator: " ").last ?? "")
    }
}

private struct Figures: Decodable {
    let pipelines: [PipelineFigures]
}

/// What tests of caches read of one pipeline in `weir status --json`.
struct PipelineFigures: Decodable {
    let name: String
    let state: String
    /// Counts are nil while the daemon is down.
    let queuedEvents: Int?
    let sinks: [Sink]
    let errors: [Failure]

    struct Sink: Decodable {
        let name: String
        let delivered: Int?
        let filtered: Int?
        let late: Int?
        let retries: Int?
        let queuedEvents: Int?
    }

    struct Failure: Decodable {
        let component: String
        let code: String
        let count: Int
    }

    /// How often a failure was recorded in the last 24 hours.
    func count(of code: String) -> Int {
        errors.filter { $0.code == code }.reduce(0) { $0 + $1.count }
    }
}
