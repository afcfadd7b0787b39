import Testing
import WeirCore
import WeirTesting

@testable import WeirMongoDBSource

extension MongoSourceTests {
    /// Which servers are read, and what becomes of a stream when they change.
    @Suite struct Topologies {
        @Test("CORRECTNESS 63: a server that is no member of a replica set is refused")
        func standalone() async throws {
            let server = try await MongoServer.start()
            let source = try SourceHarness(url: server.url(), pipeline: "p", config: [:])
            let error = try await #require(throws: WeirError.self) { try await source.open() }
            #expect(error.code.name == "mongodb.not_replica_set")
            #expect(error.disposition == .blocked)
            #expect(error.hint?.contains("--replSet") == true)
            #expect(error.message.contains(server.address))
        }

        @Test(
            "CORRECTNESS 63: secondaries, a step-down and a killed primary: no event lost or twice")
        func threeNodes() async throws {
            let set = try await MongoReplicaSet.start(nodes: 3)
            let database = try await TestDatabase(on: set)
            let source = try await SourceHarness.open(database)
            let secondary = try SourceHarness(
                url: set.url(options: ["readPreference=secondary"]),
                pipeline: "\(database.pipeline)_secondary",
                config: ["database": .string(database.name)])
            try await secondary.open()
            let first = try await set.primary()
            #expect(try await cursors(set.nodes[first], "\(database.pipeline)") == 1)
            #expect(try await cursors(set.nodes[first], secondary.pipeline) == 0)

            try await database.insert(#"{"_id": 1}"#)
            try await database.update(#"{"_id": 1}"#, #"{"$set": {"a": 1}}"#)
            let texts = [
                #"insert t {"_id":1} + {"_id":1}"#, #"update t {"_id":1} + {"_id":1,"a":1}, late"#,
            ]
            #expect(try await source.read(2).texts == texts)
            #expect(try await secondary.read(2).texts == texts)

            let second = try await set.stepDown()
            try await database.insert(#"{"_id": 2}"#)
            #expect(try await source.survive(1).changes.ids == ["2"])
            #expect(try await secondary.survive(1).changes.ids == ["2"])

            set.nodes[second].kill()
            _ = try await set.primary()
            try await database.insert(#"{"_id": 3}"#)
            try await database.update(#"{"_id": 3}"#, #"{"$set": {"a": 1}}"#)
            for source in [source, secondary] {
                let (changes, errors) = try await source.survive(2)
                #expect(
                    changes.texts == [
                        #"insert t {"_id":3} + {"_id":3}"#,
                        #"update t {"_id":3} + {"_id":3,"a":1}, late"#,
                    ])
                #expect(errors.allSatisfy { $0.disposition == .transient })
            }
            try await set.nodes[second].start()
            try await set.settle()
            try await database.insert(#"{"_id": 4}"#)
            #expect(try await source.survive(1).changes.ids == ["4"])
            #expect(try await secondary.survive(1).changes.ids == ["4"])
        }

        /// As one of 4.2.0.
        @Test("CORRECTNESS 63: a server that does not know hello is asked by its former name")
        func formerHello() async throws {
            let database = try await TestDatabase()
            try await database.fail("hello", #""errorCode": 59"#, times: 1)
            let source = try await SourceHarness.open(database)
            #expect(try await database.stopFailing() > 0)
            #expect(source.start?.server.contains("replica set") == true)
        }

        @Test("CORRECTNESS 58: a server that was upgraded in part is read without images")
        func upgradedInPart() async throws {
            let set = try await MongoReplicaSet.start()
            _ = try await set.shell().run(#"{"setFeatureCompatibilityVersion": "5.0"}"#)
            let database = try await TestDatabase(on: set)
            let source = try await SourceHarness.open(database)
            let warning = try #require(source.warnings.first)
            #expect(warning.contains("whose feature compatibility version is below 6.0"))
            try await database.insert(#"{"_id": 1}"#)
            try await database.update(#"{"_id": 1}"#, #"{"$set": {"a": 1}}"#)
            #expect(
                try await source.drain().texts == [
                    #"insert t {"_id":1} + {"_id":1}"#,
                    #"update t {"_id":1} + {"_id":1,"a":1}, late"#,
                ])
        }

        @Test("CORRECTNESS 67: a server's own time counts, unless it stands still")
        func whatAServerReaches() {
            func reached(_ own: UInt64?, _ deployment: UInt64?) -> UInt64? {
                ServerTimes(own: own, deployment: deployment).reached
            }
            #expect(reached(100 << 32 | 5, 100 << 32 | 9) == 100 << 32 | 5)
            #expect(reached(100 << 32 | 5, 115 << 32 | 1) == 100 << 32 | 5)
            #expect(reached(100 << 32 | 5, 116 << 32 | 1) == 116 << 32 | 1)
            #expect(reached(100 << 32 | 5, nil) == 100 << 32 | 5)
            #expect(reached(.max, 1) == .max)
            #expect(reached(nil, 100 << 32) == nil)
        }

        @Test("CORRECTNESS 67: a secondary that gets nothing any more is behind, and seen to be")
        func staleSecondary() async throws {
            let set = try await MongoReplicaSet.start(nodes: 3)
            let database = try await TestDatabase(on: set)
            let node = set.nodes[(try await set.primary() + 1) % 3]
            let url = node.url(options: ["directConnection=true", "readPreference=secondary"])
            let stale = try SourceHarness(
                url: url, pipeline: "\(database.pipeline)_stale",
                config: ["database": .string(database.name)])
            try await stale.open()
            let shell = try MongoShell(url)
            _ = try await shell.run(
                #"{"configureFailPoint": "stopReplProducer", "mode": "alwaysOn"}"#)
            let source = try await SourceHarness.open(database)
            try await database.insert(#"{"_id": 1}"#)
            let change = try #require(try await source.read(1).first)
            // The other members tell it how far they are, and it takes nothing from them. The
            // primary goes on by itself.
            try await eventually(within: .seconds(60), "it knows of the change") {
                try await stale.mark() > change.position
            }
            #expect(try await stale.readBatch().events.isEmpty)
            _ = try await shell.run(#"{"configureFailPoint": "stopReplProducer", "mode": "off"}"#)
            #expect(try await stale.drain().ids == ["1"])
        }

        /// The old primary takes writes that nobody else has, and dies.
        @Test("CORRECTNESS 63: what a majority does not have is never delivered, and may be undone")
        func rollback() async throws {
            // Time enough for the last writes of a primary that is alone.
            let set = try await MongoReplicaSet.start(nodes: 3, electionTimeout: .seconds(8))
            let database = try await TestDatabase(on: set)
            let source = try await SourceHarness.open(database)
            try await database.insert(#"{"_id": 1}"#)
            #expect(try await source.read(1).ids == ["1"])
            try await set.settle()

            let first = try await set.primary()
            let others = set.nodes.indices.filter { $0 != first }
            for index in others { set.nodes[index].kill() }
            let alone = try MongoShell(set.nodes[first].url(options: ["w=1"]))
            try await alone.insert(#"{"_id": "lost 1"}"#, into: database.path("t"))
            try await alone.update(
                #"{"_id": 1}"#, #"{"$set": {"lost": 1}}"#, in: database.path("t"))
            #expect(try await alone.count(in: database.path("t")) == 2)
            // They are there, and a stream does not show them.
            for _ in 0..<3 {
                do {
                    let changes = try await source.read(within: .milliseconds(200))
                    #expect(changes.isEmpty)
                } catch let error as WeirError {
                    // Alone it is primary for two seconds and no longer.
                    #expect(error.disposition == .transient)
                }
            }
            set.nodes[first].kill()
            for index in others { try await set.nodes[index].start() }
            _ = try await set.primary()
            try await database.insert(#"{"_id": 2}"#)
            try await database.update(#"{"_id": 1}"#, #"{"$set": {"a": 1}}"#)
            let changes = try await source.survive(2).changes
            #expect(
                changes.texts == [
                    #"insert t {"_id":2} + {"_id":2}"#,
                    #"update t {"_id":1} + {"_id":1,"a":1}, late"#,
                ])
            try await set.nodes[first].start()
            try await set.settle()
            #expect(
                try await database.shell.count(#"{"_id": "lost 1"}"#, in: database.path("t")) == 0)
            try await database.insert(#"{"_id": 3}"#)
            #expect(try await source.survive(1).changes.ids == ["3"])
        }

        private func cursors(_ node: MongoServer, _ pipeline: String) async throws -> Int {
            let reply = try await node.shell().run(
                """
                {"aggregate": 1, "cursor": {}, "pipeline": [
                {"$currentOp": {"idleCursors": true, "allUsers": true}},
                {"$match": {"cursor.originatingCommand.comment": "weir \(pipeline)"}}]}
                """)
            return reply.matches(of: /"cursorId"/).count
        }
    }
}
