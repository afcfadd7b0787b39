import Testing
import WeirCore
import WeirTesting

extension MongoSourceTests {
    /// What breaks a stream off, and what mends it.
    @Suite struct Resumes {
        private static let labelled =
            #""errorCode": 8, "errorLabels": ["ResumableChangeStreamError"]"#

        @Test(
            "CORRECTNESS 54: what may be mended is resumed once at once, no event lost or twice",
            arguments: [
                #""errorCode": 43"#, #""errorCode": 189"#, #""errorCode": 11600"#, labelled,
                #""closeConnection": true"#,
            ])
        func resumed(fault: String) async throws {
            let database = try await TestDatabase()
            let source = try await SourceHarness.open(database)
            try await database.insert(#"{"_id": 1}"#)
            #expect(try await source.drain().ids == ["1"])
            try await database.fail("getMore", fault, times: 1)
            try await database.insert(#"{"_id": 2}"#, #"{"_id": 3}"#)
            #expect(try await source.read(2).ids == ["2", "3"])
            #expect(source.log.all.contains { $0.contains("broke off and is resumed") })
            #expect(source.log.all.count == 1)
            #expect(try await source.drain().isEmpty)
        }

        @Test(
            "CORRECTNESS 54: a second failure is the engine's, which opens again until it works",
            arguments: [#""errorCode": 43"#, labelled, #""closeConnection": true"#])
        func resumedAgainAndAgain(fault: String) async throws {
            let database = try await TestDatabase()
            let source = try await SourceHarness.open(database)
            try await database.insert(#"{"_id": 1}"#)
            #expect(try await source.drain().ids == ["1"])
            try await database.fail("getMore", fault, times: 5)
            try await database.insert(#"{"_id": 2}"#, #"{"_id": 3}"#)
            let (changes, errors) = try await source.survive(2)
            #expect(changes.ids == ["2", "3"])
            // A read and its resumption, then three times to open.
            #expect(errors.count == 4)
            #expect(try await source.drain().isEmpty)
        }

        @Test(
            "CORRECTNESS 54: a failure that stays asks the server a few times per attempt",
            arguments: [
                (#""errorCode": 43"#, 2, 1), (#""errorCode": 286"#, 1, 0),
                (#""errorCode": 10334"#, 3, 2),
            ])
        func noTightLoop(fault: String, asked: Int, opened: Int) async throws {
            let database = try await TestDatabase()
            let source = try await SourceHarness.open(database)
            let failed = try await database.stopFailing()
            let aggregates = try await database.count(of: "aggregate")
            try await database.fail("getMore", fault)
            await #expect(throws: WeirError.self) { try await source.readBatch() }
            #expect(try await database.stopFailing() - failed == asked)
            #expect(try await database.count(of: "aggregate") - aggregates == opened)
        }

        @Test(
            "CORRECTNESS 54: what opening again does not mend is said at once",
            arguments: [
                (286, "history_lost", .positionLost), (136, "history_lost", .positionLost),
                (280, "token_unfit", .positionLost), (260, "token_unfit", .positionLost),
                (13, "permission", .blocked), (10334, "event_too_large", .blocked),
            ] as [(Int, String, Disposition)])
        func notResumed(code: Int, name: String, disposition: Disposition) async throws {
            let database = try await TestDatabase()
            let source = try await SourceHarness.open(database)
            // What is too large is asked for with documents, alone, and without documents.
            let times = code == 10334 ? 3 : 1
            try await database.fail("getMore", #""errorCode": \#(code)"#, times: times)
            let error = try await #require(throws: WeirError.self) { try await source.readBatch() }
            #expect(error.code.name == "mongodb.\(name)")
            #expect(error.disposition == disposition)
            #expect(error.detail == "The server's code is \(code).")
            // The same where a source finds it at its start.
            try await database.fail("getMore", #""errorCode": \#(code)"#, times: times)
            let opening = try await #require(throws: WeirError.self) { try await source.open() }
            #expect(opening.code.name == "mongodb.\(name)")
            #expect(opening.disposition == disposition)
            try await source.open()
            try await database.insert(#"{"_id": 1}"#)
            #expect(try await source.drain().ids == ["1"])
        }

        @Test(
            "CORRECTNESS 54: an error that the server calls final is not resumed, whatever its code"
        )
        func calledFinal() async throws {
            let database = try await TestDatabase()
            let source = try await SourceHarness.open(database)
            try await database.fail(
                "getMore",
                #""errorCode": 189, "errorLabels": ["NonResumableChangeStreamError"]"#, times: 1)
            let error = try await #require(throws: WeirError.self) { try await source.readBatch() }
            #expect(error.disposition == .positionLost)
        }

        @Test("CORRECTNESS 54: an error while opening is never resumed")
        func opening() async throws {
            let database = try await TestDatabase()
            let source = try await SourceHarness.open(database)
            try await database.fail("aggregate", #""errorCode": 189"#, times: 1)
            let error = try await #require(throws: WeirError.self) { try await source.open() }
            #expect(error.disposition == .transient)
            try await source.open()
        }

        @Test("CORRECTNESS 54: a cursor that is killed is a cursor to open again")
        func killedCursor() async throws {
            let database = try await TestDatabase()
            let source = try await SourceHarness.open(database)
            try await database.insert(#"{"_id": 1}"#)
            #expect(try await source.drain().ids == ["1"])
            let cursor = try #require(try await database.cursors().first)
            try await database.run(
                """
                {"killCursors": "$cmd.aggregate", "cursors": [{"$numberLong": "\(cursor)"}]}
                """)
            try await database.insert(#"{"_id": 2}"#)
            #expect(try await source.read(1).ids == ["2"])
            #expect(try await database.cursors() != [cursor])
            #expect(try await database.cursors().count == 1)
        }

        /// As one that has to read far in its oplog for the next event that is asked for.
        @Test("CORRECTNESS 54: a server that takes long to answer is given more time each time")
        func lateAnswers() async throws {
            let database = try await TestDatabase()
            let source = try await SourceHarness.open(
                database, url: database.set.url(options: ["socketTimeoutMS=2000"]))
            try await database.insert(#"{"_id": 1}"#)
            try await database.fail("getMore", #""blockConnection": true, "blockTimeMS": 4000"#)
            let (changes, errors) = try await source.survive(1)
            try await database.stopFailing()
            #expect(changes.ids == ["1"])
            #expect(errors.map(\.code.name) == ["mongodb.answer_timeout"])
            #expect(errors.first?.message.contains("read the change stream") == true)
        }

        @Test("CORRECTNESS 54: behind a late answer all is as before: many events in one, a minute")
        func afterALateAnswer() async throws {
            let database = try await TestDatabase()
            let notes = MemoryNotes()
            let url = database.set.url(options: ["socketTimeoutMS=2000"])
            var source = try SourceHarness(database, url: url, notes: notes)
            try await source.open()
            try await database.fail(
                "getMore", #""blockConnection": true, "blockTimeMS": 3000"#, times: 1)
            let late = try await #require(throws: WeirError.self) { try await source.readBatch() }
            #expect(late.code.name == "mongodb.answer_timeout")
            try await database.shell.insert(count: 2000, into: database.path("t")) {
                #"{"_id": \#($0)}"#
            }
            // As after a restart: what was learnt is not learnt again.
            let stored = source.stored
            source = try SourceHarness(database, url: url, notes: notes)
            try await database.fail(
                "getMore", #""blockConnection": true, "blockTimeMS": 3000"#, times: 1)
            try await source.open(atStored: stored)
            let asked = try await database.count(of: "getMore")
            #expect(try await source.drain().count == 2000)
            #expect(try await database.count(of: "getMore") - asked < 40)
            // At the end of the oplog a server that does not answer is one that hangs.
            #expect(try await source.readBatch(within: .milliseconds(1)).events.isEmpty)
            try await database.fail(
                "getMore", #""blockConnection": true, "blockTimeMS": 3000"#, times: 1)
            let hung = try await #require(throws: WeirError.self) {
                for _ in 1...3 { try await source.readBatch() }
            }
            #expect(hung.code.name == "mongodb.answer_timeout")
        }

        @Test(
            "CORRECTNESS 58: a look-up that fails costs the batch, never an event",
            arguments: [#""closeConnection": true"#, #""errorCode": 189"#])
        func failingLookUp(fault: String) async throws {
            let database = try await TestDatabase()
            try await database.insert(#"{"_id": 1}"#)
            let source = try await SourceHarness.open(database)
            try await database.fail("find", fault, times: 2)
            try await database.update(#"{"_id": 1}"#, #"{"$set": {"a": 1}}"#)
            try await database.insert(#"{"_id": 2}"#)
            let (changes, errors) = try await source.survive(2)
            #expect(errors.count == 2)
            // None is left behind where the server could be told.
            if fault.contains("errorCode") {
                #expect(try await database.cursors().count == 1)
            }
            #expect(
                changes.texts == [
                    #"update t {"_id":1} + {"_id":1,"a":1}, late"#,
                    #"insert t {"_id":2} + {"_id":2}"#,
                ])
        }

        @Test("CORRECTNESS 54: a primary that steps down and is elected again")
        func stepDownOfTheOnlyNode() async throws {
            let set = try await MongoReplicaSet.start()
            let database = try await TestDatabase(on: set)
            let source = try await SourceHarness.open(database)
            try await database.insert(#"{"_id": 1}"#)
            #expect(try await source.read(1).ids == ["1"])
            try await set.stepDown()
            try await database.insert(#"{"_id": 2}"#)
            #expect(try await source.survive(1).changes.ids == ["2"])
            // And one that crashes.
            set.nodes[0].kill()
            let error = try await #require(throws: WeirError.self) { try await source.readBatch() }
            #expect(error.code.name == "mongodb.connection_failed")
            #expect(error.disposition == .transient)
            let refused = try await #require(throws: WeirError.self) { try await source.open() }
            #expect(refused.code.name == "mongodb.connection_failed")
            #expect(refused.disposition == .transient)
            #expect(refused.message.contains(set.nodes[0].address))
            try await set.nodes[0].start()
            _ = try await set.primary()
            try await database.insert(#"{"_id": 3}"#)
            #expect(try await source.survive(1).changes.ids == ["3"])
        }
    }
}
