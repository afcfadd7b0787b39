import Foundation

/// A private replica set of `mongod` servers on free ports of 127.0.0.1. They are killed, and their
/// folders go, with the last reference or the test process.
package final class MongoReplicaSet: Sendable {
    package static let name = "weir"

    /// They may be stopped, killed and suspended one by one.
    package let nodes: [MongoServer]

    private static let electionLimit: Duration = .seconds(30)

    /// Starts `count` nodes and waits until the primary accepts majority writes and the others
    /// follow it.
    ///
    /// - Parameter electionTimeout: how long a member waits for the others before it acts on their
    ///   absence. A server's own 10 s are long for a test; shorter than 2 s, and a busy machine has
    ///   elections of its own.
    package static func start(
        nodes count: Int = 1, electionTimeout: Duration = .seconds(2),
        _ options: MongoServer.Options = MongoServer.Options()
    ) async throws -> MongoReplicaSet {
        let access = try MongoAccess(options)
        let nodes = try (0..<count).map { _ in
            try MongoServer(options, access: access, replicaSet: name)
        }
        try await withThrowingTaskGroup { group in
            for node in nodes {
                group.addTask { try await node.launch(mayChangePort: true) }
            }
            try await group.waitForAll()
        }
        let set = MongoReplicaSet(nodes)
        try await set.initiate(electionTimeout)
        return set
    }

    private init(_ nodes: [MongoServer]) { self.nodes = nodes }

    /// Leads to the set; the parameters are those of `MongoServer.url`.
    package func url(
        database: String = "",
        user: String? = "root",
        password: String? = nil,
        options: [String] = []
    ) -> String {
        nodes[0].access.url(
            nodes.map(\.address), database: database, user: user, password: password,
            options: ["replicaSet=\(Self.name)"] + options)
    }

    /// Of TLS: the certificate of all nodes, which is its own authority.
    package var certificateFile: String { nodes[0].certificateFile }

    /// A client of the set, logged in as `root` where that is needed.
    package func shell() throws -> MongoShell { try MongoShell(url()) }

    /// Waits for a primary that accepts majority writes and returns its index among the nodes.
    package func primary(within limit: Duration = electionLimit) async throws -> Int {
        var found = 0
        try await eventually(within: limit, "a primary accepts majority writes") {
            guard let index = try await claimant(),
                (try? await write(to: #""majority""#, through: nodes[index])) != nil
            else { return false }
            found = index
            return true
        }
        return found
    }

    /// Waits until every node is primary or secondary, and has what the primary has.
    package func settle(within limit: Duration = electionLimit) async throws {
        try await eventually(within: limit, "every node follows the primary") {
            guard let index = try await claimant(),
                let text = try? await MongoShell(probeURL(nodes[index], user: "root"))
                    .run(#"{"replSetGetStatus": 1}"#)
            else { return false }
            let status = try JSONDecoder().decode(Status.self, from: Data(text.utf8))
            guard status.members.allSatisfy({ ["PRIMARY", "SECONDARY"].contains($0.stateStr) })
            else { return false }
            return (try? await write(to: "\(nodes.count)", through: nodes[index])) != nil
        }
    }

    /// Makes the primary step down, waits for the next one, and returns its index: another node's,
    /// unless there is only one. The node that was primary may be elected again later.
    @discardableResult
    package func stepDown() async throws -> Int {
        let old = try await nodes[primary()].shell()
        let isAlone = nodes.count == 1
        try await old.run(
            """
            {"replSetStepDown": 60, "force": \(isAlone),
            "secondaryCatchUpPeriodSecs": \(isAlone ? 0 : 10)}
            """)
        let next = isAlone ? nil : try await primary()
        // Ends the 60 s.
        try await old.run(#"{"replSetFreeze": 0}"#)
        if let next { return next }
        return try await primary()
    }

    private func initiate(_ electionTimeout: Duration) async throws {
        let members = nodes.enumerated().map { #"{"_id": \#($0), "host": "\#($1.address)"}"# }
        let configuration = """
            {"_id": "\(Self.name)", "members": [\(members.joined(separator: ","))],
            "settings": {"electionTimeoutMillis": \(electionTimeout.components.seconds * 1000),
            "heartbeatIntervalMillis": 500}}
            """
        try await MongoShell(nodes[0].url(user: nil))
            .run(#"{"replSetInitiate": \#(configuration)}"#)
        do {
            // No other node has a copy of the data to stand for an election with.
            try await eventually(within: Self.electionLimit, "the first node is primary") {
                // Sooner than by itself, as soon as the others can vote. Without a user nobody may
                // ask for it.
                _ = try? await MongoShell(probeURL(nodes[0], user: nil))
                    .run(#"{"replSetStepUp": 1}"#)
                return try await claimant() == 0
            }
            try await nodes[0].createRoot()
            try await settle()
        } catch {
            throw TestingError("the replica set did not start: \(error)\n\(nodes[0].logTail())")
        }
    }

    /// The node that says it is primary; of several, the one elected last, as a node that was cut
    /// off may not know better.
    private func claimant() async throws -> Int? {
        var best: (index: Int, election: String)?
        for (index, node) in nodes.enumerated() where node.isRunning && !node.isSuspended {
            guard
                let text = try? await MongoShell(probeURL(node, user: nil)).run(#"{"hello": 1}"#)
            else { continue }
            let hello = try JSONDecoder().decode(Hello.self, from: Data(text.utf8))
            let election = hello.electionId?.hex ?? ""
            if hello.isWritablePrimary, best.map({ $0.election < election }) ?? true {
                best = (index, election)
            }
        }
        return best?.index
    }

    /// A write that no change stream shows.
    private func write(to nodes: String, through node: MongoServer) async throws {
        try await MongoShell(probeURL(node, user: "root")).run(
            """
            {"appendOplogNote": 1, "data": {},
            "writeConcern": {"w": \(nodes), "wtimeout": 1000}}
            """)
    }

    /// For a question that is asked again when there is no answer.
    private func probeURL(_ node: MongoServer, user: String?) -> String {
        node.url(
            user: user,
            options: [
                "serverSelectionTryOnce=true", "connectTimeoutMS=2000", "socketTimeoutMS=2000",
            ])
    }
}

/// What a node says of itself.
private struct Hello: Decodable {
    struct ObjectID: Decodable {
        enum CodingKeys: String, CodingKey { case hex = "$oid" }
        let hex: String
    }

    let isWritablePrimary: Bool
    /// Grows with each election.
    let electionId: ObjectID?
}

private struct Status: Decodable {
    struct Member: Decodable { let stateStr: String }
    let members: [Member]
}
