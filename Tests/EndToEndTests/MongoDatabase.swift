import Foundation
import Testing
import WeirTesting

/// The replica set that tests share, each with a database of its own.
actor SharedReplicaSet {
    static let shared = SharedReplicaSet()

    private var starting: Task<MongoReplicaSet, any Error>?
    private var databases = 0

    func makeDatabase() async throws -> MongoDatabase {
        let task = starting ?? Task { try await MongoReplicaSet.start() }
        starting = task
        databases += 1
        return try MongoDatabase(await task.value, name: "e2e_\(databases)")
    }
}

/// One database of a replica set.
struct MongoDatabase: Sendable {
    let replicas: MongoReplicaSet
    let name: String
    let shell: MongoShell

    init(_ replicas: MongoReplicaSet, name: String) throws {
        self.replicas = replicas
        self.name = name
        shell = try replicas.shell()
    }

    /// A fresh database of the shared set.
    static func make() async throws -> MongoDatabase {
        try await SharedReplicaSet.shared.makeDatabase()
    }

    /// A database of a set of the test's own.
    static func alone(
        _ options: MongoServer.Options = MongoServer.Options()
    ) async throws -> MongoDatabase {
        try MongoDatabase(await MongoReplicaSet.start(options), name: "shop")
    }

    /// For a connection of a configuration.
    var url: String { replicas.url() }

    /// `database.collection`.
    func place(_ collection: String) -> String { "\(name).\(collection)" }

    func places(_ collections: String...) -> String { json(collections.map(place)) }

    /// - Parameter hasImages: whether it keeps documents as they were before and after changes.
    func create(_ collection: String, hasImages: Bool = false) async throws {
        try await shell.run(
            """
            {"create": "\(collection)",
            "changeStreamPreAndPostImages": {"enabled": \(hasImages)}}
            """, database: name)
    }

    /// Inserts `{"_id": …, "v": "x"}`, each in an operation of its own.
    func insert(_ ids: ClosedRange<Int>, into collection: String = "items") async throws {
        for id in ids {
            try await shell.insert(#"{"_id": \#(id), "v": "x"}"#, into: place(collection))
        }
    }

    /// Inserts as many of them at once.
    func insertAtOnce(_ ids: ClosedRange<Int>, into collection: String = "items") async throws {
        try await shell.insert(count: ids.count, into: place(collection)) { [ids] index in
            #"{"_id": \#(ids.lowerBound + index), "v": "x"}"#
        }
    }

    @discardableResult
    func update(_ id: Int, _ change: String, in collection: String = "items") async throws -> Int {
        try await shell.update(#"{"_id": \#(id)}"#, change, in: place(collection))
    }

    /// The server's time: everything that was written before is not behind it.
    func now() async throws -> ClusterMoment {
        struct Reply: Decodable { let operationTime: ClusterMoment }
        let text = try await shell.run(#"{"ping": 1}"#)
        return try JSONDecoder().decode(Reply.self, from: Data(text.utf8)).operationTime
    }

    /// The tokens of all that happened to collections behind `start`, as the server's own change
    /// stream tells them.
    func tokens(of collections: [String], behind start: ClusterMoment) async throws -> [String] {
        struct Reply: Decodable { let cursor: Cursor }
        struct Cursor: Decodable { let firstBatch: [Event] }
        struct Event: Decodable { let _id: Token }
        struct Token: Decodable { let _data: String }
        let text = try await shell.run(
            """
            {"aggregate": 1, "cursor": {"batchSize": 1000000}, "pipeline": [
                {"$changeStream": {"startAtOperationTime": \(start.next.json)}},
                {"$match": {"ns.coll": {"$in": \(EndToEndTests.json(collections))}}},
                {"$project": {"_id": 1}}]}
            """, database: name)
        return try JSONDecoder().decode(Reply.self, from: Data(text.utf8))
            .cursor.firstBatch.map(\._id._data)
    }
}

/// A cluster time: seconds since 1970, and a count within the second.
struct ClusterMoment: Comparable, Decodable, CustomStringConvertible {
    let seconds: UInt32
    let increment: UInt32

    init(seconds: UInt32, increment: UInt32) {
        self.seconds = seconds
        self.increment = increment
    }

    /// From Extended JSON.
    init(from decoder: any Decoder) throws {
        struct Wrapped: Decodable {
            struct Parts: Decodable { let t, i: UInt32 }
            enum CodingKeys: String, CodingKey { case timestamp = "$timestamp" }
            let timestamp: Parts
        }
        let parts = try Wrapped(from: decoder).timestamp
        self.init(seconds: parts.t, increment: parts.i)
    }

    /// As `weir position show` writes it; nil when the text is something else.
    init?(_ text: String) {
        let parts = text.split(separator: ".").compactMap { UInt32($0) }
        guard parts.count == 2 else { return nil }
        self.init(seconds: parts[0], increment: parts[1])
    }

    var description: String { "\(seconds).\(increment)" }
    var json: String { #"{"$timestamp": {"t": \#(seconds), "i": \#(increment)}}"# }
    var next: ClusterMoment { ClusterMoment(seconds: seconds, increment: increment + 1) }

    static func < (left: ClusterMoment, right: ClusterMoment) -> Bool {
        (left.seconds, left.increment) < (right.seconds, right.increment)
    }
}

// MARK: Weir beside it

extension WeirHome {
    /// A pipeline "shop" that writes collections to `output`.
    convenience init(_ database: MongoDatabase, collections: [String] = ["items"]) throws {
        try self.init { home in
            Self.configuration(
                ["cms": database.url],
                [
                    "shop": Self.filed(
                        "cms", #""collections": \#(json(collections.map(database.place)))"#,
                        home.output)
                ])
        }
    }

    /// - Parameters:
    ///   - urls: of the MongoDB connections, by name.
    ///   - pipelines: as JSON, by name.
    ///   - others: further connections, as JSON with their names.
    static func configuration(
        _ urls: [String: String], _ pipelines: [String: String], others: String = ""
    ) -> String {
        let connections = urls.sorted { $0.key < $1.key }.map { name, url in
            #""\#(name)": { "type": "mongodb", "url": "\#(url)" }"#
        }
        let pipelines = pipelines.sorted { $0.key < $1.key }.map { "\"\($0)\": \($1)" }
        return """
            {
              "connections": {
                \((connections + [others].filter { !$0.isEmpty }).joined(separator: ",\n"))
              },
              "pipelines": { \(pipelines.joined(separator: ",\n")) }
            }
            """
    }

    /// A pipeline with one sink, a file.
    ///
    /// - Parameter source: further keys of the source.
    static func filed(_ connection: String, _ source: String, _ path: String) -> String {
        let source = source.isEmpty ? "" : ", \(source)"
        return """
            {
              "source": { "connection": "\(connection)"\(source) },
              "sinks": { "file": { "type": "file", "path": "\(path)" } }
            }
            """
    }

    /// Where a sink of a pipeline stands; nil before the first start.
    func moment(of sink: String = "file", _ pipeline: String = "shop") throws -> ClusterMoment? {
        try positions(of: pipeline)[sink].flatMap { ClusterMoment($0.position) }
    }

    /// Ends a daemon in order.
    func stop(_ daemon: ChildProcess) async throws {
        daemon.signal(SIGTERM)
        #expect(try await daemon.wait() == .exited(0))
    }

    /// What the state store says was skipped: pipelines and reasons.
    func gaps() throws -> [String] {
        let script = """
            import sqlite3, sys
            for row in sqlite3.connect(sys.argv[1]).execute('SELECT pipeline, message FROM gap'):
                print(*row)
            """
        let answer = try runProcess("python3", ["-c", script, stateDirectory + "/state.sqlite"])
        guard answer.status == .exited(0) else { throw TestingError(answer.stderr) }
        return answer.stdout.split(separator: "\n").map(String.init)
    }

    /// What `status --json` says of one pipeline's source, whether or not a daemon runs.
    func facts(_ pipeline: String = "shop") throws -> PipelineFacts {
        let decoder = JSONDecoder()
        decoder.keyDecodingStrategy = .convertFromSnakeCase
        let report = try decoder.decode(
            FactsReport.self, from: Data(weir("status", "--json").out.utf8))
        guard let found = report.pipelines.first(where: { $0.name == pipeline }) else {
            throw TestingError("there is no pipeline \"\(pipeline)\"")
        }
        return found
    }

    /// Everything Weir wrote into its state directory, and its log.
    func everythingWritten() throws -> String {
        try FileManager.default.subpathsOfDirectory(atPath: stateDirectory).reduce(logText()) {
            let data = try? Data(contentsOf: URL(fileURLWithPath: stateDirectory + "/" + $1))
            return $0 + (data.map { String(decoding: $0, as: UTF8.self) } ?? "")
        }
    }
}

private struct FactsReport: Decodable {
    let pipelines: [PipelineFacts]
}

/// What tests of MongoDB read of one pipeline in `weir status --json`.
struct PipelineFacts: Decodable {
    let name: String
    let state: String
    let lagSeconds: Double?
    let source: Source
    let problems: [Problem]

    struct Source: Decodable {
        let server: String
        let retention: Retention?
    }

    struct Retention: Decodable {
        let name: String
        let active: Bool
        let status: String
        let head: String?
        let confirmed: String?
        let windowSeconds: Double?
        let headroomSeconds: Double?
    }

    struct Problem: Decodable {
        let component: String
        let code: String
        let message: String
        let hint: String?
        let attempt: Int?
    }
}

/// What tests read of a line in the format `weir`.
struct DocumentLine: Decodable {
    let id: String
    let op: String
    let pos: Place
    let late: Bool?

    struct Place: Decodable {
        let clusterTime: Time
        let token: String
        let txn: String?
    }

    struct Time: Decodable {
        let t, i: UInt32
    }

    var moment: ClusterMoment {
        ClusterMoment(seconds: pos.clusterTime.t, increment: pos.clusterTime.i)
    }

    static func all(of path: String) throws -> [DocumentLine] {
        let decoder = JSONDecoder()
        decoder.keyDecodingStrategy = .convertFromSnakeCase
        return try lines(of: path).map { try decoder.decode(Self.self, from: Data($0.utf8)) }
    }
}

/// The `_id`s of a file's lines, as whole numbers; -1 for others.
func documentIDs(_ path: String) throws -> [Int] {
    struct Line: Decodable {
        struct Key: Decodable { let _id: Int? }
        let key: Key?
    }
    return try lines(of: path).map {
        try JSONDecoder().decode(Line.self, from: Data($0.utf8)).key?._id ?? -1
    }
}

/// The tokens of a file's lines, of which it has one each.
func documentTokens(_ path: String) throws -> [String] {
    try lines(of: path).map { line in
        guard let id = line.firstMatch(of: /^{"id":"mg:[a-z]+:([0-9A-F]+)"/) else {
            throw TestingError("no id of MongoDB: \(line.prefix(100))")
        }
        return String(id.1)
    }
}
