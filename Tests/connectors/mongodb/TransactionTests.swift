import Synchronization
import Testing
import WeirCore
import WeirTesting

extension MongoSourceTests {
    /// What was committed together is handed on together.
    @Suite struct Transactions {
        /// A database with the collection `t`: one that does not exist yet costs a transaction its
        /// first try.
        private func start() async throws -> TestDatabase {
            let database = try await TestDatabase()
            try await database.run(#"{"create": "t"}"#)
            return database
        }

        /// One transaction that inserts these.
        private func insert(
            _ ids: ClosedRange<Int>, _ database: TestDatabase, _ shell: MongoShell? = nil,
            text: String = ""
        ) async throws {
            let shell = shell ?? database.shell
            let path = database.path("t")
            try await shell.transaction {
                for id in ids {
                    try await shell.insert(#"{"_id": \#(id), "v": "\#(text)"}"#, into: path)
                }
            }
        }

        @Test(
            "CORRECTNESS 60: a transaction is handed on whole, with one place to resume behind it")
        func whole() async throws {
            let database = try await start()
            let source = try await SourceHarness.open(database)
            try await database.insert(#"{"_id": 0}"#)
            try await insert(1...10, database)
            try await database.insert(#"{"_id": 11}"#)
            // Four events are a full batch.
            var batches: [[Change]] = []
            _ = try await source.read(until: "all", events: 4) { source, changes in
                batches.append(Array(changes.suffix(source.batch.events.count)))
                return changes.count == 12
            }
            let transactions = batches.filter { $0.contains { $0.transaction != nil } }
            let all = try #require(transactions.first)
            #expect(transactions.count == 1)
            #expect(Array(all.ids.suffix(10)) == (1...10).map { "\($0)" })
            let inside = all.suffix(10)
            #expect(Set(inside.map(\.transaction)).count == 1)
            #expect(inside.first?.transaction?.wholeMatch(of: /[0-9a-f]{32}:\d+/) != nil)
            #expect(Set(inside.map(\.clusterTime)).count == 1)
            #expect(batches.joined().filter { $0.transaction == nil }.map(\.key).count == 2)
        }

        @Test("CORRECTNESS 60: what is rolled back was never there")
        func aborted() async throws {
            let database = try await start()
            let source = try await SourceHarness.open(database)
            try await database.shell.begin()
            try await database.insert(#"{"_id": 1}"#)
            try await database.shell.abort()
            try await database.insert(#"{"_id": 2}"#)
            #expect(try await source.drain().ids == ["2"])
        }

        @Test("CORRECTNESS 60: every batch of consecutive transactions has a place to resume")
        func consecutive() async throws {
            let database = try await start()
            let source = try await SourceHarness.open(database)
            for start in stride(from: 0, to: 150, by: 3) {
                try await insert(start...(start + 2), database)
            }
            var resumes: [Position] = []
            let changes = try await source.read(until: "all", events: 4) { source, changes in
                if !source.batch.events.isEmpty {
                    resumes.append(try #require(source.batch.resume))
                    #expect(source.batch.events.count.isMultiple(of: 3))
                }
                return changes.count == 150
            }
            #expect(changes.ids == (0..<150).map { "\($0)" })
            #expect(resumes.count >= 25)
            #expect(resumes == resumes.sorted())
            #expect(Set(resumes).count == resumes.count)
            // Behind any of them nothing is lost and nothing comes twice.
            for resume in [resumes[0], resumes[resumes.count / 2]] {
                try await source.open(at: resume)
                let rest = try await source.drain()
                #expect(rest.ids == (150 - rest.count..<150).map { "\($0)" })
                #expect(rest.count.isMultiple(of: 3))
            }
        }

        @Test("CORRECTNESS 60: transactions of two sessions come one after the other")
        func twoSessions() async throws {
            let database = try await start()
            let other = try database.set.shell()
            let source = try await SourceHarness.open(database)
            let path = database.path("t")
            for round in 0..<5 {
                try await database.shell.begin()
                try await other.begin()
                for id in 0..<4 {
                    try await database.shell.insert(#"{"_id": "a\#(round)\#(id)"}"#, into: path)
                    try await other.insert(#"{"_id": "b\#(round)\#(id)"}"#, into: path)
                }
                try await other.commit()
                try await database.shell.commit()
            }
            let changes = try await source.drain(events: 3)
            #expect(
                changes.ids
                    == (0..<5).flatMap { round in
                        ["b", "a"].flatMap { name in
                            (0..<4).map { #""\#(name)\#(round)\#($0)""# }
                        }
                    })
            #expect(Set(changes.map(\.transaction)).count == 10)
        }

        @Test(
            "CORRECTNESS 60: a transaction far larger than a batch is handed on in parts, in order")
        func large() async throws {
            let database = try await start()
            let source = try await SourceHarness.open(database)
            let begin = try #require(source.resume ?? source.start?.position)
            // More than one entry of the oplog holds.
            try await insert(1...21, database, text: String(repeating: "x", count: 1_000_000))
            try await database.insert(#"{"_id": 22}"#)
            var parts: [Int] = []
            var changes: [Change] = []
            while changes.count < 22 {
                changes += try await source.read()
                guard !source.batch.events.isEmpty else { continue }
                parts.append(source.batch.events.count)
                // Inside there is no place to resume, and a reconnect goes on all the same.
                #expect((source.batch.resume == nil) == (changes.count < 21), "\(changes.count)")
                if parts.count == 1 {
                    #expect(changes.count < 21)
                    try await database.fail("getMore", #""closeConnection": true"#, times: 1)
                } else if parts.count == 2 {
                    try await source.open()
                }
            }
            #expect(parts.count >= 3)
            #expect(changes.ids == (1...22).map { "\($0)" })
            #expect(Set(changes.prefix(21).map(\.transaction)).count == 1)
            #expect(changes.last?.transaction == nil)
            // A restart goes back before it.
            try await source.open(at: begin)
            #expect(try await source.read(22).ids == (1...22).map { "\($0)" })
        }

        @Test(
            "CORRECTNESS 60: a transaction's updates are looked up, its deletes are in their place")
        func everyKind() async throws {
            let database = try await start()
            try await database.insert(#"{"_id": 1}"#, #"{"_id": 2}"#)
            let source = try await SourceHarness.open(database)
            try await database.shell.transaction {
                try await database.update(#"{"_id": 1}"#, #"{"$set": {"a": 1}}"#)
                try await database.update(#"{"_id": 2}"#, #"{"$set": {"a": 1}}"#)
                try await database.insert(#"{"_id": 3}"#)
                try await database.insert(#"{"_id": 3}"#, into: "not_followed")
                try await database.delete(#"{"_id": 2}"#)
                try await database.update(#"{"_id": 3}"#, #"{"b": 1}"#, .replacement)
            }
            #expect(
                try await source.drain(events: 1).texts == [
                    #"update t {"_id":1} + {"_id":1,"a":1}, late"#, #"update t {"_id":2}, gone"#,
                    #"insert t {"_id":3} + {"_id":3}"#, #"delete t {"_id":2}"#,
                    #"update t {"_id":3} + {"_id":3,"b":1}"#,
                ])
        }
    }
}
