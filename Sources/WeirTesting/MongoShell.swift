import Foundation

/// A client for tests: documents go in as Extended JSON or as BSON bytes, and come out as canonical
/// Extended JSON or as BSON bytes. Collections are named `database.collection`.
///
/// It does one thing at a time, on a thread of its own. While a transaction is open, everything
/// the shell does belongs to it.
package actor MongoShell {
    /// What the server or the client library refused.
    package struct Failure: Error, CustomStringConvertible {
        /// The server's code, such as 11000, or the client library's.
        package let code: Int
        package let isFromServer: Bool
        package let labels: [String]
        package let message: String

        package var description: String {
            "\(message) (\(isFromServer ? "server" : "client") code \(code)\(labelText))"
        }

        private var labelText: String {
            labels.isEmpty ? "" : ", \(labels.joined(separator: ", "))"
        }
    }

    /// What an update changes, and whether its second document is a replacement.
    package enum Update: Sendable {
        case one
        case many
        case replacement
    }

    private let client: MongoClient
    private let executor = BlockingExecutor()

    package nonisolated var unownedExecutor: UnownedSerialExecutor {
        unsafe executor.asUnownedSerialExecutor()
    }

    /// How many generated documents one command inserts.
    private static let bulkCount = 1000

    /// Connects when it is first asked something. A missing primary is waited for, 20 s unless the
    /// URL has `serverSelectionTimeoutMS`.
    package init(_ url: String) throws {
        client = try MongoClient(url)
    }

    /// Runs a command on the primary, or on the only server of the URL, and returns the reply.
    @discardableResult
    package func run(_ command: String, database: String = "admin") throws -> String {
        try client.run(BSONDocument(json: command), database: database)
    }

    /// Documents without an `_id` get one.
    package func insert(_ documents: String..., into collection: String) throws {
        try insert(documents, into: collection)
    }

    package func insert(_ documents: [String], into collection: String) throws {
        try client.insert(documents.map { try BSONDocument(json: $0) }, into: collection)
    }

    /// Inserts documents no check has seen: keys may occur twice, texts need not be UTF-8.
    package func insert(bson documents: [[UInt8]], into collection: String) throws {
        try client.insert(documents.map { try BSONDocument(bytes: $0) }, into: collection)
    }

    /// Inserts `count` documents, each made from its index, a thousand per command.
    package func insert(
        count: Int, into collection: String, json document: @Sendable (Int) -> String
    ) throws {
        try insert(count, into: collection) { try BSONDocument(json: document($0)) }
    }

    /// As the one above, with documents as bytes.
    package func insert(
        count: Int, into collection: String, bson document: @Sendable (Int) -> [UInt8]
    ) throws {
        try insert(count, into: collection) { try BSONDocument(bytes: document($0)) }
    }

    private func insert(
        _ count: Int, into collection: String, document: (Int) throws -> BSONDocument
    ) throws {
        for start in stride(from: 0, to: count, by: Self.bulkCount) {
            let range = start..<min(count, start + Self.bulkCount)
            try client.insert(range.map(document), into: collection)
        }
    }

    /// Returns how many documents the filter matched, or 1 when one was inserted.
    ///
    /// - Parameter change: operators, an array of pipeline stages, or, for `.replacement`, the new
    ///   document.
    @discardableResult
    package func update(
        _ filter: String, _ change: String, in collection: String, _ kind: Update = .one,
        upsert: Bool = false
    ) throws -> Int {
        let reply = try client.update(
            BSONDocument(json: filter), BSONDocument(json: change), in: collection, upsert: upsert,
            kind: kind)
        return try number("upsertedCount", in: reply) + number("matchedCount", in: reply)
    }

    /// Returns how many documents were deleted.
    @discardableResult
    package func delete(
        _ filter: String, from collection: String, many: Bool = false
    ) throws -> Int {
        let reply = try client.delete(BSONDocument(json: filter), from: collection, many: many)
        return try number("deletedCount", in: reply)
    }

    /// Throws when a document has a text that is not UTF-8; see `findBSON`.
    package func find(
        _ filter: String = "{}", in collection: String, sort: String = "{}"
    ) throws -> [String] {
        var documents: [String] = []
        let options = #"{"sort": \#(sort)}"#
        try unsafe client.find(BSONDocument(json: filter), in: collection, options: options) {
            document in
            guard let json = unsafe extendedJSON(document) else {
                throw TestingError("a document of \"\(collection)\" cannot be written as JSON")
            }
            documents.append(json)
        }
        return documents
    }

    package func findBSON(
        _ filter: String = "{}", in collection: String, sort: String = "{}"
    ) throws -> [[UInt8]] {
        var documents: [[UInt8]] = []
        let options = #"{"sort": \#(sort)}"#
        try unsafe client.find(BSONDocument(json: filter), in: collection, options: options) {
            document in
            unsafe documents.append(bytes(of: document))
        }
        return documents
    }

    package func count(_ filter: String = "{}", in collection: String) throws -> Int {
        try client.count(BSONDocument(json: filter), in: collection)
    }

    package func begin() throws { try client.begin() }

    package func commit() throws { try client.commit() }

    package func abort() throws { try client.abort() }

    /// Commits what `body` did with this shell; aborts it, and throws on, when `body` throws.
    package func transaction<Result: Sendable>(
        _ body: @Sendable () async throws -> Result
    ) async throws -> Result {
        try begin()
        let result: Result
        do {
            result = try await body()
        } catch {
            // The server may have ended it by itself.
            try? abort()
            throw error
        }
        try commit()
        return result
    }

    /// Makes the server fail commands until `stopFailing`, or the next `times` of them.
    ///
    /// - Parameter data: as of the server's `failCommand`, such as
    ///   `{"failCommands": ["getMore"], "errorCode": 91}` or, with `"closeConnection": true` or
    ///   `"blockConnection": true, "blockTimeMS": 50`, other ways to fail. `"appName"` picks one
    ///   client.
    package func failCommand(_ data: String, times: Int? = nil) throws {
        let mode = times.map { #"{"times": \#($0)}"# } ?? #""alwaysOn""#
        try run(#"{"configureFailPoint": "failCommand", "mode": \#(mode), "data": \#(data)}"#)
    }

    package func stopFailing() throws {
        try run(#"{"configureFailPoint": "failCommand", "mode": "off"}"#)
    }

    private func number(_ name: String, in reply: String) throws -> Int {
        let members = try JSONDecoder().decode(
            [String: LooseNumber].self, from: Data(reply.utf8))
        return members[name]?.value ?? 0
    }
}

/// A number in canonical Extended JSON, `{"$numberInt": "1"}`; nil for any other value.
private struct LooseNumber: Decodable {
    let value: Int?

    init(from decoder: any Decoder) throws {
        let members = try? [String: String](from: decoder)
        value = members?.values.first.flatMap(Int.init)
    }
}
