import Foundation
import Glibc
import Testing

@testable import WeirTesting

@Suite struct MongoServerTests {
    @Test(arguments: [1, 3])
    func aSetStartsWithOnePrimaryThatAcceptsWritesAndChangeStreams(count: Int) async throws {
        let set = try await MongoReplicaSet.start(nodes: count)
        #expect(set.nodes.count == count)
        #expect(Set(set.nodes.map(\.port)).count == count)
        let primary = try await set.primary()
        for (index, node) in set.nodes.enumerated() {
            let hello = try await node.shell().run(#"{"hello": 1}"#)
            #expect(hello.contains(#""isWritablePrimary" : \#(index == primary)"#))
            #expect(hello.contains(#""setName" : "weir""#))
        }
        let shell = try set.shell()
        try await shell.insert(#"{"_id": 1}"#, into: "shop.orders")
        let stream = try await shell.run(
            #"{"aggregate": "orders", "pipeline": [{"$changeStream": {}}], "cursor": {}}"#,
            database: "shop")
        #expect(stream.contains("postBatchResumeToken"))
    }

    @Test func optionsReachTheServer() async throws {
        let set = try await MongoReplicaSet.start(
            MongoServer.Options(
                oplogMegabytes: 7, syncDelaySeconds: 9,
                parameters: ["maxBSONDepth": "90"], arguments: ["--slowms", "77"]))
        let line = try await set.shell().run(#"{"getCmdLineOpts": 1}"#)
        for expected in [
            #""oplogSizeMB" : { "$numberInt" : "7" }"#, #""syncPeriodSecs" : { "$number"#,
            #""maxBSONDepth" : "90""#, #""slowOpThresholdMs" : { "$numberInt" : "77" }"#,
        ] {
            #expect(line.contains(expected), "\(expected) in \(line)")
        }
    }

    @Test func aServerWithoutASetHasNoChangeStreams() async throws {
        let server = try await MongoServer.start()
        let shell = try server.shell()
        try await shell.insert(#"{"a": 1}"#, into: "shop.orders")
        #expect(try await shell.count(in: "shop.orders") == 1)
        let failure = await #expect(throws: MongoShell.Failure.self) {
            try await shell.run(
                #"{"aggregate": "orders", "pipeline": [{"$changeStream": {}}], "cursor": {}}"#,
                database: "shop")
        }
        #expect(failure?.code == 40573)
    }

    @Test(arguments: [1, 3])
    func aSetWithTLSAndAPasswordTakesNobodyElse(count: Int) async throws {
        let set = try await MongoReplicaSet.start(
            nodes: count, MongoServer.Options(tls: true, password: "p@ss:w/ö\"rd"))
        let shell = try set.shell()
        try await shell.insert(#"{"_id": 1}"#, into: "shop.orders")
        #expect(try await shell.count(in: "shop.orders") == 1)
        let once = ["serverSelectionTryOnce=true"]
        for url in [
            set.url(user: nil, options: once),
            set.url(password: "wrong", options: once),
            // A name that the certificate lacks would be refused too; here, no TLS at all.
            set.url(options: once).replacing("tls=true", with: "tls=false")
                .replacing(/&tlsCAFile=[^&]*/, with: ""),
        ] {
            let stranger = try MongoShell(url)
            await #expect(throws: MongoShell.Failure.self) {
                try await stranger.insert(#"{"_id": 2}"#, into: "shop.orders")
            }
        }
        try await shell.run(
            """
            {"createUser": "reader", "pwd": "r", "roles": [{"role": "read", "db": "shop"}]}
            """)
        let reader = try MongoShell(set.url(database: "shop", user: "reader", password: "r"))
        let found = try await reader.find(in: "shop.orders")
        #expect(found == [#"{ "_id" : { "$numberInt" : "1" } }"#])
        let failure = await #expect(throws: MongoShell.Failure.self) {
            try await reader.insert(#"{"_id": 3}"#, into: "shop.orders")
        }
        #expect(failure?.code == 13)
        #expect(failure?.isFromServer == true)
    }

    @Test func aServerAloneCanDemandALogin() async throws {
        let server = try await MongoServer.start(MongoServer.Options(password: "secret"))
        #expect(try await server.shell().count(in: "shop.orders") == 0)
        let stranger = try MongoShell(server.url(user: nil))
        await #expect(throws: MongoShell.Failure.self) {
            try await stranger.count(in: "shop.orders")
        }
    }

    @Test func afterAStepDownAnotherNodeIsPrimary() async throws {
        let set = try await MongoReplicaSet.start(nodes: 3)
        let shell = try set.shell()
        try await shell.insert(#"{"_id": 1}"#, into: "shop.orders")
        let before = try await set.primary()
        let after = try await set.stepDown()
        #expect(after != before)
        // The same client finds the new primary.
        try await shell.insert(#"{"_id": 2}"#, into: "shop.orders")
        #expect(try await shell.count(in: "shop.orders") == 2)
    }

    @Test func theOnlyNodeOfASetIsElectedAgain() async throws {
        let set = try await MongoReplicaSet.start()
        #expect(try await set.stepDown() == 0)
        try await set.shell().insert(#"{"_id": 1}"#, into: "shop.orders")
    }

    @Test func aKilledOrStoppedNodeComesBackWithItsDataAndPort() async throws {
        let set = try await MongoReplicaSet.start()
        let node = set.nodes[0]
        let port = node.port
        let shell = try set.shell()
        for round in 0..<4 {
            // A write is acknowledged when it is in the journal.
            try await shell.insert(#"{"_id": \#(round)}"#, into: "shop.orders")
            let pid = node.pid
            if round.isMultiple(of: 2) { node.kill() } else { try await node.stop() }
            #expect(!node.isRunning)
            #expect(node.pid == nil)
            try await node.start()
            #expect(node.pid != pid)
            #expect(try await set.primary() == 0)
        }
        #expect(node.port == port)
        #expect(try await shell.count(in: "shop.orders") == 4)
    }

    @Test func aKilledPrimaryIsReplacedAndRejoins() async throws {
        let set = try await MongoReplicaSet.start(nodes: 3)
        let shell = try set.shell()
        let first = try await set.primary()
        set.nodes[first].kill()
        let second = try await set.primary()
        #expect(second != first)
        try await shell.insert(#"{"_id": 1}"#, into: "shop.orders")
        try await set.nodes[first].start()
        try await set.settle()
        for node in set.nodes { #expect(node.isRunning) }
    }

    @Test func aSuspendedPrimaryIsReplaced() async throws {
        let set = try await MongoReplicaSet.start(nodes: 3)
        let first = try await set.primary()
        set.nodes[first].suspend()
        #expect(set.nodes[first].isSuspended)
        #expect(set.nodes[first].isRunning)
        let second = try await set.primary()
        #expect(second != first)
        set.nodes[first].resume()
        // It may still think it is primary: the one elected last is meant.
        #expect(try await set.primary() == second)
    }

    @Test func aWrongOptionFailsWithTheServersLog() async throws {
        let error = await #expect(throws: TestingError.self) {
            _ = try await MongoServer.start(MongoServer.Options(parameters: ["noSuchThing": "1"]))
        }
        #expect(error?.description.contains("noSuchThing") == true)
    }

    @Test func nothingIsLeftBehind() async throws {
        var set: MongoReplicaSet? = try await MongoReplicaSet.start()
        let directory = try #require(set?.nodes[0].directory)
        let pid = try #require(set?.nodes[0].pid)
        #expect(isAlive(pid))
        set = nil
        #expect(!isAlive(pid))
        #expect(!FileManager.default.fileExists(atPath: directory))
    }
}
