import Synchronization
import WeirTesting

/// A database of its own for one test, on a replica set that tests share.
final class TestDatabase: Sendable {
    let set: MongoReplicaSet
    let name: String
    /// One thing at a time: a test that wants two sessions makes a second.
    let shell: MongoShell

    private static let shared = Mutex<Task<MongoReplicaSet, any Error>?>(nil)
    private static let count = Atomic<Int>(0)

    /// One node, which is all that change streams need.
    private static func sharedSet() async throws -> MongoReplicaSet {
        let task = shared.withLock { shared in
            let task = shared ?? Task { try await MongoReplicaSet.start() }
            shared = task
            return task
        }
        return try await task.value
    }

    /// - Parameter set: for tests that stop or configure it; the shared one otherwise.
    init(on set: MongoReplicaSet? = nil) async throws {
        if let set {
            self.set = set
        } else {
            self.set = try await Self.sharedSet()
        }
        shell = try self.set.shell()
        name = "t\(Self.count.add(1, ordering: .relaxed).newValue)"
    }

    /// What a test names its pipeline.
    var pipeline: String { name }

    /// As commands of the shell name a collection of this database.
    func path(_ collection: String) -> String { "\(name).\(collection)" }

    // MARK: Writing

    func insert(_ documents: String..., into collection: String = "t") async throws {
        try await shell.insert(documents, into: path(collection))
    }

    func update(
        _ filter: String, _ change: String, in collection: String = "t",
        _ kind: MongoShell.Update = .one
    ) async throws {
        let count = try await shell.update(filter, change, in: path(collection), kind)
        guard count > 0 else { throw TestingError("nothing to update: \(filter)") }
    }

    func delete(_ filter: String, from collection: String = "t") async throws {
        let count = try await shell.delete(filter, from: path(collection))
        guard count > 0 else { throw TestingError("nothing to delete: \(filter)") }
    }

    /// A command on this database.
    @discardableResult
    func run(_ command: String) async throws -> String {
        try await shell.run(command, database: name)
    }

    /// Makes a collection that keeps images.
    func createWithImages(_ collection: String = "t") async throws {
        try await run(
            #"{"create": "\#(collection)", "changeStreamPreAndPostImages": {"enabled": true}}"#)
    }

    func rename(_ old: String, to new: String, dropTarget: Bool = false) async throws {
        try await shell.run(
            """
            {"renameCollection": "\(path(old))", "to": "\(path(new))", "dropTarget": \(dropTarget)}
            """)
    }

    // MARK: Faults

    /// Makes commands of this test's source fail, `times` times or until `stopFailing`.
    ///
    /// - Parameter fault: members of the server's `failCommand`.
    func fail(_ command: String, _ fault: String, times: Int? = nil) async throws {
        try await shell.failCommand(
            #"{"failCommands": ["\#(command)"], "appName": "weir \#(pipeline)", \#(fault)}"#,
            times: times)
    }

    /// Returns how many commands were made to fail since the server started.
    @discardableResult
    func stopFailing() async throws -> Int {
        let reply = try await shell.run(
            #"{"configureFailPoint": "failCommand", "mode": "off"}"#)
        guard let found = reply.firstMatch(of: /"count" : \{ "\$number\w+" : "(\d+)"/),
            let count = Int(found.1)
        else { throw TestingError("no count: \(reply)") }
        return count
    }

    /// How often the server was asked to run the command, by anyone.
    func count(of command: String) async throws -> Int {
        let reply = try await shell.run(#"{"serverStatus": 1}"#)
        let start = #""\#(command)" : { "failed" : { "$numberLong" : ""#
        guard let found = reply.firstRange(of: start),
            let total = reply[found.upperBound...]
                .firstMatch(of: /"total" : { "\$numberLong" : "(\d+)"/),
            let count = Int(total.1)
        else { throw TestingError("no figure of \(command)") }
        return count
    }

    /// The cursors of this test's source at the primary, by their numbers.
    func cursors() async throws -> [String] {
        let reply = try await shell.run(
            """
            {"aggregate": 1, "cursor": {}, "pipeline": [
            {"$currentOp": {"idleCursors": true, "allUsers": true}},
            {"$match": {"cursor.originatingCommand.comment": "weir \(pipeline)"}},
            {"$project": {"cursor.cursorId": 1}}]}
            """)
        return reply.matches(of: /"cursorId" : \{ "\$numberLong" : "(\d+)"/).map { String($0.1) }
    }
}
